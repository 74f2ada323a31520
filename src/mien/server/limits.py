"""How much one request, and all of them together, may ask for; and how a refusal is said.

Every limit has its own status and one line of JSON that names the limit, what was sent, and the remedy:
`{"error": "too_many_bytes", "message": "..."}`. Work runs in a thread pool; a request takes a *place* before its body
is read, so that neither memory nor the queue can grow without bound.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from mien.errors import ConfigError, MienError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mien.detect import Detector
    from mien.types import Detection

T = TypeVar("T")


class Refusal(Exception):
    """An answer other than 200: the status, a code for programs, and one line for people that says what to do."""

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = "\\n".join(message.splitlines())  # names of strangers stand in it
        self.retry_after = retry_after

    @property
    def body(self) -> dict[str, str]:
        """The JSON that is sent."""
        return {"error": self.code, "message": self.message}

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to this status."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


class TooManyFaces(MienError):
    """A picture holds more faces than one request may ask for."""


@dataclass(frozen=True)
class Limits:
    """What one request may ask for, and how many may at once. Each must be positive; `waiting` may be 0.

    Attributes:
        bytes: size of an upload, with all of its form fields.
        pixels: of the picture, from its header, before anything is decoded.
        faces: in one picture; they are counted after detection, which is the cheap part.
        seconds: for an upload to arrive, and again for the answer to be ready, waiting included.
        running: requests that are worked on at once.
        waiting: requests that may wait for them; further ones are turned away with 429.
    """

    bytes: int = 16 * 2**20
    pixels: int = 64_000_000
    faces: int = 100
    seconds: float = 30.0
    running: int = 2
    waiting: int = 8

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if value < 0 or (value == 0 and name != "waiting"):
                raise ConfigError(f"limit '{name}' is {value}: pass a positive number")


@dataclass(frozen=True)
class BoundedDetector:
    """A detector that refuses pictures with more than `limit` faces, before anything is done with them."""

    detector: Detector
    limit: int

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
        found = self.detector(image)
        if len(found) > self.limit:
            raise TooManyFaces(
                f"the picture holds {len(found)} faces, the limit is {self.limit}: send it in parts, or start the "
                "server with a higher --max-faces"
            )
        return found


@dataclass
class Gate:
    """Lets `running` pieces of work run and `waiting` wait, each for at most `seconds`.

    Work that overruns its time cannot be stopped in Python, so its request is answered with 504 while it goes on, and
    it keeps its place until it ends: the server never does more at once than it was allowed to.
    """

    running: int
    waiting: int
    seconds: float
    taken: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.running, thread_name_prefix="mien")
        self._usual = 0.5  # seconds that a piece of work takes: a guess until the first have been timed

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places.

        Raises:
            Refusal: 429 when all are taken.
        """
        if self.taken >= self.running + self.waiting:
            wait = math.ceil(self._usual * self.taken / self.running)
            raise Refusal(
                429,
                "busy",
                f"{self.taken} requests are being answered, the most at once: try again in a moment",
                min(60, max(1, wait)),
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    async def run(self, work: Callable[[], T]) -> T:
        """Do `work` in a thread and return what it returns. Call it while holding a place.

        Raises:
            Refusal: 504 when it takes longer than `seconds`.
        """
        loop = asyncio.get_running_loop()
        job: Future[T] = self._pool.submit(self._timed, work)
        waited = asyncio.wrap_future(job)
        try:
            return await asyncio.wait_for(asyncio.shield(waited), self.seconds)
        except asyncio.TimeoutError:
            waited.add_done_callback(
                lambda late: late.cancelled() or late.exception()
            )  # nobody waits for it now
            if not job.cancel():
                self.taken += 1
                job.add_done_callback(lambda _: loop.call_soon_threadsafe(self._release))
            raise Refusal(
                504,
                "too_slow",
                f"this took longer than {self.seconds:g} seconds: send a smaller picture, or start the server with a "
                "higher --max-seconds",
            ) from None

    def close(self) -> None:
        """Wait for what runs, and take no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _release(self) -> None:
        self.taken -= 1

    def _timed(self, work: Callable[[], T]) -> T:
        start = time.monotonic()
        try:
            return work()
        finally:
            self._usual += 0.2 * (time.monotonic() - start - self._usual)
