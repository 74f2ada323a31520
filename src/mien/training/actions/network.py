"""Our network of facial actions and gaze: 54 numbers from an aligned grey face of 80 px and its 112 points.

*Given*: only its training data (`mien.training.actions.faces`). *Chosen*, by us: the plain convolutions of our landmark
network, for what shows on the skin (a wrinkled nose, a raised cheek), beside the points, which give the geometry to a
fraction of a pixel; a loss in which every action counts equally, whatever its variance; and the mean over the face and
its mirror image, which makes the sides equal by construction.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from mien.actions import ACTIONS, MIRROR
from mien.faces.action_reader import SIZE
from mien.landmarks import MIRROR as MIRRORED_POINTS
from mien.landmarks import POINTS
from mien.training import halves
from mien.training.landmarks.network import convolution, stages

_SPREAD_FLOOR = 0.004
"""Lower limit of the variance of an action in the loss: below it the teacher's answers are noise."""


GLANCE = 30.0
"""Degrees of gaze that the network answers with 1, so that its numbers have the size of the actions."""

OUTPUTS = len(ACTIONS) + 2


class ActionNet(nn.Module):
    """Maps luma [n, 1, 80, 80] in 0..255 and points [n, P, 2] in its unit coordinates to [n, 54], not clipped: 52
    actions, and the gaze (yaw, pitch) of the upright face in the camera's frame, in units of `GLANCE`."""

    def __init__(self, widths: tuple[int, int, int, int] = (12, 24, 48, 96), hidden: int = 256) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*stages(widths), convolution(widths[-1], 24, kernel=1), nn.Flatten())
        self.geometry = nn.Sequential(
            nn.BatchNorm1d(2 * len(POINTS)), nn.Linear(2 * len(POINTS), 128), nn.ReLU(inplace=True)
        )
        self.head = nn.Sequential(
            nn.Linear(24 * (SIZE // 16) ** 2 + 128, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(0.1),
            nn.Linear(hidden, OUTPUTS),
        )

    def forward(self, crops: Tensor, points: Tensor) -> Tensor:
        seen, shape = self.trunk((crops - 128) * (1 / 64)), self.geometry(points.flatten(1))
        answers: Tensor = self.head(torch.cat([seen, shape], dim=1))
        return answers


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
        both = self.network(torch.cat([images, images.flip(3)]), torch.cat([points, other]))
        plain, flipped = both.view(2, -1, OUTPUTS)
        count = len(ACTIONS)
        actions = (plain[:, :count] + flipped[:, self.sides]) / 2
        gaze = (plain[:, count:] + flipped[:, count:] * torch.tensor([-1.0, 1.0])) * (GLANCE / 2)
        return actions.clamp(0, 1), gaze


def export(network: ActionNet, path: Path) -> None:
    """Write ONNX: `crops` uint8 [n, 80, 80], `points` float32 [n, P, 2] -> `actions` [n, 52], `gaze` [n, 2]; weights in
    half precision."""
    network = network.eval().to(memory_format=torch.contiguous_format)
    example = (torch.zeros(2, SIZE, SIZE, dtype=torch.uint8), torch.zeros(2, len(POINTS), 2))
    halves.export(_BothSides(network), example, path, ["crops", "points"], ["actions", "gaze"])
