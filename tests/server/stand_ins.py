"""Stand-ins for a pipeline, as worker processes can import them. Only the HTTP layer is tested with them."""

from __future__ import annotations

import ctypes
import os
import signal
import time
import uuid
from pathlib import Path
from typing import Any

from mien.types import Analysis


class StandIn:
    """Finds nobody."""

    detector: Any = None
    recogniser: Any = None
    max_pixels = 0

    def __call__(self, picture: bytes) -> Analysis:
        return Analysis("bytes", 1, 1)


class Flag:
    """An event between processes: a file, since those of `multiprocessing` hang when one that waits is killed."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def set(self) -> None:
        self.file.touch()

    def wait(self, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not self.file.exists() and time.monotonic() < end:
            time.sleep(0.01)
        return self.file.exists()


class Slow(StandIn):
    """Takes until it is let go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.go = Flag(folder / "go")
        self._counted = 0

    def has_begun(self, seconds: float = 20) -> bool:
        """Wait for one more request to be begun."""
        self._counted += 1
        end = time.monotonic() + seconds
        while (enough := len(list(self.folder.glob("begun-*"))) >= self._counted) is False:
            if time.monotonic() > end:
                self._counted -= 1
                return False
            time.sleep(0.01)
        return enough

    def __call__(self, picture: bytes) -> Analysis:
        (self.folder / f"begun-{uuid.uuid4()}").touch()
        assert self.go.wait(20), "the test forgot to let the pipeline go"
        return super().__call__(picture)


class Whimsical(StandIn):
    """Does what the picture's last bytes say."""

    def __call__(self, picture: bytes) -> Analysis:
        if picture.endswith(b"hang"):
            # In C and with the interpreter's lock held, as a decoder may: nothing in this process goes on.
            ctypes.PyDLL(None).sleep(600)
        elif picture.endswith(b"crash"):
            os.kill(os.getpid(), signal.SIGSEGV)
        elif picture.endswith(b"hoard"):
            bytearray(1 << 40)
        elif picture.endswith(b"defect"):
            raise ZeroDivisionError("private detail")
        elif picture.endswith(b"process"):
            return Analysis(str(os.getpid()), 1, 1)
        return super().__call__(picture)


class Unsendable(StandIn):
    """Cannot be sent to a process."""

    def __init__(self) -> None:
        self.detector = lambda image: []


class Failing(StandIn):
    """Cannot be opened in a process, as long as a file is not there."""

    def __init__(self, until: Path) -> None:
        self.until = until

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        if not self.until.exists():
            raise RuntimeError("could not determine home directory")


class Late(StandIn):
    """Takes a while to be opened."""

    def __init__(self, until: Path) -> None:
        self.until = Flag(until)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self.until.wait(20)
