"""Serve a folder that `mien web` wrote, to browsers on this machine.

Any server of static files will do. This one also sends the headers that other servers need to be told of, see
`docs/browser.md`: with them a page has memory that threads can share.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from mien.errors import ConfigError

POLICY: Final = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'"
)
"""What the page may load: files of its own folder, and what it makes itself. The page states it too, in a <meta>."""

HEADERS: Final = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), browsing-topics=()",
    "Cache-Control": "no-cache",
}
"""Headers of every answer."""

TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
    ".txt": "text/plain; charset=utf-8",
}
"""Media types by suffix, whatever this machine's own table says; other files are bytes."""


class Handler(SimpleHTTPRequestHandler):
    """Answers with a file and `HEADERS`; folders are not listed."""

    server_version, sys_version = "mien", ""
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        """Answer until the browser closes the connection, also where it does so within a request."""
        with suppress(ConnectionError):
            super().handle()

    def end_headers(self) -> None:
        """Add the headers to every answer, refusals too."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def guess_type(self, path: Any) -> str:
        """The type of `TYPES`, or bytes."""
        return TYPES.get(Path(str(path)).suffix.lower(), "application/octet-stream")

    def list_directory(self, path: Any) -> None:
        """Refuse: only the page's own files are served."""
        self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing for each request."""


def server(folder: Path, port: int = 8000) -> ThreadingHTTPServer:
    """A server of `folder` on 127.0.0.1, not yet started; `port` 0 takes a free one.

    Raises:
        ConfigError: the port cannot be used.
    """
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, directory=str(folder)))
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise ConfigError(f"port {port}: {reason}: take another with --port (0 takes a free one)") from None
