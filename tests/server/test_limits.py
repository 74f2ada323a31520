"""Concurrency and time: what is turned away, what is given up, and that places come back."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from starlette.requests import Request

from mien.errors import ConfigError
from mien.server import pool, protocol
from mien.server import uploads as receive
from mien.server.app import create_app
from mien.server.limits import Limits, Refusal

from .conftest import Serve
from .stand_ins import Failing, Late, Slow, StandIn, Unsendable, Whimsical
from .test_analyses import picture, post, refused


def wait_until(true: Any, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


@pytest.mark.parametrize("name", ["bytes", "pixels", "faces", "seconds", "running", "streams"])
def test_a_limit_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Limits(**{name: 0})
    with pytest.raises(ConfigError, match="waiting"):
        Limits(waiting=-1)


def test_one_too_many_at_once_gets_429_and_the_others_their_answers(serve: Serve, slow: Slow) -> None:
    client = serve(slow, limits=Limits(running=2, waiting=1))
    gate = client.app.state.service.pool  # type: ignore[attr-defined]
    with ThreadPoolExecutor(3) as threads:
        held = [threads.submit(post, client, picture()) for _ in range(3)]
        wait_until(lambda: gate.taken == 3)
        assert slow.has_begun()
        assert slow.has_begun()
        assert not slow.has_begun(0.1)  # the third waits
        answer = post(client, picture())
        refused(answer, 429, "busy", "3 requests", "again")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert client.get("/health").status_code == 200  # the loop is free all the while
        assert "mien_places_taken 3.0" in client.get("/metrics").text
        slow.go.set()
        assert [one.result().status_code for one in held] == [200, 200, 200]
    assert gate.taken == 0
    assert post(client, picture()).status_code == 200


def test_what_takes_too_long_gets_504_and_its_process_is_ended(serve: Serve) -> None:
    """Also where it holds the interpreter's lock in C, as a decoder may; the others are answered meanwhile."""
    client = serve(Whimsical(), limits=Limits(running=2, waiting=8))
    pool = client.app.state.service.pool  # type: ignore[attr-defined]
    wait_until(lambda: pool._loaded == 2, 60)
    before = set(pool._workers)
    pool.limits = replace(pool.limits, seconds=4)
    with ThreadPoolExecutor(5) as threads:
        late = threads.submit(post, client, picture() + b"hang")
        others = [threads.submit(post, client, picture()) for _ in range(4)]
        assert [other.result().status_code for other in others] == [200] * 4
        refused(late.result(), 504, "too_slow", "4 seconds", "--max-seconds")
    assert pool.taken == 0
    pool.limits = replace(pool.limits, seconds=60)
    assert [worker.alive() for worker in before].count(True) == 1
    assert [post(client, picture()).status_code for _ in range(4)] == [200] * 4


def test_what_kills_its_process_is_answered_and_the_process_replaced(
    serve: Serve, capfd: pytest.CaptureFixture[str]
) -> None:
    client = serve(Whimsical(), limits=Limits(running=1))
    first = post(client, picture() + b"process").json()["source"]
    refused(post(client, picture() + b"crash"), 500, "defect", "signal 11")
    second = post(client, picture() + b"process").json()["source"]
    refused(post(client, picture() + b"hoard"), 413, "too_costly", "memory")
    third = post(client, picture() + b"process").json()["source"]
    os.kill(int(third), signal.SIGKILL)  # while it is idle
    wait_until(lambda: third not in [str(child.pid) for child in multiprocessing.active_children()])
    fourth = post(client, picture() + b"process").json()["source"]
    assert len({first, second, fourth}) == 3
    assert second == third


def test_what_waited_too_long_is_never_begun(serve: Serve, slow: Slow) -> None:
    client = serve(slow, limits=Limits(running=1, waiting=1))
    gate = client.app.state.service.pool  # type: ignore[attr-defined]
    wait_until(lambda: gate._loaded == 1, 60)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(post, client, picture())
        assert slow.has_begun()
        gate.limits = replace(gate.limits, seconds=0.2)
        assert post(client, picture()).status_code == 504
        slow.go.set()
        assert first.result().status_code == 200
    assert not slow.has_begun(0.1)


