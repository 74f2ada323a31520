"""`mien.batch` without Ray: what is planned, what a worker writes, where files go, and what is refused."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from batch_s3_server import Server, serving
from hypothesis import given
from hypothesis import strategies as some

from mien.errors import ConfigError, MienError
from mien.io import tables

pytest.importorskip("pyarrow", reason="needs the batch extra")
pytest.importorskip("fsspec", reason="needs the batch extra")

from pyarrow import csv as arrow_csv
from pyarrow import parquet

from mien.batch import inputs, plan, storage, worker
from mien.batch.storage import BatchError, Store

JOB = {"columns": "pyfeat", "model": "random"}


class Memory(Store):
    """A store that keeps its files in a dict."""

    def __init__(self) -> None:
        super().__init__("memory")
        object.__setattr__(self, "files", {})

    def names(self, folder: str = "") -> set[str]:
        start = f"{folder}/" if folder else ""
        return {
            name[len(start) :]
            for name in self.files
            if name.startswith(start) and "/" not in name[len(start) :]
        }

    def read(self, name: str) -> bytes:
        return self.files[name]

    def write(self, name: str, data: bytes) -> None:
        self.files[name] = data


# Plans


@given(
    rounds=some.lists(
        some.lists(some.text(some.characters(codec=None), min_size=1, max_size=4), max_size=30), max_size=4
    ),
    size=some.integers(1, 9),
)
def test_every_picture_is_in_exactly_one_part_however_often_and_whatever_is_given(
    rounds: list[list[str]], size: int
) -> None:
    store = Memory()
    for names in rounds:
        before = plan.planned(store)
        parts = plan.extend(store, before, list(dict.fromkeys(names)), size)
        assert parts == plan.planned(store), "what is written is what is meant"
        assert parts[: len(before)] == before, "what was planned stays as it was"
    held = [picture for part in plan.planned(store) for picture in part.pictures]
    assert sorted(held) == sorted({name for names in rounds for name in names})
    assert all(1 <= len(part.pictures) <= size for part in plan.planned(store))


def test_a_part_is_done_when_its_file_is_there() -> None:
    store = Memory()
    parts = plan.extend(store, [], ["a", "b", "c"], 2)
    store.write(parts[1].name, b"")
    assert plan.finished(store) == {parts[1].digest}
    assert plan.Part(7, ("c",)).digest == parts[1].digest, "whatever its number became"


@pytest.mark.parametrize(("pictures", "expected"), [(1, 32), (5000, 79), (10_000_000, 1024)])
def test_parts_are_neither_tiny_nor_huge(pictures: int, expected: int) -> None:
    assert plan.size_for(pictures) == expected


def test_a_folder_belongs_to_one_job(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.make(plan.FOLDER)
    plan.claim(store, JOB)
    plan.claim(store, JOB)
    with pytest.raises(BatchError, match='begun with columns "pyfeat", not "openface"'):
        plan.claim(store, {**JOB, "columns": "openface"})


def test_a_folder_with_somebody_elses_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs.parquet").write_bytes(b"")
    with pytest.raises(BatchError, match=r"holds theirs\.parquet"):
        plan.claim(Store(str(tmp_path)), JOB)


@pytest.mark.parametrize("damage", [b"", b"junk", b"[1]", b"\xff{}"])
def test_damaged_notes_are_said_to_be_damaged(tmp_path: Path, damage: bytes) -> None:
    store = Store(str(tmp_path))
    store.make(plan.FOLDER)
    store.write(plan.JOB, damage)
    with pytest.raises(BatchError, match=r"job\.json is damaged"):
        plan.claim(store, JOB)
    plan.extend(store, [], ["a"], 1)
    [name] = [name for name in store.names(plan.FOLDER) if name.startswith("plan-")]
    whole = store.read(f"{plan.FOLDER}/{name}")
    for spoilt in (damage, whole[: len(whole) // 2], whole[:12] + bytes([whole[12] ^ 255]) + whole[13:]):
        store.write(f"{plan.FOLDER}/{name}", spoilt)
        if spoilt:  # an empty file is an empty stream
            with pytest.raises(BatchError, match="is damaged"):
                plan.planned(store)


# Stores


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="needs limits of file size")
    store = Store(str(tmp_path))
    store.write("kept", b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(
            BatchError, match=r"cannot be written: File too large.*give the same command again"
        ):
            store.write("kept", bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert store.read("kept") == b"old"
    assert store.names() == {"kept"}, "nothing half written is left"


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BatchError, match=r"No space left on device: finished parts are kept"):
        Store(str(tmp_path)).write("part", b"x")
    assert list(tmp_path.iterdir()) == []


def test_one_batch_in_one_folder(tmp_path: Path) -> None:
    hold = (
        "import sys; from mien.batch.storage import Store\n"
        "with Store(sys.argv[1]).locked('lock'):\n print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with (
            pytest.raises(BatchError, match="another mien batch writes here"),
            Store(str(tmp_path)).locked("lock"),
        ):
            pass
        other.kill()
    with Store(str(tmp_path)).locked("lock"):
        pass  # the killed process holds nothing


@pytest.mark.parametrize(
    ("name", "url"),
    [("s3://bucket/a.jpg", True), ("a.jpg", False), ("/a://b", False), ("C:\\a.jpg", False), ("://", False)],
)
def test_urls_are_told_from_paths(name: str, url: bool) -> None:
    assert storage.is_url(name) is url


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(BatchError, match="cannot be opened"):
        storage.open_url("nosuch://place/file")


# Inputs


def test_folders_and_files_are_those_of_predict(examples: Path, tmp_path: Path) -> None:
    from mien.io.inputs import gather

    given = [str(examples), str(examples / "astronaut.png"), str(tmp_path / "missing.jpg")]
    assert inputs.pictures(given) == gather(given)


def test_linked_folders_are_noted(examples: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(examples)
    (tmp_path / "a.jpg").touch()
    noted: list[Path] = []
    assert inputs.pictures([str(tmp_path)], noted.append) == [str(tmp_path / "a.jpg")]
    assert noted == [tmp_path / "linked"]


def test_a_manifest_names_pictures(tmp_path: Path) -> None:
    rows = ["a.jpg", "sub/b c.jpg", "/abs/c.jpg", "s3://bucket/d.jpg", "a.jpg"]
    table = tmp_path / "list.csv"
    table.write_text(
        "label, File ,split\n" + "".join(f"x,{row},train\n" for row in rows), encoding="utf-8-sig"
    )
    expected = [str(tmp_path / "a.jpg"), str(tmp_path / "sub/b c.jpg"), "/abs/c.jpg", "s3://bucket/d.jpg"]
    assert inputs.pictures([str(table)]) == expected
    parquet.write_table(arrow_csv.read_csv(table), tmp_path / "list.parquet")
    assert inputs.pictures([str(tmp_path / "list.parquet")]) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"label,split\nx,train\n", "no column names the pictures, it has label, split"),
        (b"", "no column names the pictures, it has none"),
        (b'path\na.jpg\n""\n', "row 3 names no picture"),
        (b"path\n\xff\xfe.jpg\n", "cannot be read"),
    ],
)
def test_a_useless_manifest_is_refused(tmp_path: Path, text: bytes, message: str) -> None:
    table = tmp_path / "list.csv"
    table.write_bytes(text)
    with pytest.raises(MienError, match=message):
        inputs.pictures([str(table)])


def test_a_damaged_parquet_manifest_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "list.parquet"
    table.write_bytes(b"PAR1junk")
    with pytest.raises(BatchError, match="this manifest cannot be read"):
        inputs.pictures([str(table)])


def test_standard_input_and_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="one process only"):
        inputs.pictures(["-"])
    with pytest.raises(ConfigError, match="nothing to analyse"):
        inputs.pictures([])


# Workers


@pytest.fixture
def job(tmp_path: Path, recogniser_file: Path) -> worker.Job:
    """A job whose folder is claimed."""
    store = Store(str(tmp_path / "table"))
    store.make(plan.FOLDER)
    plan.claim(store, JOB)
    return worker.Job(str(tmp_path / "table"), str(Path.cwd()), {"weights": recogniser_file}, "mien", "row")


def table_of(folder: str | Path) -> Any:
    """All parts as one table."""
    return parquet.ParquetDataset(folder).read()


def test_a_part_holds_what_predict_writes(
    job: worker.Job, examples: Path, tmp_path: Path, recogniser_file: Path
) -> None:
    import mien

    (tmp_path / "broken.jpg").write_bytes(b"broken")
    names = [*map(str, sorted(examples.glob("*.*g"))), str(tmp_path / "broken.jpg")]
    done = worker.Worker(job, worker.Ledger())(3, names)
    assert done["failure"] is None
    assert (done["pictures"], done["failed"]) == (len(names), 1)
    assert done["errors"][0].startswith(str(tmp_path / "broken.jpg"))
    with tables.Writer(tmp_path / "plain.parquet") as plain:
        for analysis in mien.load(weights=recogniser_file, threads=1)(names):
            plain.write(analysis)
    expected = parquet.read_table(tmp_path / "plain.parquet")
    found = table_of(job.out)
    assert found.equals(expected), "the same rows"
    assert found.schema.equals(expected.schema, check_metadata=True), "and what the columns mean"
    assert done["faces"] == sum(number is not None for number in expected["face"].to_pylist())


def test_a_part_without_landmarks(job: worker.Job, examples: Path) -> None:
    bare = replace(job, landmarks=False)
    assert worker.Worker(bare, worker.Ledger())(0, [str(examples / "group_1.jpg")])["failure"] is None
    names = [column.name for column in tables.columns_of(landmarks=False)]
    assert table_of(job.out).column_names == names


def test_pictures_without_a_face_may_be_errors_or_left_out(job: worker.Job, tmp_path: Path) -> None:
    import numpy as np

    from mien.io import images

    empty = tmp_path / "empty.png"
    images.write(empty, np.full((90, 90, 3), 128, np.uint8))
    for number, rule in enumerate(("row", "skip", "error")):
        ruled = worker.Job(job.out, job.folder, job.options, job.columns, rule)
        done = worker.Worker(ruled, worker.Ledger())(number, [str(empty)])
        name = plan.Part(number, (str(empty),)).name
        rows = parquet.read_table(Path(job.out) / name).to_pylist()
        assert len(rows) == (rule != "skip")
        assert done["failed"] == (rule == "error")
        if rule == "error":
            assert "no face" in rows[0]["error"]


class Killed(BaseException):
    """What `kill -9` does to a process: nothing in it can stop this."""


def test_a_picture_that_kills_its_workers_is_left_out_and_costs_no_other(
    job: worker.Job, examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mien.io import images

    names = [str(path) for path in sorted(examples.glob("portrait_*.jpg"))]
    killer, read, deaths = names[1], images.read, []

    def deadly(source: Any, **options: Any) -> Any:
        if str(source) == killer:
            deaths.append(killer)
            raise Killed
        return read(source, **options)

    monkeypatch.setattr(images, "read", deadly)
    ledger = worker.Ledger()
    for _ in range(9):
        try:
            done = worker.Worker(job, ledger)(0, names)
            break
        except Killed:
            continue
    else:
        pytest.fail("the part is never done")
    assert len(deaths) == 1 + worker.DEATHS
    assert done["failed"] == 1
    rows = table_of(job.out).to_pylist()
    assert {row["input"] for row in rows} == set(names)
    assert [row["input"] for row in rows if row["error"]] == [killer]
    assert "died on this picture" in next(row["error"] for row in rows if row["error"])


def test_a_worker_that_is_killed_once_costs_no_picture(
    job: worker.Job, examples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mien.io import images

    names = [str(path) for path in sorted(examples.glob("portrait_*.jpg"))]
    read, calls = images.read, 0

    def once(source: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls in (1, 3):  # in the first pass, and again when the picture is alone
            raise Killed
        return read(source, **options)

    monkeypatch.setattr(images, "read", once)
    ledger = worker.Ledger()
    for _ in range(2):
        with pytest.raises(Killed):
            worker.Worker(job, ledger)(0, names)
    assert worker.Worker(job, ledger)(0, names)["failed"] == 0
    assert not any(table_of(job.out)["error"].to_pylist())


def test_what_stops_the_batch_is_told_not_raised(job: worker.Job, examples: Path, tmp_path: Path) -> None:
    elsewhere = worker.Job(str(tmp_path / "nowhere"), job.folder, job.options, job.columns, "row")
    failure = worker.Worker(elsewhere, worker.Ledger())(0, [str(examples / "astronaut.png")])["failure"]
    assert "does not exist on every machine" in failure
    unsound = worker.Job(job.out, job.folder, {"weights": tmp_path / "none.onnx"}, job.columns, "row")
    failure = worker.Worker(unsound, worker.Ledger())(0, [str(examples / "astronaut.png")])["failure"]
    assert "none.onnx: no such file" in failure


# S3


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server | None]:
    """A server with a bucket "mien" that is empty, and the environment that leads to it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(storage, "PAUSES", (0.01, 0.01))
    storage._system.cache_clear()
    other = os.environ.get("MIEN_TEST_S3")
    if other:
        monkeypatch.setenv("AWS_ENDPOINT_URL", other)
        from pyarrow.fs import S3FileSystem

        place = urlsplit(other)
        client = S3FileSystem(
            endpoint_override=place.netloc,
            scheme=place.scheme,
            allow_bucket_creation=True,
            region="us-east-1",
        )
        client.create_dir("mien")
        client.delete_dir_contents("mien", missing_dir_ok=True)
        yield None
    else:
        with serving() as (url, server):
            monkeypatch.setenv("AWS_ENDPOINT_URL", url)
            yield server
    storage._system.cache_clear()


