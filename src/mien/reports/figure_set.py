"""Draw all figures of one model on one dataset, with fixed seeds, for `mien figures`.

Every recogniser has those of `FIGURES`, and some methods have their own (`METHOD_FIGURES`). Some show pictures of
people (`grid`, `saliency`, and of the methods' own `paths` and `attention`): many datasets forbid publishing them, so
check the dataset's terms first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mien.errors import ConfigError, MienError, nearest
from mien.figures import (
    palette,
)
from mien.figures.context import Scene
from mien.figures.methods.cal import margin_curve, persons, strong_and_weak
from mien.figures.methods.cclls import learning
from mien.figures.methods.jadfer import head_bars, path_maps
from mien.figures.methods.ke2nt import neutral
from mien.figures.methods.meca import attention_maps, codes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mien.data.records import Split


FIGURES: tuple[str, ...] = (
    "confusion",
    "reliability",
    "risk",
    "plane",
    "embedding",
    "saliency",
    "grid",
    "curves",
)
"""The figures of every recogniser by name."""

METHOD_FIGURES: dict[str, dict[str, Callable[[Scene], Figure | None]]] = {
    "ke2nt": {"neutral": neutral},
    "jadfer": {"paths": path_maps, "heads": head_bars},
    "cclls": {"intensity": learning},
    "cal": {"margin": margin_curve, "groups": strong_and_weak, "persons": persons},
    "meca": {"polar": codes, "attention": attention_maps},
}
"""By method: its figures' names and drawing functions."""

KNOWN: tuple[str, ...] = (*FIGURES, *(name for figures in METHOD_FIGURES.values() for name in figures))
"""The names of `FIGURES` and of the methods' own figures."""


def draw(scene: Scene, name: str) -> Figure | None:
    """Draw one of `FIGURES` or of the method's own; None if there is nothing to draw."""
    brought = METHOD_FIGURES.get(scene.model.provenance.method, {}) if scene.model.module is not None else {}
    if name in brought:
        return brought[name](scene)
    made: Figure | None = getattr(scene, name)() if name in FIGURES else None
    return made


def make(
    weights: str | Path,
    root: Path | str,
    out: Path | str,
    *,
    protocol: str | None = None,
    reader: str | None = None,
    split: Split = "test",
    only: Sequence[str] = (),
    how: Literal["tsne", "umap"] = "tsne",
    points: Path | None = None,
    cache: Path = Path("cache"),
    limit: int | None = None,
    faces: int = 16,
    seed: int = 0,
    overwrite: bool = False,
) -> list[Path]:
    """Draw the figures and return the files written; figures that the model or set does not allow are left out.

    Args:
        weights, root, protocol, reader, split, points, cache, limit: as in `mien.evaluation.evaluate.run`.
        out: folder for the PNG and SVG files.
        only: some of `KNOWN`; empty means all that this model has.
        how: layout of the embedding.
        faces: number of faces in the grid and the saliency figure.
        seed: seed of the layout and of the choice of faces.
        overwrite: replace existing figures.

    Raises:
        ConfigError: an unknown figure.
        OutputExists: a figure exists, and `overwrite` is off.
        MienError: a figure requested by name cannot be drawn from this model and set.
    """
    from mien.data import cropping
    from mien.evaluation import inference
    from mien.io import outputs

    for name in only:
        if name not in KNOWN:
            raise ConfigError(f"no figure '{name}': {nearest(name, list(KNOWN))}")
    model = inference.open_weights(weights)
    names = only or (*FIGURES, *METHOD_FIGURES.get(model.provenance.method, {}))
    outputs.check_folder(
        out, (f"{name}.{form}" for name in names for form in palette.FORMS), overwrite=overwrite
    )
    source = inference.source_of(
        root, protocol, reader, points=points, like=model.source, labels=model.classes
    )
    records = inference.records_of(source, split, limit, model.classes)
    find = cropping.finds_faces(source, model.classes)
    crops = cropping.load_crops(records, model.size, model.colour, cache, source.points, find=find)
    predictions = inference.predict(model, source, split, cache=cache, limit=limit)
    folder = Path(weights) if Path(weights).is_dir() else None
    scene = Scene(model, predictions, crops, folder, how, faces, seed)
    written: list[Path] = []
    for name in names:
        figure = draw(scene, name)
        if figure is None:
            if only:
                owner = next((method for method in METHOD_FIGURES if name in METHOD_FIGURES[method]), "")
                other = (
                    f"pass a run of {owner}, which" if owner else "leave it out of --only, or pass a run that"
                )
                raise MienError(f"'{name}' cannot be drawn from these weights and this set: {other} has it")
            continue
        written += palette.save(figure, Path(out) / name)
    return written
