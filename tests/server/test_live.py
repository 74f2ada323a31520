"""The WebSocket of live frames: the answers of `POST /v1/analyses`, its guards, and limits of its own."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("wsproto")

import wsproto
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect
from wsproto import events

from mien.faces.pipeline import Pipeline
from mien.io import tables
from mien.server import live, protocol
from mien.server.limits import Limits
from mien.types import Analysis

from .conftest import Serve
from .stand_ins import Slow, StandIn, Whimsical
from .test_analyses import picture, post, refused
from .test_limits import config, run, wait_until

KEY = "correct-horse-battery"


def offered(key: str) -> list[str]:
    """The subprotocols by which the page sends a key."""
    coded = base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
    return [live.PROTOCOL, live.KEY + coded]


def ask(stream: Any, data: bytes) -> Any:
    stream.send_bytes(data)
    return stream.receive_json()


def test_frames_are_answered_with_the_analysis_and_the_rows_of_the_table(
    serve: Serve, pipeline: Pipeline, examples: Path
) -> None:
    data = (examples / "group_1.jpg").read_bytes()
    expected = pipeline(data)
    with serve().websocket_connect("/v1/live") as stream:
        columns = stream.receive_json()["columns"]
        for _ in range(2):
            answer = ask(stream, data)
            assert Analysis.from_dict(answer["analysis"]) == expected
            rows = [dict(zip(columns, row, strict=True)) for row in answer["rows"]]
            assert rows == tables.rows(expected, landmarks=False)
        (row,) = ask(stream, picture())["rows"]
        assert dict(zip(columns, row, strict=True))["faces"] == 0


def test_a_refused_frame_is_an_answer_and_the_stream_goes_on(serve: Serve, examples: Path) -> None:
    with serve().websocket_connect("/v1/live") as stream:
        stream.receive_json()
        assert ask(stream, b"no picture")["error"] == "not_a_picture"
        assert ask(stream, picture())["analysis"]["faces"] == []
    with serve(Whimsical()).websocket_connect("/v1/live") as stream:
        stream.receive_json()
        answer = ask(stream, b"defect")
        assert answer["error"] == "defect"
        assert "private" not in answer["message"]


def test_a_frame_finds_no_place_where_all_are_taken(serve: Serve, slow: Slow) -> None:
    client = serve(slow, limits=Limits(running=1, waiting=0))
    with client.websocket_connect("/v1/live") as one, client.websocket_connect("/v1/live") as other:
        one.receive_json()
        other.receive_json()
        one.send_bytes(picture())
        assert slow.has_begun()
        assert ask(other, picture())["error"] == "busy"
        slow.go.set()
        assert one.receive_json()["analysis"]["faces"] == []
        assert ask(other, picture())["analysis"]["faces"] == []


def test_a_frame_that_is_too_large_or_text_ends_the_stream(serve: Serve) -> None:
    client = serve(StandIn(), limits=Limits(bytes=100))
    for send, code in ((lambda s: s.send_bytes(bytes(101)), 1009), (lambda s: s.send_text("hello"), 1003)):
        with client.websocket_connect("/v1/live") as stream:
            stream.receive_json()
            send(stream)
            with pytest.raises(WebSocketDisconnect) as closed:
                stream.receive_json()
            assert closed.value.code == code
            assert closed.value.reason


def test_an_idle_stream_is_closed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "IDLE", 0.2)
    with serve(StandIn()).websocket_connect("/v1/live") as stream:
        stream.receive_json()
        with pytest.raises(WebSocketDisconnect) as closed:
            stream.receive_json()
        assert closed.value.code == live.IDLE_CODE


def test_streams_are_limited_and_a_closed_one_makes_room(serve: Serve) -> None:
    client = serve(StandIn(), limits=Limits(streams=1))
    for _ in range(2):
        with client.websocket_connect("/v1/live") as stream:
            stream.receive_json()
            with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/v1/live"):
                pass
            refused(denied.value, 429, "busy", "1 streams")
            assert denied.value.headers["retry-after"]


@pytest.mark.parametrize(
    "given",
    [
        {"headers": {"authorization": f"Bearer {KEY}"}},
        {"headers": {"x-api-key": KEY}},
        {"subprotocols": offered(KEY)},
    ],
)
def test_the_key_opens_it(serve: Serve, given: dict[str, Any]) -> None:
    with serve(StandIn(), api_key=KEY).websocket_connect("/v1/live", **given) as stream:
        assert stream.accepted_subprotocol == (live.PROTOCOL if "subprotocols" in given else None)
        stream.receive_json()
        assert ask(stream, picture())["analysis"]["faces"] == []


@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        ({}, 401, "wrong_key"),
        ({"subprotocols": offered("wrong-wrong-wrong")}, 401, "wrong_key"),
        ({"subprotocols": [live.PROTOCOL, live.KEY + "_w"]}, 401, "wrong_key"),
        ({"subprotocols": [live.PROTOCOL, live.KEY + "A"]}, 401, "wrong_key"),
        ({"headers": {"x-api-key": KEY, "origin": "https://evil.example"}}, 403, "cross_site"),
        ({"headers": {"x-api-key": KEY, "sec-fetch-site": "cross-site"}}, 403, "cross_site"),
        ({"headers": {"x-api-key": KEY, "host": "evil.example"}}, 421, "wrong_host"),
    ],
)
def test_guards_hold_for_the_handshake(serve: Serve, given: dict[str, Any], status: int, code: str) -> None:
    client = serve(StandIn(), api_key=KEY, hosts=("testserver",))
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/v1/live", **given):
        pass
    refused(denied.value, status, code)
    assert denied.value.headers["content-security-policy"]


def test_frames_are_counted_and_limits_are_those_of_posted_pictures(serve: Serve) -> None:
    client = serve(limits=Limits(pixels=1000, running=1))
    large = picture(40, 30)
    with client.websocket_connect("/v1/live") as stream:
        stream.receive_json()
        answer = ask(stream, large)
    assert answer == post(client, large).json()
    assert answer["error"] == "too_many_pixels"
    assert 'mien_requests_total{endpoint="/v1/live",status="413"} 1.0' in client.get("/metrics").text


class Connection:
    """A client with a real socket."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._protocol = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._send(events.Request(host="localhost", target="/v1/live"))

    def _send(self, event: Any) -> None:
        self._socket.sendall(self._protocol.send(event))

    def send(self, data: bytes) -> None:
        self._send(events.BytesMessage(data=data))

    def events(self) -> Iterator[Any]:
        while True:
            yield from self._protocol.events()
            data = self._socket.recv(65536)
            assert data, "the connection was closed"
            self._protocol.receive_data(data)

    def next(self, kind: type[Any]) -> Any:
        return next(event for event in self.events() if isinstance(event, kind))

    def close(self) -> None:
        self._socket.close()


def test_a_stream_outlives_the_timeout_of_headers_and_ends_with_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As `mien serve` runs it: the protocol's timeout of headers must not close what was upgraded."""
    monkeypatch.setattr(protocol, "HEADERS", 0.2)
    server, thread, port = run(config(StandIn(), limits=Limits(running=1)))
    connection = Connection(port)
    assert "columns" in json.loads(connection.next(events.TextMessage).data)
    time.sleep(0.5)
    connection.send(picture())
    assert json.loads(connection.next(events.TextMessage).data)["analysis"]["faces"] == []
    server.should_exit = True
    assert connection.next(events.CloseConnection).code == 1012
    thread.join(10)
    assert not thread.is_alive()
    connection.close()


def test_a_client_that_leaves_gives_its_place_back() -> None:
    server, thread, port = run(config(StandIn(), limits=Limits(running=1, streams=1)))
    for _ in range(2):
        connection = Connection(port)
        connection.next(events.TextMessage)
        connection.close()
        wait_until(lambda: not server.server_state.connections)
    server.should_exit = True
    thread.join(10)
