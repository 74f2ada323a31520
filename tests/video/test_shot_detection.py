"""Cuts of made clips: dark, bright and of one colour; and what is none: flashes, fades, pans and a shaken camera."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest

from mien.faces.pipeline import Pipeline
from mien.video import Analyser
from mien.video.shot_detection import Shots

Rgb = Any
WIDTH, HEIGHT = 320, 180


class Scene:
    """A patterned wall of its own before a camera that drifts a little; `at` gives the frame at a time."""

    def __init__(self, draws: np.random.Generator, hue: Any = None) -> None:
        self.draws = draws
        large = np.zeros((400, 700, 1))
        for size, strength in ((6, 50), (18, 40), (60, 25)):
            pattern = draws.normal(size=(size, round(1.75 * size)))
            large[..., 0] += strength * cv2.resize(pattern, (700, 400), interpolation=cv2.INTER_CUBIC)
        self.large = (large + (draws.uniform(70, 180, 3) if hue is None else hue)).clip(0, 255)

    def at(self, x: float = 0, y: float = 0, turn: float = 0, gain: float = 1, add: float = 0) -> Rgb:
        matrix = cv2.getRotationMatrix2D((350, 200), turn, 1)
        matrix[:, 2] -= [190 + x, 110 + y]
        frame = cv2.warpAffine(self.large, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
        noise = self.draws.normal(0, 2, frame.shape)
        return (frame * gain + add + noise).clip(0, 255).astype(np.uint8)


Clip = tuple[list[Rgb], set[int]]


def cuts(draws: np.random.Generator, gain: float = 1.0, hue: Any = None) -> Clip:
    frames: list[Rgb] = []
    at = set()
    for _ in range(4):
        scene = Scene(draws, hue)
        at.add(len(frames))
        frames += [scene.at(0.5 * step, gain=gain) for step in range(8)]
    return frames, at - {0}


def whole(draws: np.random.Generator, middle: Callable[[Scene], list[Rgb]]) -> Clip:
    scene = Scene(draws)
    still = [scene.at() for _ in range(5)]
    return still + middle(scene), set()


def clips(seed: int) -> Iterator[tuple[str, Clip]]:
    draws = np.random.default_rng(seed)
    yield "bright", cuts(draws)
    yield "dark", cuts(draws, gain=draws.uniform(0.08, 0.25))
    yield "similar", cuts(draws, hue=draws.uniform(70, 180, 3))
    strength = draws.uniform(50, 255)
    yield "flash", whole(draws, lambda s: [s.at(add=strength), s.at(add=0.6 * strength), s.at(), s.at()])
    levels = np.r_[np.linspace(1, 0, 9), 0, 0, 0, np.linspace(0, 1, 9)]
    yield "fade to black", whole(draws, lambda s: [s.at(gain=a) for a in levels])
    yield "fade to white", whole(draws, lambda s: [s.at(gain=a, add=255 * (1 - a)) for a in levels])
    speed = draws.uniform(10, 70) * draws.choice([-1, 1])
    path = np.cumsum(np.r_[0.3, 0.7, np.ones(4), 0.7, 0.3])
    yield "pan", whole(draws, lambda s: [s.at(speed * far - 2 * speed) for far in path[2:]])
    hand = draws.normal(size=(10, 3)) * [14, 8, 1.5]
    yield "shake", whole(draws, lambda s: [s.at(x, y, turn) for x, y, turn in hand])


def test_cuts_are_found_and_nothing_else_is() -> None:
    right = wrong = missed = 0
    by_kind: dict[str, int] = {}
    for seed in range(5):
        for kind, (frames, wanted) in clips(seed):
            seen = Shots()
            found = {number for number, rgb in enumerate(frames) if seen(rgb)}
            right, wrong, missed = (
                right + len(found & wanted),
                wrong + len(found - wanted),
                missed + len(wanted - found),
            )
            by_kind[kind] = by_kind.get(kind, 0) + len(found ^ wanted)
    assert 2 * right / (2 * right + wrong + missed) >= 0.95, by_kind


@pytest.mark.parametrize("between", ["mixed", "broken", "black", "two black"])
def test_a_cut_that_takes_a_frame_is_one(between: str) -> None:
    draws = np.random.default_rng(3)
    one, other = Scene(draws), Scene(draws)
    mixed = (one.at() // 2 + other.at() // 2).astype(np.uint8)
    broken = draws.integers(0, 256, mixed.shape).astype(np.uint8)
    black = np.zeros_like(mixed)
    middle = {"mixed": [mixed], "broken": [broken], "black": [black], "two black": [black, black]}[between]
    seen = Shots()
    for rgb in [*(one.at() for _ in range(6)), *middle, *(other.at() for _ in range(6))]:
        seen(rgb)
    assert seen.number == 1


def test_a_person_ends_at_a_cut_in_the_dark(pipeline: Pipeline, shots: Callable[..., Any]) -> None:
    frames = [(0.25 * rgb).astype(np.uint8) for rgb in shots((["one"], 15), (["other"], 15))]
    analyser = Analyser(pipeline, "clip")
    found = [analyser(rgb, number, number / 15) for number, rgb in enumerate(frames)]
    assert [frame.shot for frame in found] == [0] * 15 + [1] * 15
    before = {face.person for frame in found[:15] for face in frame.faces}
    after = {face.person for frame in found[15:] for face in frame.faces}
    assert before
    assert after
    assert not before & after


def test_a_person_ends_where_another_face_comes_out_of_the_dark(
    pipeline: Pipeline, shots: Callable[..., Any]
) -> None:
    """A fade is no cut, and yet who is seen after it is not who was seen before."""
    frames = shots((["one"], 20), (["other"], 20))
    levels = np.r_[np.ones(14), np.linspace(1, 0, 6), np.linspace(0, 1, 6), np.ones(14)]
    analyser = Analyser(pipeline, "clip")
    found = [
        analyser((rgb * level).astype(np.uint8), number, number / 30)
        for number, (rgb, level) in enumerate(zip(frames, levels, strict=True))
    ]
    assert found[-1].shot == 0
    assert not {face.person for face in found[5].faces} & {face.person for face in found[-1].faces}
