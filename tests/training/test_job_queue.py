"""A queue of jobs over processes: every job ends once, whatever happens to the process that has it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mien.errors import MienError
from mien.training import job_queue
from mien.training.job_queue import Outcome, QueueStatus
from mien.types import ShareProgress


def work(job: Any, device: str, progress: ShareProgress) -> Any:
    """What the jobs below ask for."""
    what, number = job
    if what == "square":
        progress(0.5)
        return number**2, device, os.getpid()
    if what == "refuse":
        raise MienError("the data are not there: look for them")
    if what == "break":
        raise RuntimeError("shapes differ")
    if what == "threads":
        import torch

        return torch.get_num_threads()
    os.kill(os.getpid(), signal.SIGKILL)
    return None


def ended(jobs: list[Any], devices: list[str], **options: Any) -> list[Outcome]:
    return sorted(job_queue.run(jobs, work, devices, **options), key=lambda one: one.job[1])


def test_every_job_ends_once_and_a_failing_one_or_a_dead_process_fails_alone() -> None:
    jobs = [(("square", "refuse", "die", "break")[n % 4], n) for n in range(8)]
    told: list[QueueStatus] = []
    outcomes = ended(jobs, ["cpu", "auto"], progress=told.append)
    assert [one.job for one in outcomes] == jobs
    for one in outcomes:
        kind, number = one.job
        if kind == "square":
            assert one.error == ""
            assert one.value[0] == number**2
            assert one.value[1] in ("cpu", "auto")
        else:
            assert one.value is None
            words = {
                "refuse": "the data are not there: look for them",
                "break": "RuntimeError: shapes differ",
            }
            assert one.error == words.get(kind, one.error)
            assert kind != "die" or "signal 9" in one.error
    assert (told[-1].done, told[-1].failed, told[-1].total, told[-1].running) == (8, 6, 8, ())
    assert [one.share for one in told] == sorted(one.share for one in told)


def test_jobs_share_a_fixed_number_of_processes_with_their_threads() -> None:
    outcomes = ended([("square", n) for n in range(6)], ["cpu"])
    assert len({one.value[2] for one in outcomes}) == 1
    assert [one.value for one in ended([("threads", 0)], ["cpu"], threads=2)] == [2]


def test_devices_are_taken_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert job_queue.devices_of(["cuda:0", "cuda:1"], 3, 1) == ["cuda:0", "cuda:1", "cuda:0"]
    assert job_queue.devices_of(["cuda:0", "cuda:1"], None, 1) == ["cuda:0", "cuda:1"]
    monkeypatch.setattr(job_queue, "available", lambda: 6)
    assert job_queue.devices_of(["cpu"], None, 2) == ["cpu"] * 3
    assert job_queue.devices_of(["cpu"], None, 8) == ["cpu"]


STOPPED = """
import signal, sys, time
from pathlib import Path
from mien.training import job_queue

def work(job, device, progress):
    asked = []
    signal.signal(signal.SIGTERM, lambda *given: asked.append(1))
    Path(sys.argv[1], f"begun-{job}").touch()
    while not asked:
        progress(0.5)
        time.sleep(0.01)
    time.sleep(0.3)
    progress(0.6)  # a training tells how far it is once more before it saves
    Path(sys.argv[1], f"saved-{job}-{len(asked)}").touch()
    raise KeyboardInterrupt

if __name__ == "__main__":
    try:
        list(job_queue.run([0, 1, 2], work, ["cpu", "cpu"]))
    except KeyboardInterrupt:
        Path(sys.argv[1], "parent").touch()
        sys.exit(130)
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="POSIX")
@pytest.mark.parametrize("how", ["terminal", "termination", "kill"])
def test_a_stop_reaches_each_worker_once_and_leaves_no_process(how: str, tmp_path: Path) -> None:
    script = tmp_path / "stopped.py"
    script.write_text(STOPPED)
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path)], start_new_session=True)
    until = time.monotonic() + 120
    while len(list(tmp_path.glob("begun-*"))) < 2:
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.05)
    if how == "terminal":
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all
    else:
        process.send_signal(signal.SIGTERM if how == "termination" else signal.SIGKILL)
    code = process.wait(timeout=60)
    while _members(process.pid):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert len(list(tmp_path.glob("begun-*"))) == 2, "no further job is begun"
    saved = sorted(path.name for path in tmp_path.glob("saved-*"))
    assert (code, saved) == ((-9, []) if how == "kill" else (130, ["saved-0-1", "saved-1-1"]))


def _members(session: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found
