"""Training batches in an order that depends only on the seed, the epoch and the step."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mien.data.cropping import Samples
from mien.errors import ConfigError
from mien.labels import UNLABELLED
from mien.methods.base import Batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FIELDS: Final = ("images", "expression", "affect", "votes", "subject")
"""Fields of `Samples`, in the order of `Batch`."""


class BatchLoader:
    """Training batches in an order that depends only on the seed, the epoch and the step.

    Args:
        samples: the sets to draw from.
        batch: rows per step over all processes.
        balance: 0 draws each picture `repeat` times per epoch; at 1 classes are drawn equally often (with repetition).
        seed: the seed of the order.

    Raises:
        ConfigError: there are fewer pictures than a batch has rows.
    """

    def __init__(self, samples: list[Samples], batch: int, balance: float, seed: int) -> None:
        self.samples = samples
        self.batch = batch
        self.balance = balance
        self.seed = seed
        self._ends = np.cumsum([len(one) for one in samples])
        self._expression = np.concatenate([one.expression for one in samples])
        self._repeat = np.concatenate([np.full(len(one), one.repeat) for one in samples])
        self._drawn = max(1, round(float(self._repeat.sum())))
        self._prior = np.stack([one.log_prior() for one in samples])
        self._weight = np.array([one.weight for one in samples], dtype=np.float32)
        if batch > len(self):
            raise ConfigError(f"batch {batch} is larger than the {len(self)} training pictures: lower it")

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def steps(self) -> int:
        """Steps per epoch; an incomplete last batch is dropped."""
        return self._drawn // self.batch

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The rows of an epoch, in order."""
        random = np.random.default_rng((self.seed, epoch))
        if self.balance == 0:
            whole = np.floor(self._repeat + random.random(len(self))).astype(np.int64)
            rows = random.permutation(np.repeat(np.arange(len(self)), whole)).astype(np.int64)
            return np.resize(rows, self._drawn)  # rounding may leave it a few rows short or long
        counts = np.bincount(self._expression[self._expression >= 0], minlength=1)
        weight = np.where(
            self._expression >= 0, np.maximum(counts, 1)[self._expression].astype(float) ** -self.balance, 0.0
        )
        weight[self._expression == UNLABELLED] = weight[weight > 0].mean() if (weight > 0).any() else 1.0
        weight *= self._repeat
        return random.choice(len(self), size=self._drawn, p=weight / weight.sum()).astype(np.int64)

    def batches(self, step: int) -> Iterator[Batch]:
        """The batches of all epochs, endlessly, starting at a step of the training."""
        for epoch in count(step // self.steps):
            yield from self.epoch(epoch, step % self.steps)
            step = 0

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on; their `image` holds raw uint8 crops, grey [n, s, s] or RGB
        [n, s, s, 3]."""
        import torch

        order = self.order(epoch)
        for step in range(start, self.steps):
            rows = order[step * self.batch : (step + 1) * self.batch]
            owner = self._owner(rows)
            fields = [torch.from_numpy(self._gather(rows, field)) for field in _FIELDS]
            extra = {"weight": self._weight[owner], "log_prior": self._prior[owner]}
            yield Batch._make([*fields, {name: torch.from_numpy(values) for name, values in extra.items()}])

    def _owner(self, rows: NDArray[np.int64]) -> NDArray[np.intp]:
        """Which of the sets each row belongs to."""
        return np.searchsorted(self._ends, rows, side="right")

    def _gather(self, rows: NDArray[np.int64], field: str) -> NDArray[Any]:
        owner = self._owner(rows)
        starts = np.concatenate(([0], self._ends[:-1]))
        first = getattr(self.samples[0], field)
        out = np.empty((len(rows), *first.shape[1:]), dtype=first.dtype)
        for place, one in enumerate(self.samples):
            here = owner == place
            if here.any():
                out[here] = getattr(one, field)[rows[here] - starts[place]]
        return out
