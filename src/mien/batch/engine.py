"""Run a batch: give the parts of the plan to Ray Data's pool of workers.

Ray Data starts the workers (one processor, one thread and one `Pipeline` each), hands them parts, and restarts dead
ones with the same part. On one machine it is a child of this process and ends with it; with an address it belongs to
the cluster. It is controlled from its own process, see `mien.batch.driver`. `docs/scale.md` compares Ray Data with
Daft.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile, gettempdir
from typing import IO, Any, Final, Literal

from mien.batch import inputs, plan
from mien.batch.driver import FAREWELL, RemoteTask, unusable
from mien.batch.storage import BatchError, Store, is_url, reason
from mien.batch.worker import Job
from mien.errors import ConfigError, ExtraMissing
from mien.faces.parallel import made_with
from mien.io.inputs import unchanged
from mien.io.tables import TableError, key, made_of
from mien.types import CountProgress
from mien.urls import without_secrets

START_LIMIT: Final = 180.0
"""Seconds within which Ray must be ready, all attempts together."""

REACH: Final = 10.0
"""Seconds within which the first machine of a cluster must answer."""

DRIVER: Final = [sys.executable, "-m", "mien.batch.driver"]
"""Command that starts the process with Ray."""

TAIL: Final = 4000
"""Bytes at the end of Ray's output in which its last error is searched."""

TOLD: Final = 10
"""Errors that a `Summary` repeats; all of them are in the table."""


@dataclass
class Summary:
    """Results of a run. The counts do not include `before`, the pictures that earlier runs analysed.

    `started` is the seconds until the first part was begun, `seconds` those of the whole run, and `processor` the
    processor time of the workers in seconds, which a cluster is paid for.
    """

    pictures: int = 0
    faces: int = 0
    failed: int = 0
    parts: int = 0
    before: int = 0
    started: float = 0.0
    seconds: float = 0.0
    processor: float = 0.0
    errors: list[str] = field(default_factory=list)

    def add(self, done: dict[str, Any]) -> None:
        """Count a part that a worker has finished."""
        self.parts += 1
        self.pictures += done["pictures"]
        self.faces += done["faces"]
        self.failed += done["failed"]
        self.processor += done["processor"]
        self.errors += done["errors"][: TOLD - len(self.errors)]


def run(
    given: Sequence[str],
    out: str,
    *,
    options: dict[str, Any] | None = None,
    columns: str = "mien",
    landmarks: bool = True,
    on_no_face: Literal["row", "skip", "error"] = "row",
    workers: int | None = None,
    address: str | None = None,
    size: int | None = None,
    progress: CountProgress | None = None,
    note: Callable[[Path], None] | None = None,
) -> Summary:
    """Analyse any number of pictures into a folder of Parquet files; finished pictures are not analysed again.

    Pictures that could not be analysed are tried again, and so are local files with changed content.

    Args:
        given: pictures, folders, patterns, manifests, or URLs of these; see `mien.batch.inputs`.
        out: the folder of the table, or its URL. A stopped run is continued.
        options: of `mien.load`, plain values.
        columns, landmarks, on_no_face: as for `mien.io.tables.rows`; "error" records an error for a picture without a
            face.
        workers: processes of one thread each; None is one for each processor of this machine, or of the cluster.
        address: a running Ray cluster ("host:port", or "auto" for the one this machine belongs to).
        size: pictures in a part; see `mien.batch.plan.size_for`.
        progress: called after each part with the pictures done and their number.
        note: called with each link to a folder that was not followed.

    Raises:
        ConfigError: an option or the input is wrong.
        BatchError: the folder is another batch's, in use, or cannot be written; or the cluster cannot be reached.
        ExtraMissing: Ray is not installed.
        WeightsError: weights are missing, damaged or not those of their card.
    """
    begun = time.monotonic()
    options = dict(options or {})
    for name, value in (("workers", workers), ("size", size)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}: pass 1 or more")
    names = inputs.pictures(given, note)
    _installed()  # fail now, not after the plan is written
    if address is not None:
        _reach(address)
    store = Store(out)
    wanted = {
        "columns": columns,
        **({} if landmarks else {"landmarks": False}),
        "on_no_face": on_no_face,
        "folder": _start_of(names),
        **(made := _checked(options, columns)),
    }
    store.make(plan.FOLDER)
    with store.locked(plan.LOCK):
        plan.claim(store, wanted)
        parts = plan.extend(store, plan.planned(store), names, size or plan.size_for(len(names)))
        todo = _todo(store, parts)
        total = sum(len(part.pictures if only is None else only) for part, only in todo)
        plan.openable([part for part, _ in todo])
        summary = Summary(before=sum(len(part.pictures) for part in parts) - total)
        if todo:
            job = Job(_absolute(out), str(Path.cwd()), options, columns, on_no_face, made, landmarks)
            for done in _done(todo, job, address, workers):
                if done["failure"] is not None:
                    raise BatchError(done["failure"])
                if not summary.parts:
                    summary.started = time.monotonic() - begun - done["seconds"]
                summary.add(done)
                if progress is not None:
                    progress(summary.pictures, total)
            _complete(store, [part for part, _ in todo])
    summary.seconds = time.monotonic() - begun
    return summary


def _checked(options: dict[str, Any], columns: str) -> dict[str, Any]:
    """Load the models once, to raise errors before anything is started; return what the table depends on."""
    from mien.faces.pipeline import load
    from mien.io.columns import columns_of

    changes = options.get("baseline") is not None
    columns_of(columns, changes=changes)
    columns_of(columns, labels=load(**options, threads=1).labels, changes=changes)
    return made_with(options)


