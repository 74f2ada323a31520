"""The teacher's squares and places, and what is said where it is missing."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.errors import ConfigError
from mien.landmarks import LEFT_EYE_CORNERS, POINTS, RIGHT_EYE_CORNERS
from mien.training import face_mesh
from mien.training.face_mesh import VERTICES, FaceMesh

NAMES = (FaceMesh.name, "face_blendshapes")


class Network:
    """Answers the same mesh [478, 3] of the patch, and keeps what it was shown."""

    def __init__(self, mesh: np.ndarray[Any, Any], score: float = 0.0) -> None:
        self.answers = {7: mesh.reshape(1, 1, 1, -1), 8: np.full((1, 1, 1, 1), score)}
        self.shown: np.ndarray[Any, Any] | None = None

    def get_input_details(self) -> list[dict[str, Any]]:
        return [{"index": 0}]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [{"index": index, "shape": np.array(value.shape)} for index, value in self.answers.items()]

    def set_tensor(self, index: int, value: np.ndarray[Any, Any]) -> None:
        self.shown = value

    def invoke(self) -> None:
        """Nothing to do: the answers are known."""

    def get_tensor(self, index: int) -> np.ndarray[Any, Any]:
        return self.answers[index]


def test_a_missing_or_wrong_teacher_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"face_landmarker\.task: no such file.*'teacher'"):
        face_mesh.networks(tmp_path / "face_landmarker.task", NAMES)
    wrong = tmp_path / "wrong.task"
    wrong.write_bytes(b"not a zip")
    with pytest.raises(ConfigError, match=r"wrong\.task: not MediaPipe's"):
        face_mesh.networks(wrong, NAMES)
    with zipfile.ZipFile(wrong, "w") as bundle:
        bundle.writestr("other.tflite", b"")
    with pytest.raises(ConfigError, match="face_landmarks_detector"):
        face_mesh.networks(wrong, NAMES)


def test_places_in_the_patch_become_places_in_the_picture() -> None:
    mesh = np.zeros((VERTICES, 3))
    mesh[0] = 128, 128, 0  # the middle of 256 px
    mesh[1] = 256, 128, 64  # the middle of the right edge, a quarter of the side behind
    network = Network(mesh, score=np.log(3))
    side, angle, centre = 40.0, np.radians(30), np.array([50.0, 60.0])
    found, score = FaceMesh(network)(np.zeros((100, 120, 3), np.uint8), (centre, side, angle))
    np.testing.assert_allclose(found[0], [*centre, 0])
    np.testing.assert_allclose(
        found[1], [*(centre + side / 2 * np.array([np.cos(angle), np.sin(angle)])), side / 4]
    )
    assert score == pytest.approx(0.75)


def test_the_network_sees_the_square() -> None:
    image = np.zeros((100, 120, 3), np.uint8)
    image[40:60, 30:50, 0] = 255
    network = Network(np.zeros((VERTICES, 3)))
    FaceMesh(network)(image, (np.array([39.5, 49.5]), 20.0, 0.0))
    assert network.shown is not None
    assert network.shown.shape == (1, 256, 256, 3)
    assert network.shown[0, 10:-10, 10:-10, 0].min() == 1, "0..1, and nothing of the surroundings"
    assert network.shown[..., 1:].max() == 0


def test_the_square_is_upright_and_holds_the_face() -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (len(POINTS), 2))
    points[RIGHT_EYE_CORNERS[0]], points[LEFT_EYE_CORNERS[0]] = (-0.8, -0.5), (0.8, -0.5)
    angle = np.radians(30)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    there = 50 + 20 * points @ turn.T
    centre, side, turned = face_mesh.square(there)
    assert turned == pytest.approx(angle)
    inside = (there - centre) @ turn / side
    assert np.abs(inside).max() < 0.5
    assert side == pytest.approx(1.5 * 20 * np.ptp(points, axis=0).max(), rel=1e-6)


def test_a_mirrored_square_shows_the_mirrored_patch() -> None:
    image = np.random.default_rng(0).integers(0, 255, (80, 101, 3), dtype=np.uint8)
    where = (np.array([37.0, 44.0]), 30.0, np.radians(20))
    patches = []
    for picture, square in (
        (image, where),
        (np.ascontiguousarray(image[:, ::-1]), face_mesh.mirrored(where, image.shape[1])),
    ):
        network = Network(np.zeros((VERTICES, 3)))
        FaceMesh(network)(picture, square)
        assert network.shown is not None
        patches.append(network.shown[0])
    np.testing.assert_allclose(patches[0], patches[1][:, ::-1], atol=0.05)  # OpenCV interpolates at 1/32 px
