"""What a command was told to analyse: paths, folders, patterns, lists and standard input, as one flat list."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

from mien import images
from mien.errors import ConfigError, ImageError
from mien.urls import without_secrets


class StandardInput(BytesIO):
    """The bytes of one picture that came through standard input."""

    name = "<stdin>"


_WRITTEN = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")  # what mien.images.write can write

LIST_SUFFIXES: Final = (".txt", ".lst")
"""Files that are lists of pictures wherever a picture is named."""

Source = str | StandardInput
"""A picture's path, or the picture that came through standard input."""


def name(source: Source) -> str:
    """How results call this source; the same as `mien.pipeline.name_of`, so that a finished row is recognised."""
    text = source if isinstance(source, str) else source.name
    return without_secrets(text.encode("utf-8", "backslashreplace").decode("utf-8"))


def gather(paths: Iterable[str], listed: str | None = None, leave_out: Path | None = None) -> list[Source]:
    """Expand what a user typed: see `find`; also `-` (a picture on standard input) and `@file` (a list).

    Args:
        paths: as typed.
        listed: a list file to be read as well; "-" takes the list from standard input.
        leave_out: a folder of our own pictures, not taken when a searched folder contains it.

    Raises:
        ConfigError: nothing was named, or standard input is closed or named twice.
        ImageError: a list cannot be read.
    """
    names = list(paths)
    if listed is not None:
        names += read_list(listed)
    if not names:
        raise ConfigError("nothing to analyse: name pictures or folders, see  mien predict --help")
    if names.count("-") + (listed == "-") > 1:
        raise ConfigError("standard input can be read once: name - only once")
    found: list[Source] = []
    ours = leave_out.resolve() if leave_out is not None else None
    for name in names:
        if name == "-":
            found.append(StandardInput(_standard_input()))
        elif name.startswith("@") and not os.path.lexists(name):
            found += _files(read_list(name[1:]), ours)
        else:
            found += _files([name], ours)
    # A picture named twice is analysed once.
    return list(dict.fromkeys(found))


def read_list(path: str) -> list[str]:
    """The paths in a list file: separated by null bytes if there is one (`find -print0`), else one a line.

    Relative paths start from the list's folder; from the current one if the list came through standard input ("-").

    Raises:
        ImageError: the list cannot be read.
    """
    if path == "-":
        data, folder = _standard_input(), Path()
    else:
        try:
            data, folder = Path(path).read_bytes(), Path(path).parent
        except OSError as problem:
            reason = (problem.strerror or str(problem)).lower()
            raise ImageError(f"{images.describe(path)}: this list cannot be read: {reason}") from None
    lines = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [str(folder / os.fsdecode(line)) for line in lines if line.strip()]


def find(paths: Iterable[str | Path], recursive: bool = True) -> Iterator[Path]:
    """Yield every picture that the arguments mean, each once, in an order that is the same on every machine.

    - a file is yielded whatever its name; one that does not exist too, so that `mien.images.read` can say so;
    - a list file (.txt, .lst) gives one path a line, relative to the list's own folder; blank lines are skipped;
    - a folder gives its files with a picture's suffix, sorted by name, then its sub-folders' (unless `recursive` is
      False); hidden files and folders and links to folders are left out. A folder without a picture is itself yielded
      if it was named or is called like a picture, again so that `mien.images.read` can say so;
    - anything with `*`, `?` or `[` that is not an existing path is a pattern (`**` crosses folders).
    """
    seen: set[str] = set()
    for path in _expand(paths, recursive):
        if str(path) not in seen:
            seen.add(str(path))
            yield path


def _expand(paths: Iterable[str | Path], recursive: bool) -> Iterator[Path]:
    for given in paths:
        path = Path(given)
        try:
            exists, folder = path.exists(), path.is_dir()
        except (OSError, ValueError):  # a name too long for the file system, or with a null byte
            exists, folder = False, False
        if folder:
            yield from _walk(path, recursive, named=True)
        elif exists and path.suffix.lower() in LIST_SUFFIXES:
            yield from _listed(path, recursive)
        elif not exists and glob.has_magic(str(given)):
            matches = sorted(glob.glob(str(given), recursive=True))  # noqa: PTH207 - Path.glob refuses absolute patterns
            yield from _expand(matches, recursive) if matches else (path,)
        else:
            yield path


def _walk(folder: Path, recursive: bool, named: bool) -> Iterator[Path]:
    try:
        entries = sorted(
            (entry for entry in os.scandir(folder) if not entry.name.startswith(".")), key=lambda e: e.name
        )
    except OSError:  # a folder that cannot be listed is yielded: `read` names it and the reason
        yield folder
        return
    empty = True
    subfolders = []
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            subfolders.append(Path(entry.path))
        elif Path(entry.name).suffix.lower() in images.SUFFIXES:
            empty = False
            yield Path(entry.path)
    for subfolder in subfolders if recursive else ():
        for path in _walk(subfolder, recursive, named=False):
            empty = False
            yield path
    if empty and (named or folder.suffix.lower() in images.SUFFIXES):
        yield folder


def _listed(path: Path, recursive: bool) -> Iterator[Path]:
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise ImageError(f"{images.describe(path)}: this list cannot be read: {reason}") from None
    for line in lines:
        if line.strip():
            entry = path.parent / line.strip()
            yield from _expand([entry], recursive) if entry.suffix.lower() not in LIST_SUFFIXES else (entry,)


def _files(names: Iterable[str], ours: Path | None) -> list[str]:
    found = []
    for name in names:
        # Our own pictures are passed over in a folder that holds theirs, and taken where they are what was named.
        searched = ours is not None and Path(name).resolve() in ours.parents
        for path in find([name]):
            if not searched or ours not in path.resolve().parents:
                found.append(str(path))
    return found


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise ConfigError("standard input is closed: pipe something into it, or name a file")
    try:
        return sys.stdin.buffer.read()
    except OSError as problem:
        raise ConfigError(f"standard input cannot be read: {problem.strerror or problem}") from None


@dataclass(frozen=True, slots=True)
class Marks:
    """Where annotated pictures go: into `folder`, in the tree that the pictures have below `root`."""

    folder: Path
    root: Path

    @classmethod
    def below(cls, folder: Path, sources: Iterable[Source]) -> Marks:
        """Marks for these sources: their deepest common folder becomes the root.

        Raises:
            ConfigError: the annotated pictures would lie where the pictures lie, and could replace them.
        """
        folders = {str(Path(source).absolute().parent) for source in sources if isinstance(source, str)}
        root = Path(os.path.commonpath(folders)) if folders else Path()
        if folders and root.resolve() == folder.resolve():
            raise ConfigError(f"--annotate {folder} would replace your pictures: name another folder")
        return cls(folder, root)

    def path(self, source: Source) -> Path:
        """The annotated picture's file; its suffix is the picture's own where `mien` writes that format, else .jpg."""
        if not isinstance(source, str):
            return self.folder / "stdin.png"
        target = self.folder / Path(source).absolute().relative_to(self.root)
        if target.suffix.lower() in _WRITTEN:
            return target
        return target.with_name(target.name + ".jpg")
