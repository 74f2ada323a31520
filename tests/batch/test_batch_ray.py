"""`mien batch` on Ray: nothing is lost and nothing is twice, whoever is killed and however often.

The engine runs as its users run it, as a command. Most tests join one small cluster on loopback, begun here.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.io import images

pytest.importorskip("ray", reason="needs the batch extra")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs the batch extra")
if not Path("/proc/self/stat").exists():
    pytest.skip("finds processes in /proc", allow_module_level=True)

pytestmark = pytest.mark.slow  # minutes, and the engine's node needs free processors to start at all

PATIENCE = 150.0
"""Seconds that anything here may take on a machine that is busy with other things."""

RAY = Path(sys.executable).with_name("ray")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> Path:
    """Pictures: most with a face, one damaged, enough and large enough that a run can be disturbed before its end."""
    root = tmp_path_factory.mktemp("pictures")
    portrait = (
        images.read(examples / "portrait_smiling.jpg")[60:460, 60:460].repeat(4, axis=0).repeat(4, axis=1)
    )
    for number in range(12):
        images.write(root / f"{number:02}.jpg", np.roll(portrait, number, axis=1))
    (root / "05.jpg").write_bytes(b"damaged")
    (root / "more").mkdir()
    for number in range(108):
        (root / "more" / f"{number:03}.jpg").symlink_to(root / f"{number % 12:02}.jpg")
    return root


@pytest.fixture(scope="module")
def expected(
    folder: Path, recogniser_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """The rows of `mien predict` for the same pictures."""
    table = tmp_path_factory.mktemp("plain") / "plain.parquet"
    subprocess.run(
        [sys.executable, "-m", "mien", "predict", folder, "--out", table, "--weights", recogniser_file],
        check=False,
        capture_output=True,
        timeout=PATIENCE,
    )
    rows: list[dict[str, Any]] = parquet.read_table(table).to_pylist()
    assert len(rows) == 120
    return rows


@pytest.fixture(scope="module", autouse=True)
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A token of these tests' own, where Ray looks for one; none is left in the home of who runs them."""
    path = tmp_path_factory.mktemp("secret") / "auth_token"
    path.write_text("mien-tests-0123456789abcdef0123456789abcdef")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
        patch.delenv("RAY_AUTH_TOKEN", raising=False)
        patch.delenv("RAY_AUTH_MODE", raising=False)
        yield


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """A running cluster of two workers: its address, and the process that all of it hangs on."""
    # Ray's sockets need a short path. Started with --block, the whole cluster ends with this one process.
    place = Path(tempfile.gettempdir()) / f"mien-ray-{os.getpid()}"
    path = tmp_path_factory.mktemp("cluster") / "log"
    with path.open("wb") as log:
        for _ in range(3):  # on a busy machine the parts of Ray give up waiting for each other
            port, *agents = _free_ports(5)
            arguments = {
                "port": port, "num-cpus": 2, "temp-dir": place, "include-dashboard": "false",
                "object-store-memory": 100_000_000, "dashboard-agent-grpc-port": agents[0],
                "dashboard-agent-listen-port": agents[1], "runtime-env-agent-port": agents[2],
                "metrics-export-port": agents[3],
            }  # fmt: skip
            start = [RAY, "start", "--head", "--block", "--disable-usage-stats"]
            head = subprocess.Popen(
                [*start, *(f"--{name}={value}" for name, value in arguments.items())],
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "RAY_worker_niceness": "0",
                    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
                },
            )
            until(lambda: b"Ray runtime started" in path.read_bytes() or head.poll() is not None)  # noqa: B023
            if head.poll() is None:
                break
        else:
            pytest.fail(f"no cluster starts: {path.read_text()[-2000:]}")
    yield f"127.0.0.1:{port}", head.pid
    ours = family(head.pid)
    head.send_signal(signal.SIGTERM)
    head.wait(60)
    for pid in filter(alive, ours):
        _kill(pid)
    shutil.rmtree(place, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        free = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in free:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in free]


