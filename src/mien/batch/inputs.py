"""List the pictures of a batch: paths and folders as in `mien predict`, URLs of pictures or folders, and manifests.

A manifest is a CSV or Parquet file with a column of picture names, relative to the manifest, absolute, or URLs; its
other columns are ignored.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from mien.batch.storage import BatchError, is_url, open_url, read, reason
from mien.errors import ConfigError
from mien.io.images import SUFFIXES, describe
from mien.io.inputs import PATH_COLUMNS, gather
from mien.io.manifests import MANIFESTS, Manifest
from mien.urls import without_secrets

COLUMNS: Final = (*PATH_COLUMNS, "input", "url")
"""Names accepted for the column of pictures, in order of preference."""


def pictures(given: Iterable[str], note: Callable[[Path], None] | None = None) -> list[str]:
    """All pictures that the arguments name, each once, in order: local paths as given, or URLs.

    Of one object with several signatures the last one is used. `note` is called with each link to a folder that was not
    followed.

    Raises:
        ConfigError: nothing is named, or a manifest has no column that names pictures.
        BatchError: a remote folder or a manifest cannot be read, or holds no picture.
        ImageError: a list file cannot be read.
    """
    names = list(given)
    if not names:
        raise ConfigError(
            "nothing to analyse: name pictures, folders, manifests or URLs, see  mien batch --help"
        )
    if "-" in names:
        raise ConfigError("- (standard input) is read by one process only: use mien predict")
    return list(
        {without_secrets(name): name for argument in names for name in _expand(argument, note)}.values()
    )


def _expand(given: str, note: Callable[[Path], None] | None) -> Iterable[str]:
    suffix = PurePosixPath(_path(given)).suffix.lower()
    if suffix in MANIFESTS and (is_url(given) or Path(given).is_file()):
        return _manifest(given, suffix)
    if not is_url(given):
        return (name for name in gather([given], note=note) if isinstance(name, str))
    return (given,) if suffix in SUFFIXES else _folder(given)


def _path(name: str) -> str:
    """A name without the query of a URL, which may hold a signature."""
    return name.partition("?")[0] if name.lower().startswith(("http://", "https://")) else name


def _folder(url: str) -> list[str]:
    """The pictures below a URL, sorted, without hidden ones."""
    system, path = open_url(url)
    root = path.strip("/")
    try:
        paths = sorted(str(name) for name in system.find(path))
    except (OSError, ValueError, RuntimeError) as problem:
        raise BatchError(f"{describe(url)}: cannot be listed: {reason(problem)}") from None
    kept = []
    for name in paths:
        below = PurePosixPath(name.strip("/").removeprefix(root))
        hidden = any(part.startswith(".") for part in below.parts)
        if below.suffix.lower() in SUFFIXES and not hidden:
            kept.append(f"{url.rstrip('/')}/{str(below).strip('/')}")
    if not kept:
        raise BatchError(f"{describe(url)}: no picture below it: check the URL and the right to list it")
    return kept


def _manifest(path: str, suffix: str) -> Iterator[str]:
    try:
        data = read(path) if is_url(path) else Path(path).read_bytes()
        table = Manifest(data, suffix)
        column = table.column(COLUMNS)
        if column is None:
            raise ConfigError(
                f"{describe(path)}: no column names the pictures, it has {', '.join(table.names) or 'none'}: "
                f"call one of them '{COLUMNS[0]}'"
            )
        folder = _path(path).rpartition("/")[0] if is_url(path) else str(Path(path).parent)
        for line, (name,) in table.rows(column):
            if not name:
                raise ConfigError(
                    f"{describe(path)}: row {line} names no picture: fill it in, or take it out"
                )
            yield name if is_url(name) else _within(folder, name)
    except (OSError, ValueError, csv.Error) as problem:  # ValueError: UTF-8 and Arrow
        raise BatchError(f"{describe(path)}: this manifest cannot be read: {reason(problem)}") from None


def _within(folder: str, name: str) -> str:
    return f"{folder}/{name}" if is_url(folder) and not name.startswith("/") else str(Path(folder) / name)
