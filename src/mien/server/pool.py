"""Worker processes that answer requests and are killed after a time limit.

A decoder that hangs cannot be stopped in a thread, but a process can be killed. So each request is processed in a
worker process with its own models; a worker that takes too long or dies is replaced, while the others continue. Workers
start one after another, so that the first is ready soon. Pictures are sent through a pipe, which takes about 1 ms per
megabyte.
"""

from __future__ import annotations

import asyncio
import json
import math
import multiprocessing
import queue
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any, Final

from mien.errors import MienError
from mien.faces.parallel import end_with_parent, interrupts_held
from mien.server.limits import Limits, Refusal

if TYPE_CHECKING:
    from mien.server.answers import Answer, Answers

Progress = Callable[[dict[str, Any]], None]
"""Called in a thread with what a process reports before it answers."""

LOADING: Final = 120.0
"""Seconds after which a process that still loads its models is killed. Loading takes about one."""
BYTES_A_PIXEL: Final = 48
"""Memory limit of a worker in bytes per pixel of the largest accepted picture, beyond `BASE`. Our choice: an edit of a
large picture with alpha takes about half of it. On Linux only, against pictures with a header that understates their
cost."""
BASE: Final = 2**30


class WorkerEnded(Exception):
    """The process ended before it answered; the message says how."""


class TooSlow(Exception):
    """The process did not answer in time."""


class WorkerProcess:
    """The parent's side of one worker process. Its methods block; `end` may be called from any thread."""

    def __init__(self, make: Callable[..., Answers], arguments: tuple[Any, ...], pixels: int) -> None:
        # A fresh interpreter ("spawn"): a fork would copy the state of other threads' locks.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, pixels), name="mien worker", daemon=True)
        with interrupts_held():
            self._process.start()
        theirs.close()
        try:
            self._pipe.send(
                (make, arguments)
            )  # not as arguments, so that errors of unpickling them can be reported
        except BaseException:
            self.end()
            raise

    def describe(self) -> dict[str, Any]:
        """Wait for the description of its models; see `Answers.describe`.

        Raises:
            WorkerEnded: it could not load them.
            TooSlow: it takes longer than `LOADING`.
        """
        return self._received(time.monotonic() + LOADING)

    def ask(
        self, request: dict[str, Any], data: bytes, seconds: float, progress: Progress | None = None
    ) -> Answer:
        """The answer to one request; see `Answers`. `progress` gets what the process reports meanwhile.

        Raises:
            WorkerEnded: the process died, or was killed.
            TooSlow: it did not answer in `seconds`, or was silent for so long after a report; kill it.
        """
        try:
            self._pipe.send_bytes(json.dumps(request).encode())
            self._pipe.send_bytes(data)
            header = self._received(time.monotonic() + seconds)
            while progress is not None and "report" in header:
                progress(header["report"])
                header = self._received(time.monotonic() + seconds)
            return header, self._pipe.recv_bytes()
        except (OSError, EOFError):
            raise WorkerEnded(self._how()) from None

    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.is_alive()

    def end(self) -> None:
        """Kill the process; a thread that waits for its answer gets `WorkerEnded`."""
        self._process.kill()
        self._process.join(1)

    def _received(self, end: float) -> dict[str, Any]:
        try:
            if not self._pipe.poll(max(0.0, end - time.monotonic())):
                raise TooSlow
            header: dict[str, Any] = json.loads(self._pipe.recv_bytes())
        except (OSError, EOFError):
            raise WorkerEnded(self._how()) from None
        if "failure" in header:
            raise WorkerEnded(header["failure"])
        return header

    def _how(self) -> str:
        self._process.join(1)
        code = self._process.exitcode or 0
        return f"it was ended by signal {-code}" if code < 0 else f"it ended with exit code {code}"


