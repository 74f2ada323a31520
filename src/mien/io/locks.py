"""A file lock that the OS releases when the process exits, even on `kill -9`.

One process at a time writes a table, a folder of results or a run; a second one gets an error. The lock file is beside
the output and is deleted on release, while the lock is still held. A process that opened the file just before finds,
once it has the lock, that the path no longer leads to its file, and tries again.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from mien.errors import MienError


class FileLocked(MienError):
    """Another process holds the lock."""


_HELD: Final[set[int]] = set()  # file descriptors of this process's locks


def _close_in_child() -> None:
    # A forked child inherits open files, and with them the lock, which would outlive the process that took it.
    for held in _HELD:
        os.close(held)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


class FileLock:
    """Holds the lock file `path` until `release`; `what` names the output in messages.

    Raises:
        FileLocked: another process holds it.
        OSError: the file cannot be created: the folder is missing or not writable.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        while True:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            try:
                _lock(self._file)
            except (BlockingIOError, PermissionError):
                os.close(self._file)
                raise FileLocked(
                    f"{what}: another process is writing there: wait for it, or write elsewhere"
                ) from None
            except OSError:
                os.close(self._file)
                raise
            if self._is_current():
                break
            os.close(self._file)  # its holder deleted it after we had opened it
        self._owner = os.getpid()
        _HELD.add(self._file)

    def _is_current(self) -> bool:
        """Whether the path still leads to the file that is locked."""
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._file))
        except OSError:
            return False

    def release(self) -> None:
        """Delete the lock file and release the lock; a second call does nothing."""
        if self._file not in _HELD or self._owner != os.getpid():
            return
        _HELD.discard(self._file)
        with suppress(OSError):  # Windows deletes no open file
            self._path.unlink()
        os.close(self._file)
        self._file = -1
        if sys.platform == "win32":
            with suppress(OSError):  # nor one that another process has opened meanwhile
                self._path.unlink()


if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
