"""Runs a batch: the plan on one side, Ray Data's pool of workers on the other.

Ray Data starts the workers (one processor, one thread and one `Pipeline` each), hands them parts, starts dead ones
anew and gives them their part again; on one machine it is embedded in this process and gone with it, and with an
address it is the cluster's. Why Ray Data and not Daft is measured in `docs/scale.md`.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from mien.batch import plan
from mien.batch.inputs import pictures as expand
from mien.batch.stores import BatchError, Store, is_url, reason
from mien.batch.worker import Job, Ledger, RayWorker
from mien.errors import ConfigError, ExtraMissing
from mien.threads import available

OBJECTS: Final = 100_000_000
"""Bytes of Ray's shared memory on one machine; what passes through it are names and counts."""

STARTS: Final = 3
"""Times that Ray is started; on a busy machine its parts give up waiting for each other after 15 to 30 seconds."""

START_LIMIT: Final = 60.0
"""Seconds after which no further start is tried."""

REACH: Final = 10.0
"""Seconds in which the first machine of a cluster must answer."""

TOLD: Final = 10
"""Errors that a `Summary` repeats; all of them are in the table."""

_FAILURES = (OSError, RuntimeError, ValueError)  # of starting or joining Ray; ConnectionError is an OSError

Report = Callable[[int, int], None]
"""Told how many pictures are done, and of how many."""


@dataclass
class Summary:
    """What a run did. The counts are this run's, without `before`: the pictures that earlier runs had done.

    `started` is the seconds until the part that was done first was begun, `seconds` those of the whole run.
    `processor` is what the parts took of the workers' processors, in seconds: what a cluster is paid for.
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


def run(
    given: Sequence[str],
    out: str,
    *,
    options: dict[str, Any] | None = None,
    columns: str = "pyfeat",
    on_no_face: Literal["row", "skip", "error"] = "row",
    workers: int | None = None,
    address: str | None = None,
    size: int | None = None,
    report: Report | None = None,
) -> Summary:
    """Analyse any number of pictures into a folder of Parquet files; what is there already is not done again.

    Args:
        given: pictures, folders, patterns, manifests, or URLs of these; see `mien.batch.inputs`.
        out: the folder of the table, or its URL. A run that was stopped goes on where it was.
        options: of `mien.load`, plain values.
        columns, on_no_face: as for `mien.tables.rows`; "error" makes a picture without a face one with an error.
        workers: processes of one thread each; all processors of this machine, or of the cluster, unless told.
        address: a running Ray cluster ("host:port", or "auto" for the one this machine belongs to).
        size: pictures in a part; see `mien.batch.plan.size_for`.
        report: told of progress after each part.

    Raises:
        ConfigError: an option or the input is wrong.
        BatchError: the folder is another batch's, in use, or cannot be written; or the cluster cannot be reached.
        ExtraMissing: Ray is not installed.
        WeightsError: weights are not sound.
    """
    begun = time.monotonic()
    options = dict(options or {})
    for name, value in (("workers", workers), ("size", size)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}: pass 1 or more")
    names = expand(given)
    if address is not None:
        _reach(address)
    _ray(address)  # at the door: not after the plan is written
    store = Store(out)
    wanted = {
        "columns": columns,
        "on_no_face": on_no_face,
        "folder": _start_of(names),
        **_checked(options, columns),
    }
    store.make(plan.FOLDER)
    with store.locked(plan.LOCK):
        plan.claim(store, wanted)
        parts = plan.extend(store, plan.planned(store), names, size or plan.size_for(len(names)))
        there = plan.finished(store)
        todo = [part for part in parts if part.digest not in there]
        total = sum(len(part.pictures) for part in todo)
        summary = Summary(before=sum(len(part.pictures) for part in parts) - total)
        if todo:
            job = Job(_absolute(out), str(Path.cwd()), options, columns, on_no_face)
            with _cluster(address, workers) as count:
                for done in _each(todo, job, min(count, len(todo))):
                    if done["failure"] is not None:
                        raise BatchError(done["failure"])
                    if not summary.parts:
                        summary.started = time.monotonic() - begun - done["seconds"]
                    summary.parts += 1
                    summary.pictures += done["pictures"]
                    summary.faces += done["faces"]
                    summary.failed += done["failed"]
                    summary.processor += done["processor"]
                    summary.errors += done["errors"][: TOLD - len(summary.errors)]
                    if report is not None:
                        report(summary.pictures, total)
            _complete(store, todo)
    summary.seconds = time.monotonic() - begun
    return summary


def _checked(options: dict[str, Any], columns: str) -> dict[str, Any]:
    """Load once here, so that what is wrong is said before anything is started; return what the table depends on."""
    from mien.columns import columns_of
    from mien.pipeline import load

    columns_of(columns)
    pipeline = load(**options, threads=1)
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    plain.pop("weights", None)
    return {**plain, "model": pipeline.recogniser.name}


def _start_of(names: list[str]) -> str | None:
    """What relative names start from, without which those of an earlier run mean nothing; None where all are whole."""
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


def _reach(address: str) -> None:
    """Knock at the cluster's first machine; Ray itself would go on knocking for ten minutes."""
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


