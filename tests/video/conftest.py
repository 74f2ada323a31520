"""Miniature clips, made of the bundled photographs while the tests run."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mien.faces.pipeline import Pipeline, load
from mien.io import images

pytest.importorskip("av", reason="needs the extra 'video'")
pytest.importorskip("edgefirst.tracker", reason="needs the extra 'video'")

Rgb = NDArray[np.uint8]
SIDE = 224


@pytest.fixture(scope="session")
def pipeline(recogniser_file: Path) -> Pipeline:
    return load(weights=recogniser_file, threads=1)


@pytest.fixture(scope="session")
def portraits(examples: Path) -> dict[str, Rgb]:
    """Two people and a wall, RGB [SIDE, SIDE, 3]."""

    def square(name: str) -> Rgb:
        picture = cv2.resize(images.read(examples / name), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        return np.asarray(picture, dtype=np.uint8)

    wall = np.full((SIDE, SIDE, 3), (70, 90, 60), dtype=np.uint8)
    return {"one": square("astronaut.png"), "other": square("portrait_neutral.jpg"), "wall": wall}


def moved(picture: Rgb, step: int) -> Rgb:
    """The picture as a hand-held camera sees it: shifted a little, further with each step."""
    swing = 6 * np.sin(step / 9), 3 * np.cos(step / 7)
    matrix = np.array([[1, 0, swing[0]], [0, 1, swing[1]]], dtype=np.float64)
    return np.asarray(
        cv2.warpAffine(picture, matrix, picture.shape[1::-1], borderMode=cv2.BORDER_REPLICATE), dtype=np.uint8
    )


@pytest.fixture(scope="session")
def shots(portraits: dict[str, Rgb]) -> Callable[..., list[Rgb]]:
    """Frames of shots, each given by the names of who is side by side in it and its number of frames."""

    def make(*parts: tuple[Sequence[str], int]) -> list[Rgb]:
        frames: list[Rgb] = []
        for names, count in parts:
            scene = np.concatenate([portraits[name] for name in names], axis=1)
            frames += [moved(scene, len(frames) + step) for step in range(count)]
        return frames

    return make


@pytest.fixture(scope="session")
def write_clip() -> Callable[..., Path]:
    """Writes frames as a video by PyAV alone, at given times in milliseconds (else 30 a second)."""

    def write(
        path: Path,
        frames: Sequence[Rgb],
        times: Sequence[int] | None = None,
        turned: int | tuple[int, int, int, int] = 0,
        **options: Any,
    ) -> Path:
        import av

        with av.open(str(path), "w", options=options) as container:
            stream: Any = container.add_stream("mpeg4", rate=30, options={"g": "12"})
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt, stream.bit_rate = "yuv420p", 6_000_000
            stream.codec_context.time_base = Fraction(1, 1000)
            for number, rgb in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
                frame.pts = times[number] if times is not None else round(number * 1000 / 30)
                frame.time_base = Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        if turned:
            _turn(path, turned)
        return path

    return write


def _turn(path: Path, how: int | tuple[int, int, int, int]) -> None:
    """Have players turn an MP4 clockwise by degrees, or by a matrix a, b, c, d, as telephones do: by its track header
    (ISO 14496-12)."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 44
    if isinstance(how, int):
        cosine, sine = round(np.cos(np.radians(how))), round(np.sin(np.radians(how)))
        how = cosine, sine, -sine, cosine
    a, b, c, d = (value << 16 for value in how)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory, shots: Any, write_clip: Any) -> Path:
    """Four shots at a rate that varies: one person, another, a wall, and the first again."""
    frames = shots((["one"], 40), (["other"], 30), (["wall"], 20), (["one"], 40))
    times = np.cumsum([0, *([15, 50] * (len(frames) // 2))])[: len(frames)]
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames, [int(time) for time in times])
