"""Our face detector: one pass over a picture gives scores, boxes, five points and the head's quarter turn.

*Given*: YuNet (Wu, Peng and Yu 2023, "YuNet: A Tiny Millisecond-level Face Detector", doi 10.1007/s11633-023-1423-y):
its backbone of separable convolutions, its feature pyramid, and its published weights `yunet_n.pth` (Apache-2.0), from
which training starts. *Chosen*, by us: boxes as logarithms of the distances to the four edges; four logits for the
quarter turn of the head; one residual unit more at each stride and in each head, which begin as the identity.

Separable convolutions stay in floating point: on one thread of ONNX Runtime this network takes .9 ms for 192 x 192
pixels, and 1.7 ms with its convolutions in int8, since depthwise convolutions gain nothing from int8 there. Plain
3 x 3 convolutions of 24 to 64 channels in int8 take 1.1 ms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from mien.errors import WeightsError
from mien.faces.detector_network import CHANNELS, STRIDES
from mien.io import torch_files
from mien.training import onnx_export

WIDTH: Final = 64
"""Channels from stride 4 on."""

SMALL: Final = 14.0
LARGE: Final = 28.0
STRICTER: Final = 0.62
"""See `ShippedDetector`: an answer of `LARGE` pixels or more scored .65 ships with .5."""

_STEM: Final = 16


class Separable(nn.Module):
    """A 1 x 1 convolution, a 3 x 3 convolution of each channel, batch normalisation, and ReLU where `active`."""

    def __init__(self, inputs: int, outputs: int, active: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs)
        self.bn = nn.BatchNorm2d(outputs)
        self.active = active

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.bn(self.conv2(self.conv1(maps)))
        return functional.relu(maps) if self.active else maps


class Refinement(nn.Module):
    """A separable convolution added to its input; at the start of a training it adds nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.unit = Separable(width, width, active=False)
        nn.init.zeros_(self.unit.bn.weight)

    def forward(self, maps: Tensor) -> Tensor:
        return functional.relu(maps + self.unit(maps))


class DetectorNet(nn.Module):
    """Maps RGB pictures uint8 [n, h, w, 3] to three maps [n, 19, h / s, w / s] for s in `STRIDES`.

    The channels are those of `mien.faces.detector_network`; h and w are multiples of 32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, _STEM, 3, stride=2, padding=1)
        self.stem_norm = nn.BatchNorm2d(_STEM)
        self.stem_unit = Separable(_STEM, _STEM)
        self.fine = nn.Sequential(
            Separable(_STEM, _STEM),
            Separable(_STEM, WIDTH),
            Separable(WIDTH, WIDTH),
            Separable(WIDTH, WIDTH),
        )
        self.stages = nn.ModuleList(
            nn.Sequential(Separable(WIDTH, WIDTH), Separable(WIDTH, WIDTH), Refinement(WIDTH))
            for _ in STRIDES
        )
        self.laterals = nn.ModuleList(Separable(WIDTH, WIDTH) for _ in STRIDES)
        self.heads = nn.ModuleList(nn.Sequential(Separable(WIDTH, WIDTH), Refinement(WIDTH)) for _ in STRIDES)
        self.outputs = nn.ModuleList(_output() for _ in STRIDES)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = functional.relu(self.stem_norm(self.stem(images.permute(0, 3, 1, 2).float())))
        maps = self.fine(functional.max_pool2d(self.stem_unit(maps), 2))
        levels = []
        for stage in self.stages:
            maps = stage(functional.max_pool2d(maps, 2))
            levels.append(maps)
        above: Tensor | None = None
        found = []
        for level, lateral, head, output in reversed(
            list(zip(levels, self.laterals, self.heads, self.outputs, strict=True))
        ):
            if above is not None:
                level = level + functional.interpolate(above, scale_factor=2.0, mode="nearest")
            above = lateral(level)
            found.append(output(head(above)))
        return tuple(reversed(found))


def _output() -> nn.Sequential:
    """The last layer of a level: small random weights, boxes of four strides, and scores near one hundredth."""
    mix = nn.Conv2d(WIDTH, CHANNELS, 1)
    spread = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS)
    nn.init.normal_(mix.weight, std=0.01)
    assert mix.bias is not None
    assert spread.bias is not None
    nn.init.zeros_(mix.bias)
    nn.init.zeros_(spread.weight)
    nn.init.zeros_(spread.bias)
    with torch.no_grad():
        spread.weight[:, :, 1, 1] = 1
        mix.bias[0] = -4.6
        mix.bias[1:5] = 0.7
    return nn.Sequential(mix, spread)


def start(network: DetectorNet, path: Path) -> None:
    """Take over YuNet's published weights `yunet_n.pth`.

    Its points and scores stay what they are: the distance of a point is counted from a cell's centre, not its corner,
    and colours are taken as RGB, not BGR. Its boxes are of another form, so those outputs stay as they were.

    Raises:
        WeightsError: the file holds other weights.
    """
    stored: Any = torch_files.read(path)
    try:
        weights = stored["state_dict"]
        network.load_state_dict(_renamed(weights), strict=False)
        with torch.no_grad():
            for level, output in enumerate(network.outputs):
                _take_outputs(output, weights, level)
    except (RuntimeError, LookupError, TypeError, AttributeError) as problem:
        raise WeightsError(
            f"{path}: is not YuNet's yunet_n.pth ({type(problem).__name__}): name the file of its authors"
        ) from None


def _renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """YuNet's weights by our names, without its outputs."""
    names = {
        "backbone.model0.conv1.": "stem.",
        "backbone.model0.bn1.": "stem_norm.",
        "backbone.model0.conv2.": "stem_unit.",
    }
    for number in range(4):
        names[f"backbone.model{1 + number // 2}.conv{1 + number % 2}."] = f"fine.{number}."
    for level in range(len(STRIDES)):
        for number in range(2):
            names[f"backbone.model{3 + level}.conv{1 + number}."] = f"stages.{level}.{number}."
        names[f"neck.lateral_convs.{level}."] = f"laterals.{level}."
        names[f"bbox_head.multi_level_share_convs.{level}.0."] = f"heads.{level}.0."
    found = {
        ours + name.removeprefix(theirs): value
        for theirs, ours in names.items()
        for name, value in weights.items()
        if name.startswith(theirs)
    }
    found["stem.weight"] = found["stem.weight"].flip(1)
    return found