class Sent:
    """A request whose parts come when the test says so."""

    def __init__(self, *parts: bytes, last: bool = False) -> None:
        scope = {
            "type": "http",
            "method": "POST",
            "headers": [(b"content-type", b"image/png")],
            "query_string": b"",
        }
        self.request = Request(scope, self.next)
        self.parts: asyncio.Queue[tuple[bytes, bool]] = asyncio.Queue()
        for part in parts:
            self.parts.put_nowait((part, True))

    async def next(self) -> Any:
        body, more = await self.parts.get()
        return {"type": "http.request", "body": body, "more_body": more}


def gone(limits: Limits, *parts: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        asyncio.run(receive.receive(Sent(*parts).request, receive.Uploads(limits)))
    assert caught.value.status == 408


def test_an_upload_that_does_not_arrive_gets_408(monkeypatch: pytest.MonkeyPatch) -> None:
    gone(Limits(seconds=0.05))
    monkeypatch.setattr(receive, "SILENCE", 0.05)
    gone(Limits())
    gone(Limits(), bytes(100_000))  # quick, then silent


def test_an_upload_that_trickles_gets_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receive, "SILENCE", 0.2)

    async def trickle() -> None:
        sent = Sent()
        arriving = asyncio.create_task(receive.receive(sent.request, receive.Uploads(Limits())))
        while not arriving.done():
            sent.parts.put_nowait((b"x", True))
            await asyncio.sleep(0.01)
        await arriving

    with pytest.raises(Refusal) as caught:
        asyncio.run(asyncio.wait_for(trickle(), 10))
    assert caught.value.status == 408


def test_uploads_hold_a_bounded_number_of_bytes_together() -> None:
    """Nine of the largest size where eight are held: the one that was silent longest is given up."""

    async def several() -> list[Any]:
        uploads = receive.Uploads(Limits(bytes=1000, running=1, waiting=0))
        sent = [Sent(bytes(999)) for _ in range(9)]
        arriving = []
        for one in sent:
            arriving.append(asyncio.create_task(receive.receive(one.request, uploads)))
            await asyncio.sleep(0.01)
        held = sum(upload.size for upload in uploads.under_way)
        for one in sent:
            one.parts.put_nowait((b"", False))
        return [held, *await asyncio.gather(*arriving, return_exceptions=True)]

    held, first, *rest = asyncio.run(several())
    assert held <= 8000
    assert isinstance(first, Refusal)
    assert first.status == 408
    assert [len(upload.data) for upload in rest] == [999] * 8


@contextmanager
def silent(port: int, count: int, sent: str) -> Iterator[list[socket.socket]]:
    """Connections that have sent this and say no more."""
    with ExitStack() as stack:
        connections = []
        for _ in range(count):
            connections.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20)))
            connections[-1].sendall(sent.encode())
        yield connections


