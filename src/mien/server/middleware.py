"""Access checks as dependencies of routes, and middleware for security headers and request counts.

The page may load scripts, styles and pictures from this server alone, and no other site may frame it, read from it or
send to it. There are no CORS headers, so a browser keeps answers from other sites; cross-site requests are refused too,
as they would still cost processing time.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from fastapi import Request, Security
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket

from mien.server.limits import Refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from mien.server.metrics import Metrics

_STYLES = ("io/templates/page.css", "video/templates/summary.css")
"""Of the summary page of a video, which the page shows in a frame that has the page's own policy."""


def _hash(style: str) -> str:
    digest = hashlib.sha256((Path(__file__).parents[1] / style).read_bytes()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


SECURITY = {
    "Content-Security-Policy": "default-src 'self'; "
    f"style-src 'self' {' '.join(map(_hash, _STYLES))}; "
    "img-src 'self' data:; media-src 'self' blob:; frame-src blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), browsing-topics=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of every answer."""

ENDPOINTS = (
    "/v1/analyses",
    "/v1/edits",
    "/v1/batches",
    "/v1/videos",
    "/v1/tables",
    "/v1/jobs/{job}",
    "/v1/jobs/{job}/events",
    "/v1/jobs/{job}/files/{name}",
    "/v1/live",
    "/v1/models",
    "/v1/service",
    "/health",
    "/ready",
    "/metrics",
    "/openapi.json",
)
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class SecurityMiddleware:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, metrics: Metrics, hosts: tuple[str, ...] | None = None) -> None:
        """`hosts`: accepted host names, without port; None accepts any."""
        self.app = app
        self.metrics = metrics
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))  # where mounted
        start, status, started = time.monotonic(), 500, False

        async def dressed(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY)
                # Static files may be cached with revalidation; answers may not be cached.
                headers.setdefault("Cache-Control", "no-cache" if "etag" in headers else "no-store")
            await send(message)

        try:
            self._admit(Headers(scope=scope))
            await self.app(scope, receive, dressed)
        except Refusal as refusal:
            answer = JSONResponse(refusal.body, refusal.status, refusal.headers)
            await answer(scope, receive, dressed)
        except asyncio.CancelledError:  # the server stops, and this request's time to finish is over
            if started:
                raise
            late = Refusal(503, "stopping", "the server is being stopped: send it again", 5)
            answer = JSONResponse(late.body, late.status, {**late.headers, "Connection": "close"})
            await answer(scope, receive, dressed)
        finally:
            route = getattr(
                scope.get("route"), "path", path
            )  # with {job} in place of what nobody else may learn
            endpoint = next((known for known in (route, path) if known in ENDPOINTS), "page")
            self.metrics.requests.labels(endpoint, str(status)).inc()
            self.metrics.seconds.labels(endpoint).observe(time.monotonic() - start)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._admit(Headers(scope=scope))
        except Refusal as refusal:
            await deny(WebSocket(scope, receive, send), refusal)
            return
        await self.app(scope, receive, send)

    def _admit(self, headers: Headers) -> None:
        host = headers.get("host", "")
        if self.hosts is not None and _name(f"//{host}") not in self.hosts:
            raise Refusal(
                421,
                "wrong_host",
                f"this server does not answer to '{host[:80]}': call it {' or '.join(self.hosts)}",
            )


_BEARER = HTTPBearer(auto_error=False)


class KeyGuard:
    """A dependency that requires the key."""

    def __init__(self, key: str) -> None:
        self._key = _digest(key)

    async def __call__(self, request: Request, named: Annotated[Any, Security(_BEARER)] = None) -> None:
        """Raise a `Refusal` of status 401 without the key. `named` is for the OpenAPI document only."""
        self.check(request.headers)

    def check(self, headers: Headers, offered: str = "") -> None:
        """Raise a `Refusal` of status 401 if neither the headers hold the key nor `offered` is it."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        given = given.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", offered)
        if not hmac.compare_digest(_digest(given), self._key):
            raise Refusal(
                401, "wrong_key", "this server requires a key: send it as 'Authorization: Bearer KEY'"
            )


async def same_site(request: Request) -> None:
    """A dependency that refuses requests from pages of other sites with 403."""
    check_site(request.headers)


def check_site(headers: Headers) -> None:
    """Raise a `Refusal` of status 403 if a browser states that a page of another site sent this."""
    if _from_elsewhere(headers):
        raise Refusal(403, "cross_site", "another web site sent this request: use the server's own page")


async def deny(socket: WebSocket, refusal: Refusal) -> None:
    """Answer a WebSocket's handshake with a refusal instead of accepting it."""
    if "websocket.http.response" in socket.scope.get("extensions", {}):
        headers = {**SECURITY, "Cache-Control": "no-store", **refusal.headers}
        await socket.send_denial_response(JSONResponse(refusal.body, refusal.status, headers))
    else:  # the server of another application cannot say why: 403
        await socket.close()


def _digest(key: str) -> bytes:
    """A digest of fixed length, so that the time of a comparison does not depend on the length of the key sent."""
    return hashlib.sha256(key.encode()).digest()


def _from_elsewhere(headers: Headers) -> bool:
    """Whether a browser states that a page of another site sent this. Other programs do not state it, and pass."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


def _name(address: str) -> str | None:
    """The host name in an address, without port and brackets; None if there is none."""
    try:
        return urlsplit(address).hostname
    except ValueError:  # an unclosed bracket
        return None
