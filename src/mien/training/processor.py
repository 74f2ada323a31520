"""Torch's settings of the processor for the time of a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def settings(threads: int | None) -> Iterator[None]:
    """Take `threads` (None: as they are) and treat denormal numbers as zero; afterwards the program has its own again.

    Denormal numbers make some steps many times slower, but the switch is the whole process's: a program that trains in
    between must be able to count on them afterwards.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)
