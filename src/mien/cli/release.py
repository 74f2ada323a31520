"""`mien release`: a trained run becomes weights that ship."""

from __future__ import annotations

from pathlib import Path

import typer

from mien.errors import ExtraMissing


def release(
    config: Path = typer.Argument(help="A release configuration, e.g. configs/recogniser.yaml."),
    out: Path = typer.Option(Path("release"), help="Folder for the network and its card."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a network that is there."),
) -> None:
    """Refit the affect head, export to int8, calibrate, measure on the test split, and write the card."""
    from mien import outputs

    try:
        from mien import release as making
    except ModuleNotFoundError as missing:
        raise ExtraMissing("train", missing.name or "torch") from None
    wanted = making.load(config)
    outputs.check_folder(out, [f"{wanted.name}.onnx"], overwrite=overwrite)  # written last
    typer.echo(making.build(wanted, out, lambda text: typer.echo(text, err=True)))
