"""Receive the upload of a job, which may be larger than memory, into one file.

Files of a form are appended to that file one after another, so that a thousand pictures are one open file; the other
fields stay in memory. `mien.server.uploads` receives single pictures, in memory alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from mien.server.limits import Limits, Refusal
from mien.server.uploads import FIELD_BYTES, FIELDS, RATE, SILENCE, discard, next_part, shown_name

if TYPE_CHECKING:
    from starlette.requests import Request

VIDEO = ("video/", "application/octet-stream")
"""Media types of a body that is a video."""


@dataclass
class StoredFile:
    """One file of a form: its name as sent ("" for none), where it is stored, and its size. Of a file above the limit
    only the size is known."""

    name: str
    start: int
    size: int = 0


@dataclass
class StoredUpload:
    """The upload of a job: its files in one at `path`, the other fields of its form, and the bytes and name of the
    picture in the field `baseline`, if there is one."""

    path: Path
    files: list[StoredFile] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    baseline: tuple[bytes, str] | None = None

    def read(self, file: StoredFile) -> bytes:
        """The bytes of one of the files."""
        with self.path.open("rb") as stored:
            stored.seek(file.start)
            return stored.read(file.size)


async def receive_job(
    request: Request, path: Path, limits: Limits, count: Callable[[int], None], video: bool = False
) -> StoredUpload:
    """Receive the upload of a job into `path`.

    Args:
        request: a form; or with `video` also a body that is the video.
        path: where the files are stored. limits: of jobs. count: called with the size of each part of the body; may
            refuse it. video: the form's `file` is one video of any size within `job_bytes`.

    Raises:
        Refusal: 400, 408, 413, 415, 422 or 429, see `docs/serving.md`.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    _, options = parse_options_header(request.headers.get("content-type", ""))
    upload = StoredUpload(path)
    try:
        with path.open("wb") as file:
            if kind == "multipart/form-data" and options.get(b"boundary"):
                form = _Form(file, upload, options[b"boundary"], limits, video)
                await _store(request, limits, form.write, count)
                form.check()
            elif video and kind.startswith(VIDEO):
                await _store(request, limits, file.write, count)
                upload.files.append(StoredFile("", 0, file.tell()))
                upload.fields = dict(request.query_params)
            else:
                raise Refusal(
                    415,
                    "wrong_media_type",
                    f"the request's media type is '{kind or 'missing'}': send a form (multipart/form-data) with "
                    + ("the video as 'file'" if video else "each picture as a field 'file'"),
                )
    except OSError as problem:
        raise Refusal(
            429, "disk_full", f"the upload cannot be stored ({problem.strerror}): try again later", 60
        ) from None
    if not any(part.size for part in upload.files):
        raise Refusal(422, "no_file", "the request holds no file: send one as form field 'file'")
    return upload


async def _store(
    request: Request, limits: Limits, write: Callable[[bytes], object], count: Callable[[int], None]
) -> None:
    stated = request.headers.get("content-length", "")
    size = int(stated) if stated.isdecimal() else 0
    arrived, began = 0, time.monotonic()
    more = True
    while more and max(size, arrived) <= limits.job_bytes:
        left = began + min(limits.job_seconds, SILENCE + arrived / RATE) - time.monotonic()
        try:
            chunk, more = await asyncio.wait_for(next_part(request), min(left, SILENCE))
        except asyncio.TimeoutError:
            raise Refusal(
                408,
                "upload_too_slow",
                f"the upload took longer than {limits.job_seconds:g} seconds, or stood still: send a smaller one",
            ) from None
        arrived += len(chunk)
        try:
            count(len(chunk))
            await run_in_threadpool(write, chunk)
        except Refusal:
            if more:
                await discard(request)
            raise
    if max(size, arrived) > limits.job_bytes:
        if more and "100-continue" not in request.headers.get("expect", ""):
            await discard(request)
        raise Refusal(
            413,
            "too_many_bytes",
            f"the upload holds more than {limits.job_bytes / 2**20:.1f} MB, the limit of a job: send it in parts, or "
            "start the server with a higher --max-job-bytes",
        )


