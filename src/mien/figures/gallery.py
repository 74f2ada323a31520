"""All figures of one model on one dataset, with fixed seeds: what `mien figures` writes.

Every recogniser has those of `FIGURES`, and a method its own besides (`mien.figures.own`). Some show pictures of people
(`grid`, `saliency`, and of the methods' own `paths` and `attention`): many datasets forbid to publish them, so look at
the dataset's terms before you do.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from mien import metrics
from mien.config import nearest
from mien.errors import ConfigError, MienError
from mien.figures import confusion, curves, embedding, grids, own, palette, plane, reliability, saliency
from mien.labels import UNLABELLED

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from torch import Tensor

    from mien.data.loaders import Crops
    from mien.data.records import Split
    from mien.infer import Model
    from mien.predictions import Predictions

MOST_POINTS = 3000
"""Embeddings in a layout; more are thinned to a seeded subset, as t-SNE's time grows fast."""


class Scene:
    """What the figures are drawn from; each method draws one, or returns None where there is nothing to draw."""

    def __init__(
        self,
        model: Model,
        predictions: Predictions,
        crops: Crops,
        folder: Path | None,
        how: str,
        faces: int,
        seed: int,
    ) -> None:
        self.model, self.predictions, self.crops, self.folder = model, predictions, crops, folder
        self.how: Literal["tsne", "umap"] = "umap" if how == "umap" else "tsne"
        self.batch = _batch_of(folder)
        self.faces, self.seed = faces, seed
        self.known = np.flatnonzero(predictions.truth != UNLABELLED)
        self.answer = predictions.probabilities.argmax(axis=1)

    def words(self, rows: NDArray[np.int64]) -> list[str | None]:
        """The true expression words of some rows."""
        p = self.predictions
        return [None if p.truth[i] == UNLABELLED else p.classes[p.truth[i]] for i in rows]

    def drawn(self, rows: NDArray[np.int64]) -> list[str]:
        """The same as matplotlib can draw them; "" for none."""
        p = self.predictions
        names = palette.readable(p.classes)
        return ["" if p.truth[i] == UNLABELLED else names[p.truth[i]] for i in rows]

    def confusion(self) -> Figure | None:
        if not len(self.known):
            return None
        p = self.predictions
        return confusion.draw(
            metrics.confusion(p.truth[self.known], self.answer[self.known], len(p.classes)), p.classes
        )

    def _sure(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        p = self.predictions.rows(self.known)
        return p.probabilities.max(axis=1), p.probabilities.argmax(axis=1) == p.truth

    def reliability(self) -> Figure | None:
        if not len(self.known):
            return None
        sure, right = self._sure()
        return reliability.draw(metrics.reliability(sure, right), metrics.calibration_error(sure, right))

    def risk(self) -> Figure | None:
        if not len(self.known):
            return None
        coverage, risk, _ = metrics.risk_coverage(*self._sure())
        return reliability.risk_coverage({self.predictions.provenance.model: (coverage, risk)})

    def plane(self) -> Figure | None:
        if not np.isfinite(self.predictions.affect).any():
            return None
        return plane.draw(self.predictions.affect, self.words(np.arange(len(self.predictions))))

    def embedding(self) -> Figure | None:
        p = self.predictions
        if not p.embedding.shape[1]:
            return None
        kept = np.sort(np.random.default_rng(self.seed).permutation(len(p))[:MOST_POINTS])
        names, means = _means(p)
        flat, spots = embedding.project(p.embedding[kept], means, how=self.how, seed=self.seed)
        under = ""
        if len(self.known):
            found = metrics.separation(p.embedding[self.known], p.truth[self.known], self.seed)
            under = f"silhouette {found['silhouette']:.2f}   Recall@1 {found['recall_at_1']:.2f}"
        return embedding.draw(flat, self.words(kept), spots, names, title=under, classes=p.classes)

    def images(self, rows: NDArray[np.int64]) -> Tensor:
        """The crops of some rows as a network takes them."""
        import torch

        from mien.data.transforms import normalise, to_float

        return normalise(to_float(torch.from_numpy(np.array(self.crops.images[rows]))))

    def chosen(self, count: int) -> NDArray[np.int64]:
        """Faces for a grid: classes in turn, at random within each, so that rare ones are seen too."""
        random, p = np.random.default_rng(self.seed), self.predictions
        queues = [random.permutation(np.flatnonzero(p.truth == k)).tolist() for k in np.unique(p.truth)]
        chosen: list[int] = []
        while len(chosen) < min(count, len(p)):
            for queue in queues:
                if queue and len(chosen) < count:
                    chosen.append(queue.pop())
        return np.array(sorted(chosen, key=lambda row: int(p.truth[row])), dtype=np.int64)

    def _captions(self, rows: NDArray[np.int64]) -> list[str]:
        p = self.predictions
        names = palette.readable(p.classes)
        return [
            f"{names[self.answer[row]]} {p.probabilities[row].max():.2f}"
            + (f"\ntrue: {word}" if word else "")
            for row, word in zip(rows, self.drawn(rows), strict=True)
        ]

    def grid(self) -> Figure | None:
        rows = self.chosen(self.faces)
        wrong = [bool(self.predictions.truth[i] not in (UNLABELLED, self.answer[i])) for i in rows]
        return grids.draw([self.crops.images[i] for i in rows], self._captions(rows), marks=wrong)

    def saliency(self) -> Figure | None:
        if self.model.module is None:
            return None
        rows = self.chosen(self.faces)
        faces = np.array(self.crops.images[rows])
        images = self.images(rows)
        score = saliency.scores_of(self.model.module)
        maps = saliency.grad_cam(score, saliency.last_map(self.model.module, images, score), images)
        return saliency.draw(faces, maps, self._captions(rows))

    def curves(self) -> Figure | None:
        written = self.folder / "metrics.jsonl" if self.folder is not None else None
        if written is None or not written.is_file():
            return None
        from mien import runlog

        done = written.with_name("finished")
        kept = json.loads(done.read_text(encoding="utf-8"))["best_epoch"] if done.is_file() else None
        return curves.of_run(runlog.read(written), kept)

    def draw(self, name: str) -> Figure | None:
        """One of `FIGURES` or of the method's own; None where there is nothing to draw."""
        brought = own.OWN.get(self.model.provenance.method, {}) if self.model.module is not None else {}
        if name in brought:
            return brought[name](self)
        made: Figure | None = getattr(self, name)() if name in FIGURES else None
        return made


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

KNOWN: tuple[str, ...] = (*FIGURES, *(name for figures in own.OWN.values() for name in figures))
"""Those and the methods' own."""


def _batch_of(folder: Path | None) -> int:
    """The batch that a run was trained with; the published 128 where it is not known."""
    from mien.config import load_config

    written = folder / "config.yaml" if folder is not None else None
    return load_config(written).batch if written is not None and written.is_file() else 128


def _means(p: Predictions) -> tuple[list[str], NDArray[np.float64]]:
    """(words, [c, d]): the mean embedding of each class with five or more images, as its prototype."""
    counted = [k for k in range(len(p.classes)) if (p.truth == k).sum() >= 5]
    means = [p.embedding[p.truth == k].mean(axis=0) for k in counted]
    return [p.classes[k] for k in counted], np.array(means, dtype=np.float64).reshape(
        -1, p.embedding.shape[1]
    )


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
    """Draw the figures and return the files written; what the model or set cannot give is left out.

    Args:
        weights, root, protocol, reader, split, points, cache, limit: as in `mien.evaluate.run`.
        out: folder for the PNG and SVG files.
        only: some of `KNOWN`; none means all that this model offers.
        how: layout of the embedding.
        faces: in the grid and the saliency figure.
        seed: of layout and choice.
        overwrite: replace figures that are there.

    Raises:
        ConfigError: an unknown figure.
        OutputExists: a figure is there, and `overwrite` was not asked for.
        MienError: a figure that was asked for by name cannot be drawn from this model and set.
    """
    from mien import infer, outputs
    from mien.data import loaders

    for name in only:
        if name not in KNOWN:
            raise ConfigError(f"no figure '{name}': {nearest(name, list(KNOWN))}")
    model = infer.open_weights(weights)
    names = only or (*FIGURES, *own.OWN.get(model.provenance.method, {}))
    outputs.check_folder(
        out, (f"{name}.{form}" for name in names for form in palette.FORMS), overwrite=overwrite
    )
    source = infer.source_of(root, protocol, reader, points=points, like=model.source, labels=model.classes)
    records = infer.records_of(source, split, limit, model.classes)
    find = loaders.finds_faces(source, model.classes)
    crops = loaders.load_crops(records, model.size, model.colour, cache, source.points, find=find)
    predictions = infer.predict(model, source, split, cache=cache, limit=limit)
    folder = Path(weights) if Path(weights).is_dir() else None
    scene = Scene(model, predictions, crops, folder, how, faces, seed)
    written: list[Path] = []
    for name in names:
        figure = scene.draw(name)
        if figure is None:
            if only:
                whose = next((method for method in own.OWN if name in own.OWN[method]), "")
                other = (
                    f"pass a run of {whose}, which" if whose else "leave it out of --only, or pass a run that"
                )
                raise MienError(f"'{name}' cannot be drawn from these weights and this set: {other} has it")
            continue
        written += palette.save(figure, Path(out) / name)
    return written
