"""How much one request, and all of them together, may ask for; and how a refusal is said.

Every limit has its own status and one line of JSON that names the limit, what was sent, and the remedy:
`{"error": "too_many_bytes", "message": "..."}`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mien.errors import ConfigError, MienError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mien.faces.detect import Detector
    from mien.types import Detection


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
        seconds: for an upload to arrive, and again for the answer to be ready, waiting included; work that takes longer
            is ended.
        running: requests that are worked on at once, each in a process of its own.
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
