"""`mien evaluate`: evaluate weights on a dataset and write the report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from mien.cli import options, plain_text
from mien.cli.terminal import counted, tell_end
from mien.wording import several

_TABLE = ("weights", "data", "leave_out", "out", "cache", "prior", "draws", "threads", "as_json", "overwrite")
"""The options that apply to the table of `--leave-out`."""


_ACTIONS = ("weights", "data", "task", "reader", "out", "draws", "limit", "threads", "as_json", "overwrite")
"""What counts for `--task actions`."""


def evaluate(
    context: typer.Context,
    weights: Annotated[str, typer.Argument(help="A checkpoint, an .onnx file, a run folder, or 'shipped'.")],
    data: Annotated[
        Path, typer.Argument(help="The dataset's folder; with --leave-out a configuration of several sets.")
    ],
    task: Annotated[
        Literal["expressions", "actions"],
        typer.Option(help="What is judged; actions: FACS action units on CK+, DISFA or BP4D."),
    ] = "expressions",
    protocol: options.Protocol = None,
    reader: options.Reader = None,
    split: options.Split = "test",
    fold: Annotated[int, typer.Option(help="The tested fold of a protocol with folds.")] = 0,
    by: Annotated[
        str, typer.Option(help="Subgroups, comma-separated: gender,race,age,brightness,yaw,size.")
    ] = "",
    undetected: Annotated[
        Literal["keep", "error", "drop"],
        typer.Option(help="Pictures without a found face: keep (whole picture), error or drop."),
    ] = "keep",
    calibrate: Annotated[
        bool, typer.Option(help="Fit a temperature on the validation split and report its effect.")
    ] = False,
    leave_out: Annotated[
        bool,
        typer.Option(
            "--leave-out", help="Evaluate several sets, each unchanged and under three simulated shifts."
        ),
    ] = False,
    mirror: Annotated[
        bool, typer.Option(help="Average each face's outputs with those of its mirror image.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report; for a run folder by default its 'evaluation'.")
    ] = None,
    points: options.Points = None,
    cache: options.Cache = Path("cache"),
    prior: options.Prior = None,
    adapt: options.Adapt = None,
    embeddings: Annotated[
        bool, typer.Option(help="Keep the feature vectors in predictions.parquet.")
    ] = False,
    draws: Annotated[int, typer.Option(min=0, help="Bootstrap resamples for each interval.")] = 1000,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Evaluate only this many images (for trials).")
    ] = None,
    threads: options.Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Evaluate a model on a dataset: figures with intervals, and a report to read and print."""
    from mien.evaluation import evaluate
    from mien.faces.operating_point import read_prior
    from mien.reports.evaluation_report import markdown, write

    if task == "actions":
        options.refuse_others(context, _ACTIONS, "--task actions judges measured action units")
        _units(weights, data, reader, out, draws, limit, threads, as_json, overwrite)
        return
    if leave_out:
        options.refuse_others(context, _TABLE, "--leave-out reads options of sets from the configuration")
        _table(weights, data, out, cache, prior, draws, threads, as_json, overwrite)
        return
    begun, out = time.monotonic(), _report_folder(weights, out, overwrite)
    with counted("aligning", unit="faces") as progress:
        report, predictions = evaluate.run(
            weights,
            data,
            protocol,
            reader=reader,
            split=split,
            fold=fold,
            points=points,
            cache=cache,
            by=options.words(by),
            undetected=undetected,
            calibrate=calibrate,
            mirror=mirror,
            draws=draws,
            limit=limit,
            threads=threads,
            prior=None if prior is None else read_prior(prior),
            adapt=adapt,
            progress=progress,
        )
    written = write(report, predictions, out, embeddings) if out is not None else None
    typer.echo(report.to_json() if as_json else plain_text.of_markdown(markdown(report)))
    if report.provenance.learnt:
        typer.echo(f"WARNING: {report.notes[0]}", err=True)
    if written is not None:
        tell_end(several(len(predictions), "image"), begun, written)


def _report_folder(weights: str, out: Path | None, overwrite: bool) -> Path | None:
    """Where the report goes: into a run folder unless told otherwise; None for nowhere.

    Raises:
        OutputExists: a report is there.
    """
    from mien.io import outputs
    from mien.reports.evaluation_report import FILES, is_unfinished
    from mien.training import run_folder

    if out is None and Path(weights).is_dir():
        out = Path(weights) / run_folder.EVALUATION
    if out is not None:
        outputs.check_folder(out, FILES, overwrite=overwrite or is_unfinished(out))
    return out


def _units(
    weights: str,
    data: Path,
    reader: str | None,
    out: Path | None,
    draws: int,
    limit: int | None,
    threads: int | None,
    as_json: bool,
    overwrite: bool,
) -> None:
    """The table of `--task actions`, printed and, with `--out`, kept as Markdown and JSON."""
    from mien.evaluation import action_units
    from mien.io import outputs

    begun = time.monotonic()
    if out is not None:
        outputs.check_folder(out, action_units.FILES, overwrite=overwrite)
    with counted("pictures") as progress:
        report = action_units.run(
            weights, data, reader=reader, draws=draws, limit=limit, threads=threads, progress=progress
        )
    typer.echo(
        action_units.to_json(report) if as_json else plain_text.of_markdown(action_units.markdown(report))
    )
    if out is not None:
        action_units.write(report, out)
        tell_end(several(len(report.units), "row"), begun, out)


def _table(
    weights: str,
    sets: Path,
    out: Path | None,
    cache: Path,
    prior: str | None,
    draws: int,
    threads: int | None,
    as_json: bool,
    overwrite: bool,
) -> None:
    """The table over sets of `--leave-out`, printed and, with `--out`, kept as Markdown and JSON."""
    from mien.evaluation import leave_out
    from mien.faces.operating_point import read_prior
    from mien.io import outputs

    begun = time.monotonic()
    if out is not None:
        outputs.check_folder(out, leave_out.FILES, overwrite=overwrite)
    with counted("aligning", unit="faces") as progress:
        rows = leave_out.run(
            weights,
            leave_out.load(sets),
            cache=cache,
            prior=None if prior is None else read_prior(prior),
            draws=draws,
            threads=threads,
            progress=progress,
        )
    typer.echo(leave_out.to_json(rows) if as_json else plain_text.of_markdown(leave_out.markdown(rows)))
    if out is not None:
        leave_out.write(rows, out)
        tell_end(several(len(rows), "row"), begun, out)
