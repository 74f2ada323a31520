"""Saliency: attention maps and Grad-CAM heat maps overlaid on faces.

A saliency map shows which regions influence the network's output, not what a person felt, and not that it is correct.
`grad_cam` is Grad-CAM (Selvaraju et al. 2017) in its element-wise form (HiResCAM, Draelos and Carin 2020): feature map
times the class score's gradient, cell by cell. With average pooling both are the same. With a learnt pooling filter,
such as MobileFaceNet's, the gradient changes sign from place to place, so its mean over the map is meaningless. A cell
that is hot in every face contributes a constant part of the score, not something specific to that face.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from mien.errors import MienError
from mien.figures import image_grid, palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor, nn

    from mien.methods.base import Recognition

MIXED = 0.45
"""Opacity of the heat map at its maximum."""


def scores_of(method: Recognition) -> Callable[[Tensor], Tensor]:
    """The method's logits as a function that keeps gradients; `predict` disables them by a decorator."""
    plain = inspect.unwrap(type(method).predict)
    return lambda images: plain(method, images).logits


def last_map(model: nn.Module, images: Tensor, score: Callable[[Tensor], Tensor]) -> nn.Module:
    """The last module of `model` that returns a feature map [n, c, h, w] larger than one pixel.

    Raises:
        MienError: no module makes such a map.
    """
    import torch

    seen: list[nn.Module] = []

    def note(module: nn.Module, given: Any, made: Any) -> None:
        if isinstance(made, torch.Tensor) and made.ndim == 4 and min(made.shape[2:]) > 1:
            seen.append(module)

    handles = [
        module.register_forward_hook(note) for module in model.modules() if not list(module.children())
    ]
    try:
        with torch.no_grad():
            score(images[:1])
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        raise MienError("the network has no feature map larger than one pixel: Grad-CAM needs one")
    return seen[-1]


def grad_cam(
    score: Callable[[Tensor], Tensor], layer: nn.Module, images: Tensor, classes: ArrayLike | None = None
) -> NDArray[np.float32]:
    """Heat maps [n, h, w] in [0, 1] at the resolution of `layer`'s output for images [n, 3, H, W].

    Args:
        score: images to logits [n, k], with gradients; images must not influence each other.
        layer: the module that gives the feature map [n, c, h, w], see `last_map`.
        images: the network's input.
        classes: [n] the class to explain; None means each image's most probable one.

    Each map is scaled to a maximum of 1; a map without positive evidence stays 0.
    """
    import torch

    kept: list[Tensor] = []

    def keep(module: nn.Module, given: Any, made: Tensor) -> None:
        kept.append(made)

    handle = layer.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logits = score(images.detach().requires_grad_())
    finally:
        handle.remove()
    if not kept or kept[-1].grad_fn is None:
        raise MienError("the logits do not depend on this layer: pass one that they depend on")
    best = (
        logits.argmax(dim=1)
        if classes is None
        else torch.as_tensor(np.asarray(classes), device=logits.device)
    )
    features = kept[-1]
    (slope,) = torch.autograd.grad(logits.gather(1, best.long()[:, None]).sum(), features)
    heat: NDArray[np.float32] = torch.relu((slope * features).sum(dim=1)).detach().float().cpu().numpy()
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