def _work(pipe: Connection, pixels: int) -> None:
    """The worker's main loop: load, report it, then answer one request after another until the pipe is closed."""
    import cv2

    # Ctrl-C reaches the whole process group; only the server handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    request = None

    def report(progress: dict[str, Any]) -> None:
        pipe.send_bytes(json.dumps({"report": progress}).encode())

    try:
        make, arguments = pipe.recv()
        answers: Answers = make(*arguments)
        _bound_memory(BASE + BYTES_A_PIXEL * pixels)
        pipe.send_bytes(json.dumps(answers.describe()).encode())
        while True:
            request, data = json.loads(pipe.recv_bytes()), pipe.recv_bytes()
            header, body = answers(request, data, report)
            pipe.send_bytes(json.dumps(header).encode())
            pipe.send_bytes(body)
    except (
        EOFError,
        BrokenPipeError,
        ConnectionResetError,
    ):  # the server is gone, or does not need this process any more
        return
    except MienError as problem:
        pipe.send_bytes(json.dumps({"failure": str(problem)}).encode())
    except BaseException as problem:  # reported to the server, and raised again for the traceback in the log
        # Only the type of the error is reported, nothing of the picture.
        failure = type(problem).__name__ if request else f"{type(problem).__name__}: {problem}"
        pipe.send_bytes(json.dumps({"failure": failure}).encode())
        raise


def _bound_memory(most: int) -> None:
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(
        resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
    )


def _accepted(answer: Answer) -> Answer:
    """The answer, unless it is a refusal, which is raised."""
    if "refusal" in answer[0]:
        raise Refusal(*answer[0]["refusal"])
    return answer


@contextmanager
def _refusing(seconds: float) -> Iterator[None]:
    """Turn the end of a process within the block into a refusal."""
    try:
        yield
    except TooSlow:
        raise Refusal(
            504,
            "too_slow",
            f"this took longer than {seconds:g} seconds: send a smaller picture, or start the server with a higher "
            "--max-seconds",
        ) from None
    except WorkerEnded as problem:
        raise Refusal(
            500, "defect", f"a defect of mien ({problem}): please report it with the server's log"
        ) from None


