"""Killed, out of space, not allowed, twice at once: every command that takes long leaves whole files, and goes on.

`mien predict`, `mien train`, `mien batch` and `mien video` have theirs beside their other tests; here are the others,
and what holds for all of them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mien.io import tables
from mien.io.locks import FileLock, FileLocked
from mien.types import Analysis

POSIX = pytest.mark.skipif(os.name == "nt", reason="signals and limits of POSIX systems")


def mien(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mien", *map(str, arguments)]


def kill_when(true: Callable[[], bool], command: Sequence[str], seconds: float = 120) -> int:
    """Start a command, kill it with SIGKILL as soon as something is true, and return its exit code."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + seconds
    while not true() and process.poll() is None:
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)
    process.kill()
    return process.wait()


def finish(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(mien(*arguments), capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


@pytest.fixture(autouse=True)
def _own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches, or tears, the signing key of the person who runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


# Claims ---------------------------------------------------------------------------------------------------------------


def test_a_lock_is_held_by_one_and_let_go_by_a_killed_process(tmp_path: Path) -> None:
    lock = tmp_path / "table.csv.lock"
    script = "from pathlib import Path; from mien.io.locks import FileLock; "
    script += f"held = FileLock(Path({str(lock)!r}), 'table.csv')"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"{script}; print('held', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(FileLocked, match=r"table\.csv: another process is writing there"):
        FileLock(lock, "table.csv")
    holder.kill()
    holder.communicate()
    assert lock.exists()  # and means nothing any more
    held = FileLock(lock, "table.csv")
    with pytest.raises(FileLocked):
        FileLock(lock, "table.csv")
    held.release()
    held.release()
    assert not lock.exists()
    with pytest.raises(FileNotFoundError):
        FileLock(tmp_path / "no" / "folder.lock", "folder")


@pytest.mark.parametrize("resume", [False, True])
def test_two_processes_do_not_write_one_table(resume: bool, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with tables.Writer(path, landmarks=False) as first:
        first.write(Analysis("a.jpg", 4, 3))
        with pytest.raises(FileLocked, match="another process"):
            tables.Writer(path, landmarks=False, resume=resume)
        first.write(Analysis("b.jpg", 4, 3))
    assert [row["input"] for row in tables.load(path)] == ["a.jpg", "b.jpg"]
    assert list(tmp_path.iterdir()) == [path]
    tables.Writer(path, landmarks=False, resume=True).close()  # let go, also without finishing


def test_a_run_is_trained_by_one_process(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from mien.evaluation.validation import validate
    from mien.training import loop
    from mien.training.config import RunConfig

    config = RunConfig(
        name="run",
        method={"name": "baseline", "backbone": "tiny"},
        data={"reader": "manifest", "root": tmp_path},  # type: ignore[arg-type]
        runs=tmp_path / "runs",
    )
    folder = loop.folder_of(config)
    folder.parent.mkdir()
    held = FileLock(folder.with_name(folder.name + ".lock"), "run")
    with pytest.raises(FileLocked, match=r"run-s0: another process"):
        loop.run(config, validate, resume=True)
    held.release()
    assert not folder.exists()


# Killed ---------------------------------------------------------------------------------------------------------------


@POSIX
def test_a_folder_of_edits_goes_on_after_a_kill(tmp_path: Path, examples: Path) -> None:
    pytest.importorskip("c2pa")
    from mien.editing.provenance import SIDECAR, verify

    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(4):
        shutil.copyfile(examples / "portrait_neutral.jpg", photos / f"{number}.jpg")
    out = tmp_path / "out"
    arguments = ["edit", photos, "--out", out, "--to", "happiness", "--i-have-consent", "--threads", 1]
    kill_when(lambda: (out / "1.jpg").exists(), mien(*arguments))
    made = sorted(path.name for path in out.glob("?.jpg"))
    assert made[:2] == ["0.jpg", "1.jpg"]
    for name in made:  # whole, each with its record
        assert verify(out / name).intact
        assert json.loads((out / (name + SIDECAR)).read_text())["file"] == name
    before = (out / "0.jpg").stat().st_mtime_ns
    (out / ("3.jpg" + SIDECAR)).write_text("{}")  # what is left by a kill between the record and the picture
    (out / "3.jpg").unlink(missing_ok=True)
    again = finish(*arguments, "--resume")
    assert again.returncode == 0, again.stderr
    assert sorted(path.name for path in out.glob("?.jpg")) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert (out / "0.jpg").stat().st_mtime_ns == before
    assert all(verify(out / f"{number}.jpg").sidecar == "fits" for number in range(4))


@POSIX
def test_examining_a_dataset_is_killed_and_done_again(tmp_path: Path, examples: Path) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("imagehash")
    for name in ("train/happy", "train/sad"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(30):
            shutil.copyfile(examples / "astronaut.png", tmp_path / "set" / name / f"{number}.png")
    table = tmp_path / "set" / "manifest.parquet"
    begun = time.monotonic()
    kill_when(
        lambda: time.monotonic() - begun > 2.0,
        mien("data", "check", tmp_path / "set", "--reader", "folder", "--manifest", table),
    )
    if table.exists():
        from pyarrow import parquet

        parquet.read_table(table)
    again = finish("data", "check", tmp_path / "set", "--reader", "folder", "--json")
    assert again.returncode in (0, 1), again.stderr  # 1: it found that all pictures are copies
    assert "Traceback" not in again.stderr


# No space, no permission ----------------------------------------------------------------------------------------------


def limited(largest: int) -> Callable[[], None]:
    """For a child: no file beyond so many bytes, as on a full disk or under a quota."""

    def limit() -> None:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write then fails instead
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    return limit


# fmt: off
LONG = {
    "predict": ["predict", "{examples}/portrait_smiling.jpg", "--out", "{out}/table.csv"],
    "annotate": ["predict", "{examples}/portrait_smiling.jpg", "--annotate", "{out}/marked"],
    "edit": ["edit", "{examples}/portrait_neutral.jpg", "--out", "{out}/edited.png", "--to", "happiness"],
    "evaluate": ["evaluate", "shipped", "{data}", "--reader", "folder", "--split", "train", "--draws", "20",
                 "--out", "{out}/report", "--cache", "{cache}"],
    "check": ["data", "check", "{data}", "--reader", "folder", "--manifest", "{out}/manifest.parquet"],
}
# fmt: on


def prepared(name: str, out: Path, tmp_path: Path, examples: Path) -> list[str]:
    data = tmp_path / "data"
    for number, word in enumerate(("happy", "neutral")):
        (data / "train" / word).mkdir(parents=True)
        source = examples / ("portrait_smiling.jpg", "portrait_neutral.jpg")[number]
        shutil.copyfile(source, data / "train" / word / "a.jpg")
    places = {"examples": examples, "out": out, "data": data, "cache": tmp_path / "cache"}
    return [part.format(**places) for part in LONG[name]]


def clear(ran: subprocess.CompletedProcess[str]) -> None:
    """It failed, and said so in lines for people."""
    assert ran.returncode in (1, 2), (ran.returncode, ran.stderr)
    assert "Traceback" not in ran.stderr
    assert ran.stderr.startswith("mien: ") or "\nmien: " in ran.stderr


@POSIX
@pytest.mark.parametrize("name", LONG)
def test_a_full_disk_is_one_clear_line(name: str, tmp_path: Path, examples: Path) -> None:
    if name in ("evaluate", "check"):
        pytest.importorskip("pyarrow")
    out = tmp_path / "out"
    out.mkdir()
    ran = finish(*prepared(name, out, tmp_path, examples), preexec_fn=limited(600))
    clear(ran)
    assert "too large" in ran.stderr.lower() or "no space" in ran.stderr.lower()
    whole = [path for path in out.rglob("*") if path.is_file() and ".part" not in path.name]
    assert all(path.suffix in (".json", ".jsonl", ".md") for path in whole), (
        whole
    )  # small ones may be there, whole


@POSIX
@pytest.mark.parametrize("name", LONG)
def test_a_folder_that_may_not_be_written_is_one_clear_line(
    name: str, tmp_path: Path, examples: Path
) -> None:
    if name in ("evaluate", "check"):
        pytest.importorskip("pyarrow")
    if os.geteuid() == 0:
        # Root may write everywhere, but not into what is no folder.
        out = tmp_path / "out"
        out.write_text("a file")
    else:
        out = tmp_path / "out"
        out.mkdir(mode=0o500)
    clear(finish(*prepared(name, out, tmp_path, examples)))
