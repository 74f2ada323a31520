"""Files that are there whole or not at all, also after a crash or a loss of power."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path


def replace(temporary: Path, path: Path) -> None:
    """Put a written file in its place in one step, its content on the disk first.

    Otherwise a loss of power could leave an empty file under the final name. The folder is not synchronised: whether
    the name then leads to the old file or to the new one, the file is whole.

    Raises:
        OSError: it cannot be synchronised or renamed; `temporary` is still there.
    """
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def beside(path: Path) -> Path:
    """A new hidden name in the same folder, for what is being written."""
    return path.with_name(f".mien-{secrets.token_hex(6)}.part")


def write(files: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all are written before the first is put in its place, in the order given.

    A full disk therefore leaves what was there before.

    Raises:
        OSError: one cannot be written; nothing of the unfinished ones stays.
    """
    temporaries = {path: beside(path) for path in files}
    try:
        for path, data in files.items():
            temporaries[path].write_bytes(data)
        for path, temporary in temporaries.items():
            replace(temporary, path)
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)
