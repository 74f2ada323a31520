"""The teacher's first square, and what is said where its answers are missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mien.errors import ConfigError
from mien.landmarks import POINTS
from mien.training import face_mesh
from mien.training.actions import faces
from mien.training.actions.teacher import ActionTeacher


def test_labels_that_are_missing_need_the_teacher(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"muxspace\.npz: no such labels.*'teacher'"):
        faces.complete(tmp_path, {"muxspace": tmp_path}, None, None, lambda line: None)


def test_the_first_square_is_larger_and_higher_than_the_one_around_our_points() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (len(POINTS), 2))
    (centre, side, angle), (first, wide, turned) = face_mesh.square(points), ActionTeacher.square(points)
    assert (wide, turned) == (pytest.approx(1.16 * side), angle)
    up = np.array([np.sin(angle), -np.cos(angle)])
    np.testing.assert_allclose(first - centre, 0.05 * side * up)
