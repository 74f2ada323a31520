"""Takes sweeps to a machine with a GPU and their predictions back, as files of limited size.

    python scripts/gpu_campaign.py pack parts/ cache/ferplus cache/rendered cache/mobilefacenet.pt     # here
    python scripts/gpu_campaign.py unpack parts/                                                      # there
    python scripts/gpu_campaign.py run configs/sweeps/*.yaml --device cuda --workers 12 --minutes 25 --back back/
    python scripts/gpu_campaign.py unpack back/                                                       # here again
    mien sweep configs/sweeps/ferplus-tenth.yaml        # finds the runs done, does what is left, writes the table

Paths are relative to the working folder and are the same on both sides. A pack is one compressed tar stream, cut into
parts of less than 64 MiB with a list of their hashes, so that a part that is missing or damaged is named before
anything is written. Files come back byte for byte. `run` gives the sweeps `--minutes` together; what is finished by
then comes back, and the states of unfinished runs do not.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from mien.errors import MienError
from mien.training.sweep import load_sweep

LIST = "parts.json"
MIB = 1 << 20
STOP_SECONDS = 150
"""How long a sweep may take to save what it has."""


class PackError(MienError):
    """A pack that is not whole, or files that cannot be packed."""


class Parts(io.RawIOBase):
    """Takes one stream and writes it as numbered files of at most `limit` bytes."""

    def __init__(self, folder: Path, limit: int) -> None:
        super().__init__()
        self._folder, self._limit, self._left = folder, limit, 0
        self._file: io.BufferedWriter | None = None
        self.hashes: dict[str, str] = {}
        self._hash = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        view = memoryview(data)
        while len(view):
            if self._left == 0:
                self._begin()
            piece, view = view[: self._left], view[self._left :]
            assert self._file is not None
            self._file.write(piece)
            self._hash.update(piece)
            self._left -= len(piece)
        return len(data)

    def _begin(self) -> None:
        self.finish()
        self._name = f"part-{len(self.hashes):03}"
        self._file, self._left = (self._folder / self._name).open("wb"), self._limit
        self._hash = hashlib.sha256()

    def finish(self) -> None:
        """Close the current part and note its hash."""
        if self._file is not None:
            self._file.close()
            self.hashes[self._name] = self._hash.hexdigest()
            self._file = None


class Joined(io.RawIOBase):
    """Reads several files as one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__()
        self._paths = list(paths)
        self._file: io.BufferedReader | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        while True:
            if self._file is None:
                if not self._paths:
                    return 0
                self._file = self._paths.pop(0).open("rb")
            count = self._file.readinto(buffer)
            if count:
                return count
            self._file.close()
            self._file = None


def files_of(paths: Iterable[Path]) -> list[Path]:
    """Every file that is named or lies in a named folder, in order.

    Raises:
        PackError: one is missing, or outside the working folder.
    """
    found: set[Path] = set()
    for path in paths:
        if path.is_absolute() or ".." in path.parts:
            raise PackError(f"{path}: name it relative to the working folder: it gets the same path there")
        if not path.exists():
            raise PackError(f"{path} does not exist: name what the sweeps read")
        found |= {path} if path.is_file() else {one for one in path.rglob("*") if one.is_file()}
    return sorted(found)


