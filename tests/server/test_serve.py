"""`mien serve`: what it refuses to start with, and that it runs, stops and tells workers what to do."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image
from typer.testing import CliRunner

from mien.cli import serve
from mien.cli.main import app
from mien.errors import ConfigError
from mien.faces.recognise import SHIPPED
from mien.io import cards
from mien.server.answers import shipped

KEY = "correct-horse-battery"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (serve.KEY_VARIABLE, serve.SETTINGS, "PROMETHEUS_MULTIPROC_DIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def invoke(*arguments: str) -> Exception:
    problem = CliRunner().invoke(app, ["serve", *arguments]).exception
    assert isinstance(problem, Exception)
    return problem


def test_the_network_is_not_let_in_without_a_key() -> None:
    problem = invoke("--host", "0.0.0.0")
    assert isinstance(problem, ConfigError)
    assert "without a key" in str(problem)
    assert "MIEN_API_KEY" in str(problem)


def test_the_address_to_open_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "_run", lambda *_: None)
    monkeypatch.setattr(serve, "_check", lambda _: None)
    monkeypatch.setattr(serve, "_free", lambda *_: None)
    assert (
        "open http://127.0.0.1:8123 in a browser"
        in CliRunner().invoke(app, ["serve", "--port", "8123"]).stderr
    )
    monkeypatch.setenv(serve.KEY_VARIABLE, "a-key-of-the-test-that-is-long")
    elsewhere = CliRunner().invoke(app, ["serve", "--host", "0.0.0.0"])
    assert (elsewhere.exit_code, elsewhere.stderr) == (0, "")  # what its address is there, others know


def test_a_key_comes_from_the_file_or_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    assert serve.read_key(None) is None
    assert serve.read_key(file) == KEY
    monkeypatch.setenv("MIEN_API_KEY", "another-key-of-the-environment")
    assert serve.read_key(None) == "another-key-of-the-environment"
    assert serve.read_key(file) == KEY


@pytest.mark.parametrize(
    "key", ["", "short", "fifteen-letters", "spaced\nover two lines", "schlüssel-mit-umlaut"]
)
def test_a_poor_key_is_refused(key: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(key, encoding="utf-8")
    with pytest.raises(ConfigError, match="16 letters"):
        serve.read_key(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        serve.read_key(tmp_path / "nothing")


def started(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What uvicorn would be started with, and what the workers would be told."""
    uvicorn = pytest.importorskip("uvicorn")
    given: dict[str, Any] = {}
    monkeypatch.setattr(serve, "_check", lambda _: None)
    monkeypatch.setattr(uvicorn, "run", lambda target, **options: given.update(options, target=target))
    result = CliRunner().invoke(app, ["serve", *arguments])
    assert result.exit_code == 0, result.output
    return given, json.loads(os.environ[serve.SETTINGS])


def test_the_default_is_loopback_and_local_names(monkeypatch: pytest.MonkeyPatch) -> None:
    given, told = started(monkeypatch)
    assert (given["host"], given["port"]) == ("127.0.0.1", 8000)
    assert told["hosts"] == ["localhost", "127.0.0.1", "::1"]
    assert given["timeout_graceful_shutdown"] < 5
    assert told["limits"]["running"] >= 1


def test_workers_are_told_limits_key_and_hosts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    given, told = started(
        monkeypatch, "--host", "0.0.0.0", "--api-key-file", str(tmp_path / "key"), "--workers", "2",
        "--allow-host", "faces.example", "--max-faces", "7", "--max-bytes", "1000", "--running", "3",
    )  # fmt: skip
    assert given["workers"] == 2
    assert told["hosts"] == ["faces.example"]
    assert (told["limits"]["faces"], told["limits"]["bytes"], told["limits"]["running"]) == (7, 1000, 3)
    assert os.environ["MIEN_API_KEY"] == KEY
    assert KEY not in os.environ[serve.SETTINGS]
    made = serve.application()
    assert made.state.service.limits.faces == 7


def test_jobs_are_kept_by_one_server_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for more, kept in (((), 8), (("--jobs", "3"), 3), (("--workers", "2"), 0)):
        assert started(monkeypatch, *more)[1]["limits"]["jobs"] == kept
    words = ("--max-job-bytes", "1", "--max-job-seconds", "2", "--keep-seconds", "3", "--max-disk", "4")
    told = started(monkeypatch, *words, "--max-job-pictures", "5")[1]["limits"]
    assert [told[name] for name in ("job_bytes", "job_seconds", "kept", "disk", "job_pictures")] == [
        1,
        2,
        3,
        4,
        5,
    ]
    problem = invoke("--jobs", "2", "--workers", "2")
    assert isinstance(problem, ConfigError)
    assert "--workers" in str(problem)


