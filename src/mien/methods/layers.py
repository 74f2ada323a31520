"""Pieces that more than one paper shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from mien.backbone import Backbone


def ccc(predicted: Float[Tensor, "n d"], target: Float[Tensor, "n d"]) -> Float[Tensor, " d"]:
    """Concordance correlation coefficient of each column, from population moments, differentiable.

    2 cov / (var + var + (mean - mean)^2), with 1e-6 in the denominator so that constant columns give 0.
    """
    mean_p, mean_t = predicted.mean(dim=0), target.mean(dim=0)
    covariance = ((predicted - mean_p) * (target - mean_t)).mean(dim=0)
    spread = predicted.var(dim=0, correction=0) + target.var(dim=0, correction=0)
    return 2 * covariance / (spread + (mean_p - mean_t) ** 2 + 1e-6)


class AffectHead(nn.Module):
    """Linear map to (valence, arousal), bounded to [-1, 1] by tanh."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2)

    def forward(self, embedding: Float[Tensor, "n d"]) -> Float[Tensor, "n 2"]:
        return torch.tanh(self.linear(embedding))


@torch.no_grad()
def map_shapes(backbone: Backbone, size: int) -> list[tuple[int, int]]:
    """(channels, side) of each stage map for square inputs of `size` pixels, found by asking the network once."""
    was_training = backbone.training
    _, maps = backbone.eval()(torch.zeros(1, 3, size, size))
    backbone.train(was_training)
    return [(one.shape[1], one.shape[3]) for one in maps]
