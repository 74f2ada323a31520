"""The plan of a batch, stored beside its table, so that a later run can continue from any state.

    table/
        part-00000-5f0c1d2e7a31.parquet       one file per part, written atomically
        part-00001-90ab34cd55f0.parquet
        _mien/job.json                        the options that every part is made with
        _mien/plan-0000-7d1e02aa9c4b.jsonl.gz one line per part: the names of its pictures
        _mien/failed-5f0c1d2e7a31.json        names of the pictures of that part that could not be analysed
    _mien/lock

The list of pictures is cut into parts once and kept. A part's file is named by the part's number and a digest of its
pictures, so a part that is done twice (for example by a worker thought dead) gives the same file, and a part with other
pictures another one. A run does the parts without a file; new pictures are appended to the plan. The plan stores URLs
without passwords and signatures, which each run takes from the names it is given. No picture is lost or duplicated,
whenever and however often a run is killed.

Names that begin with `_` or `.` are ignored by pyarrow, Spark, DuckDB's globs and other readers of folders of Parquet
files.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from mien.batch.storage import BatchError, Store
from mien.io.images import describe
from mien.io.outputs import difference
from mien.urls import without_secrets

FOLDER: Final = "_mien"
JOB: Final = f"{FOLDER}/job.json"
LOCK: Final = f"{FOLDER}/lock"
FAILED: Final = "failed-"

SMALLEST, LARGEST = 32, 1024
"""Default number of pictures in a part: the recogniser's batch, and about 2 MB of table."""

SHARES: Final = 64
"""Bounds on the number of parts, so that some tens of workers all have one and the last ones end at about the same
time."""


LOCKED: Final = "#token=-"
"""Suffix, in a plan, of the name of a picture that cannot be fetched without a secret; `without_secrets` removes it."""


@dataclass(frozen=True)
class Part:
    """The pictures of one file."""

    number: int
    pictures: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Identifies the part."""
        return _digest(self.pictures)

    @property
    def name(self) -> str:
        """The file's name."""
        return f"part-{self.number:05}-{self.digest}.parquet"


def size_for(pictures: int) -> int:
    """Pictures in a part, given their total number."""
    return min(LARGEST, max(SMALLEST, math.ceil(pictures / SHARES)))


def claim(store: Store, job: dict[str, Any]) -> None:
    """Claim a folder for this job, or check that it belongs to it.

    Raises:
        BatchError: it holds a table of other options or another tool's, or cannot be written.
    """
    if JOB.rpartition("/")[2] in store.names(FOLDER):
        stored = _parsed(store, JOB)
        if other := difference(stored, job):
            raise BatchError(
                f"{describe(store.place)} was begun with {other}: give the same options, or name another folder with "
                "--out"
            )
        return
    strangers = sorted(name for name in store.names() if name.endswith(".parquet"))
    if strangers:
        raise BatchError(
            f"{describe(store.place)} holds {strangers[0]}, not of mien batch: name an empty folder with --out"
        )
    store.write(JOB, json.dumps(job, indent=2).encode())


def planned(store: Store) -> list[Part]:
    """All parts that were planned, in order.

    Raises:
        BatchError: a plan is damaged or cannot be read.
    """
    parts: list[Part] = []
    for name in sorted(store.names(FOLDER)):
        if name.startswith("plan-"):
            for line in _lines(store, f"{FOLDER}/{name}"):
                parts.append(Part(len(parts), tuple(line)))
    return parts


def extend(store: Store, parts: list[Part], pictures: Sequence[str], size: int) -> list[Part]:
    """Plan the pictures that are in no part yet and return all parts, with the URLs as given now.

    Raises:
        BatchError: the plan cannot be written.
    """
    given = {without_secrets(picture): picture for picture in pictures}
    held = {without_secrets(picture) for part in parts for picture in part.pictures}
    parts = [
        Part(part.number, tuple(given.get(without_secrets(name), name) for name in part.pictures))
        for part in parts
    ]
    new = [picture for name, picture in given.items() if name not in held]
    if not new:
        return parts
    groups = [tuple(new[start : start + size]) for start in range(0, len(new), size)]
    lines = "".join(json.dumps([_kept(name) for name in group]) + "\n" for group in groups)
    number = sum(name.startswith("plan-") for name in store.names(FOLDER))
    store.write(
        f"{FOLDER}/plan-{number:04}-{_digest(new)}.jsonl.gz", gzip.compress(lines.encode("ascii"), mtime=0)
    )
    return [*parts, *(Part(len(parts) + place, group) for place, group in enumerate(groups))]


def _kept(name: str) -> str:
    plain = without_secrets(name)
    return plain if plain == name else plain + LOCKED


def openable(parts: Sequence[Part]) -> None:
    """Check that the URLs of all pictures are known in full.

    Raises:
        BatchError: one was planned with a password or signature by an earlier run, and was not given to this one.
    """
    for part in parts:
        for name in part.pictures:
            if name.endswith(LOCKED):
                raise BatchError(
                    f"{describe(without_secrets(name))}: an earlier run was given its URL with a password or "
                    "signature, which is not kept: give it again"
                )


def finished(store: Store) -> set[str]:
    """Digests of the parts with an existing file.

    Raises:
        BatchError: the folder cannot be listed.
    """
    return {
        name.removesuffix(".parquet").rpartition("-")[2]
        for name in store.names()
        if name.startswith("part-") and name.endswith(".parquet")
    }


def note_failed(store: Store, part: Part, failed: Sequence[str]) -> None:
    """Record the pictures of a part that could not be analysed, without secrets in URLs; to be called before the part's
    file is written.

    Raises:
        BatchError: it cannot be written.
    """
    name = f"{FOLDER}/{FAILED}{part.digest}.json"
    if failed or name.rpartition("/")[2] in store.names(FOLDER):
        store.write(name, json.dumps([without_secrets(picture) for picture in failed]).encode("ascii"))


def failed(store: Store) -> dict[str, list[str]]:
    """By a part's digest, its pictures that could not be analysed.

    Raises:
        BatchError: a note is damaged or cannot be read.
    """
    failures = {}
    for name in store.names(FOLDER):
        if name.startswith(FAILED):
            try:
                failures[name.removeprefix(FAILED).removesuffix(".json")] = [
                    str(picture) for picture in json.loads(store.read(f"{FOLDER}/{name}"))
                ]
            except (ValueError, TypeError) as problem:
                raise _damaged(store, name, problem) from None
    return failures


def _lines(store: Store, name: str) -> list[list[str]]:
    try:
        text = gzip.decompress(store.read(name)).decode("ascii")
        lines = [json.loads(line) for line in text.splitlines()]
    except (OSError, EOFError, ValueError, zlib.error) as problem:
        raise _damaged(store, name, problem) from None
    if not all(isinstance(line, list) and all(isinstance(name, str) for name in line) for line in lines):
        raise _damaged(store, name, TypeError("a line is not a list of names"))
    return lines


def _parsed(store: Store, name: str) -> dict[str, Any]:
    try:
        content = json.loads(store.read(name))
    except ValueError as problem:
        raise _damaged(store, name, problem) from None
    if not isinstance(content, dict):
        raise _damaged(store, name, TypeError("no options in it"))
    return content


def _damaged(store: Store, name: str, problem: Exception) -> BatchError:
    return BatchError(
        f"{describe(store.place)}: {name} is damaged ({problem}): name another folder with --out"
    )


def _digest(names: Sequence[str]) -> str:
    # JSON in ASCII: names that are not UTF-8 also have one.
    return hashlib.sha256(json.dumps([without_secrets(name) for name in names]).encode("ascii")).hexdigest()[
        :12
    ]
