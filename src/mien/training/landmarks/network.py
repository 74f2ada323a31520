"""Our landmark network: 112 points, a presence score and the head's pose from a grey square of 64 px.

*Given*: only its training data, the teacher's answers (`mien.training.landmarks.teacher`) and the exact
points of rendered
heads (`mien.data.synthetic.head`). *Chosen*, by us: plain 3 x 3 convolutions with ReLU, the fastest thing ONNX
Runtime does;
points by direct regression from a small spatial map under an L1-like loss, which is robust to the teacher's outliers.

`mien.training.landmarks.train` trains it; `mien.landmarks` runs it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from mien.faces.landmarker import SIDE
from mien.landmarks import GROUPS, POINTS
from mien.training import onnx_export

MODES = 80
"""Number of principal modes of the points in their crops (shape, place, rotation, size); the network predicts weights
of them."""


class LandmarkNet(nn.Module):
    """Maps grey crops [n, 1, 64, 64] in 0..255 to points [n, P, 2] in 0..1 of the crop, presence logit [n], pose [n,
    3]."""

    def __init__(self, widths: tuple[int, int, int, int] = (16, 32, 64, 128)) -> None:
        super().__init__()
        last = widths[-1]
        self.trunk = nn.Sequential(*stages(widths))
        self.squeeze = convolution(last, 20, 1, kernel=1)
        self.points = nn.Linear(20 * (SIDE // 16) ** 2, MODES)
        self.rest = nn.Sequential(nn.Linear(last, 64), nn.ReLU(inplace=True), nn.Linear(64, 4))
        self.mean: Tensor
        self.modes: Tensor
        self.register_buffer("mean", torch.full((2 * len(POINTS),), 0.5))
        self.register_buffer("modes", torch.zeros(MODES, 2 * len(POINTS)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.trunk((images - 128) * (1 / 64))
        points = self.points(self.squeeze(maps).flatten(1)) @ self.modes + self.mean
        rest = self.rest(maps.mean(dim=(2, 3)))
        return points.view(-1, len(POINTS), 2), rest[:, 0], rest[:, 1:] * 30


def stages(widths: tuple[int, int, int, int]) -> list[nn.Module]:
    """Four stages of plain convolutions on luma, of these channels, each at half the side of the one before."""
    a, b, c, d = widths
    return [
        convolution(1, a, 2),
        convolution(a, b, 2),
        Residual(b),
        convolution(b, c, 2),
        Residual(c),
        Residual(c),
        convolution(c, d, 2),
        Residual(d),
    ]


def convolution(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two 3 x 3 convolutions added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = convolution(width, width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, maps: Tensor) -> Tensor:
        return functional.relu(maps + self.norm(self.second(self.first(maps))))


def point_weights() -> Tensor:
    """Loss weight of each point [P]: high for lids, irises and lips, which show the expression; low for the jaw's
    points, which slide along its outline."""
    weights = torch.ones(len(POINTS))
    for name, weight in {
        "jaw": 0.7,
        "right_eye": 1.6,
        "left_eye": 1.6,
        "irises": 1.6,
        "inner_lips": 1.6,
    }.items():
        weights[GROUPS[name]] = weight
    return weights / weights.mean()


def point_loss(points: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean distance in percent of the crop, smoothed below half a percent; unlabelled (NaN) points do not count."""
    known = torch.isfinite(target).all(dim=2) * weights
    squares = (points - torch.nan_to_num(target)).square().sum(dim=2)
    distance = (squares + 0.005**2).sqrt() - 0.005
    return 100 * (distance * known).sum() / known.sum().clamp(min=1)


def pose_loss(pose: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error in units of 9 degrees (a tenth of a right angle); unlabelled rows do not count."""
    known = torch.isfinite(target).all(dim=1)
    error = (pose - torch.nan_to_num(target)).abs().mean(dim=1) / 9
    return (error * known).sum() / known.sum().clamp(min=1)


class _Shipped(nn.Module):
    """The network as it ships: uint8 in, presence as a probability out."""

    def __init__(self, network: LandmarkNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        points, presence, pose = self.network(images.float())
        return points, torch.sigmoid(presence), pose


def export(network: LandmarkNet, path: Path) -> None:
    """Write ONNX: `images` uint8 [n, 1, 64, 64] -> `points`, `presence`, `pose`."""
    network = network.eval().to(memory_format=torch.contiguous_format)
    example = (torch.zeros(2, 1, SIDE, SIDE, dtype=torch.uint8),)
    onnx_export.export(_Shipped(network), example, path, ["images"], ["points", "presence", "pose"])
