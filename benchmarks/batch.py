"""How fast `mien batch` is beside the plain loop, `mien predict` with as many processes; prints a Markdown table.

Photographs of 512 px with one face each. Every way is run over all of them and over a tenth, in turn, so that the
start-up (and what else does not grow with the number) cancels: the rate is 0.9 x photos over the difference of the two
times, both medians. Processor time, which a busy machine disturbs little, is taken the same way. A core-hour is one
worker for an hour. The goal: 85 % of the plain loop's rate with two workers.

    python benchmarks/batch.py [--photos 5000] [--rounds 3] [--place FOLDER] [--daft PYTHON]

`--place` keeps the photographs there for the next time. A round of another process's work in between spoils a median
less than a mean, but the load is printed: on a busy machine believe the processor's time only.
`--daft` names the interpreter of an environment that has Daft and mien, and runs the same workers on Daft too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from throughput import compose

GOAL = 0.85
DAFT = Path(__file__).with_name("batch_daft.py")


def cost(command: list[str | Path], table: Path) -> tuple[float, float]:
    """Seconds that a command takes, and seconds of processor time: its own, and what its workers say of theirs."""
    start = time.perf_counter()
    with table.with_suffix(".out").open("w+") as out, table.with_suffix(".err").open("w+") as err:
        process = subprocess.Popen(list(map(str, command)), stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        took = time.perf_counter() - start
        out.seek(0)
        err.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(map(str, command))}: {err.read()[-2000:]}")
        # Ray's workers are no children of the command, so that the system does not count theirs as its.
        words = out.read().strip()
        elsewhere = json.loads(words)["processor"] if words.startswith("{") else 0.0
    return took, usage.ru_utime + usage.ru_stime + elsewhere


def main() -> None:
    """Measure and print; exit code 1 when the goal is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--place", type=Path, help="where photographs are kept, or are from an earlier time")
    parser.add_argument("--daft", metavar="PYTHON", help="interpreter of an environment with Daft")
    options = parser.parse_args()
    mien: list[str | Path] = [sys.executable, "-m", "mien"]
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        kept = options.place or place
        folders = {"all": kept / f"all-{options.photos}", "tenth": place / "tenth"}
        folders["tenth"].mkdir()
        if not folders["all"].is_dir():
            unfinished = kept / "unfinished"
            unfinished.mkdir(parents=True)
            compose(unfinished, options.photos)
            unfinished.rename(folders["all"])
        if not options.rounds:
            return
        paths = sorted(folders["all"].iterdir())
        few = paths[: options.photos // 10]
        for path in few:
            (folders["tenth"] / path.name).symlink_to(path)
        tables = iter(range(10_000))

        def run(way: str, workers: int, folder: Path) -> tuple[float, float]:
            out = place / f"table{next(tables)}"
            more: list[str | Path] = ["--workers", str(workers)]
            if way == "predict":
                # One worker is one thread here as there.
                threads: list[str | Path] = ["--threads", "1"] if workers == 1 else []
                return cost(
                    [*mien, "predict", folder, "--out", out.with_suffix(".parquet"), *more, *threads], out
                )
            if way == "batch":
                return cost([*mien, "batch", folder, "--out", out, "--json", *more], out)
            return cost([options.daft, DAFT, folder, out, str(workers)], out)

        ways = [("predict", 2), ("batch", 2), ("predict", 1), ("batch", 1)]
        if options.daft:
            ways += [("daft", 2)]
        samples: dict[tuple[str, int, str], list[tuple[float, float]]] = defaultdict(list)
        loads = []
        for _ in range(options.rounds):
            for way, workers in ways:
                for name, folder in folders.items():
                    loads.append(os.getloadavg()[0])
                    samples[way, workers, name].append(run(way, workers, folder))
                    took, worked = samples[way, workers, name][-1]
                    print(
                        f"{way} {workers} {name}: {took:.2f} s, processor {worked:.2f} s",
                        file=sys.stderr,
                        flush=True,
                    )
    seconds, processor = (
        {key: statistics.median(value[place] for value in values) for key, values in samples.items()}
        for place in (0, 1)
    )
    margin = len(paths) - len(few)

    def rate(way: str, workers: int) -> float:
        return margin / max(1e-9, seconds[way, workers, "all"] - seconds[way, workers, "tenth"])

    print(
        f"{len(paths)} photos of 512 px, {options.rounds} rounds, load {min(loads):.1f} to {max(loads):.1f}\n"
    )
    print(
        "| | workers | all, s | start-up, s | photos/s | of the plain loop | processor, ms a photo "
        "| core-hours a million |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for way, workers in ways:
        plain = rate("predict", workers)
        whole = seconds[way, workers, "all"]
        start = whole - len(paths) / rate(way, workers)
        hours = workers * 1e6 / rate(way, workers) / 3600
        each = (processor[way, workers, "all"] - processor[way, workers, "tenth"]) / margin
        print(
            f"| {way} | {workers} | {whole:.1f} | {start:.1f} | {rate(way, workers):.1f} "
            f"| {rate(way, workers) / plain:.0%} | {each * 1000:.2f} | {hours:.2f} |"
        )
    share = rate("batch", 2) / rate("predict", 2)
    print(f"\n2 workers do {rate('batch', 2) / rate('batch', 1):.2f} x the work of one.")
    print(f"{share:.0%} of the plain loop's rate [{'kept' if share >= GOAL else 'MISSED'}]")
    sys.exit(0 if share >= GOAL else 1)


if __name__ == "__main__":
    main()