def _take_outputs(output: nn.Module, weights: Mapping[str, Tensor], level: int) -> None:
    mix, spread = output.get_submodule("0"), output.get_submodule("1")
    for part, rows in {"obj": slice(0, 1), "kps": slice(5, 15)}.items():
        for ours, theirs in ((mix, "conv1"), (spread, "conv2")):
            for kind in ("weight", "bias"):
                ours.get_parameter(kind)[rows] = weights[
                    f"bbox_head.multi_level_{part}.{level}.{theirs}.{kind}"
                ]
    spread.get_parameter("bias")[5:15] -= 0.5


class ShippedDetector(nn.Module):
    """The network as it ships: logits of large faces are lowered, so that one threshold suits all sizes.

    *Chosen*, by us: a small face is a few pixels, and even a right answer has a low score; a large one scores .9, and
    what scores .6 at this size is a wheel or a globe. From `SMALL` to `LARGE` pixels of the box's height the logit is
    lowered by 0 to `STRICTER`, linearly in the logarithm.
    """

    def __init__(self, network: DetectorNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = []
        for stride, maps in zip(STRIDES, self.network(images), strict=True):
            height = stride * (maps[:, 2:3].exp() + maps[:, 4:5].exp())
            size = ((height / SMALL).log() / math.log(LARGE / SMALL)).clamp(0, 1)
            found.append(torch.cat([maps[:, :1] - STRICTER * size, maps[:, 1:]], dim=1))
        return tuple(found)


def export(network: DetectorNet, path: Path) -> None:
    """Write `ShippedDetector` as ONNX: `image` uint8 [1, h, w, 3] -> `stride8`, `stride16`, `stride32`."""
    network = network.eval().to(memory_format=torch.contiguous_format)
    outputs = [f"stride{stride}" for stride in STRIDES]
    axes: dict[str, dict[int, str]] = {"image": {1: "h", 2: "w"}}
    axes |= {name: {2: f"h{stride}", 3: f"w{stride}"} for name, stride in zip(outputs, STRIDES, strict=True)}
    example = (torch.zeros(1, 64, 96, 3, dtype=torch.uint8),)
    onnx_export.export(ShippedDetector(network), example, path, ["image"], outputs, axes)
