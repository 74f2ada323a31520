"""JADFER's figures: the attention map of each spatial path, and the similarity of the attention heads.

The Variety loss should make paths attend to different places. According to the paper, heads agree less after training
with joint attention dropping.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mien.colours import SERIES
from mien.errors import MienError
from mien.figures import image_grid, palette, saliency
from mien.figures.context import CROWD, ROWS, Scene, some_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

    from mien.methods.jadfer import JADFER


def measure(method: JADFER, images: Tensor) -> tuple[NDArray[np.float32], float, list[float]]:
    """Path maps [n, paths, h, w] in [0, 1], their mean pairwise cosine, and each attention block's head similarity.

    Raises:
        MienError: the network was built without spatial paths.
    """
    import torch

    from mien.methods.jadfer import head_similarity, path_cosine

    method.eval()
    with torch.no_grad():
        _, sight = method.look(images)
    if sight.maps is None:
        raise MienError("this network has no spatial paths to draw: train with method.paths of 1 or more")
    maps: NDArray[np.float32] = sight.maps.float().cpu().numpy()
    return maps, float(path_cosine(sight.maps)), [float(head_similarity(each)) for each in sight.weights]


def draw(crops: NDArray[np.uint8], maps: ArrayLike, words: Sequence[str] = ()) -> Figure:
    """One row per face: the face, then the face under each path's map [n, paths, h, w].

    Each map is scaled from its own lowest to its highest cell, so compare places between maps, not strengths.
    """
    heat = np.asarray(maps, dtype=np.float32)
    low, high = heat.min(axis=(2, 3), keepdims=True), heat.max(axis=(2, 3), keepdims=True)
    heat = (heat - low) / np.maximum(high - low, 1e-6)
    pictures: list[NDArray[np.uint8]] = []
    captions: list[str] = []
    for row, crop in enumerate(crops):
        repeated = np.repeat(crop[None], heat.shape[1], axis=0)
        pictures += [crop, *saliency.overlay(repeated, heat[row])]
        captions += [words[row] if words else "", *(f"path {n + 1}" for n in range(heat.shape[1]))]
    return image_grid.draw(pictures, captions, columns=heat.shape[1] + 1)


def heads(similarity: dict[str, Sequence[float]]) -> Figure:
    """Bars of head similarity for each attention block, one colour per network, such as with and without dropping.

    Args:
        similarity: maps the name of a network to its blocks' head similarities, from `measure`; interaction is the
            last.
    """
    blocks = max(len(values) for values in similarity.values())
    figure, (axis,) = palette.canvas(1.6 + 1.1 * blocks, 2.8)
    wide = 0.8 / len(similarity)
    for number, (name, values) in enumerate(similarity.items()):
        places = np.arange(len(values)) + (number - (len(similarity) - 1) / 2) * wide
        axis.bar(places, values, 0.92 * wide, color=SERIES[number % len(SERIES)], label=name)
        for place, value in zip(places, values, strict=True):
            axis.text(place, value + 0.01, f"{value:.2f}", ha="center", fontsize=7, color=palette.INK)
    names = [f"block {number + 1}" for number in range(blocks - 1)] + ["last block"]
    axis.set_xticks(range(blocks), names)
    axis.set_ylabel("mean cosine between heads")
    axis.set_ylim(0, 1.12)
    palette.legend(axis, loc="lower left", ncols=2, bbox_to_anchor=(0, 1.0))
    return figure


def path_maps(scene: Scene) -> Figure | None:
    """JADFER: the attention map of each spatial path."""
    if not scene.model.module.config.paths:
        return None
    rows = scene.chosen(ROWS)
    maps, _, _ = measure(scene.model.module, scene.images(rows))
    return draw(np.array(scene.crops.images[rows]), maps, scene.drawn(rows))


def head_bars(scene: Scene) -> Figure | None:
    """JADFER: the similarity of the heads in each attention block."""
    config = scene.model.module.config
    if not config.paths or not config.context:
        return None
    rows = some_of(scene, np.arange(len(scene.predictions)), CROWD)
    _, _, similarity = measure(scene.model.module, scene.images(rows))
    return heads({scene.predictions.provenance.model: similarity})
