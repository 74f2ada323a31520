"""CCLLS's figure: the learning intensity of each layer, relative to the deepest.

Learning intensity of layer l is the root mean square of the loss's gradient on its map (`cclls.learning_intensity`).
The paper argues that shallow layers receive too little, and that aligning them with the deepest layer raises it.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from mien.colours import SERIES
from mien.errors import MienError
from mien.figures import palette
from mien.figures.context import BATCH, BATCHES, Scene, batch_of
from mien.io import pages

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike


def draw(intensity: dict[str, ArrayLike]) -> Figure:
    """Grouped bars of R_l = g_l / g_deepest on a logarithmic axis; the deepest layer is the line at 1.

    Args:
        intensity: maps the name of a network or rung to its g_l, shallow to deep: [layers], or [batches, layers] for a
            mean with a thin line from the smallest to the largest value.

    Raises:
        MienError: numbers of layers differ, or an intensity is zero or not finite.
    """
    tables = {name: np.atleast_2d(np.asarray(values, dtype=np.float64)) for name, values in intensity.items()}
    layers = {table.shape[1] for table in tables.values()}
    if len(layers) != 1:
        raise MienError("networks with different numbers of layers cannot share this figure: draw one each")
    if not all(np.isfinite(table).all() and (table > 0).all() for table in tables.values()):
        raise MienError(
            "a learning intensity is zero or not finite: measure on a labelled batch in training mode"
        )
    count = layers.pop() - 1
    figure, (axis,) = palette.canvas(1.8 + 0.35 * count * len(tables), 3.0)
    wide = 0.8 / len(tables)
    for number, (name, table) in enumerate(tables.items()):
        ratio = table[:, :-1] / table[:, -1:]
        places = np.arange(count) + (number - (len(tables) - 1) / 2) * wide
        middle = ratio.mean(axis=0)
        axis.bar(places, middle, 0.92 * wide, color=SERIES[number % len(SERIES)], label=name)
        for place, value, top in zip(places, middle, ratio.max(axis=0), strict=True):
            axis.text(place, 1.08 * top, f"{value:.2g}", ha="center", fontsize=6, color=palette.INK)
        if len(ratio) > 1:
            axis.vlines(places, ratio.min(axis=0), ratio.max(axis=0), color=palette.INK, linewidth=0.8)
    lowest = min(float((table[:, :-1] / table[:, -1:]).min()) for table in tables.values())
    axis.set_yscale("log")
    axis.set_ylim(min(0.1, 10.0 ** np.floor(np.log10(lowest / 2))), None)
    axis.axhline(1, color=pages.FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axis.set_xticks(range(count), [f"layer {place + 1}" for place in range(count)])
    axis.set_ylabel("gradient on the layer / on the deepest")
    palette.legend(axis, loc="lower left", ncols=2, bbox_to_anchor=(0, 1.0))
    return figure


def learning(scene: Scene) -> Figure | None:
    """CCLLS: the learning intensity of each layer, on labelled faces in training mode."""
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
    return draw({scene.predictions.provenance.model: np.stack(each)})