class Pool:
    """Runs up to `running` requests while up to `waiting` wait, each for at most `seconds`.

    A request takes a *place* once its upload is complete; `taken` is their number. The pool does not depend on an event
    loop, and the first request starts it if `start` was not called: an application mounted in another one gets no
    startup event.
    """

    def __init__(self, limits: Limits, make: Callable[..., Answers], arguments: tuple[Any, ...]) -> None:
        """`make(*arguments)` is called in each process; both must be picklable."""
        self.limits = limits
        self.taken = 0
        self.description: dict[str, Any] | None = None
        self.failure = ""
        self._make, self._arguments = make, arguments
        self._idle: queue.LifoQueue[WorkerProcess | None] = queue.LifoQueue()
        self._workers: set[WorkerProcess] = set()
        self._places = 0  # processes running or being started
        self._loaded = 0  # those of them with loaded models
        self._expecting = 0  # requests waiting for one
        self._changing = Lock()  # held while these four change
        self._closed = Event()
        self._threads = ThreadPoolExecutor(limits.running + limits.waiting, thread_name_prefix="mien")
        # Threads are started when they are needed; these are apart, so that jobs never take one from a request.
        self._job_threads = ThreadPoolExecutor(limits.running + limits.jobs, thread_name_prefix="mien jobs")
        self._usual = 0.5  # mean seconds of a request: a guess until the first have been timed

    def start(self) -> None:
        """Start the first process, unless there is one."""
        if not self._places:
            self._grow()

    def close(self) -> None:
        """Kill all processes."""
        self._closed.set()
        for worker in list(self._workers):
            worker.end()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._job_threads.shutdown(wait=False, cancel_futures=True)

    def check(self) -> None:
        """Check that there is a place.

        Raises:
            Refusal: 503 if the models cannot be loaded, 429 if all places are taken.
        """
        self.check_models()
        if self.taken >= self.limits.running + self.limits.waiting:
            wait = math.ceil(self._usual * self.taken / self.limits.running)
            raise Refusal(
                429,
                "busy",
                f"{self.taken} requests are being answered, the most at once: try again in a moment",
                min(60, max(1, wait)),
            )

    def describe(self) -> dict[str, Any]:
        """The description of the models; see `Answers.describe`.

        Raises:
            Refusal: 503 until it is known.
        """
        self.check_models()
        if self.description is None:
            raise Refusal(503, "loading", "the models are being loaded: try again in a few seconds", 2)
        return self.description

    def check_models(self) -> None:
        """Start the first process if there is none.

        Raises:
            Refusal: 503 if the models cannot be loaded.
        """
        self.start()
        if self.failure and not self._loaded:
            raise Refusal(503, "no_models", self.failure)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places; see `check`."""
        self.check()
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    async def run(self, request: dict[str, Any], data: bytes, wait: float | None = None) -> Answer:
        """Answer a request in one of the processes; call it while holding a place, or with `wait`.

        Args:
            request: see `Answers`. data: of the picture. wait: a part of a job holds no place, and may wait so many
                seconds for a process before its own time begins.

        Raises:
            Refusal: that of the worker; 504 if it takes longer than `seconds`, 500 if the process dies.
        """
        threads = self._threads if wait is None else self._job_threads
        answer = threads.submit(self._answer, request, data, time.monotonic(), wait)
        return _accepted(await asyncio.wrap_future(answer))

    async def run_alone(self, request: dict[str, Any], progress: Progress) -> Answer:
        """Answer a request in a process of its own, which ends with it; `progress` is called in another thread.

        It takes no place, and none of the processes for other requests. The process may take as long as the caller
        waits, but must report every `seconds`; it is killed if the caller is cancelled.

        Raises:
            Refusal: as `run`, and 503 if the models cannot be loaded.
        """
        started: list[WorkerProcess] = []
        stopped = Event()

        def work() -> Answer:
            with _refusing(self.limits.seconds):
                worker = WorkerProcess(self._make, self._arguments, self.limits.pixels)
                started.append(worker)
                self._workers.add(worker)
                try:
                    if stopped.is_set() or self._closed.is_set():
                        raise Refusal(503, "stopping", "the server is being stopped: send it again", 5)
                    worker.describe()
                    return worker.ask(request, b"", self.limits.seconds, progress)
                finally:
                    worker.end()
                    self._workers.discard(worker)

        try:
            answer = self._job_threads.submit(work)
            return _accepted(await asyncio.wrap_future(answer))
        finally:
            stopped.set()
            for worker in started:
                worker.end()

    def _answer(
        self, request: dict[str, Any], data: bytes, asked: float, wait: float | None = None
    ) -> Answer:
        end = asked + (self.limits.seconds if wait is None else wait)
        with _refusing(self.limits.seconds):
            worker = self._free(end)
            start, done = time.monotonic(), False
            if wait is not None or start > end:  # or it waited for a process to load its models
                end = start + self.limits.seconds
            try:
                answer = worker.ask(request, data, max(0.0, end - start))
                done = True
            finally:
                self._usual += 0.2 * (time.monotonic() - start - self._usual)
                if done:
                    self._idle.put(worker)
                else:  # too late, or dead
                    self._end(worker)
        return answer

    def _free(self, end: float) -> WorkerProcess:
        """An idle process. `end` does not apply while no process has loaded its models."""
        latest = time.monotonic() + LOADING
        while True:
            with self._changing:
                self._expecting += 1
            try:
                worker = self._idle.get(timeout=max(0.05, end - time.monotonic()))
            except queue.Empty:
                if self._loaded or time.monotonic() > latest:
                    raise TooSlow from None
                continue
            finally:
                with self._changing:
                    self._expecting -= 1
            if worker is None:
                self.check_models()
            elif worker.alive():
                return worker
            else:  # killed by another program while idle
                self._end(worker)

    def _end(self, worker: WorkerProcess) -> None:
        worker.end()
        with self._changing:
            self._workers.discard(worker)
            self._places -= 1
            self._loaded -= 1
        self._grow()

    def _grow(self) -> None:
        with self._changing:
            if self._places >= self.limits.running or self._closed.is_set():
                return
            self._places += 1
        Thread(target=self._open, name="mien opens a worker", daemon=True).start()

    def _open(self) -> None:
        """Start one process; failures are retried with growing pauses."""
        pause = 0.5
        while not self._closed.is_set():
            worker = None
            try:
                worker = WorkerProcess(self._make, self._arguments, self.limits.pixels)
                self._workers.add(worker)
                if self._closed.is_set():
                    worker.end()
                self.description = worker.describe()
            except TooSlow:
                self.failure = f"loading the models took longer than {LOADING:g} seconds: is the disk slow?"
            except WorkerEnded as problem:
                self.failure = str(problem)
            except Exception as problem:  # pickling the models may raise anything, which must be reported
                self.failure = f"no process for the models can be started: {problem}"
            else:
                self.failure = ""
                with self._changing:
                    self._loaded += 1
                self._idle.put(worker)
                self._grow()
                return
            if worker is not None:
                self._workers.discard(worker)
                worker.end()
            for _ in range(self._expecting):  # wake the threads that wait for it
                self._idle.put(None)
            self._closed.wait(pause)
            pause = min(30.0, 2 * pause)
