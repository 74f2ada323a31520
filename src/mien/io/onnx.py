"""ONNX Runtime sessions with as many threads as the processor affinity of the process allows.

ONNX Runtime sizes its thread pool by the machine and lets idle threads spin. Pinned to one core of many (a container, a
batch scheduler, `taskset`) its threads compete for that core, and a call takes several times as long. Here the number
of threads comes from the affinity mask, and idle threads sleep.

The networks here are small: the threads of one session would mostly wait for one another. So each session has one
thread, and `ThreadedBatches` runs it on several parts of a batch at once. Measured on two cores with the
shipped recogniser (`benchmarks/throughput.py`): 1,250 to 1,330 crops/s in batches of 16 to 64, against 840 to 940 of a
session with two threads; one crop takes 1.7 ms against 2.4 ms.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from mien.errors import WeightsError, loading
from mien.io import cards

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

Answer = TypeVar("Answer")


def available() -> int:
    """The number of processors this process may run on: its affinity mask where the system has one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def session(model: bytes | str, threads: int | None = None) -> Any:
    """Open an `onnxruntime.InferenceSession` on the processor with `threads` threads; None takes `available()`.

    `model` is the file's bytes (already read, for a hash) or its path.

    Raises:
        WeightsError: ONNX Runtime cannot read the model.
        LoadError: ONNX Runtime cannot be imported, or there is not enough memory.
    """
    with loading("ONNX Runtime"):
        return _session(model, threads)


def _session(model: bytes | str, threads: int | None) -> Any:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available()
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except (
        runtime.Fail,
        runtime.InvalidArgument,
        runtime.InvalidGraph,
        runtime.InvalidProtobuf,
        runtime.NoSuchFile,
        runtime.NotImplemented,
    ) as problem:
        first = str(problem).splitlines()[0]
        raise WeightsError(
            f"ONNX Runtime cannot open the model ({first}): use a file exported by mien"
        ) from None


class Network:
    """A network of a weight file on ONNX Runtime, with one thread. Safe to call from several threads.

    It can be pickled and copied: only the file's path and hash are pickled, and the session is opened again when it is
    first used. A forked process also opens its own: a session may be in use by another thread while the process forks.
    """

    def __init__(self, path: Path | str, sha256: str, opened: Any = None) -> None:
        """The file at `path`, with the `sha256` of its card; `opened` is its session in this process, if there is
        one."""
        self.path, self.sha256 = Path(path), sha256
        self._opened = os.getpid(), opened

    @classmethod
    def open(cls, path: Path | str) -> tuple[Network, cards.Card]:
        """Open a weight file, and read its card.

        Raises:
            WeightsError: the file or its card is missing, damaged, or they do not belong together.
            LoadError: ONNX Runtime cannot be imported, or there is not enough memory.
        """
        content, card = cards.verified(path)
        return cls(path, card.fields["sha256"], session(content, threads=1)), card

    def run(self, outputs: list[str] | None, inputs: dict[str, Any]) -> list[Any]:
        """As `onnxruntime.InferenceSession.run`."""
        answer: list[Any] = self._session().run(outputs, inputs)
        return answer

    def get_inputs(self) -> Any:
        """As `onnxruntime.InferenceSession.get_inputs`."""
        return self._session().get_inputs()

    def get_outputs(self) -> Any:
        """As `onnxruntime.InferenceSession.get_outputs`."""
        return self._session().get_outputs()

    def _session(self) -> Any:
        owner, opened = self._opened
        if opened is None or owner != os.getpid():
            content, card = cards.verified(self.path)
            if card.fields["sha256"] != self.sha256:
                raise WeightsError(f"{self.path}: other weights than were loaded first: load them again")
            opened = session(content, threads=1)
            self._opened = os.getpid(), opened
        return opened

    def __reduce__(self) -> tuple[Any, ...]:
        # Shipped weights are found by name: the package may be installed elsewhere in the process that unpickles.
        shipped = self.path.is_relative_to(cards.FOLDER)
        path = self.path.relative_to(cards.FOLDER).as_posix() if shipped else str(self.path.absolute())
        return _network, (path, self.sha256, shipped)

    def __deepcopy__(self, memo: Any) -> Network:
        return self  # it does not change


def _network(path: str, sha256: str, shipped: bool) -> Network:
    return Network(cards.FOLDER / path if shipped else Path(path), sha256)


class ThreadedBatches:
    """A thread pool that runs a function on parts of a batch. Thread-safe; a forked process starts threads of its
    own."""

    def __init__(self, threads: int | None, most: int, least: int = 1) -> None:
        """Up to `threads` threads (None: `available()`) run parts of `least` to `most` items of a batch."""
        self.threads = threads or available()
        self._most, self._least = most, least
        self._rest()

    def _rest(self) -> None:
        self._owner, self._opening = os.getpid(), Lock()
        self._pool: ThreadPoolExecutor | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return ThreadedBatches, (self.threads, self._most, self._least)

    def parts(self, count: int) -> list[slice]:
        """Consecutive parts of `count` items, of equal size within one item, and the same number for each thread where
        possible.

        None is larger than `most`; none is smaller than `least` unless `count` is.
        """
        turns = math.ceil(count / (self._most * self.threads))
        number = max(math.ceil(count / self._most), min(count // self._least, turns * self.threads))
        edges = [count * part // number for part in range(number + 1)] if count else []
        return [slice(first, last) for first, last in pairwise(edges)]

    def map(self, call: Callable[[slice], Answer], count: int) -> list[Answer]:
        """Results of `call` for each part of `count` items, in order; a single part runs in the calling thread.

        Exceptions of `call` are raised here.
        """
        parts = self.parts(count)
        if self.threads == 1 or len(parts) < 2:
            return [call(part) for part in parts]
        if (
            self._owner != os.getpid()
        ):  # the threads, and the holder of the lock, stayed in the parent process
            self._rest()
        with self._opening:
            if self._pool is None:
                # Created, and its module imported, on first use: a process for one face never needs it.
                from concurrent.futures import ThreadPoolExecutor

                self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="mien")
        return list(self._pool.map(call, parts))
