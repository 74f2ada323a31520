"""Find copies of a picture, with identical or similar pixels under two names; such copies leak test pictures into
training."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mien.data.readers.base import PICTURES
from mien.data.records import Record
from mien.errors import DatasetDamaged, ExtraMissing, ImageError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

NEAR = 4
"""Largest Hamming distance of two 64-bit perceptual hashes that counts as "the same photograph".

Chosen by eye on FERPlus, of eight pairs at each distance: at 2 and 4 all were the same photograph (scaled, shifted or
recompressed), at 6 one was not, at 8 half were not.
"""


def pixel_hash(path: Path) -> str:
    """Hash of the decoded, upright RGB pixels: the same for a PNG and a lossless copy in another format.

    Raises:
        DatasetDamaged: the file cannot be decoded.
    """
    from mien.io import images

    try:
        return hash_of(images.read(path))
    except ImageError as problem:
        raise DatasetDamaged(f"{problem}: run 'mien data check' to list every damaged picture") from None


def hash_of(pixels: NDArray[np.uint8]) -> str:
    """Hash of an RGB picture [height, width, 3]."""
    return hashlib.blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=16).hexdigest()


def perceptual_hash(pixels: NDArray[np.uint8]) -> int:
    """64-bit DCT hash of an RGB picture (imagehash's `phash`): similar pictures differ in few bits.

    Raises:
        ExtraMissing: imagehash is not installed.
    """
    try:
        import imagehash
    except ModuleNotFoundError:
        raise ExtraMissing("train", "imagehash") from None
    from PIL import Image

    return int(str(imagehash.phash(Image.fromarray(pixels))), 16)


def pixel_copies(records: Iterable[Record]) -> list[tuple[Record, ...]]:
    """Group the records with identical decoded pixels; only groups of two and more, in order of appearance.

    Records of videos are skipped.
    """
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.path.suffix.lower() in PICTURES:
            groups[pixel_hash(record.path)].append(record)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def without_copies(records: list[Record]) -> tuple[list[Record], int]:
    """Leave out the training records with pixels that are also in valid or test, and return their number too.

    All validation and test pictures stay, because only the training set may be chosen freely.
    """
    leaking = {id(record) for group in pixel_copies(records) for record in leaks(group)}
    return [record for record in records if id(record) not in leaking], len(leaking)


def leaks(group: tuple[Record, ...]) -> tuple[Record, ...]:
    """The training records of a group of copies that also has a validation or test record."""
    if all(record.split == "train" for record in group):
        return ()
    return tuple(record for record in group if record.split == "train")


def near_pairs(
    held: NDArray[np.uint64], train: NDArray[np.uint64], distance: int = NEAR
) -> list[tuple[int, int]]:
    """Pairs (row of `held`, row of `train`) of 64-bit hashes that differ in at most `distance` bits."""
    import numpy as np

    counts = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)
    halves = [
        ((train >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.uint16) for shift in (0, 16, 32, 48)
    ]
    pairs: list[tuple[int, int]] = []
    for row, value in enumerate(held.tolist()):
        differing = np.zeros(len(train), np.uint8)
        for half, shift in zip(halves, (0, 16, 32, 48), strict=True):
            differing += counts[half ^ np.uint16((value >> shift) & 0xFFFF)]
        pairs += [(row, int(column)) for column in np.flatnonzero(differing <= distance)]
    return pairs