def _ray(address: str | None = None) -> Any:
    # Read when Ray is imported. It reports its use to its makers unless told not to; nothing here does.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray Data has an error of its own making printed at each start (its issue 53727).
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Each try waits half a minute; Ray's own default is twenty of them.
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")
    if address is not None and _has_token():
        # `ray start` asks for the token as soon as there is one, but a program that joins by address does not send it
        # unless told to.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as missing:
        raise ExtraMissing("batch", missing.name or "ray") from None
    return ray


def _has_token() -> bool:
    """Whether this user has Ray's token in one of the places where Ray looks for it."""
    named = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ)
    return bool(named) or Path("~/.ray/auth_token").expanduser().is_file()


@contextmanager
def _cluster(address: str | None, workers: int | None) -> Iterator[int]:
    """Start or join Ray; yield the number of workers. What was started ends here, what was joined is left running."""
    ray = _ray(address)
    end = time.monotonic() + START_LIMIT
    for left in reversed(range(STARTS if address is None else 1)):
        try:
            with _unheard():
                _start(ray, address, workers)
            break
        except Exception as problem:
            ray.shutdown()
            # Besides these, Ray raises bare exceptions: for one, that it waited longer than it is willing to.
            if type(problem) is not Exception and not isinstance(
                problem, (*_FAILURES, ray.exceptions.RayError)
            ):
                raise
            if not left or time.monotonic() > end:
                raise BatchError(_unusable(address, problem)) from None
    try:
        count = int(ray.cluster_resources().get("CPU", 0))
        if workers is not None and workers > count:
            raise ConfigError(f"workers is {workers}: the cluster has {count} processors: pass at most that")
        # Ray prints what it thinks of a dead worker to standard output, where the answer goes, whatever it was told of
        # logs; it has no other switch. What is to be said of it is in the table and in the summary.
        ray._private.worker._worker_logs_enabled = False
        yield workers or count
    finally:
        ray.shutdown()


def _unusable(address: str | None, problem: Exception) -> str:
    if address is None:
        return (
            f"Ray cannot be started: {reason(problem)}: its parts wait 15 to 30 seconds for each other, too little on a "
            "machine this busy: end what else runs, or use  mien predict --workers"
        )
    # What Ray says of a wrong token and of a machine that is away is far down in what it tells.
    told = f"{problem} {problem.__cause__}"
    remedy = (
        "copy ~/.ray/auth_token from the cluster's first machine to this one"
        if "InvalidAuthToken" in told or "authentication token" in told
        else "begin one with  ray start --head"
    )
    return f"the Ray cluster at {address} cannot be used: {reason(problem)}: {remedy}"


def _start(ray: Any, address: str | None, workers: int | None) -> None:
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is not None:
        ray.init(address=address, **quiet)
        return
    ray.init(
        address="local",
        num_cpus=workers or available(),
        object_store_memory=OBJECTS,
        include_dashboard=False,
        # Ray's own default, 15, starves its workers on a machine that does anything else.
        _system_config={"worker_niceness": 0},
        **quiet,
    )


@contextmanager
def _unheard() -> Iterator[None]:
    """Let this process's standard error go nowhere for a while, also for what is no Python.

    Ray says there which level of messages it was told to show.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _each(todo: list[plan.Part], job: Job, workers: int) -> Iterator[dict[str, Any]]:
    """Have every part done by a pool of workers; yield what each did, as it is done."""
    if not todo:
        return
    ray = _ray()
    import logging

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # A list of names is tiny: one part a block, so that a lost worker costs one part.
    rows = [{"number": part.number, "pictures": json.dumps(part.pictures)} for part in todo]
    ledger = ray.remote(Ledger).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
    done = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        RayWorker,
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
        fn_constructor_args=(job, ledger),
        num_cpus=1,
    )
    for row in done.iter_rows():
        yield json.loads(row["done"])
