"""Read and write the files of a batch in a local folder or behind a URL.

`s3://`, `gs://`, `abfs://` and `hdfs://` are handled by pyarrow, which the table needs anyway; every other scheme
(`sftp://`, `http://`, ...) by fsspec. Credentials come from their usual sources (environment, profile, role of the
machine); another S3-compatible server is set in `AWS_ENDPOINT_URL`.

Files are written atomically: locally by renaming, remotely because an object does not exist before its upload is
complete.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from mien.errors import ExtraMissing, MienError
from mien.io import atomic
from mien.io.images import describe
from mien.io.locks import FileLock, FileLocked

ARROW: Final = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
"""Schemes that pyarrow handles."""

LARGEST: Final = 2**31 - 1
"""Largest picture that is fetched, bytes."""

PAUSES: Final = (0.5, 2.0)
"""Pauses before a failed fetch is repeated, seconds."""

# What remote file systems raise if the server, the network or the credentials are wrong.
_FAILURES = (OSError, ValueError, NotImplementedError, RuntimeError)


class BatchError(MienError):
    """A batch cannot be started or cannot continue; the parts that were finished stay."""


def is_url(name: str) -> bool:
    """Whether this is a URL, not a local path."""
    scheme, separator, _ = name.partition("://")
    return bool(separator) and scheme.isascii() and scheme.replace("+", "").replace("-", "").isalnum()


@cache
def _system(scheme: str, host: str) -> Any:
    """The fsspec file system of a scheme and host; a bucket's region is detected on first use, so each host has its
    own."""
    try:
        import fsspec
    except ModuleNotFoundError:
        raise ExtraMissing("batch", "fsspec") from None
    if scheme not in ARROW:
        return fsspec.filesystem(scheme)
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow import fs

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if scheme == "s3" and endpoint:
        place = urlsplit(endpoint)
        return ArrowFSWrapper(
            fs.S3FileSystem(
                endpoint_override=place.netloc + place.path.rstrip("/"),
                scheme=place.scheme,
                region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
            )
        )
    return ArrowFSWrapper(fs.FileSystem.from_uri(f"{scheme}://{host}")[0])


def open_url(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path within it.

    Raises:
        BatchError: no installed library handles this scheme, or the server cannot be reached.
        ExtraMissing: fsspec is not installed.
    """
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    try:
        system = _system(scheme, rest.partition("/")[0])
    except (ImportError, *_FAILURES) as problem:
        raise BatchError(f"{describe(url)}: cannot be opened: {reason(problem)}") from None
    return system, rest if scheme in ARROW else system._strip_protocol(url)


def read(url: str) -> bytes:
    """All bytes of the file at a URL; errors that may be temporary are retried twice.

    Raises:
        OSError: it cannot be read, with the reason on one line.
    """
    for pause in (*PAUSES, None):
        try:
            system, path = open_url(url)
            with system.open(path, "rb") as file:
                data: bytes = file.read(LARGEST + 1)
            if len(data) > LARGEST:
                raise PermissionError("more than 2 GiB: is it a picture?")
            return data
        except FileNotFoundError:
            raise FileNotFoundError("no such file: check the URL") from None
        except (MienError, *_FAILURES) as problem:
            if pause is None or isinstance(problem, PermissionError):
                raise OSError(reason(problem)) from None
            time.sleep(pause)
    raise AssertionError("unreachable")


class Remote(BytesIO):
    """A remote picture that is fetched when it is read; `name` is the URL without secrets."""

    def __init__(self, name: str, fetch: Any) -> None:
        super().__init__()
        self.name = name
        self._fetch = fetch

    def read(self, size: int | None = -1) -> bytes:
        """All bytes of the picture, whatever `size`.

        Raises:
            OSError: it could not be fetched.
        """
        data: bytes = self._fetch()
        return data


@dataclass(frozen=True)
class Store:
    """A folder: `place` is a local path or a URL. Names within it may contain slashes."""

    place: str

    @property
    def remote(self) -> bool:
        """Whether it is a URL."""
        return is_url(self.place)

    def names(self, folder: str = "") -> set[str]:
        """Names of the files directly in a sub-folder; none if it does not exist.

        Raises:
            BatchError: it cannot be listed.
        """
        try:
            if not self.remote:
                place = Path(self.place, folder)
                return {entry.name for entry in os.scandir(place)} if place.is_dir() else set()
            system, path = open_url(f"{self.place.rstrip('/')}/{folder}".rstrip("/"))
            try:
                entries = system.ls(path, detail=False, refresh=True)
            except FileNotFoundError:
                return set()
            return {str(name).rstrip("/").rpartition("/")[2] for name in entries} - {""}
        except _FAILURES as problem:
            raise BatchError(f"{describe(self.place)}: cannot be listed: {reason(problem)}") from None

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            BatchError: it cannot be read.
        """
        try:
            if self.remote:
                return read(f"{self.place.rstrip('/')}/{name}")
            return Path(self.place, name).read_bytes()
        except OSError as problem:
            raise BatchError(f"{describe(self.place)}: {name} cannot be read: {reason(problem)}") from None

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically.

        Raises:
            BatchError: it cannot be written, or the disk is full.
        """
        try:
            if self.remote:
                system, path = open_url(f"{self.place.rstrip('/')}/{name}")
                with system.open(path, "wb") as file:
                    file.write(data)
            else:
                atomic.write({Path(self.place, name): data})
        except _FAILURES as problem:
            raise BatchError(
                f"{describe(self.place)}: cannot be written: {reason(problem)}: finished parts are kept; "
                "fix it and give the same command again"
            ) from None

    def make(self, folder: str = "") -> None:
        """Make a local sub-folder and its parents; object stores have no folders.

        Raises:
            BatchError: it cannot be made.
        """
        if self.remote:
            return
        try:
            Path(self.place, folder).mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise BatchError(
                f"{describe(self.place)}: cannot be made: {reason(problem)}: name another folder with --out"
            ) from None

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Lock the folder for this process; the OS releases the lock when the process exits.

        Object stores have no locks. There, nothing is overwritten (see `plan`), but a picture given to two runs at the
        same time is analysed twice.

        Raises:
            BatchError: another process holds it.
        """
        if self.remote:
            yield
            return
        try:
            lock = FileLock(Path(self.place, name), self.place)
        except FileLocked:
            raise BatchError(
                f"{describe(self.place)}: another mien batch writes here: wait for it, or name another folder"
            ) from None
        except OSError as problem:
            raise BatchError(f"{describe(self.place)}: cannot be written: {reason(problem)}") from None
        try:
            yield
        finally:
            lock.release()


def reason(problem: BaseException) -> str:
    """Why something failed, on one line."""
    text = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
    return " ".join(str(text).split())
