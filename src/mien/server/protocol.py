"""uvicorn's HTTP/1.1 protocol with timeouts for request headers and slow readers, which it does not have.

Bodies are bounded by `mien.server.uploads`, and idle connections by uvicorn. For a server of your own:
`uvicorn.Config(app, http=BoundedProtocol)`; a reverse proxy such as nginx or Caddy has such timeouts too.
"""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS: Final = 10.0
"""Seconds within which the headers of a request must arrive, from the connection's or the request's first byte on."""
READ: Final = 10.0
"""Seconds within which a client must read at least `READ_BYTES` of a pending answer."""
READ_BYTES: Final = 20_000


class BoundedProtocol(H11Protocol):
    """One connection. Headers above 16 kB are refused by h11."""

    _waiting: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout of the first request."""
        super().connection_made(transport)
        self._watch_headers()

    def data_received(self, data: bytes) -> None:
        """Handle received data, and stop the timeout once the headers are complete."""
        super().data_received(data)
        self._watch_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timeouts."""
        for timer in (self._waiting, self._reading):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the timeout of a slow reader."""
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        """Stop the timeout of a slow reader."""
        super().resume_writing()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _watch_headers(self) -> None:
        upgraded = self.transport.get_protocol() is not self  # a WebSocket, which has timeouts of its own
        if upgraded or not self._between_requests():
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None
        elif self._waiting is None and not self.transport.is_closing():
            self._waiting = self.loop.call_later(HEADERS, self._give_up)

    def _give_up(self) -> None:
        self._waiting = None
        if self._between_requests():
            self.transport.close()

    def _watch_reader(self, before: int | None = None) -> None:
        left = self.transport.get_write_buffer_size()
        if before is not None and left > before - READ_BYTES:
            self.transport.abort()
        else:
            self._reading = self.loop.call_later(READ, self._watch_reader, left)
