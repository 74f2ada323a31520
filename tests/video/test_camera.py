"""A camera is watched until it stops or is stopped, and where there is none one line says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mien.faces.pipeline import Pipeline
from mien.io import tables
from mien.types import Frame
from mien.video import VideoError
from mien.video import camera as live


class Camera:
    """Gives frames as OpenCV does: BGR, one at a time; then stops, or is interrupted."""

    def __init__(self, frames: list[Any], interrupted: bool = False) -> None:
        self.frames: Iterator[Any] = iter(frames)
        self.interrupted = interrupted

    def read(self) -> tuple[bool, Any]:
        rgb = next(self.frames, None)
        if rgb is None and self.interrupted:
            raise KeyboardInterrupt
        return (False, None) if rgb is None else (True, np.ascontiguousarray(rgb[..., ::-1]))


def ticking(step: float = 0.04) -> Callable[[], float]:
    """A clock that goes on by so much each time it is asked."""
    times = iter(100 + step * np.arange(10_000))
    return lambda: float(next(times))


@pytest.fixture
def frames(shots: Callable[..., list[Any]]) -> list[Any]:
    return shots((["one"], 25), (["wall"], 10))


@pytest.mark.parametrize("interrupted", [False, True])
def test_frames_are_shown_and_written(
    interrupted: bool, pipeline: Pipeline, frames: list[Any], tmp_path: Path
) -> None:
    shown: list[tuple[Frame, float]] = []

    def show(frame: Frame, rgb: Any, rate: float) -> bool:
        assert np.array_equal(rgb, frames[len(shown)])
        shown.append((frame, rate))
        return True

    table = tmp_path / "t.csv"
    done = live.watch(Camera(frames, interrupted), pipeline, out=table, show=show, now=ticking())
    assert done.frames == len(shown) == 35
    assert shown[-1][1] == pytest.approx(25, abs=0.5)
    rows = list(tables.load(table))
    assert [row["person"] for row in rows] == [0] * 25 + [None] * 10
    assert [row["approx_time"] for row in rows] == pytest.approx([0.04 * (n + 1) for n in range(35)])
    assert {row["input"] for row in rows} == {"camera"}


def test_it_ends_when_told_to(pipeline: Pipeline, frames: list[Any]) -> None:
    def quit_at_4(frame: Frame, rgb: Any, rate: float) -> bool:
        return frame.frame != 4

    assert live.watch(Camera(frames), pipeline, show=quit_at_4, now=ticking()).frames == 5
    after = live.watch(Camera(frames), pipeline, seconds=0.4, show=lambda *_: True, now=ticking())
    assert after.frames == 10


def test_a_camera_that_gives_nothing(pipeline: Pipeline) -> None:
    with pytest.raises(VideoError, match="no picture"):
        live.watch(Camera([]), pipeline, show=lambda *_: True)


def test_without_a_camera_one_line_says_so(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed:
        def __init__(self, number: int) -> None:
            self.number = number

        def isOpened(self) -> bool:
            return False

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Closed)
    ran = command("live", "--camera", "3")
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err == (
        "mien: no camera 3: connect one, close the program that uses it, or name another with --camera\n"
    )


def test_opencv_itself_keeps_quiet(command: Callable[..., Any]) -> None:
    if any(Path("/dev").glob("video*")):
        pytest.skip("there may be a camera here")
    assert command("live", "--camera", "9").err.count("\n") == 1


def test_the_command_watches_a_camera(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, frames: list[Any], recogniser_file: Path
) -> None:
    """Standard output is no terminal here, so a line is printed for each second."""

    class Fake(Camera):
        def __init__(self, number: int) -> None:
            super().__init__(frames)

        def isOpened(self) -> bool:
            return True

        def set(self, *_: Any) -> bool:
            return True

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Fake)
    ran = command("live", "--weights", recogniser_file, "--threads", "1")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert "person 0: " in lines[0]
    assert lines[-1].startswith("35 frames, ")


def test_lines_come_once_a_second(pipeline: Pipeline, frames: list[Any]) -> None:
    said: list[str] = []
    live.watch(Camera(frames), pipeline, show=live.Lines(said.append), now=ticking(0.1))
    assert len(said) == 4
    assert "valence" in said[0]
    assert said[-1].endswith("no face\n")


def test_the_terminal_table_lists_people(pipeline: Pipeline, frames: list[Any]) -> None:
    from io import StringIO

    from rich.console import Console

    seen: list[Frame] = []
    live.watch(
        Camera(frames), pipeline, show=lambda frame, *_: bool(seen.append(frame)) or True, now=ticking()
    )
    text = StringIO()
    console = Console(file=text, width=100)
    console.print(live.listing(seen[0], 24.6))
    console.print(live.listing(seen[-1], 24.6))
    assert "25 frames/s" in text.getvalue()
    assert seen[0].faces[0].smoothed.expression in text.getvalue()
    assert f"{seen[0].faces[0].smoothed.valence:+.2f}" in text.getvalue()
    assert "no face" in text.getvalue()
