"""Frames come upright, complete and with the times that the file states; what is no sound video is said in one line."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.errors import DatasetDamaged, ExtraMissing
from mien.io.video import Colour, Frames, VideoWriter
from mien.video import VideoError, VideoReader


@pytest.fixture
def frames(shots: Callable[..., Any]) -> list[Any]:
    return [rgb[:, 20:-20] for rgb in shots((["one"], 40))]


def test_every_frame_comes_with_its_own_time(
    tmp_path: Path, frames: list[Any], write_clip: Callable[..., Path]
) -> None:
    times = np.cumsum([0, *([10, 90, 35] * 13)])
    with VideoReader(write_clip(tmp_path / "a.mp4", frames, times.tolist())) as clip:
        assert (clip.width, clip.height, clip.frames) == (184, 224, 40)
        found = list(clip.pictures())
    assert [picture.number for picture in found] == list(range(40))
    assert [picture.time for picture in found] == pytest.approx(times / 1000, abs=1e-4)
    errors = [np.abs(a.rgb.astype(int) - b).mean() for a, b in zip(found, frames, strict=True)]
    assert max(errors) < 8  # the codec's


def test_every_third(tmp_path: Path, frames: list[Any], write_clip: Callable[..., Path]) -> None:
    with VideoReader(write_clip(tmp_path / "a.mp4", frames)) as clip:
        found = list(clip.pictures(3))
    assert [picture.number for picture in found] == list(range(0, 40, 3))
    assert [picture.time for picture in found] == pytest.approx([n / 30 for n in range(0, 40, 3)], abs=1e-3)


@pytest.mark.parametrize("turned", [90, 180, 270])
def test_a_telephone_held_sideways_gives_upright_frames(
    turned: int, tmp_path: Path, frames: list[Any], write_clip: Callable[..., Path]
) -> None:
    stored = [np.ascontiguousarray(np.rot90(rgb, turned // 90)) for rgb in frames[:3]]
    with VideoReader(write_clip(tmp_path / "a.mp4", stored, turned=turned)) as clip:
        assert (clip.width, clip.height) == (184, 224)
        found = list(clip.pictures())
    assert max(np.abs(a.rgb.astype(int) - b).mean() for a, b in zip(found, frames, strict=False)) < 8


WAYS = [(a, b, c, d) for a, b, c, d in itertools.product((-1, 0, 1), repeat=4) if abs(a * d - b * c) == 1]
WAYS = [way for way in WAYS if sum(map(abs, way)) == 2]


@pytest.mark.parametrize("way", WAYS)
def test_all_eight_orientations_are_honoured(
    way: tuple[int, int, int, int], tmp_path: Path, frames: list[Any], write_clip: Callable[..., Path]
) -> None:
    a, b, c, d = way
    wanted = frames[0]
    # The stored pixel (x, y) is shown at (ax + cy, bx + dy), moved into the picture.
    height, width = wanted.shape[:2]
    wide, high = (width, height) if a else (height, width)
    y, x = np.mgrid[:high, :wide]
    across, down = a * x + c * y, b * x + d * y
    stored = np.ascontiguousarray(wanted[down - down.min(), across - across.min()])
    path = write_clip(tmp_path / "a.mp4", [stored] * 3, turned=way)
    with VideoReader(path) as clip:
        assert (clip.width, clip.height) == (width, height)
        found = list(clip.pictures())
    assert np.abs(found[1].rgb.astype(int) - wanted).mean() < 8
    trained = Frames().read(path, 1)
    assert np.array_equal(trained, found[1].rgb)


@pytest.mark.parametrize("begin", [5000, 60_000, 0])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts", ".mov"])
def test_a_clip_whose_times_begin_late_is_whole(
    begin: int, suffix: str, tmp_path: Path, frames: list[Any], write_clip: Callable[..., Path]
) -> None:
    times = [begin + 40 * n for n in range(20)]
    with VideoReader(
        write_clip(tmp_path / f"a{suffix}", frames[:20], times, avoid_negative_ts="disabled")
    ) as clip:
        found = list(clip.pictures())
    assert len(found) == 20
    assert found[0].time == pytest.approx(0, abs=1e-3)
    assert found[-1].time == pytest.approx(0.76, abs=2e-3)


def test_a_clip_of_no_stated_length_is_whole(
    tmp_path: Path, frames: list[Any], write_clip: Callable[..., Path]
) -> None:
    with VideoReader(write_clip(tmp_path / "a.mkv", frames, live="1")) as clip:
        assert (clip.duration, clip.frames) == (None, None)
        assert len(list(clip.pictures())) == len(frames)


def test_frames_by_number_skip_forward(
    tmp_path: Path, frames: list[Any], write_clip: Callable[..., Path]
) -> None:
    path = write_clip(tmp_path / "a.mp4", frames)
    with VideoReader(path) as clip:
        every = list(clip.pictures())
    reader = Frames()
    for number in (3, 3, 11, 2):
        assert np.array_equal(reader.read(path, number), every[number].rgb)
    with pytest.raises(DatasetDamaged, match="no frame 99"):
        reader.read(path, 99)


RED = (200, 40, 40)
COLOURS = [
    (size, matrix, full)
    for size in ((320, 240), (1280, 720))
    for matrix in (None, 1, 5, 6, 9)
    for full in (False, True)
]


def coloured(path: Path, size: tuple[int, int], matrix: int | None, full: bool, **how: Any) -> Path:
    """Three frames of one red, stored by a matrix (H.273), or untagged by the one that players take for it."""
    import av

    used = matrix or (1 if size[1] > 576 else 5)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"crf": "8"})
        stream.width, stream.height = size
        stream.pix_fmt = how.get("pixels", "yuv420p")
        context = stream.codec_context
        context.colorspace, context.color_range = matrix or 2, 2 if full else 1
        context.color_primaries, context.color_trc = how.get("primaries", 2), how.get("transfer", 2)
        context.sample_aspect_ratio = how.get("aspect", Fraction(1, 1))
        for number in range(3):
            rgb = (
                how["deep"]
                if "deep" in how
                else np.full((size[1], size[0], 3), how.get("rgb", RED), np.uint8)
            )
            kind = "rgb48le" if "deep" in how else "rgb24"
            frame = av.VideoFrame.from_ndarray(rgb, format=kind).reformat(
                format=stream.pix_fmt,
                dst_colorspace={6: 5}.get(used, used),
                src_color_range=2,
                dst_color_range=2 if full else 1,
            )
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("size", "matrix", "full"), COLOURS)
def test_a_colour_is_read_and_written_as_itself(
    size: tuple[int, int], matrix: int | None, full: bool, tmp_path: Path
) -> None:
    path = coloured(tmp_path / "a.mp4", size, matrix, full)
    with VideoReader(path) as clip:
        found = list(clip.pictures())
        film = VideoWriter(tmp_path / "b.mp4", clip.width, clip.height, clip.rate, clip)
        for picture in found:
            film.add(picture.rgb, picture.time)
        film.finish()
        kept = clip.colour
    with VideoReader(tmp_path / "b.mp4") as clip:
        again = list(clip.pictures())
        assert clip.colour == kept, "the film looks as its source does in every player"
    assert kept.full == full
    if matrix:
        assert kept.matrix == matrix
    for one in (found[1], again[1]):
        assert one.rgb.mean(axis=(0, 1)) == pytest.approx(
            RED, abs=6
        )  # rounded three times by FFmpeg's scaler
    # What another reader that honours tags sees.
    import av

    with av.open(str(tmp_path / "b.mp4")) as container:
        frame = next(container.decode(video=0))
        assert frame.colorspace != 2
        assert container.streams.video[0].codec_context.color_primaries != 2
        assert frame.to_ndarray(format="rgb24").mean(axis=(0, 1)) == pytest.approx(RED, abs=6)


def test_ten_bits_are_read_as_eight_and_it_is_said(tmp_path: Path) -> None:
    with VideoReader(coloured(tmp_path / "a.mp4", (320, 240), 1, False, pixels="yuv420p10le")) as clip:
        assert any("8" in note for note in clip.notes)
        assert next(clip.pictures()).rgb.mean(axis=(0, 1)) == pytest.approx(RED, abs=3)


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_tone_mapped_and_it_is_said(transfer: int, tmp_path: Path) -> None:
    # Diffuse white and grey at a quarter of its light, as ITU-R BT.2408 stores them.
    stored = {16: (0.58, 0.44), 18: (0.75, 0.54)}[transfer]
    deep = np.empty((240, 320, 3), np.uint16)
    deep[:, :160], deep[:, 160:] = (round(65535 * level) for level in stored)
    path = coloured(
        tmp_path / "a.mp4",
        (320, 240),
        9,
        False,
        pixels="yuv420p10le",
        deep=deep,
        primaries=9,
        transfer=transfer,
    )
    with VideoReader(path) as clip:
        assert clip.colour == Colour(1, 1, 1, False)
        assert any("HDR" in note for note in clip.notes)
        rgb = next(clip.pictures()).rgb.astype(int)
    white, grey = rgb[:, :140].mean(axis=(0, 1)), rgb[:, 180:].mean(axis=(0, 1))
    assert np.ptp(white) <= 3
    assert 225 <= white[0] <= 245
    assert 125 <= grey[0] <= 150


def test_pixels_that_are_not_square_become_square(tmp_path: Path) -> None:
    with VideoReader(coloured(tmp_path / "a.mp4", (352, 288), 5, False, aspect=Fraction(16, 11))) as clip:
        assert (clip.width, clip.height) == (512, 288)
        assert next(clip.pictures()).rgb.shape == (288, 512, 3)


def test_a_file_that_ends_early_gives_what_it_has_and_says_so(
    tmp_path: Path, frames: list[Any], write_clip: Callable[..., Path]
) -> None:
    whole = write_clip(tmp_path / "a.mp4", frames, movflags="faststart").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    found = []
    with (
        VideoReader(tmp_path / "cut.mp4") as clip,
        pytest.raises(VideoError, match=r"cut\.mp4: .*copy it again"),
    ):
        found.extend(clip.pictures())
    assert 10 <= len(found) < 30


def bad(tmp_path: Path, kind: str, frames: list[Any], write_clip: Callable[..., Path]) -> Path:
    """A file that is no sound video."""
    path = tmp_path / "bad.mp4"
    if kind == "text":
        path.write_text("no video\n" * 500)
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "truncated":  # its table of contents stands at the end
        whole = write_clip(tmp_path / "a.mp4", frames).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "playlist":
        path.write_text("#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:2,\nhttp://127.0.0.1:9/part.ts\n#EXT-X-ENDLIST\n")
    elif kind == "sound":
        import av

        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream("aac", rate=44100, layout="mono")
            for number in range(8):
                frame = av.AudioFrame.from_ndarray(
                    np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
                )
                frame.sample_rate, frame.pts = 44100, number * 1024
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


KINDS = ["missing", "text", "empty", "folder", "truncated", "playlist", "sound"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_video_is_refused_in_one_line(
    kind: str, tmp_path: Path, frames: list[Any], write_clip: Callable[..., Path], command: Callable[..., Any]
) -> None:
    path = bad(tmp_path, kind, frames, write_clip)
    ran = command("video", path, "--out", tmp_path / "t.csv", "--annotate", tmp_path / "film.mp4")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert ran.err.startswith(f"mien: {path}: ")
    assert not {"t.csv", "t.csv.part", "film.mp4", "film.mp4.part"} & {
        file.name for file in tmp_path.iterdir()
    }


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ExtraMissing, match=r"mien\[video\]"):
        VideoReader(tmp_path / "any.mp4")
