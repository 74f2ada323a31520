"""Batches and videos: their events, files, limits, and that nothing of them stays."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from mien.errors import ConfigError
from mien.faces.pipeline import Pipeline
from mien.io import images, tables
from mien.io.locks import FileLock
from mien.server import jobs
from mien.server.jobs import unique_names
from mien.server.limits import Limits
from mien.types import Analysis, Frame

from .conftest import Serve
from .stand_ins import Slow, StandIn, Whimsical
from .test_analyses import picture, refused
from .test_limits import config, run, wait_until

Event = tuple[str, dict[str, Any]]


@pytest.fixture(autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where jobs are kept."""
    path = tmp_path_factory.mktemp("jobs")
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


@pytest.fixture(scope="module")
def portrait(examples: Path) -> bytes:
    return (examples / "portrait_smiling.jpg").read_bytes()


@pytest.fixture(scope="module")
def clip(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of a face that moves a little."""
    pytest.importorskip("edgefirst.tracker")
    av = pytest.importorskip("av")
    rgb = images.read(examples / "portrait_smiling.jpg")[:480, :480]
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 480, 480, "bgr0"
        for shift in range(12):
            moved = np.roll(rgb, shift, axis=1)
            frame = av.VideoFrame.from_ndarray(moved, format="rgb24").reformat(format="bgr0")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def batch(client: TestClient, *files: tuple[str, bytes], **fields: str) -> Any:
    form = [("file", (name, data, "image/jpeg")) for name, data in files]
    return client.post("/v1/batches", files=form, data=fields)


def film(client: TestClient, data: bytes, **fields: str) -> Any:
    return client.post("/v1/videos", files={"file": ("clip.mkv", data, "video/x-matroska")}, data=fields)


def started(answer: Any) -> str:
    """The address of the job that an answer tells of."""
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    return str(answer.headers["location"])


def events(client: TestClient, job: str, **headers: str) -> list[Event]:
    """All events of a job, to its end."""
    answer = client.get(f"{job}/events", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in answer.text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        if "event" in lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def own(serve: Serve, **limits: Any) -> TestClient:
    """A client of an application with a folder of its own."""
    return serve(limits=Limits(running=1, **limits))


def of(kind: str, found: list[Event]) -> list[dict[str, Any]]:
    return [data for name, data in found if name == kind]


def is_empty(folder: Path) -> bool:
    """Whether no job has a folder or file left."""
    return [path for root in folder.glob("mien-jobs-*") if root.is_dir() for path in root.iterdir()] == []


def test_a_batch_streams_each_analysis_and_goes_on_after_a_picture_that_cannot_be_read(
    serve: Serve, pipeline: Pipeline, portrait: bytes, examples: Path
) -> None:
    client, group = serve(), (examples / "group_1.jpg").read_bytes()
    job = started(batch(client, ("a.jpg", portrait), ("bad.jpg", b"no picture"), ("b.jpg", group)))
    found = events(client, job)
    pictures = of("picture", found)
    assert [one["number"] for one in pictures] == [0, 1, 2]
    first, bad, last = (Analysis.from_dict(one["analysis"]) for one in pictures)
    assert first.faces == pipeline(portrait).faces
    assert last.faces == pipeline(group).faces
    assert [first.source, bad.source, last.source] == ["a.jpg", "bad.jpg", "b.jpg"]
    assert bad.error is not None
    assert bad.error.startswith("bad.jpg: ")
    assert bad.faces == ()
    progress = of("progress", found)
    assert progress[-1] == {"done": 3, "total": 3, "faces": 7, "failed": 1}
    assert [one["done"] for one in progress] == sorted(one["done"] for one in progress)
    assert found[-1] == ("done", {"files": ["table.csv"], "total": 3, "faces": 7, "failed": 1, "note": None})
    status = client.get(job).json()
    assert (status["state"], status["files"]) == ("done", ["table.csv"])
    text = client.get(f"{job}/files/table.csv").content.decode()
    assert [row["input"] for row in csv.DictReader(io.StringIO(text))] == ["a.jpg", "bad.jpg", *["b.jpg"] * 6]
    refused(client.get(job), 404, "no_job", "again")


def test_who_follows_again_gets_what_is_missing(serve: Serve) -> None:
    client = serve()
    job = started(batch(client, *((f"{name}.png", picture()) for name in "abcd")))
    assert len(of("picture", events(client, job))) == 4
    rest = of("picture", events(client, job, **{"last-event-id": "3"}))
    assert [one["number"] for one in rest] == [3]
    assert len(of("picture", events(client, job, **{"last-event-id": "none"}))) == 4


def test_a_batch_without_files_is_removed_when_it_was_followed(serve: Serve, folder: Path) -> None:
    client = own(serve)
    job = started(batch(client, ("a.png", picture()), files=""))
    assert events(client, job)[-1][0] == "done"
    refused(client.get(job), 404, "no_job")
    assert is_empty(folder)


def test_a_batch_is_compared_with_a_neutral_face(
    serve: Serve, pipeline: Pipeline, portrait: bytes, examples: Path
) -> None:
    client = serve()
    neutral = (examples / "portrait_neutral.jpg").read_bytes()
    form = [
        ("file", ("a.jpg", portrait, "image/jpeg")),
        ("baseline", ("rest.jpg", neutral, "image/jpeg")),
        ("file", ("b.jpg", portrait, "image/jpeg")),
    ]
    found = events(client, started(client.post("/v1/batches", files=form, data={"files": "table.jsonl"})))
    expected = pipeline(portrait).relative_to(pipeline.baseline(neutral, "rest.jpg"))
    for one in of("picture", found):
        assert Analysis.from_dict(one["analysis"]).faces == expected.faces
    form[1] = ("baseline", ("rest.jpg", picture(), "image/png"))
    name, data = events(client, started(client.post("/v1/batches", files=form)))[-1]
    assert (name, data["error"]) == ("failed", "no_face")
    assert data["message"].startswith("baseline: ")


def test_tables_of_a_batch_are_those_of_the_package(
    serve: Serve, pipeline: Pipeline, portrait: bytes, folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    client = own(serve)
    wanted = ("table.csv", "table.parquet", "table.jsonl", "pictures.jsonl")
    job = started(batch(client, ("a.jpg", portrait), files=",".join(wanted)))
    assert of("done", events(client, job))[0]["files"] == list(wanted)
    from dataclasses import replace

    expected = replace(pipeline(portrait), source="a.jpg")
    for name in wanted:
        answer = client.get(f"{job}/files/{name}")
        assert answer.status_code == 200
        assert f'filename="{name}"' in answer.headers["content-disposition"]
        (tmp_path / name).write_bytes(answer.content)
    assert Analysis.from_json((tmp_path / "pictures.jsonl").read_text()) == expected
    for name in wanted[:3]:
        assert list(tables.load(tmp_path / name)) == tables.rows(expected), name
    assert is_empty(folder)


def test_pictures_of_one_name_are_told_apart(serve: Serve) -> None:
    assert unique_names(["a.jpg", "a.jpg", "a (2).jpg", "b", "b"]) == [
        "a.jpg", "a (3).jpg", "a (2).jpg", "b", "b (2)",
    ]  # fmt: skip
    client = serve()
    head = '--x\r\nContent-Disposition: form-data; name="file"; filename="{}"\r\n\r\n'
    parts = [
        head.format(name).encode() + picture() + b"\r\n" for name in ("x/a.png", "y/a.png", "..\\\\b.png", "")
    ]
    answer = client.post(
        "/v1/batches",
        content=b"".join(parts) + b"--x--\r\n",
        headers={"content-type": "multipart/form-data; boundary=x"},
    )
    names = [one["analysis"]["source"] for one in of("picture", events(client, started(answer)))]
    assert names == ["a.png", "a (2).png", "b.png", "picture 4"]


def test_a_picture_that_kills_its_process_is_an_error_row(serve: Serve) -> None:
    client = serve(Whimsical(), limits=Limits(running=1, seconds=2))
    files = [(name, picture() + name.encode()) for name in ("crash", "hang", "defect", "sound")]
    found = events(client, started(batch(client, *files, files="")))
    errors = [one["analysis"]["error"] for one in of("picture", found)]
    assert errors[3] is None
    assert all(error.startswith(name) for error, (name, _) in zip(errors[:3], files, strict=False))
    assert "2 seconds" in errors[1]
    assert "private detail" not in json.dumps(found)


def test_other_requests_are_answered_between_the_pictures_of_a_batch(serve: Serve, slow: Slow) -> None:
    client = serve(slow, limits=Limits(running=2))
    job = started(batch(client, ("a", picture()), ("b", picture()), ("c", picture()), files=""))
    assert slow.has_begun()
    assert not slow.has_begun(0.2), "a batch took both processes"
    assert client.get(job).json()["state"] == "running"
    slow.go.set()
    answer = client.post("/v1/analyses", content=picture(), headers={"content-type": "image/png"})
    assert answer.status_code == 200
    assert events(client, job)[-1][0] == "done"


def test_a_cancelled_job_ends_and_leaves_nothing(serve: Serve, slow: Slow, folder: Path) -> None:
    client = serve(slow)
    job = started(batch(client, ("a", picture()), ("b", picture())))
    assert slow.has_begun()
    assert not is_empty(folder)
    refused(client.get(f"{job}/files/table.csv"), 409, "not_done", "events")
    assert client.delete(job).status_code == 204
    for answer in (client.delete(job), client.get(job), client.get(f"{job}/events")):
        refused(answer, 404, "no_job")
    slow.go.set()
    wait_until(lambda: is_empty(folder))


def test_followers_of_a_cancelled_job_are_told(pipeline: Pipeline, folder: Path) -> None:
    async def run() -> list[str | None]:
        kept = jobs.Jobs(Limits(), _NoPool(), (), lambda kind, faces: None)  # type: ignore[arg-type]
        job = kept.begin("batch")
        kept.start(job, asyncio.sleep(3600))
        following = asyncio.create_task(_names(job))
        await asyncio.sleep(0)
        kept.drop(job)
        names = await asyncio.wait_for(following, 10)
        kept.close()
        return names

    assert asyncio.run(run()) == ["progress", "cancelled"]


class _NoPool:
    """Models that are there."""

    def check_models(self) -> None:
        """Do nothing."""


async def _names(job: jobs.ServerJob) -> list[str | None]:
    return [event.event async for event in job.events()]


def test_results_are_removed_after_their_time_and_at_the_end(serve: Serve, folder: Path) -> None:
    client = own(serve, kept=0.2)
    job = started(batch(client, ("a.png", picture())))
    wait_until(lambda: client.get(job).status_code == 404)
    assert is_empty(folder)
    started(batch(client, ("a.png", picture())))
    client.__exit__(None, None, None)
    assert list(folder.iterdir()) == []
    client.__enter__()


def test_the_upload_is_removed_as_soon_as_it_is_analysed(serve: Serve, folder: Path) -> None:
    client = own(serve)
    assert events(client, started(batch(client, ("a.png", picture()))))[-1][0] == "done"
    assert sorted(path.name for path in folder.glob("mien-jobs-*/*/*")) == ["pictures.jsonl", "table.csv"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.glob("mien-jobs-*") if path.is_dir())


def test_what_a_killed_server_left_is_removed_by_the_next(serve: Serve, folder: Path) -> None:
    left, used, other = (folder / name for name in ("mien-jobs-00", "mien-jobs-11", "mien-jobs-x.keep"))
    for path in (left, used, other):
        path.mkdir()
        (path / "upload").write_bytes(b"picture")
    lock = FileLock(folder / "mien-jobs-11.lock", "jobs")
    client = own(serve)
    started(batch(client, ("a.png", picture())))
    assert not left.exists()
    assert used.exists()
    assert other.exists()
    lock.release()


@pytest.mark.parametrize(
    ("limits", "status", "code", "word"),
    [
        ({"jobs": 0}, 501, "no_jobs", "--jobs"),
        ({"job_bytes": 300}, 413, "too_many_bytes", "--max-job-bytes"),
        ({"job_pictures": 1}, 413, "too_many_pictures", "--max-job-pictures"),
        ({"disk": 300}, 429, "disk_full", "--max-disk"),
    ],
)
def test_jobs_are_bounded(
    serve: Serve, folder: Path, limits: dict[str, int], status: int, code: str, word: str
) -> None:
    client = serve(limits=Limits(running=1, **limits))  # type: ignore[arg-type]
    refused(batch(client, ("a.png", picture()), ("b.png", picture(80, 80) * 4)), status, code, word)
    assert is_empty(folder)


def test_one_job_too_many_is_refused_until_one_is_gone(serve: Serve, slow: Slow) -> None:
    client = serve(slow, limits=Limits(running=1, jobs=1))
    job = started(batch(client, ("a.png", picture())))
    answer = batch(client, ("b.png", picture()))
    refused(answer, 429, "too_many_jobs", "delete one")
    assert int(answer.headers["retry-after"]) > 0
    client.delete(job)
    slow.go.set()
    assert batch(client, ("b.png", picture())).status_code == 202


def test_a_job_that_takes_too_long_fails(serve: Serve, slow: Slow) -> None:
    client = serve(slow, limits=Limits(running=1, job_seconds=2))
    name, data = events(client, started(batch(client, ("a.png", picture()))))[-1]
    assert (name, data["error"]) == ("failed", "too_slow")
    assert "--max-job-seconds" in data["message"]
    slow.go.set()


def test_results_that_fill_the_disk_fail_the_job(serve: Serve, portrait: bytes) -> None:
    client = serve(limits=Limits(running=1, disk=len(portrait) + 2000))
    name, data = events(client, started(batch(client, ("a.jpg", portrait))))[-1]
    assert (name, data["error"]) == ("failed", "disk_full")


@pytest.mark.parametrize("name", ["job_pictures", "job_bytes", "job_seconds", "kept", "disk"])
def test_a_limit_of_a_job_is_positive(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Limits(**{name: 0})
    with pytest.raises(ConfigError, match="jobs"):
        Limits(jobs=-1)


@pytest.mark.parametrize(
    ("fields", "code", "word"),
    [
        ({"files": "table.xlsx"}, "wrong_value", "table.csv"),
        ({"columns": "pyfaet"}, "wrong_value", "pyfeat"),
        ({"threshold": "1"}, "wrong_value", "threshold"),
        ({"columns": "x" * 5000}, "wrong_form", "4096"),
        ({f"f{number}": "" for number in range(17)}, "wrong_form", "16 fields"),
    ],
)
def test_wrong_options_of_a_batch_are_named(
    serve: Serve, folder: Path, fields: dict[str, str], code: str, word: str
) -> None:
    refused(batch(own(serve), ("a.png", picture()), **fields), 422, code, word)
    assert is_empty(folder)


def test_wrong_forms_are_named(serve: Serve, folder: Path) -> None:
    client = own(serve)

    def send(data: bytes, kind: str = "multipart/form-data; boundary=x") -> Any:
        return client.post("/v1/batches", content=data, headers={"content-type": kind})

    def part(name: str, rest: bytes = b"--x--\r\n") -> bytes:
        head = f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="a"\r\n\r\nabc\r\n'
        return head.encode() + rest

    refused(send(b"", "multipart/form-data"), 415, "wrong_media_type")
    refused(send(b"abc", "image/png"), 415, "wrong_media_type", "'file'")
    refused(send(b"--x--\r\n"), 422, "no_file")
    refused(send(b"nonsense"), 422, "wrong_form")
    refused(send(part("photo")), 422, "wrong_form", "'photo'", "'file'")
    refused(send(part("file", b"")), 422, "wrong_form", "end is missing")
    refused(send(part("baseline")[:-7] + part("baseline")), 422, "wrong_form", "'baseline'")
    refused(send(b"--x\r\nContent-Type: a/b\r\n\r\nabc\r\n--x--\r\n"), 422, "wrong_form", "no name")
    assert is_empty(folder)


def test_a_picture_above_the_limit_is_an_error_row(serve: Serve) -> None:
    client = serve(limits=Limits(running=1, bytes=3000))
    large = picture(500, 500, "BMP")
    found = events(client, started(batch(client, ("large.bmp", large), ("a.png", picture()), files="")))
    first, last = of("picture", found)
    assert "--max-bytes" in first["analysis"]["error"]
    assert last["analysis"]["error"] is None
    form = [("file", ("a.png", picture(), "image/png")), ("baseline", ("b.bmp", large, "image/bmp"))]
    refused(client.post("/v1/batches", files=form), 413, "too_many_bytes", "baseline")


def test_nothing_of_a_job_is_logged_or_counted_by_its_id(
    serve: Serve, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    client = serve()
    with caplog.at_level("DEBUG", "mien"):
        job = started(batch(client, ("secret-name.png", picture())))
        events(client, job)
    metrics = client.get("/metrics").text
    assert 'endpoint="/v1/jobs/{job}/events"' in metrics
    assert job.rsplit("/", 1)[-1] not in metrics
    assert "secret-name" not in caplog.text + "".join(capfd.readouterr())


def test_the_log_of_requests_has_no_ids(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Through a real server, since its log is uvicorn's."""
    import logging

    import httpx2

    server, thread, port = run(config(StandIn()))
    access = logging.getLogger("uvicorn.access")
    access.setLevel("INFO")
    access.addHandler(caplog.handler)
    try:
        files = [("file", ("a.png", picture(), "image/png"))]
        job = httpx2.post(f"http://127.0.0.1:{port}/v1/batches", files=files, timeout=20).json()["id"]
        assert httpx2.get(f"http://127.0.0.1:{port}/v1/jobs/{job}/events?x=1", timeout=20).status_code == 200
    finally:
        access.removeHandler(caplog.handler)
        server.should_exit = True
        thread.join(10)
    assert job not in caplog.text
    assert "GET /v1/jobs/.../events?x=1" in caplog.text


def test_stopping_ends_jobs_that_are_followed_and_removes_them(slow: Slow, folder: Path) -> None:
    import threading

    import httpx2

    server, thread, port = run(config(slow))
    files = [("file", ("a.png", picture(), "image/png"))]
    job = httpx2.post(f"http://127.0.0.1:{port}/v1/batches", files=files, timeout=20).json()["id"]
    assert slow.has_begun()
    following = threading.Event()
    ended = threading.Event()

    def follow() -> None:
        try:
            with httpx2.stream("GET", f"http://127.0.0.1:{port}/v1/jobs/{job}/events", timeout=20) as answer:
                for _ in answer.iter_lines():
                    following.set()
        except httpx2.HTTPError:  # it is cut off
            pass
        ended.set()

    threading.Thread(target=follow, daemon=True).start()
    assert following.wait(20)
    assert not is_empty(folder)
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()
    assert ended.wait(20)
    assert list(folder.iterdir()) == []


# Videos --------------------------------------------------------------------------------------------------------------


def test_a_video_is_analysed_as_by_the_package(
    serve: Serve, pipeline: Pipeline, clip: Path, folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    from mien.video import analyser

    expected = list(analyser.analyse(clip, pipeline, every=2))
    assert sum(len(frame.faces) for frame in expected) == 6
    client = own(serve)
    wanted = "table.csv,table.parquet,table.jsonl,frames.jsonl,page.html"
    job = started(film(client, clip.read_bytes(), files=wanted, every="2"))
    found = events(client, job)
    name, data = found[-1]
    assert (name, data["total"], data["faces"], data["people"], data["note"]) == ("done", 6, 6, 1, None)
    last = of("progress", found)[-1]
    assert (last["done"], last["faces"]) == (6, 6)
    assert last["rate"] > 0
    for file in wanted.split(","):
        (tmp_path / file).write_bytes(client.get(f"{job}/files/{file}").content)
    frames = [Frame.from_json(line) for line in (tmp_path / "frames.jsonl").read_text().splitlines()]
    assert [frame.faces for frame in frames] == [frame.faces for frame in expected]
    assert {frame.source for frame in frames} == {"clip.mkv"}
    rows = [row for frame in frames for row in tables.rows(frame, video=True)]
    for file in ("table.csv", "table.parquet", "table.jsonl"):
        assert list(tables.load(tmp_path / file)) == rows, file
    page = (tmp_path / "page.html").read_text()
    assert "<title>clip.mkv: expressions over time</title>" in page
    assert is_empty(folder)


def test_a_video_is_compared_with_its_calmest_second_or_a_picture(
    serve: Serve, pipeline: Pipeline, clip: Path, examples: Path
) -> None:
    from mien.video import CalmestSecond, analyser

    client, data = serve(), clip.read_bytes()
    frames = list(analyser.analyse(clip, pipeline))
    job = started(film(client, data, files="frames.jsonl,table.jsonl", baseline="calmest"))
    assert events(client, job)[-1][0] == "done"
    baselines = CalmestSecond().of(frames)
    expected = [frame.relative_to(baselines).faces for frame in frames]
    lines = client.get(f"{job}/files/frames.jsonl").text.splitlines()
    assert [Frame.from_json(line).faces for line in lines] == expected
    rows = [json.loads(line) for line in client.get(f"{job}/files/table.jsonl").text.splitlines()]
    assert [row["valence_change"] for row in rows] == [faces[0].change.valence for faces in expected]  # type: ignore[union-attr]

    neutral = (examples / "portrait_neutral.jpg").read_bytes()
    files = {
        "baseline": ("rest.jpg", neutral, "image/jpeg"),
        "file": ("clip.mkv", data, "video/x-matroska"),
    }
    job = started(client.post("/v1/videos", files=files, data={"files": "frames.jsonl"}))
    assert events(client, job)[-1][0] == "done"
    lines = client.get(f"{job}/files/frames.jsonl").text.splitlines()
    face = pipeline.baseline(neutral, "rest.jpg")
    assert [Frame.from_json(line).faces for line in lines] == [
        frame.relative_to(face).faces for frame in frames
    ]
    both = client.post("/v1/videos", files=files, data={"baseline": "calmest"})
    refused(both, 422, "wrong_value", "two baselines")
    job = started(film(client, data, baseline="smiling"))
    name, problem = events(client, job)[-1]
    assert (name, problem["error"]) == ("failed", "wrong_value")
    assert "calmest" in problem["message"]


def test_what_is_no_video_is_named(serve: Serve, clip: Path, folder: Path) -> None:
    client = own(serve)
    for data in (b"hello", b"ffconcat version 1.0\nfile upload\n", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"):
        name, problem = events(client, started(film(client, data)))[-1]
        assert (name, problem["error"]) == ("failed", "damaged_video"), problem
        assert str(folder) not in problem["message"]
    refused(film(client, clip.read_bytes(), every="0"), 422, "wrong_value", "every")
    refused(film(client, clip.read_bytes(), files=""), 422, "wrong_value", "files")
    answer = client.post("/v1/videos", content=b"", headers={"content-type": "video/mp4"})
    refused(answer, 422, "no_file")


def test_frames_before_damage_are_kept_with_a_note(serve: Serve, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path, noise = tmp_path / "a.mp4", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        for shift in range(40):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, 7 * shift, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    client, data = serve(), path.read_bytes()
    answer = client.post(
        "/v1/videos?files=table.csv", content=data[: len(data) // 2], headers={"content-type": "video/mp4"}
    )
    job = started(answer)
    name, done = events(client, job)[-1]
    assert name == "done"
    assert 0 < done["total"] < 40
    assert "copy it again" in done["note"]
    assert client.get(job).json()["problem"]["error"] == "damaged_video"


def test_frames_that_are_too_large_are_refused(serve: Serve, clip: Path) -> None:
    client = serve(limits=Limits(running=1, pixels=10_000))
    name, problem = events(client, started(film(client, clip.read_bytes())))[-1]
    assert (name, problem["error"]) == ("failed", "too_many_pixels")
    assert "480 x 480" in problem["message"]


def test_pictures_are_answered_while_a_video_is_analysed(serve: Serve, clip: Path) -> None:
    """A process of its own has the video, and ends with it."""
    client = own(serve)
    pool = client.app.state.service.pool  # type: ignore[attr-defined]
    job = started(film(client, clip.read_bytes(), files="table.csv"))
    wait_until(lambda: len(pool._workers) == 2)
    answer = client.post("/v1/analyses", content=picture(), headers={"content-type": "image/png"})
    assert answer.status_code == 200
    assert events(client, job)[-1][0] == "done"
    wait_until(lambda: len(pool._workers) == 1)


def test_a_cancelled_video_ends_its_process(serve: Serve, clip: Path, folder: Path) -> None:
    client = own(serve)
    pool = client.app.state.service.pool  # type: ignore[attr-defined]
    job = started(film(client, clip.read_bytes()))
    wait_until(lambda: len(pool._workers) == 2)
    assert client.delete(job).status_code == 204
    wait_until(lambda: len(pool._workers) == 1)
    wait_until(lambda: is_empty(folder))


def test_without_the_extra_videos_answer_501(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    from mien.server import job_routes

    monkeypatch.setattr(job_routes, "video_lacking", lambda: "this needs 'av': pip install 'mien[video]'")
    refused(film(serve(), b"abc"), 501, "no_video", "mien[video]")
