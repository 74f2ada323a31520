"""Limits on requests, and the error for what exceeds them.

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
    """An error answer: the status, a code for programs, and one line for people with the remedy."""

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = "\\n".join(message.splitlines())  # it may contain names from the request
        self.retry_after = retry_after

    @property
    def body(self) -> dict[str, str]:
        """The JSON that is sent."""
        return {"error": self.code, "message": self.message}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of this status."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


class TooManyFaces(MienError):
    """A picture has more faces than allowed in one request."""


@dataclass(frozen=True)
class Limits:
    """Limits of one request, on the number of requests, and on jobs. Each must be positive; `waiting` and `jobs` may
    be 0.

    Attributes:
        bytes: size of an upload with all its form fields.
        pixels: of the picture, from its header, before anything is decoded.
        faces: in one picture; counted after detection, which costs little.
        seconds: for an upload to arrive, and again for the answer, waiting included; work that takes longer is killed.
        running: requests processed at the same time, each in its own process.
        waiting: requests that may wait; further ones are refused with 429.
        jobs: batches and videos kept at once: arriving, running, or done and not yet fetched; 0 takes none.
        job_pictures: pictures in one batch; each must keep to `bytes`, `pixels`, `faces` and `seconds`.
        job_bytes: size of the upload of one job.
        job_seconds: for the upload of a job to arrive, and again for its work.
        kept: seconds that a finished job's results are kept if nobody fetches them.
        disk: size of the files of all jobs, bytes.
        streams: WebSocket streams open at the same time; further ones are refused with 429.
    """

    bytes: int = 16 * 2**20
    pixels: int = 64_000_000
    faces: int = 100
    seconds: float = 30.0
    running: int = 2
    waiting: int = 8
    jobs: int = 8
    job_pictures: int = 1000
    job_bytes: int = 512 * 2**20
    job_seconds: float = 600.0
    kept: float = 600.0
    disk: int = 2 * 2**30
    streams: int = 4

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if value < 0 or (value == 0 and name not in ("waiting", "jobs")):
                raise ConfigError(f"limit '{name}' is {value}: pass a positive number")


@dataclass(frozen=True)
class BoundedDetector:
    """A detector that refuses pictures with more than `limit` faces, before they are processed further."""

    detector: Detector
    limit: int

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
        detections = self.detector(image)
        if len(detections) > self.limit:
            raise TooManyFaces(
                f"the picture holds {len(detections)} faces, the limit is {self.limit}: send it in parts, or start the "
                "server with a higher --max-faces"
            )
        return detections
