"""`mien compare`: several evaluated runs in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mien.cli import options


def compare(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Evaluated run folders, report folders or predictions.parquet files."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="The method that others are compared with; the first by default.")
    ] = None,
    undetected: Annotated[
        str, typer.Option(help="Pictures without a found face: keep (whole picture) or error.")
    ] = "keep",
    by: Annotated[
        str, typer.Option(help="Also compare within the groups of an attribute used with evaluate --by.")
    ] = "",
    average: Annotated[
        bool, typer.Option(help="Also evaluate the mean of all runs, as an ensemble.")
    ] = False,
    out: options.ComparisonFolder = None,
    draws: options.Draws = 1000,
    form: Annotated[Literal["md", "tex"], typer.Option("--format", help="What to print: md or tex.")] = "md",
    ledger: Annotated[bool, typer.Option(help="Print what papers and their code report, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Compare runs on the same images: differences with intervals over seeds and images."""
    from mien.evaluation import compare
    from mien.io import outputs
    from mien.reports import comparison_report

    if ledger:
        typer.echo(comparison_report.ledger_markdown())
        return
    if out is not None:
        outputs.check_folder(out, comparison_report.FILES, overwrite=overwrite)
    predictions = [compare.load(path) for path in runs or []]
    if average:
        predictions.append(compare.average(predictions))
    comparison = compare.compare(predictions, reference, undetected, draws, by=by)
    written = comparison_report.write(comparison, out) if out is not None else None
    if as_json:
        typer.echo(comparison.to_json())
    else:
        printed = comparison_report.latex if form == "tex" else comparison_report.markdown
        typer.echo(printed(comparison))
    if written is not None:
        typer.echo(f"comparison: {written}", err=True)
