"""Turned heads: the pose that is fitted to the points, displacements in depth, and the room beside the mouth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mien.editing.action_basis import ActionBasis
from mien.editing.corrector import OnnxCorrector
from mien.editing.editor import Editor
from mien.editing.geometry import ACTIVE, FaceFrame, Geometry
from mien.editing.head_turn import HeadTurn
from mien.editing.photo import open_photo
from mien.editing.plan import plan
from mien.editing.target import Target
from mien.errors import WeightsError
from mien.landmarks import LEFT_MOUTH_CORNER, RIGHT_MOUTH_CORNER

SMILE = np.eye(len(ACTIVE))[ACTIVE.index("happiness")]


def rotation(yaw: float, pitch: float = 0.0) -> np.ndarray:
    """For axes x to the right, y down, z to the viewer: a positive yaw turns the nose to the right, a pitch up."""
    a, b = np.radians([yaw, pitch])
    shake = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    nod = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return shake @ nod


def seen(head: np.ndarray, yaw: float, pitch: float = 0.0) -> np.ndarray:
    """Points [P, 3] of a head as pixels [P, 2] of a picture in which eyes are some 100 pixels apart."""
    return (head @ rotation(yaw, pitch).T)[:, :2] * 100 + 400


@pytest.mark.parametrize("yaw", [-35, -10, 0, 25])
@pytest.mark.parametrize("pitch", [-15, 0])
def test_a_displacement_is_projected_as_the_head_is_turned(yaw: int, pitch: int) -> None:
    turn = HeadTurn.load()
    points = seen(turn.head, yaw, pitch)
    frame = FaceFrame.of(points)
    shape, push = frame.to_canonical(points), np.array([0.1, -0.05, 0.2])
    moved = frame.to_canonical(seen(turn.head + push, yaw, pitch)) - shape
    np.testing.assert_allclose(moved, np.tile(turn.pose(shape).camera @ push, (len(shape), 1)), atol=1e-9)
    assert turn.pose(shape).yaw == pytest.approx(yaw, abs=0.6)


def test_a_head_seen_from_the_front_moves_as_the_geometry_says() -> None:
    turn, geometry = HeadTurn.load(), Geometry.load()
    pose = turn.pose(turn.head[:, :2])
    np.testing.assert_allclose(pose.camera, np.eye(3)[:2], atol=2e-3)  # the head is stored in half precision
    same = turn.seen(geometry, pose)
    np.testing.assert_allclose(same.displacement(SMILE, 0.1), geometry.displacement(SMILE, 0.1), atol=2e-3)


def test_an_expression_does_not_turn_the_head() -> None:
    turn, basis = HeadTurn.load(), ActionBasis.load()
    for number in np.flatnonzero(basis.displacement.any(axis=(1, 2))):
        head = turn.head + 0.7 * basis.displacement[number]
        points = seen(head, 25)
        assert abs(turn.pose(FaceFrame.of(points).to_canonical(points)).yaw - 25) < 1.6


def test_on_the_far_side_a_smile_goes_back_more_than_out() -> None:
    turn, geometry = HeadTurn.load(), Geometry.load()
    points = seen(turn.head, 30)  # the nose points to the right, so the left corner is the far one
    shape = FaceFrame.of(points).to_canonical(points)
    moved = turn.seen(geometry, turn.pose(shape)).displacement(SMILE, 0.0)
    near, far = -moved[RIGHT_MOUTH_CORNER, 0], moved[LEFT_MOUTH_CORNER, 0]
    assert near > 2 * far
    unturned = geometry.displacement(SMILE, 0.0)
    assert far < 0.6 * unturned[LEFT_MOUTH_CORNER, 0]


@pytest.mark.parametrize("yaw", [-28, -25, 25, 28])
def test_a_full_smile_of_a_turned_head_does_not_fold(yaw: int) -> None:
    points = seen(HeadTurn.load().head, yaw)
    drawn = plan(Geometry.load(), points, SMILE, 0.13)
    assert drawn.share == 1
    assert abs(drawn.gap - 0.13) < 1e-6, "nor do the lips part less"


def test_what_is_beside_the_far_corner_does_not_push_the_cheek_out() -> None:
    points = seen(HeadTurn.load().head, 32)
    drawn = plan(Geometry.load(), points, SMILE, 0.0)
    shape = FaceFrame.of(points).to_canonical(points)
    jaw = shape[:21]
    beside = jaw[np.abs(jaw[10:, 1] - shape[LEFT_MOUTH_CORNER, 1]).argmin() + 10]
    column, row = np.rint((beside - np.array([-2.03, -1.3])) / 0.05).astype(int)
    pushed = np.hypot(*drawn.warp.upper[row, column])
    assert pushed < 0.5 * np.hypot(*(drawn.target - drawn.source)[LEFT_MOUTH_CORNER])


def test_the_correction_is_less_on_a_turned_head() -> None:
    class Constant:
        def run(self, names: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [np.zeros((2, 2, 8, 8), np.float32), np.full((2, 1, 64, 64), 0.2, np.float32)]

    gains = []
    for yaw in (0, 30):
        drawn = plan(Geometry.load(), seen(HeadTurn.load().head, yaw), SMILE, 0.0)
        photo = np.full((800, 800, 3), 120, np.uint8)
        gains.append(np.abs(OnnxCorrector(Constant())(photo, drawn, None, 1.0).gain).max())
    assert gains[1] == pytest.approx(0.35 * gains[0], rel=1e-3)


def test_damaged_depths_are_an_error() -> None:
    with pytest.raises(WeightsError, match=r"'basis' is missing.*fit_depths"):
        HeadTurn.from_arrays({"head": np.zeros((112, 3)), "basis": np.zeros((2, 2))})


@pytest.mark.parametrize(
    "target",
    [Target.parse("happiness"), Target.of_actions({"smile": 0.6}), Target.of_gaze(1.0, 1.0)],
    ids=["expression", "actions", "gaze"],
)
def test_the_pose_is_fitted_once_for_an_edit(
    target: Target, examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = Editor.load(threads=1, measure=False)
    photo = open_photo(examples / "portrait_neutral.jpg")
    located, fitted = editor.locate(photo), []
    fit = HeadTurn.pose
    monkeypatch.setattr(HeadTurn, "pose", lambda turn, shape: fitted.append(shape) or fit(turn, shape))
    editor.apply(photo, located, target)
    assert len(fitted) == 1