def pack(folder: Path, paths: Iterable[Path], limit: int = 60 * MIB) -> int:
    """Write files into a folder of parts of at most `limit` bytes; returns how many files.

    Raises:
        PackError: the folder holds a pack already, or a path cannot be packed.
    """
    files = files_of(paths)
    if (folder / LIST).exists():
        raise PackError(f"{folder} holds a pack: name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    parts = Parts(folder, limit)
    with tarfile.open(fileobj=parts, mode="w|xz", dereference=True) as stream:
        for path in files:
            stream.add(path, arcname=path.as_posix(), recursive=False)
    parts.finish()
    (folder / LIST).write_text(json.dumps({"files": len(files), "parts": parts.hashes}, indent=1))
    return len(files)


def unpack(folder: Path, into: Path = Path()) -> int:
    """Write the files of a pack below `into`; returns how many.

    Raises:
        PackError: a part is missing or damaged; nothing is written.
    """
    try:
        listed = json.loads((folder / LIST).read_text())
        hashes = dict(listed["parts"])
    except (OSError, ValueError, LookupError, TypeError) as problem:
        raise PackError(f"{folder / LIST}: missing or damaged ({problem}): copy the whole folder") from None
    for name, wanted in hashes.items():
        path = folder / name
        if not path.is_file():
            raise PackError(f"{path} is missing: copy it too")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != wanted:
                raise PackError(f"{path} is damaged: copy it again")
    with tarfile.open(
        fileobj=io.BufferedReader(Joined([folder / name for name in hashes])), mode="r|xz"
    ) as stream:
        for member in stream:
            stream.extract(member, into, filter="data")
    return int(listed["files"])


def results_of(out: Path) -> list[Path]:
    """What is to come back of a sweep: its tables, and each finished run's predictions, log and configuration."""
    runs = [path.parent for path in sorted(out.glob("runs/*/predictions.parquet"))]
    return [
        *(path for path in sorted(out.iterdir()) if path.is_file()),
        *(
            path
            for run in runs
            for path in sorted(run.iterdir())
            if path.is_file() and path.name != "state.pt"
        ),
    ]


def run(
    sweeps: Sequence[Path], device: str, workers: int, seconds: float, sets: Sequence[str] = ()
) -> list[str]:
    """Run sweeps one after another on one device until the time is up; returns those that did not come to their end."""
    until, unfinished = time.monotonic() + seconds, []
    for path in sweeps:
        left = until - time.monotonic()
        changes = [*sets, f"devices=[{device}]", f"workers={workers}"]
        command = [sys.executable, "-m", "mien", "sweep", str(path)]
        for change in changes:
            command += ["--set", change]
        print(f"{path}: {max(0.0, left) / 60:.1f} minutes are left", flush=True)
        if left <= 0 or not _ended(command, left):
            unfinished.append(str(path))
    return unfinished


def _ended(command: list[str], seconds: float) -> bool:
    """Whether the command ended well in time; else it is interrupted, so that it saves what it has."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return False


def main() -> None:
    """Do what the command line says."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    verbs = options.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("pack", help="files and folders into parts")
    one.add_argument("folder", type=Path)
    one.add_argument("paths", type=Path, nargs="+")
    one.add_argument("--mib", type=int, default=60, help="largest part, less than 64")
    one = verbs.add_parser("unpack", help="parts into files")
    one.add_argument("folder", type=Path)
    one = verbs.add_parser("run", help="sweeps on one device; what is finished is packed")
    one.add_argument("sweeps", type=Path, nargs="+")
    one.add_argument("--device", default="cuda")
    one.add_argument("--workers", type=int, default=8)
    one.add_argument("--minutes", type=float, default=25.0, help="for all sweeps together")
    one.add_argument("--set", action="append", default=[], help="change a key of every sweep")
    one.add_argument("--back", type=Path, required=True, help="folder for the pack of what is finished")
    one.add_argument("--mib", type=int, default=15, help="largest part of it")
    given = options.parse_args()
    try:
        if given.verb == "pack":
            print(f"{pack(given.folder, given.paths, given.mib * MIB)} files packed")
        elif given.verb == "unpack":
            print(f"{unpack(given.folder)} files unpacked")
        else:
            outs = [load_sweep(path, given.set).out for path in given.sweeps]
            left = run(given.sweeps, given.device, given.workers, given.minutes * 60, given.set)
            results = [path for out in outs if out.is_dir() for path in results_of(out)]
            print(f"{pack(given.back, results, given.mib * MIB)} files packed")
            if left:
                sys.exit(f"not at its end: {', '.join(left)}: run again here, or `mien sweep` there")
    except MienError as problem:
        sys.exit(f"{options.prog}: {problem}")


if __name__ == "__main__":
    main()
