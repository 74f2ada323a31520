"""Concurrency and time: what is turned away, what is given up, and that places come back."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mien.errors import ConfigError, WeightsError
from mien.server import models
from mien.server.limits import Gate, Limits, Refusal

from .conftest import Serve, Slow
from .test_analyses import picture, post, refused


def wait_until(true: Any, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


@pytest.mark.parametrize("name", ["bytes", "pixels", "faces", "seconds", "running"])
def test_a_limit_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Limits(**{name: 0})
    with pytest.raises(ConfigError, match="waiting"):
        Limits(waiting=-1)


def test_one_too_many_at_once_gets_429_and_the_others_their_answers(serve: Serve, slow: Slow) -> None:
    client = serve(slow, limits=Limits(running=2, waiting=1))
    gate = client.app.state.service.gate  # type: ignore[attr-defined]
    with ThreadPoolExecutor(3) as pool:
        held = [pool.submit(post, client, picture()) for _ in range(3)]
        wait_until(lambda: gate.taken == 3)
        slow.begun.acquire(timeout=5)
        slow.begun.acquire(timeout=5)
        assert not slow.begun.acquire(timeout=0.1)  # the third waits
        answer = post(client, picture())
        refused(answer, 429, "busy", "3 requests", "again")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert client.get("/health").status_code == 200  # the loop is free all the while
        assert "mien_places_taken 3.0" in client.get("/metrics").text
        slow.go.set()
        assert [one.result().status_code for one in held] == [200, 200, 200]
    assert gate.taken == 0
    assert post(client, picture()).status_code == 200


def test_what_takes_too_long_gets_504_and_keeps_its_place_until_it_ends(serve: Serve, slow: Slow) -> None:
    client = serve(slow, limits=Limits(running=1, waiting=0, seconds=0.15))
    refused(post(client, picture()), 504, "too_slow", "0.15 seconds", "--max-seconds")
    gate = client.app.state.service.gate  # type: ignore[attr-defined]
    assert gate.taken == 1  # the thread is still at it, and counts
    refused(post(client, picture()), 429, "busy")
    slow.go.set()
    wait_until(lambda: gate.taken == 0)
    assert post(client, picture()).status_code == 200


def test_what_waited_too_long_is_never_begun(serve: Serve, slow: Slow) -> None:
    client = serve(slow, limits=Limits(running=1, waiting=1, seconds=0.2))
    with ThreadPoolExecutor(2) as pool:
        answers = [one.result() for one in [pool.submit(post, client, picture()) for _ in range(2)]]
    assert [answer.status_code for answer in answers] == [504, 504]
    slow.go.set()
    gate = client.app.state.service.gate  # type: ignore[attr-defined]
    wait_until(lambda: gate.taken == 0)
    assert slow.begun.acquire(timeout=1)
    assert not slow.begun.acquire(timeout=0.1)


def test_an_upload_that_does_not_arrive_gets_408() -> None:
    from starlette.requests import Request

    from mien.server.receive import receive

    async def never() -> Any:
        await asyncio.sleep(60)

    scope = {
        "type": "http",
        "method": "POST",
        "headers": [(b"content-type", b"image/png")],
        "query_string": b"",
    }
    with pytest.raises(Refusal) as caught:
        asyncio.run(receive(Request(scope, never), Limits(seconds=0.05)))
    assert caught.value.status == 408


def test_a_refused_upload_is_read_to_its_end_so_that_the_answer_arrives() -> None:
    """Through a real socket: a client that only reads after it has sent everything must still get its 413."""
    import uvicorn

    from mien.server.app import create_app

    server, thread, port = run(
        uvicorn.Config(create_app(Slow(), limits=Limits(bytes=1000)), port=0, log_level="error")
    )
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


def test_stopping_finishes_what_is_in_flight(slow: Slow) -> None:
    import httpx2
    import uvicorn

    from mien.server.app import create_app

    server, thread, port = run(uvicorn.Config(create_app(slow), port=0, log_level="error"))
    address = f"http://127.0.0.1:{port}"
    with ThreadPoolExecutor(1) as pool:
        headers = {"content-type": "image/png"}
        held = pool.submit(
            httpx2.post, f"{address}/v1/analyses", content=picture(), headers=headers, timeout=20
        )
        assert slow.begun.acquire(timeout=10)
        server.should_exit = True
        wait_until(lambda: not server.servers[0].sockets)  # it listens no longer
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{address}/health", timeout=5)
        assert thread.is_alive()
        slow.go.set()
        assert held.result().status_code == 200
    thread.join(10)
    assert not thread.is_alive()


def test_before_the_models_are_loaded(monkeypatch: pytest.MonkeyPatch, slow: Slow) -> None:
    from mien.server.app import create_app

    loaded = threading.Event()

    def load(limits: Limits) -> models.Models:
        assert loaded.wait(10)
        return models.Models(slow, None, None, "no editor here")  # type: ignore[arg-type]

    monkeypatch.setattr(models, "load", load)
    with TestClient(create_app()) as client:
        assert client.get("/health").json() == {"status": "ok"}
        for answer in (client.get("/ready"), post(client, picture()), client.get("/v1/models")):
            refused(answer, 503, "loading")
            assert answer.headers["retry-after"] == "2"
        loaded.set()
        wait_until(lambda: client.get("/ready").status_code == 200)
        slow.go.set()
        assert post(client, picture()).status_code == 200


def test_models_that_cannot_be_loaded_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from mien.server.app import create_app

    def load(limits: Limits) -> models.Models:
        raise WeightsError("recogniser.onnx: no such weights: reinstall mien")

    monkeypatch.setattr(models, "load", load)
    with TestClient(create_app()) as client:
        wait_until(lambda: client.get("/ready").json()["error"] == "no_models")
        answer = client.get("/ready")
        refused(answer, 503, "no_models", "recogniser.onnx")
        assert "retry-after" not in answer.headers


def test_a_gate_gives_back_what_work_returns_or_raises() -> None:
    async def both() -> None:
        gate = Gate(1, 0, 5)
        with gate.place():
            assert await gate.run(lambda: 41 + 1) == 42
            with pytest.raises(KeyError):
                await gate.run(lambda: {}["nothing"])
        assert gate.taken == 0
        gate.close()

    asyncio.run(both())
