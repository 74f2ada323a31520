"""A run folder belongs to one run and one process, and holds whole files or none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mien.errors import ConfigError, MienError, TrainingError
from mien.io import atomic
from mien.io.locks import FileLocked
from mien.training import run_folder, run_log
from mien.training.config import RunConfig

from .drawn import trained, tree


def test_disk_full_is_one_clear_error_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(b"good")

    def full(part: Path) -> None:
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(TrainingError, match="free some space"):
        run_folder.write(full, path)
    assert path.read_bytes() == b"good"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_never_overwritten_by_another_run(undisturbed: Path, faces: Path) -> None:
    same = RunConfig(**tree(faces, undisturbed.parent))
    with pytest.raises(ConfigError, match="add --resume"):
        trained(same)
    with pytest.raises(ConfigError, match=r"another configuration .epochs is 4 there, 9 here"):
        trained(RunConfig(**tree(faces, undisturbed.parent, epochs=9)), resume=True)
    assert trained(same, resume=True) == undisturbed


def test_overwrite_trains_anew_and_deletes_the_run_and_its_evaluation(
    undisturbed: Path, faces: Path, tmp_path: Path
) -> None:
    folder = tmp_path / undisturbed.name
    shutil.copytree(undisturbed, folder)
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "report.json").write_text("{}")
    (folder / "notes.txt").write_text("mine")
    broken = RunConfig(**tree(faces.with_name("gone"), tmp_path))
    with pytest.raises(MienError):
        trained(broken, overwrite=True)
    assert (folder / "finished").is_file(), "the old run stays until the data were read"

    assert trained(RunConfig(**tree(faces, tmp_path, epochs=2)), overwrite=True) == folder
    epochs = [event["epoch"] for event in run_log.read(folder / "metrics.jsonl") if event["kind"] == "epoch"]
    assert epochs == [0, 1]
    assert not (folder / "evaluation").exists(), "it was of the weights before"
    assert (folder / "notes.txt").read_text() == "mine"
    again = RunConfig(**tree(faces, tmp_path, epochs=2))
    assert trained(again, overwrite=True) == folder, "also a finished one"


def test_one_process_at_a_time_and_no_empty_folders_stay(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "run"
    with run_folder.claimed(folder, "runs"):
        with pytest.raises(FileLocked, match="another process"), run_folder.claimed(folder, "runs"):
            pass
        assert folder.parent.is_dir()
    assert list(tmp_path.iterdir()) == []
    with run_folder.claimed(folder, "runs"):
        folder.mkdir()
    assert folder.is_dir()


def test_what_a_killed_process_was_writing_is_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with atomic.writing(folder / "state.pt") as part:
        part.write_bytes(b"a state")
    (folder / part.name).write_bytes(b"half a state")  # as after a kill within the block
    with run_folder.claimed(folder, "runs"):
        assert [path.name for path in folder.iterdir()] == ["state.pt"]


def test_what_fails_before_it_kept_anything_leaves_nothing_and_later_everything(tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def train(*files: str) -> None:
        with run_folder.begun(folder, {"config.yaml": b"epochs: 3"}):
            for name in files:
                (folder / name).write_bytes(b"")
            raise TrainingError("a loss is not finite")

    def fail(*files: str) -> None:
        with pytest.raises(TrainingError, match="finite"):
            train(*files)

    fail("metrics.jsonl")
    assert not folder.exists()
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    fail("metrics.jsonl")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    fail("metrics.jsonl", "state.pt")
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml",
        "metrics.jsonl",
        "notes.txt",
        "state.pt",
    }


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(TrainingError, match="choose another `out`"),
        run_folder.claimed(tmp_path / "file" / "run", "out"),
    ):
        pass
