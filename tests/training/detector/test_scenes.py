"""Scenes: the truth is where the pixels are, whatever was turned, pasted over or cut off."""

from __future__ import annotations

import numpy as np
import pytest

from mien.training.detector.scenes import (
    CLEAR,
    LEAST,
    MOST,
    SWAP,
    Composer,
    SceneCanvas,
    SceneDraws,
    Truth,
    _truth,
    batched,
    coloured,
    mirrored,
    paste,
    shuffled,
    spoilt,
)
from mien.training.detector.sources import FaceSources, bounds

from .drawn import face_sources, photographs

SIDE = 96


def composer(side: int = SIDE) -> Composer:
    return Composer({"drawn": face_sources()}, photographs(), side)


def test_a_scene_depends_on_its_seed_alone() -> None:
    first, again, other = (composer()(np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1].boxes, again[1].boxes)
    assert not np.array_equal(first[0], other[0])


def test_scenes_have_no_more_faces_than_a_batch_holds_and_boxes_inside() -> None:
    make, counts = composer(), []
    for seed in range(40):
        image, truth = make(np.random.default_rng(seed))
        assert image.shape == (SIDE, SIDE, 3)
        assert image.dtype == np.uint8
        counts.append(len(truth.boxes))
        assert len(truth.boxes) + len(truth.ignored) <= MOST
        assert (truth.boxes >= 0).all()
        assert (truth.boxes <= SIDE).all()
        assert (truth.boxes[:, 2:] > truth.boxes[:, :2]).all()
        assert set(truth.turns.tolist()) <= {-1, 0, 1, 2, 3}
    assert min(counts) == 0
    assert max(counts) > 4


def test_batches_go_on_at_a_step() -> None:
    whole, late = iter(SceneDraws(composer(), 2, seed=5)), iter(SceneDraws(composer(), 2, seed=5, step=1))
    next(whole)
    first, second = next(whole), next(late)
    assert all((np.array_equal(a, b, equal_nan=True)) for a, b in zip(first, second, strict=True))
    assert first.images.shape == (2, SIDE, SIDE, 3)
    assert first.boxes.shape == (2, MOST, 4)


def one_face(ellipse: list[float], side: int = 200) -> SceneCanvas:
    """A scene in which every pixel shows the face that the ellipse describes."""
    points = np.tile(np.array(ellipse[:2]), (5, 1))
    return SceneCanvas(
        np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.int16), [np.array(ellipse)], [points]
    )


@pytest.mark.parametrize(
    ("angle", "turn"), [(0, 0), (20, 0), (95, 1), (-90, 3), (181, 2), (45, -1), (-130, -1)]
)
def test_the_quarter_turn_is_told_where_it_is_clear(angle: float, turn: int) -> None:
    truth = _truth(one_face([100, 100, 30, 40, angle]))
    assert truth.turns.tolist() == [turn]


def test_a_face_half_hidden_counts_a_sliver_does_not_and_in_between_is_ignored() -> None:
    for covered, kind in ((0.4, "boxes"), (0.7, "ignored"), (0.95, "none")):
        scene = one_face([100, 100, 40, 40, 0])
        scene.owner[:, : int(60 + covered * 80)] = -1
        truth = _truth(scene)
        assert (len(truth.boxes), len(truth.ignored)) == (kind == "boxes", kind == "ignored")


def test_a_face_over_the_edge_is_clipped_and_a_tiny_one_ignored() -> None:
    (box,) = _truth(one_face([10, 100, 40, 50, 0])).boxes
    assert box.tolist() == [0, 50, 50, 150]
    assert 10 + 40 * (2 * CLEAR - 1) < 40  # so much of it is visible
    truth = _truth(one_face([100, 100, 3, LEAST / 2 - 1, 0]))
    assert len(truth.boxes) == 0
    assert len(truth.ignored) == 1


def test_a_pasted_picture_lies_where_its_matrix_says() -> None:
    source = np.zeros((40, 40, 3), np.uint8)
    source[18:22, 28:32] = 255
    for scale in (1.0, 0.25, 1.5):
        image = np.zeros((120, 120, 3), np.uint8)
        # Turned by a quarter clockwise about its middle, which comes to (60, 50).
        linear = scale * np.array([[0, -1], [1, 0]])
        matrix = np.concatenate([linear, (np.array([60, 50]) - linear @ [19.5, 19.5])[:, None]], axis=1)
        rows, columns, shown = paste(image, source, np.full((40, 40), 255, np.uint8), matrix) or pytest.fail(
            "outside"
        )
        weights = image[..., 0].astype(float)
        spot = [(weights.sum(axis=axis) @ np.arange(120)) / weights.sum() for axis in (0, 1)]
        assert spot == pytest.approx([60, 50 + 10 * scale], abs=0.6)
        assert np.count_nonzero(shown) == pytest.approx((40 * scale) ** 2, rel=0.2)
        assert rows.start <= 50 - 18 * scale
        assert columns.stop >= 60 + 18 * scale
    assert (
        paste(image, source, np.full((40, 40), 255, np.uint8), np.array([[1, 0, 500], [0, 1.0, 0]])) is None
    )


