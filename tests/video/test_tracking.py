"""Faces are detected seldom and followed well, and a face that leaves is missed at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mien.faces.pipeline import Pipeline
from mien.types import Detection
from mien.video.tracking import LONGEST, SHORTEST, Follower

Rgb = Any
RATE = 30


class Counted:
    """A detector that counts its calls, and may be blind to some."""

    def __init__(self, detector: Any, blind_from: int | None = None) -> None:
        self.detector, self.calls, self.blind_from = detector, 0, blind_from

    def __call__(self, image: Rgb) -> list[Detection]:
        self.calls += 1
        if self.blind_from is not None and self.calls > self.blind_from:
            return []
        found: list[Detection] = self.detector(image)
        return found


def with_detector(pipeline: Pipeline, detector: Any) -> Pipeline:
    return Pipeline(detector, pipeline.landmarker, pipeline.recogniser)


def test_between_searches_landmarks_are_as_good_as_detected(
    pipeline: Pipeline, shots: Callable[..., Any]
) -> None:
    follower = Follower(pipeline)
    followed = 0
    for number, rgb in enumerate(shots((["one"], 40))):
        (face,), searched = follower(rgb, number / RATE)
        followed += not searched
        fresh = pipeline(rgb).faces[0]
        apart = np.linalg.norm(np.array(face.landmarks.points) - np.array(fresh.landmarks.points), axis=1)
        assert apart.mean() < 0.03 * fresh.box.width
        assert face.box.x + face.box.width / 2 == pytest.approx(
            fresh.box.x + fresh.box.width / 2, abs=0.1 * fresh.box.width
        )
    assert followed > 30


def test_searches_become_rarer_while_nothing_happens(pipeline: Pipeline, shots: Callable[..., Any]) -> None:
    counted = Counted(pipeline.detector)
    follower = Follower(with_detector(pipeline, counted))
    times = [number / RATE for number in range(120)]
    rgb = shots((["one"], 1))[0]
    searched = [time for time in times if follower(rgb, time)[1]]
    gaps = np.diff(searched)
    assert gaps[0] == pytest.approx(SHORTEST, abs=1.01 / RATE)
    assert gaps[-1] == pytest.approx(LONGEST, abs=1.01 / RATE)
    assert counted.calls == len(searched) <= 8


def test_a_face_that_leaves_is_missed_in_the_same_frame(
    pipeline: Pipeline, shots: Callable[..., Any]
) -> None:
    follower = Follower(pipeline)
    frames = shots((["one"], 10), (["wall"], 10))
    seen = [follower(rgb, number / RATE) for number, rgb in enumerate(frames)]
    assert [len(faces) for faces, _ in seen] == [1] * 10 + [0] * 10
    assert seen[10][1]


def test_a_face_that_appears_alone_is_seen_in_the_same_frame(
    pipeline: Pipeline, shots: Callable[..., Any]
) -> None:
    follower = Follower(pipeline)
    frames = shots((["wall"], 25), (["one"], 5))
    assert [len(follower(rgb, number / RATE)[0]) for number, rgb in enumerate(frames)] == [0] * 25 + [1] * 5


def test_one_who_joins_another_is_seen_after_a_pause(pipeline: Pipeline, shots: Callable[..., Any]) -> None:
    follower = Follower(pipeline)
    frames = shots((["one", "wall"], 60), (["one", "other"], 40))
    counts = [len(follower(rgb, number / RATE)[0]) for number, rgb in enumerate(frames)]
    assert counts[:60] == [1] * 60
    late = counts[60:].index(2)
    assert late / RATE <= LONGEST + 1 / RATE
    assert counts[60 + late :] == [2] * (40 - late)


def test_a_cut_is_searched(pipeline: Pipeline, shots: Callable[..., Any]) -> None:
    follower = Follower(pipeline)
    rgb = shots((["one"], 1))[0]
    assert [follower(rgb, number / RATE, cut=number == 3)[1] for number in range(5)] == [
        True, False, False, True, False,
    ]  # fmt: skip


def test_a_face_that_the_detector_overlooks_is_kept_for_three_searches(
    pipeline: Pipeline, shots: Callable[..., Any]
) -> None:
    follower = Follower(with_detector(pipeline, Counted(pipeline.detector, blind_from=1)))
    rgb = shots((["one"], 1))[0]
    history = [follower(rgb, number / RATE) for number in range(60)]
    searches = [len(faces) for faces, searched in history if searched]
    assert searches[:4] == [1, 1, 1, 1]
    scores = [faces[0].detection.score for faces, searched in history if searched and faces]
    assert scores[1:] == pytest.approx([score / 2 for score in scores[:-1]])
    assert len(history[-1][0]) == 0
