"""The interface between the loop and a training: its method, its batches, and what follows an epoch."""

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
    """Length of a training: `steps`, or `minutes` of `clock` if given, whichever ends first."""

    steps: int
    minutes: float | None = None
    clock: Callable[[], float] = time.monotonic

    def share(self, step: int, seconds: float) -> float:
        """From 0 to 1, by steps or by time, whichever is further."""
        by_time = seconds / (60 * self.minutes) if self.minutes else 0.0
        return max(step / self.steps, by_time)


class Epoch(NamedTuple):
    """The loop's results at the end of an epoch.

    Attributes:
        step: steps of the whole training so far.
        seconds: of training so far, by the budget's clock.
        means: each loss term's mean over the steps of this epoch.
        network: the weights to evaluate: the running average, or without one `Task.averaged` itself.
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
        budget: the length of the training.
        epoch_steps: steps between two calls of `end_epoch`.
        seed: the seed of everything random.
        event: the kind of the events in `metrics.jsonl`.
        saves_epochs: whether the state is also written after every epoch, not only every few minutes and at the end.
        remedy: what to do about a loss that is not finite.
        state: plain values that a resumed training needs besides weights and optimisers.
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
        """Whether the training should end before its budget is used up."""
        return False

    @abstractmethod
    def files(self) -> dict[str, bytes]:
        """The files with the configuration in the run folder: content by name."""

    @abstractmethod
    def batches(self, step: int) -> Iterator[Any]:
        """The batches starting at a step, endless, on the CPU; each depends only on the seed and its step."""

    def prepare(self, batch: Any, step: int) -> Any:
        """Turn a batch into the method's input, on the method's device: augmentation belongs here."""
        return batch

    @abstractmethod
    def rate(self, step: int, share: float) -> float:
        """The factor of the peak learning rates at a step; `share` is the part of the budget that is spent, 0 to 1."""

    def train(self) -> None:
        """Put the method into training mode, before each step."""
        self.method.train()

    @abstractmethod
    def end_epoch(self, epoch: Epoch) -> dict[str, Any]:
        """Evaluate, save weights and report as needed; return the values to log. All processes call it."""