@pytest.mark.usefixtures("s3")
def test_pictures_and_table_behind_a_url(examples: Path, recogniser_file: Path, tmp_path: Path) -> None:
    import mien

    names = ["astronaut.png", "portrait_smiling.jpg"]
    pictures = Store("s3://mien/pictures")
    for name in names:
        pictures.write(f"deep/{name}", (examples / name).read_bytes())
    pictures.write("deep/.hidden.jpg", b"hidden")
    pictures.write("notes.txt", b"no picture")
    urls = inputs.pictures(["s3://mien/pictures"])
    assert urls == [f"s3://mien/pictures/deep/{name}" for name in names]
    pictures.write("list.csv", b"path\ndeep/astronaut.png\ndeep/missing.png\n")
    listed = inputs.pictures(["s3://mien/pictures/list.csv"])
    assert listed == [urls[0], "s3://mien/pictures/deep/missing.png"]

    store = Store("s3://mien/table")
    assert store.names() == set()
    plan.claim(store, JOB)
    [part] = plan.extend(store, plan.planned(store), [*urls, listed[1]], 9)
    assert plan.planned(store) == [part]
    job = worker.Job("s3://mien/table", "", {"weights": recogniser_file}, "mien", "row")
    done = worker.Worker(job, worker.Ledger())(part.number, list(part.pictures))
    assert done["failure"] is None
    assert done["failed"] == 1
    assert "missing.png" in done["errors"][0]
    assert "no such file" in done["errors"][0]
    assert plan.finished(store) == {part.digest}
    (tmp_path / "copy.parquet").write_bytes(store.read(part.name))
    rows = [row for row in tables.load(tmp_path / "copy.parquet") if row["error"] is None]
    plain = [
        row
        for analysis in mien.load(weights=recogniser_file, threads=1)(
            [str(examples / name) for name in names]
        )
        for row in tables.rows(analysis)
    ]
    without = [{name: value for name, value in row.items() if name != "input"} for row in plain]
    assert [{name: value for name, value in row.items() if name != "input"} for row in rows] == without
    assert [row["input"] for row in rows] == urls


