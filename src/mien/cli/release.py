"""`mien release`: a trained run becomes weights that ship."""

from __future__ import annotations

from pathlib import Path

import typer

from mien.errors import ExtraMissing


def release(
    config: Path = typer.Argument(help="A release configuration, e.g. configs/recogniser.yaml."),
    out: Path = typer.Option(Path("release"), help="Folder for the network and its card."),
) -> None:
    """Refit the affect head, export to int8, calibrate, measure on the test split, and write the card."""
    try:
        from mien import release as making
    except ModuleNotFoundError as missing:
        raise ExtraMissing("train", missing.name or "torch") from None
    typer.echo(making.build(making.load(config), out, lambda text: typer.echo(text, err=True)))
