"""`mien predict`: describe the faces in pictures, in a table or on the terminal.

Exit code 0: every picture was analysed. 1: some were not; each has its row with the error, and one line on standard
error. 2: the command itself was wrong. 130: interrupted; what was written is kept, and `--resume` continues.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from mien.cli import options
from mien.cli.plain_text import room
from mien.cli.terminal import counted, interruptible, shortened, tell, tell_end, tell_links
from mien.errors import ConfigError
from mien.labels import EXPRESSIONS
from mien.wording import fixed, several, signed

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from mien.faces.analyse_files import AnalysisJob, PendingAnalyses
    from mien.io.inputs import Source
    from mien.types import Analysis, Face


def predict(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH...",
            help="Picture, folder (with its sub-folders), 'pattern*.jpg', @list.txt, or - for standard input.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the table here: .csv, .parquet or .jsonl.")] = None,
    annotate: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write annotated pictures into this folder.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="PAGE",
            help="Write a page to look through or to send (.html): faces by label, figures, files.",
        ),
    ] = None,
    show: Annotated[
        Literal["labels", "actions"],
        typer.Option(help="What --annotate draws beside a face; actions: also the largest facial actions."),
    ] = "labels",
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for each picture.")] = False,
    columns: options.Columns = "mien",
    landmarks: options.Landmarks = True,
    listed: Annotated[
        str | None,
        typer.Option(
            "--list",
            metavar="FILE",
            help="Also read paths from this file, one per line or null-separated; - is stdin.",
        ),
    ] = None,
    detector: options.Detector = "auto",
    model: options.DetectorModel = None,
    weights: options.Weights = None,
    prior: options.Prior = None,
    adapt: options.Adapt = None,
    baseline: options.Baseline = None,
    min_face: options.MinFace = None,
    min_confidence: options.MinConfidence = None,
    tiled: options.Tiled = False,
    threads: options.Threads = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes of one thread each; for many pictures by default one per processor."
        ),
    ] = None,
    on_no_face: options.OnNoFace = "row",
    embeddings: Annotated[
        bool,
        typer.Option("--embeddings", help="With --json: also print the recogniser's feature vectors."),
    ] = False,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Describe every face in pictures: expression label, apparent valence and arousal, intensity, quality."""
    if resume and out is None:
        raise ConfigError("--resume needs --out: the table records what is done")
    options.check_resume(resume, overwrite)
    if embeddings and not as_json:
        raise ConfigError("--embeddings needs --json: tables do not hold feature vectors")
    if show != "labels" and annotate is None:
        raise ConfigError(f"--show {show} is of annotated pictures: name their folder with --annotate")
    from mien.faces.analyse_files import AnalysisJob, analysing

    begun = time.monotonic()
    finding = options.pipeline_options(
        detector, model, weights, min_face, min_confidence, tiled, prior, adapt, baseline
    )
    rows = options.table_of(baseline)
    labels = EXPRESSIONS if weights is adapt is None else _labels(weights, adapt, annotate is not None)
    job = AnalysisJob(
        sources=_gathered(paths or ([] if listed else rows), listed, annotate),
        options={**finding, "embeddings": embeddings},
        out=out,
        annotate=annotate,
        show=show,
        columns=columns,
        landmarks=landmarks,
        on_no_face=on_no_face,
        labels=labels,
        resume=resume,
        overwrite=overwrite,
        threads=threads,
        workers=workers,
    )
    count = Count()
    page = None if report is None else _Page(report, paths or [], job)
    again = f": continue with  --resume --out {out}" if out is not None else ""
    with interruptible(again), page or nullcontext(), analysing(job) as answers:
        _show(answers, job, as_json, count, page)
    earlier = len(job.sources) - len(answers.remaining)
    _close(count, earlier, begun, _places(out, annotate, report), as_json)
    if count.failed:
        raise typer.Exit(1)


def _gathered(paths: list[str], listed: str | None, annotate: Path | None) -> list[Source]:
    """Expand the paths given, without the pictures that earlier runs wrote into `annotate`."""
    from mien.io import inputs, outputs

    linked: list[Path] = []
    leave_out = outputs.written_in(annotate) if annotate is not None else set()
    sources = inputs.gather(paths, listed, leave_out, linked.append)
    tell_links(linked)
    return sources


def _show(
    answers: PendingAnalyses, job: AnalysisJob, as_json: bool, count: Count, page: _Page | None
) -> None:
    """Count and print the analyses as they arrive, and collect them for the page if there is one."""
    show = _shower(job, as_json, page is not None)
    total = len(answers.remaining)
    watched = total > 1 and (show is None or not sys.stdout.isatty())
    with counted("pictures", watched, total, "faces") as progress:
        for analysis, source in zip(answers.analyses, answers.remaining, strict=False):
            count(analysis)
            if page is not None:
                page.add(analysis, source)
            if progress is not None:
                progress(count.pictures, total, count.faces)
            if analysis.error is not None:
                tell(f"mien: {analysis.error}")
            if show is not None and (analysis.faces or analysis.error or job.on_no_face != "skip"):
                show(analysis)


def _shower(job: AnalysisJob, as_json: bool, paged: bool) -> Callable[[Analysis], None] | None:
    """The function that prints an analysis: as JSON or in columns; None where results go to a table or page."""
    from mien.io import inputs

    if as_json:
        return lambda analysis: typer.echo(analysis.to_json())
    return _Printed(map(inputs.name, job.sources)) if job.out is None and not paged else None


