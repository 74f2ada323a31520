"""Takes a picture out of a request, into memory and nowhere else.

A picture comes as a form (`multipart/form-data`, field `file`) or as the plain body. The usual form parsers move parts
above 1 MB to a temporary file; the one here never does, because no picture may touch the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from mien import images
from mien.server.limits import Limits, Refusal

if TYPE_CHECKING:
    from starlette.requests import Request

PLAIN = ("image/", "application/octet-stream")
"""Media types of a body that is the picture itself."""
LINGER = 2.0
"""Seconds in which an upload that is too large is read and thrown away, so that its sender gets to read the answer."""
FIELDS = 16
FIELD_BYTES = 4096


@dataclass(frozen=True)
class Upload:
    """A picture as it came: its bytes, what its sender calls it ("" for nothing), and the other fields of the form."""

    data: bytes
    name: str = ""
    fields: dict[str, str] = field(default_factory=dict)


class _InMemory(MultiPartParser):
    spool_max_size = 0  # SpooledTemporaryFile reads 0 as "never move to disk"


async def receive(request: Request, limits: Limits) -> Upload:
    """Read the picture and fields of a request.

    Raises:
        Refusal: 408, 413, 415 or 422, see `docs/serving.md`.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    form = kind == "multipart/form-data"
    if not form and not kind.startswith(PLAIN):
        raise Refusal(
            415,
            "wrong_media_type",
            f"the request's media type is '{kind or 'missing'}': send a form with the picture as 'file', or the "
            "picture itself as image/jpeg, image/png or application/octet-stream",
        )
    try:
        body = await asyncio.wait_for(_body(request, limits.bytes), limits.seconds)
    except asyncio.TimeoutError:
        raise Refusal(
            408,
            "upload_too_slow",
            f"the upload took longer than {limits.seconds:g} seconds: send a smaller file",
        ) from None
    upload = await _parsed(request, body) if form else Upload(body, "", dict(request.query_params))
    if not upload.data:
        raise Refusal(
            422, "no_picture", "the request holds no picture: send one as form field 'file' or as body"
        )
    return upload


def plain(problem: Exception, data: bytes) -> str:
    """An error's message without the name that pictures in memory have, which tells the sender nothing."""
    return str(problem).removeprefix(f"{images.describe(data)}: ")


async def _body(request: Request, most: int) -> bytes:
    stated = request.headers.get("content-length", "")
    chunks, size, more = [], 0, True
    too_large = stated.isdecimal() and int(stated) > most
    while more and not too_large:
        chunk, more = await _next(request)
        chunks.append(chunk)
        size += len(chunk)
        too_large = size > most
    if not too_large:
        return b"".join(chunks)
    chunks.clear()
    if more and "100-continue" not in request.headers.get("expect", ""):
        await _discard(request)
    about = f"{int(stated) / 2**20:.1f} MB" if stated.isdecimal() else f"more than {most / 2**20:.1f} MB"
    raise Refusal(
        413,
        "too_many_bytes",
        f"the upload holds {about}, the limit is {most / 2**20:.1f} MB: scale the picture down, or start the server "
        "with a higher --max-bytes",
    )


async def _next(request: Request) -> tuple[bytes, bool]:
    """The next part of the body, and whether more will come."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise Refusal(400, "gone", "the connection was closed during the upload")
    return message.get("body", b""), message.get("more_body", False)


async def _discard(request: Request) -> None:
    """Closing a connection with unread data resets it, and the answer is lost with it."""

    async def rest() -> None:
        while (await _next(request))[1]:
            pass

    try:
        await asyncio.wait_for(rest(), LINGER)
    except asyncio.TimeoutError:
        return


async def _parsed(request: Request, body: bytes) -> Upload:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = _InMemory(request.headers, stream(), max_files=1, max_fields=FIELDS, max_part_size=FIELD_BYTES)
    try:
        form = await parser.parse()
    except MultiPartException as problem:
        raise Refusal(422, "wrong_form", f"the form cannot be read: {problem.message}") from None
    fields: dict[str, str] = {}
    data, name = b"", ""
    try:
        for key, value in form.multi_items():
            if not isinstance(value, UploadFile):
                fields[key] = value
            elif key == "file":
                data, name = await value.read(), value.filename or ""
            else:
                raise Refusal(422, "wrong_form", f"the picture stands in field '{key[:40]}': call it 'file'")
    finally:
        await form.close()
    return Upload(data, _shown(name), fields)


def _shown(name: str) -> str:
    """A file's name without folders and control characters, at most 200 characters."""
    bare = PurePath(name.replace("\\", "/")).name
    return "".join(letter for letter in bare if letter.isprintable())[:200]
