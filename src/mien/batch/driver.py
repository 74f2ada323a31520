"""Run Ray in its own process: start or join it, let its workers do the parts, and report progress.

Ray gets its own process for three reasons. It exits the process it is in, silently and with exit code 1, when one of
its own processes dies; some of its waits have no timeout; and it changes the environment, the signal handlers and the
output of the importing process. `mien.batch.engine` starts this module with `python -m`, so it can set its own timeouts
and report errors.

Standard input: one line of JSON, `RemoteTask`; it is closed when the parent is gone, and this process exits.
Standard output: lines of JSON: `{"workers": 2}` once Ray is ready, `{"done": {...}}` for each part, and at the end
`{"end": null}`, or `{"failed": "why"}` if the cluster fails, or `{"refused": "why"}` if the request is invalid.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

from mien.batch.storage import BatchError, reason
from mien.batch.worker import Job, Ledger, RayWorker
from mien.errors import ConfigError
from mien.io.onnx import available

OBJECTS: Final = 100_000_000
"""Size of Ray's shared memory on one machine, bytes; only names and counts pass through it."""

STARTS: Final = 3
"""Attempts to start Ray; on a busy machine its processes time out waiting for each other after 15 to 30 seconds."""

FAREWELL: Final = 10.0
"""Seconds for Ray to shut down once the parent is gone."""

_FAILURES = (OSError, RuntimeError, ValueError)  # of starting or joining Ray; ConnectionError is an OSError


@dataclass(frozen=True)
class RemoteTask:
    """The request: the number of workers, the cluster (None: this machine), and the numbered parts, each with the
    pictures that are analysed again (None: the part is new)."""

    job: Job
    parts: list[tuple[int, list[str], list[str] | None]]
    workers: int | None
    address: str | None

    def encoded(self) -> str:
        """As one line."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def decoded(cls, line: str) -> RemoteTask:
        """From one line."""
        fields = json.loads(line)
        parts = [(number, pictures, only) for number, pictures, only in fields.pop("parts")]
        return cls(job=Job(**fields.pop("job")), parts=parts, **fields)


def main() -> None:
    """Read a task, run it, report its progress."""
    heard = _only_voice()
    task = RemoteTask.decoded(sys.stdin.readline())
    threading.Thread(target=_until_nobody_listens, daemon=True).start()

    def tell(**what: Any) -> None:
        heard.write(json.dumps(what) + "\n")
        heard.flush()

    try:
        ray = _ray(task.address)
        with _cluster(ray, task.address, task.workers) as count:
            tell(workers=count)
            for done in _each(ray, task, min(count, len(task.parts))):
                tell(done=done)
    except BatchError as problem:
        tell(failed=str(problem))
    except ConfigError as problem:
        tell(refused=str(problem))
    else:
        tell(end=None)


def _only_voice() -> IO[str]:
    """Reserve standard output for the answers; output of Ray goes to standard error."""
    voice = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return voice


def _until_nobody_listens() -> None:
    """End this process, and Ray with it, when the parent is gone or closes standard input."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(FAREWELL)
    os._exit(1)


def _ray(address: str | None) -> Any:
    # Read when Ray is imported. It sends usage statistics unless this is set.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Each attempt waits half a minute; Ray's default is twenty.
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")
    if address is not None and _has_token():
        # `ray start` requires the token as soon as there is one, but a program that joins by address sends it only with
        # this setting.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray
    import ray.data

    return ray


def _has_token() -> bool:
    """Whether this user has Ray's token in one of the places where Ray looks for it."""
    named = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ)
    return bool(named) or Path("~/.ray/auth_token").expanduser().is_file()


@contextmanager
def _cluster(ray: Any, address: str | None, workers: int | None) -> Iterator[int]:
    """Start or join Ray; yield the number of workers. A cluster started here is shut down, a joined one is left
    running."""
    for left in reversed(range(STARTS if address is None else 1)):
        try:
            _start(ray, address, workers)
            break
        except Exception as problem:
            ray.shutdown()
            # Besides these, Ray raises plain `Exception`, for example on a timeout.
            if type(problem) is not Exception and not isinstance(
                problem, (*_FAILURES, ray.exceptions.RayError)
            ):
                raise
            if not left:
                raise BatchError(unusable(address, problem)) from None
    try:
        count = int(ray.cluster_resources().get("CPU", 0))
        if workers is not None and workers > count:
            raise ConfigError(f"workers is {workers}: the cluster has {count} processors: pass at most that")
        yield workers or count
    finally:
        ray.shutdown()


def unusable(address: str | None, problem: Exception | str) -> str:
    """The message when Ray cannot be started or joined, with the remedy."""
    cause = problem if isinstance(problem, str) else reason(problem)
    if address is None:
        return (
            f"Ray cannot be started: {cause}: its processes wait 15 to 30 seconds for each other, too little on a very "
            "busy machine: end other programs, or use  mien predict --workers"
        )
    # Ray reports a wrong token in the cause of its exception.
    report = f"{problem} {getattr(problem, '__cause__', None)}"
    remedy = (
        "copy ~/.ray/auth_token from the cluster's first machine to this one"
        if "InvalidAuthToken" in report or "authentication token" in report
        else "begin one with  ray start --head"
    )
    return f"the Ray cluster at {address} cannot be used: {cause}: {remedy}"


def _start(ray: Any, address: str | None, workers: int | None) -> None:
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is not None:
        ray.init(address=address, **quiet)
        return
    # Its dashboard is a process that queries cloud providers for metadata, also with the page and reports off.
    ray._private.node.Node.start_api_server = lambda *_, **__: None
    ray.init(
        address="local",
        num_cpus=workers or available(),
        object_store_memory=OBJECTS,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",  # not reachable from other machines
        # Ray's default, 15, starves its workers on a machine with other load.
        _system_config={"worker_niceness": 0},
        **quiet,
    )


def _each(ray: Any, task: RemoteTask, workers: int) -> Iterator[dict[str, Any]]:
    """Run all parts in a pool of workers; yield the result of each as it is done."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # A list of names is small: one part per block, so that a lost worker costs one part.
    rows = [
        {"number": number, "pictures": json.dumps(pictures), "only": json.dumps(only)}
        for number, pictures, only in task.parts
    ]
    ledger = ray.remote(Ledger).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
    done = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        RayWorker,
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
        fn_constructor_args=(task.job, ledger),
        num_cpus=1,
    )
    for row in done.iter_rows():
        yield json.loads(row["done"])


if __name__ == "__main__":
    main()
