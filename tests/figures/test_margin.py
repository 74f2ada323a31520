"""CAL's figures draw what the method computes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.patches import Circle

from mien.errors import MienError
from mien.figures.methods import cal


def test_the_curve_is_the_margin_and_its_parts_meet_at_the_confidence_interval() -> None:
    axis = cal.curve(128).axes[0]
    eta, height = axis.lines[0].get_data()
    inside = np.asarray(eta) < 0.98
    expected = -0.5 * np.log(1 - np.asarray(eta) ** 2) + math.log(12.8) / 8
    np.testing.assert_allclose(np.asarray(height)[inside], expected[inside], rtol=1e-6)
    lower, upper = (area.get_paths()[0].vertices[:, 1] for area in axis.collections)
    assert lower.max() == pytest.approx(upper.min()) == pytest.approx(math.log(12.8) / 8)


def test_every_rated_face_is_drawn_once_and_the_circle_parts_them() -> None:
    random = np.random.default_rng(0)
    affect = np.concatenate([random.normal(0, 0.05, (20, 2)), [[0.8, 0.5]] * 5, [[np.nan, 0.1]]])
    axis = cal.groups(affect).axes[0]
    (radius,) = [patch.radius for patch in axis.patches if isinstance(patch, Circle) and patch.zorder == 1]
    strong, weak = (np.asarray(dots.get_offsets()) for dots in axis.collections)
    assert len(strong) == 5
    assert len(weak) == 20
    assert np.hypot(*weak.T).max() < radius < np.hypot(*strong.T).min()
    assert len(cal.groups([[0.9, 0.0], [0.7, 0.0], [0.1, 0.0]], by="radius").axes[0].collections) == 3
    with pytest.raises(MienError, match="no face"):
        cal.groups([[np.nan, 0.0]])
