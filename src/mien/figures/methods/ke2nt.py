"""KE2NT's figure: faces, their neutral versions and the texts in one plane, and the cosine of each with its text.

Left, one layout of all three: features as filled marks, neutral versions as small open ones, texts as labelled stars.
Sentences about faces are all similar, so the layout shows only the directions in which the texts differ from their
mean, since only these decide between expressions.

Right, the underlying numbers: cosines of features and of neutral versions with the text of the face's expression.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mien.colours import COLOURS, SERIES
from mien.figures import embedding, palette
from mien.figures.context import MOST_FACES, Scene, labels_of, some_of
from mien.labels import EXPRESSIONS, NEUTRAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

    from mien.methods.ke2nt import KE2NT


def measure(
    method: KE2NT, images: Tensor
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Features [n, d], their neutral versions [n, d] and the texts [k, d] of a network, for `draw`.

    Raises:
        ConfigError: the network was trained without the transformation.
    """
    method.eval()
    versions = method.versions(images)
    parts = (versions.emotional, versions.neutral, method.texts)
    emotional, neutral, texts = (part.float().cpu().numpy() for part in parts)
    return emotional, neutral, texts


def draw(
    emotional: ArrayLike, neutral: ArrayLike, texts: ArrayLike, expression: Sequence[int], seed: int = 0
) -> Figure:
    """Draw both panels for faces of the given expressions (indices into `EXPRESSIONS`, all known).

    The method compares directions, so all vectors are scaled to length 1 first. Neutral faces are drawn, but not
    counted in the histogram, since their own text is the neutral one.

    Raises:
        ExtraMissing: scikit-learn is not installed.
    """
    near, far, anchors = (_unit(np.asarray(each, dtype=np.float64)) for each in (emotional, neutral, texts))
    labels = np.asarray(expression)
    flat, stars = embedding.project(
        _among_texts(np.concatenate([near, far]), anchors),
        _among_texts(anchors - anchors.mean(axis=0), anchors),
        seed=seed,
    )
    faces, versions = flat[: len(near)], flat[len(near) :]
    figure, (plane, histogram) = palette.canvas(9.2, 4.2, columns=2)
    for index, name in enumerate(EXPRESSIONS[: len(anchors)]):
        rows, colour, marker = labels == index, COLOURS[name], palette.MARKERS[name]
        (x, y), (u, v) = faces[rows].T, versions[rows].T
        plane.scatter(x, y, s=16, alpha=0.75, linewidths=0, color=colour, marker=marker)
        plane.scatter(u, v, s=12, alpha=0.8, linewidths=0.7, color="none", edgecolors=colour, marker=marker)
        at = (float(stars[index, 0]), float(stars[index, 1]))
        plane.plot(*at, marker="*", markersize=12, color=colour, markeredgecolor=palette.INK, zorder=4)
    palette.name_points(plane, EXPRESSIONS, [(float(x), float(y)) for x, y in stars])
    plane.set_xticks([])
    plane.set_yticks([])
    plane.set_title("faces (filled), neutral versions (open), texts (stars)", loc="left", fontsize=9.5)
    own = anchors[labels]
    shown = labels != NEUTRAL
    bins = np.linspace(-1, 1, 41).tolist()
    for number, (name, vectors) in enumerate((("face", near), ("neutral version", far))):
        cosine = (vectors * own).sum(axis=1)[shown]
        histogram.hist(
            cosine,
            bins=bins,
            color=SERIES[number],
            alpha=0.6,
            label=f"{name}, mean {cosine.mean():.2f}",
        )
    histogram.set_xlabel("cosine with the text of the face's expression")
    histogram.set_ylabel("faces")
    palette.legend(histogram, loc="lower left", ncols=2, bbox_to_anchor=(0, 1.0))
    return figure


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled


def _among_texts(rows: NDArray[np.float64], texts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows [n, d] as unit vectors in the k - 1 directions in which the texts [k, d] differ from their mean."""
    _, _, directions = np.linalg.svd(texts - texts.mean(axis=0), full_matrices=False)
    return _unit(rows @ directions[: len(texts) - 1].T)


def neutral(scene: Scene) -> Figure | None:
    """KE2NT: faces, their neutral versions and the texts."""
    rows = some_of(scene, scene.known, MOST_FACES)
    if not len(rows) or not hasattr(scene.model.module, "transformer"):
        return None
    parts = measure(scene.model.module, scene.images(rows))
    return draw(*parts, labels_of(scene, rows).tolist(), seed=scene.seed)
