"""`mien figures`: draw the figures of a run or of weights on a dataset."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from mien.cli import options
from mien.cli.terminal import tell_end
from mien.wording import several


def figures(
    weights: Annotated[str, typer.Argument(help="A run folder, a checkpoint, an .onnx file, or 'shipped'.")],
    data: options.DataFolder,
    out: Annotated[Path, typer.Option(help="Folder for the PNG and SVG files.")] = Path("figures"),
    protocol: options.Protocol = None,
    reader: options.Reader = None,
    split: options.Split = "test",
    only: Annotated[
        str,
        typer.Option(
            help="Some of: confusion,reliability,risk,plane,embedding,saliency,grid,curves; of ke2nt: neutral; of "
            "jadfer: paths,heads; of cclls: intensity; of cal: margin,groups,persons; of meca: polar,attention."
        ),
    ] = "",
    umap: Annotated[bool, typer.Option(help="Project embeddings by UMAP instead of t-SNE.")] = False,
    points: options.Points = None,
    cache: options.Cache = Path("cache"),
    limit: Annotated[int | None, typer.Option(min=8, help="Use only this many images.")] = None,
    faces: Annotated[
        int, typer.Option(min=1, max=64, help="Faces in the grid and in the saliency figure.")
    ] = 16,
    seed: Annotated[int, typer.Option(help="Seed of the layout and of the choice of faces.")] = 0,
    overwrite: options.Overwrite = False,
) -> None:
    """Draw a model's figures: confusion, confidence, affect, embedding, saliency, faces, curves, and those of its
    method."""
    from mien.reports import figure_set

    begun = time.monotonic()
    paths = figure_set.make(
        weights,
        data,
        out,
        protocol=protocol,
        reader=reader,
        split=split,
        only=options.words(only),
        how="umap" if umap else "tsne",
        points=points,
        cache=cache,
        limit=limit,
        faces=faces,
        seed=seed,
        overwrite=overwrite,
    )
    for path in paths:
        typer.echo(path)
    tell_end(several(len(paths), "file"), begun, out)
