"""People keep their numbers: while they move, behind something, over a cut, and wherever they stand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mien.faces.pipeline import Pipeline
from mien.types import Frame
from mien.video import Analyser
from mien.video import identities as module
from mien.video.appearance import look
from mien.video.identities import Persons
from mien.video.shot_detection import Shots

Rgb = Any
RATE = 15


def run(pipeline: Pipeline, frames: list[Rgb]) -> list[Frame]:
    analyser = Analyser(pipeline, "clip")
    return [analyser(rgb, number, number / RATE) for number, rgb in enumerate(frames)]


def numbers(frame: Frame) -> list[int]:
    """Persons from left to right."""
    return [face.person for face in sorted(frame.faces, key=lambda face: face.box.x)]


def test_two_people_keep_their_numbers_while_they_move(pipeline: Pipeline, shots: Callable[..., Any]) -> None:
    found = run(pipeline, shots((["one", "other"], 30)))
    assert {tuple(numbers(frame)) for frame in found} in ({(0, 1)}, {(1, 0)})
    assert {frame.shot for frame in found} == {0}


@pytest.mark.parametrize("hidden", [8, 45])  # shorter and longer than the tracker remembers
def test_one_who_was_hidden_is_the_same_person(
    hidden: int, pipeline: Pipeline, shots: Callable[..., Any]
) -> None:
    frames = shots((["one", "other"], 20 + hidden + 15))
    for rgb in frames[20 : 20 + hidden]:
        rgb[20:, 224:] = 90
    found = run(pipeline, frames)
    assert len(found[21].faces) == 1
    assert numbers(found[-1]) == numbers(found[10])
    assert len({face.person for frame in found for face in frame.faces}) == 2


def test_after_a_cut_looks_decide_not_places(pipeline: Pipeline, shots: Callable[..., Any]) -> None:
    found = run(pipeline, shots((["one", "other"], 20), (["wall"], 20), (["other", "one"], 20)))
    before, after = numbers(found[19]), numbers(found[-1])
    assert after == before[::-1]
    assert [frame.shot for frame in found] == [0] * 20 + [1] * 20 + [2] * 20


def test_people_in_alternating_shots(pipeline: Pipeline, shots: Callable[..., Any]) -> None:
    found = run(pipeline, shots((["one"], 12), (["other"], 12), (["one"], 12), (["other"], 12)))
    assert [numbers(found[at]) for at in (0, 11, 12, 23, 24, 35, 36, 47)] == [
        [0], [0], [1], [1], [0], [0], [1], [1],
    ]  # fmt: skip


def test_a_look_knows_a_face_at_any_size_and_light_from_another(
    pipeline: Pipeline, portraits: dict[str, Rgb]
) -> None:
    import cv2

    def seen(rgb: Rgb) -> Any:
        return look(rgb, pipeline(rgb).faces[0].landmarks)

    one, other = seen(portraits["one"]), seen(portraits["other"])
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    small = cv2.resize(portraits["one"], (150, 150), interpolation=cv2.INTER_AREA)
    darker = (portraits["one"] * 0.75).astype(np.uint8)
    assert min(one @ seen(small), one @ seen(darker)) > module.SAME > one @ other


def test_albums_are_bounded(
    monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline, portraits: dict[str, Rgb]
) -> None:
    """A thousand strangers leave no more than the albums of `_PEOPLE`, and every one gets a number of their own."""
    face = pipeline(portraits["one"]).faces[0]
    strangers = iter(np.eye(1000, dtype=np.float32))

    def stranger(rgb: Rgb, landmarks: Any) -> Any:
        return next(strangers)

    monkeypatch.setattr(module, "look", stranger)
    people = Persons()
    given = [people(portraits["one"], [face], 5.0 * step, shot=step)[0] for step in range(1000)]
    assert len(people._people) <= module._PEOPLE
    assert given == list(range(1000))


def test_a_flash_of_noise_is_no_cut_and_another_scene_is(shots: Callable[..., Any]) -> None:
    frames = shots((["one"], 10), (["other"], 10))
    noise = np.random.default_rng(0).integers(-25, 26, frames[0].shape)
    frames[5] = (frames[5] + noise).clip(0, 255).astype(np.uint8)
    seen = Shots()
    assert [seen(rgb) for rgb in frames] == [False] * 10 + [True] + [False] * 9
    assert seen.number == 1
