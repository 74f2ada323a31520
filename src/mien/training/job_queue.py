"""Run long jobs in worker processes; the queue goes on when a job fails or a worker dies.

Every job runs in one of a fixed number of processes, each with its device and its threads. A job fails, with an
outcome that says so, when it raises an error or its process dies; a new process replaces a dead one. Ctrl-C and
a termination request reach each worker once, as a termination request; a training then saves its state between two
steps.
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

REPORT_SECONDS: Final = 0.5
"""Shortest time between two progress reports of a worker."""
STOP_SECONDS: Final = 120.0
"""How long workers may take to save what they have before they are killed."""

Work = Callable[[Any, str, ShareProgress], Any]
"""Does one job on a device and reports its share at any rate; must be a function at the top of a module, because it is
pickled."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one job: what `Work` returned, or the error in one line."""

    job: Any
    value: Any = None
    error: str = ""


@dataclass(frozen=True)
class QueueStatus:
    """Progress of the queue: the number of jobs that have ended, of those that failed, of all jobs, and the share done
    of each running job."""

    done: int
    failed: int
    total: int
    running: tuple[tuple[Any, float], ...]

    @property
    def share(self) -> float:
        """The share of all work that is done, 0 to 1, if all jobs are equally long."""
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
        devices: one per worker, so it also gives the number of workers.
        threads: processor threads of each worker.
        progress: called with the status at every event, and at least every few seconds.

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
        """Send a job to the process; if the process has died, `receive` reports it."""
        self.job, self.share, self.busy = job, 0.0, True
        with suppress(OSError):
            self.pipe.send(job)

    def receive(self) -> Outcome | None:
        """The outcome of the job, or None while it is still running."""
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
    """End idle workers and ask busy ones to save and end; a second Ctrl-C kills them."""
    try:
        for worker in workers:
            if worker.busy:
                worker.process.terminate()  # its pipe stays open: it may still report progress before it saves
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
    """Make a termination request raise KeyboardInterrupt within the block, if this is the main thread (only it can set
    handlers)."""
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
    """The worker process: do one job after another until the pipe is closed or the process is asked to end.

    It runs in its own process group, to which a terminal does not send Ctrl-C: only the parent handles it.
    """
    import cv2
    import torch

    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    reported = 0.0

    def progress(share: float) -> None:
        nonlocal reported
        if time.monotonic() - reported >= REPORT_SECONDS:
            reported = time.monotonic()
            pipe.send(("share", share))

    try:
        while True:
            pipe.send(_answer(work, pipe.recv(), device, progress))
            gc.collect()  # networks and optimisers refer to each other
    except (EOFError, OSError, KeyboardInterrupt):  # the parent has finished, or asked this process to end
        return


def _answer(work: Work, job: Any, device: str, progress: ShareProgress) -> tuple[str, Any]:
    try:
        return "value", work(job, device, progress)
    except (MienError, OSError, RuntimeError) as problem:
        first = next(iter(str(problem).strip().splitlines()), "")
        return "error", first if isinstance(problem, MienError) else f"{type(problem).__name__}: {first}"
