"""Write files atomically, so that a crash or a loss of power leaves the old file or the new one.

`write` takes bytes; `writing` yields a path for code that writes a file itself. Long output is written to
`<name>.part`, which a user can see, and renamed by `replace`.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


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
    return path.with_name(f".mien-{secrets.token_hex(6)}.part{path.suffix}")


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; the file then replaces `path`, or is deleted if the block raises.

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

    So a full disk leaves the old files unchanged.

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
