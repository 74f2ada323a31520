"""Strengths that read as requested: the inversion of readings, and the shipped table."""

from __future__ import annotations

import numpy as np
import pytest

from mien.editing.geometry import ACTIVE
from mien.editing.target import ASKED, STRENGTHS, strength_of
from mien.training.editor.fit_strengths import inverted


def test_the_strength_is_found_at_which_an_intensity_is_read() -> None:
    strengths = np.linspace(0.1, 1.2, 12)
    readings = 0.8 * strengths**3  # 0.8 at strength 1
    found = inverted(strengths, readings, np.array([0.0, 0.3, 0.5, 0.7, 1.0]))
    assert found[0] == pytest.approx(0, abs=0.01)
    assert found[-1] == 1
    np.testing.assert_allclose(found[1:-1] ** 3, [0.3, 0.5, 0.7], atol=0.03)


def test_readings_that_fall_are_made_to_rise() -> None:
    found = inverted(
        np.array([0.25, 0.5, 0.75, 1.0]), np.array([0.2, 0.1, 0.6, 0.8]), np.array([0.2, 0.5, 0.9])
    )
    assert (np.diff(found) > 0).all()


@pytest.mark.parametrize("name", ACTIVE)
def test_the_shipped_strengths_rise_from_0_to_1(name: str) -> None:
    row = STRENGTHS[name]
    assert len(row) == len(ASKED)
    assert row[0] == 0
    assert row[-1] == 1
    assert (np.diff(row) > 0).all()
    assert strength_of(name, 0.4) == pytest.approx((row[1] + row[2]) / 2)
    assert strength_of(name, 1.2) == 1.2
