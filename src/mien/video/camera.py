"""Analyse and show the newest frame of a camera until stopped.

If OpenCV can open windows, the annotated picture is shown, and Q closes it. The headless build that `mien` depends on
cannot; then a table in the terminal is updated, or without a terminal one line is printed each second. Nothing leaves
the machine and no picture is stored; the table, if requested, holds numbers only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.faces.pipeline import Pipeline
from mien.io.tables import Writer
from mien.io.video import VideoError
from mien.types import Frame
from mien.video.analyser import Analyser
from mien.video.annotate import draw
from mien.video.smoothing import LAG
from mien.wording import signed

_TITLE: Final = "mien (Q closes)"


class Device(Protocol):
    """The part of `cv2.VideoCapture` that is used here."""

    def read(self) -> tuple[bool, Any]:
        """Whether there is a frame, and the frame: BGR uint8 [height, width, 3]."""


Show = Callable[[Frame, NDArray[np.uint8], float], bool]
"""Shows a frame with its picture and the frames per second; False stops the analysis."""


@dataclass(frozen=True)
class Watched:
    """How long a camera was watched, and how many frames were analysed."""

    frames: int
    seconds: float


@contextmanager
def opened(number: int) -> Iterator[Device]:
    """The camera of this number, closed when the block ends.

    Raises:
        VideoError: there is none, or another program uses it.
    """
    with _quiet():
        camera = cv2.VideoCapture(number)
    try:
        if not camera.isOpened():
            raise VideoError(
                f"no camera {number}: connect one, close the program that uses it, or name another with --camera"
            )
        camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, not a buffered one
        yield camera
    finally:
        camera.release()


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the lines that OpenCV prints if there is no camera."""
    # Newer builds have this function in a module, older ones at the top level; 0 is silent in both.
    switch = getattr(getattr(cv2.utils, "logging", cv2), "setLogLevel", None)
    if switch is None:
        yield
        return
    before = switch(0)
    try:
        yield
    finally:
        switch(before)


def watch(
    device: Device,
    pipeline: Pipeline,
    *,
    out: Path | None = None,
    seconds: float | None = None,
    lag: float = LAG,
    show: Show | None = None,
    now: Callable[[], float] = monotonic,
    overwrite: bool = False,
    made_with: dict[str, Any] | None = None,
) -> Watched:
    """Analyse and show a camera's frames until stopped by Ctrl-C, by Q, after `seconds`, or by the camera.

    Args:
        device: an opened camera.
        pipeline: from `mien.load()`.
        out: also write this table, finished at the end.
        seconds: stop after this time.
        lag: of the smoothed values, seconds.
        show: what shows the frames; None chooses a window, a table in the terminal, or lines.
        now: clock, in seconds.
        overwrite: replace an existing table.
        made_with: how the pipeline was made, stored with the table.

    Raises:
        VideoError: the camera gives no picture at all.
        TableError: the table cannot be written.
    """
    analyser = Analyser(pipeline, "camera", lag)
    frames, rate, begun = 0, 0.0, now()
    time = 0.0
    with ExitStack() as stack:
        table = None
        if out is not None:
            table = Writer(out, video=True, overwrite=overwrite, made_with=made_with, labels=pipeline.labels)
        if table is not None:
            stack.callback(table.close)
        shown = show or stack.enter_context(chosen())
        try:
            while seconds is None or time < seconds:
                there, bgr = device.read()
                if not there:
                    break
                before, time = time, now() - begun
                rgb = np.ascontiguousarray(bgr[..., ::-1])
                frame = analyser(rgb, frames, time)
                if frames:
                    rate += (1 / max(time - before, 1e-3) - rate) / min(frames, 20)
                frames += 1
                if table is not None:
                    table.write(frame)
                if not shown(frame, rgb, rate):
                    break
        except KeyboardInterrupt:  # the usual way to stop
            pass
        if table is not None:
            table.finish()
    if not frames:
        raise VideoError("the camera gives no picture: connect it again, or name another with --camera")
    return Watched(frames, time)


@contextmanager
def chosen() -> Iterator[Show]:
    """A window if OpenCV has them, else a table in the terminal, else lines."""
    if has_windows():
        try:
            yield _window
        finally:
            cv2.destroyAllWindows()
    elif sys.stdout.isatty():
        from rich.live import Live

        with Live(refresh_per_second=8) as live:

            def show(frame: Frame, rgb: NDArray[np.uint8], rate: float) -> bool:
                live.update(listing(frame, rate))
                return True

            yield show
    else:
        yield Lines()


def has_windows() -> bool:
    """Whether this build of OpenCV can open windows and there is a display to open them on."""
    built = next(
        (line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")), "NONE"
    )
    if "NONE" in built:
        return False
    try:
        cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL)
    except cv2.error:
        return False
    return True


def _window(frame: Frame, rgb: NDArray[np.uint8], rate: float) -> bool:
    picture = np.ascontiguousarray(draw(rgb, frame)[..., ::-1])
    cv2.putText(
        picture, f"{rate:.0f}/s", (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA
    )
    cv2.imshow(_TITLE, picture)
    return (cv2.waitKey(1) & 0xFF) not in (ord("q"), ord("Q"), 27)


def listing(frame: Frame, rate: float) -> Any:
    """A table for the terminal: one row for each face, by person."""
    from rich.table import Table

    title = f"{frame.width} x {frame.height}, {rate:.0f} frames/s, smoothed with a lag of {frame.lag:g} s; Ctrl-C ends"
    table = Table(title=title, title_justify="left", min_width=64)
    for name, side in (
        ("person", "right"),
        ("label", "left"),
        ("", "left"),
        ("valence", "right"),
        ("arousal", "right"),
    ):
        table.add_column(name, justify=side)  # type: ignore[arg-type]  # a plain str is not a Literal
    for face in sorted(frame.faces, key=lambda face: face.person):
        smooth = face.smoothed
        label = f"{smooth.expression}{'?' if face.reading.uncertain else ''}"
        bar = "█" * round(16 * smooth.probability)
        table.add_row(
            str(face.person),
            label,
            f"{bar:<16} {smooth.probability:4.0%}",
            *map(signed, (smooth.valence, smooth.arousal)),
        )
    if not frame.faces:
        table.add_row("-", "no face", "", "", "")
    return table


class Lines:
    """Prints the faces once a second."""

    def __init__(self, write: Callable[[str], object] | None = None) -> None:
        self._write = write or sys.stdout.write
        self._next = 0.0

    def __call__(self, frame: Frame, rgb: NDArray[np.uint8], rate: float) -> bool:
        time = frame.time or 0.0
        if time >= self._next:
            self._next = time + 1.0
            seen = "; ".join(
                f"person {face.person}: {face.smoothed.expression} {face.smoothed.probability:.0%}"
                + "".join(
                    f", {name} {signed(value)}"
                    for name, value in (
                        ("valence", face.smoothed.valence),
                        ("arousal", face.smoothed.arousal),
                    )
                    if value is not None
                )
                for face in sorted(frame.faces, key=lambda face: face.person)
            )
            self._write(f"{time:7.1f} s  {seen or 'no face'}\n")
        return True
