"""`mien figures`: the pictures of a paper, from a run or weights on a dataset."""

from __future__ import annotations

from pathlib import Path

import typer


def figures(
    weights: str = typer.Argument(help="A run folder, a checkpoint, an .onnx file, or 'shipped'."),
    data: Path = typer.Argument(help="The dataset's folder."),
    out: Path = typer.Option(Path("figures"), help="Folder for the PNG and SVG files."),
    protocol: str | None = typer.Option(None, help="The rule that chooses images and classes."),
    reader: str | None = typer.Option(None, help="The dataset's reader, where no protocol names it."),
    split: str = typer.Option("test", help="train, valid or test."),
    only: str = typer.Option(
        "",
        help="Some of: confusion,reliability,risk,plane,embedding,saliency,grid,curves; of ke2nt: neutral; of jadfer: "
        "paths,heads; of cclls: intensity; of cal: margin,groups,persons; of meca: polar,attention.",
    ),
    umap: bool = typer.Option(False, help="Lay embeddings out by UMAP instead of t-SNE."),
    points: Path | None = typer.Option(None, help="Stored landmarks (.npz) instead of the shipped network."),
    cache: Path = typer.Option(Path("cache"), help="Where aligned crops are kept."),
    limit: int | None = typer.Option(None, min=8, help="Use only this many images."),
    faces: int = typer.Option(16, min=1, max=64, help="Faces in the grid and in the saliency figure."),
    seed: int = typer.Option(0, help="Of the layout and of the choice of faces."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace figures that are there."),
) -> None:
    """Draw a model's figures: confusion, confidence, affect, embedding, saliency, faces, curves, its method's own."""
    from mien.errors import ConfigError
    from mien.reports import figure_set

    if split not in ("train", "valid", "test"):
        raise ConfigError(f"--split {split}: use train, valid or test")
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    for path in figure_set.make(
        weights,
        data,
        out,
        protocol=protocol,
        reader=reader,
        split=split,  # type: ignore[arg-type]  # checked above
        only=wanted,
        how="umap" if umap else "tsne",
        points=points,
        cache=cache,
        limit=limit,
        faces=faces,
        seed=seed,
        overwrite=overwrite,
    ):
        typer.echo(path)
