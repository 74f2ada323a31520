"""`mien compare`: several evaluated runs in one table."""

from __future__ import annotations

from pathlib import Path

import typer


def compare(
    runs: list[Path] | None = typer.Argument(
        None, help="Evaluated run folders, report folders or predictions.parquet files."
    ),
    reference: str | None = typer.Option(
        None, help="The method that others are compared with; the first by default."
    ),
    undetected: str = typer.Option(
        "keep", help="Pictures without a found face: keep (whole picture) or error."
    ),
    by: str = typer.Option(
        "", help="Also compare within the groups of an attribute used with evaluate --by."
    ),
    average: bool = typer.Option(False, help="Also judge the mean answer of all runs, as an ensemble."),
    out: Path | None = typer.Option(None, help="Folder for comparison.html, .md, .tex and .json."),
    draws: int = typer.Option(1000, min=10, help="Bootstrap resamples behind each interval."),
    form: str = typer.Option("md", "--format", help="What to print: md or tex."),
    ledger: bool = typer.Option(False, help="Print what papers and their code report, and stop."),
    as_json: bool = typer.Option(False, "--json", help="Print the comparison as JSON."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a comparison that is there."),
) -> None:
    """Compare runs on the same images: differences with intervals over seeds and images."""
    from mien.errors import ConfigError
    from mien.evaluation import compare as judge
    from mien.io import outputs
    from mien.reports import comparison_report

    if ledger:
        typer.echo(comparison_report.ledger_markdown())
        return
    printers = {"md": comparison_report.markdown, "tex": comparison_report.latex}
    if form not in printers:
        raise ConfigError(f"--format {form}: use md or tex")
    if out is not None:
        outputs.check_folder(out, comparison_report.FILES, overwrite=overwrite)
    said = [judge.load(path) for path in runs or []]
    if average:
        said.append(judge.average(said))
    found = judge.compare(said, reference, undetected, draws, by=by)
    written = comparison_report.write(found, out) if out is not None else None
    typer.echo(found.to_json() if as_json else printers[form](found))
    if written is not None:
        typer.echo(f"comparison: {written}", err=True)
