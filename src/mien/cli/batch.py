"""`mien batch`: many pictures on many processors and machines, into a folder of Parquet files.

Exit code 0: every picture was analysed. 1: some were not; each has its row with the error, and the first few are named
on standard error. 2: the command itself was wrong. 130: interrupted; the finished parts stay, and the same command
goes on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli import options
from mien.cli.terminal import bar, interruptible, tell_links
from mien.wording import several

if TYPE_CHECKING:
    from mien.batch.engine import Summary
    from mien.types import CountProgress


def batch(
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Folder of the table, or its URL (s3://bucket/table).")
    ],
    given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH...",
            help="Picture, folder, 'pattern*.jpg', @list.txt, manifest (.csv, .parquet), or a URL of one of these.",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Join this running Ray cluster; auto means the one this machine belongs to.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes of one thread each; all processors by default.")
    ] = None,
    part: Annotated[
        int | None,
        typer.Option(
            min=1, help="Pictures per file of the table; by default 32 to 1024, by their total number."
        ),
    ] = None,
    columns: options.Columns = "mien",
    landmarks: options.Landmarks = True,
    detector: options.Detector = "auto",
    model: options.DetectorModel = None,
    weights: options.Weights = None,
    prior: options.Prior = None,
    adapt: options.Adapt = None,
    baseline: options.Baseline = None,
    min_face: options.MinFace = None,
    min_confidence: options.MinConfidence = None,
    tiled: options.Tiled = False,
    on_no_face: options.OnNoFace = "row",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as one line of JSON.")] = False,
) -> None:
    """Describe every face in very many pictures, on all processors or a Ray cluster; continues where it stopped."""
    from mien.batch import run
    from mien.urls import without_secrets

    shown = without_secrets(out)
    rows = options.table_of(baseline)
    linked: list[Path] = []
    try:
        with (
            interruptible(f": finished parts are in {shown}: continue with the same command"),
            _watched() as progress,
        ):
            summary = run(
                given or rows,
                out,
                options=_plain(
                    options.pipeline_options(
                        detector, model, weights, min_face, min_confidence, tiled, prior, adapt, baseline
                    )
                ),
                columns=columns,
                landmarks=landmarks,
                on_no_face=on_no_face,
                workers=workers,
                address=address,
                size=part,
                progress=progress,
                note=linked.append,
            )
    finally:
        tell_links(linked)
    _tell(summary, shown, as_json)
    if summary.failed:
        raise typer.Exit(1)


def _plain(finding: dict[str, Any]) -> dict[str, Any]:
    """The options with absolute paths, so that every process can open the files."""
    plain = {
        name: str(value.absolute()) if isinstance(value, Path) else value for name, value in finding.items()
    }
    if "baseline" in plain:
        plain["baseline"] = [str(Path(name).absolute()) for name in plain["baseline"]]
    return plain


def _tell(summary: Summary, shown: str, as_json: bool) -> None:
    """Print the first errors on standard error, and what was done."""
    for error in summary.errors:
        typer.echo(f"mien: {error}", err=True)
    if summary.failed > len(summary.errors):
        more = summary.failed - len(summary.errors)
        typer.echo(f"mien: and {more} more: see the rows with an error in the table", err=True)
    typer.echo(json.dumps(asdict(summary)) if as_json else _line(summary, shown))


def _line(summary: Summary, out: str) -> str:
    earlier = f", {summary.before:,} done before" if summary.before else ""
    working = max(1e-9, summary.seconds - summary.started)
    rate = f", {summary.pictures / working:.1f} pictures/s" if summary.pictures else ""
    return (
        f"{several(summary.pictures, 'picture')}, {several(summary.faces, 'face')}, {summary.failed:,} failed"
        f"{earlier}; {summary.seconds:.1f} s{rate}: {out}"
    )


@contextmanager
def _watched() -> Iterator[CountProgress | None]:
    """A progress bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    with bar() as display:
        starting = display.add_task("starting Ray", total=None)

        def progress(done: int, total: int) -> None:
            nonlocal starting
            if starting is not None:  # a task of its own, so that the rate does not count the start
                display.remove_task(starting)
                starting = None
                display.add_task("pictures", unit="pictures")
            display.update(display.tasks[0].id, completed=done, total=total)

        yield progress
