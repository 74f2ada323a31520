"""The point scheme, the crop geometry and the shipped landmark network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.faces.landmarker import SIDE, Landmarker, box_of_points, cut, grey_cut, square_of
from mien.io import images
from mien.landmarks import (
    CHIN,
    GROUPS,
    INNER_LIP_PAIRS,
    JAW,
    LEFT_EYE,
    LEFT_EYE_CORNERS,
    LEFT_IRIS,
    MIRROR,
    NOSE_BOTTOM,
    NOSE_TIP,
    POINTS,
    RIGHT_EYE_CORNERS,
    RIGHT_IRIS,
)


def test_groups_cover_every_point_once() -> None:
    covered = np.concatenate([np.arange(len(POINTS))[group] for group in GROUPS.values()])
    assert covered.tolist() == list(range(len(POINTS)))
    assert len(POINTS) == len(set(POINTS)) >= 98


def test_mirror_is_an_involution_that_swaps_sides() -> None:
    assert MIRROR[MIRROR].tolist() == list(range(len(POINTS)))
    assert MIRROR[RIGHT_IRIS] == LEFT_IRIS
    assert MIRROR[RIGHT_EYE_CORNERS[0]] == LEFT_EYE_CORNERS[0]
    midline = [CHIN, NOSE_TIP, NOSE_BOTTOM, INNER_LIP_PAIRS[4][0], INNER_LIP_PAIRS[4][1]]
    assert MIRROR[midline].tolist() == midline
    for names in ("right_brow", "right_eye"):
        assert [POINTS[k].replace("left", "right") for k in MIRROR[GROUPS[names]]] == list(
            POINTS[GROUPS[names]]
        )


def test_mirrored_pairs_are_pairs() -> None:
    lips = {frozenset(pair) for pair in INNER_LIP_PAIRS}
    assert {frozenset(int(MIRROR[k]) for k in pair) for pair in lips} == lips


@pytest.mark.parametrize("angle", [0.0, 30.0])
def test_cut_takes_a_pixel_where_its_map_says(angle: float) -> None:
    image = np.zeros((120, 160), np.uint8)
    image[50:53, 90:93] = 255
    crop, there = cut(image, np.array([80.0, 60.0], np.float32), 70.0, angle)
    rows, columns = np.nonzero(crop > 127)
    assert np.allclose([columns.mean(), rows.mean()], there @ [91, 51, 1], atol=0.3)


def test_cut_stands_a_rolled_head_upright() -> None:
    """Two eyes whose line falls 20 degrees to the right (roll +20) lie level in a cut turned by 20."""
    _, there = cut(np.zeros((100, 100), np.uint8), np.array([50.0, 50.0], np.float32), 80.0, 20.0)
    along = there[:, :2] @ [np.cos(np.radians(20)), np.sin(np.radians(20))]
    assert along[0] > 0
    assert along[1] == pytest.approx(0, abs=1e-6)


def test_grey_cut_equals_the_cut_of_the_grey_picture() -> None:
    import cv2

    image = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(image, (0, 0), 2)
    centre = np.array([150.0, 100.0], np.float32)
    crop, there = grey_cut(image, centre, 110.0)
    whole, same = cut(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), centre, 110.0)
    assert np.allclose(there, same)
    assert np.abs(crop.astype(int) - whole).max() <= 2


def test_box_of_points_contains_the_points_but_for_nothing_below_the_chin() -> None:
    points = np.random.default_rng(0).uniform(20, 80, (len(POINTS), 2)).astype(np.float32)
    left, top, right, bottom = box_of_points(points)
    low, high = points.min(axis=0), points.max(axis=0)
    assert left == pytest.approx(low[0], abs=1e-3)
    assert right == pytest.approx(high[0], abs=1e-3)
    assert top < low[1]
    assert bottom == pytest.approx(high[1], abs=float(0.03 * (high - low)[1]))


@pytest.fixture(scope="module")
def landmarker() -> Landmarker:
    return Landmarker.load(threads=1)


@pytest.fixture(scope="module")
def portrait(examples: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The bundled astronaut and her face's box."""
    picture = np.ascontiguousarray(images.read(examples / "astronaut.png")[:300, :400])
    return picture, np.array([[178, 63, 267, 175]], np.float32)


