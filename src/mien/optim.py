"""Parameter groups, the schedule and the weight average: all of torch's, put together once."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mien.config import OptimConfig
from mien.methods.base import Method


def groups(method: Method, turn: str, config: OptimConfig) -> list[dict[str, object]]:
    """Split a player's parameters by learning rate (pretrained or new) and weight decay (matrices only)."""
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
            "lr": config.rate * (config.backbone_rate if slow else 1.0),
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for (slow, decayed), parameters in split.items()
    ]


def build(method: Method, turn: str, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimiser of one player."""
    parameters = groups(method, turn, config)
    if config.name == "sgd":
        return torch.optim.SGD(
            parameters, lr=config.rate, momentum=config.momentum, nesterov=config.momentum > 0
        )
    return torch.optim.AdamW(parameters, lr=config.rate, betas=config.betas)


def schedule(optimiser: torch.optim.Optimizer, config: OptimConfig, steps: int) -> LambdaLR:
    """Linear warm-up over the first share of `steps`, then a cosine to zero."""
    warm = max(1, round(config.warmup * steps))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))

    return LambdaLR(optimiser, factor)


def average(method: Method, decay: float) -> AveragedModel:
    """An exponential moving average of weights and buffers; evaluation and the kept weights use it."""
    update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(method, multi_avg_fn=update, use_buffers=True)