def until(true: Callable[[], Any], process: subprocess.Popen[Any] | None = None) -> None:
    """Wait until something holds; a process that it depends on must not end before."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert process is None or process.poll() is None, "the process ended too early"
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def family(root: int) -> set[int]:
    """A process and all that descend from it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(text.rpartition(")")[2].split()[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def workers(root: int) -> list[int]:
    """The processes below `root` that analyse pictures."""
    found = []
    for pid in family(root):
        try:
            if b"MapWorker" in (Path("/proc") / str(pid) / "cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


def name(pid: int) -> str:
    """What the system calls a process."""
    try:
        return (Path("/proc") / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be collected does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def start(folder: Path, out: Path, weights: Path, *more: str) -> subprocess.Popen[str]:
    """Begin `mien batch` in small parts, in a process group of its own as a terminal does."""
    base = [sys.executable, "-m", "mien", "batch", folder, "--out", out, "--weights", weights]
    return subprocess.Popen(
        [str(part) for part in (*base, "--part", 4, "--workers", 2, "--json", *more)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    """Wait for a run to end well, but for the damaged pictures; its summary and standard error."""
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, err
    return json.loads(out), err


def parts(out: Path) -> list[Path]:
    return sorted(out.glob("part-*.parquet"))


def is_whole(out: Path, expected: list[dict[str, Any]]) -> None:
    """The table is that of `mien predict`: each row there, and there once."""
    rows = [row for part in parts(out) for row in parquet.read_table(part).to_pylist()]
    rows.sort(key=lambda row: row["input"])
    assert [row["input"] for row in rows] == [row["input"] for row in expected]
    assert rows == expected
    assert parquet.ParquetDataset(out).read().num_rows == len(expected), "read as one table"
    assert not list(out.glob(".mien-*")), "nothing half written is left"


def test_a_killed_worker_loses_nothing_and_a_second_run_does_nothing_twice(
    cluster: tuple[str, int],
    folder: Path,
    expected: list[dict[str, Any]],
    recogniser_file: Path,
    tmp_path: Path,
) -> None:
    address, head = cluster
    out = tmp_path / "table"
    run = start(folder, out, recogniser_file, "--address", address)
    until(lambda: len(parts(out)) >= 2, run)
    victim = workers(head)[0]
    _kill(victim)
    until(lambda: not alive(victim))
    done, err = finish(run)
    is_whole(out, expected)
    assert (done["pictures"], done["failed"], done["before"], done["parts"]) == (120, 10, 0, 30)
    shown = [line for line in err.splitlines() if line.startswith("mien:")]
    assert shown == err.splitlines(), "nothing of the engine's own"
    assert len(shown) == 10

    written = {part: part.stat().st_mtime_ns for part in parts(out)}
    images.write(folder / "new.jpg", np.full((64, 64, 3), 90, np.uint8))
    try:
        again = start(folder, out, recogniser_file, "--address", address)
        text, err = again.communicate(timeout=PATIENCE)
        assert again.returncode == 1, err
        done = json.loads(text)
        assert (done["pictures"], done["before"]) == (11, 110), "only what is new, and what had failed"
        assert sum(part.stat().st_mtime_ns != when for part, when in written.items()) <= 10
        rows = [row for part in parts(out) for row in parquet.read_table(part).to_pylist()]
        assert sum(row["input"] == str(folder / "new.jpg") for row in rows) == 1
        assert len(rows) == len(expected) + 1
    finally:
        (folder / "new.jpg").unlink()


def test_an_interrupted_and_then_killed_run_goes_on_where_it_was(
    cluster: tuple[str, int],
    folder: Path,
    expected: list[dict[str, Any]],
    recogniser_file: Path,
    tmp_path: Path,
) -> None:
    address, head = cluster
    out = tmp_path / "table"
    run = start(folder, out, recogniser_file, "--address", address)
    until(lambda: len(parts(out)) >= 2, run)
    os.killpg(run.pid, signal.SIGINT)
    _, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == 130, err
    assert err == f"mien: interrupted: finished parts are in {out}: continue with the same command\n"
    interrupted = len(parts(out))
    assert 2 <= interrupted < 30

    run = start(folder, out, recogniser_file, "--address", address)
    until(lambda: len(parts(out)) >= interrupted + 2, run)
    run.kill()
    run.communicate()
    until(lambda: not workers(head))  # the cluster goes on without what the killed command had begun there
    killed = len(parts(out))
    assert killed < 30

    done, _ = finish(start(folder, out, recogniser_file, "--address", address))
    assert 4 * killed - 10 <= done["before"] <= 4 * killed, "all but what had failed"
    assert done["pictures"] == 120 - done["before"]
    is_whole(out, expected)


def test_an_embedded_engine_ends_with_its_owner(folder: Path, recogniser_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "table"
    run = start(folder, out, recogniser_file)
    until(lambda: parts(out), run)
    ours = family(run.pid)
    assert len(workers(run.pid)) == 2
    run.kill()
    run.communicate()
    until(lambda: not any(alive(pid) for pid in ours))
    assert len(parts(out)) < 30
    assert all(parquet.read_table(part).num_rows == 4 for part in parts(out)), "each whole"


def test_an_engine_that_dies_is_said_and_the_next_run_goes_on(
    folder: Path, expected: list[dict[str, Any]], recogniser_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "table"
    run = start(folder, out, recogniser_file)
    until(lambda: parts(out), run)
    [node] = [pid for pid in family(run.pid) if name(pid) == "raylet"]
    _kill(node)
    _, err = run.communicate(timeout=PATIENCE)
    assert (run.returncode, err.count("\n")) == (2, 1), err
    assert "Ray has ended itself" in err
    before = len(parts(out))
    done, _ = finish(start(folder, out, recogniser_file))
    assert 4 * before - 10 <= done["before"] <= 4 * before, "all but what had failed"
    is_whole(out, expected)


def test_pictures_and_table_on_s3(
    folder: Path, expected: list[dict[str, Any]], recogniser_file: Path, tmp_path: Path
) -> None:
    from batch_s3_server import serving

    with serving() as (url, server):
        for number in range(8):
            server.objects[f"mien/in/{number:02}.jpg"] = (folder / f"{number:02}.jpg").read_bytes()
        place = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        run = subprocess.run(
            [sys.executable, "-m", "mien", "batch", "s3://mien/in", "--out", "s3://mien/out", "--part", "4",
             "--workers", "2", "--weights", recogniser_file, "--json"],
            env={**os.environ, **place}, capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
        assert run.returncode == 1, run.stderr
        assert json.loads(run.stdout)["pictures"] == 8
        tables = [name for name in server.objects if name.startswith("mien/out/part-")]
        assert len(tables) == 2
        rows = []
        for name in sorted(tables):
            (tmp_path / "part.parquet").write_bytes(server.objects[name])
            rows += parquet.read_table(tmp_path / "part.parquet").to_pylist()
    for found, plain in zip(rows, expected, strict=False):
        assert found["input"] == f"s3://mien/in/{Path(plain['input']).name}"
        same = set(found) - {"input", "error"}
        assert {name: found[name] for name in same} == {name: plain[name] for name in same}
        assert (found["error"] is None) == (plain["error"] is None)


def test_a_cluster_that_is_not_there_is_said(folder: Path, recogniser_file: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    run = start(folder, tmp_path / "table", recogniser_file, "--address", address)
    _, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == 2
    assert f"the Ray cluster at {address} cannot be used" in err
    assert err.startswith("mien: ")
    assert err.count("\n") == 1


def test_more_workers_than_the_cluster_has_are_refused(
    cluster: tuple[str, int], folder: Path, recogniser_file: Path, tmp_path: Path
) -> None:
    run = start(folder, tmp_path / "table", recogniser_file, "--address", cluster[0], "--workers", "3")
    _, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == 2
    assert err == "mien: workers is 3: the cluster has 2 processors: pass at most that\n"
