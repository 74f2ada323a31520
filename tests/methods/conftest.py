"""Drawn faces as a training batch: every label known, no data needed."""

from collections.abc import Callable

import pytest
import torch

from mien.data.synthetic.drawings import arrays, draw
from mien.labels import EXPRESSIONS
from mien.methods.base import Batch


@pytest.fixture(scope="session")
def drawn() -> Callable[..., Batch]:
    """`drawn(count, first)` gives upright drawn faces of 64 px: every class in turn, sitters numbered from `first`."""

    def make(count: int = 32, first: int = 0) -> Batch:
        classes = len(EXPRESSIONS)
        drawn = arrays([draw(n % classes, subject=first + n // classes, size=64) for n in range(count)])
        return Batch(
            image=torch.from_numpy(drawn.images).permute(0, 3, 1, 2).float() / 64 - 2,
            expression=torch.from_numpy(drawn.expression),
            affect=torch.from_numpy(drawn.affect),
            votes=torch.full((count, classes), torch.nan),
            subject=torch.from_numpy(drawn.subject),
            extra={},
        )

    return make
