"""A queue of long jobs over worker processes that outlives each of them.

Every job runs in one of a fixed number of processes, each with its device and its threads. A job that fails, or whose
process dies, is an outcome like another; a new process takes the place of a dead one. Ctrl-C and a termination request
reach the workers once, as a termination request that a training answers by saving its state between two steps.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from mien.errors import MienError
from mien.faces.parallel import end_with_parent, interrupts_held
from mien.io.onnx import available
from mien.types import ShareProgress

TELL_SECONDS: Final = 0.5
"""How often a worker tells how far its job is, at most."""
STOP_SECONDS: Final = 120.0
"""How long workers may take to save what they have before they are killed."""

Work = Callable[[Any, str, ShareProgress], Any]
"""Does one job on a device and tells its share as often as it likes; a function at the top of a module, as it is sent
to other processes."""


@dataclass(frozen=True)
class Outcome:
    """One job's end: what `Work` returned, or the error in one line."""

    job: Any
    value: Any = None
    error: str = ""


@dataclass(frozen=True)
class QueueStatus:
    """How far the queue is: jobs that have ended, those that failed among them, all, and each running one with its
    share."""

    done: int
    failed: int
    total: int
    running: tuple[tuple[Any, float], ...]

    @property
    def share(self) -> float:
        """Of all jobs' work, from 0 to 1, as if all were equally long."""
        return (self.done + sum(share for _, share in self.running)) / max(1, self.total)


def devices_of(devices: Sequence[str], workers: int | None, threads: int) -> list[str]:
    """The device of each worker, in turn.

    Without a number there is one worker for each GPU named, or as many as the processors allow.
    """
    import torch

    known = list(devices)
    if known == ["auto"] and torch.cuda.is_available():
        known = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if workers is None:
        on_cpu = all(one in ("auto", "cpu") for one in known)
        workers = max(1, available() // threads) if on_cpu else len(known)
    return [known[number % len(known)] for number in range(workers)]


def run(
    jobs: Sequence[Any],
    work: Work,
    devices: Sequence[str],
    threads: int = 1,
    progress: Callable[[QueueStatus], None] | None = None,
) -> Generator[Outcome]:
    """Do all jobs, in order as workers become free, and yield each one's outcome as it ends.

    Args:
        jobs: anything that can be pickled.
        work: does one; it may raise a `MienError`, an `OSError` or a `RuntimeError`, which fail its job alone.
        devices: of each worker, which is how many there are.
        threads: processor threads of each worker.
        progress: told the status with every event, and at least every few seconds.

    Raises:
        KeyboardInterrupt: it was interrupted; the workers have saved what they could and ended.
    """
    waiting, done, failed = deque(jobs), 0, 0
    workers: list[_Worker] = []
    with _termination_interrupts():
        try:
            while True:
                while waiting and len(workers) < len(devices):
                    taken = [worker.slot for worker in workers]
                    slot = next(number for number in range(len(devices)) if number not in taken)
                    workers.append(_Worker(slot, work, devices[slot], threads))
                for worker in workers:
                    if not worker.busy and waiting:
                        worker.give(waiting.popleft())
                busy = tuple((one.job, one.share) for one in workers if one.busy)
                if progress is not None:
                    progress(QueueStatus(done, failed, len(jobs), busy))
                if not busy:
                    return
                ready = wait([worker.pipe for worker in workers if worker.busy], timeout=2.0)
                for worker in [one for one in workers if one.pipe in ready]:
                    outcome = worker.receive()
                    if not worker.alive:
                        workers.remove(worker)
                    if outcome is not None:
                        done, failed = done + 1, failed + bool(outcome.error)
                        yield outcome
        finally:
            _end(workers)


class _Worker:
    """The parent's side of one worker process."""

    def __init__(self, slot: int, work: Work, device: str, threads: int) -> None:
        # A fresh interpreter ("spawn"): a fork would copy the state of other threads' locks.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.slot, self.busy, self.alive = slot, False, True
        self.job: Any = None
        self.share = 0.0
        arguments = (theirs, work, device, threads)
        self.process = context.Process(target=_serve, args=arguments, name="mien sweep", daemon=True)
        with interrupts_held():
            self.process.start()
        theirs.close()

    def give(self, job: Any) -> None:
        """Hand a job over; a process that has died meanwhile is noticed when it is heard."""
        self.job, self.share, self.busy = job, 0.0, True
        with suppress(OSError):
            self.pipe.send(job)

    def receive(self) -> Outcome | None:
        """What the process says; None where its job goes on."""
        try:
            kind, value = self.pipe.recv()
        except (OSError, EOFError):
            self.alive, self.busy = False, False
            self.process.join()
            code = self.process.exitcode or 0
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            return Outcome(self.job, error=f"its process {how}: see above for why, or give it more memory")
        if kind == "share":
            self.share = value
            return None
        self.busy = False
        return Outcome(self.job, **{kind: value})


def _end(workers: Sequence[_Worker]) -> None:
    """Let idle workers go and have busy ones save and end; an impatient second Ctrl-C kills them."""
    try:
        for worker in workers:
            if worker.busy:
                worker.process.terminate()  # its pipe stays open: it may tell how far it is before it saves
            else:
                worker.pipe.close()
        until = time.monotonic() + STOP_SECONDS
        for worker in workers:
            worker.process.join(max(0.0, until - time.monotonic()))
    finally:
        for worker in workers:
            if worker.process.is_alive():
                worker.process.kill()
            worker.process.join()
            worker.pipe.close()


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """Have a termination request end the block as Ctrl-C does; only in the main thread, which alone may ask for it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _serve(pipe: Connection, work: Work, device: str, threads: int) -> None:
    """A worker's life: one job after another, until the pipe is closed or it is asked to end.

    It is in a process group of its own, which a terminal does not send Ctrl-C to: the parent alone answers it.
    """
    import cv2
    import torch

    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    told = 0.0

    def progress(share: float) -> None:
        nonlocal told
        if time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            pipe.send(("share", share))

    try:
        while True:
            pipe.send(_answer(work, pipe.recv(), device, progress))
            gc.collect()  # networks and optimisers refer to each other
    except (EOFError, OSError, KeyboardInterrupt):  # the parent is done, or has asked for an end
        return


def _answer(work: Work, job: Any, device: str, progress: ShareProgress) -> tuple[str, Any]:
    try:
        return "value", work(job, device, progress)
    except (MienError, OSError, RuntimeError) as problem:
        first = next(iter(str(problem).strip().splitlines()), "")
        return "error", first if isinstance(problem, MienError) else f"{type(problem).__name__}: {first}"
