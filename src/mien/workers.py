"""Many pictures, several processes: one thread each, answers in order, and nothing lost when a process dies.

Two one-thread processes analyse about twice as many photographs as one process with two threads, because decoding,
detection and warping run beside each other too. Each worker loads its own networks once. Work goes out in small chunks,
a bounded number at a time, so memory does not grow with the list; answers come back in the list's order.

When a worker is killed (out of memory, by hand, by a fault in a decoder), the pictures of its chunk are tried again one
by one, so that the one that kills its worker is found: it becomes an `Analysis` with `error`, and all others keep their
answers. When this process dies, even by `kill -9`, its workers notice and end.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import connection
from threading import Thread
from typing import Any, Final

from mien.errors import MienError
from mien.types import Analysis
from mien.work import Work

CHUNK: Final = 8
"""Pictures handed to a worker at once: few enough that a lost chunk is cheap, enough that the hand-over is not felt."""

_work: Work | MienError | None = None  # set once in each worker process, by `_begin`


def analyse(
    paths: Iterable[str], make: Callable[..., Work], options: dict[str, Any], workers: int
) -> Iterator[Analysis]:
    """Analyse pictures with `workers` processes and yield one answer a path, in order.

    Args:
        paths: read only a bounded number ahead.
        make: a function at the top of a module; each worker calls `make(**options)` once and keeps what it returns.
        options: plain values, sent to each worker.
        workers: number of processes, 1 or more.

    Raises:
        MienError: `make` fails, so no worker can start.
    """
    remaining = iter(paths)
    pool = _open(make, options, workers)
    waiting: deque[tuple[list[str], Future[list[Analysis]]]] = deque()
    try:
        while True:
            while len(waiting) < 3 * workers and (chunk := list(islice(remaining, CHUNK))):
                waiting.append((chunk, _submit(pool, chunk)))
            if not waiting:
                return
            chunk, future = waiting.popleft()
            try:
                answers = future.result()
            except BrokenProcessPool:
                # One death breaks the whole pool. This chunk goes one by one; the others start again.
                _close(pool)
                answers = _one_by_one(chunk, make, options)
                pool = _open(make, options, workers)
                waiting = deque(
                    (other, answer if _answered(answer) else _submit(pool, other))
                    for other, answer in waiting
                )
            yield from answers
    finally:
        _close(pool)


def _one_by_one(chunk: list[str], make: Callable[..., Work], options: dict[str, Any]) -> list[Analysis]:
    """Analyse pictures one at a time, so that a worker's death is the doing of the picture it had."""
    answers: list[Analysis] = []
    pool = _open(make, options, 1)
    try:
        for path in chunk:
            try:
                answers += _submit(pool, [path]).result()
            except BrokenProcessPool:
                _close(pool)
                pool = _open(make, options, 1)
                error = f"{path}: the process died on this picture, out of memory or killed: scale it down"
                answers.append(Analysis(path, 0, 0, error=error))
    finally:
        _close(pool)
    return answers


def _open(make: Callable[..., Work], options: dict[str, Any], workers: int) -> ProcessPoolExecutor:
    # Fresh interpreters ("spawn"): a fork would copy the state of ONNX Runtime's and OpenCV's threads without them.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(make, options))


def _close(pool: ProcessPoolExecutor) -> None:
    pool.shutdown(wait=True, cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, chunk: list[str]) -> Future[list[Analysis]]:
    try:
        return pool.submit(_run, chunk)
    except BrokenProcessPool as problem:  # it broke between two chunks
        lost: Future[list[Analysis]] = Future()
        lost.set_exception(problem)
        return lost


def _answered(future: Future[list[Analysis]]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _begin(make: Callable[..., Work], options: dict[str, Any]) -> None:
    """The first thing a worker does."""
    global _work
    # Ctrl-C reaches the whole process group; only the parent answers it, and lets the workers finish their chunk.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=end_with_parent, daemon=True).start()
    try:
        _work = make(**options)
    except MienError as problem:
        _work = MienError(str(problem))


def end_with_parent() -> None:
    """Wait until the process that started this one ends, and end with it; for a thread of a worker."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _run(chunk: list[str]) -> list[Analysis]:
    if isinstance(_work, MienError):
        raise _work
    if _work is None:
        raise RuntimeError("this process is no worker of mien")
    return list(_work(chunk))
