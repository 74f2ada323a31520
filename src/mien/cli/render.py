"""`mien data render`: a data set of rendered heads whose persons, expressions, valence and arousal are known."""

from __future__ import annotations

from pathlib import Path

import typer

from mien.cli.terminal import counted
from mien.wording import several


def render(
    head: Path = typer.Argument(help="The head model: ICT-FaceKit packed as one .npz."),
    out: Path = typer.Argument(help="The folder to write; read it with data.reader=rendered."),
    identities: int = typer.Option(2000, min=3, help="How many persons."),
    images: int = typer.Option(10, min=2, max=100, help="Pictures of each."),
    seed: int = typer.Option(0, min=0, help="The same seed gives the same pixels."),
    size: int = typer.Option(112, min=32, max=512, help="Side of the pictures, pixels."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a finished data set."),
) -> None:
    """Render a data set of heads: train, valid, and a test of persons that training has seen and has not."""
    from collections import Counter

    from mien.data.readers import rendered as heads
    from mien.io import outputs

    if not (out / heads.BEGUN).is_file():  # else it goes on
        outputs.check_folder(out, [heads.FILE], overwrite=overwrite)
    renderer, digest = heads.renderer(head, size)
    with counted("rendering") as progress:
        records = heads.write(renderer, out, identities, images, seed, digest, progress)
    counts = Counter((record.split, record.attributes["person"]) for record in records)
    parts = ", ".join(f"{split} ({person}) {count:,}" for (split, person), count in sorted(counts.items()))
    typer.echo(
        f"wrote {out}: {several(len(records), 'picture')} of {several(identities, 'person', 'people')}: {parts}"
    )