def test_silent_uploads_keep_nobody_out() -> None:
    server, thread, port = run(config(StandIn(), limits=Limits(running=1, waiting=1)))
    head = (
        "POST /v1/analyses HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 99999\r\n\r\nx"
    )
    with silent(port, 10, head):
        wait_until(lambda: len(server.config.app.state.service.uploads.under_way) == 10)
        answer = httpx2.post(
            f"http://127.0.0.1:{port}/v1/analyses",
            content=picture(),
            headers={"content-type": "image/png"},
            timeout=30,
        )
        assert answer.status_code == 200
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("before", ["", "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_half_sent_headers_are_closed(monkeypatch: pytest.MonkeyPatch, before: str) -> None:
    monkeypatch.setattr(protocol, "HEADERS", 0.3)
    server, thread, port = run(config(StandIn()))
    with silent(port, 20, before) as connections:
        for connection in connections:
            while before and not connection.recv(4096).endswith(b'{"status":"ok"}'):
                pass
            connection.sendall(b"GET /health HTTP/1.1\r\nHos")
        assert [connection.recv(4096) for connection in connections] == [b""] * 20
    with httpx2.Client(
        base_url=f"http://127.0.0.1:{port}"
    ) as client:  # others, and several in one connection
        assert [client.get("/health").status_code for _ in range(3)] == [200] * 3
    server.should_exit = True
    thread.join(10)


def test_an_answer_that_nobody_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "READ", 0.3)

    async def large(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(50_000_000), "more_body": True})
        await send({"type": "http.response.body", "body": b"end"})

    import uvicorn

    server, thread, port = run(
        uvicorn.Config(large, port=0, log_level="error", http=protocol.BoundedProtocol, lifespan="off")
    )
    with silent(port, 1, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
        wait_until(lambda: server.server_state.connections)
        wait_until(lambda: not server.server_state.connections)
    assert len(httpx2.get(f"http://127.0.0.1:{port}", timeout=20).content) == 50_000_003
    server.should_exit = True
    thread.join(10)


def test_a_refused_upload_is_read_to_its_end_so_that_the_answer_arrives() -> None:
    """Through a real socket: a client that only reads after it has sent everything must still get its 413."""
    server, thread, port = run(config(StandIn(), limits=Limits(bytes=1000)))
    size = 3_000_000
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        head = f"POST /v1/analyses HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {size}\r\n\r\n"
        connection.sendall(head.encode() + b"\0" * size)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")
    server.should_exit = True
    thread.join(10)


def run(config: Any) -> tuple[Any, threading.Thread, int]:
    """Start a server in a thread; returns it, the thread and its port."""
    import uvicorn

    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    return server, thread, server.servers[0].sockets[0].getsockname()[1]


def config(given: Any, **options: Any) -> Any:
    """As `mien serve` runs an application."""
    import uvicorn

    from mien.cli.serve import GRACE

    return uvicorn.Config(
        create_app(given, **options),
        port=0,
        log_level="error",
        http=protocol.BoundedProtocol,
        ws="wsproto",
        timeout_graceful_shutdown=GRACE,
    )


def test_stopping_finishes_what_is_in_flight(slow: Slow) -> None:
    server, thread, port = run(config(slow))
    address = f"http://127.0.0.1:{port}"
    with ThreadPoolExecutor(1) as pool:
        headers = {"content-type": "image/png"}
        held = pool.submit(
            httpx2.post, f"{address}/v1/analyses", content=picture(), headers=headers, timeout=20
        )
        assert slow.has_begun()
        server.should_exit = True
        wait_until(lambda: not server.servers[0].sockets)  # it listens no longer
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{address}/health", timeout=5)
        assert thread.is_alive()
        slow.go.set()
        assert held.result().status_code == 200
    thread.join(10)
    assert not thread.is_alive()


def test_before_the_models_are_loaded(serve: Serve, tmp_path: Path) -> None:
    client = serve(Late(tmp_path / "loaded"))
    assert client.get("/health").json() == {"status": "ok"}
    for answer in (client.get("/ready"), client.get("/v1/models")):
        refused(answer, 503, "loading")
        assert answer.headers["retry-after"] == "2"
    with ThreadPoolExecutor(1) as threads:
        early = threads.submit(post, client, picture())
        (tmp_path / "loaded").touch()
        assert early.result().status_code == 200  # it waited
    assert client.get("/ready").status_code == 200


def test_models_that_cannot_be_loaded_are_named_and_tried_again(
    serve: Serve, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    client = serve(Failing(tmp_path / "mended"))
    refused(post(client, picture()), 503, "no_models", "home directory")
    answer = client.get("/ready")
    refused(answer, 503, "no_models", "RuntimeError: could not determine home directory")
    assert "retry-after" not in answer.headers
    (tmp_path / "mended").touch()
    wait_until(lambda: client.get("/ready").status_code == 200, 30)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with TestClient(create_app(options={"weights": str(tmp_path / "none.onnx")})) as client:
        refused(post(client, picture()), 503, "no_models", "none.onnx: no such file")


def test_loading_that_hangs_is_given_up(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "LOADING", 0.2)
    refused(post(serve(Late(tmp_path / "never")), picture()), 503, "no_models", "0.2 seconds")


def test_a_pipeline_that_cannot_be_sent_is_named(serve: Serve) -> None:
    refused(post(serve(Unsendable()), picture()), 503, "no_models", "pickle")
