"""Drawn faces as a training batch: every label known, no data needed."""

from collections.abc import Callable

import pytest
import torch

from mien.data.records import Batch
from mien.data.synthetic import arrays, faces


@pytest.fixture(scope="session")
def drawn() -> Callable[..., Batch]:
    """`drawn(count, seed)` gives a batch of drawn faces of 64 px, in turn of every class."""

    def make(count: int = 32, seed: int = 0, size: int = 64) -> Batch:
        drawn = arrays(faces(count, seed=seed, size=size))
        return Batch(
            image=torch.from_numpy(drawn.images).permute(0, 3, 1, 2).float() / 64 - 2,
            expression=torch.from_numpy(drawn.expression),
            affect=torch.from_numpy(drawn.affect),
            votes=torch.full((count, 8), torch.nan),
            subject=torch.from_numpy(drawn.subject),
            extra={},
        )

    return make
