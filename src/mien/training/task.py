"""What the loop asks of a training: its method, its batches, and what follows an epoch."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from torch import nn

    from mien.methods.base import Method
    from mien.training.config import OptimConfig


@dataclass(frozen=True)
class Budget:
    """How long a training lasts: `steps`, or `minutes` of `clock` where they are given, whichever end first."""

    steps: int
    minutes: float | None = None
    clock: Callable[[], float] = time.monotonic

    def share(self, step: int, seconds: float) -> float:
        """From 0 to 1, by steps or by time, whichever is further."""
        by_time = seconds / (60 * self.minutes) if self.minutes else 0.0
        return max(step / self.steps, by_time)


class Epoch(NamedTuple):
    """What the loop hands over at the end of an epoch.

    Attributes:
        step: steps of the whole training so far.
        seconds: of training so far, by the budget's clock.
        means: each loss term's mean over the steps of this epoch.
        network: the weights to judge: the running average, or `Task.averaged` itself where none is kept.
    """

    step: int
    seconds: float
    means: dict[str, float]
    network: nn.Module


class Task(ABC):
    """One training as `mien.training.loop.Run` sees it.

    Attributes:
        folder: the run folder.
        method: what is trained.
        optim: optimiser, clipping and decay of the running average; `rate` is the schedule.
        budget: how long.
        epoch_steps: steps between two calls of `end_epoch`.
        seed: of everything random.
        event: the kind of the events in `metrics.jsonl`.
        saves_epochs: whether the state is written after every epoch too, not only every few minutes and at the end.
        remedy: what to do about a loss that is not finite.
        state: plain values that a resumed training must know besides weights and optimisers.
    """

    event: ClassVar[str] = "step"
    remedy: ClassVar[str]
    saves_epochs: ClassVar[bool] = True
    folder: Path
    method: Method
    optim: OptimConfig
    budget: Budget
    epoch_steps: int
    seed: int
    state: dict[str, Any]

    @property
    def averaged(self) -> nn.Module:
        """The part of the method to keep a running average of."""
        return self.method

    @property
    def stopped(self) -> bool:
        """Whether the training ends before its budget does."""
        return False

    @abstractmethod
    def files(self) -> dict[str, bytes]:
        """What states the configuration in the run folder, by file name."""

    @abstractmethod
    def batches(self, step: int) -> Iterator[Any]:
        """The batches from a step on, without end, on the CPU; each depends on the seed and its step alone."""

    def prepare(self, batch: Any, step: int) -> Any:
        """The batch as the method takes it, made on the method's device: augmentation belongs here."""
        return batch

    @abstractmethod
    def rate(self, step: int, share: float) -> float:
        """What the peak learning rates are multiplied by at a step; `share` is what of the budget is spent."""

    def train(self) -> None:
        """Put the method into training mode, before each step."""
        self.method.train()

    @abstractmethod
    def end_epoch(self, epoch: Epoch) -> dict[str, Any]:
        """Judge, keep and tell what has to be; returns the values to log. All processes call it."""
