"""`mien video` and `mien live`: describe faces in a video or camera, as a table, an annotated video and a page.

Exit code 0: all was analysed. 2: the command was wrong, or the video is damaged; then the frames before the damage are
in the table. 130: interrupted; the table has been finished with the frames so far, and `--resume` continues.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli import options
from mien.cli.plain_text import hanging
from mien.cli.terminal import bar, interruptible, per_second, tell_end
from mien.errors import ConfigError
from mien.types import Frame
from mien.wording import several, signed

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from typing_extensions import Self

    from mien.faces.pipeline import Pipeline
    from mien.io.video import VideoReader
    from mien.video.baseline import VideoBaseline
    from mien.video.process import Watch
    from mien.video.statistics import Tally


def video(
    clip: Annotated[Path, typer.Argument(metavar="VIDEO", help="Any video file that FFmpeg reads.")],
    out: Annotated[
        Path | None, typer.Option(help="Write the table here, one row per face: .csv, .parquet or .jsonl.")
    ] = None,
    annotate: Annotated[
        Path | None, typer.Option(help="Write an annotated copy of the video here: .mp4, .mov or .mkv.")
    ] = None,
    sound: Annotated[
        bool, typer.Option("--sound/--no-sound", help="Copy the video's sound into --annotate.")
    ] = True,
    page: Annotated[
        Path | None,
        typer.Option(help="Write a summary page here (.html): curves, time shares, peaks, pictures."),
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Analyse only every Nth frame.")] = 1,
    smooth: options.Smooth = 0.25,
    columns: options.Columns = "mien",
    landmarks: options.Landmarks = True,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for each frame.")] = False,
    detector: options.Detector = "auto",
    model: options.DetectorModel = None,
    weights: options.Weights = None,
    prior: options.Prior = None,
    adapt: options.Adapt = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHERE",
            help="Neutral faces, to give changes from them: calmest (each person's calmest second), 0:02-0:04, or a "
            "person's picture (may be repeated).",
        ),
    ] = None,
    min_face: options.MinFace = None,
    min_confidence: options.MinConfidence = None,
    threads: options.Threads = None,
) -> None:
    """Describe every face in every frame of a video: its person, expression, and changes over time."""
    from mien.faces.parallel import made_with
    from mien.video.process import Orders, run

    begun = time.monotonic()
    options.check_resume(resume, overwrite)
    within, pictures = _baseline(baseline or [])
    finding = options.pipeline_options(
        detector, model, weights, min_face, min_confidence, prior=prior, adapt=adapt, baseline=pictures
    )
    made = made_with(finding)
    orders = Orders(
        clip, out, annotate, page, every, smooth, columns, resume, threads, overwrite, made, sound=sound,
        baseline=within, changes=bool(baseline), landmarks=landmarks,
    )  # fmt: skip
    load = _loader(finding, threads)
    kept = f": {out} holds the frames so far, continue with --resume" if out is not None else ""
    with interruptible(kept), _watched(as_json, within) as show, _Brake() as brake:

        def watch(clip: VideoReader, frame: Frame, recalled: bool) -> None:
            if show is not None:
                show(clip, frame, recalled)
            brake.check()

        tally = run(orders, load, watch)
    for note in tally.notes:
        typer.echo(f"mien: {clip}: {note}", err=True)
    if not as_json:
        _tell(tally, smooth)
    if written := [str(path) for path in (out, annotate, page) if path is not None]:
        tell_end(several(tally.frames, "frame"), begun, ", ".join(written), err=as_json)


def _baseline(given: list[str]) -> tuple[VideoBaseline | None, list[str]]:
    """What `--baseline` names: a place within the video, or else pictures.

    Raises:
        ConfigError: a place beside something else, or a table.
    """
    from mien.faces.baseline import NeutralPictures
    from mien.video.baseline import parsed

    places = [None if Path(text).exists() else parsed(text) for text in given]
    if len(given) == 1 and places[0] is not None:
        return places[0], []
    if any(places):
        raise ConfigError("--baseline calmest, or a span such as 0:02-0:04, stands alone: give one of them")
    if given and NeutralPictures.read(given).table is not None:
        raise ConfigError(
            f"{given[0]}: a table says who is in which picture, not in a video: give a picture, calmest, or a span "
            "such as 0:02-0:04"
        )
    return None, given


def _loader(finding: dict[str, Any], threads: int | None) -> partial[Pipeline]:
    """Set the number of OpenCV's threads, and return the function that loads the pipeline."""
    import cv2

    from mien.faces.pipeline import load
    from mien.io.onnx import available

    cv2.setNumThreads(threads or available())
    return partial(load, **finding, threads=threads)


class _Brake:
    """Turns the first Ctrl-C into a stop after the current frame, so that table and video end with the same frame.

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
        """Raise the interrupt, if there was one; to be called after each frame.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        if self._pulled:
            raise KeyboardInterrupt


@contextmanager
def _watched(as_json: bool, within: VideoBaseline | None) -> Iterator[Watch | None]:
    """The output during a run: JSON on standard output, or a bar with the time left on a terminal.

    If the baseline is known only at the end of the video, the lines of JSON wait for it in a temporary file.
    """
    if as_json and within is not None:
        with TemporaryFile("w+", encoding="utf-8") as held:
            try:
                yield lambda clip, frame, recalled: print(frame.to_json(), file=held)
            finally:
                held.seek(0)
                baselines = within.baselines()
                for line in held:
                    typer.echo(Frame.from_json(line).relative_to(baselines).to_json())
    elif as_json:
        yield lambda clip, frame, recalled: typer.echo(frame.to_json())
    elif sys.stderr.isatty():
        with bar(*bar_columns()) as progress:
            yield Bar(progress, progress.add_task("opening", total=None, rate=""))
    else:
        yield None


def bar_columns() -> tuple[Any, ...]:
    """The columns of the bar; made when needed, as rich takes time to import."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("left, {task.fields[rate]}"),
    )


class Bar:
    """Moves a progress bar by the time within the video, which is known even if the number of frames is not."""

    def __init__(self, progress: Any, task: Any) -> None:
        self._progress, self._task = progress, task
        self._done = 0

    def __call__(self, clip: VideoReader, frame: Frame, recalled: bool) -> None:
        self._done += 1
        task = self._progress.tasks[0]
        rate = per_second(self._done / task.elapsed, "frames") if task.elapsed else ""
        self._progress.update(
            self._task,
            total=clip.duration,
            completed=frame.time,
            description="catching up" if recalled else "analysing",
            rate=rate,
        )


def _tell(tally: Tally, lag: float) -> None:
    """Print the summary in a few lines."""
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
        figures = f"{person.number:>6}  {person.seconds:6.1f} s  {means}  "
        typer.echo(hanging(words, len(figures), figures))
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
        float | None, typer.Option(min=0.1, help="Stop after this time; by default with Ctrl-C.")
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
    """Describe the faces in a camera's picture live, in the terminal or a window."""
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
    rate = per_second(watched.frames / max(watched.seconds, 1e-9), "frames")
    where = f": {out}" if out is not None else ""
    typer.echo(f"{several(watched.frames, 'frame')}, {rate}; {watched.seconds:.1f} s{where}")