def test_points_on_a_portrait_are_where_a_face_has_them(
    landmarker: Landmarker, portrait: tuple[NDArray[np.uint8], NDArray[np.float32]]
) -> None:
    points, presence, pose = (part[0] for part in landmarker(*portrait))
    assert presence > 0.9
    right, left = points[list(RIGHT_EYE_CORNERS)].mean(axis=0), points[list(LEFT_EYE_CORNERS)].mean(axis=0)
    assert right[0] < points[NOSE_TIP, 0] < left[0]
    assert max(right[1], left[1]) < points[NOSE_TIP, 1] < points[INNER_LIP_PAIRS[4][0], 1] < points[CHIN, 1]
    assert points[LEFT_EYE, 0].min() < points[LEFT_IRIS, 0] < points[LEFT_EYE, 0].max()
    assert np.abs(pose).max() < 35


def test_a_mirrored_picture_gives_mirrored_points_and_pose(
    landmarker: Landmarker, portrait: tuple[NDArray[np.uint8], NDArray[np.float32]]
) -> None:
    picture, boxes = portrait
    last = picture.shape[1] - 1
    points, _, pose = landmarker(picture, boxes)
    other, _, turned = landmarker(
        np.ascontiguousarray(picture[:, ::-1]),
        np.stack([last - boxes[:, 2], boxes[:, 1], last - boxes[:, 0], boxes[:, 3]], axis=1),
    )
    back = (other * [-1, 1] + [last, 0])[:, MIRROR]
    span = np.linalg.norm(points[0, RIGHT_EYE_CORNERS[0]] - points[0, LEFT_EYE_CORNERS[0]])
    assert np.linalg.norm(back - points, axis=2).mean() < 0.05 * span
    assert np.allclose(turned * [-1, 1, -1], pose, atol=5)


def test_turning_the_picture_turns_the_roll(
    landmarker: Landmarker, portrait: tuple[NDArray[np.uint8], NDArray[np.float32]]
) -> None:
    import cv2

    picture, boxes = portrait
    centre = (boxes[0, :2] + boxes[0, 2:]) / 2
    # OpenCV's positive angle is anticlockwise.
    turned = cv2.warpAffine(picture, cv2.getRotationMatrix2D(centre.tolist(), -20, 1), picture.shape[1::-1])
    (_, _, before), (_, _, after) = landmarker(picture, boxes), landmarker(turned, boxes)
    assert after[0, 2] - before[0, 2] == pytest.approx(20, abs=6)


