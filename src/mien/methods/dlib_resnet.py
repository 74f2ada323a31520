"""dlib's face-recognition network as a backbone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from mien.errors import ConfigError, WeightsError
from mien.methods.base import Backbone
from mien.methods.mobilefacenet import _filter

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


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
    fixed factors and offsets where it had batch norms in training; `affine` is true while the norms hold these, so that
    training can turn them back into norms.
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
            WeightsError: the manifest or its .bin is missing, damaged, or of another network.
        """
        stored = tensorflow_tensors(Path(path))
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


def tensorflow_tensors(manifest: Path) -> dict[str, Tensor]:
    """Named tensors of a TensorFlow.js weights manifest, with uint8 values scaled back.

    Raises:
        WeightsError: the manifest or a file that it names is missing or damaged.
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
