"""One process at a time writes a table or a run folder; a second one is told so instead of spoiling the first's work.

A claim is a lock that the operating system holds for the process and lets go when it ends, however it ends: after
`kill -9` nothing has to be cleaned up. SQLite has known how to lock a file on every system for decades, so an empty
database beside what is written serves as the lock; it is removed with the claim.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from mien.errors import MienError


class Claimed(MienError):
    """Another process is writing there now."""


class Claim:
    """Holds `path`, a file of its own beside what is written, until `release`.

    Raises:
        Claimed: another process holds it.
        OSError: the file cannot be made; the folder is missing or may not be written.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        path.touch()  # says in the system's own words why not
        self._lock = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            self._lock.close()
            raise Claimed(
                f"{what}: another process is writing there: wait for it, or write elsewhere"
            ) from None

    def release(self) -> None:
        """Let others in. Once is enough, twice does no harm."""
        self._lock.close()
        self._path.unlink(missing_ok=True)
