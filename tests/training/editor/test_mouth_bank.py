"""Mouths are cut level, their rims hold no lips, and the picture of all of them takes them apart again."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from mien.editing.mouth_interior import Opening, examples, row_of
from mien.training.editor.mouth_bank import CONTOURS, WIDTH, cut, packed

LIP, TEETH = (200, 60, 80), (240, 235, 225)


def _smile(turn: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A drawn mouth full of teeth, turned by `turn` degrees, and the outline of its inside."""
    t = np.linspace(0, 1, 11)
    height = 12 * np.sin(np.pi * t)
    upper, lower = np.stack([60 * t, -height / 2], axis=1), np.stack([60 * t, height / 2], axis=1)
    contour = np.concatenate([upper, lower[9:0:-1]]) - [30, 0]
    angle = np.radians(turn)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    contour = contour @ matrix.T + 60
    picture = np.full((120, 120, 3), LIP, np.uint8)
    cv2.fillPoly(picture, [np.rint(contour * 16).astype(np.int32)], TEETH, cv2.LINE_AA, 4)
    return picture, contour


def test_a_mouth_is_cut_level_and_without_its_lips() -> None:
    for turn in (0.0, 20.0):
        picture, outline = cut(*_smile(turn))
        np.testing.assert_allclose(outline[10] - outline[0], [WIDTH, 0], atol=1e-6)
        middle = picture[:, picture.shape[1] // 2].astype(int)
        assert np.abs(middle - TEETH).max() < 25, "above and below the teeth there is no lip"


def test_a_full_row_of_teeth_is_told_from_a_dark_mouth() -> None:
    picture, contour = _smile()
    assert row_of(picture, Opening.of(contour)) > 0.95
    picture[62:] = 20
    assert row_of(picture, Opening.of(contour)) < 0.7


def test_pictures_are_packed_without_overlap() -> None:
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 255, (*random.integers(5, 30, 2), 3), dtype=np.uint8) for _ in range(19)]
    sheet, places = packed(pictures)
    for picture, (left, top, width, height) in zip(pictures, places, strict=True):
        np.testing.assert_array_equal(sheet[top : top + height, left : left + width], picture)


def test_the_shipped_bank_is_that_of_the_contours() -> None:
    listed = json.loads(CONTOURS.read_text(encoding="utf-8"))
    shipped = examples()[::2]
    assert [Path(mouth["file"]).stem for mouth in listed] == [mouth.name for mouth in shipped]
    assert [mouth["bares"] for mouth in listed] == [mouth.bares for mouth in shipped]
