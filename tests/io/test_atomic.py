"""Files are written whole or not at all."""

from __future__ import annotations

import errno
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


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "pictures"
    with atomic.folder(path) as temporary:
        (temporary / "0.png").write_bytes(b"0")
        assert not path.exists()
    assert [file.name for file in path.iterdir()] == ["0.png"]

    def again() -> None:
        with atomic.folder(path) as temporary:
            (temporary / "1.png").write_bytes(b"1")

    with pytest.raises(OSError, match="pictures"):
        again()  # what is there is not replaced
    assert [file.name for file in path.iterdir()] == ["0.png"]
    assert list(path.parent.iterdir()) == [path]


def test_files_are_added_to_a_folder_together(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_bytes(b"mine")
    (tmp_path / "a.json").write_bytes(b"old")

    def torn() -> None:
        with atomic.adding(tmp_path, last=".onnx") as temporary:
            (temporary / "a.json").write_bytes(b"new")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        torn()
    assert (tmp_path / "a.json").read_bytes() == b"old"
    with atomic.adding(tmp_path, last=".onnx") as temporary:
        for name in ("a.onnx", "b.json", "a.json"):
            (temporary / name).write_bytes(b"new")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {
        "mine.txt": b"mine",
        **dict.fromkeys(("a.json", "a.onnx", "b.json"), b"new"),
    }


def test_files_are_added_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = []
    monkeypatch.setattr(atomic, "replace", lambda file, path: moved.append(path.suffix))
    with atomic.adding(tmp_path, last=".json") as temporary:
        for name in ("a.json", "b.onnx", "b.json", "c.png"):
            (temporary / name).write_bytes(b"")
    assert sorted(moved[:2]) == [".onnx", ".png"]
    assert moved[2:] == [".json", ".json"]


def test_what_killed_processes_left_is_cleared(tmp_path: Path) -> None:
    kept = tmp_path / "state.pt"
    with atomic.writing(kept) as file, atomic.folder(tmp_path / "pictures") as folder:
        file.write_bytes(b"half")
        (folder / "0.png").write_bytes(b"0")
        left = {path.name: path.is_dir() for path in tmp_path.iterdir()}
    atomic.clear(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"state.pt", "pictures"}
    for name, is_folder in left.items():  # as if it had been killed within the block
        if is_folder:
            (tmp_path / name).mkdir()
            (tmp_path / name / "0.png").write_bytes(b"0")
        else:
            (tmp_path / name).write_bytes(b"half")
    atomic.clear(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"state.pt", "pictures"}


def test_an_error_names_the_file_that_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"

    def full() -> None:
        with atomic.writing(path) as temporary:
            temporary.write_bytes(b"ne")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        full()
    assert caught.value.filename == str(path)
    gone = tmp_path / "gone" / "b.bin"
    with pytest.raises(FileNotFoundError) as caught:
        atomic.write({gone: b"new"})
    assert caught.value.filename == str(gone)
