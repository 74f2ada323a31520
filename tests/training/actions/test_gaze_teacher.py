"""The teacher of gaze: what its network is shown, how its answer is taken, and what is said where it is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.errors import ConfigError
from mien.landmarks import LEFT_EYE_CORNERS, POINTS, RIGHT_EYE_CORNERS
from mien.training.actions.gaze_teacher import GazeTeacher


class Network:
    """Stands for OpenVINO's network: keeps what it is given, and answers a vector."""

    outputs = ("gaze_vector",)

    def __init__(self, vector: tuple[float, float, float]) -> None:
        self.vector, self.given = vector, {}

    def __call__(self, given: dict[str, Any]) -> dict[str, Any]:
        self.given = given
        return {"gaze_vector": np.array([self.vector])}


def teacher(vector: tuple[float, float, float] = (0.0, 0.0, -1.0)) -> tuple[GazeTeacher, Network]:
    made, network = object.__new__(GazeTeacher), Network(vector)
    made._run = network  # type: ignore[assignment]
    return made, network


def eyes(distance: float, angle: float = 0.0) -> np.ndarray:
    """Points of a face with its eyes around (100, 100), turned by `angle` radians."""
    points = np.full((len(POINTS), 2), 100.0)
    along = np.array([np.cos(angle), np.sin(angle)]) * distance / 2
    points[list(RIGHT_EYE_CORNERS)], points[list(LEFT_EYE_CORNERS)] = 100 - along, 100 + along
    return points


@pytest.mark.parametrize("angle", [0.0, 0.6])
def test_each_eye_is_cut_upright_in_bgr(angle: float) -> None:
    points = eyes(80, angle)
    image = np.zeros((200, 200, 3), np.uint8)
    for corners, colour in ((RIGHT_EYE_CORNERS, (255, 0, 0)), (LEFT_EYE_CORNERS, (0, 0, 255))):
        x, y = np.round(points[corners[0]]).astype(int)
        image[y - 6 : y + 7, x - 6 : x + 7] = colour
    asked, network = teacher()
    asked(image, points, np.array([5.0, 7.0, 30.0]))
    red, blue = network.given["left_eye_image"], network.given["right_eye_image"]
    assert red.shape == blue.shape == (1, 3, 60, 60)
    assert red[0, 2, 30, 30] == 255 == blue[0, 0, 30, 30], (
        "the subject's right eye is at the left of the picture"
    )
    assert red[0, :, 5, 5].max() == 0
    assert network.given["head_pose_angles"].tolist() == [[5.0, -7.0, 0.0]]


@pytest.mark.parametrize(
    ("vector", "gaze"),
    [((0, 0, -2), (0, 0)), ((1, 0, -1), (45, 0)), ((0, 1, -1), (0, 45)), ((-1, -np.sqrt(2), -1), (-45, -45))],
)
def test_a_vector_becomes_angles(vector: tuple[float, float, float], gaze: tuple[float, float]) -> None:
    asked, _ = teacher(vector)
    found = asked(np.zeros((200, 200, 3), np.uint8), eyes(80), np.zeros(3))
    assert found == pytest.approx(gaze, abs=1e-4)


def test_small_faces_get_no_answer() -> None:
    asked, network = teacher()
    assert np.isnan(asked(np.zeros((200, 200, 3), np.uint8), eyes(20), np.zeros(3))).all()
    assert not network.given


def test_a_missing_network_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gaze\.xml: no such file.*'gaze_teacher'"):
        GazeTeacher(tmp_path / "gaze.xml")
    (tmp_path / "gaze.xml").write_text("<net/>")
    with pytest.raises(ConfigError, match=r"gaze\.bin: no such file"):
        GazeTeacher(tmp_path / "gaze.xml")
