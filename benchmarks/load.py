"""What the server does at twice its capacity: `python benchmarks/load.py --minutes 3`.

It starts `mien serve` on a free loopback port, measures how many portraits a second it answers to one client for each
place at work (its capacity), and then lets Locust send twice as many, whatever comes back. It passes when no answer has
a status other than 200, 429 or 503, the server's memory is flat, and what is answered is answered in bounded time:
within what the places before it take, twice over. Locust replaces sockets and threads of this process, so the server is
another one.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import json  # noqa: E402
import socket  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections import Counter  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
import psutil  # noqa: E402
from locust import FastHttpUser, constant_throughput, task  # noqa: E402
from locust.env import Environment  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
USERS = 48
"""Senders; many, so that those who wait for an answer do not slow down the others."""
ALLOWED = {200, 429, 503}
FLAT = 25 * 2**20
"""Bytes by which memory may grow from a fifth of the time on: allocators keep what they had."""


class Sender(FastHttpUser):
    """Posts one portrait over and over."""

    abstract = True
    body: bytes = b""
    answers: list[tuple[float, int, float]] = []  # noqa: RUF012 - one list for all senders

    @task
    def analyse(self) -> None:
        start = time.monotonic()
        headers = {"content-type": "image/jpeg"}
        with self.client.post("/v1/analyses", data=self.body, headers=headers, catch_response=True) as answer:
            answer.success()  # judged below, by status
            self.answers.append((start, int(answer.status_code), time.monotonic() - start))


def send(
    address: str, body: bytes, users: int, rate: float | None, seconds: float
) -> list[tuple[float, int, float]]:
    """Let `users` send for so long, together `rate` a second (None: as fast as they are answered)."""
    kind: Any = type(
        "Load",
        (Sender,),
        {
            "host": address,
            "body": body,
            "answers": [],
            "wait_time": (lambda _: 0) if rate is None else constant_throughput(rate / users),
            "connection_timeout": 30.0,
            "network_timeout": 60.0,
        },
    )
    environment = Environment(user_classes=[kind])
    runner = environment.create_local_runner()
    runner.start(users, spawn_rate=users)
    gevent.sleep(seconds)
    runner.quit()
    return list(kind.answers)


def memory(process: psutil.Process) -> int:
    """Resident bytes of the server and its workers."""
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Load the server at twice its capacity.")
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--running", type=int, default=None, help="requests worked on at once; as the server's"
    )
    parser.add_argument("--waiting", type=int, default=8)
    parser.add_argument("--picture", type=Path, default=ROOT / "examples" / "portrait_smiling.jpg")
    parser.add_argument("--report", type=Path, help="also write the figures as JSON")
    asked = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mien", "serve", "--port", str(port), "--workers", str(asked.workers)]
    command += ["--waiting", str(asked.waiting)]
    command += ["--running", str(asked.running)] if asked.running else []
    server = psutil.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        figures = _measure(server, f"http://127.0.0.1:{port}", asked)
    finally:
        server.terminate()
        ended = server.wait(90)
    figures["ended_with"] = ended
    for name, value in figures.items():
        print(f"{name}: {value}")
    if asked.report is not None:
        asked.report.write_text(json.dumps(figures, indent=1))
    sys.exit(1 if figures["faults"] else 0)


def _measure(server: psutil.Process, address: str, asked: argparse.Namespace) -> dict[str, Any]:
    limits = _ready(address)
    places = int(limits["running"]) * asked.workers
    body = asked.picture.read_bytes()
    send(address, body, places, None, 3)  # networks and pools warm up
    alone = [answer for answer in send(address, body, places, None, 15) if answer[1] == 200]
    capacity = len(alone) / 15
    series: list[tuple[float, int]] = []
    start = time.monotonic()

    def watch() -> None:
        while True:
            series.append((time.monotonic() - start, memory(server)))
            gevent.sleep(1)

    watcher = gevent.spawn(watch)
    seconds = asked.minutes * 60
    answers = send(address, body, USERS, 2 * capacity, seconds)
    watcher.kill()
    statuses = Counter(status for _, status, _ in answers)
    good = sorted(took for _, status, took in answers if status == 200)
    refused = sorted(took for _, status, took in answers if status == 429)
    settled = [size for moment, size in series if moment > seconds / 5]
    growth = max(settled[len(settled) // 2 :]) - max(settled[: len(settled) // 2])
    # Each place before it takes its turn; the load takes processor time from the server, hence the factor.
    bound = 2 * (places + asked.waiting * asked.workers) / capacity + 0.5
    faults = [f"status {status}: {count}" for status, count in statuses.items() if status not in ALLOWED]
    faults += [f"memory grew by {growth / 2**20:.0f} MB"] if growth > FLAT else []
    p99 = good[int(0.99 * len(good))] if good else float("inf")
    faults += (
        [f"the slowest hundredth took more than {p99:.2f} s, bound {bound:.2f} s"] if p99 > bound else []
    )
    return {
        "capacity_per_second": round(capacity, 1),
        "sent_per_second": round(len(answers) / seconds, 1),
        "answered_per_second": round(len(good) / seconds, 1),
        "statuses": dict(statuses),
        "seconds_median": round(statistics.median(good), 3) if good else None,
        "seconds_99th": round(p99, 3),
        "seconds_bound": round(bound, 2),
        "refusal_median_ms": round(1000 * statistics.median(refused), 1) if refused else None,
        "memory_mb_first_half": round(max(settled[: len(settled) // 2]) / 2**20, 1),
        "memory_mb_second_half": round(max(settled[len(settled) // 2 :]) / 2**20, 1),
        "faults": faults,
    }


def _ready(address: str) -> dict[str, float]:
    """Wait for the models; returns the server's limits."""
    from urllib.error import URLError
    from urllib.request import urlopen

    for _ in range(240):
        try:
            with urlopen(f"{address}/ready", timeout=5):
                break
        except (URLError, OSError):
            time.sleep(0.25)
    with urlopen(f"{address}/v1/service", timeout=5) as answer:
        limits: dict[str, float] = json.load(answer)["limits"]
    return limits


if __name__ == "__main__":
    main()
