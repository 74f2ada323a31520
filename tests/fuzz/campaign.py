"""Hours of cases in bounded time: `python -m tests.fuzz.campaign --minutes 20`.

Each target runs in a child process of its own, a share of the time each. The child writes every case into shared memory
before it tries it, so that a crash of a decoder, a hang or an exhausted memory names its case: the parent sees the
child die and keeps the bytes. What was found is written to `tests/fuzz/corpus/<target>/`, where `test_fuzz.py` tries it
again for ever. The report (cases, cases a second, peak memory, findings) is printed as a table and, with
`--report`, as JSON.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import json
import mmap
import multiprocessing
import random
import re
import sys
import tempfile
import time
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .mutate import LARGEST, apply, random_edits
from .targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
HANG = 20.0
"""Seconds for one case; a child that takes longer is ended with its stack on standard error."""
MEMORY = 1_500 * 2**20
"""Bytes by which a child may grow while it tries cases of at most `MOST_PIXELS` pixels."""


def peak() -> int:
    """The most memory this process has held, bytes."""
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def _limit(growth: int) -> None:
    """Let this process's address space grow by so much and no more, where the system can say so."""
    import resource

    statm = Path("/proc/self/statm")
    if statm.exists():
        now = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + growth, resource.RLIM_INFINITY))


def _child(name: str, seed: int, seconds: float, folder: str, channel: Connection) -> None:
    """Try cases until the time is over, a defect is found, or this process dies of one."""
    tempfile.tempdir = folder
    warnings.simplefilter("error")
    with (Path(folder) / "case").open("r+b") as file:
        shared = mmap.mmap(file.fileno(), 0)
    target, seeds, _ = TARGETS[name]
    sound = seeds()
    for data in sound:
        target(data)
    generator = random.Random(seed)
    start, cases, before = time.monotonic(), 0, peak()
    _limit(MEMORY)
    while time.monotonic() - start < seconds:
        case = generator.choice(sound)
        if generator.random() < 0.05:  # two files in one
            other = generator.choice(sound)
            case = case[: generator.randrange(len(case) + 1)] + other[generator.randrange(len(other) + 1) :]
        case = apply(case, random_edits(generator))
        shared[:8] = len(case).to_bytes(8, "little")
        shared[8 : 8 + len(case)] = case
        faulthandler.dump_traceback_later(HANG, exit=True)
        try:
            target(case)
        except BaseException:
            faulthandler.cancel_dump_traceback_later()
            channel.send(("found", cases, peak() - before, traceback.format_exc()))
            return
        faulthandler.cancel_dump_traceback_later()
        cases += 1
        if cases % 50 == 0:
            channel.send(("alive", cases, peak() - before, ""))
    channel.send(("done", cases, peak() - before, ""))


def _watched(name: str, seed: int, seconds: float, folder: str) -> tuple[int, int, str]:
    """Run one child to its end: how many cases it tried, by how many bytes it grew, and why it ended early ("")."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(name, seed, seconds, folder, send))
    process.start()
    send.close()
    kind, cases, growth, why = "died", 0, 0, ""
    try:
        while kind not in ("found", "done"):
            kind, cases, growth, why = receive.recv()
    except EOFError:  # killed by a signal, by the watchdog, or before the first case
        kind = "died"
    process.join()
    if kind == "died":
        why = f"the process ended with code {process.exitcode}: a crash, a hang of {HANG:g} s, or a failing seed"
    return cases, growth, why


def campaign(name: str, seconds: float, seed: int) -> dict[str, Any]:
    """Run one target for its time; a new child goes on where one ended with a finding."""
    start = time.monotonic()
    told: dict[str, Any] = {"target": name, "cases": 0, "seconds": 0.0, "growth_mb": 0.0, "findings": []}
    known: set[str] = set()
    while (left := seconds - told["seconds"]) > 1 and len(known) < 40:
        with tempfile.TemporaryDirectory(prefix="mien-fuzz-") as folder:
            memory = Path(folder) / "case"
            memory.write_bytes(bytes(LARGEST + 8))
            cases, growth, why = _watched(name, seed, left, folder)
            kept = memory.read_bytes()
            case = kept[8 : 8 + int.from_bytes(kept[:8], "little")]
        told["cases"] += cases
        told["growth_mb"] = max(told["growth_mb"], round(growth / 2**20, 1))
        told["seconds"] = time.monotonic() - start
        seed += 1
        if why:
            kind = _kind(why)
            if kind not in known:
                known.add(kind)
                told["findings"].append({"kind": kind, "file": _keep(name, case), "why": why[-2500:]})
                print(f"{name}: {kind}", flush=True)
    return told


def _kind(why: str) -> str:
    """The last line of a traceback and where in `mien` or a library it came from, without the case's own values."""
    places = re.findall(r'File "([^"]+)", line (\d+)', why)
    last = why.strip().splitlines()[-1]
    own = next(
        (place for place in reversed(places) if "mien" in place[0] and "fuzz" not in place[0]), ("?", "0")
    )
    return f"{last.split(':')[0][:60]} at {Path(own[0]).name}:{own[1]}"


def _keep(name: str, case: bytes) -> str:
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(case).hexdigest()[:12]}.bin"
    path.write_bytes(case)
    return path.name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=10, help="for all targets together")
    parser.add_argument("--target", action="append", choices=TARGETS, help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--report", type=Path, help="also write the findings as JSON")
    asked = parser.parse_args()
    names = asked.target or list(TARGETS)
    told = [campaign(name, asked.minutes * 60 / len(names), asked.seed) for name in names]
    print(f"{'target':<14} {'cases':>9} {'cases/s':>8} {'growth MB':>9}  findings   (seed {asked.seed})")
    for row in told:
        rate = row["cases"] / max(row["seconds"], 1e-9)
        print(
            f"{row['target']:<14} {row['cases']:>9,} {rate:>8.0f} {row['growth_mb']:>9.1f}  {len(row['findings'])}"
        )
    if asked.report is not None:
        asked.report.write_text(json.dumps(told, indent=1))
    sys.exit(1 if any(row["findings"] for row in told) else 0)


if __name__ == "__main__":
    main()
