"""The teacher's squares, and what is said where it is missing."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from mien.errors import ConfigError
from mien.landmarks import LEFT_EYE_CORNERS, POINTS, RIGHT_EYE_CORNERS
from mien.training.actions import faces
from mien.training.actions.teacher import ActionTeacher


def test_a_missing_or_wrong_teacher_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"face_landmarker\.task: no such file.*'teacher'"):
        ActionTeacher(tmp_path / "face_landmarker.task")
    wrong = tmp_path / "wrong.task"
    wrong.write_bytes(b"not a zip")
    with pytest.raises(ConfigError, match=r"wrong\.task: not MediaPipe's"):
        ActionTeacher(wrong)
    with zipfile.ZipFile(wrong, "w") as bundle:
        bundle.writestr("other.tflite", b"")
    with pytest.raises(ConfigError, match="face_landmarks_detector"):
        ActionTeacher(wrong)


def test_labels_that_are_missing_need_the_teacher(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"muxspace\.npz: no such labels.*'teacher'"):
        faces.complete(tmp_path, {"muxspace": tmp_path}, None, None, lambda line: None)


def test_the_square_is_upright_and_holds_the_face() -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (len(POINTS), 2))
    points[RIGHT_EYE_CORNERS[0]], points[LEFT_EYE_CORNERS[0]] = (-0.8, -0.5), (0.8, -0.5)
    angle = np.radians(30)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    there = 50 + 20 * points @ turn.T
    centre, side, turned = ActionTeacher.square(there)
    assert turned == pytest.approx(angle)
    inside = (there - centre) @ turn / side
    assert np.abs(inside).max() < 0.5
    assert side == pytest.approx(1.16 * 1.5 * 20 * np.ptp(points, axis=0).max(), rel=1e-6)
