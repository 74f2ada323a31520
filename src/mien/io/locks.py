"""One process at a time writes a table, a folder of results or a run; a second one is told so.

A claim is a file lock that the operating system releases when the process exits, even on `kill -9`: nothing has to be
cleaned up. The lock file lies beside what is written and is removed with the claim, while the claim is still held; who
opened it just before finds, once it has the lock, that the path no longer leads to its file, and tries again.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from mien.errors import MienError


class Claimed(MienError):
    """Another process is writing there now."""


_HELD: Final[set[int]] = set()  # descriptors of this process's claims


def _let_go_in_child() -> None:
    # A fork inherits open files, and with them the lock: it would outlive the process that holds the claim.
    for held in _HELD:
        os.close(held)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)


class Claim:
    """Holds `path`, a file of its own beside what is written, until `release`.

    Raises:
        Claimed: another process holds it.
        OSError: the file cannot be made; the folder is missing or may not be written.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        while True:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            try:
                _lock(self._file)
            except (BlockingIOError, PermissionError):
                os.close(self._file)
                raise Claimed(
                    f"{what}: another process is writing there: wait for it, or write elsewhere"
                ) from None
            except OSError:
                os.close(self._file)
                raise
            if self._leads_here():
                break
            os.close(self._file)  # its holder removed it after we had opened it
        self._owner = os.getpid()
        _HELD.add(self._file)

    def _leads_here(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._file))
        except OSError:
            return False

    def release(self) -> None:
        """Let others in. Once is enough, twice does no harm."""
        if self._file not in _HELD or self._owner != os.getpid():
            return
        _HELD.discard(self._file)
        with suppress(OSError):  # Windows removes no open file
            self._path.unlink()
        os.close(self._file)
        self._file = -1
        if sys.platform == "win32":
            with suppress(OSError):  # and none that somebody else has opened meanwhile
                self._path.unlink()


if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
