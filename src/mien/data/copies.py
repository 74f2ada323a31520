"""Exact copies of a picture: the same pixels under two names, which leak from training into a test."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from mien.data.records import Record
from mien.errors import DatasetDamaged


def pixel_hash(path: Path) -> str:
    """Hash of the decoded pixels and their size: the same for a PNG and a lossless copy in another format.

    Raises:
        DatasetDamaged: the file cannot be decoded.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            grey = picture.mode in ("L", "1")
            pixels = picture.convert("L" if grey else "RGB")
            return hashlib.blake2b(
                pixels.tobytes(), digest_size=16, person=repr(pixels.size).encode()[:16]
            ).hexdigest()
    except (OSError, UnidentifiedImageError, SyntaxError) as problem:
        raise DatasetDamaged(f"{path}: not a readable picture: {problem}") from None


def pixel_copies(records: Iterable[Record]) -> list[tuple[Record, ...]]:
    """Group the records whose decoded pixels are identical; only groups of two and more, in order of appearance."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[pixel_hash(record.path)].append(record)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def without_copies(records: list[Record]) -> tuple[list[Record], int]:
    """Leave out the training records whose pixels also stand in valid or test, and say how many those were.

    Validation and test pictures all stay: it is the training set that may be chosen freely.
    """
    leaking: set[int] = set()
    for group in pixel_copies(records):
        if any(record.split != "train" for record in group):
            leaking.update(id(record) for record in group if record.split == "train")
    return [record for record in records if id(record) not in leaking], len(leaking)
