"""Augmentation of whole batches on the tensor device, drawn from one generator so that a resumed run repeats it.

Pictures arrive as uint8 crops and leave as normalised floats. Rotation, zoom, shift and mirroring are one bilinear
warp; then light, resolution and erasing. Every random draw is made for the whole batch in one order on every rank, so
that several processes together use exactly the same crops as one would.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from mien.data.config import DataConfig

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Generator, Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's channel statistics, which every pretrained backbone here was trained with."""


def to_float(crops: UInt8[Tensor, "n h w *c"]) -> Float[Tensor, "n 3 h w"]:
    """uint8 crops, grey [n, h, w] or RGB [n, h, w, 3], to three channels in [0, 1]."""
    images = crops.float() / 255
    if images.ndim == 3:
        return images[:, None].expand(-1, 3, -1, -1)
    return images.permute(0, 3, 1, 2)


def normalise(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """From [0, 1] to the statistics that the backbones expect."""
    mean = torch.tensor(MEAN, device=images.device)[:, None, None]
    std = torch.tensor(STD, device=images.device)[:, None, None]
    return (images - mean) / std


def _warp(images: Tensor, config: DataConfig, draw: Tensor) -> Tensor:
    angle = (draw[:, 0] * 2 - 1) * math.radians(config.rotate)
    zoom = 1 + (draw[:, 1] * 2 - 1) * config.scale
    flip = torch.where((draw[:, 2] < 0.5) & config.mirror, -1.0, 1.0)
    shift = (draw[:, 3:5] * 2 - 1) * config.shift * 2
    cosine, sine = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    matrix = torch.stack(
        (
            torch.stack((cosine * flip, -sine, shift[:, 0]), dim=1),
            torch.stack((sine * flip, cosine, shift[:, 1]), dim=1),
        ),
        dim=1,
    )
    grid = functional.affine_grid(matrix, [*images.shape], align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _soften(images: Tensor, share: float, draw: Tensor) -> Tensor:
    """Lower the resolution of a share of the crops: photographs are sharper than the training sets."""
    side = images.shape[-1]
    levels = (0.4, 0.55, 0.75)
    level = (draw / share * len(levels)).long()  # the rest of the crops keep their resolution
    for place, scale in enumerate(levels):
        chosen = level == place
        if chosen.any():
            small = functional.interpolate(images[chosen], size=round(side * scale), mode="area")
            images[chosen] = functional.interpolate(small, size=side, mode="bilinear", align_corners=False)
    return images


def _shade(images: Tensor, amount: float, draw: Tensor) -> Tensor:
    """Side light: a linear fall of brightness across the crop in a random direction, its mean kept."""
    side = images.shape[-1]
    place = torch.linspace(-1, 1, side, device=images.device)
    angle = draw[:, 0] * 2 * math.pi
    slope = (
        torch.cos(angle)[:, None, None] * place[None, :] + torch.sin(angle)[:, None, None] * place[:, None]
    )
    return images * (1 + amount * draw[:, 1, None, None, None] * slope[:, None])


def _sharpen(images: Tensor, share: float, draw: Tensor) -> Tensor:
    """Sharpen a share of the crops: add up to 1.5 times the difference from a blurred copy."""
    chosen = draw < share
    if chosen.any():
        some = images[chosen]
        blurred = functional.avg_pool2d(some, 3, 1, 1, count_include_pad=False)
        images[chosen] = some + 1.5 * (draw[chosen] / share)[:, None, None, None] * (some - blurred)
    return images


def _erase(images: Tensor, probability: float, draw: Tensor) -> Tensor:
    side = images.shape[-1]
    area = 0.02 + 0.18 * draw[:, 1]
    ratio = torch.exp((draw[:, 2] * 2 - 1) * math.log(2.5))
    height = (torch.sqrt(area * ratio) * side).clamp(max=side)
    width = (torch.sqrt(area / ratio) * side).clamp(max=side)
    top, left = draw[:, 3] * (side - height), draw[:, 4] * (side - width)
    place = torch.arange(side, device=images.device)
    inside_y = (place >= top[:, None]) & (place < (top + height)[:, None])
    inside_x = (place >= left[:, None]) & (place < (left + width)[:, None])
    hidden = inside_y[:, :, None] & inside_x[:, None, :] & (draw[:, 0] < probability)[:, None, None]
    return torch.where(hidden[:, None], draw[:, 5, None, None, None], images)


def augment(
    crops: UInt8[Tensor, "n h w *c"], config: DataConfig, generator: Generator, part: slice = slice(None)
) -> Float[Tensor, "n 3 h w"]:
    """Randomly warp, relight, blur and erase crops, and normalise them.

    Args:
        crops: the whole step's crops over all processes.
        generator: the source of every draw.
        part: this process's share of the rows; draws are made for all of them.
    """
    draw = torch.rand(len(crops), 14, generator=generator).to(crops.device)[part]
    tone = torch.rand(len(crops), 5, generator=generator).to(crops.device)[part]
    grain = torch.randn(len(crops), 1, *crops.shape[1:3], generator=generator) if config.noise else None
    images = _warp(to_float(crops[part]), config, draw[:, :5])
    gain = 1 + (draw[:, 5] * 2 - 1) * config.light
    offset = (draw[:, 6] * 2 - 1) * config.light * 0.5
    images = ((images - 0.5) * gain[:, None, None, None] + 0.5 + offset[:, None, None, None]).clamp(0, 1)
    if config.gamma:
        exponent = torch.exp((tone[:, 0] * 2 - 1) * config.gamma)
        images = images.clamp(min=1e-3) ** exponent[:, None, None, None]
    if config.shade:
        images = _shade(images, config.shade, tone[:, 1:3])
    if config.sharpen:
        images = _sharpen(images, config.sharpen, tone[:, 3])
    if config.soften:
        images = _soften(images, config.soften, draw[:, 7])
    if grain is not None:
        images = images + grain.to(crops.device)[part] * (config.noise * tone[:, 4, None, None, None])
    if config.erase:
        images = _erase(images, config.erase, draw[:, 8:])
    return normalise(images.clamp(0, 1))
