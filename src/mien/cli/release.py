"""`mien release`: make weights for prediction from a trained run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from mien.cli import options
from mien.cli.terminal import tell_end
from mien.errors import ConfigError, ExtraMissing


def release(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="A run folder of `mien train`, or a release configuration (.yaml)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the network and its card.")] = Path("release"),
    data: Annotated[Path | None, typer.Option(help="The run's dataset, if it was moved.")] = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Make weights for prediction from a trained run: `mien predict PHOTOS --weights OUT` reads them.

    The network is exported to ONNX, calibrated on the validation pictures, and described by a card. A configuration
    such as configs/recogniser.yaml makes those of this package: it also refits the affect head and exports to int8. One
    with `network`, such as configs/recogniser-head.yaml, fits a new expression head to existing weights.
    """
    from mien.config import read_tree
    from mien.io import outputs

    try:
        from mien.release import build, expression_head
    except ModuleNotFoundError as missing:
        raise ExtraMissing("train", missing.name or "torch") from None

    def progress(text: str) -> None:
        typer.echo(text, err=True)

    begun = time.monotonic()
    if not source.exists():
        raise ConfigError(f"{source}: no such run folder or release configuration: 'mien runs' lists runs")
    if source.is_dir():
        made = build.own(source, out, progress, data, overwrite)
    elif data is not None:
        raise ConfigError("--data is for run folders: a configuration names its own run and sets")
    elif "network" in (tree := read_tree(source)):
        head = expression_head.load(tree, str(source))
        outputs.check_folder(out, [f"{head.name}.onnx"], overwrite=overwrite)
        made = expression_head.build(head, out, progress)
    else:
        wanted = build.load(source)
        outputs.check_folder(out, [f"{wanted.name}.onnx"], overwrite=overwrite)  # written last
        made = build.build(wanted, out, progress)
    typer.echo(made)
    tell_end("1 network with its card", begun, out)
