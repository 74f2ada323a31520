"""Saliency: how much each place of a face counts for the network's answer, as heat maps over faces.

A saliency map shows which places influence the network's output, not what a person felt, and not that it is right.
`occlusion` hides one place at a time and measures how much less probable the answer becomes (Zeiler and Fergus 2014).
It depends on nothing but the network's outputs, and passes the sanity check of Adebayo et al. (2018): with randomised
weights the maps are different ones (tested). Grad-CAM is not offered: on the last map of a network with a learnt
pooling filter, the same cells are hot in every face.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mien.errors import MienError
from mien.figures import image_grid, palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

MIXED = 0.45
"""Opacity of the heat map at its maximum."""


def occlusion(
    score: Callable[[Tensor], Tensor], images: Tensor, classes: ArrayLike | None = None, places: int = 12
) -> NDArray[np.float32]:
    """Heat maps [n, places, places] in [0, 1] for images [n, 3, H, W]: the fall of a class's log-probability.

    A square of a quarter of the side, in the mean colour of its picture, is centred on each of the places x places
    cells in turn. The size is our choice: about an eye with its brow.

    Args:
        score: images to logits [n, k].
        images: the network's input.
        classes: [n] the class to explain; None means each image's most probable one.
        places: squares along each side.

    Each map is scaled to a maximum of 1; where the class does not become less probable, it is 0.
    """
    import torch

    side = images.shape[-1]
    half = max(1, side // 8)
    centres = [round((place + 0.5) * side / places) for place in range(places)]
    grey = images.mean(dim=(2, 3), keepdim=True)
    with torch.no_grad():
        whole = score(images).log_softmax(dim=1)
        given = (
            whole.argmax(dim=1) if classes is None else torch.as_tensor(np.asarray(classes)).to(whole.device)
        )
        chosen = given.long()[:, None]
        fall = torch.zeros(len(images), places, places)
        for row, y in enumerate(centres):
            for column, x in enumerate(centres):
                hidden = images.clone()
                hidden[..., max(0, y - half) : y + half, max(0, x - half) : x + half] = grey
                less = whole.gather(1, chosen) - score(hidden).log_softmax(dim=1).gather(1, chosen)
                fall[:, row, column] = less[:, 0].cpu()
    heat: NDArray[np.float32] = fall.clamp(min=0).float().numpy()
    top = heat.max(axis=(1, 2), keepdims=True)
    scaled = np.zeros_like(heat)
    np.divide(heat, top, out=scaled, where=top > 0)
    return scaled


def overlay(crops: NDArray[np.uint8], maps: ArrayLike, mixed: float = MIXED) -> NDArray[np.uint8]:
    """Overlay maps [n, h, w] in [0, 1] on faces, uint8 [n, s, s] or [n, s, s, 3]: RGB uint8 [n, s, s, 3].

    The maps are enlarged smoothly. Regions near 0 stay unchanged, high ones are tinted.

    Raises:
        MienError: numbers of faces and maps differ.
    """
    from matplotlib import colormaps

    heat = np.asarray(maps, dtype=np.float32)
    if len(heat) != len(crops) or heat.ndim != 3:
        raise MienError(
            f"{len(crops)} faces and maps of shape {heat.shape}: pass one map [h, w] for each face"
        )
    paint = colormaps[palette.HEAT]
    out = np.empty((*crops.shape[:3], 3), dtype=np.uint8)
    for slot, crop, small in zip(out, crops, heat, strict=True):
        large = cv2.resize(small, (crop.shape[1], crop.shape[0]), interpolation=cv2.INTER_CUBIC).clip(0, 1)
        face = (crop if crop.ndim == 3 else np.repeat(crop[..., None], 3, axis=2)).astype(np.float32)
        share = mixed * large[..., None] ** 0.7
        slot[...] = np.rint((1 - share) * face + share * 255 * paint(large)[..., :3]).clip(0, 255)
    return out


def draw(crops: NDArray[np.uint8], maps: ArrayLike, captions: Sequence[str] = (), columns: int = 8) -> Figure:
    """A grid with each face above the same face under its heat map; captions are under the lower one."""
    hot, pictures, texts = overlay(crops, maps), [], []
    columns = min(columns, len(crops))
    for start in range(0, len(crops), columns):
        row = range(start, start + columns)
        shown = [crops[i] if i < len(crops) else np.full((2, 2), 255, dtype=np.uint8) for i in row]
        warm = [hot[i] if i < len(crops) else np.full((2, 2), 255, dtype=np.uint8) for i in row]
        pictures += shown + warm
        under = [captions[i] if captions and i < len(crops) else "" for i in row]
        texts += [""] * columns + under
    return image_grid.draw(pictures, texts if captions else (), columns=columns)