def test_a_face_turned_by_any_angle_is_read_upright(
    landmarker: Landmarker, portrait: tuple[NDArray[np.uint8], NDArray[np.float32]]
) -> None:
    """Also upside down, and also when it is one of several in the picture: every face is turned by itself."""
    import cv2

    picture, boxes = portrait
    points, _, pose = landmarker(picture, boxes)
    centre, half = (boxes[0, :2] + boxes[0, 2:]) / 2, (boxes[0, 2:] - boxes[0, :2]) / 2
    span = np.linalg.norm(points[0, RIGHT_EYE_CORNERS[0]] - points[0, LEFT_EYE_CORNERS[0]])
    for angle in range(15, 360, 15):
        there = cv2.getRotationMatrix2D(centre.tolist(), -angle, 1)
        turned = cv2.warpAffine(picture, there, picture.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
        extent = abs(there[:, :2]) @ half * 0.9
        box = np.concatenate([centre - extent, centre + extent])[None].astype(np.float32)
        found, presence, now = landmarker(turned, box)
        expected = points[0] @ there[:, :2].T + there[:, 2]
        assert np.linalg.norm(found - expected, axis=2).mean(axis=1).max() < 0.1 * span, angle
        assert presence[0] > 0.7, "what a doubtful detection needs"
        assert np.abs((now[:, 2] - pose[0, 2] - angle + 180) % 360 - 180).max() < 5
        assert np.abs(now[:, 2]).max() <= 180


def test_turns_are_tried_only_where_a_face_does_not_plainly_stand_upright(
    landmarker: Landmarker,
    portrait: tuple[NDArray[np.uint8], NDArray[np.float32]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []
    look = Landmarker.look_at

    def counted(self: Landmarker, image: NDArray[np.uint8], views: Any) -> Any:
        seen.append(len(views))
        return look(self, image, views)

    monkeypatch.setattr(Landmarker, "look_at", counted)
    picture, boxes = portrait
    landmarker(picture, boxes)
    assert seen == [1, 1]
    seen.clear()
    landmarker(
        np.ascontiguousarray(picture[::-1, ::-1]), np.tile(picture.shape[1::-1], 2) - boxes[:, [2, 3, 0, 1]]
    )
    assert seen == [1, 1, 3, 3]


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_face_whose_turn_is_known_is_looked_at_twice_and_one_told_wrongly_is_still_read(
    quarters: int,
    landmarker: Landmarker,
    portrait: tuple[NDArray[np.uint8], NDArray[np.float32]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture, boxes = portrait
    points, _, pose = landmarker(picture, boxes)
    turned, box, expected = picture, boxes, points.copy()
    for _ in range(quarters):  # clockwise
        last = turned.shape[0] - 1
        turned = np.ascontiguousarray(np.rot90(turned, -1))
        box = np.stack([last - box[:, 3], box[:, 0], last - box[:, 1], box[:, 2]], axis=1)
        expected = np.stack([last - expected[..., 1], expected[..., 0]], axis=2)
    seen: list[int] = []
    look = Landmarker.look_at

    def counted(self: Landmarker, image: NDArray[np.uint8], views: Any) -> Any:
        seen.append(len(views))
        return look(self, image, views)

    monkeypatch.setattr(Landmarker, "look_at", counted)
    for roll, looks in ((90 * quarters, [1, 1]), (90 * quarters - 90, [1, 1, 3, 3])):
        seen.clear()
        found, presence, now = landmarker(turned, box, [roll])
        assert seen == looks
        assert np.linalg.norm(found - expected, axis=2).mean() < 2
        assert presence[0] > 0.95
        assert abs((now[0, 2] - pose[0, 2] - 90 * quarters + 180) % 360 - 180) < 5


def test_a_batch_equals_single_faces(
    landmarker: Landmarker, portrait: tuple[NDArray[np.uint8], NDArray[np.float32]]
) -> None:
    picture, boxes = portrait
    many = np.concatenate([boxes + shift for shift in range(-20, 21)]).astype(np.float32)
    together = landmarker(picture, many)
    for row in (0, 17, 40):
        for part, alone in zip(together, landmarker(picture, many[row : row + 1]), strict=True):
            assert np.allclose(part[row], alone[0], atol=0.02)


def test_threads_that_share_the_faces_find_what_one_finds(
    landmarker: Landmarker, portrait: tuple[NDArray[np.uint8], NDArray[np.float32]]
) -> None:
    picture, boxes = portrait
    many = np.concatenate([boxes + shift for shift in range(-20, 21)]).astype(np.float32)
    for ours, theirs in zip(
        Landmarker.load(threads=3)(picture, many), landmarker(picture, many), strict=True
    ):
        assert np.allclose(ours, theirs, atol=0.02)


def test_no_boxes_no_faces(landmarker: Landmarker) -> None:
    points, presence, pose = landmarker(np.zeros((40, 40, 3), np.uint8), np.zeros((0, 4), np.float32))
    assert (points.shape, presence.shape, pose.shape) == ((0, len(POINTS), 2), (0,), (0, 3))


def test_a_box_beyond_the_picture_is_answered(landmarker: Landmarker) -> None:
    picture = np.full((40, 40, 3), 90, np.uint8)
    for box in ([-30, -30, 10, 10], [100, 100, 140, 150], [0, 0, 400, 400]):
        points, presence, _ = landmarker(picture, np.array([box], np.float32))
        assert np.isfinite(points).all()
        assert presence[0] < 0.5


def test_noise_and_flat_pictures_are_no_faces(landmarker: Landmarker) -> None:
    random = np.random.default_rng(0)
    box = np.array([[20, 10, 90, 110]], np.float32)
    ramp = np.tile(np.linspace(0, 255, 120)[:, None, None], (1, 120, 3))
    for picture in (random.integers(0, 255, (120, 120, 3)), np.full((120, 120, 3), 128), ramp):
        assert landmarker(picture.astype(np.uint8), box)[1][0] < 0.5


def test_the_weights_are_small() -> None:
    from mien.io import cards

    assert (cards.FOLDER / "landmarks.onnx").stat().st_size <= 2_000_000


def test_the_input_is_a_square_of_the_scheme(landmarker: Landmarker) -> None:
    assert landmarker._session.get_inputs()[0].shape[1:] == [1, SIDE, SIDE]
    assert np.arange(len(POINTS))[JAW].size == 21
    assert square_of(np.array([0, 0, 80, 100], np.float32))[1] == pytest.approx(120)
