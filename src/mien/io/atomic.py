"""Write files atomically, so that a crash or a loss of power leaves the old file or the new one.

`write` takes bytes; `writing` yields a path for code that writes a file itself, `folder` and `adding` one for code that
writes several. A killed process leaves hidden `.mien-*` files, which no later run reads; `clear` removes them. Long
output is written to `<name>.part`, which a user can see, and renamed by `replace`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

HIDDEN: Final = ".mien-"
"""What the names of temporary files and folders begin with."""


def replace(temporary: Path, path: Path) -> None:
    """Rename a written file to `path` in one step, after its content has reached the disk.

    Otherwise a loss of power could leave an empty file under the final name. The folder is not synchronised: the name
    refers to the old file or to the new one, and both are complete.

    Raises:
        OSError: it cannot be synchronised or renamed; `temporary` is kept.
    """
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def _temporary(path: Path) -> Path:
    """A new hidden path in the same folder, with the same suffix, because some writers choose the format by it."""
    return path.with_name(f"{HIDDEN}{secrets.token_hex(6)}.part{path.suffix}")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let an error of the system name the file: for a full disk it names none, else perhaps the temporary one."""
    try:
        yield
    except OSError as problem:
        name = problem.filename
        if problem.errno is not None and (name is None or Path(str(name)).name.startswith(HIDDEN)):
            problem.filename = str(path)
        raise


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; the file then replaces `path`, or is deleted if the block raises.

    Raises:
        OSError: the file cannot be put in its place; it names `path`.
    """
    temporary = _temporary(path)
    try:
        with _naming(path):
            yield temporary
            replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write(files: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all are written before the first replaces its old version, in the order given.

    So a full disk leaves the old files unchanged.

    Raises:
        OSError: one cannot be written, and is named; no temporary file is left.
    """
    temporaries = {path: _temporary(path) for path in files}
    try:
        for path, data in files.items():
            with _naming(path):
                temporaries[path].write_bytes(data)
        for path, temporary in temporaries.items():
            with _naming(path):
                replace(temporary, path)
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Give the block a temporary folder, which is then renamed to `path`; it is deleted if the block raises.

    The folders above it are made. The files in it are not synchronised one by one, as there may be tens of thousands.

    Raises:
        OSError: it cannot be made, or cannot be put in its place, as for a folder there that is not empty.
    """
    temporary = _temporary(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def adding(path: Path, last: str) -> Iterator[Path]:
    """Give the block a temporary folder, of which the files then go to the folder `path`; none does if it raises.

    Files with the suffix `last`, by which others find the rest, are moved after the others.

    Raises:
        OSError: a file cannot be put in its place.
    """
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=HIDDEN, dir=path) as temporary:
        yield Path(temporary)
        for file in sorted(Path(temporary).iterdir(), key=lambda file: file.suffix == last):
            replace(file, path / file.name)


def clear(path: Path) -> None:
    """Delete what killed processes left in a folder that no other process writes to now."""
    for left in path.glob(f"{HIDDEN}*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
