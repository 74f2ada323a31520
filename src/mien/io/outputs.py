"""Rules for where commands write, so that no file of the user is lost.

- A file that the user names is written if it does not exist; `--overwrite` replaces it. Inputs are never replaced.
- In a folder of results each input has its own file: the tree repeats that of the inputs below their deepest common
  folder, with a number where two names would clash (also if they differ in case only). Nothing is written outside the
  folder, and no file is replaced that `mien` did not write: `RECORD` in the folder lists those, with the hash of the
  content, the input and the options of each.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, Final

from mien.errors import ConfigError, OutputExists
from mien.io import inputs
from mien.io.images import describe
from mien.io.inputs import Source, StandardInput
from mien.io.locks import FileLock

RECORD: Final = ".mien-written.jsonl"
"""The file in a folder of results that lists what was written there, one line for each file."""

SIDECAR: Final = ".mien.json"
"""Suffix of the JSON file beside a result that records how it was made."""

Settings = dict[str, Any]


def check(
    path: str | Path,
    *,
    overwrite: bool = False,
    reads: Iterable[str | Path] = (),
    resumable: bool = False,
    suffixes: Sequence[str] = (),
    room: float = 0,
) -> None:
    """Refuse an output file that must not or cannot be written, before any work is done.

    Args:
        path: the file.
        overwrite: an existing file may be replaced.
        reads: the command's inputs and other outputs, which are never replaced.
        resumable: the command has --resume, which the message then mentions.
        suffixes: accepted suffixes; none accepts any.
        room: least number of bytes that it will take.

    Raises:
        OutputExists: it exists, or is an input.
        ConfigError: it is a folder, its folder does not exist or is not writable, or the disk is too full.
    """
    path, name = Path(path), describe(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise ConfigError(f"{name}: cannot write '{path.suffix}': use {', '.join(suffixes)}")
    for source in reads:
        if _same(path, source):
            raise OutputExists(f"{name}: is the same file as {describe(source)}: name another file")
    if path.is_dir():
        raise ConfigError(f"{name}: is a folder: name a file in it")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ConfigError(f"{name}: there is no such folder: make it, or name another")
    if os.path.lexists(path) and not overwrite:
        raise _exists(path, resumable)
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".mien-"):
            free = shutil.disk_usage(folder).free
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise ConfigError(f"{name}: its folder cannot be written to ({reason}): name another") from None
    if free < room:
        raise ConfigError(
            f"{name}: needs about {room / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free: make room"
        )


def check_folder(folder: str | Path, names: Iterable[str], *, overwrite: bool = False) -> None:
    """`check` for a set of files with fixed names in a folder that need not exist yet."""
    for name in names:
        if os.path.lexists(Path(folder) / name) and not overwrite:
            raise _exists(Path(folder) / name, False)


def _exists(path: Path, resumable: bool) -> OutputExists:
    resume = ", --resume to continue" if resumable else ""
    return OutputExists(f"{describe(path)}: exists: pass --overwrite to replace it{resume}, or name another")


def _same(path: Path, other: str | Path) -> bool:
    with suppress(OSError, ValueError):
        if path.exists() and path.samefile(other):  # also links, and names that differ in case only
            return True
    return inputs.place(path) == inputs.place(other)


def difference(made: Settings, wanted: Settings) -> str | None:
    """The first setting in which two differ, as text, or None."""
    for key in sorted(made.keys() | wanted.keys()):
        if made.get(key) != wanted.get(key):
            return f"{key} {json.dumps(made.get(key))}, not {json.dumps(wanted.get(key))}"
    return None


class Outputs:
    """A folder of results, one file for each input.

    The names are planned before anything is written; then `write` is called for each input, in any process (a plan can
    be pickled). `lock` keeps other commands out.

    Args:
        folder: of the results; it need not exist.
        sources: the inputs.
        named: maps the name of an input's file to the name of its result's file.
        settings: the options that the results are made with.
        overwrite: replace results of earlier runs.
        resume: keep results of earlier runs that are still valid (see `is_done`) and replace the others.
        beside: suffixes of further files that belong to each result.

    Raises:
        OutputExists: a result would replace an input, an earlier result (without `overwrite` and `resume`) or a file
            that `mien` did not write.
        ConfigError: the folder is a file; or, with `resume`, results there were made with other settings.
    """

    def __init__(
        self,
        folder: Path,
        sources: Sequence[Source],
        named: Callable[[str], str],
        settings: Settings | None = None,
        *,
        overwrite: bool = False,
        resume: bool = False,
        beside: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        if os.path.lexists(folder) and not folder.is_dir():
            raise ConfigError(f"{describe(folder)}: is a file: name a folder")
        self._home = os.path.realpath(folder)
        self._settings = settings or {}
        self._made_with = hashlib.sha256(json.dumps(self._settings, sort_keys=True).encode()).hexdigest()[:12]
        self._entries: dict[str, dict[str, Any]] = {}  # the newest of each file
        self._versions: dict[str, set[str]] = {}  # all contents that were or will be written under a name
        known = self._read()
        places = [inputs.place(source) for source in sources]
        self._targets = self._plan(sources, places, named)
        self._check(places, overwrite, resume, beside)
        if resume:
            for place in places:
                made = known.get(self._entries.get(self._targets[place], {}).get("made_with", ""))
                other = difference(made, self._settings) if made is not None else None
                if other:
                    raise ConfigError(
                        f"{describe(folder)} was begun with {other}: give the same options, or name another folder"
                    )

    def _read(self) -> dict[str, Settings]:
        """Read what earlier runs wrote, and return their settings; an incomplete line is ignored."""
        known: dict[str, Settings] = {}
        try:
            lines = (self.folder / RECORD).read_bytes().splitlines()
        except OSError:
            return known
        for line in lines:
            with suppress(ValueError, KeyError, TypeError, RecursionError):
                entry = json.loads(line)
                if "settings" in entry:
                    known[str(entry["made_with"])] = dict(entry["settings"])
                else:
                    self._note(str(entry["file"]), {**entry, "input": self._whole(entry["input"])})
        return known

    def _note(self, file: str, entry: dict[str, Any]) -> None:
        self._entries[file] = entry
        self._versions.setdefault(file, set()).add(str(entry["wrote"]))

    def _whole(self, place: str) -> str:
        """The absolute path of an entry in the record; entries are relative to the folder, so that a project can be
        moved."""
        return place if place == StandardInput.name else os.path.normpath(Path(self._home, place))

    def _relative(self, place: str) -> str:
        try:
            return place if place == StandardInput.name else os.path.relpath(place, self._home)
        except ValueError:  # another drive
            return place

    def _plan(
        self, sources: Sequence[Source], places: Sequence[str], named: Callable[[str], str]
    ) -> dict[str, str]:
        """The file of each place, relative to the folder."""
        files = [place for source, place in zip(sources, places, strict=True) if isinstance(source, str)]
        try:
            root = os.path.commonpath({str(Path(file).parent) for file in files}) if files else ""
        except ValueError:  # several drives
            root = ""
        kept = {entry["input"]: file for file, entry in self._entries.items()}
        mine = {kept[place] for place in places if place in kept}
        taken = {
            _folded(file) for file in self._entries if file in mine or os.path.lexists(self.folder / file)
        }
        plan: dict[str, str] = {}
        for source, place in zip(sources, places, strict=True):
            if place in kept:
                plan[place] = kept[place]
                continue
            if isinstance(source, StandardInput):
                path = PurePosixPath("stdin.png")
            else:
                below = os.path.relpath(place, root) if root else place.replace(":", "").lstrip("/\\")
                path = PurePosixPath(Path(below).as_posix())
                path = path.with_name(named(path.name))
            file, number = path, 1
            while _folded(str(file)) in taken:
                number += 1
                file = path.with_name(f"{path.stem}-{number}{path.suffix}")
            taken.add(_folded(str(file)))
            plan[place] = str(file)
        return plan

    def _check(self, places: Sequence[str], overwrite: bool, resume: bool, beside: Sequence[str]) -> None:
        reads = set(places)
        real = {os.path.realpath(place) for place in places}
        for place in places:
            for ending in ("", *beside):
                target = Path(f"{self.folder / self._targets[place]}{ending}")
                if inputs.place(target) in reads or os.path.realpath(target) in real:
                    raise OutputExists(
                        f"{describe(target)}: the result would overwrite an input: name another folder"
                    )
            target = self.folder / self._targets[place]
            self._keep_inside(target)
            if not os.path.lexists(target):
                continue
            if not self._is_ours(target):
                raise _stranger(target)
            if not (overwrite or resume):
                raise _exists(target, True)

    def _keep_inside(self, target: Path) -> None:
        parent = os.path.realpath(target.parent)
        if not Path(parent).is_relative_to(self._home):
            raise OutputExists(
                f"{describe(target)}: is behind a link that leads out of {describe(self.folder)}: name another folder"
            )

    def _is_ours(self, target: Path) -> bool:
        """Whether a file's content is what was written."""
        if target.is_symlink():
            return False
        versions = self._versions.get(target.relative_to(self.folder).as_posix(), set())
        return any(inputs.unchanged(target, version) for version in versions) or has_record(target)

    @property
    def written(self) -> set[str]:
        """Places of all files that this and earlier runs wrote."""
        return {inputs.place(self.folder / file) for file in self._entries}

    def path(self, source: Source) -> Path:
        """The file of an input's result."""
        return self.folder / self._targets[inputs.place(source)]

    def is_done(self, source: Source) -> bool:
        """Whether an intact result of this input, with the same content and settings, exists."""
        target = self.path(source)
        entry = self._entries.get(self._targets[inputs.place(source)])
        return (
            entry is not None
            and os.path.lexists(target)
            and entry.get("made_with") == self._made_with
            and entry.get("input") == inputs.place(source)
            and inputs.unchanged(source, entry.get("content"))
            and inputs.unchanged(target, entry.get("wrote"))
        )

    def lock(self) -> FileLock:
        """Make the folder and keep other commands out of it until the lock is released.

        Raises:
            FileLocked: another command writes there.
            ConfigError: the folder cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / (RECORD + ".lock"), describe(self.folder))
            self._append({"made_with": self._made_with, "settings": self._settings})
        except OSError as problem:
            reason = (problem.strerror or str(problem)).lower()
            raise ConfigError(f"{describe(self.folder)}: cannot be written: {reason}") from None
        return lock

    def write(self, source: Source, data: bytes, put: Callable[[Path], object]) -> Path:
        """Write one result: add it to the record, then call `put` to write its file; return the file.

        Args:
            source: the input.
            data: the file's content; empty if it is not known yet.
            put: writes the file at the given path, atomically.

        Raises:
            OutputExists: a file of another program, or a link out of the folder, appeared there meanwhile.
            OSError: it cannot be written.
        """
        target = self.path(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._keep_inside(target)
        if os.path.lexists(target) and not self._is_ours(target):
            raise _stranger(target)
        entry = {
            "file": self._targets[inputs.place(source)],
            "input": inputs.place(source),
            "content": inputs.identity(source),
            "made_with": self._made_with,
        }
        if data:  # before the file, so that a killed run leaves no file that is not in the record
            self._append({**entry, "wrote": hashlib.sha256(data).hexdigest()[:16] + "-"})
        put(target)
        self._append({**entry, "wrote": inputs.identity(target)})
        return target

    def _append(self, entry: dict[str, Any]) -> None:
        """Append a line in a single write, so that lines of several processes do not mix; an incomplete line before it
        is terminated."""
        if "file" in entry:
            self._note(entry["file"], entry)
            entry = {**entry, "input": self._relative(entry["input"])}
        line = (json.dumps(entry) + "\n").encode("ascii")
        with (self.folder / RECORD).open("ab+", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    line = b"\n" + line
            file.write(line)


def written_in(folder: Path) -> set[str]:
    """Places of the results that earlier runs wrote into a folder."""
    places = set()
    with suppress(OSError):
        for line in (folder / RECORD).read_bytes().splitlines():
            with suppress(ValueError, KeyError, TypeError, RecursionError):
                places.add(inputs.place(folder / str(json.loads(line)["file"])))
    return places


def has_record(path: Path) -> bool:
    """Whether the JSON beside a file records that `mien` wrote this content."""
    try:
        record = json.loads(path.with_name(path.name + SIDECAR).read_bytes())
        return bool(record["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest())
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _stranger(path: Path) -> OutputExists:
    return OutputExists(
        f"{describe(path)}: exists, and mien did not write it: move it away, or name another folder"
    )


def _folded(name: str) -> str:
    """The name without case and Unicode composition, as some file systems compare names."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
