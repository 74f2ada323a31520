"""`mien video` and `mien live`: a clip or a camera in; a table, a film and a page out.

Exit code 0: all was analysed. 2: the command was wrong, or the video is damaged; then the frames before the damage are
in the table. 130: interrupted; the table has been finished with the frames so far, and `--resume` goes on.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli import options
from mien.cli.terminal import bar, interruptible
from mien.wording import several, signed

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from typing_extensions import Self

    from mien.faces.pipeline import Pipeline
    from mien.io.video import VideoReader
    from mien.types import Frame
    from mien.video.process import Watch
    from mien.video.statistics import Tally


def video(
    clip: Annotated[Path, typer.Argument(metavar="VIDEO", help="Any video file that FFmpeg reads.")],
    out: Annotated[
        Path | None, typer.Option(help="Write the table here, a row for each face: .csv, .parquet or .jsonl.")
    ] = None,
    annotate: Annotated[
        Path | None, typer.Option(help="Write the video with what was found drawn on it: .mp4, .mov or .mkv.")
    ] = None,
    sound: Annotated[
        bool, typer.Option("--sound/--no-sound", help="Copy the video's sound into --annotate.")
    ] = True,
    page: Annotated[
        Path | None, typer.Option(help="Write one HTML page: curves, time shares, peaks, pictures.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Analyse each so many-th frame only.")] = 1,
    smooth: options.Smooth = 0.25,
    columns: options.Columns = "mien",
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for each frame.")] = False,
    detector: options.Detector = "auto",
    model: options.DetectorModel = None,
    weights: options.Weights = None,
    prior: options.Prior = None,
    adapt: options.Adapt = None,
    min_face: options.MinFace = None,
    min_confidence: options.MinConfidence = None,
    threads: options.Threads = None,
) -> None:
    """Describe every face in every frame of a video, which person it is, and how it changes."""
    from mien.faces.parallel import made_with
    from mien.video.process import Orders, run

    options.check_resume(resume, overwrite)
    finding = options.pipeline_options(
        detector, model, weights, min_face, min_confidence, prior=prior, adapt=adapt
    )
    made = made_with(finding)
    orders = Orders(
        clip, out, annotate, page, every, smooth, columns, resume, threads, overwrite, made, sound=sound
    )
    load = _loader(finding, threads)
    kept = f": {out} holds the frames so far, go on with --resume" if out is not None else ""
    with interruptible(kept), _watched(as_json) as show, _Brake() as brake:

        def watch(clip: VideoReader, frame: Frame, recalled: bool) -> None:
            if show is not None:
                show(clip, frame, recalled)
            brake.check()

        tally = run(orders, load, watch)
    for note in tally.notes:
        typer.echo(f"mien: {clip}: {note}", err=True)
    if not as_json:
        _tell(tally, smooth)


def _loader(finding: dict[str, Any], threads: int | None) -> partial[Pipeline]:
    """Set the number of OpenCV's threads, and return the function that loads the pipeline."""
    import cv2

    from mien.faces.pipeline import load
    from mien.io.onnx import available

    cv2.setNumThreads(threads or available())
    return partial(load, **finding, threads=threads)


class _Brake:
    """Turns the first Ctrl-C into a stop after the frame in hand, so that table and film end with the same frame.

    A second one stops at once.
    """

    def __init__(self) -> None:
        self._pulled = False

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._pull)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _pull(self, number: int, frame: FrameType | None) -> None:
        if self._pulled:
            raise KeyboardInterrupt
        self._pulled = True

    def check(self) -> None:
        """To be called after each frame.

        Raises:
            KeyboardInterrupt: it was asked for meanwhile.
        """
        if self._pulled:
            raise KeyboardInterrupt


@contextmanager
def _watched(as_json: bool) -> Iterator[Watch | None]:
    """What is shown while it runs: JSON on standard output, or a bar with the time left on a terminal."""
    if as_json:
        yield lambda clip, frame, recalled: typer.echo(frame.to_json())
    elif sys.stderr.isatty():
        with bar(*bar_columns()) as progress:
            yield Bar(progress, progress.add_task("opening", total=None, rate=""))
    else:
        yield None


def bar_columns() -> tuple[Any, ...]:
    """What the bar shows; made when needed, as rich takes time to import."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("left, {task.fields[rate]}"),
    )


class Bar:
    """Moves a progress bar by the time within the video: that is known where the number of frames is not."""

    def __init__(self, progress: Any, task: Any) -> None:
        self._progress, self._task = progress, task
        self._done = 0

    def __call__(self, clip: VideoReader, frame: Frame, recalled: bool) -> None:
        self._done += 1
        task = self._progress.tasks[0]
        rate = f"{self._done / task.elapsed:.0f} frames/s" if task.elapsed else ""
        self._progress.update(
            self._task,
            total=clip.duration,
            completed=frame.time,
            description="catching up" if recalled else "analysing",
            rate=rate,
        )


def _tell(tally: Tally, lag: float) -> None:
    """The summary in a few lines."""
    from mien.video.summary_page import clock

    faces = tally.frames - tally.empty
    typer.echo(
        f"{several(tally.frames, 'frame')} in {clock(tally.end)}, {several(len(tally.shots) + 1, 'shot')}, "
        f"a face in {faces:,}, smoothed with a lag of {lag:g} s"
    )
    shown = tally.shown()
    if shown:
        typer.echo(f"{'person':>6}  {'seen':>8}  {'valence':>7}  {'arousal':>7}  labels by time")
    for person in shown:
        means = "  ".join(f"{signed(mean):>7}" for mean in person.means)
        shares = sorted(person.labels.items(), key=lambda entry: -entry[1])
        words = ", ".join(f"{label} {time / person.seconds:.0%}" for label, time in shares if time > 0) or "-"
        typer.echo(f"{person.number:>6}  {person.seconds:6.1f} s  {means}  {words}")
    more = len(tally.people) + tally.passing - len(shown)
    if more:
        typer.echo(f"and {more} more, seen for a shorter time")


def live(
    camera: Annotated[int, typer.Option(min=0, help="Number of the camera.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Also write the table here: .csv, .parquet or .jsonl.")
    ] = None,
    overwrite: options.Overwrite = False,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Stop after so long; else with Ctrl-C.")
    ] = None,
    smooth: options.Smooth = 0.25,
    detector: options.Detector = "auto",
    model: options.DetectorModel = None,
    weights: options.Weights = None,
    prior: options.Prior = None,
    adapt: options.Adapt = None,
    min_face: options.MinFace = None,
    min_confidence: options.MinConfidence = None,
    threads: options.Threads = None,
) -> None:
    """Watch a camera: who is in the picture and what their faces show, in the terminal or a window."""
    from mien.faces.parallel import made_with
    from mien.io import outputs
    from mien.video.camera import opened, watch

    if out is not None:
        outputs.check(out, overwrite=overwrite)
    finding = options.pipeline_options(
        detector, model, weights, min_face, min_confidence, prior=prior, adapt=adapt
    )
    made = {**made_with(finding), "smooth": smooth}
    load = _loader(finding, threads)
    with opened(camera) as device:
        watched = watch(
            device, load(), out=out, seconds=seconds, lag=smooth, overwrite=overwrite, made_with=made
        )
    rate = watched.frames / max(watched.seconds, 1e-9)
    typer.echo(f"{several(watched.frames, 'frame')} in {watched.seconds:.1f} s, {rate:.0f} a second")
