"""Analyse picture files into a table and annotated copies; an interrupted run can be resumed.

Each analysis is written to the table, and its annotated copy to disk, before it is yielded, so the analyses yielded so
far are kept however a run ends.

Tests: tests/cli/test_predict.py.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from mien.errors import ConfigError
from mien.faces.parallel import analyse, made_with, mark_name, work
from mien.io import inputs, outputs
from mien.io.inputs import Source
from mien.io.onnx import available
from mien.labels import EXPRESSIONS
from mien.types import Analysis

if TYPE_CHECKING:
    from mien.faces.annotate import Show
    from mien.io.tables import Writer

Taken = TypeVar("Taken", bound=Source)

MANY: Final = 64
"""From this number of pictures on, worker processes are started by default. Starting a worker costs about 0.35 s of
processor time; two halve the 11 ms that a picture of 512 px takes on two processors: this pays off from about 64 on."""


@dataclass(frozen=True, kw_only=True)
class AnalysisJob:
    """Pictures to analyse, and the outputs to write.

    Attributes:
        sources: the pictures, from `mien.io.inputs.gather`.
        options: the options of `mien.load`, without `on_no_face`.
        out: the table; None writes none.
        annotate: the folder of annotated copies; None writes none.
        show: what they show, see `mien.faces.annotate`.
        columns: layout of the table.
        landmarks: whether the table has columns of the facial points.
        on_no_face: how to treat a picture without a face; "skip" gives it no row but counts it as done.
        labels: the recogniser's labels.
        resume: continue the table of an earlier run.
        overwrite: replace existing outputs.
        threads: threads of one process; None uses all processors.
        workers: number of processes, of one thread each; None starts them from `MANY` pictures on.
    """

    sources: Sequence[Source]
    options: dict[str, Any]
    out: Path | None = None
    annotate: Path | None = None
    show: Show = "labels"
    columns: str = "mien"
    landmarks: bool = True
    on_no_face: Literal["row", "skip", "error"] = "row"
    labels: tuple[str, ...] = EXPRESSIONS
    resume: bool = False
    overwrite: bool = False
    threads: int | None = None
    workers: int | None = None


@dataclass(frozen=True)
class PendingAnalyses:
    """The pictures not yet analysed, and their analyses, in the same order."""

    remaining: Sequence[Source]
    analyses: Iterator[Analysis]


@contextmanager
def analysing(job: AnalysisJob) -> Iterator[PendingAnalyses]:
    """Open the outputs, find the pictures not yet analysed, and analyse them lazily.

    Raises:
        OutputExists: an output exists and may not be replaced.
        ConfigError: there is no table to leave landmarks out of, an output cannot be written, or the table is of other
            pictures or options.
        TableError: the table cannot be resumed.
        WeightsError: weights are missing or damaged.
    """
    if job.out is None and not job.landmarks:
        raise ConfigError("--no-landmarks is of the table: name one with --out")
    if job.out is not None and not job.resume:
        files = (source for source in job.sources if isinstance(source, str))
        reads = files if job.out.exists() else ()
        outputs.check(job.out, overwrite=job.overwrite, reads=reads, resumable=True)
    marks = None
    if job.annotate is not None:
        marks = outputs.Outputs(job.annotate, job.sources, mark_name, overwrite=job.overwrite or job.resume)
    remaining: Sequence[Source] = job.sources
    with ExitStack() as stack:
        table, names = None, {}
        if job.out is not None:
            table = stack.enter_context(_table(job, job.out))
            names = _names_in(table)
            remaining = [source for source in job.sources if _is_wanted(source, table, names, marks)]
        if marks is not None:
            stack.callback(marks.lock().release)
        contents: dict[str, str | None] = {}
        answers = _answers(remaining, job, marks, contents if table is not None else None)
        stack.enter_context(closing(answers))
        if table is not None:
            answers = _written(answers, remaining, table, names, contents)
            stack.enter_context(closing(answers))
        yield PendingAnalyses(remaining, answers)


def _table(job: AnalysisJob, out: Path) -> Writer:
    from mien.io.tables import Writer

    return Writer(
        out,
        job.columns,
        job.resume,
        job.landmarks,
        # A picture without a face is recorded as done even where it gets no row.
        on_no_face="skip" if job.on_no_face == "skip" else "row",
        made_with={**made_with(job.options), "on_no_face": job.on_no_face},
        overwrite=job.overwrite,
        labels=job.labels,
        changes=job.options.get("baseline") is not None,
    )


def _names_in(table: Writer) -> dict[str, str]:
    """The table's name of the picture at each path."""
    folder = Path(table.folder or "")
    return {
        name if name == inputs.StandardInput.name else inputs.name(inputs.place(folder / name)): name
        for name in table.known
    }


def _is_wanted(source: Source, table: Writer, names: dict[str, str], marks: outputs.Outputs | None) -> bool:
    """Whether a picture must be analysed: it is new, had an error, was replaced, or has no annotated copy yet.

    Raises:
        ConfigError: the table has another picture of this name, from another folder.
    """
    name = names.get(inputs.name(inputs.place(source)))
    if name is None:
        name = inputs.name(source)
        if name in table.known and not inputs.unchanged(source, table.contents.get(name)):
            raise ConfigError(
                f"{name}: the table has another picture of this name, from {table.folder}: start mien there, or name "
                "another --out"
            )
        return name not in table.done
    gone = isinstance(source, str) and not Path(source).exists()  # its row stays
    return (
        name not in table.done
        or not (gone or inputs.unchanged(source, table.contents.get(name)))
        or (marks is not None and not marks.path(source).exists())
    )


def _answers(
    given: Sequence[Source],
    job: AnalysisJob,
    marks: outputs.Outputs | None,
    contents: dict[str, str | None] | None,
) -> Generator[Analysis]:
    """Analyse in this process, or in several if requested or worthwhile; record each picture's content hash."""

    def noted(pictures: Iterable[Taken]) -> Iterator[Taken]:
        for picture in pictures:
            if contents is not None:
                contents[inputs.name(inputs.place(picture))] = inputs.identity(picture)
            yield picture

    options = {**job.options, "on_no_face": "row" if job.on_no_face == "skip" else job.on_no_face}
    paths = [source for source in given if isinstance(source, str)]
    workers = job.workers
    if len(paths) < len(given):  # standard input is read only here
        workers = 1
    elif workers is None:
        workers = available() if job.threads is None and len(paths) >= MANY else 1
    if workers > 1:
        yield from analyse(
            noted(paths), work, {"options": options, "marks": marks, "show": job.show}, workers
        )
    elif given:
        yield from work(options, marks, job.threads or available(), job.show)(noted(given))


def _written(
    answers: Iterable[Analysis],
    sources: Sequence[Source],
    table: Writer,
    names: dict[str, str],
    contents: dict[str, str | None],
) -> Generator[Analysis]:
    """Yield the analyses, each after it has been written to the table."""
    for analysis, source in zip(answers, sources, strict=False):
        place = inputs.name(inputs.place(source))
        # A picture that is now given under another name keeps the name of its rows.
        named = replace(analysis, source=names[place]) if names.get(place) else analysis
        table.write(named, contents.pop(place, None))
        yield analysis
