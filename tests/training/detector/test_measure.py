"""Figures of a detector on scenes whose faces are known."""

from __future__ import annotations

import numpy as np
import pytest

from mien.faces.detector_network import NetworkFaces
from mien.training.detector import measure
from mien.training.detector.measure import alarms, figures, match
from mien.training.detector.scenes import Composer, Truth

from .drawn import face_sources, photographs

TRUTH = Truth(
    np.array([[10.0, 10, 30, 40], [50, 10, 70, 40]]),
    np.full((2, 5, 2), 20.0),
    np.array([1, -1]),
    np.array([[80.0, 80, 100, 100]]),
)
SHOWN = [(np.zeros((100, 100, 3), np.uint8), TRUTH)]


def answers(*rows: tuple[float, list[float], float]) -> NetworkFaces:
    scores, boxes, rolls = zip(*rows, strict=True) if rows else ((), np.empty((0, 4)), ())
    return NetworkFaces(np.array(scores), np.array(boxes), np.full((len(rows), 5, 2), 20.0), np.array(rolls))


def test_whoever_knows_everything_is_right() -> None:
    found = answers((0.9, [10, 10, 30, 40], 90), (0.8, [50, 10, 70, 40], 0))
    assert figures(lambda image: found, SHOWN) == pytest.approx(
        {"recall": 1, "precision": 1, "average_precision": 1, "turns": 1, "points": 0}
    )


def test_misses_false_alarms_and_doubtful_answers_are_counted() -> None:
    found = answers(
        (0.9, [10, 10, 30, 40], 0),  # found, but its turn is wrong
        (0.8, [0, 60, 20, 80], 0),  # wrong
        (0.7, [82, 82, 98, 98], 0),  # on an ignored place
        (0.3, [50, 10, 70, 40], 0),  # found, but below the score that counts
    )
    values = figures(lambda image: found, SHOWN)
    assert (values["recall"], values["precision"], values["turns"]) == (0.5, 0.5, 0)
    assert values["average_precision"] == pytest.approx((1 + 2 / 3) / 2)


def test_without_answers_nothing_is_found() -> None:
    values = figures(lambda image: answers(), SHOWN)
    assert (values["recall"], values["precision"], values["average_precision"]) == (0, 1, 0)


def test_each_face_is_matched_once() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]])
    assert match(boxes, np.array([[0.0, 0, 10, 10]])) == [0, -1, -1]
    assert match(boxes, np.empty((0, 4))) == [-1, -1, -1]


def test_false_alarms_are_told_in_the_photograph_s_own_pixels() -> None:
    pictures = photographs(2)

    def find(image: np.ndarray) -> NetworkFaces:
        width = image.shape[1]
        return answers((0.9, [0, 0, width / 2, width / 4], 0), (measure.DOUBT / 2, [0, 0, 5, 5], 0))

    found = alarms(find, pictures)
    assert len(found) == 2 * len(measure.SIDES)
    for number, *box in found:
        width = pictures[int(number)].image.shape[1]
        assert box == pytest.approx([0, 0, width / 2, width / 4], rel=0.01)


def test_the_scenes_to_measure_on_are_the_same_each_time() -> None:
    make = Composer({"drawn": face_sources()}, photographs(), 96)
    first, second = measure.scenes(make, 3), measure.scenes(make, 3)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(first, second, strict=True))
