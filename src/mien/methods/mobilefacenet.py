"""MobileFaceNet, a small face-recognition network, as a backbone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn import functional

from mien.errors import ConfigError, WeightsError
from mien.io import torch_files
from mien.methods.base import Backbone

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def _filter(convolution: nn.Conv2d, norm: nn.BatchNorm2d, maps: Tensor) -> Tensor:
    """A convolution without bias, then its batch norm.

    While the norm's statistics are frozen (evaluation, or training with `norms: frozen`), it is applied as a factor and
    an offset of the convolution: the same values and gradients without two passes over every map (our choice: it makes
    a training step 1.6 times as fast on a CPU). Exporters and hooks still see the two layers.
    """
    watched = bool(norm._forward_pre_hooks)
    if norm.training or watched or torch.compiler.is_exporting():
        return cast("Tensor", norm(convolution(maps)))
    assert norm.running_var is not None
    assert norm.running_mean is not None
    factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return functional.conv2d(
        maps,
        convolution.weight * factor[:, None, None, None],
        norm.bias - norm.running_mean * factor,
        convolution.stride,
        convolution.padding,
        convolution.dilation,
        convolution.groups,
    )


class _Normed(nn.Sequential):
    """A convolution, its batch norm, and an activation."""

    def forward(self, maps: Tensor) -> Tensor:
        convolution, norm, activation = self
        return cast("Tensor", activation(_filter(convolution, norm, maps)))  # type: ignore[arg-type]


def _convolution(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] = nn.ReLU6,
) -> nn.Sequential:
    return _Normed(
        nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        activation(),
    )


class _Bottleneck(nn.Module):
    """Inverted residual: widen by 1x1, filter each channel by 3x3, narrow by 1x1 without activation."""

    def __init__(self, inputs: int, outputs: int, stride: int, widen: int) -> None:
        super().__init__()
        hidden = inputs * widen
        self.residual = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            _convolution(inputs, hidden, 1),
            _convolution(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, maps: Tensor) -> Tensor:
        widen, depthwise, narrow, norm = self.layers
        filtered = _filter(narrow, norm, depthwise(widen(maps)))  # type: ignore[arg-type]
        return maps + filtered if self.residual else filtered


_PLAN = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
"""(widening, channels, blocks, first stride) of each group of MobileFaceNet's bottlenecks."""


class MobileFaceNet(Backbone):
    """MobileFaceNet up to its 512 channels, pooled by the trained global depthwise filter.

    The published network ends in a 7x7 depthwise filter over the whole map of a 112 px crop (learned pooling). For
    another input size that filter is resampled to the map's size and rescaled to the same sum, so that pretrained
    pooling is kept (our choice; a plain average would discard it).

    At side s the stage maps are 64 channels at s/4, 128 at s/8, 128 at s/16 and 512 at s/16.
    """

    def __init__(self, size: int = 112) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _convolution(3, 64, 3, 2),
            _convolution(64, 64, 3, groups=64, activation=nn.ReLU),
            _convolution(64, 64, 1, activation=nn.ReLU),
        )
        blocks: list[nn.Module] = []
        channels = 64
        for widen, outputs, count, stride in _PLAN:
            for place in range(count):
                blocks.append(_Bottleneck(channels, outputs, stride if place == 0 else 1, widen))
                channels = outputs
        self.shallow = nn.Sequential(*blocks[:5])
        self.middle = nn.Sequential(*blocks[5:12])
        self.deep = nn.Sequential(*blocks[12:])
        self.widen = _convolution(channels, 512, 1)
        self.grid = (size + 15) // 16
        self.pool = nn.Conv2d(512, 512, self.grid, groups=512, bias=False)
        self.pool_norm = nn.BatchNorm2d(512)
        nn.init.constant_(self.pool.weight, 1 / self.grid**2)
        self.width = 512
        self.stages = [64, 128, 128, 512]

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n 512"], list[Tensor]]:
        shallow = self.shallow(self.stem(images))
        middle = self.middle(shallow)
        deep = self.deep(middle)
        top = self.widen(deep)
        if top.shape[-1] != self.grid:
            raise ConfigError(
                f"this MobileFaceNet was built for {self.grid * 16} px crops, got {images.shape[-1]} px"
            )
        pooled = _filter(self.pool, self.pool_norm, top).flatten(1)
        return pooled, [shallow, middle, deep, top]

    def load_published(self, path: Path | str) -> None:
        """Fill from the published face-recognition file (307 tensors; its last projection to 128-d is left out).

        Raises:
            WeightsError: the file is missing, is not a plain tensor file, or is of another network.
        """
        if not Path(path).is_file():
            raise WeightsError(
                f"{path}: no such file: pass the published mobilefacenet.pt (foamliu/MobileFaceNet, Apache-2.0)"
            )
        state: dict[str, Tensor] = torch_files.read(path)
        # The file orders each depthwise-separable stem as (filter, mix, norm, norm); ours as (filter, norm, mix, norm).
        rename = {
            "conv1.": "stem.0.",
            "dw_conv.depthwise.": "stem.1.0.",
            "dw_conv.bn1.": "stem.1.1.",
            "dw_conv.pointwise.": "stem.2.0.",
            "dw_conv.bn2.": "stem.2.1.",
            "conv2.": "widen.",
            "gdconv.depthwise.": "pool.",
            "gdconv.bn.": "pool_norm.",
        }
        ours: dict[str, Tensor] = {}
        for key, value in state.items():
            if key.startswith(("conv3.", "bn.")):
                continue
            if key.startswith("features."):
                _, number, _, rest = key.split(".", 3)
                place = int(number)
                group, offset = ("shallow", 0) if place < 5 else ("middle", 5) if place < 12 else ("deep", 12)
                ours[f"{group}.{place - offset}.layers.{rest}"] = value
                continue
            for old, new in rename.items():
                if key.startswith(old):
                    ours[new + key[len(old) :]] = value
        kernel = ours.get("pool.weight")
        if kernel is not None and kernel.shape[-1] != self.grid:
            resized = nn.functional.interpolate(kernel, self.grid, mode="bilinear", align_corners=True)
            ours["pool.weight"] = resized * (kernel.shape[-1] / self.grid) ** 2
        try:
            self.load_state_dict(ours, strict=True)
        except RuntimeError as problem:
            first = str(problem).splitlines()[1].strip()
            raise WeightsError(f"{path}: not the published MobileFaceNet: {first}") from None