class _Form:
    """Parses a form as it arrives."""

    def __init__(
        self, file: BinaryIO, upload: StoredUpload, boundary: bytes, limits: Limits, video: bool
    ) -> None:
        self._file, self._upload, self._limits, self._video = file, upload, limits, video
        self._header, self._value = b"", b""
        self._disposition = b""
        self._part: StoredFile | None = None
        self._key, self._text = "", bytearray()  # of a field in memory
        self._picture: str | None = None  # the name of the baseline, while it arrives
        self._whole = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._on_header,
                    "on_header_value": self._on_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers,
                    "on_part_data": self._on_data,
                    "on_part_end": self._on_end,
                    "on_end": self._on_whole,
                },
            )
        except FormParserError as problem:
            raise _unreadable(problem) from None

    def write(self, data: bytes) -> None:
        """Parse the next bytes of the body."""
        try:
            self._parser.write(data)
        except FormParserError as problem:
            raise _unreadable(problem) from None

    def check(self) -> None:
        """Refuse a form that is not complete."""
        if not self._whole:
            raise _unreadable("its end is missing")

    def _begin(self) -> None:
        self._disposition = b""

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise _unreadable("a part has no name")
        key = options[b"name"].decode("utf-8", "replace")
        self._part, self._key, self._text, self._picture = None, key, bytearray(), None
        if b"filename" in options:
            name = shown_name(options[b"filename"].decode("utf-8", "replace"))
            self._check_file(key)
            if key == "baseline":
                self._picture = name
            else:
                self._part = StoredFile(name, self._file.tell())
                self._upload.files.append(self._part)
        elif len(self._upload.fields) >= FIELDS:
            raise _unreadable(f"it has more than {FIELDS} fields")

    def _check_file(self, key: str) -> None:
        if key not in ("file", "baseline"):
            raise Refusal(422, "wrong_form", f"a file is in field '{key[:40]}': call it 'file'")
        if self._upload.baseline if key == "baseline" else self._video and self._upload.files:
            raise Refusal(422, "wrong_form", f"two files stand in field '{key}': send one")
        if key == "file" and len(self._upload.files) >= self._limits.job_pictures:
            raise Refusal(
                413,
                "too_many_pictures",
                f"a batch holds at most {self._limits.job_pictures} pictures: send it in parts, or start the server "
                "with a higher --max-job-pictures",
            )

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._part is None:
            self._text += data[start:end]
            if self._picture is not None and len(self._text) > self._limits.bytes:
                raise too_large(self._limits, "baseline: ")
            if self._picture is None and len(self._text) > FIELD_BYTES:
                raise _unreadable(f"field '{self._key[:40]}' is longer than {FIELD_BYTES} bytes")
            return
        self._part.size += end - start
        if self._part.size <= self._most:
            self._file.write(memoryview(data)[start:end])

    @property
    def _most(self) -> int:
        """Size up to which a file is stored; a larger picture gets an error instead of an analysis."""
        return self._limits.job_bytes if self._video else self._limits.bytes

    def _on_end(self) -> None:
        if self._picture is not None:
            self._upload.baseline = bytes(self._text), self._picture
        elif self._part is None:
            self._upload.fields[self._key] = self._text.decode("utf-8", "replace")
        elif self._part.size > self._most:
            self._file.seek(self._part.start)
            self._file.truncate()

    def _on_whole(self) -> None:
        self._whole = True


def too_large(limits: Limits, before: str = "") -> Refusal:
    """The refusal of a picture above the limit; `before` says which."""
    return Refusal(
        413,
        "too_many_bytes",
        f"{before}the picture holds more than {limits.bytes / 2**20:.1f} MB: scale it down, or start the "
        "server with a higher --max-bytes",
    )


def _unreadable(reason: object) -> Refusal:
    return Refusal(422, "wrong_form", f"the form cannot be read: {reason}")