def test_detection_has_the_options_of_the_command_line(
    monkeypatch: pytest.MonkeyPatch, recogniser_file: Path
) -> None:
    weights = str(recogniser_file)
    _, told = started(monkeypatch, "--tiled", "--detector", "haar", "--min-face", "30", "--weights", weights)
    assert told["options"]["tiled"] is True
    (limits, options) = serve.application().state.service.pool._arguments
    answers = shipped(limits, options)
    detector = answers._models.pipeline.detector.detector  # type: ignore[attr-defined]
    assert (type(detector).__name__, detector.tiled, detector.minimum) == ("Haar", True, 30)
    assert answers.describe()["cards"][-1]["name"] == cards.read(recogniser_file.with_suffix(".json")).name


@pytest.mark.parametrize("arguments", [("--detector", "nose"), ("--detector", "whole", "--tiled")])
def test_wrong_options_are_said_before_anything_is_started(arguments: tuple[str, ...]) -> None:
    assert isinstance(invoke(*arguments), ConfigError)


def test_a_port_in_use_is_one_line_with_the_remedy() -> None:
    import socket

    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        with pytest.raises(ConfigError, match=r"port \d+ is in use: .* --port"):
            serve._free("127.0.0.1", busy.getsockname()[1])
    serve._free("127.0.0.1", 0)
    with pytest.raises(ConfigError, match="cannot listen there"):  # an address for documentation
        serve._free("192.0.2.9", 0)


def test_a_configuration_folder_that_cannot_be_written_stops_no_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    options = dict.fromkeys(("tiled", "detector_model", "weights", "min_face", "min_confidence"))
    serve._check({**options, "detector": "auto"})
    assert "a key of this run only" in caplog.text


@contextmanager
def running(tmp_path: Path, *arguments: str) -> Iterator[tuple[httpx2.Client, Any]]:
    """The real command with the shipped weights, once it is ready; ended and looked at afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "mien", "serve", "--port", str(port), *arguments]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            for _ in range(240):
                try:
                    if client.get("/ready").status_code == 200:
                        break
                except httpx2.TransportError:
                    pass
                time.sleep(0.25)
            yield client, process
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM), said  # uvicorn raises the signal again once it is done
    assert "Traceback" not in said
    assert not list(tmp_path.glob("mien-metrics-*"))


def scan_bomb() -> bytes:
    """A picture that takes long to decode, within all limits: 50 scans of 60 megapixels."""
    stream = io.BytesIO()
    Image.new("RGB", (7800, 7800)).save(stream, "JPEG", progressive=True)
    scans = stream.getvalue()[:-2].split(b"\xff\xda")
    return b"\xff\xda".join([*scans, *scans[-1:] * (51 - len(scans))]) + b"\xff\xd9"


@pytest.mark.slow
@pytest.mark.skipif(not SHIPPED.exists(), reason="the recogniser's weights are not in this package")
@pytest.mark.parametrize("workers", [1, 2])
def test_it_runs_and_stops(examples: Path, tmp_path: Path, workers: int) -> None:
    """Ready, a right answer, counts of all workers, a clean end."""
    with running(tmp_path, "--workers", str(workers)) as (client, _):
        data = (examples / "portrait_smiling.jpg").read_bytes()
        headers = {"content-type": "image/jpeg"}
        answers = [
            httpx2.post(client.base_url.join("/v1/analyses"), content=data, headers=headers, timeout=60)
            for _ in range(4)
        ]
        assert [len(answer.json()["faces"]) for answer in answers] == [1] * 4
        assert 'mien_faces_total{endpoint="/v1/analyses"} 4.0' in client.get("/metrics").text


@pytest.mark.slow
@pytest.mark.skipif(not SHIPPED.exists(), reason="the recogniser's weights are not in this package")
def test_a_picture_that_takes_too_long_holds_up_neither_others_nor_the_end(
    examples: Path, tmp_path: Path
) -> None:
    headers = {"content-type": "image/jpeg"}
    normal = (examples / "portrait_smiling.jpg").read_bytes()
    with (
        running(tmp_path, "--max-seconds", "2", "--running", "1") as (client, process),
        ThreadPoolExecutor(2) as threads,
    ):
        bad = [threads.submit(client.post, "/v1/analyses", content=scan_bomb(), headers=headers)]
        assert bad[0].result().status_code == 504
        assert [
            client.post("/v1/analyses", content=normal, headers=headers).status_code for _ in range(4)
        ] == [200] * 4
    with (
        running(tmp_path, "--running", "1") as (client, process),
        ThreadPoolExecutor(1) as threads,
    ):
        bad = [threads.submit(client.post, "/v1/analyses", content=scan_bomb(), headers=headers)]
        time.sleep(1)
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        assert time.monotonic() - start < 5, "SIGTERM was not obeyed in time"
        assert bad[0].result().json()["error"] in ("stopping", None), "a fast machine has the answer by then"