def _close(count: Count, earlier: int, begun: float, where: str, as_json: bool) -> None:
    """Print the closing line; below a printed table, what the question mark of an uncertain label means."""
    if where:
        tell_end(count.words(earlier), begun, where, err=as_json)
    elif count.uncertain and not as_json:
        tell("? behind a label: uncertain, because its probability or the quality of the picture is low")


def _places(out: Path | None, annotate: Path | None, report: Path | None) -> str:
    """Where results were written, for the closing line; empty for nowhere."""
    where = [str(out)] if out is not None else []
    where += [f"annotated pictures in {annotate}"] if annotate is not None else []
    where += [f"page {report}"] if report is not None else []
    return ", ".join(where)


class _Page:
    """The page of `--report`: a context that writes it at the end of the run, also of one that was interrupted.

    With `--resume` the rows that the table had before belong to it. They are read at the end, so the page of a resumed
    run that was interrupted again is without them, and says so.
    """

    def __init__(self, path: Path, given: list[str], job: AnalysisJob) -> None:
        """Check that the page can be written.

        Raises:
            OutputExists: it exists, or is an input or the table.
            ConfigError: it cannot be written, or the table to resume has the columns of another tool.
            ExtraMissing: Jinja2 is not installed.
        """
        from mien.reports import picture_report

        if job.resume and job.columns != "mien":
            raise ConfigError(
                f"--report cannot take rows of earlier runs from a table with --columns {job.columns}, which does not "
                "have all that the page shows: leave out --resume or --report"
            )
        reads = [source for source in job.sources if isinstance(source, str)] if path.exists() else []
        picture_report.check(
            path, overwrite=job.overwrite, resume=job.resume, reads=[*reads, *([job.out] if job.out else [])]
        )
        self._path, self._job = path, job
        self._report = picture_report.PictureReport(job.labels)
        self._title = picture_report.title_of(given, job.sources)
        self._done: set[str] = set()

    def add(self, analysis: Analysis, source: Source) -> None:
        """Collect one analysis."""
        from mien.io import inputs

        self._done.add(inputs.place(source))
        self._report.add(analysis, source)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        if kind is not None and not (interrupted and self._done):
            return
        notes = []
        if interrupted:
            before = " Those of earlier runs are not in it." if self._job.resume else ""
            notes = [
                f"The run was interrupted: this page has {len(self._done):,} of "
                f"{several(len(self._job.sources), 'picture')}.{before}"
            ]
        elif self._job.resume:
            self._add_earlier()
        from mien.faces.parallel import made_with

        with counted("thumbnails") as progress:
            self._report.write(self._path, self._title, made_with(self._job.options), notes, progress)
        if interrupted:
            tell(f"mien: {self._path} has what was analysed so far")

    def _add_earlier(self) -> None:
        """Collect the rows of pictures that earlier runs analysed."""
        from mien.io import inputs, tables

        out = self._job.out
        assert out is not None  # --resume needs it
        sources = {inputs.place(source): source for source in self._job.sources}
        start = out.absolute().parent / (tables.made_of(out).get("folder") or "")

        def place(name: str) -> str:
            return name if name == inputs.StandardInput.name else inputs.place(start / name)

        rows = (row for row in tables.load(out) if place(row["input"]) not in self._done)
        self._report.add_rows(rows, lambda name: sources.get(place(name)))


def _labels(weights: Path | None, adapt: Path | None, annotated: bool) -> tuple[str, ...]:
    """The labels of weights; lists on standard error those drawn as numbers because no font has their letters."""
    from mien.faces.recognise import labels_of
    from mien.io.lettering import numbered

    labels = labels_of(weights, adapt)
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
        self.pictures = self.faces = self.failed = self.uncertain = 0

    def __call__(self, analysis: Analysis) -> None:
        self.pictures += 1
        self.faces += len(analysis.faces)
        self.failed += analysis.error is not None
        self.uncertain += sum(face.reading.uncertain for face in analysis.faces)

    def words(self, earlier: int) -> str:
        """The counts, with the pictures that were done `earlier`."""
        words = [several(self.pictures, "picture"), several(self.faces, "face")]
        words += [f"{self.failed:,} not analysed"] if self.failed else []
        words += [f"{earlier:,} done before"] if earlier else []
        return ", ".join(words)


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
"""Headings of the printed table, with the width of each column."""

_LESS: Final = ("box (x, y, w x h)", "intensity", "quality", "arousal", "valence", "prob")
"""Columns that are left out where there is no room for them, the first ones first."""


class _Printed:
    """Prints one line per face, in columns, as results arrive.

    The lines fit the terminal, or 80 columns: columns are left out, and names are shortened in the middle.
    """

    def __init__(self, names: Iterable[str]) -> None:
        wish = min(48, max((len(_shown(name)) for name in names), default=0))
        self._columns, self._started = dict(_COLUMNS), False
        for heading in _LESS:
            if room() - self._taken() >= min(wish, 24):
                break
            del self._columns[heading]
        self._width = max(8, min(wish, room() - self._taken()))

    def _taken(self) -> int:
        return sum(2 + int(width[1:]) for width in self._columns.values())

    def _row(self, name: str, cells: Mapping[str, str]) -> str:
        columns = (f"  {_padded(cells.get(heading, ''), width)}" for heading, width in self._columns.items())
        return f"{shortened(name, self._width):<{self._width}}{''.join(columns)}".rstrip()

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