def test_a_picture_that_may_not_be_fetched_is_a_row(s3: Server | None, recogniser_file: Path) -> None:
    if s3 is None:
        pytest.skip("needs a server that can be told to refuse")
    s3.objects["mien/a.jpg"] = b"x"
    s3.failing.add("mien/a.jpg")
    store = Store("s3://mien/table")
    plan.claim(store, JOB)
    job = worker.Job("s3://mien/table", "", {"weights": recogniser_file}, "mien", "row")
    done = worker.Worker(job, worker.Ledger())(0, ["s3://mien/a.jpg"])
    assert done["failure"] is None
    assert done["errors"][0].startswith("s3://mien/a.jpg: cannot be read")
    assert "\n" not in done["errors"][0]


@pytest.mark.usefixtures("s3")
def test_an_empty_place_and_a_wrong_server_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BatchError, match="no picture below it"):
        inputs.pictures(["s3://mien/nothing"])


# The command, where it needs no engine


def test_the_command_says_what_is_wrong(command: Callable[..., Any], examples: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the batch extra")
    (tmp_path / "file").write_bytes(b"")
    ran = command("batch", examples, "--out", tmp_path / "file" / "table")
    assert ran.code == 2
    assert "cannot be made" in ran.err
    assert ran.err.count("\n") == 1
    ran = command("batch", "--out", tmp_path / "table")
    assert (ran.code, "nothing to analyse" in ran.err) == (2, True)
    ran = command("batch", examples, "--out", tmp_path / "table", "--weights", tmp_path / "none.onnx")
    assert (ran.code, "none.onnx: no such file" in ran.err) == (2, True)
    assert not (tmp_path / "table").exists(), "nothing was begun"


def test_a_finished_table_goes_on_with_what_failed_and_what_was_replaced(
    command: Callable[..., Any],
    examples: Path,
    tmp_path: Path,
    recogniser_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The workers are this process's, so that Ray need not start."""
    pytest.importorskip("ray", reason="needs the batch extra")
    from mien.batch import engine

    told: list[tuple[int, list[str] | None]] = []

    def here(
        todo: Any, job: worker.Job, address: str | None, workers: int | None
    ) -> Iterator[dict[str, Any]]:
        one = worker.Worker(job, worker.Ledger())
        for part, only in todo:
            told.append((part.number, only))
            yield one(part.number, list(part.pictures), only)

    monkeypatch.setattr(engine, "_done", here)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    smiling, neutral = (examples / f"portrait_{name}.jpg" for name in ("smiling", "neutral"))
    for name, source in (("a.jpg", smiling), ("b.jpg", neutral), ("d.jpg", neutral)):
        (pictures / name).write_bytes(source.read_bytes())
    (pictures / "c.jpg").write_bytes(b"damaged")
    base = (
        "batch",
        pictures,
        "--out",
        tmp_path / "table",
        "--weights",
        recogniser_file,
        "--part",
        "2",
        "--json",
    )

    def run(code: int, *more: str) -> tuple[dict[str, Any], list[Any]]:
        told.clear()
        ran = command(*base, *more)
        assert ran.code == code, ran.err
        return json.loads(ran.out), list(told)

    done, did = run(1)
    assert (done["pictures"], done["failed"], did) == (4, 1, [(0, None), (1, None)])
    first = table_of(tmp_path / "table").to_pylist()
    made = tables.made_of(next((tmp_path / "table").glob("part-00000-*")))["made_with"]
    assert made["weights"] == json.loads(recogniser_file.with_suffix(".json").read_text())["sha256"]

    done, did = run(1)  # the damaged one is tried again, nothing else
    assert (done["pictures"], done["before"], did) == (1, 3, [(1, [str(pictures / "c.jpg")])])
    assert table_of(tmp_path / "table").to_pylist() == first

    (pictures / "c.jpg").write_bytes(smiling.read_bytes())
    (pictures / "a.jpg").write_bytes(neutral.read_bytes())
    (pictures / "d.jpg").unlink()  # what was read of it stays
    done, did = run(0, "--detector", "auto")
    assert did == [(0, [str(pictures / "a.jpg")]), (1, [str(pictures / "c.jpg")])]
    rows = table_of(tmp_path / "table").to_pylist()
    assert [row["input"] for row in rows] == [str(pictures / f"{name}.jpg") for name in "abcd"]
    assert rows[1] == first[1]
    assert rows[3] == first[3]
    assert rows[0]["valence"] == rows[1]["valence"] != first[0]["valence"]
    assert {row["error"] for row in rows} == {None}
    assert run(0) == ({**done, "pictures": 0, "faces": 0, "failed": 0, "parts": 0, "before": 4, "started": 0.0,
                       "seconds": pytest.approx(0, abs=60), "processor": 0.0, "errors": []}, [])  # fmt: skip
    ran = command(*base, "--min-face", "60")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "was begun with min_face null, not 60.0" in ran.err
    torn = next((tmp_path / "table").glob("part-00001-*"))
    torn.write_bytes(b"")
    assert run(1)[1] == [(1, None)]  # and now the picture that is gone is missed
    assert table_of(tmp_path / "table").to_pylist()[:3] == rows[:3]


def test_relative_names_keep_to_their_folder(
    command: Callable[..., Any],
    examples: Path,
    tmp_path: Path,
    recogniser_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ray", reason="needs the batch extra")
    (tmp_path / "astronaut.png").write_bytes((examples / "astronaut.png").read_bytes())
    store = Store(str(tmp_path / "table"))
    store.make(plan.FOLDER)
    from mien.batch import engine

    assert engine._start_of(["/a.jpg", "s3://b/c.jpg"]) is None
    options = {
        "detector": "auto",
        "detector_model": None,
        "min_face": None,
        "min_confidence": None,
        "tiled": False,
    }
    wanted = engine._checked({**options, "weights": str(recogniser_file)}, "mien")
    plan.claim(store, {"columns": "mien", "on_no_face": "row", "folder": "/elsewhere", **wanted})
    monkeypatch.chdir(tmp_path)
    ran = command("batch", "astronaut.png", "--out", "table", "--weights", recogniser_file)
    assert ran.code == 2
    assert f'was begun with folder "/elsewhere", not "{tmp_path}"' in ran.err


# The process that holds Ray, played by others


def _played(monkeypatch: pytest.MonkeyPatch, play: str) -> Generator[Any]:
    """What the engine makes of a process that does this instead."""
    from mien.batch import engine

    monkeypatch.setattr(engine, "DRIVER", [sys.executable, "-c", f"import json, sys, time, os\n{play}"])
    job = worker.Job("out", "folder", {}, "pyfeat", "row")
    return engine._done([(plan.Part(0, ("a", "b")), None), (plan.Part(1, ("c",)), None)], job, None, 2)


def test_the_task_reaches_the_process_and_its_answers_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from mien.batch.driver import RemoteTask

    played = """
task = json.loads(sys.stdin.readline())
print(json.dumps({"workers": 2}))
for part in task["parts"]: print(json.dumps({"done": part}))
print(json.dumps({"done": task["job"]["folder"]}))
print(json.dumps({"end": None}))
"""
    assert list(_played(monkeypatch, played)) == [[0, ["a", "b"], None], [1, ["c"], None], "folder"]
    task = RemoteTask(
        worker.Job("o", "f", {"tiled": True}, "pyfeat", "row"), [(3, ["\u2028\n"], ["\u2028\n"])], None, "a:1"
    )
    assert RemoteTask.decoded(task.encoded()) == task
    assert task.encoded().count("\n") == 1, "one line, whatever is in a name"


def test_an_engine_that_never_gets_ready_is_ended_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from mien.batch import engine

    monkeypatch.setattr(engine, "START_LIMIT", 0.5)
    begun = time.monotonic()
    with pytest.raises(BatchError, match=r"not ready within 0\.5 seconds: .*use  mien predict --workers"):
        list(_played(monkeypatch, "time.sleep(600)"))
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("play", "error", "said"),
    [
        ("print(json.dumps({'workers': 2})); sys.exit(1)", BatchError, "Ray has ended itself"),
        ("sys.exit('no room for Ray')", BatchError, "Ray cannot be started: no room for Ray: "),
        ("print(json.dumps({'failed': 'no cluster'}))", BatchError, "no cluster"),
        ("print(json.dumps({'refused': 'too many'}))", ConfigError, "too many"),
    ],
)
def test_what_goes_wrong_in_the_process_is_said(
    monkeypatch: pytest.MonkeyPatch, play: str, error: type[MienError], said: str
) -> None:
    with pytest.raises(error, match=said):
        list(_played(monkeypatch, play))


def test_the_process_ends_with_its_reader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    played = f"""
sys.stdin.readline()
print(json.dumps({{"done": os.getpid()}}), flush=True)
sys.stdin.read()
open({str(mark)!r}, "w").close()
"""
    answers = _played(monkeypatch, played)
    process = next(answers)
    assert isinstance(process, int)
    answers.close()
    assert mark.exists(), "it heard that nobody listens"
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


@pytest.mark.parametrize("address", ["ray://host:10001", "host", "host:", ":6379", "host:port"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    from mien.batch import engine

    with pytest.raises(ConfigError, match="pass host:port"):
        engine._reach(address)


def test_an_address_where_nothing_listens_is_said_at_once() -> None:
    from mien.batch import engine

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(
        BatchError, match=rf"{address} cannot be used: Connection refused: .*ray start --head"
    ):
        engine._reach(address)


def test_a_wrong_token_is_told_from_a_cluster_that_is_not_there() -> None:
    from mien.batch.driver import unusable

    wrong = ConnectionError("Failed to connect")
    wrong.__cause__ = RuntimeError("RPC error: InvalidAuthToken: Authentication token is missing")
    assert "copy ~/.ray/auth_token" in unusable("host:1", wrong)
    assert "ray start --head" in unusable("host:1", ConnectionError("Failed to connect"))


# Passwords and signatures


@pytest.fixture
def guarded(examples: Path) -> Iterator[str]:
    """The address of a server that gives a portrait to who knows the password or the signature, `secret-value`."""
    pytest.importorskip("aiohttp", reason="fsspec speaks http by it")
    portrait = (examples / "portrait_neutral.jpg").read_bytes()

    class Guard(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told = b64decode(self.headers.get("Authorization", "").partition(" ")[2]) + self.path.encode()
            known = b"secret-value" in told and not self.path.startswith("/missing")
            self.send_response(200 if known else 403)
            self.send_header("Content-Length", str(len(portrait) if known else 0))
            self.end_headers()
            if known and self.command == "GET":
                self.wfile.write(portrait)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Guard) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_passwords_and_signatures_reach_no_table_and_no_message(
    guarded: str, job: worker.Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(storage, "PAUSES", ())
    shown = [f"http://{guarded}/{name}.jpg" for name in ("a", "b", "missing", "died")]
    urls = inputs.pictures(
        [
            f"http://me:secret-value@{guarded}/a.jpg",
            f"{shown[1]}?X-Amz-Algorithm=AWS4&X-Amz-Signature=secret-value",
            f"{shown[2]}?sv=1&sig=secret-value",
            f"http://me:secret-value@{guarded}/died.jpg",
        ]
    )
    store = Store(job.out)
    store.make(plan.FOLDER)
    [part] = plan.extend(store, [], urls, 9)
    ledger = worker.Ledger()
    for _ in range(1 + worker.DEATHS):  # as if that many processes had died on the last one
        ledger.begin(part.number)
        ledger.at(part.number, urls[3])
    done = worker.Worker(job, ledger)(part.number, list(part.pictures))
    rows = table_of(job.out).to_pylist()
    assert [row["input"] for row in rows] == shown
    assert [bool(row["error"]) for row in rows] == [False, False, True, True]
    told = [json.dumps(done), json.dumps(rows, default=str), *map(str, plan.planned(store))]
    written = [path.read_bytes() for path in Path(job.out).rglob("*") if path.is_file()]
    written += [gzip.decompress(data) for data in written if data[:2] == b"\x1f\x8b"]
    assert not any("secret-value" in text for text in told)
    assert not any(b"secret-value" in data for data in written)
    # What failed is done again, and the rows of the others stay.
    assert plan.failed(store)[part.digest] == shown[2:]
    worker.Worker(job, worker.Ledger())(part.number, list(part.pictures), [part.pictures[3]])
    assert table_of(job.out).to_pylist()[:3] == rows[:3]


def test_a_url_that_is_signed_anew_is_the_same_picture(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.make(plan.FOLDER)
    old, new = (f"https://h/a.jpg?sv=1&sig={name}" for name in ("old", "new"))
    other = "https://h/b.jpg?sv=1&sig=other"
    first = plan.extend(store, [], inputs.pictures([old, other]), 1)
    again = plan.extend(store, plan.planned(store), inputs.pictures([old, new]), 1)
    assert [part.name for part in again] == [part.name for part in first]
    assert again[0].pictures == (new,), "fetched by the URL that is given now"
    plan.openable(again[:1])
    with pytest.raises(BatchError, match=r"https://h/b\.jpg: .*give it again"):
        plan.openable(again)


@pytest.mark.parametrize(
    "call",
    [
        lambda url: storage.open_url(url),
        lambda url: Store(url).names(),
        lambda url: Store(url).write("a", b""),
        lambda url: inputs.pictures([url]),
        lambda url: inputs.pictures([url + "/list.csv"]),
    ],
)
@pytest.mark.parametrize("scheme", ["nosuch", "s3", "https", "sftp"])
def test_no_message_tells_them(
    call: Callable[[str], object], scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "PAUSES", ())
    monkeypatch.setattr(storage, "_system", _refused)
    with pytest.raises(BatchError) as told:
        call(f"{scheme}://me:secret-value@127.0.0.1:9/folder?sig=secret-value")
    assert "secret-value" not in str(told.value)


def _refused(scheme: str, host: str) -> Any:
    raise OSError(f"cannot reach {scheme}://{host} with 'https://{host}/x?sig=secret-value'")
