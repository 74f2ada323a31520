"""`mien evaluate`: judge weights on a dataset and write the report."""

from __future__ import annotations

from pathlib import Path

import typer

from mien.cli.terminal import counted


def evaluate(
    weights: str = typer.Argument(help="A checkpoint, an .onnx file, a run folder, or 'shipped'."),
    data: Path = typer.Argument(help="The dataset's folder."),
    protocol: str | None = typer.Option(
        None, help="The rule that chooses images and classes, e.g. ferplus-majority."
    ),
    reader: str | None = typer.Option(None, help="The dataset's reader, where no protocol names it."),
    split: str = typer.Option("test", help="train, valid or test."),
    fold: int = typer.Option(0, help="The tested fold of a protocol with folds."),
    by: str = typer.Option("", help="Slices, comma-separated: gender,race,age,brightness,yaw,size."),
    undetected: str = typer.Option(
        "keep", help="Pictures without a found face: keep (whole picture), error or drop."
    ),
    calibrate: bool = typer.Option(
        False, help="Fit a temperature on the validation split and report its effect."
    ),
    mirror: bool = typer.Option(False, help="Average each face's answers with its mirror image's."),
    out: Path | None = typer.Option(None, help="Folder for the report; for a run folder its 'evaluation'."),
    points: Path | None = typer.Option(None, help="Stored landmarks (.npz) instead of the shipped network."),
    cache: Path = typer.Option(Path("cache"), help="Where aligned crops are kept."),
    embeddings: bool = typer.Option(False, help="Keep the feature vectors in predictions.parquet."),
    draws: int = typer.Option(1000, min=0, help="Bootstrap resamples behind each interval."),
    limit: int | None = typer.Option(None, min=1, help="Judge only this many images (for trials)."),
    threads: int | None = typer.Option(None, min=1, help="Processor threads."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a report that is there."),
) -> None:
    """Judge a model on a dataset: figures with intervals, and a report to read and print."""
    from mien.errors import ConfigError
    from mien.evaluation import evaluate as judge
    from mien.io import outputs
    from mien.reports import evaluation_report as page

    if split not in ("train", "valid", "test"):
        raise ConfigError(f"--split {split}: use train, valid or test")
    if undetected not in judge.UNDETECTED:
        raise ConfigError(f"--undetected {undetected}: use {', '.join(judge.UNDETECTED)}")
    if out is None and Path(weights).is_dir():
        out = Path(weights) / "evaluation"
    if out is not None:
        outputs.check_folder(out, page.FILES, overwrite=overwrite or page.is_unfinished(out))
    with counted("aligning") as progress:
        found, predictions = judge.run(
            weights,
            data,
            protocol,
            reader=reader,
            split=split,  # type: ignore[arg-type]  # checked above
            fold=fold,
            points=points,
            cache=cache,
            by=[key.strip() for key in by.split(",") if key.strip()],
            undetected=undetected,  # type: ignore[arg-type]  # checked above
            calibrate=calibrate,
            mirror=mirror,
            draws=draws,
            limit=limit,
            threads=threads,
            progress=progress,
        )
    written = page.write(found, predictions, out, embeddings) if out is not None else None
    typer.echo(found.to_json() if as_json else page.markdown(found))
    if found.provenance.learnt:
        typer.echo(f"WARNING: {found.notes[0]}", err=True)
    if written is not None:
        typer.echo(f"report: {written}", err=True)
