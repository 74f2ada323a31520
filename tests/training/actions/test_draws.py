"""Augmented faces: moved crops and points stay together, mirrored ones are mirrored, and each batch repeats."""

from __future__ import annotations

from itertools import islice

import numpy as np

from mien.actions import ACTIONS
from mien.faces.action_reader import SIZE
from mien.landmarks import LEFT_EYE_CORNERS, NOSE_TIP, POINTS, RIGHT_EYE_CORNERS
from mien.training.actions.draws import ActionDraws, middle, mirrored, moved
from mien.training.actions.faces import STORED, ActionFaces
from mien.training.actions.teacher import TAUGHT

EXACT = np.float32(0.01)


def faces(count: int, seed: int = 0) -> ActionFaces:
    """Dark crops with a white dot at the nose tip; the exact points are those, moved by a hundredth."""
    random = np.random.default_rng(seed)
    points = random.uniform(0.3, 0.7, (count, len(POINTS), 2)).astype(np.float32)
    crops = np.full((count, STORED, STORED), 40, np.uint8)
    for crop, place in zip(crops, points[:, NOSE_TIP], strict=True):
        x, y = np.round(place * SIZE - 0.5 + (STORED - SIZE) / 2).astype(int)
        crop[y - 1 : y + 2, x - 1 : x + 2] = 255
    actions = random.random((count, len(ACTIONS)), np.float32)
    gaze = random.uniform(-20, 20, (count, 2)).astype(np.float32)
    names = np.arange(count).astype(str)
    return ActionFaces(names, crops, points, actions, np.full_like(actions, np.nan), gaze, points + EXACT)


def test_the_points_move_with_the_crop() -> None:
    some, random = faces(6), np.random.default_rng(1)
    for crop, points in zip(some.crops, some.points, strict=True):
        image, there = moved(crop, points, random)
        assert image.shape == (SIZE, SIZE)
        row, column = np.unravel_index(image.argmax(), image.shape)
        np.testing.assert_allclose(there[NOSE_TIP] * SIZE - 0.5, [column, row], atol=2)
        assert np.abs(there - points).max() > 0.005


def test_the_middle_of_a_stored_crop_is_the_aligned_one() -> None:
    some = faces(3)
    for image, points in zip(middle(some.crops), some.points, strict=True):
        row, column = np.argwhere(image == 255).mean(axis=0)
        np.testing.assert_allclose(points[NOSE_TIP] * SIZE - 0.5, [column, row], atol=0.6)


def test_mirroring_exchanges_the_sides() -> None:
    crop, points = np.arange(SIZE * SIZE, dtype=np.uint8).reshape(SIZE, SIZE), faces(1).points[0]
    actions = np.zeros(len(ACTIONS))
    actions[ACTIONS.index("mouthSmileLeft")] = 1
    image, there, said = mirrored(crop, points, actions)
    assert (image == crop[:, ::-1]).all()
    assert said[ACTIONS.index("mouthSmileRight")] == 1 == said.sum()
    expected = points[RIGHT_EYE_CORNERS[0]] * [-1, 1] + [1, 0]
    np.testing.assert_allclose(there[LEFT_EYE_CORNERS[0]], expected, atol=1e-6)


def test_exact_points_move_and_mirror_with_the_face() -> None:
    renderings = faces(5, seed=9)
    batch = next(iter(ActionDraws(faces(0), renderings, 16, 1.0, 4)))
    apart = (batch.places - batch.points).numpy()
    # A mirrored face has its offset to the other side; noise on the points and the turn of the crop are small.
    across, down = np.median(apart, axis=1).T
    assert (np.abs(np.abs(across) - EXACT) < 0.003).all()
    assert (np.abs(down - EXACT) < 0.003).all()
    assert (across > 0).any()
    assert (across < 0).any()


def test_photographs_have_no_exact_points() -> None:
    some = faces(5)
    photographs = ActionFaces(
        some.names,
        some.crops,
        some.points,
        some.actions,
        some.again,
        some.gaze,
        np.full_like(some.places, np.nan),
    )
    batch = next(iter(ActionDraws(photographs, faces(0), 4, 0.5, 4)))
    assert batch.places.isnan().all()
    assert batch.points.isfinite().all()


def test_batches_repeat_and_know_which_truth_is_whose() -> None:
    data = (faces(5), faces(5, seed=9), 32, 0.5, 4)
    first, second = islice(ActionDraws(*data), 2)
    again = next(iter(ActionDraws(*data, step=1)))
    assert all((one == other).all() for one, other in zip(second[:2], again[:2], strict=True))
    assert not (first.crops == second.crops).all()
    rendered = np.isfinite(first.exact.numpy()).all(axis=1)
    assert 0 < rendered.sum() < 32
    taught = np.isfinite(first.taught.numpy())
    assert (taught == (~rendered[:, None] & np.append(TAUGHT, [True, True]))).all()
    assert not TAUGHT[ACTIONS.index("noseSneerLeft")]
