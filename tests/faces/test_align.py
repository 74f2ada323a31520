"""The similarity warp: exact against linear algebra, invertible, without aliasing, and harmless when pasted back."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.faces import align
from mien.faces.align import TEMPLATE, DegenerateFace
from mien.landmarks import LEFT_EYE_CORNERS, NOSE_BOTTOM, RIGHT_EYE_CORNERS


def faces(count: int, seed: int = 0, noise: float = 0.0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Anchors [n, 3, 2] of random similarities of the template, and the matrices [n, 2, 3] that bring them back."""
    random = np.random.default_rng(seed)
    scale, angle = random.uniform(30, 300, count), random.uniform(-np.pi, np.pi, count)
    shift = random.uniform(-100, 500, (count, 2))
    turn = np.stack(
        [np.stack([np.cos(angle), -np.sin(angle)], 1), np.stack([np.sin(angle), np.cos(angle)], 1)], 1
    )
    anchors = np.einsum("nij,kj->nki", scale[:, None, None] * turn, TEMPLATE) + shift[:, None]
    back = np.concatenate([turn.transpose(0, 2, 1) / scale[:, None, None], np.zeros((count, 2, 1))], axis=2)
    back[:, :, 2] = -np.einsum("nij,nj->ni", back[:, :, :2], shift)
    return anchors + random.normal(0, noise, anchors.shape), back


