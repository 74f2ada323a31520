"""CAL's figures: the adaptive margin with its two parts, and the strong and weak faces of a batch in the V/A plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mien.colours import SERIES
from mien.errors import MienError
from mien.figures import affect_plane, embedding, palette
from mien.figures.context import CROWD, MOST_FACES, PERSONS, Scene, affect_of, some_of
from mien.io import pages

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike


def curve(samples: int = 128, c: float = 10.0, k: float = 4.0) -> Figure:
    """The margin over the correlation eta of a pair, stacked from its two parts.

    The lower part is the confidence interval, which is independent of correlation, the upper one the mutual
    information; the vertical line is where |eta| is clamped.

    Args:
        samples: faces in the batch. c, k: as in `mien.methods.cal.adaptive_margin`.
    """
    import torch

    from mien.methods.cal import LARGEST, adaptive_margin, confidence

    eta = np.linspace(0, 0.995, 400)
    margin = adaptive_margin(torch.from_numpy(eta), samples, c, k).numpy()
    floor = confidence(samples, c, k)
    figure, (axis,) = palette.canvas(4.2, 3.2)
    axis.fill_between(eta, 0, floor, color=SERIES[3], alpha=0.35, linewidth=0, label="confidence interval")
    axis.fill_between(
        eta, floor, margin, color=SERIES[0], alpha=0.25, linewidth=0, label="mutual information"
    )
    axis.plot(eta, margin, color=SERIES[0], linewidth=1.8, label="margin")
    axis.axvline(LARGEST, color=pages.FAINT, linewidth=1, linestyle=(0, (4, 3)), label="largest used")
    axis.set(xlim=(0, 1), ylim=(0, None), xlabel="correlation of the pair", ylabel="margin, squared distance")
    axis.set_title(
        f"batch of {samples} faces; confidence interval with c = {c:g}, K = {k:g}",
        loc="right",
        fontsize=8,
        color=palette.INK,
    )
    palette.legend(axis, loc="upper left")
    return figure


def groups(affect: ArrayLike, by: str = "otsu") -> Figure:
    """Faces [n, 2] of (valence, arousal) in the plane, split into strong and weak at Otsu's radius, which is drawn.

    With the fixed radii the faces between them are in neither group and faint, and no circle is drawn.

    Raises:
        MienError: no face has both a valence and an arousal.
    """
    import torch
    from matplotlib.patches import Circle

    from mien.methods.cal import group

    points = np.asarray(affect, dtype=np.float32).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        raise MienError("no face has a valence and an arousal: the plane would be empty")
    found = group(torch.from_numpy(points), by)
    figure, (axis,) = palette.canvas(4.6, 4.3)
    affect_plane.frame(axis, names=False)
    strong, weak = found.strong.numpy(), found.weak.numpy()
    for rows, name, colour, marker in (
        (strong, "strong", SERIES[1], "^"),
        (weak, "weak", SERIES[0], "o"),
        (~(strong | weak), "neither", pages.FAINT, "x"),
    ):
        if rows.any():
            axis.scatter(
                points[rows, 0],
                points[rows, 1],
                s=16,
                color=colour,
                marker=marker,
                alpha=0.7,
                label=f"{name} ({rows.sum()})",
            )
    radius = float(found.radius)
    if radius > 0:
        axis.add_patch(Circle((0, 0), radius, fill=False, color=palette.INK, linewidth=1.2))
        axis.set_title(f"circle: Otsu's radius, {radius:.2f}", loc="right", fontsize=8, color=palette.INK)
    palette.legend(axis, loc="lower left", ncols=3, bbox_to_anchor=(0, 1.0))
    return figure


def margin_curve(scene: Scene) -> Figure | None:
    """CAL: the adaptive margin with its two parts, for the batch that the run was trained with."""
    config = scene.model.module.config
    if not config.critic or config.margin != "adaptive":
        return None
    return curve(scene.batch, config.margin_c, config.margin_k)


def strong_and_weak(scene: Scene) -> Figure | None:
    """CAL: strong and weak faces of a large batch, by their labels."""
    rows = np.arange(len(scene.predictions))
    rated = affect_of(scene, rows)
    rows = some_of(scene, rows[np.isfinite(rated).all(axis=1)], CROWD)
    return groups(affect_of(scene, rows), scene.model.module.config.grouping) if len(rows) else None


def persons(scene: Scene) -> Figure | None:
    """CAL: the features coloured by intensity and by person; persons should not form clusters."""
    p = scene.predictions
    everyone = np.arange(len(p))
    strength = np.linalg.norm(affect_of(scene, everyone), axis=1)
    named = np.array([who is not None for who in p.subjects])
    rows = some_of(scene, np.flatnonzero(named & np.isfinite(strength)), MOST_FACES)
    if len(rows) < 4 or not p.embedding.shape[1]:
        return None
    flat, _ = embedding.project(p.embedding[rows], how=scene.how, seed=scene.seed)
    return embedding.by_person(flat, strength[rows], [p.subjects[row] or "" for row in rows], PERSONS)
