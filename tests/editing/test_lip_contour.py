"""The line between closed lips and the edges of an open mouth are found in colours along nine lines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mien.editing.lip_contour import _ROWS, interior, seam


def lips() -> NDArray[np.float32]:
    """Closed lips as CIELAB [9, rows, 3]: of one red throughout."""
    return np.tile(np.float32([50, 30, 15]), (9, _ROWS, 1))


def test_closed_lips_have_no_interior() -> None:
    assert interior(lips()) is None


def test_a_dark_band_is_an_open_mouth() -> None:
    colour = lips()
    colour[:, 22:34] = 10, 5, 2
    between = interior(colour)
    assert between is not None
    np.testing.assert_allclose(between[0][1:-1], 22, atol=0.5)
    np.testing.assert_allclose(between[1][1:-1], 33, atol=0.5)


def test_teeth_are_an_open_mouth_although_they_are_bright() -> None:
    colour = lips()
    colour[:, 22:34] = 85, 2, 8
    between = interior(colour)
    assert between is not None
    np.testing.assert_allclose(between[0][2:-2], 22, atol=0.5)
    np.testing.assert_allclose(between[1][2:-2], 33, atol=0.5)


def test_a_hairline_is_no_opening() -> None:
    colour = lips()
    colour[:, 28:30] = 10, 5, 2
    assert interior(colour) is None


def test_the_seam_follows_the_darkest_smooth_path() -> None:
    lightness = np.full((9, _ROWS), 50, np.float32)
    rows = np.array([26, 27, 28, 29, 30, 29, 28, 27, 26])
    lightness[np.arange(9), rows] = 20
    found = seam(lightness)
    np.testing.assert_allclose(found, rows, atol=0.6)
    lightness[4, 2] = 0  # darker still, but far from the path: a moustache
    np.testing.assert_allclose(seam(lightness), found)
