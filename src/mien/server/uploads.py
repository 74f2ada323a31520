"""Receive the picture of a request in memory.

A picture is sent as a form (`multipart/form-data`, field `file`) or as the plain body. The default form parser moves
parts above 1 MB to a temporary file; the one here never does, as no picture may touch the disk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from mien.server.limits import Limits, Refusal

if TYPE_CHECKING:
    from starlette.requests import Request

PLAIN = ("image/", "application/octet-stream")
"""Media types of a body that is a picture."""
LINES = ("application/jsonl", "application/octet-stream")
"""Media types of a body that is lines of JSON."""
LINGER = 2.0
"""Seconds for which the rest of an upload that is too large is read and discarded, so that the client can read the
answer."""
SILENCE = 10.0
"""Seconds without a byte after which an upload is aborted."""
RATE = 2048
"""Least mean rate of an upload, bytes per second, after the first seconds."""
FIELDS = 16
FIELD_BYTES = 4096


@dataclass(frozen=True)
class Upload:
    """A received picture: its bytes, its name as sent ("" for none), and the other fields of the form; and the bytes
    and name of the picture in the field `baseline`, and of that in `teeth_from`, if there is one."""

    data: bytes
    name: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    baseline: tuple[bytes, str] | None = None
    teeth_from: tuple[bytes, str] | None = None


class _InMemory(MultiPartParser):
    spool_max_size = 0  # SpooledTemporaryFile reads 0 as "never move to disk"


class Uploads:
    """The uploads in progress; their total size is bounded.

    An upload takes no place among the processed requests, so stalled ones block nobody. It is aborted after `SILENCE`
    seconds without a byte, if it is slower than `RATE`, and after `limits.seconds`. If the total size is exceeded, the
    uploads without data for longest are aborted.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.most = limits.bytes * max(8, limits.running + limits.waiting)
        self.under_way: set[_Arriving] = set()

    @contextmanager
    def begin(self) -> Iterator[_Arriving]:
        """An upload that begins now and ends with the block."""
        upload = _Arriving(self)
        self.under_way.add(upload)
        try:
            yield upload
        finally:
            self.under_way.discard(upload)


class _Arriving:
    def __init__(self, uploads: Uploads) -> None:
        self.chunks: list[bytes] = []
        self.size = 0
        self._uploads = uploads
        self._began = self._heard = time.monotonic()
        self._given_up = False

    async def next(self, request: Request) -> bool:
        """Store the next part of the body; return whether more will come."""
        limits = self._uploads.limits
        end = min(limits.seconds, SILENCE + self.size / RATE) + self._began
        try:
            chunk, more = await asyncio.wait_for(
                next_part(request), min(end, self._heard + SILENCE) - time.monotonic()
            )
        except asyncio.TimeoutError:
            self._given_up = True
        if self._given_up:
            raise Refusal(
                408,
                "upload_too_slow",
                f"the upload took longer than {limits.seconds:g} seconds, or stood still: send a smaller file",
            )
        self._heard = time.monotonic()
        self.chunks.append(chunk)
        self.size += len(chunk)
        others = sorted(self._uploads.under_way - {self}, key=lambda other: other._heard)
        excess = sum(other.size for other in others) + self.size - self._uploads.most
        for other in others:
            if excess <= 0:
                break
            excess -= other.size
            other._given_up = True
            other.chunks.clear()
            other.size = 0
        return more


async def receive(
    request: Request,
    uploads: Uploads,
    plain: tuple[str, ...] = PLAIN,
    smaller: str = "scale the picture down",
) -> Upload:
    """Read the picture, or whatever `plain` are the media types of, and the fields of a request.

    `smaller` is the remedy for an upload that is too large.

    Raises:
        Refusal: 408, 413, 415 or 422, see `docs/serving.md`.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    form = kind == "multipart/form-data"
    if not form and not kind.startswith(plain):
        itself = "image/jpeg, image/png or application/octet-stream" if plain is PLAIN else " or ".join(plain)
        raise Refusal(
            415,
            "wrong_media_type",
            f"the request's media type is '{kind or 'missing'}': send a form with the file as 'file', or the file "
            f"itself as {itself}",
        )
    body = await _body(request, uploads, smaller)
    upload = await _parsed(request, body) if form else Upload(body, "", dict(request.query_params))
    if not upload.data:
        raise Refusal(
            422, "no_picture", "the request holds no file: send one as form field 'file' or as body"
        )
    return upload


async def _body(request: Request, uploads: Uploads, smaller: str) -> bytes:
    most = uploads.limits.bytes
    stated = request.headers.get("content-length", "")
    more, too_large = True, stated.isdecimal() and int(stated) > most
    with uploads.begin() as upload:
        while more and not too_large:
            more = await upload.next(request)
            too_large = upload.size > most
        if not too_large:
            return b"".join(upload.chunks)
    if more and "100-continue" not in request.headers.get("expect", ""):
        await discard(request)
    about = f"{int(stated) / 2**20:.1f} MB" if stated.isdecimal() else f"more than {most / 2**20:.1f} MB"
    raise Refusal(
        413,
        "too_many_bytes",
        f"the upload holds {about}, the limit is {most / 2**20:.1f} MB: {smaller}, or start the server with a higher "
        "--max-bytes",
    )


async def next_part(request: Request) -> tuple[bytes, bool]:
    """The next part of the body, and whether more will come."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise Refusal(400, "gone", "the connection was closed during the upload")
    return message.get("body", b""), message.get("more_body", False)


async def discard(request: Request) -> None:
    """Read the rest of the body: closing a connection with unread data resets it, and the answer is lost."""

    async def rest() -> None:
        while (await next_part(request))[1]:
            pass

    try:
        await asyncio.wait_for(rest(), LINGER)
    except asyncio.TimeoutError:
        return


async def _parsed(request: Request, body: bytes) -> Upload:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = _InMemory(request.headers, stream(), max_files=2, max_fields=FIELDS, max_part_size=FIELD_BYTES)
    try:
        form = await parser.parse()
    except MultiPartException as problem:
        raise Refusal(422, "wrong_form", f"the form cannot be read: {problem.message}") from None
    fields: dict[str, str] = {}
    pictures: dict[str, tuple[bytes, str]] = {}
    try:
        for key, value in form.multi_items():
            if not isinstance(value, UploadFile):
                fields[key] = value
            elif key in pictures:
                raise Refusal(422, "wrong_form", f"two pictures stand in field '{key}': send one")
            elif key in ("file", "baseline", "teeth_from"):
                pictures[key] = await value.read(), shown_name(value.filename or "")
            else:
                raise Refusal(422, "wrong_form", f"the picture is in field '{key[:40]}': call it 'file'")
    finally:
        await form.close()
    file = pictures.get("file", (b"", ""))
    return Upload(*file, fields, pictures.get("baseline"), pictures.get("teeth_from"))


def shown_name(name: str) -> str:
    """A file's name without folders and control characters, at most 200 characters."""
    bare = PurePath(name.replace("\\", "/")).name
    return "".join(letter for letter in bare if letter.isprintable())[:200]
