"""Encoders behind one shape: pictures in, one pooled vector and the maps of every stage out.

- `mobilefacenet`: the face-recognition network of Chen et al. 2018 (arXiv 1804.07573), in the ReLU6 form whose weights
  are published under Apache-2.0 by foamliu/MobileFaceNet. `weights` names that file; the network is written anew here
  and the file's 307 tensors are matched to it strictly, in order and by shape.
- `alexnet`: the convolutions of AlexNet as torchvision has them, for methods published on it.
- `tiny`: four small convolutions for tests and trials.
- any other name is built by timm with `features_only`, e.g. `resnet18`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional

from mien import tensors
from mien.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class Backbone(nn.Module):
    """An encoder.

    Attributes:
        width: length of the pooled vector.
        stages: channels of each stage map, shallow to deep.
    """

    width: int
    stages: list[int]

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n width"], list[Tensor]]:
        """The pooled vector, and the stage maps from shallow to deep."""
        raise NotImplementedError


def _filter(convolution: nn.Conv2d, norm: nn.BatchNorm2d, maps: Tensor) -> Tensor:
    """A convolution without bias, then its batch norm.

    While the norm keeps its statistics (evaluation, or training with `norms: frozen`) it is a factor and an offset of
    the convolution, and is computed as such: the same values and gradients without two passes over every map (our
    choice: it makes a training step 1.6 times as fast on a CPU). An exporter sees the two layers.
    """
    if norm.training or torch.compiler.is_exporting():
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
    pooling survives (our choice; a plain average would throw it away).

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
            WeightsError: the file is absent, is not a plain tensor file, or is another network.
        """
        if not Path(path).is_file():
            raise WeightsError(
                f"{path}: no such file: pass the published mobilefacenet.pt (foamliu/MobileFaceNet, Apache-2.0)"
            )
        state: dict[str, Tensor] = tensors.read(path)
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


class Tiny(Backbone):
    """Four convolutions of stride 2: learns drawn faces in seconds.

    Group normalisation, so that a picture's features depend on no other picture, in training either.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stages = [width // 2, width, width, width]
        inputs = [3, *self.stages[:-1]]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.GroupNorm(4, b), nn.ReLU())
            for a, b in zip(inputs, self.stages, strict=True)
        )
        self.width = width

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n width"], list[Tensor]]:
        maps: list[Tensor] = []
        for layer in self.layers:
            images = layer(images)
            maps.append(images)
        return images.mean(dim=(2, 3)), maps


class AlexNet(Backbone):
    """The convolutions of AlexNet in torchvision's form (2.47 M parameters), their last map flattened.

    At 224 px that is 256 channels of 6 x 6, 9216 numbers; `width` is smaller for smaller crops. `weights` names
    torchvision's file, of which the classifier is left out.
    """

    def __init__(self, size: int = 224) -> None:
        super().__init__()
        side = (size - 7) // 4 + 1
        for _ in range(3):
            side = (side - 3) // 2 + 1
        if side < 1:
            raise ConfigError(f"AlexNet needs crops of 63 px or more, not {size}: set data.size")
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.side = min(6, side)
        self.stages = [64, 192, 256]
        self.width = 256 * self.side**2

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n width"], list[Tensor]]:
        maps: list[Tensor] = []
        for layer in self.features:
            images = layer(images)
            if isinstance(layer, nn.MaxPool2d):
                maps.append(images)
        return nn.functional.adaptive_avg_pool2d(images, self.side).flatten(1), maps

    def load_published(self, path: Path | str) -> None:
        """Fill from torchvision's AlexNet file.

        Raises:
            WeightsError: the file is absent, is not a plain tensor file, or is another network.
        """
        if not Path(path).is_file():
            raise WeightsError(f"{path}: no such file: pass torchvision's alexnet file")
        state: dict[str, Tensor] = tensors.read(path)
        try:
            self.load_state_dict(
                {key: value for key, value in state.items() if key.startswith("features.")}, strict=True
            )
        except (RuntimeError, AttributeError) as problem:
            raise WeightsError(f"{path}: not torchvision's AlexNet: {type(problem).__name__}") from None


class Timm(Backbone):
    """A timm network as stage maps, pooled by their mean."""

    def __init__(self, name: str, weights: str | None, **options: Any) -> None:
        super().__init__()
        try:
            import timm
            from safetensors import SafetensorError
        except ModuleNotFoundError:
            from mien.errors import ExtraMissing

            raise ExtraMissing("train", "timm") from None
        if not timm.is_model(name):
            raise ConfigError(
                f"no backbone '{name}': mobilefacenet, alexnet, tiny, or a timm name such as resnet18"
            )
        overlay = {"file": weights} if weights else None
        if weights is not None and not weights.endswith(".safetensors"):
            tensors.read(weights)  # older versions of timm would unpickle whatever the file asks for
        try:
            network: Any = timm.create_model(
                name,
                pretrained=weights is not None,
                features_only=True,
                pretrained_cfg_overlay=overlay,
                **options,
            )
        except (*tensors.DAMAGE, SafetensorError) as problem:
            if weights is None:
                raise
            raise WeightsError(
                f"{weights}: not the weights of timm's {name}: {type(problem).__name__}"
            ) from None
        self.layers = network
        self.stages = list(network.feature_info.channels())
        self.width = self.stages[-1]

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n width"], list[Tensor]]:
        maps = self.layers(images)
        if maps[-1].shape[1] != self.width:  # timm's Swin gives channels last
            maps = [one.permute(0, 3, 1, 2) for one in maps]
        return maps[-1].mean(dim=(2, 3)), maps


def build(name: str, weights: str | Path | None = None, size: int = 112, **options: Any) -> Backbone:
    """Build an encoder by name for square inputs of `size` pixels, from `weights` if given.

    Raises:
        ConfigError: no such network.
        WeightsError: the weights do not belong to it.
    """
    if name == "mobilefacenet":
        network = MobileFaceNet(size)
        if weights is not None:
            network.load_published(weights)
        return network
    if name == "alexnet":
        alexnet = AlexNet(size)
        if weights is not None:
            alexnet.load_published(weights)
        return alexnet
    if name == "tiny":
        return Tiny(**options)
    return Timm(name, None if weights is None else str(weights), **options)
