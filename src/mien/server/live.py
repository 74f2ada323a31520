"""Frames of a camera or a video over a WebSocket: one picture in, one answer out, never a queue.

`/v1/live` takes each frame as one binary message with a picture's file and answers with one line of JSON: the frame's
`analysis`, the same as that of `POST /v1/analyses`, and its `rows`, those of a table of `mien video` where they apply
(no tracking and smoothing, as the server knows nothing of other frames). The first message from the server names the
rows' `columns`. The next frame is read after the answer to the one before is sent, so a client sends the latest frame
whenever an answer arrives, and the rate follows what the server manages. A refusal is an answer too.

Key, host, origin, sizes and places in the pool are as for pictures that are posted. A browser cannot add headers to a
WebSocket, so the key may also be offered as a subprotocol, `mien.key.` and the key in base64url without padding.

Tests: tests/server/test_live.py.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from mien.io.columns import columns_of
from mien.server.limits import Refusal
from mien.server.middleware import KeyGuard, check_site, deny

if TYPE_CHECKING:
    from mien.server.app import ServerState

PATH: Final = "/v1/live"
PROTOCOL: Final = "mien.live"
"""The subprotocol that the server accepts."""
KEY: Final = "mien.key."
"""How the subprotocol begins that holds the key."""
IDLE: Final = 30.0
"""Seconds without a frame, or without an answer being read, after which a stream is closed."""
IDLE_CODE: Final = 4408
"""Close code of a stream that was idle: 4000 and the HTTP status of a timeout."""
TOO_LARGE_CODE: Final = 1009
"""Close code of a frame above the limit of an upload (RFC 6455, 7.4.1)."""
NOT_BINARY_CODE: Final = 1003
"""Close code of a text message (RFC 6455, 7.4.1)."""


class Streams:
    """The streams of one application; at most `limits.streams` at the same time."""

    def __init__(self, service: ServerState, guard: KeyGuard | None) -> None:
        self._service = service
        self._guard = guard
        self._open = 0

    async def serve(self, socket: WebSocket) -> None:
        """Answer the frames of one stream until the client leaves or is idle."""
        try:
            self._admit(socket)
        except Refusal as refusal:
            await deny(socket, refusal)
            return
        self._open += 1
        try:
            await socket.accept(PROTOCOL if PROTOCOL in socket.scope["subprotocols"] else None)
            await self._answer_frames(socket)
        except asyncio.TimeoutError:
            await socket.close(IDLE_CODE, f"no frame for {IDLE:g} seconds")
        except WebSocketDisconnect:
            return
        finally:
            self._open -= 1

    def _admit(self, socket: WebSocket) -> None:
        check_site(socket.headers)
        if self._guard is not None:
            self._guard.check(socket.headers, _offered_key(socket.scope["subprotocols"]))
        most = self._service.limits.streams
        if self._open >= most:
            raise Refusal(
                429, "busy", f"{most} streams are open, the most at once: close one or try later", 10
            )

    async def _answer_frames(self, socket: WebSocket) -> None:
        columns = columns_of(landmarks=False, labels=self._service.labels)
        await _send(socket, json.dumps({"columns": [column.name for column in columns]}))
        while True:
            message = await asyncio.wait_for(socket.receive(), IDLE)
            if message["type"] == "websocket.disconnect":
                return
            picture = message.get("bytes")
            if picture is None:
                await socket.close(NOT_BINARY_CODE, "send each frame as one binary message")
                return
            if len(picture) > self._service.limits.bytes:
                await socket.close(
                    TOO_LARGE_CODE, f"a frame holds more than {self._service.limits.bytes} bytes"
                )
                return
            await _send(socket, await self._answer(picture))

    async def _answer(self, picture: bytes) -> str:
        metrics, start, status = self._service.metrics, time.monotonic(), 200
        try:
            self._service.pool.check()
            with self._service.pool.place():
                header, body = await self._service.pool.run({"name": "", "rows": True}, picture)
        except Refusal as refusal:
            status = refusal.status
            return json.dumps(refusal.body)
        finally:
            metrics.requests.labels(PATH, str(status)).inc()
            metrics.seconds.labels(PATH).observe(time.monotonic() - start)
        metrics.faces.labels(PATH).inc(header["faces"])
        return body.decode()


def router(service: ServerState, guard: KeyGuard | None) -> APIRouter:
    """The route of the streams; `guard` checks the key, None requires none."""
    routes, streams = APIRouter(), Streams(service, guard)

    @routes.websocket(PATH)
    async def live(socket: WebSocket) -> None:
        await streams.serve(socket)

    return routes


async def _send(socket: WebSocket, text: str) -> None:
    await asyncio.wait_for(socket.send_text(text), IDLE)


def _offered_key(protocols: Any) -> str:
    """The key among the offered subprotocols; "" for none."""
    for protocol in protocols:
        if protocol.startswith(KEY):
            coded = protocol.removeprefix(KEY)
            try:
                return base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4)).decode()
            except (binascii.Error, UnicodeDecodeError):
                return ""
    return ""
