"""Torch's thread count and denormal mode during a training, and what Ctrl-C does to its loader processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def settings(threads: int | None) -> Iterator[None]:
    """Use `threads` threads (None: unchanged) and treat denormal numbers as zero within the block; restore both
    afterwards.

    Denormal numbers make some steps many times slower, but the setting applies to the whole process, so it must not
    stay changed for a program that trains and then does something else.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


def ignore_interrupts(worker: int) -> None:
    """Let a loader's process go on at Ctrl-C, which reaches it too: the loop still needs its batches to end a step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