def least_squares(anchors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The oracle: the four unknowns of a similarity by `numpy.linalg.lstsq`."""
    rows, goals = [], []
    for (x, y), (u, v) in zip(anchors, TEMPLATE, strict=True):
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        goals += [u, v]
    a, b, c, d = np.linalg.lstsq(np.array(rows), np.array(goals), rcond=None)[0]
    return np.array([[a, -b, c], [b, a, d]])


def test_exact_anchors_are_brought_exactly_into_place() -> None:
    anchors, back = faces(50)
    assert np.allclose(align.fit(anchors), back, atol=1e-12)


def test_noisy_anchors_agree_with_least_squares() -> None:
    anchors, _ = faces(50, seed=1, noise=4.0)
    assert np.allclose(align.fit(anchors), [least_squares(each) for each in anchors], atol=1e-9)


def test_a_face_does_not_depend_on_its_neighbours() -> None:
    anchors, _ = faces(8, seed=2, noise=2.0)
    together = align.fit(anchors)
    assert np.array_equal(together, np.concatenate([align.fit(each[None]) for each in anchors]))
    assert align.fit(anchors[:0]).shape == (0, 2, 3)


def test_fits_are_similarities_without_reflection() -> None:
    anchors, _ = faces(50, seed=3, noise=5.0)
    for matrix in align.fit(anchors):
        linear = matrix[:, :2] / align.scale_of(matrix)
        assert np.allclose(linear @ linear.T, np.eye(2))
        assert np.linalg.det(linear) == pytest.approx(1)


@pytest.mark.parametrize(
    "broken",
    [
        np.full((3, 2), 7.0),
        np.array([[0, 0], [np.nan, 0], [1, 1]]),
        np.array([[np.inf, 0], [1, 0], [1, 1]]),
        TEMPLATE[[1, 0, 2]] * 100,  # eyes swapped
        TEMPLATE * [-100, 100],  # mirrored
    ],
)
def test_degenerate_anchors_name_the_face(broken: NDArray[np.float64]) -> None:
    anchors, _ = faces(3)
    anchors[1] = broken
    with pytest.raises(DegenerateFace, match="face 1"):
        align.fit(anchors)


def test_anchors_of_another_shape_are_refused() -> None:
    with pytest.raises(DegenerateFace, match=r"\[n, 3, 2\]"):
        align.fit(TEMPLATE)


def test_strong_profiles_are_still_fitted() -> None:
    """Eyes at a fifth of their usual distance, as in a head turned by 78 degrees."""
    profile = TEMPLATE * 100
    profile[:2, 0] = 50 + (profile[:2, 0] - 50) / 5
    assert align.scale_of(align.fit(profile[None])[0]) > 0


def test_anchors_are_eye_centres_and_nose_base() -> None:
    points = np.full((112, 2), 99.0)
    points[list(RIGHT_EYE_CORNERS)] = [0, 0], [10, 2]
    points[list(LEFT_EYE_CORNERS)] = [30, 2], [40, 0]
    points[NOSE_BOTTOM] = 20, 25
    assert align.face_anchors(points).tolist() == [[5, 1], [35, 1], [20, 25]]
    assert align.face_anchors(np.stack([points] * 4)).shape == (4, 3, 2)


def test_one_face_is_aligned_by_its_points() -> None:
    points = np.full((112, 2), np.nan)
    points[list(RIGHT_EYE_CORNERS)] = 200 * TEMPLATE[0]
    points[list(LEFT_EYE_CORNERS)] = 200 * TEMPLATE[1]
    points[NOSE_BOTTOM] = 200 * TEMPLATE[2]
    np.testing.assert_allclose(align.face_matrix(points), [[1 / 200, 0, 0], [0, 1 / 200, 0]], atol=1e-12)
    with pytest.raises(DegenerateFace):
        align.face_matrix(np.zeros((112, 2)))


def test_inverse_undoes() -> None:
    anchors, _ = faces(1)
    matrix = align.fit(anchors)[0]
    points = np.random.default_rng(0).uniform(0, 500, (5, 7, 2))
    assert np.allclose(align.apply(align.invert(matrix), align.apply(matrix, points)), points)
    assert np.allclose(align.apply(matrix, anchors[0]), TEMPLATE)
    with pytest.raises(DegenerateFace):
        align.invert(np.zeros((2, 3)))


def square(x: float, y: float, side: float) -> NDArray[np.float64]:
    """The matrix of an upright crop whose top left *pixel centre* is (x, y) and whose side is `side` pixels."""
    return np.array([[1, 0, 0.5 - x], [0, 1, 0.5 - y]]) / side


@pytest.fixture
def photo() -> NDArray[np.uint8]:
    random = np.random.default_rng(0)
    return cv2.GaussianBlur(random.integers(0, 256, (300, 400, 3), dtype=np.uint8), (0, 0), 2)


def test_rounding_moves_no_pixel_of_a_crop_by_more_than_a_fifth() -> None:
    anchors, _ = faces(300, seed=3)
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0.5]])
    for matrix in align.fit(anchors):
        spots = align.apply(align.invert(matrix), corners)
        moved = align.apply(align.settled(matrix, 80), spots) - corners
        assert 80 * np.linalg.norm(moved, axis=1).max() < 0.2


def test_a_crop_does_not_depend_on_the_last_digits_of_points() -> None:
    """Points that differ as between two processors give the same matrix, but for one face in hundreds."""
    anchors, _ = faces(1000, seed=4)
    noise = np.random.default_rng(5).normal(0, 1e-6, anchors.shape)
    first, second = (
        np.array([align.settled(matrix, 80) for matrix in align.fit(given)])
        for given in (anchors, anchors + noise)
    )
    assert np.all(align.fit(anchors) != align.fit(anchors + noise), axis=(1, 2)).mean() > 0.9
    assert (first != second).any(axis=(1, 2)).mean() < 0.01


def test_rounding_twice_is_rounding_once() -> None:
    anchors, _ = faces(50, seed=6)
    for matrix in align.fit(anchors):
        once = align.settled(matrix, 80)
        assert align.settled(once, 80) == pytest.approx(once, rel=1e-9, abs=1e-9)


def test_an_upright_crop_at_full_scale_is_a_copy(photo: NDArray[np.uint8]) -> None:
    assert np.array_equal(align.crop(photo, square(70, 40, 64), 64), photo[40:104, 70:134])


@pytest.mark.parametrize("factor", [2, 3, 4, 5])
def test_shrinking_averages_whole_blocks(photo: NDArray[np.uint8], factor: int) -> None:
    size = 32
    out = align.crop(photo, square(20, 30, size * factor), size)
    area = photo[30 : 30 + size * factor, 20 : 20 + size * factor].reshape(size, factor, size, factor, 3)
    assert np.abs(out - area.mean(axis=(1, 3))).max() < 3


def test_fine_stripes_become_grey_not_moire() -> None:
    """Bilinear sampling alone would show coarse bands of black and white."""
    stripes = np.zeros((800, 800, 3), np.uint8)
    stripes[:, ::2] = 255
    for side in (193, 287, 401, 711):
        plain = cv2.warpAffine(stripes, align.to_pixels(square(10, 10, side), 64), (64, 64))
        assert align.crop(stripes, square(10, 10, side), 64).std() < 0.75 * plain.std()


def test_mean_colour_survives_any_shrinking(photo: NDArray[np.uint8]) -> None:
    for side in (64, 100, 150, 250, 290):
        out = align.crop(photo, square(5, 5, side), 48)
        assert out.mean() == pytest.approx(photo[5 : 5 + side, 5 : 5 + side].mean(), abs=1)


def test_the_border_is_repeated_outside(photo: NDArray[np.uint8]) -> None:
    out = align.crop(photo, square(-30, 0, 40), 40)
    assert np.array_equal(out[:, :30], np.repeat(photo[:40, :1], 30, axis=1))
    far = align.crop(photo, square(-5000, -5000, 40), 40)
    assert np.array_equal(far, np.broadcast_to(photo[0, 0], (40, 40, 3)))


def test_a_grey_crop_is_luma(photo: NDArray[np.uint8]) -> None:
    for matrix in align.fit(faces(5, seed=4)[0]):
        grey = align.crop(photo, matrix, 48, grey=True)
        assert grey.shape == (48, 48)
        assert np.abs(grey - align.crop(photo, matrix, 48) @ [0.299, 0.587, 0.114]).max() <= 1


def test_the_size_of_a_crop_does_not_move_the_face(photo: NDArray[np.uint8]) -> None:
    matrix = align.fit(faces(1, seed=5)[0] * 0 + TEMPLATE * 120 + [100, 60])[0]
    large = align.crop(photo, matrix, 96)
    small = align.crop(photo, matrix, 48)
    assert np.abs(cv2.resize(large, (48, 48), interpolation=cv2.INTER_AREA).astype(int) - small).mean() < 3


def test_a_mirrored_face_gives_the_mirrored_crop(photo: NDArray[np.uint8]) -> None:
    anchors = TEMPLATE * 110 + [120, 70] + np.array([[2, 1], [-1, 3], [0, 2]])
    mirrored = anchors[[1, 0, 2]] * [-1, 1] + [photo.shape[1] - 1, 0]
    one = align.crop(photo, align.fit(anchors[None])[0], 64)
    other = align.crop(np.ascontiguousarray(photo[:, ::-1]), align.fit(mirrored[None])[0], 64)
    assert np.abs(one.astype(int) - other[:, ::-1]).max() <= 4


def test_pictures_wider_than_opencv_warps_are_cropped(photo: NDArray[np.uint8]) -> None:
    wide = np.zeros((60, 40_000, 3), np.uint8)
    wide[:, 39_900:] = photo[:60, :100]
    assert np.array_equal(align.crop(wide, square(39_910, 10, 32), 32), photo[10:42, 10:42])
    assert align.crop(wide, square(90_000, 10, 32), 32).shape == (32, 32, 3)


def test_a_feather_is_one_inside_and_zero_at_the_rim() -> None:
    mask = align.feather(64)
    assert mask[20:44, 20:44].min() == 1
    assert mask[0].max() == mask[:, -1].max() == 0
    assert np.allclose(mask, mask[::-1]) and np.allclose(mask, mask.T)  # noqa: PT018
    assert np.abs(np.diff(mask[32])).max() < 0.2


def test_cropping_costs_about_what_the_bare_warp_costs(photo: NDArray[np.uint8]) -> None:
    """A ratio, not a time: at face size 1:1 the function adds little to OpenCV's own call."""
    matrix = square(50.3, 40.7, 100)
    bare = align.to_pixels(matrix, 80)

    def best(call: object) -> float:
        times = []
        for _ in range(50):
            start = time.perf_counter()
            for _ in range(10):
                call()  # type: ignore[operator]
            times.append(time.perf_counter() - start)
        return min(times)

    ours = best(lambda: align.crop(photo, matrix, 80))
    theirs = best(lambda: cv2.warpAffine(photo, bare, (80, 80), borderMode=cv2.BORDER_REPLICATE))
    assert ours < 4 * theirs
