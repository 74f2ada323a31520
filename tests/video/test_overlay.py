"""Drawing on frames fails on nothing that a video may hold, and films keep odd sizes and uneven times."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien.errors import ConfigError
from mien.types import Box, Detection, Frame, Landmarks, Pose, Reading, Smoothed, TrackedFace
from mien.video import Clip
from mien.video.overlay import Film, draw

SHARES = {"happiness": 0.7, "neutral": 0.3}
FACE = TrackedFace(
    Detection(Box(0, 0, 1, 1), 0.9),
    Landmarks((), 1.0),
    Pose(0, 0, 0),
    Reading(SHARES, 0.0, 0.0, 0.7, False),
    0.5,
    0,
    Smoothed(SHARES, 0.5, -0.5),
)


def test_faces_may_lie_anywhere_in_pictures_of_any_size() -> None:
    draws = np.random.default_rng(0)
    for _ in range(300):
        height, width = draws.integers(2, 300, 2)
        rgb = draws.integers(0, 256, (height, width, 3), dtype=np.uint8)
        before = rgb.copy()
        faces = []
        for _ in range(draws.integers(1, 4)):
            left, top = draws.uniform(-1.5, 1.5, 2) * (width, height)
            wide, high = draws.uniform(0.5, 2 * max(width, height), 2)
            faces.append(replace(FACE, detection=Detection(Box(left, top, wide, high), 0.9)))
        marked = draw(rgb, Frame("a", int(width), int(height), tuple(faces)))
        assert marked.shape == rgb.shape
        assert np.array_equal(rgb, before)


def test_the_label_says_who_and_what_and_the_dial_where() -> None:
    face = replace(FACE, detection=Detection(Box(100, 80, 120, 150), 0.9))
    rgb = np.full((360, 640, 3), 128, dtype=np.uint8)

    def marked(smoothed: Smoothed, person: int = 0) -> np.ndarray:
        frame = Frame("a", 640, 360, (replace(face, smoothed=smoothed, person=person),))
        return draw(rgb, frame).astype(int)

    plain = marked(face.smoothed)
    assert (plain != 128).any()
    other = np.abs(marked(face.smoothed, person=5) - plain).sum(axis=2)
    assert other[:80].any()  # the number is above the face
    assert not other[80:].any()
    up = np.argwhere(np.abs(marked(replace(face.smoothed, arousal=0.9)) - plain).sum(axis=2))
    assert up[:, 1].min() > 220  # the dial is beside it


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_film_keeps_times_and_cuts_odd_sizes_to_even(suffix: str, tmp_path: Path) -> None:
    film = Film(tmp_path / f"film{suffix}", 225, 223, 29.97)
    times = [number**2 / 500 for number in range(20)]
    for number, time in enumerate(times):
        film.add(np.full((223, 225, 3), 10 * number, dtype=np.uint8), time)
    assert not film.path.exists()
    film.finish()
    assert not film.part.exists()
    with Clip(film.path) as clip:
        assert (clip.width, clip.height) == (224, 222)
        found = list(clip.pictures())
    assert [picture.time for picture in found] == pytest.approx(
        times, abs=6e-4
    )  # Matroska counts milliseconds
    assert [picture.rgb.mean() for picture in found] == pytest.approx(range(0, 200, 10), abs=4)


def test_times_that_do_not_rise_are_made_to(tmp_path: Path) -> None:
    film = Film(tmp_path / "film.mp4", 64, 64, None)
    for time in (0.0, 0.1, 0.1, 0.05, 0.2):
        film.add(np.zeros((64, 64, 3), dtype=np.uint8), time)
    film.finish()
    with Clip(film.path) as clip:
        found = [picture.time for picture in clip.pictures()]
    assert len(found) == 5
    assert np.diff(found).min() > 0


def test_a_film_that_is_dropped_leaves_nothing(tmp_path: Path) -> None:
    film = Film(tmp_path / "film.mp4", 64, 64, 25.0)
    film.add(np.zeros((64, 64, 3), dtype=np.uint8), 0.0)
    film.drop()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match=r"\.avi"):
        Film(tmp_path / "film.avi", 64, 64, 25.0)
