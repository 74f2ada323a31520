"""A lock is held by one process at a time, whatever the others do at the same moment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mien.io import locks
from mien.io.locks import FileLock, FileLocked


def test_a_lock_file_that_was_removed_while_it_was_opened_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking, its holder lets go and a third one comes: only one of the two may have it."""
    path, lock = tmp_path / "t.lock", locks._lock
    holder, others = FileLock(path, "t"), []

    def late(file: int) -> None:
        monkeypatch.setattr(locks, "_lock", lock)
        holder.release()
        others.append(FileLock(path, "t"))
        lock(file)

    monkeypatch.setattr(locks, "_lock", late)
    with pytest.raises(FileLocked):
        FileLock(path, "t")
    assert path.exists()
    others[0].release()
    FileLock(path, "t").release()
    assert not path.exists()


def test_a_failed_try_does_not_take_the_lock_from_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "t.lock"
    held = FileLock(path, "t")
    for _ in range(2):
        with pytest.raises(FileLocked):
            FileLock(path, "t")
    script = (
        f"from pathlib import Path; from mien.io.locks import FileLock; FileLock(Path({str(path)!r}), 't')"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "FileLocked" in ran.stderr
    held.release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    script = f"""
import os, sys, time
from pathlib import Path
from mien.io.locks import FileLock
held = FileLock(Path({str(tmp_path / "t.lock")!r}), "t")
child = os.fork()
if child:
    print(child, flush=True)
    os._exit(0)
os.close(1)
held.release()  # not its own
time.sleep(60)
"""
    ran = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    try:
        assert (tmp_path / "t.lock").exists()
        FileLock(tmp_path / "t.lock", "t").release()
    finally:
        os.kill(int(ran.stdout), 9)
