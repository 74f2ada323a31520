"""`mien.Client` through a real server: the same results as the package in this process, and the same errors."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

import mien
from mien import client as client_module
from mien.client import Client, ServerError
from mien.editing.editor import Editor
from mien.editing.results import EditRefused
from mien.editing.signing import Signer
from mien.editing.target import Target
from mien.errors import (
    ConfigError,
    ExtraMissing,
    ImageError,
    MienError,
    NoFace,
    NotAPicture,
    OutputExists,
    TooLarge,
)
from mien.faces.pipeline import Pipeline, load
from mien.io import images, tables
from mien.io.video import VideoError
from mien.server.app import create_app
from mien.server.limits import Limits

KEY = "correct-horse-battery"


class Running:
    """A server in a thread."""

    def __init__(self, app: Any) -> None:
        import uvicorn

        self.app = app
        self._server = uvicorn.Server(
            uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1)
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        end = time.monotonic() + 20
        while not self._server.started:
            assert time.monotonic() < end
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)


@pytest.fixture(scope="module")
def pipeline(recogniser_file: Path) -> Pipeline:
    return load(weights=recogniser_file, threads=1)


@pytest.fixture(scope="module")
def server(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    signer = Signer.of_install(tmp_path_factory.mktemp("signing"))
    limits = Limits(running=1, pixels=2_000_000)
    running = Running(create_app(pipeline, Editor.load(pipeline), signer=signer, limits=limits, api_key=KEY))
    yield running
    running.stop()


@pytest.fixture
def client(server: Running) -> Iterator[Client]:
    with Client(server.url, api_key=KEY) as client:
        yield client


@pytest.fixture(scope="module")
def portrait(examples: Path) -> Path:
    return examples / "portrait_smiling.jpg"


def test_importing_mien_imports_no_httpx() -> None:
    code = (
        "import sys, mien; assert 'httpx' not in sys.modules; mien.Client; assert 'httpx' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_httpx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ExtraMissing, match=r"mien\[client\]"):
        Client()


def test_an_analysis_is_that_of_the_pipeline(client: Client, pipeline: Pipeline, portrait: Path) -> None:
    rgb = images.read(portrait)
    for picture in (portrait, str(portrait), portrait.read_bytes(), rgb, Image.fromarray(rgb), rgb[..., 0]):
        expected = pipeline(picture)
        assert client.analyse(picture) == expected, type(picture)
        assert len(expected.faces) == 1
    with portrait.open("rb") as file, portrait.open("rb") as other:
        assert client.analyse(file) == pipeline(other)


def test_a_baseline_gives_the_changes(
    client: Client, pipeline: Pipeline, portrait: Path, examples: Path
) -> None:
    neutral = examples / "portrait_neutral.jpg"
    expected = pipeline(portrait).relative_to(pipeline.baseline(neutral))
    assert client.analyse(portrait, baseline=neutral) == expected
    assert client.analyse_many([portrait], baseline=neutral) == [expected]
    with pytest.raises(ConfigError, match="6 faces"):
        client.analyse(portrait, baseline=examples / "group_1.jpg")
    with pytest.raises(NoFace, match="baseline"):
        client.analyse_many([portrait], baseline=np.zeros((90, 90, 3), np.uint8))


def test_many_are_those_of_the_pipeline_with_errors_in_their_places(
    client: Client, pipeline: Pipeline, portrait: Path, examples: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    bad = tmp_path / "bad.jpg"
    bad.write_text("hello, I am a text")
    given = [portrait, tmp_path / "none.jpg", examples / "group_1.jpg", bad, portrait, images.read(portrait)]
    expected = pipeline([*given])
    assert [analysis.error is None for analysis in expected] == [True, False, True, False, True, True]
    for most in (256, 2):
        monkeypatch.setattr(client_module, "MANY", most)
        told: list[int] = []

        def tell(done: int, total: int, told: list[int] = told) -> None:
            assert total == 6
            told.append(done)

        assert client.analyse_many(iter(given), progress=tell) == expected
        assert told == [1, 2, 3, 4, 5, 6]
    assert client.analyse_many([]) == []


def test_a_server_without_jobs_analyses_many_one_by_one(
    pipeline: Pipeline, portrait: Path, tmp_path: Path
) -> None:
    running = Running(create_app(pipeline, limits=Limits(running=1, jobs=0)))
    bad = tmp_path / "bad.jpg"
    bad.write_text("hello, I am a text")
    try:
        with Client(running.url) as client:
            assert client.analyse_many([portrait, bad]) == pipeline([portrait, bad])
            with pytest.raises(ServerError, match="--jobs") as refused:
                client.video(portrait)
            assert (refused.value.status, refused.value.code) == (501, "no_jobs")
    finally:
        running.stop()


def test_an_edit_is_that_of_the_editor(
    client: Client, pipeline: Pipeline, portrait: Path, examples: Path
) -> None:
    editor = Editor.load(pipeline)
    neutral = examples / "portrait_neutral.jpg"
    for picture in (neutral, images.read(neutral)):
        expected = editor(picture, "happiness", 0.7, mouth="open")
        edit = client.edit(picture, "happiness", 0.7, mouth="open", consent=True, mark=False)
        np.testing.assert_array_equal(edit.image, expected.image)
        np.testing.assert_array_equal(edit.original.rgb, expected.original.rgb)
        assert (edit.image != edit.original.rgb).any()
        assert edit.faces == expected.faces
        assert edit.target == expected.target
        assert images.file_type(edit.photo.data) == "PNG"
    moved = client.edit(neutral, None, actions={"jawOpen": 0.4}, mark=False)
    by_hand = editor(neutral, Target.of_actions({"jawOpen": 0.4}))
    np.testing.assert_array_equal(moved.image, by_hand.image)
    for target in (None, "sadness"):
        turned = client.edit(neutral, target, gaze=(0.5, -0.25), mark=False)
        glance = Target.of_gaze(0.5, -0.25)
        by_hand = editor(neutral, glance if target is None else Target.parse(target) & glance)
        np.testing.assert_array_equal(turned.image, by_hand.image)
        assert turned.faces == by_hand.faces
        assert turned.target == by_hand.target
    by_hand = editor(neutral, Target.of_actions({"jawOpen": 0.4}))
    marked = client.edit(neutral, None, actions={"jawOpen": 0.4})
    assert (marked.image != by_hand.image).any()
    with pytest.raises(ConfigError, match="happyness"):
        client.edit(neutral, "happyness")
    with pytest.raises(NoFace):
        client.edit(np.zeros((90, 90, 3), np.uint8), (0.5, 0.5))
    small = images.read(neutral)[::8, ::8]
    with pytest.raises((EditRefused, NoFace)):
        client.edit(np.ascontiguousarray(small), "anger")


def test_errors_are_those_of_the_package(client: Client, pipeline: Pipeline, tmp_path: Path) -> None:
    text, cut, empty = tmp_path / "text.jpg", tmp_path / "cut.png", tmp_path / "empty.jpg"
    text.write_text("hello, I am a text")
    Image.new("RGB", (300, 300)).save(cut)
    cut.write_bytes(cut.read_bytes()[:-80])
    empty.touch()
    for path, kind in ((text, NotAPicture), (cut, ImageError), (tmp_path / "none.jpg", ImageError)):
        with pytest.raises(MienError) as local:
            pipeline(path)
        with pytest.raises(kind) as remote:
            client.analyse(path)
        assert type(remote.value) is type(local.value)
        assert str(remote.value) == str(local.value)
    with pytest.raises(ImageError, match=r"empty\.jpg"):
        client.analyse(empty)
    with pytest.raises(TooLarge, match="--max-pixels"):
        client.analyse(np.zeros((2000, 2000, 3), np.uint8))
    with pytest.raises(ImageError, match="RGB"):
        client.analyse(np.zeros((7, 9, 5), np.uint8))


def test_what_the_server_says_for_itself_is_a_server_error(
    server: Running, client: Client, portrait: Path
) -> None:
    client.analyse(portrait)  # the models are loaded
    with Client(server.url, api_key="x" * 20) as client:
        assert client.health()
        with pytest.raises(ServerError, match="Bearer KEY") as refused:
            client.analyse(portrait)
        assert (refused.value.status, refused.value.code) == (401, "wrong_key")
    with Client("http://127.0.0.1:1/") as client:
        assert not client.health()
        with pytest.raises(ServerError, match=r"127\.0\.0\.1:1 does not answer .*mien serve"):
            client.analyse(portrait)
    for options in ({"url": "localhost"}, {"timeout": 0}, {"retries": -1}):
        with pytest.raises(ConfigError):
            Client(**options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def clip(portrait: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("edgefirst.tracker")
    av = pytest.importorskip("av")
    rgb = images.read(portrait)[:480, :480]
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 480, 480, "bgr0"
        for shift in range(12):
            frame = av.VideoFrame.from_ndarray(np.roll(rgb, shift, axis=1), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode())
    return path


def test_a_video_is_that_of_the_package(
    client: Client, pipeline: Pipeline, clip: Path, examples: Path, tmp_path: Path
) -> None:
    from mien.video import CalmestSecond, analyser

    table, page = tmp_path / "t.csv", tmp_path / "p.html"
    told: list[tuple[int, int | None]] = []
    frames = client.video(clip, table=table, page=page, progress=lambda *counts: told.append(counts))
    expected = list(analyser.analyse(clip, pipeline))
    assert frames == expected
    assert told[-1][0] == len(frames) == 12
    rows = [row for frame in expected for row in tables.rows(frame, video=True)]
    assert list(tables.load(table)) == [{**row, "input": "clip.mkv"} for row in rows]
    assert "clip.mkv: expressions over time" in page.read_text()
    with pytest.raises(OutputExists, match=r"t\.csv"):
        client.video(clip, table=table)

    baselines = CalmestSecond().of(expected)
    assert client.video(clip, baseline="calmest") == [frame.relative_to(baselines) for frame in expected]
    neutral = examples / "portrait_neutral.jpg"
    face = pipeline.baseline(neutral)
    compared = client.video(clip, every=3, baseline=neutral)
    assert compared == [frame.relative_to(face) for frame in analyser.analyse(clip, pipeline, every=3)]


def test_errors_of_videos(client: Client, server: Running, tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("hello, I am a text")
    with pytest.raises(VideoError, match=r"text\.mp4: is damaged"):
        client.video(text)
    with pytest.raises(VideoError, match=r"none\.mp4: no such file"):
        client.video(tmp_path / "none.mp4")
    with pytest.raises(ConfigError, match="every"):
        client.video(text, every=0)
    assert len(server.app.state.service.jobs._jobs) == 0, "jobs are left"


class Moody(BaseHTTPRequestHandler):
    """A server that answers what is written down for it, one after another."""

    answers: ClassVar[list[tuple[int, dict[str, str], bytes]]] = []
    asked: ClassVar[list[tuple[str, str]]] = []

    def _next(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.asked.append((f"{self.command} {self.path}", self.headers.get("last-event-id", "")))
        status, headers, body = self.answers.pop(0)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = _next

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def moody(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[type[Moody], str, list[float]]]:
    """The handler, the address of its server, and the seconds that the client slept."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Moody)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    Moody.answers.clear()
    Moody.asked.clear()
    slept: list[float] = []
    monkeypatch.setattr(client_module.time, "sleep", slept.append)
    yield Moody, f"http://127.0.0.1:{server.server_port}", slept
    server.shutdown()
    server.server_close()
    thread.join(10)


