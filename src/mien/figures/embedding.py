"""Plot a feature space: t-SNE (or UMAP) of embeddings with a colour and marker for each expression.

Distances between clusters in such a plot mean little, and cluster sizes nothing. Measure separation with
`mien.evaluation.metrics.separation`, which works in the feature space itself, and state its figures below the plot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from mien.colours import SERIES
from mien.colours import colour as colour_of
from mien.errors import ExtraMissing, MienError
from mien.figures import palette
from mien.io import pages
from mien.labels import EXPRESSIONS

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

PERPLEXITY = 30.0
"""t-SNE's number of effective neighbours; lowered to a third of the points for small sets."""

NAMED = 24
"""Largest number of labels in the legend; with more, only colours and markers are drawn."""

COMPONENTS = 50
"""Principal components kept before t-SNE or UMAP."""


def project(
    features: ArrayLike,
    prototypes: ArrayLike | None = None,
    *,
    how: Literal["tsne", "umap"] = "tsne",
    seed: int = 0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Project features [n, d] and prototypes [p, d] to the plane together: ([n, 2], [p, 2]).

    PCA to at most 50 dimensions, then t-SNE with perplexity 30 from the PCA start, or UMAP with its defaults. The same
    features and seed give the same picture.

    Raises:
        MienError: fewer than four points.
        ExtraMissing: scikit-learn, or for "umap" the package umap-learn, is not installed.
    """
    points = np.asarray(features, dtype=np.float64)
    anchors = (
        np.empty((0, points.shape[1])) if prototypes is None else np.asarray(prototypes, dtype=np.float64)
    )
    whole = np.concatenate([points, anchors])
    if len(whole) < 4:
        raise MienError(f"{len(whole)} points are too few for a layout: pass at least four embeddings")
    try:
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
    except ModuleNotFoundError:
        raise ExtraMissing("figures", "scikit-learn") from None
    reduced = PCA(min(COMPONENTS, *whole.shape), random_state=seed, svd_solver="full").fit_transform(whole)
    if how == "umap":
        flat = _umap(reduced, seed)
    else:
        perplexity = min(PERPLEXITY, (len(whole) - 1) / 3)
        flat = TSNE(
            2, perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed
        ).fit_transform(reduced)
    return np.asarray(flat[: len(points)], dtype=np.float64), np.asarray(
        flat[len(points) :], dtype=np.float64
    )


def _umap(reduced: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    try:
        from umap import UMAP
    except ModuleNotFoundError:
        raise MienError(
            "UMAP needs the package umap-learn: install it with  pip install umap-learn"
        ) from None
    return np.asarray(UMAP(random_state=seed, n_jobs=1).fit_transform(reduced))


def draw(
    flat: ArrayLike,
    words: Sequence[str | None],
    prototypes: ArrayLike | None = None,
    names: Sequence[str] = EXPRESSIONS,
    title: str = "",
    classes: Sequence[str] = EXPRESSIONS,
) -> Figure:
    """Draw projected points [n, 2] by expression word, with prototypes [p, 2] as large outlined markers with names.

    `classes` are all labels. With more than `NAMED`, only colours and markers are shown.
    """
    points, called = np.asarray(flat, dtype=np.float64), np.array([word or "" for word in words])
    figure, (axis,) = palette.canvas(5.2, 4.2)
    classes = EXPRESSIONS if set(classes) <= set(EXPRESSIONS) else classes
    shown = dict(zip(classes, palette.readable(classes), strict=True))
    known = [word for word in classes if (called == word).any()]
    alpha = float(np.clip(60 / max(len(points), 1) ** 0.6, 0.35, 0.9))
    plain = ~np.isin(called, list(classes))
    if plain.any():
        axis.scatter(points[plain, 0], points[plain, 1], s=8, color=pages.FAINT, linewidths=0, alpha=0.5)
    for word in known:
        inside = called == word
        axis.scatter(
            points[inside, 0], points[inside, 1], s=13, color=colour_of(word, classes),
            marker=palette.marker(word, classes), linewidths=0, alpha=alpha,
            label=f"{shown[word]} ({int(inside.sum())})", rasterized=len(points) > 500,
        )  # fmt: skip
    marked = [] if prototypes is None else [(float(x), float(y)) for x, y in np.asarray(prototypes)]
    # The disc of neutral would cover a mark at its place.
    for word, (x, y) in sorted(zip(names, marked, strict=False), key=lambda one: one[0] != "neutral"):
        axis.plot(
            x, y, marker=palette.marker(word, classes), color=colour_of(word, classes), markersize=13,
            markeredgecolor=palette.INK, markeredgewidth=1.4, zorder=5,
        )  # fmt: skip
    if len(known) <= NAMED:
        palette.name_points(axis, [shown[word] for word in names[: len(marked)]], marked)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(title, fontsize=9.5)
    if 0 < len(known) <= NAMED:
        palette.opaque(palette.legend(axis, loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=1.6))
    return figure


def by_person(flat: ArrayLike, intensity: ArrayLike, people: Sequence[str], most: int = 8) -> Figure:
    """Draw projected points [n, 2] twice: coloured by intensity in [0, 1], and by person.

    The `most` persons with the most points have a colour and a marker each, the others are grey.
    """
    points = np.asarray(flat, dtype=np.float64)
    names, place, counts = np.unique(np.array(people), return_inverse=True, return_counts=True)
    frequent = np.argsort(-counts, kind="stable")[:most]
    figure, (left, right) = palette.canvas(9.4, 4.2, columns=2)
    shown = left.scatter(
        points[:, 0],
        points[:, 1],
        c=np.asarray(intensity),
        s=13,
        cmap="viridis",
        vmin=0,
        vmax=1,
        linewidths=0,
    )
    left.set_title("by intensity", fontsize=9.5)
    right.set_title("by person (number of pictures)", fontsize=9.5)
    bar = figure.colorbar(shown, ax=left, shrink=0.7)
    bar.set_label("intensity", color=palette.INK, fontsize=8)
    bar.ax.tick_params(colors=palette.INK, labelsize=7)
    rest = ~np.isin(place, frequent)
    right.scatter(points[rest, 0], points[rest, 1], s=8, color=pages.FAINT, alpha=0.4, linewidths=0)
    markers = list(palette.MARKERS.values())
    for number, who in enumerate(frequent.tolist()):
        inside = place == who
        right.scatter(
            points[inside, 0], points[inside, 1], s=18, linewidths=0,
            color=SERIES[number % len(SERIES)], marker=markers[number % len(markers)],
            label=f"{names[who]} ({counts[who]})",
        )  # fmt: skip
    for axis in (left, right):
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set_visible(False)
    palette.legend(right, loc="center left", bbox_to_anchor=(1.0, 0.5), title="person", title_fontsize=8)
    return figure
