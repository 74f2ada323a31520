"""`mien compare`: several evaluated runs in one table."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from mien.cli import options, plain_text
from mien.cli.terminal import tell_end
from mien.wording import several


def compare(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Evaluated run folders, report folders or predictions.parquet files."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="The method that others are compared with; the first by default.")
    ] = None,
    undetected: Annotated[
        Literal["keep", "error"],
        typer.Option(help="Pictures without a found face: keep (whole picture) or error."),
    ] = "keep",
    by: Annotated[
        str, typer.Option(help="Also compare within the groups of an attribute used with evaluate --by.")
    ] = "",
    average: Annotated[
        bool, typer.Option(help="Also evaluate the mean of all runs, as an ensemble.")
    ] = False,
    out: options.ComparisonFolder = None,
    draws: options.Draws = 1000,
    form: Annotated[
        Literal["text", "md", "tex"],
        typer.Option("--format", help="What to print: text that fits the terminal, md or tex."),
    ] = "text",
    ledger: Annotated[bool, typer.Option(help="Print what papers and their code report, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Compare runs on the same images: differences with intervals over seeds and images."""
    from mien.evaluation import compare
    from mien.io import outputs
    from mien.reports import comparison_report

    begun = time.monotonic()
    if ledger:
        ledger_text = comparison_report.ledger_markdown()
        typer.echo(ledger_text if form == "md" else plain_text.of_markdown(ledger_text))
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
    elif form == "tex":
        typer.echo(comparison_report.latex(comparison))
    else:
        text = comparison_report.markdown(comparison)
        typer.echo(text if form == "md" else plain_text.of_markdown(text))
    if written is not None:
        tell_end(several(len(predictions), "run"), begun, written)
