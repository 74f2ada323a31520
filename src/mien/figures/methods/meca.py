"""MECA's figures: the code of a face as direction and length, and the attention map of each expression.

The direction of a code encodes the expression, its length the intensity. Left, the codes in the plane in which the
learned axes differ most (their first two principal directions), scaled so that the distance from the middle is the true
length. Directions that differ only in other dimensions coincide there: the plane is an illustration, not a measurement.
Right, the length against the labelled intensity, with Spearman's rank correlation, which is a measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mien.colours import COLOURS
from mien.figures import image_grid, palette, saliency
from mien.figures.context import MOST_FACES, ROWS, Scene, batch_of, some_of
from mien.io import pages
from mien.labels import EXPRESSIONS, NEUTRAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

    from mien.methods.meca import MECA

OTHERS: tuple[str, ...] = tuple(name for index, name in enumerate(EXPRESSIONS) if index != NEUTRAL)
"""The expressions that have an axis and a query, in their order."""


def measure(
    method: MECA, images: Tensor
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Unit directions [n, d], lengths [n], unit axes [k - 1, d], and attention maps [n, k - 1, s, s] of faces.

    The maps are empty ([n, 0, 0, 0]) for a network without attention.
    """
    import torch
    from torch.nn import functional

    method.eval()
    with torch.no_grad():
        code = method.encode(images)
        axes = functional.normalize(method.axes.float(), dim=1)
    side = round(code.maps.shape[2] ** 0.5)
    places = code.maps.reshape(*code.maps.shape[:2], side, side)
    found = [part.float().cpu().numpy() for part in (code.direction, code.length, axes, places)]
    return found[0], found[1], found[2], found[3]


def draw(
    direction: ArrayLike,
    length: ArrayLike,
    axes: ArrayLike,
    words: Sequence[str | None],
    intensity: ArrayLike,
) -> Figure:
    """Codes of faces by true expression, and their lengths against labelled intensity in [0, 1] (NaN: not labelled)."""
    from scipy.stats import spearmanr

    unit, rho, ways, strong = (
        np.asarray(part, dtype=np.float64) for part in (direction, length, axes, intensity)
    )
    _, _, plane = np.linalg.svd(ways - ways.mean(axis=0), full_matrices=False)
    flat, rays = unit @ plane[:2].T, ways @ plane[:2].T
    flat = rho[:, None] * flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    rays = rays / np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-12)
    called = np.array([word or "" for word in words])
    figure, (left, right) = palette.canvas(9.4, 4.2, columns=2)
    reach = 1.2
    for ring in (0.25, 0.5, 0.75, 1.0):
        turn = np.linspace(0, 2 * np.pi, 181)
        left.plot(ring * np.cos(turn), ring * np.sin(turn), color=pages.FAINT, linewidth=0.6, alpha=0.6)
        left.text(0, ring, f"{ring:g}", fontsize=6.5, color=pages.FAINT, ha="center", va="bottom")
    for name, (x, y) in zip(OTHERS, rays.tolist(), strict=False):
        left.plot([0, reach * x], [0, reach * y], color=COLOURS[name], linewidth=1.2, zorder=1)
        side = "left" if x > 0.3 else "right" if x < -0.3 else "center"
        left.text(
            1.25 * x, 1.27 * y, name, fontsize=8, color=palette.INK, ha=side, va="center",
            path_effects=palette.halo(), zorder=5,
        )  # fmt: skip
    for name in (word for word in EXPRESSIONS if (called == word).any()):
        inside, colour, marker = called == name, COLOURS[name], palette.MARKERS[name]
        left.scatter(
            flat[inside, 0],
            flat[inside, 1],
            s=13,
            alpha=0.7,
            linewidths=0,
            zorder=3,
            color=colour,
            marker=marker,
        )
        right.scatter(
            strong[inside], rho[inside], s=13, alpha=0.7, linewidths=0, color=colour, marker=marker,
            label=f"{name} ({int(inside.sum())})",
        )  # fmt: skip
    left.set(xlim=(-1.75, 1.75), ylim=(-1.4, 1.4), aspect="equal", xticks=[], yticks=[])
    for spine in left.spines.values():
        spine.set_visible(False)
    left.set_title(
        "code of each face: direction and length; rays are the learned axes", loc="left", fontsize=8.5
    )
    right.set(
        xlim=(-0.03, 1.03), ylim=(0, reach + 0.03), xlabel="labelled intensity", ylabel="length of the code"
    )
    known = np.isfinite(strong)
    if known.sum() > 2 and np.ptp(strong[known]) > 0:
        rank = float(spearmanr(strong[known], rho[known]).statistic)
        right.set_title(f"Spearman {rank:.2f}", loc="right", fontsize=8.5)
    palette.opaque(palette.legend(right, loc="center left", bbox_to_anchor=(1.01, 0.5), markerscale=1.4))
    return figure


def attention(crops: NDArray[np.uint8], maps: ArrayLike, words: Sequence[str] = ()) -> Figure:
    """One row per face: the face, then the face under the map [n, k - 1, s, s] of each expression except neutral.

    Each map is divided by its largest weight, so compare places between maps, not strengths.
    """
    heat = np.asarray(maps, dtype=np.float32)
    heat = heat / np.maximum(heat.max(axis=(2, 3), keepdims=True), 1e-12)
    pictures: list[NDArray[np.uint8]] = []
    for row, crop in enumerate(crops):
        pictures += [crop, *saliency.overlay(np.repeat(crop[None], heat.shape[1], axis=0), heat[row])]
    names = ["", *OTHERS[: heat.shape[1]]]
    return image_grid.draw(pictures, columns=len(names), column_names=names, row_names=words)


def codes(scene: Scene) -> Figure | None:
    """MECA: directions and lengths of the codes."""
    import torch

    from mien.methods.base import expression_target
    from mien.methods.meca import intensities

    rows = some_of(scene, scene.known, MOST_FACES)
    if len(rows) < 3:
        return None
    direction, length, axes, _ = measure(scene.model.module, scene.images(rows))
    batch = batch_of(scene, rows)
    with torch.no_grad():
        shares, _ = expression_target(batch, len(EXPRESSIONS))
        strong, graded = intensities(batch, shares)
    known = np.where(graded.numpy() > 0, strong.numpy(), np.nan)
    return draw(direction, length, axes, scene.words(rows), known)


def attention_maps(scene: Scene) -> Figure | None:
    """MECA: the attention map of each expression's query."""
    if not scene.model.module.config.attention:
        return None
    rows = scene.chosen(ROWS)
    maps = measure(scene.model.module, scene.images(rows))[3]
    return attention(np.array(scene.crops.images[rows]), maps, [word or "" for word in scene.words(rows)])