def busy(wait: str | None, status: int = 429) -> tuple[int, dict[str, str], bytes]:
    headers = {} if wait is None else {"Retry-After": wait}
    return status, headers, b'{"error": "busy", "message": "try again in a moment"}'


def test_a_busy_server_is_asked_again_when_it_says(moody: Any, portrait: Path) -> None:
    handler, url, slept = moody
    done = (200, {}, mien.Analysis("portrait.jpg", 4, 3).to_json().encode())
    with Client(url, retries=2) as client:
        handler.answers += [busy("3"), busy("900", 503), done]
        assert client.analyse(portrait) == mien.Analysis(str(portrait), 4, 3)
        assert slept == [3, 60]
        handler.answers += [busy("1")] * 3
        with pytest.raises(ServerError, match="try again") as refused:
            client.analyse(portrait)
        assert refused.value.status == 429
        handler.answers += [busy(None, 503)]
        with pytest.raises(ServerError):
            client.analyse(portrait)
        handler.answers += [(502, {}, b"<html>bad gateway</html>")]
        with pytest.raises(ServerError, match="status 502"):
            client.analyse(portrait)
        assert handler.answers == []


def test_events_are_followed_again_from_where_they_ended(moody: Any, portrait: Path) -> None:
    handler, url, _ = moody
    service = b'{"limits": {"jobs": 1, "job_pictures": 9, "job_bytes": 99999999}}'

    def event(number: int) -> bytes:
        analysis = mien.Analysis(f"{number}", number + 1, 1).to_json()
        data = f'{{"number": {number}, "analysis": {analysis}}}'
        return f": ping\n\nevent: picture\ndata: {data}\nid: {number + 1}\n\n".encode()

    handler.answers += [(200, {}, service), (202, {}, b'{"id": "J"}'), (200, {}, event(0))]
    handler.answers += [(200, {}, event(1) + b"event: done\ndata: {}\n\n")]
    with Client(url) as client:
        analyses = client.analyse_many([portrait, portrait])
    assert [(one.source, one.width) for one in analyses] == [(str(portrait), 1), (str(portrait), 2)]
    assert handler.asked[2:] == [("GET /v1/jobs/J/events", ""), ("GET /v1/jobs/J/events", "1")]


def test_a_job_that_is_left_is_cancelled(moody: Any, portrait: Path) -> None:
    handler, url, _ = moody
    service = b'{"limits": {"jobs": 1, "job_pictures": 9, "job_bytes": 99999999}}'
    failed = (
        b'event: failed\ndata: {"error": "too_slow", "message": "the job took longer than 600 seconds"}\n\n'
    )
    handler.answers += [(200, {}, service), (202, {}, b'{"id": "J"}'), (200, {}, failed), (204, {}, b"")]
    with Client(url) as client, pytest.raises(ServerError, match="600 seconds"):
        client.analyse_many([portrait])
    assert handler.asked[-1][0] == "DELETE /v1/jobs/J"
