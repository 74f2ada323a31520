"""Write files whole or not at all, also through a crash or a loss of power.

`write` takes bytes; `writing` gives a path to whatever writes a file itself. Output that takes long is written to
`<name>.part`, which a user can see, and put in its place by `replace`.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def replace(temporary: Path, path: Path) -> None:
    """Rename a written file to `path` in one step, after its content has reached the disk.

    Without that a loss of power could leave an empty file under the final name. The folder is not synchronised: the
    name leads to the old file or to the new one, and either is whole.

    Raises:
        OSError: it cannot be synchronised or renamed; `temporary` is kept.
    """
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def _temporary(path: Path) -> Path:
    """A new hidden path in the same folder, with the same suffix, which some writers go by."""
    return path.with_name(f".mien-{secrets.token_hex(6)}.part{path.suffix}")


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give the block a temporary path to write to, which then replaces `path`; it is deleted if the block raises.

    Raises:
        OSError: the file cannot be put in its place.
    """
    temporary = _temporary(path)
    try:
        yield temporary
        replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write(files: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all are written before the first replaces its old version, in the order given.

    A full disk therefore leaves the old files as they were.

    Raises:
        OSError: one cannot be written; no temporary file is left.
    """
    temporaries = {path: _temporary(path) for path in files}
    try:
        for path, data in files.items():
            temporaries[path].write_bytes(data)
        for path, temporary in temporaries.items():
            replace(temporary, path)
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)
