"""Training batches in an order that depends only on the seed, the epoch and the step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from mien.data.cropping import Samples
from mien.errors import ConfigError
from mien.labels import UNLABELLED
from mien.methods.base import Batch

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray


class Feed:
    """Training batches in an order that depends only on the seed, the epoch and the step.

    Args:
        samples: the sets to draw from.
        batch: rows a step over all processes.
        balance: 0 draws each picture `repeat` times an epoch; towards 1, classes equally often (with repetition).
        seed: of the order.
        rank, world: this process and how many there are; each takes its contiguous share of every step's rows.
    """

    def __init__(
        self, samples: list[Samples], batch: int, balance: float, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        self.samples = samples
        self.batch = batch
        self.balance = balance
        self.seed = seed
        self.rank, self.world = rank, world
        self._ends = np.cumsum([len(one) for one in samples])
        self._expression = np.concatenate([one.expression for one in samples])
        self._repeat = np.concatenate([np.full(len(one), one.repeat) for one in samples])
        self._drawn = max(1, round(float(self._repeat.sum())))
        self._prior = np.stack([one.log_prior() for one in samples])
        self._weight = np.array([one.weight for one in samples], dtype=np.float32)
        if batch > len(self):
            raise ConfigError(f"batch {batch} is larger than the {len(self)} training pictures: lower it")
        if batch % world:
            raise ConfigError(f"batch {batch} does not divide over {world} processes")

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def steps(self) -> int:
        """Steps an epoch; an incomplete last batch is dropped."""
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

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[int, Batch, torch.Tensor]]:
        """Yield (step in the epoch, targets, crops) from step `start` on.

        The batch's `image` holds this process's raw uint8 crops as they are; the third value holds the whole step's
        crops, from which `mien.data.transforms.augment` takes the process's part.
        """
        import torch

        order = self.order(epoch)
        share = self.batch // self.world
        for step in range(start, self.steps):
            rows = order[step * self.batch : (step + 1) * self.batch]
            crops = torch.from_numpy(self._gather(rows, "images"))
            mine = rows[self.rank * share : (self.rank + 1) * share]
            yield (
                step,
                Batch(
                    crops[self.rank * share : (self.rank + 1) * share],
                    torch.from_numpy(self._gather(mine, "expression")),
                    torch.from_numpy(self._gather(mine, "affect")),
                    torch.from_numpy(self._gather(mine, "votes")),
                    torch.from_numpy(self._gather(mine, "subject")),
                    {
                        "weight": torch.from_numpy(self._weight[self._owner(mine)]),
                        "log_prior": torch.from_numpy(self._prior[self._owner(mine)]),
                    },
                ),
                crops,
            )

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
