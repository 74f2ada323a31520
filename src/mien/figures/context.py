"""The data of figures: a trained network, its predictions on a set of faces, and the faces themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from mien.evaluation import metrics
from mien.figures import (
    affect_plane,
    confusion,
    embedding,
    image_grid,
    learning_curves,
    palette,
    reliability,
    saliency,
)
from mien.labels import EXPRESSIONS, UNLABELLED

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from torch import Tensor

    from mien.data.cropping import Crops
    from mien.data.predictions import Predictions
    from mien.evaluation.inference import Model
    from mien.methods.base import Batch

MOST_FACES = 600
"""Largest number of faces in a scatter plot; of more, a seeded subset is drawn."""

ROWS = 8
"""Number of faces in a figure with one row per face."""

BATCHES, BATCH = 8, 64
"""Number of batches on which learning intensity is measured, and faces in each."""

CROWD = 256
"""Number of faces in the figure of CAL's groups: a large batch."""

PERSONS = 8
"""Largest number of persons with separate colours."""


def some_of(scene: Scene, rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most `most` of the rows, by the scene's seed, in order."""
    kept: NDArray[np.int64] = np.sort(np.random.default_rng(scene.seed).permutation(rows)[:most])
    return kept


def affect_of(scene: Scene, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """(valence, arousal) [n, 2] of faces: the label, else derived from votes for the eight expressions, else NaN."""
    from mien.data.cropping import vote_affect

    p = scene.predictions
    if scene.model.classes != EXPRESSIONS:
        return p.affect_truth[rows]
    derived = vote_affect(_votes(scene, rows).astype(np.float32)).astype(np.float64)
    return np.where(np.isfinite(p.affect_truth[rows]), p.affect_truth[rows], derived)


def _votes(scene: Scene, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Vote shares [n, k] over all labels of the model; 0 for classes that the protocol leaves out."""
    p, labels = scene.predictions, scene.model.classes
    votes = np.zeros((len(rows), len(labels)))
    votes[:, [labels.index(name) for name in p.classes]] = p.votes[rows]
    votes[~np.isfinite(p.votes[rows]).all(axis=1)] = np.nan
    return votes


def labels_of(scene: Scene, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Expressions [n] as indices into the model's labels, independent of the protocol's classes."""
    place = np.array([*(scene.model.classes.index(name) for name in scene.predictions.classes), UNLABELLED])
    labels: NDArray[np.int64] = place[scene.predictions.truth[rows]]
    return labels


def batch_of(scene: Scene, rows: NDArray[np.int64]) -> Batch:
    """The faces with their labels as a training batch, without augmentation."""
    import torch

    from mien.methods.base import Batch

    return Batch(
        scene.images(rows),
        torch.from_numpy(labels_of(scene, rows)),
        torch.from_numpy(affect_of(scene, rows).astype(np.float32)),
        torch.from_numpy(_votes(scene, rows).astype(np.float32)),
        torch.full((len(rows),), -1),
        {},
    )


MOST_POINTS = 3000
"""Largest number of embeddings in a layout; of more, a seeded subset is used, as t-SNE's time grows fast."""


class Scene:
    """The data of all figures; each method draws one, or returns None if there is nothing to draw."""

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
        """The same words in a form that matplotlib can draw; "" for none."""
        p = self.predictions
        names = palette.readable(p.classes)
        return ["" if p.truth[i] == UNLABELLED else names[p.truth[i]] for i in rows]

    def confusion(self) -> Figure | None:
        if not len(self.known):
            return None
        p = self.predictions
        return confusion.draw(
            metrics.confusion(p.truth[self.known], self.answer[self.known], len(p.classes)),
            p.classes,
            "share of each true label, per cent (small: number of pictures)",
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
        return affect_plane.draw(self.predictions.affect, self.words(np.arange(len(self.predictions))))

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
            same, apart = found["recall_at_1"], found["silhouette"]
            under = f"nearest other face has the same label: {same:.0%}; silhouette {apart:.2f}"
        return embedding.draw(flat, self.words(kept), spots, names, title=under, classes=p.classes)

    def images(self, rows: NDArray[np.int64]) -> Tensor:
        """The crops of some rows as network input."""
        import torch

        from mien.data.transforms import normalise, to_float

        return normalise(to_float(torch.from_numpy(np.array(self.crops.images[rows]))))

    def chosen(self, count: int) -> NDArray[np.int64]:
        """Faces for a grid: classes alternate, at random within each, so that rare ones are included."""
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
        title = "framed: the answer is not the label" if any(wrong) else ""
        pictures = [self.crops.images[i] for i in rows]
        return image_grid.draw(pictures, self._captions(rows), marks=wrong, title=title)

    def saliency(self) -> Figure | None:
        if self.model.module is None:
            return None
        rows, module = self.chosen(self.faces), self.model.module
        maps = saliency.occlusion(lambda images: module.predict(images).logits, self.images(rows))
        return saliency.draw(np.array(self.crops.images[rows]), maps, self._captions(rows))

    def curves(self) -> Figure | None:
        written = self.folder / "metrics.jsonl" if self.folder is not None else None
        if written is None or not written.is_file():
            return None
        from mien.training import run_log

        done = written.with_name("finished")
        kept = json.loads(done.read_text(encoding="utf-8"))["best_epoch"] if done.is_file() else None
        return learning_curves.of_run(run_log.read(written), kept)


def _batch_of(folder: Path | None) -> int:
    """The batch that a run was trained with; the published 128 if it is unknown."""
    from mien.training.config import load_config

    written = folder / "config.yaml" if folder is not None else None
    return load_config(written).batch if written is not None and written.is_file() else 128


def _means(p: Predictions) -> tuple[list[str], NDArray[np.float64]]:
    """(words, [c, d]): the mean embedding of each class with five or more images, as its prototype."""
    counted = [k for k in range(len(p.classes)) if (p.truth == k).sum() >= 5]
    means = [p.embedding[p.truth == k].mean(axis=0) for k in counted]
    return [p.classes[k] for k in counted], np.array(means, dtype=np.float64).reshape(
        -1, p.embedding.shape[1]
    )
