"""Our network of facial actions and gaze: 54 numbers from an aligned grey face of 80 px and its 112 points.

*Given*: only its training data (`mien.training.actions.faces`). *Chosen*, by us:

- the plain convolutions of our landmark network, for what shows on the skin (a wrinkled nose, a raised cheek);
- the points, corrected first. Most movements are two to four pixels wide in the crop, and the points that come in are
  off by one to two: with exact points a small network reads the actions of unseen renderings at a correlation of .89,
  with points off by a pixel at .69. So the network looks at its feature maps around each point and corrects the points,
  twice, and reads the actions from the corrected ones; on renderings the corrections are learnt from the exact points;
- a loss in which every action counts equally, whatever its variance;
- the mean over the face and its mirror image, which makes the sides equal by construction.

Tests: tests/training/actions/test_network.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from mien.actions import ACTIONS, MIRROR
from mien.faces.action_reader import SIZE
from mien.landmarks import MIRROR as MIRRORED_POINTS
from mien.landmarks import POINTS
from mien.training import onnx_export
from mien.training.landmarks.network import convolution, stages

_SPREAD_FLOOR = 0.004
"""Lower limit of the variance of an action in the loss: below it the teacher's answers are noise."""


GLANCE = 30.0
"""Degrees of gaze that the network answers with 1, so that its numbers have the size of the actions."""

OUTPUTS = len(ACTIONS) + 2


_LOOKS = 5
"""Numbers that are kept of the feature maps at each point."""

_REACH = 0.02
"""Share of the crop's side by which a correction of 1 moves a point."""

_SMOOTH = 0.3 / SIZE
"""Distance in sides of the crop below which the loss of a point becomes quadratic."""


