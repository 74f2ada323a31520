"""Figures of the plane of apparent valence and arousal: predictions, labels, and the eight prototypes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mien.colours import COLOURS, SERIES
from mien.figures import palette
from mien.io import pages
from mien.labels import CIRCUMPLEX

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike


def draw(affect: ArrayLike, words: Sequence[str | None] | None = None, title: str = "") -> Figure:
    """Scatter points [n, 2] of (valence, arousal), coloured and marked by expression word, with their density behind.

    The rings are intensities (distance from neutral) of a quarter to one; crosses with names are the prototypes of
    `mien.labels.CIRCUMPLEX`. Points with a missing value are left out; points without a word are grey.
    """
    points = np.asarray(affect, dtype=np.float64).reshape(-1, 2)
    kept = np.isfinite(points).all(axis=1)
    # The prototypes belong to the eight expressions: own labels are points without a word.
    named = np.array(
        [word if word in CIRCUMPLEX else "" for word in words] if words is not None else [""] * len(points)
    )[kept]
    points = points[kept]
    # Space for the legend beside the square, or it would push the label of arousal out of the picture.
    figure, (axis,) = palette.canvas(5.9 if any(named) else 5.0, 4.3)
    frame(axis)
    if len(points) >= 50:
        axis.hexbin(
            points[:, 0], points[:, 1], gridsize=28, extent=(-1, 1, -1, 1), cmap="Greys", mincnt=1, bins="log",
            alpha=0.35, linewidths=0, zorder=1,
        )  # fmt: skip
    _scatter(axis, points, named)
    axis.set_title(title, fontsize=9.5)
    if any(named):
        palette.opaque(palette.legend(axis, loc="center left", bbox_to_anchor=(1.02, 0.5), markerscale=1.6))
    return figure


def agreement(predicted: ArrayLike, truth: ArrayLike, scores: Sequence[str] = ("", "")) -> Figure:
    """Prediction against truth [n, 2] for valence and for arousal; `scores` are lines written into each panel."""
    found, true = (np.asarray(part, dtype=np.float64).reshape(-1, 2) for part in (predicted, truth))
    figure, axes = palette.canvas(6.6, 3.3, 1, 2)
    for index, (axis, name, line) in enumerate(zip(axes, ("valence", "arousal"), scores, strict=True)):
        axis.plot([-1, 1], [-1, 1], color=pages.FAINT, linestyle=(0, (4, 3)), linewidth=1, zorder=1)
        axis.scatter(
            true[:, index], found[:, index], s=7, color=SERIES[0], alpha=_alpha(len(true)), linewidths=0,
            rasterized=len(true) > 500, zorder=2,
        )  # fmt: skip
        axis.set(
            xlim=(-1.05, 1.05),
            ylim=(-1.05, 1.05),
            xlabel=f"true {name}",
            ylabel=f"predicted {name}",
            aspect="equal",
        )
        axis.text(0.03, 0.97, line, transform=axis.transAxes, va="top", color=palette.INK, fontsize=8)
    return figure


def frame(axis: Axes, names: bool = True) -> None:
    """Axes of the plane: valence to the right, arousal up, intensity rings, and the prototypes with their names."""
    from matplotlib.patches import Circle

    for radius in (0.25, 0.5, 0.75, 1.0):
        axis.add_patch(
            Circle((0, 0), radius, fill=False, color=pages.FAINT, alpha=0.5, linewidth=0.6, zorder=0)
        )
    axis.axhline(0, color=pages.FAINT, linewidth=0.6, alpha=0.6, zorder=0)
    axis.axvline(0, color=pages.FAINT, linewidth=0.6, alpha=0.6, zorder=0)
    if names:
        # Anger and fear, and happiness and its ring, are close together: their names go to opposite sides.
        offsets = {
            "anger": (-6, -9),
            "fear": (-6, 5),
            "neutral": (5, -10),
            "disgust": (-8, 3),
            "sadness": (-6, -10),
        }
        for word, (valence, arousal) in CIRCUMPLEX.items():
            axis.plot(
                valence, arousal, marker=palette.MARKERS[word], color=COLOURS[word], markersize=8,
                markeredgecolor=palette.INK, markeredgewidth=0.9, zorder=5,
            )  # fmt: skip
            place = offsets.get(word, (7, 4))
            axis.annotate(
                word,
                (valence, arousal),
                xytext=place,
                textcoords="offset points",
                ha="right" if place[0] < 0 else "left",
                fontsize=7,
                color=palette.INK,
                path_effects=palette.halo(),
                zorder=6,
            )
    axis.set(
        xlim=(-1.08, 1.08),
        ylim=(-1.08, 1.08),
        xlabel="apparent valence",
        ylabel="apparent arousal",
        aspect="equal",
    )


def _scatter(axis: Axes, points: np.ndarray, named: np.ndarray) -> None:
    groups = {word: named == word for word in CIRCUMPLEX}
    groups[""] = ~np.isin(named, list(CIRCUMPLEX))
    for word, inside in groups.items():
        if inside.any():
            axis.scatter(
                points[inside, 0],
                points[inside, 1],
                s=11,
                color=COLOURS.get(word, pages.FAINT),
                marker=palette.MARKERS.get(word, "o"),
                alpha=_alpha(len(points)),
                linewidths=0,
                rasterized=len(points) > 500,
                label=word or None,
                zorder=3,
            )


def _alpha(count: int) -> float:
    """Opacity at which many points still show their density."""
    return float(np.clip(60 / max(count, 1) ** 0.7, 0.25, 0.85))
