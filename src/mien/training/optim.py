"""Parameter groups, optimiser, learning-rate schedule and weight average, built from torch's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from mien.methods.base import Method
from mien.training.config import OptimConfig


def groups(method: Method, turn: str, config: OptimConfig) -> list[dict[str, object]]:
    """Split the parameters of a turn by learning rate (pretrained or new) and weight decay (matrices only).

    `initial_lr` keeps the peak rate, which the schedule multiplies.
    """
    owned = {id(parameter) for parameter in method.parameters_for(turn)}
    pretrained = tuple(f"{name}." for name in method.pretrained)
    split: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in method.named_parameters():
        if id(parameter) in owned and parameter.requires_grad:
            key = (name.startswith(pretrained), parameter.ndim > 1)
            split.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": (peak := config.rate * (config.backbone_rate if slow else 1.0)),
            "initial_lr": peak,
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for (slow, decayed), parameters in split.items()
    ]


def build(method: Method, turn: str, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimiser of one turn."""
    parameters = groups(method, turn, config)
    if config.name == "sgd":
        return torch.optim.SGD(
            parameters, lr=config.rate, momentum=config.momentum, nesterov=config.momentum > 0
        )
    return torch.optim.AdamW(parameters, lr=config.rate, betas=config.betas)


def schedule(config: OptimConfig, steps: int) -> Callable[[int], float]:
    """The factor of the peak rates by step: linear warm-up over the first share of `steps`, then a cosine to zero."""
    warm = max(1, round(config.warmup * steps))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))

    return factor


def warm_cosine(step: int, share: float, warmup: int = 200) -> float:
    """The factor of a rate that rises over `warmup` steps, then falls as a cosine of the budget's `share` (0 to 1)."""
    return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def average(network: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of weights and buffers, on their device; evaluation and the kept weights use it.

    Its decay at step t is the smaller of `decay` and (1 + t) / (10 + t), as TensorFlow's average with `num_updates` and
    timm's warm-up have it: otherwise a run of a hundred steps would keep mostly its initial weights.
    """

    @torch.no_grad()
    def update(means: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        # Uses the counter on the CPU: reading `count`, a copy on the device, would wait for the device.
        step = int(averaged.n_averaged)
        share = 1 - min(decay, (1 + step) / (10 + step))
        if torch.is_floating_point(means[0]):
            torch._foreach_lerp_(list(means), list(current), share)
        else:  # the counters of batch norms
            for mean, value in zip(means, current, strict=True):
                mean.copy_(value)

    averaged = AveragedModel(network, multi_avg_fn=update, use_buffers=True)
    return averaged
