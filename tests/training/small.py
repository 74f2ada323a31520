"""The smallest training: a line through noisy points, and a device that can be told from the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from mien.methods.base import Method
from mien.training.config import OptimConfig
from mien.training.loop import Run, fabric_of, silent
from mien.training.task import Budget, Epoch, Task


class Points(NamedTuple):
    """A batch."""

    x: torch.Tensor
    y: torch.Tensor


class Line(Method):
    """Fits y = a x + b; a second turn, with its own parameter, fits the mean of y."""

    turns = ("line", "mean")
    pretrained = ()

    def __init__(self, config: Any = None, size: int = 1) -> None:
        super().__init__(config, size)
        torch.manual_seed(0)
        self.line = nn.Linear(size, 1)
        self.mean = nn.Parameter(torch.zeros(1))
        self.told: list[int] = []

    def forward(self, batch: Points, turn: str) -> dict[str, torch.Tensor]:
        if turn == "mean":
            return {"mean": (batch.y - self.mean).square().mean()}
        return {"square": (self.line(batch.x)[:, 0] - batch.y).square().mean()}

    def parameters_for(self, turn: str) -> Any:
        return self.line.parameters() if turn == "line" else [self.mean]

    def advance(self, step: int) -> None:
        self.told.append(step)


class LineTask(Task):
    """Its training; `spoilt` is the step whose batch is not finite."""

    remedy = "lower the rate"

    def __init__(self, folder: Path, steps: int = 12, spoilt: int | None = None, **options: Any) -> None:
        self.folder, self.method, self.seed, self.state = folder, Line(), 0, {}
        self.epoch_steps = options.pop("epoch_steps", 5)
        self.budget = options.pop("budget", Budget(steps))
        self.optim = OptimConfig(name="sgd", rate=0.05, momentum=0.0, **{"ema": 0.9, **options})
        self._spoilt = spoilt
        self.prepared: list[Points] = []
        self.epochs: list[Epoch] = []

    def files(self) -> dict[str, bytes]:
        return {"config.json": b"{}"}

    def batches(self, step: int) -> Iterator[Points]:
        for number in count(step):
            draw = torch.Generator().manual_seed(number)
            x = torch.randn(8, 1, generator=draw)
            y = 2 * x[:, 0] + 1 + 0.1 * torch.randn(8, generator=draw)
            yield Points(x, torch.full_like(y, torch.nan) if number == self._spoilt else y)

    def prepare(self, batch: Points, step: int) -> Points:
        self.prepared.append(batch)
        return batch

    def rate(self, step: int, share: float) -> float:
        return 1 - share

    def end_epoch(self, epoch: Epoch) -> dict[str, Any]:
        self.epochs.append(epoch)
        return epoch.means


def begun(task: Task, resume: bool = False, fabric: Any = None, progress: Any = silent) -> Run:
    """A run of a task."""
    return Run(task, fabric or fabric_of("float32"), progress, resume)


class Doubling:
    """A device on which everything is double precision, so that one sees what was moved to it."""

    world_size, global_rank, is_global_zero, device = 1, 0, True, torch.device("cpu")

    def setup_module(self, module: nn.Module) -> nn.Module:
        return module.double()

    def to_device(self, batch: Points) -> Points:
        return Points(*(part.double() for part in batch))

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()
