"""Expand paths, folders, patterns, lists and standard input into one flat list of pictures."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import stat
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Final

from mien.errors import ConfigError, ImageError
from mien.io import images
from mien.urls import without_secrets


class StandardInput(BytesIO):
    """The bytes of one picture read from standard input."""

    name = "<stdin>"


LIST_SUFFIXES: Final = (".txt", ".lst")
"""Suffixes of list files, which are expanded wherever a picture may be named."""

Source = str | StandardInput
"""A picture's path, or a picture read from standard input."""


def name(source: Source) -> str:
    """The name of this source in results; the same as `mien.faces.pipeline.name_of`, so that a finished row is
    recognised."""
    text = source if isinstance(source, str) else source.name
    return without_secrets(text.encode("utf-8", "backslashreplace").decode("utf-8"))


def place(source: Source | Path) -> str:
    """A picture's path in its real folder, the same however the path is written.

    A link to a picture keeps its own name, as it is another entry of its folder and of a table.
    """
    if isinstance(source, StandardInput):
        return source.name
    folder, entry = os.path.split(os.path.abspath(source))  # noqa: PTH100 - Path.resolve would follow the last link too
    return os.path.join(_real(folder), entry)  # noqa: PTH118


@lru_cache(maxsize=4096)
def _real(folder: str) -> str:
    return os.path.realpath(folder)


def identity(source: Source | Path) -> str | None:
    """An identifier of the content: "HASH OF THE CONTENT-HASH OF THE FILE'S STATUS".

    None if it cannot be read or is not a regular file: reading a pipe could block, and a device never ends.
    """
    if isinstance(source, StandardInput):
        return _short(source.getvalue()) + "-"
    try:
        if not stat.S_ISREG(os.stat(source).st_mode):  # noqa: PTH116
            return None
        with open(source, "rb") as file:  # noqa: PTH123
            status, digest = _status(os.fstat(file.fileno())), hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
            return f"{digest.hexdigest()[:16]}-{status}"
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return None


def unchanged(source: Source | Path, known: str | None) -> bool:
    """Whether a picture's content is still that of an `identity`; only a file with another status is read."""
    if known is None:
        return False
    digest, _, status = known.partition("-")
    if status and not isinstance(source, StandardInput):
        try:
            if _status(os.stat(source)) == status:  # noqa: PTH116
                return True
        except (OSError, ValueError):
            return False
    now = identity(source)
    return now is not None and now.partition("-")[0] == digest


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _status(status: os.stat_result) -> str:
    facts = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return _short(repr(facts).encode())[:8]


def gather(
    paths: Iterable[str],
    listed: str | None = None,
    leave_out: Collection[str] = (),
    note: Callable[[Path], None] | None = None,
) -> list[Source]:
    """Expand what a user typed: see `find`; also `-` (a picture on standard input) and `@file` (a list).

    Args:
        paths: as typed.
        listed: a list file to be read as well; "-" takes the list from standard input.
        leave_out: places (see `place`) of pictures that are not taken from a folder that is searched.
        note: called with each link to a folder that was not followed.

    Raises:
        ConfigError: nothing was named, a name is empty, or standard input is closed or named twice.
        ImageError: a list cannot be read.
    """
    names = list(paths)
    if listed is not None:
        names += read_list(listed)
    if not names:
        raise ConfigError("nothing to analyse: name pictures or folders, see  mien predict --help")
    if names.count("-") + (listed == "-") > 1:
        raise ConfigError("standard input can be read once: name - only once")
    sources: dict[str, Source] = {}  # by place: a picture named twice, in whatever way, is analysed once

    def add(names: Iterable[str]) -> None:
        for path in find(names, leave_out=leave_out, note=note):
            sources.setdefault(place(path), str(path))

    for name in names:
        if name == "-":
            source = StandardInput(_standard_input())
            sources[source.name] = source
        elif name.startswith("@") and not os.path.lexists(name):
            add(read_list(name[1:]))
        else:
            add([name])
    if not sources:
        raise ConfigError("nothing to analyse: the list names no picture")
    return list(sources.values())


def read_list(path: str | Path) -> list[str]:
    """The paths in a list file: separated by null bytes if there is one (`find -print0`), else one per line.

    The text is UTF-8 or, with a byte order mark, UTF-16; other bytes in a name are kept. Blank lines are skipped, and
    spaces around a name are removed unless a file of that exact name exists. Relative paths start from the list's
    folder; from the current one if the list was read from standard input ("-").

    Raises:
        ImageError: the list cannot be read, or has another encoding.
    """
    if str(path) == "-":
        data, folder = _standard_input(), Path()
    else:
        try:
            data, folder = Path(path).read_bytes(), Path(path).parent
        except (OSError, ValueError) as problem:
            reason = (getattr(problem, "strerror", None) or str(problem)).lower()
            raise ImageError(f"{images.describe(path)}: this list cannot be read: {reason}") from None
    entries = []
    for entry in _entries(data, images.describe(path)):
        if entry.strip():
            exact = os.path.lexists(folder / entry)
            entries.append(str(folder / (entry if exact else entry.strip())))
    return entries