def test_the_truth_follows_the_face_into_the_scene() -> None:
    """A white face on black: what lies in the box is white, and nothing beside it."""
    faces = face_sources(1)
    height, width = faces.images[0].shape[:2]
    white = np.zeros((height, width), np.uint8)
    rows, columns = np.mgrid[:height, :width]
    x, y, a, b, _ = faces.ellipses[0]
    white[((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 <= 1] = 255
    ellipse = faces.ellipses.copy()
    ellipse[:, 4] = 0
    make = Composer({"white": FaceSources([white], faces.points, ellipse)}, [], 128)
    found = 0
    for seed in range(30):
        random = np.random.default_rng(seed)
        scene = SceneCanvas(np.zeros((128, 128, 3), np.uint8), np.full((128, 128), -1, np.int16))
        make._covered = lambda source, *_: source  # type: ignore[method-assign, assignment]
        make._face(scene, 48, random)
        truth = _truth(scene)
        for left, top, right, bottom in truth.boxes:
            if left > 1 and top > 1 and right < 127 and bottom < 127:
                bright = scene.image.max(axis=2) > 60
                spots = np.argwhere(bright)
                edges = [*spots.min(axis=0)[::-1], *(spots.max(axis=0)[::-1] + 1)]
                assert np.abs(np.array(edges) - [left, top, right, bottom]).max() < 4
                found += 1
    assert found > 10


def test_alarms_come_more_often_when_they_were_learnt() -> None:
    """The middle of the second photograph is made unlike everything else."""
    pictures = photographs()
    for one in pictures:
        one.image[:] = 10
    pictures[1].image[80:130, 100:140] = 250
    make = Composer({"drawn": face_sources()}, pictures, 64)

    def share() -> float:
        random = np.random.default_rng(1)
        return float(np.mean([(make._crop(64, 64, random) > 200).any() for _ in range(200)]))

    before = share()
    make.learn([(1, 100, 80, 140, 130)] * 400)
    assert share() > before + 0.1


def test_the_mirror_image_swaps_sides() -> None:
    faces = face_sources(2)
    image, ellipse, points = mirrored(faces.images[1], faces.ellipses[1], faces.points[1])
    assert points[0, 0] < points[1, 0]  # the eye on the left stays the eye on the left
    assert points[3, 0] < points[4, 0]
    back = mirrored(image, ellipse, points)
    assert np.array_equal(back[0], faces.images[1])
    assert np.allclose(back[1], faces.ellipses[1])
    assert np.allclose(back[2], faces.points[1])
    assert [SWAP[other] for other in SWAP] == list(range(5))


def test_pictures_keep_their_shape_whatever_is_done_to_them() -> None:
    faces = face_sources(2)
    for seed in range(20):
        random = np.random.default_rng(seed)
        for image in faces.images:
            colour = coloured(image, random)
            assert colour.shape == (*image.shape[:2], 3)
            assert shuffled(colour, random).ndim == 3
        worse = spoilt(photographs()[0].image[:200, :200].copy(), random)
        assert worse.shape == (200, 200, 3)
        assert worse.dtype == np.uint8


def test_a_batch_holds_what_its_scenes_hold() -> None:
    truth = Truth(
        np.array([[1, 2, 3, 4]], np.float32),
        np.ones((1, 5, 2), np.float32),
        np.array([2]),
        np.empty((0, 4), np.float32),
    )
    batch = batched([(np.zeros((8, 8, 3), np.uint8), truth)])
    assert batch.boxes[0, 0].tolist() == [1, 2, 3, 4]
    assert batch.boxes[0, 1:].isnan().all()
    assert batch.turns[0].tolist() == [2] + [-1] * (MOST - 1)
    assert batch.ignored.isnan().all()


def test_the_box_of_an_upright_ellipse_is_its_axes() -> None:
    assert bounds(np.array([[50.0, 40, 10, 20, 0], [50, 40, 10, 20, 90]])).tolist() == [
        pytest.approx([40, 20, 60, 60]),
        pytest.approx([30, 30, 70, 50]),
    ]
