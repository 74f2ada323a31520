"""How fast a loaded pipeline is: recognition against the bare network, batches, stages, a folder, memory.

Everything is a median; what is compared is run alternately. Goals: recognition at 90 % or more of the bare
`session.run` rate; never slower per face at 32 than at 1; 1,000 crops/s on two cores; 100 photos/s of 512 px on two
cores; at most 15 % of the time outside decoding, detection, landmarks and recognition; 250 MB for one photo.

"Bare" is what ONNX Runtime does when asked plainly: one session with as many threads, the whole batch in one run.
Rates per second and what two threads take need a machine without other work, whose load is printed first; what one
thread takes is told in processor time.

    python benchmarks/throughput.py [--photos 400] [--rounds 21]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mien.faces.pipeline import Pipeline, load
from mien.faces.recognise import SHIPPED, OnnxRecogniser
from mien.io import images
from mien.io.onnx import available, session

ROOT = Path(__file__).parent.parent


def alternating(
    calls: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median seconds of each call by `clock`, run in turn."""
    samples: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds + 2):
        for name, call in calls.items():
            start = clock()
            call()
            if number >= 2:
                samples[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in samples.items()}


def verdict(text: str, kept: bool) -> bool:
    print(f"{text}  [{'kept' if kept else 'MISSED'}]")
    return kept


def recognition(weights: str | None, threads: int, rounds: int) -> list[bool]:
    """Our recogniser against the bare network on as many threads, and batch sizes against each other."""
    recogniser = OnnxRecogniser.load(weights, threads=threads)
    crops = np.random.default_rng(0).integers(0, 256, (64, recogniser.size, recogniser.size), dtype=np.uint8)
    network = session(str(weights or SHIPPED), threads)

    def bare(count: int) -> None:
        for start in range(0, 64, count):
            network.run(["logits", "affect"], {"crops": crops[start : start + count]})

    def ours(count: int) -> None:
        for start in range(0, 64, count):
            recogniser(crops[start : start + count])

    # The same 64 crops in every call, so that each finds its own network in the cache and is timed as long.
    counts = (1, 2, 8, 32, 64)
    calls: dict[str, Callable[[], Any]] = {}
    for count in counts:
        calls |= {f"bare {count}": partial(bare, count), f"ours {count}": partial(ours, count)}
    # The processor time of one thread is what it would take on a machine of its own.
    seconds = alternating(calls, rounds, time.process_time if threads == 1 else time.perf_counter)
    kept = []
    for count in (1, 32):
        rate = seconds[f"bare {count}"] / seconds[f"ours {count}"]
        kept.append(
            verdict(
                f"{threads} threads: recognition at {rate:.0%} of the bare session, {count} crops",
                rate >= 0.9,
            )
        )
    for name in ("bare", "ours"):
        each = [f"{seconds[f'{name} {n}'] / 64 * 1000:.2f} at {n}" for n in counts]
        print(f"  {name}, ms a crop: {', '.join(each)}")
    ratio = seconds["ours 1"] / seconds["ours 32"]
    kept.append(verdict(f"  a face at 32 is {ratio:.2f} x as fast as at 1", ratio >= 1))
    if threads == 2:
        rates = {count: 64 / seconds[f"ours {count}"] for count in (32, 64)}
        text = ", ".join(f"{rate:.0f} crops/s in batches of {count}" for count, rate in rates.items())
        kept.append(verdict(f"  {text}, two cores", rates[32] >= 1000))
    return kept


def compose(folder: Path, count: int) -> None:
    """Photographs of 512 px with one face, each different, from the bundled portraits."""
    portraits = [images.read(ROOT / "examples" / f"portrait_{name}.jpg") for name in ("smiling", "neutral")]
    draw = np.random.default_rng(0)
    for number in range(count):
        shift = draw.integers(-40, 41, 2)
        picture = np.roll(portraits[number % 2], shift, axis=(0, 1))
        gain = draw.uniform(0.7, 1.1)
        images.write(folder / f"{number:05}.jpg", (picture * gain).clip(0, 255).astype(np.uint8), quality=90)


