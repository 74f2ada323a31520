"""The detector's input and output: padding, decoding, and one answer for each face."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mien.faces.detector_network import CHANNELS, GREY, STRIDES, decode, padded


def empty_maps(side: int = 64) -> list[np.ndarray]:
    """Maps without a face."""
    maps = [np.zeros((CHANNELS, side // stride, side // stride), np.float32) for stride in STRIDES]
    for values in maps:
        values[0] = -9
    return maps


def answer(maps: list[np.ndarray], level: int, row: int, column: int, score: float, roll: int = 0) -> None:
    """A face of one stride to the left, two to the right, one up and three down, its nose at the cell's centre."""
    cell = maps[level][:, row, column]
    cell[0] = math.log(score / (1 - score))
    cell[1:5] = np.log([1, 1, 2, 3])
    cell[5:15] = [-0.5, -0.5, 0.5, -0.5, 0, 0, -0.5, 0.5, 0.5, 0.5]
    cell[15 + roll] = 4


@pytest.mark.parametrize(
    ("shape", "expected"), [((64, 96), (64, 96)), ((65, 33), (96, 64)), ((1, 1), (64, 64))]
)
def test_pictures_are_padded_with_grey_at_the_right_and_the_bottom(
    shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    image = np.full((*shape, 3), 7, np.uint8)
    whole = padded(image)
    assert whole.shape == (1, *expected, 3)
    assert (whole[0, : shape[0], : shape[1]] == 7).all()
    assert (whole[0, shape[0] :] == GREY).all()
    assert (whole[0, :, shape[1] :] == GREY).all()


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_cell_s_answer_is_counted_from_its_centre_in_strides(level: int) -> None:
    maps, stride = empty_maps(128), STRIDES[level]
    answer(maps, level, row=1, column=2, score=0.8, roll=3)
    found = decode(maps, 0.5)
    x, y = 2.5 * stride, 1.5 * stride
    assert found.scores == pytest.approx([0.8])
    assert found.boxes[0] == pytest.approx([x - stride, y - stride, x + 2 * stride, y + 3 * stride])
    assert found.points[0, 2] == pytest.approx([x, y])
    assert found.points[0, 1] == pytest.approx([x + stride / 2, y - stride / 2])
    assert found.rolls.tolist() == [270]


def test_low_scores_are_left_out_and_the_best_of_a_face_stays() -> None:
    maps = empty_maps(128)
    for column, score in ((2, 0.6), (3, 0.9), (10, 0.7), (14, 0.2)):
        answer(maps, 0, row=5, column=column, score=score, roll=1 if score == 0.9 else 0)
    found = decode(maps, 0.3)
    assert found.scores == pytest.approx([0.9, 0.7])
    assert found.rolls.tolist() == [90, 0]
    assert len(decode(maps, 0.95).scores) == 0
    assert decode(maps, 0.95).boxes.shape == (0, 4)
    assert len(decode(maps, 0.1).scores) == 3


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_the_ends_of_the_scale_are_thresholds_too(threshold: float) -> None:
    found = decode(empty_maps(), threshold)
    assert (len(found.scores) > 0) == (threshold == 0)
