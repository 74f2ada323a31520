"""The figures that a method brings along: what its paper argues, drawn from a trained network and a set of faces.

Each function takes the scene of `mien.figures.gallery` and returns a figure, or None where this network or set has
nothing to draw (a part switched off, no labels). `mien figures` adds those of the method at hand to its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from mien.figures import embedding, intensity, margin, paths, polar, transformation
from mien.labels import EXPRESSIONS, UNLABELLED

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from mien.data.records import Batch
    from mien.figures.gallery import Scene

MOST_FACES = 600
"""Faces in a scatter; more are thinned to a seeded subset."""

ROWS = 8
"""Faces in a figure with a row for each."""

BATCHES, BATCH = 8, 64
"""Batches that learning intensity is measured on, and faces in each."""

CROWD = 256
"""Faces in the figure of CAL's groups: a large batch."""

PERSONS = 8
"""Persons with a colour of their own."""


def _drawn(scene: Scene, rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most `most` of the rows, by the scene's seed, in order."""
    kept: NDArray[np.int64] = np.sort(np.random.default_rng(scene.seed).permutation(rows)[:most])
    return kept


def _affect(scene: Scene, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """(valence, arousal) [n, 2] of faces: the label, else what votes for the eight expressions say, else NaN."""
    from mien.data.loaders import vote_affect

    p = scene.predictions
    if scene.model.classes != EXPRESSIONS:
        return p.affect_truth[rows]
    derived = vote_affect(_votes(scene, rows).astype(np.float32)).astype(np.float64)
    return np.where(np.isfinite(p.affect_truth[rows]), p.affect_truth[rows], derived)


def _votes(scene: Scene, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Vote shares [n, k] over all labels of the model; classes that the protocol leaves out have none."""
    p, labels = scene.predictions, scene.model.classes
    votes = np.zeros((len(rows), len(labels)))
    votes[:, [labels.index(name) for name in p.classes]] = p.votes[rows]
    votes[~np.isfinite(p.votes[rows]).all(axis=1)] = np.nan
    return votes


def _labels(scene: Scene, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Expressions [n] as indices into the model's labels, whatever the protocol's classes."""
    place = np.array([*(scene.model.classes.index(name) for name in scene.predictions.classes), UNLABELLED])
    labels: NDArray[np.int64] = place[scene.predictions.truth[rows]]
    return labels


def batch_of(scene: Scene, rows: NDArray[np.int64]) -> Batch:
    """The faces with their labels, as training would see them but without augmentation."""
    import torch

    from mien.data.records import Batch

    return Batch(
        scene.images(rows),
        torch.from_numpy(_labels(scene, rows)),
        torch.from_numpy(_affect(scene, rows).astype(np.float32)),
        torch.from_numpy(_votes(scene, rows).astype(np.float32)),
        torch.full((len(rows),), -1),
        {},
    )


def neutral(scene: Scene) -> Figure | None:
    """KE2NT: faces, their neutral versions and the texts."""
    rows = _drawn(scene, scene.known, MOST_FACES)
    if not len(rows) or not hasattr(scene.model.module, "transformer"):
        return None
    parts = transformation.measure(scene.model.module, scene.images(rows))
    return transformation.draw(*parts, _labels(scene, rows).tolist(), seed=scene.seed)


def path_maps(scene: Scene) -> Figure | None:
    """JADFER: where each spatial path looks."""
    if not scene.model.module.config.paths:
        return None
    rows = scene.chosen(ROWS)
    maps, _, _ = paths.measure(scene.model.module, scene.images(rows))
    return paths.draw(np.array(scene.crops.images[rows]), maps, scene.drawn(rows))


def heads(scene: Scene) -> Figure | None:
    """JADFER: how alike the heads of each attention block are."""
    config = scene.model.module.config
    if not config.paths or not config.context:
        return None
    rows = _drawn(scene, np.arange(len(scene.predictions)), CROWD)
    _, _, similarity = paths.measure(scene.model.module, scene.images(rows))
    return paths.heads({scene.predictions.provenance.model: similarity})


def learning(scene: Scene) -> Figure | None:
    """CCLLS: how strongly each layer is taught, on labelled faces in training mode."""
    from mien.methods.cclls import learning_intensity

    rows = np.random.default_rng(scene.seed).permutation(scene.known)[: BATCHES * BATCH]
    if len(rows) < 2 * len(scene.model.classes):  # k-means over a batch needs as many faces as clusters
        return None
    # A copy: training mode moves running statistics.
    network = copy.deepcopy(scene.model.module).train()
    each = [
        learning_intensity(network, batch_of(scene, part)).numpy()
        for part in np.array_split(rows, max(1, len(rows) // BATCH))
    ]
    return intensity.draw({scene.predictions.provenance.model: np.stack(each)})


def margin_curve(scene: Scene) -> Figure | None:
    """CAL: the adaptive margin with its two parts, for the batch that the run was trained with."""
    config = scene.model.module.config
    if not config.critic or config.margin != "adaptive":
        return None
    return margin.curve(scene.batch, config.margin_c, config.margin_k)


def strong_and_weak(scene: Scene) -> Figure | None:
    """CAL: strong and weak faces of a large batch, by their labels."""
    rows = np.arange(len(scene.predictions))
    rated = _affect(scene, rows)
    rows = _drawn(scene, rows[np.isfinite(rated).all(axis=1)], CROWD)
    return margin.groups(_affect(scene, rows), scene.model.module.config.grouping) if len(rows) else None


def persons(scene: Scene) -> Figure | None:
    """CAL: the features coloured by intensity and by person; persons should not form clusters."""
    p = scene.predictions
    everyone = np.arange(len(p))
    strength = np.linalg.norm(_affect(scene, everyone), axis=1)
    named = np.array([who is not None for who in p.subjects])
    rows = _drawn(scene, np.flatnonzero(named & np.isfinite(strength)), MOST_FACES)
    if len(rows) < 4 or not p.embedding.shape[1]:
        return None
    flat, _ = embedding.project(p.embedding[rows], how=scene.how, seed=scene.seed)
    return embedding.by_person(flat, strength[rows], [p.subjects[row] or "" for row in rows], PERSONS)


def codes(scene: Scene) -> Figure | None:
    """MECA: directions and lengths of the codes."""
    import torch

    from mien.methods.base import expression_target
    from mien.methods.meca import intensities

    rows = _drawn(scene, scene.known, MOST_FACES)
    if len(rows) < 3:
        return None
    direction, length, axes, _ = polar.measure(scene.model.module, scene.images(rows))
    batch = batch_of(scene, rows)
    with torch.no_grad():
        shares, _ = expression_target(batch, len(EXPRESSIONS))
        strong, graded = intensities(batch, shares)
    known = np.where(graded.numpy() > 0, strong.numpy(), np.nan)
    return polar.draw(direction, length, axes, scene.words(rows), known)


def attention(scene: Scene) -> Figure | None:
    """MECA: where each expression's query looks."""
    if not scene.model.module.config.attention:
        return None
    rows = scene.chosen(ROWS)
    maps = polar.measure(scene.model.module, scene.images(rows))[3]
    return polar.attention(
        np.array(scene.crops.images[rows]), maps, [word or "" for word in scene.words(rows)]
    )


OWN: dict[str, dict[str, Callable[[Scene], Figure | None]]] = {
    "ke2nt": {"neutral": neutral},
    "jadfer": {"paths": path_maps, "heads": heads},
    "cclls": {"intensity": learning},
    "cal": {"margin": margin_curve, "groups": strong_and_weak, "persons": persons},
    "meca": {"polar": codes, "attention": attention},
}
"""By method: the names of its figures and what draws them."""
