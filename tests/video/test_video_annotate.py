"""Drawing on frames fails on nothing that a video may hold, and films keep odd sizes and uneven times."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mien.errors import ConfigError
from mien.io.video import VideoWriter
from mien.types import Box, Detection, Frame, Landmarks, Pose, Reading, Smoothed, TrackedFace
from mien.video import VideoReader
from mien.video.annotate import draw

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
    film = VideoWriter(tmp_path / f"film{suffix}", 225, 223, 29.97)
    times = [number**2 / 500 for number in range(20)]
    for number, time in enumerate(times):
        film.add(np.full((223, 225, 3), 10 * number, dtype=np.uint8), time)
    assert not film.path.exists()
    film.finish()
    assert not film.part.exists()
    with VideoReader(film.path) as clip:
        assert (clip.width, clip.height) == (224, 222)
        found = list(clip.pictures())
    assert [picture.time for picture in found] == pytest.approx(
        times, abs=6e-4
    )  # Matroska counts milliseconds
    assert [picture.rgb.mean() for picture in found] == pytest.approx(range(0, 200, 10), abs=4)


def test_times_that_do_not_rise_are_made_to(tmp_path: Path) -> None:
    film = VideoWriter(tmp_path / "film.mp4", 64, 64, None)
    for time in (0.0, 0.1, 0.1, 0.05, 0.2):
        film.add(np.zeros((64, 64, 3), dtype=np.uint8), time)
    film.finish()
    with VideoReader(film.path) as clip:
        found = [picture.time for picture in clip.pictures()]
    assert len(found) == 5
    assert np.diff(found).min() > 0


def heard(path: Path, codec: str = "aac", begin: float = 0.0, seconds: float = 2.0) -> Path:
    """A black clip with a white flash and a click, both 0.8 s after it begins at `begin` seconds."""
    import av

    rate = 48000
    with av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        audio = container.add_stream(codec, rate=rate, layout="mono")
        samples = np.zeros(round(rate * seconds), np.float32)
        samples[round(0.8 * rate) : round(0.8 * rate) + 480] = 0.9
        resampler = av.AudioResampler(audio.codec_context.format, "mono", rate)
        for number in range(round(25 * seconds)):
            level = 255 if number == 20 else 0
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), level, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number + round(25 * begin), Fraction(1, 25)
            container.mux(video.encode(frame))
            part = av.AudioFrame.from_ndarray(
                samples[None, number * rate // 25 : (number + 1) * rate // 25], format="flt", layout="mono"
            )
            part.sample_rate, part.time_base = rate, Fraction(1, rate)
            part.pts = number * rate // 25 + round(begin * rate)
            for piece in resampler.resample(part):
                container.mux(audio.encode(piece))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return path


def flash_and_click(path: Path) -> tuple[float, float]:
    """Seconds at which the flash is seen and the click heard, from where a player begins."""
    import av

    with av.open(str(path)) as container:
        start = (container.start_time or 0) / 1e6
        seen = [
            float(frame.time)
            for frame in container.decode(video=0)
            if frame.to_ndarray(format="gray").mean() > 128
        ]
        container.seek(0)
        sounds = []
        for frame in container.decode(audio=0):
            loud = np.abs(frame.to_ndarray().astype(float)).reshape(-1)
            top = loud.max(initial=0)
            sounds.append((top, float(frame.time) + int(loud.argmax()) / frame.sample_rate))
    return seen[0] - start, max(sounds)[1] - start


def copied(source: Path, target: Path, **how: bool) -> VideoWriter:
    with VideoReader(source) as clip:
        film = VideoWriter(target, clip.width, clip.height, clip.rate, clip, **how)
        for picture in clip.pictures():
            film.add(picture.rgb, picture.time)
        film.finish()
    return film


@pytest.mark.parametrize("begin", [0.0, 5.0])
@pytest.mark.parametrize(
    ("source", "codec", "target"),
    [
        ("a.mp4", "aac", "b.mp4"),
        ("a.mkv", "libopus", "b.mp4"),
        ("a.mkv", "flac", "b.mkv"),
        ("a.mp4", "aac", "b.mov"),
    ],
)
def test_sound_is_copied_in_time(begin: float, source: str, codec: str, target: str, tmp_path: Path) -> None:
    path = heard(tmp_path / source, codec, begin)
    before = flash_and_click(path)
    assert before[1] - before[0] == pytest.approx(0, abs=0.06)
    film = copied(path, tmp_path / target)
    assert film.notes == []
    after = flash_and_click(film.path)
    assert after[1] - after[0] == pytest.approx(before[1] - before[0], abs=0.03)
    assert after[0] == pytest.approx(0.8, abs=0.06)


def test_sound_that_the_format_cannot_hold_is_left_out_and_it_is_said(tmp_path: Path) -> None:
    path = heard(tmp_path / "a.mkv", "wavpack")
    film = copied(path, tmp_path / "b.mp4")
    assert len(film.notes) == 1
    assert "wavpack" in film.notes[0]
    assert copied(path, tmp_path / "c.mkv").notes == []
    import av

    for name, count in (("b.mp4", 0), ("c.mkv", 1)):
        with av.open(str(tmp_path / name)) as container:
            assert len(container.streams.audio) == count
    copied(path, tmp_path / "d.mkv", sound=False)
    with av.open(str(tmp_path / "d.mkv")) as container:
        assert not container.streams.audio


def test_a_film_that_is_dropped_leaves_nothing(tmp_path: Path) -> None:
    film = VideoWriter(tmp_path / "film.mp4", 64, 64, 25.0)
    film.add(np.zeros((64, 64, 3), dtype=np.uint8), 0.0)
    film.drop()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match=r"\.avi"):
        VideoWriter(tmp_path / "film.avi", 64, 64, 25.0)