def _todo(store: Store, parts: Sequence[plan.Part]) -> list[tuple[plan.Part, list[str] | None]]:
    """The parts that are not finished, each with those of its pictures that are to be done again; None means all."""
    finished, failed = plan.finished(store), plan.failed(store)
    todo: list[tuple[plan.Part, list[str] | None]] = []
    for part in parts:
        replaced = _replaced(store, part) if part.digest in finished else None
        if replaced is None:  # missing, or damaged
            todo.append((part, None))
            continue
        noted = {*failed.get(part.digest, ()), *replaced}
        again = [name for name in part.pictures if without_secrets(name) in noted]
        if again:
            todo.append((part, again))
    return todo


def _replaced(store: Store, part: plan.Part) -> list[str] | None:
    """The pictures of a finished part with changed content; None if the part's file is damaged.

    Pictures and parts behind URLs are not checked.
    """
    if store.remote:
        return []
    try:
        known = made_of(Path(store.place) / part.name).get("pictures", {})
    except TableError:
        return None
    return [
        picture
        for picture in part.pictures
        if (content := known.get(key(picture))) is not None
        and Path(picture).exists()
        and not unchanged(picture, content)
    ]


def _start_of(names: list[str]) -> str | None:
    """The folder that relative names start from, so that those of an earlier run can be resolved; None if all are
    absolute."""
    relative = any(not is_url(name) and not os.path.isabs(name) for name in names)  # noqa: PTH117 - a million of them
    return str(Path.cwd()) if relative else None


def _absolute(out: str) -> str:
    store = Store(out)
    return out if store.remote else str(Path(out).absolute())


def _complete(store: Store, todo: list[plan.Part]) -> None:
    missing = {part.digest for part in todo} - plan.finished(store)
    if missing:
        raise BatchError(
            f"{store.place}: {len(missing)} parts that were done are not here: --out must be a folder that all "
            "machines share, or a URL"
        )


def _installed() -> None:
    for module in ("ray", "pandas"):
        if find_spec(module) is None:
            raise ExtraMissing("batch", module)


def _reach(address: str) -> None:
    """Check that the cluster's first machine answers; Ray itself would retry for ten minutes."""
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    if not host or "/" in address or not port.isdigit():
        raise ConfigError(
            f"address is {address}: pass host:port as  ray start --head  printed it, or auto for this machine's cluster"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), REACH):
            return
    except (OSError, OverflowError) as problem:
        raise BatchError(
            f"the Ray cluster at {address} cannot be used: {reason(problem)}: begin one with  ray start --head"
        ) from None


def _done(
    todo: list[tuple[plan.Part, list[str] | None]], job: Job, address: str | None, workers: int | None
) -> Generator[dict[str, Any]]:
    """Start the process with Ray; yield its report on each part as it is done.

    Closing this generator ends that process, and with it the Ray that it started.
    """
    task = RemoteTask(
        job, [(part.number, list(part.pictures), only) for part, only in todo], workers, address
    )
    with TemporaryFile() as log, _own_ray(address) as settings:
        begun = time.monotonic()
        process = subprocess.Popen(
            DRIVER,
            # A ray.py among the pictures must not be imported.
            env={**os.environ, "PYTHONSAFEPATH": "1", **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is handled in this process
        )
        assert process.stdin is not None
        assert process.stdout is not None
        limit = threading.Timer(START_LIMIT, process.kill)
        limit.daemon = True
        limit.start()
        ready = False
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(task.encoded())
                process.stdin.flush()
            for line in process.stdout:
                [(kind, what)] = json.loads(line).items()
                if kind == "workers":
                    ready = True
                    limit.cancel()
                elif kind == "done":
                    yield what
                elif kind == "failed":
                    raise BatchError(what)
                elif kind == "refused":
                    raise ConfigError(what)
                else:
                    return
            if not ready:
                slow = time.monotonic() - begun >= START_LIMIT
                why = f"it was not ready within {START_LIMIT:g} seconds" if slow else _last_of(log)
                raise BatchError(unusable(address, why))
            raise BatchError(
                "Ray has ended itself, as it does when one of its processes or a cluster's first machine dies: "
                "finished parts are kept: give the same command again"
            )
        finally:
            limit.cancel()
            _end(process)


@contextmanager
def _own_ray(address: str | None) -> Iterator[dict[str, str]]:
    """Environment of a local Ray: not reachable from other machines, and without files left behind."""
    if address is not None:
        yield {}
        return
    settings = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # despite its name it restricts Ray to loopback on any system
        "RAY_AUTH_MODE": "token",  # without one here, Ray would make one in the home folder
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    if "RAY_TMPDIR" in os.environ:
        yield settings
        return
    # A socket's path may have 107 characters, of which Ray needs 67.
    place = None if len(gettempdir()) <= 25 or not Path("/tmp").is_dir() else "/tmp"
    with TemporaryDirectory(prefix="mien-", dir=place, ignore_cleanup_errors=True) as folder:
        yield {**settings, "RAY_TMPDIR": folder}


def _last_of(log: IO[bytes]) -> str:
    """The last line of a process's error output."""
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - TAIL))
    lines = [line.strip() for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else "without a word"


def _end(process: subprocess.Popen[str]) -> None:
    """Wait for the process with Ray, which ends when its standard input is closed; kill it if it does not."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(2 * FAREWELL)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
