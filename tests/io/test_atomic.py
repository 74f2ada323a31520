"""Files are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from mien.io import atomic


def test_a_file_being_written_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"old")
    with atomic.writing(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".npz"  # np.savez appends it where it is missing
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def torn() -> None:
        with atomic.writing(path) as temporary:
            temporary.write_bytes(b"ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        torn()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_belong_together_are_all_new_or_all_old(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "missing" / "b"
    first.write_bytes(b"old")
    with pytest.raises(FileNotFoundError):
        atomic.write({first: b"new", second: b"new"})
    assert first.read_bytes() == b"old"
    second.parent.mkdir()
    atomic.write({first: b"new", second: b"new"})
    assert first.read_bytes() == second.read_bytes() == b"new"