_MARKS: Final = (  # longest first: UTF-32's little-endian mark begins with that of UTF-16
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


def _entries(data: bytes, name: str) -> list[str]:
    for mark, coding in _MARKS:
        if data.startswith(mark):
            try:
                text = data.decode(coding)
            except UnicodeDecodeError:
                raise ImageError(f"{name}: this list is damaged {coding.upper()}: save it as UTF-8") from None
            if "\0" in text:
                raise ImageError(
                    f"{name}: this list has null bytes in it: save it as UTF-8, one path per line"
                )
            return re.split(r"\r\n|\r|\n", text)
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\0" not in data:
        return [os.fsdecode(line) for line in data.splitlines()]
    parts = data.removesuffix(b"\0").split(b"\0")
    # UTF-16 without its mark is single characters between null bytes, which no list of names is.
    if len(parts) > 1 and 2 * sum(len(part) < 2 for part in parts) >= len(parts):
        raise ImageError(f"{name}: this list seems to be UTF-16: save it as UTF-8, one path per line")
    return [os.fsdecode(part) for part in parts]


def find(
    paths: Iterable[str | Path],
    recursive: bool = True,
    leave_out: Collection[str] = (),
    note: Callable[[Path], None] | None = None,
) -> Iterator[Path]:
    """Yield every picture that the arguments refer to, once each, in an order that is the same on every machine.

    - a file is yielded whatever its name, and so is one that does not exist: `mien.io.images.read` reports it;
    - a list file (.txt, .lst) gives the paths in it, see `read_list`;
    - a folder gives its files with a picture's suffix, sorted by name, then its sub-folders' (unless `recursive` is
      False); hidden files and folders, links to folders (passed to `note`) and what is in `leave_out` are skipped. A
      folder without a picture is itself yielded if it was named or has a picture's suffix, so that
      `mien.io.images.read` reports it;
    - anything with `*`, `?` or `[` that is not an existing path is a pattern (`**` crosses folders).

    Raises:
        ConfigError: a name is empty, for example an unset shell variable.
        ImageError: a list cannot be read, or names no file that exists.
    """
    seen: set[str] = set()
    for path in _expand(paths, recursive, leave_out, note):
        if str(path) not in seen:
            seen.add(str(path))
            yield path


_Note = Callable[[Path], None] | None


def _expand(
    paths: Iterable[str | Path], recursive: bool, leave_out: Collection[str], note: _Note
) -> Iterator[Path]:
    for given in paths:
        if str(given) == "":
            raise ConfigError("a path is empty: name a picture or a folder; the current folder is .")
        path = Path(given)
        try:
            exists, folder = path.exists(), path.is_dir()
        except (OSError, ValueError):  # a name too long for the file system, or with a null byte
            exists, folder = False, False
        if folder:
            yield from _walk(path, recursive, leave_out, note, named=True)
        elif exists and path.suffix.lower() in LIST_SUFFIXES:
            entries = [Path(entry) for entry in read_list(path)]
            if entries and not any(os.path.lexists(entry) or glob.has_magic(str(entry)) for entry in entries):
                raise ImageError(
                    f"{images.describe(path)}: was read as a list of pictures, and no file of its names exists; the "
                    f"first is '{images.describe(entries[0])}': name pictures, one per line"
                )
            for entry in entries:
                inner = entry.suffix.lower() in LIST_SUFFIXES  # lists are not nested
                yield from (entry,) if inner else _expand([entry], recursive, leave_out, note)
        elif not exists and glob.has_magic(str(given)):
            matches = sorted(glob.glob(str(given), recursive=True))  # noqa: PTH207 - Path.glob refuses absolute patterns
            yield from _expand(matches, recursive, leave_out, note) if matches else (path,)
        else:
            yield path


def _walk(
    folder: Path, recursive: bool, leave_out: Collection[str], note: _Note, named: bool
) -> Iterator[Path]:
    try:
        entries = sorted(
            (entry for entry in os.scandir(folder) if not entry.name.startswith(".")), key=lambda e: e.name
        )
    except OSError:  # a folder that cannot be listed is yielded, and `read` reports the reason
        yield folder
        return
    empty = True
    subfolders = []
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            subfolders.append(Path(entry.path))
        elif note is not None and entry.is_symlink() and entry.is_dir():
            note(Path(entry.path))
        elif Path(entry.name).suffix.lower() in images.SUFFIXES:
            empty = False
            if not leave_out or place(entry.path) not in leave_out:
                yield Path(entry.path)
    for subfolder in subfolders if recursive else ():
        for path in _walk(subfolder, recursive, leave_out, note, named=False):
            empty = False
            yield path
    if empty and (named or folder.suffix.lower() in images.SUFFIXES):
        yield folder


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise ConfigError("standard input is closed: pipe something into it, or name a file")
    try:
        return sys.stdin.buffer.read()
    except OSError as problem:
        raise ConfigError(f"standard input cannot be read: {problem.strerror or problem}") from None


PATH_COLUMNS = ("path", "image", "file", "filename")
