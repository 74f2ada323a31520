"""Frames come upright, complete and with the times that the file states; what is no sound video is said in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.errors import ExtraMissing
from mien.video import Clip, VideoError


@pytest.fixture
def frames(shots: Callable[..., Any]) -> list[Any]:
    return [rgb[:, 20:-20] for rgb in shots((["one"], 40))]


def test_every_frame_comes_with_its_own_time(
    tmp_path: Path, frames: list[Any], write_clip: Callable[..., Path]
) -> None:
    times = np.cumsum([0, *([10, 90, 35] * 13)])
    with Clip(write_clip(tmp_path / "a.mp4", frames, times.tolist())) as clip:
        assert (clip.width, clip.height, clip.frames) == (184, 224, 40)
        found = list(clip.pictures())
    assert [picture.number for picture in found] == list(range(40))
    assert [picture.time for picture in found] == pytest.approx(times / 1000, abs=1e-4)
    errors = [np.abs(a.rgb.astype(int) - b).mean() for a, b in zip(found, frames, strict=True)]
    assert max(errors) < 8  # the codec's


def test_every_third(tmp_path: Path, frames: list[Any], write_clip: Callable[..., Path]) -> None:
    with Clip(write_clip(tmp_path / "a.mp4", frames)) as clip:
        found = list(clip.pictures(3))
    assert [picture.number for picture in found] == list(range(0, 40, 3))
    assert [picture.time for picture in found] == pytest.approx([n / 30 for n in range(0, 40, 3)], abs=1e-3)


@pytest.mark.parametrize("turned", [90, 180, 270])
def test_a_telephone_held_sideways_gives_upright_frames(
    turned: int, tmp_path: Path, frames: list[Any], write_clip: Callable[..., Path]
) -> None:
    stored = [np.ascontiguousarray(np.rot90(rgb, turned // 90)) for rgb in frames[:3]]
    with Clip(write_clip(tmp_path / "a.mp4", stored, turned=turned)) as clip:
        assert (clip.width, clip.height) == (184, 224)
        found = list(clip.pictures())
    assert max(np.abs(a.rgb.astype(int) - b).mean() for a, b in zip(found, frames, strict=False)) < 8


def test_a_file_that_ends_early_gives_what_it_has_and_says_so(
    tmp_path: Path, frames: list[Any], write_clip: Callable[..., Path]
) -> None:
    whole = write_clip(tmp_path / "a.mp4", frames, movflags="faststart").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    found = []
    with Clip(tmp_path / "cut.mp4") as clip, pytest.raises(VideoError, match=r"cut\.mp4: .*copy it again"):
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
        Clip(tmp_path / "any.mp4")