def stages(pipeline: Pipeline, paths: list[Path]) -> bool:
    """Where the time of one thread goes."""
    spent: dict[str, float] = defaultdict(float)

    def watched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            answer = call(*arguments, **options)
            spent[name] += time.perf_counter() - start
            return answer

        return timed

    read = images.read
    images.read = watched("decode", read)
    parts = pipeline.detector, pipeline.landmarker, pipeline.recogniser
    recogniser = watched("recognise", pipeline.recogniser)
    recogniser.size, recogniser.name = pipeline.recogniser.size, pipeline.recogniser.name  # type: ignore[attr-defined]
    pipeline.detector = watched("detect", pipeline.detector)
    pipeline.landmarker = watched("landmarks", pipeline.landmarker)  # type: ignore[assignment]
    pipeline.recogniser = recogniser  # type: ignore[assignment]
    list(pipeline.stream(paths[:32]))
    spent.clear()
    start = time.perf_counter()
    faces = sum(len(analysis.faces) for analysis in pipeline.stream(paths))
    total = time.perf_counter() - start
    images.read = read
    pipeline.detector, pipeline.landmarker, pipeline.recogniser = parts
    print(f"one thread: {len(paths) / total:.1f} photos/s, {faces} faces in {len(paths)} photos")
    rest = total - sum(spent.values())
    print(
        "  ms a photo: "
        + ", ".join(f"{name} {value / len(paths) * 1000:.2f}" for name, value in spent.items())
    )
    return verdict(f"  {rest / total:.1%} of the time outside them", rest / total <= 0.15)


def whole(arguments: list[str]) -> float:
    """Seconds of one `mien predict` process."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "mien", "predict", *arguments], stdout=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - start


PEAK = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "mien", "predict", *sys.argv[1:]], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def peak(arguments: list[str]) -> float:
    """Peak resident megabytes of one `mien predict` process.

    The system counts a process's memory from before its program is loaded, when it is still a copy of its parent: a
    child of this benchmark would show the benchmark's own peak. So a small process starts it.
    """
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *arguments], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def main() -> None:
    """Measure and print; exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--weights", help="another recogniser than the shipped one")
    options = parser.parse_args()
    other = ["--weights", options.weights] if options.weights else []
    kept: list[bool] = []
    print(f"{available()} processors, load {os.getloadavg()[0]:.2f}")
    for threads in sorted({1, available()}):
        kept += recognition(options.weights, threads, options.rounds)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photos"
        folder.mkdir()
        compose(folder, options.photos)
        paths = sorted(folder.iterdir())
        kept.append(stages(load(weights=options.weights, threads=1), paths[: options.photos // 2]))
        half = Path(temporary) / "half"
        half.mkdir()
        for path in paths[: options.photos // 2]:
            (half / path.name).symlink_to(path)
        tables = iter(range(1000))

        def run(source: Path, *more: str) -> float:
            out = Path(temporary) / f"table{next(tables)}.csv"
            return whole([str(source), "--out", str(out), *more, *other])

        for workers in sorted({1, available()}):
            more = ("--workers", str(workers), *(("--threads", "1") if workers == 1 else ()))
            seconds = alternating({"all": partial(run, folder, *more), "half": partial(run, half, *more)}, 3)
            rate = len(paths) / seconds["all"]
            print(
                f"folder, {workers} processes: {len(paths)} photos in {seconds['all']:.2f} s, "
                f"{rate:.0f} photos/s with the start; the first half of them in {seconds['half']:.2f} s"
            )
            if workers == 2:
                more_seconds = seconds["all"] - seconds["half"]
                margin = (len(paths) - len(paths) // 2) / more_seconds if more_seconds > 0 else float("nan")
                kept.append(
                    verdict(f"  {margin:.0f} photos/s on two cores, without the start", margin >= 100)
                )
    megabytes = statistics.median(
        peak([str(ROOT / "examples" / "portrait_smiling.jpg"), *other]) for _ in range(3)
    )
    kept.append(verdict(f"one photo: peak {megabytes:.0f} MB", megabytes <= 250))
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