class ActionNet(nn.Module):
    """Maps luma [n, 1, 80, 80] in 0..255 and points [n, P, 2] in its unit coordinates to [n, 54], not clipped: 52
    actions, and the gaze (yaw, pitch) of the upright face in the camera's frame, in units of `GLANCE`; and to the
    points corrected once and twice [2, n, P, 2]."""

    def __init__(
        self, widths: tuple[int, int, int, int] = (12, 24, 48, 96), hidden: int = 256, joined: int = 112
    ) -> None:
        super().__init__()
        flat = 2 * len(POINTS)
        self.trunk = nn.Sequential(*stages(widths), convolution(widths[-1], 24, kernel=1), nn.Flatten())
        self.geometry = nn.Sequential(nn.BatchNorm1d(flat), nn.Linear(flat, 128), nn.ReLU(inplace=True))
        whole = 24 * (SIZE // 16) ** 2 + 128
        self.first = _Correction(widths[0] + widths[1], whole, joined)
        self.second = _Correction(widths[0] + widths[1], joined, joined)
        self.corrected = nn.Sequential(nn.BatchNorm1d(flat), nn.Linear(flat, joined), nn.ReLU(inplace=True))
        self.head = nn.Sequential(
            nn.Linear(whole + 2 * joined, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(0.1),
            nn.Linear(hidden, OUTPUTS),
        )

    def forward(self, crops: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.trunk[0]((crops - 128) * (1 / 64))
        coarse = self.trunk[1:3](fine)
        whole = torch.cat([self.trunk[3:](coarse), self.geometry(points.flatten(1))], dim=1)
        joined, once = self.first((fine, coarse), points, whole)
        joined, twice = self.second((fine, coarse), once, joined)
        answers: Tensor = self.head(torch.cat([whole, joined, self.corrected(twice.flatten(1))], dim=1))
        return answers, torch.stack([once, twice])


class _Correction(nn.Module):
    """Corrects points by what the feature maps show around each of them, and by what is known of the whole face.

    Args:
        features: features of all maps together.
        known: size of what is known.
        joined: size of what it tells of the face.
    """

    def __init__(self, features: int, known: int, joined: int) -> None:
        super().__init__()
        count = len(POINTS)
        self.looks = nn.Parameter(torch.randn(_LOOKS, features, count) * features**-0.5)
        self.seen = nn.Sequential(nn.BatchNorm1d(_LOOKS * count), nn.ReLU(inplace=True))
        self.joined = nn.Sequential(nn.Linear(known + _LOOKS * count, joined), nn.ReLU(inplace=True))
        self.corrections = nn.Linear(joined, 2 * count)

    def forward(self, maps: Sequence[Tensor], points: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        around = torch.cat([_at(some, points.detach()) for some in maps], dim=1)
        looks = self.seen((around[:, None] * self.looks).sum(dim=2).flatten(1))
        joined: Tensor = self.joined(torch.cat([known, looks], dim=1))
        return joined, points + _REACH * self.corrections(joined).view_as(points)


def _at(maps: Tensor, points: Tensor) -> Tensor:
    """The features [n, f, P] of maps [n, f, h, w] at points [n, P, 2] in unit coordinates."""
    found: Tensor = functional.grid_sample(maps, (2 * points - 1)[:, :, None], align_corners=False)
    return found[..., 0]


def spreads(actions: Tensor) -> Tensor:
    """The variance [k] of each value [n, k] where it is known, at least `_SPREAD_FLOOR`."""
    known = torch.isfinite(actions)
    count = known.sum(dim=0).clamp(min=1)
    mean = torch.nan_to_num(actions).sum(dim=0) / count
    squares = torch.where(known, actions - mean, 0).square().sum(dim=0)
    return (squares / count).clamp(min=_SPREAD_FLOOR)


def action_loss(said: Tensor, target: Tensor, spread: Tensor) -> Tensor:
    """Mean squared error of answers [n, k] in units of each one's variance [k]; unknown targets (NaN) do not count."""
    known = torch.isfinite(target)
    squares = (said - torch.nan_to_num(target)).square() / spread
    return (squares * known).sum() / known.sum().clamp(min=1)


def point_loss(said: Tensor, target: Tensor) -> Tensor:
    """Mean distance of points [..., n, P, 2] to those of `target` [n, P, 2] in pixels of the crop, smoothed near 0;
    unknown points (NaN) do not count."""
    known = torch.isfinite(target).all(dim=-1).expand(said.shape[:-1])
    squares = (said - torch.nan_to_num(target)).square().sum(dim=-1)
    distance = SIZE * ((squares + _SMOOTH**2).sqrt() - _SMOOTH)
    return (distance * known).sum() / known.sum().clamp(min=1)


class _BothSides(nn.Module):
    """The network as it ships: uint8 in; mean over a face and its mirror image; actions in 0..1, gaze in degrees."""

    def __init__(self, network: ActionNet) -> None:
        super().__init__()
        self.network = network
        self.sides: Tensor
        self.mirrored: Tensor
        self.register_buffer("sides", torch.from_numpy(MIRROR))
        self.register_buffer("mirrored", torch.from_numpy(MIRRORED_POINTS))

    def forward(self, crops: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        images = crops.float()[:, None]
        other = points[:, self.mirrored] * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0])
        both, _ = self.network(torch.cat([images, images.flip(3)]), torch.cat([points, other]))
        plain, flipped = both.view(2, -1, OUTPUTS)
        count = len(ACTIONS)
        actions = (plain[:, :count] + flipped[:, self.sides]) / 2
        gaze = (plain[:, count:] + flipped[:, count:] * torch.tensor([-1.0, 1.0])) * (GLANCE / 2)
        return actions.clamp(0, 1), gaze


def export(network: ActionNet, path: Path) -> None:
    """Write ONNX: `crops` uint8 [n, 80, 80], `points` float32 [n, P, 2] -> `actions` [n, 52], `gaze` [n, 2]."""
    network = network.eval().to(memory_format=torch.contiguous_format)
    example = (torch.zeros(2, SIZE, SIZE, dtype=torch.uint8), torch.zeros(2, len(POINTS), 2))
    onnx_export.export(_BothSides(network), example, path, ["crops", "points"], ["actions", "gaze"])
