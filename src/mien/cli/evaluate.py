"""`mien evaluate`: judge weights on a dataset and write the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mien.cli import options
from mien.cli.terminal import counted

_TABLE = ("weights", "data", "leave_out", "out", "cache", "prior", "draws", "threads", "as_json", "overwrite")
"""What counts for the table of `--leave-out`."""


def evaluate(
    context: typer.Context,
    weights: Annotated[str, typer.Argument(help="A checkpoint, an .onnx file, a run folder, or 'shipped'.")],
    data: Annotated[
        Path, typer.Argument(help="The dataset's folder; with --leave-out a configuration of several sets.")
    ],
    protocol: options.Protocol = None,
    reader: options.Reader = None,
    split: options.Split = "test",
    fold: Annotated[int, typer.Option(help="The tested fold of a protocol with folds.")] = 0,
    by: Annotated[
        str, typer.Option(help="Slices, comma-separated: gender,race,age,brightness,yaw,size.")
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
        typer.Option("--leave-out", help="Judge several sets, each as it is and under three made shifts."),
    ] = False,
    mirror: Annotated[
        bool, typer.Option(help="Average each face's answers with its mirror image's.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report; for a run folder its 'evaluation'.")
    ] = None,
    points: options.Points = None,
    cache: options.Cache = Path("cache"),
    prior: options.Prior = None,
    adapt: options.Adapt = None,
    embeddings: Annotated[
        bool, typer.Option(help="Keep the feature vectors in predictions.parquet.")
    ] = False,
    draws: Annotated[int, typer.Option(min=0, help="Bootstrap resamples behind each interval.")] = 1000,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Judge only this many images (for trials).")
    ] = None,
    threads: options.Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Judge a model on a dataset: figures with intervals, and a report to read and print."""
    from mien.evaluation import evaluate
    from mien.faces.operating_point import read_prior
    from mien.io import outputs
    from mien.reports.evaluation_report import FILES, is_unfinished, markdown, write

    if leave_out:
        options.refuse_others(context, _TABLE, "--leave-out judges each set as its configuration says")
        _table(weights, data, out, cache, prior, draws, threads, as_json, overwrite)
        return
    if out is None and Path(weights).is_dir():
        out = Path(weights) / "evaluation"
    if out is not None:
        outputs.check_folder(out, FILES, overwrite=overwrite or is_unfinished(out))
    with counted("aligning") as progress:
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
    typer.echo(report.to_json() if as_json else markdown(report))
    if report.provenance.learnt:
        typer.echo(f"WARNING: {report.notes[0]}", err=True)
    if written is not None:
        typer.echo(f"report: {written}", err=True)


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

    if out is not None:
        outputs.check_folder(out, leave_out.FILES, overwrite=overwrite)
    with counted("aligning") as progress:
        rows = leave_out.run(
            weights,
            leave_out.load(sets),
            cache=cache,
            prior=None if prior is None else read_prior(prior),
            draws=draws,
            threads=threads,
            progress=progress,
        )
    typer.echo(leave_out.to_json(rows) if as_json else leave_out.markdown(rows))
    if out is not None:
        leave_out.write(rows, out)
