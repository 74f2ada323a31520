"""The server of a written folder: its headers, its types, and nothing beyond the folder."""

from __future__ import annotations

import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from mien.errors import ConfigError
from mien.web.serving import HEADERS, POLICY, server


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A served folder, with a file beside it."""
    folder = tmp_path / "site"
    (folder / "engine").mkdir(parents=True)
    for name in ("index.html", "app.js", "ort.mjs", "x.onnx", "x.bin", "site.webmanifest"):
        (folder / name).write_text(name)
    (tmp_path / "secret.txt").write_text("beside the folder")
    with server(folder, 0) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}/"
        running.shutdown()
        thread.join()


def test_every_answer_has_the_headers(address: str) -> None:
    with urllib.request.urlopen(address) as answer:
        assert answer.read() == b"index.html"
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        urllib.request.urlopen(f"{address}absent.js")
    with refused.value as answer:
        assert answer.headers["Content-Security-Policy"].startswith(POLICY)


def test_the_policy_allows_webassembly_and_no_other_evaluation() -> None:
    assert "script-src 'self' 'wasm-unsafe-eval';" in POLICY
    assert "'unsafe-eval'" not in POLICY
    assert "'unsafe-inline'" not in POLICY
    assert "http" not in POLICY
    assert HEADERS["Cross-Origin-Opener-Policy"] == "same-origin"
    assert HEADERS["Cross-Origin-Embedder-Policy"] == "require-corp"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("app.js", "text/javascript; charset=utf-8"),
        ("ort.mjs", "text/javascript; charset=utf-8"),
        ("x.onnx", "application/octet-stream"),
        ("x.bin", "application/octet-stream"),
        ("site.webmanifest", "application/manifest+json"),
    ],
)
def test_files_have_their_types(address: str, name: str, kind: str) -> None:
    with urllib.request.urlopen(address + name) as answer:
        assert answer.headers["Content-Type"] == kind
        assert answer.headers["Content-Encoding"] is None


@pytest.mark.parametrize("path", ["engine/", "../secret.txt", "%2e%2e/secret.txt"])
def test_nothing_else_is_served(address: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        urllib.request.urlopen(address + path)
    refused.value.close()


def test_a_browser_that_goes_away_is_no_error(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    port = int(address.rstrip("/").rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as browser:
        browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, not closed
        browser.sendall(b"GET /app.js HTTP/1.1\r\nHost")
    with urllib.request.urlopen(f"{address}app.js") as answer:
        assert answer.status == 200
    assert capsys.readouterr().err == ""


def test_a_port_in_use_is_one_clear_error(address: str, tmp_path: Path) -> None:
    port = int(address.rstrip("/").rpartition(":")[2])
    with pytest.raises(ConfigError, match=rf"port {port}: .*--port"):
        server(tmp_path, port)
