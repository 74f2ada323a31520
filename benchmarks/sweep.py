"""How much of the bare training step a sweep keeps, and whether its workers' memory stays flat over runs.

Each worker alternates: a whole run of the sweep (`mien.evaluation.sweep.train_and_predict`: data, training, validation,
predictions, files), then as many bare steps (forward, backward, optimiser step on one prepared batch) of the same
network in the same process, so that whatever else the machine does slows both alike. What passes between two runs
besides the bare steps is the run's whole cost, the queue's own included. The first run of each worker reads the set and
warms up, and is not counted. The claim: the steps of a run keep at least 0.9 of the bare rate, by the median over runs.

    python benchmarks/sweep.py [--workers 2] [--runs 6] [--epochs 12] [--faces 640]

prints Markdown. Faces are drawn, 60 % of them to train on; speed does not depend on what is in them.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from mien import methods
from mien.data import cropping
from mien.data.config import DataConfig
from mien.data.cropping import Samples
from mien.data.readers import manifest
from mien.data.synthetic import drawings
from mien.evaluation import inference
from mien.evaluation import sweep as sweeping
from mien.training import checkpoint, job_queue, optim, recognition, run_log
from mien.training.batches import BatchLoader
from mien.training.sweep import SweepConfig, SweepRun, plan
from mien.types import ShareProgress


@dataclass(frozen=True)
class Measured:
    """One run and its bare steps: seconds on the wall and of processor time; `trained` is the run's own clock."""

    worker: int
    steps: int
    whole: float
    whole_processor: float
    trained: float
    bare: float
    bare_processor: float
    memory: float


def resident() -> float:
    """Megabytes of memory of this process that are no file's."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    raise SystemExit("/proc/self/status has no RssAnon: measure memory on Linux")


_before: list[tuple[float, float]] = []
"""When this worker's bare steps last ended, by both clocks."""


@lru_cache(maxsize=1)
def _samples(data: DataConfig) -> Samples:
    """The training faces, read once."""
    return cropping.load_split(data, ("train",))["train"][0]


def both(job: SweepRun, device: str, progress: ShareProgress) -> Measured:
    """One run, then as many bare steps."""
    begun = _before[-1] if _before else (time.perf_counter(), time.process_time())
    sweeping.train_and_predict(job, device, progress)
    events = run_log.read(job.folder / "metrics.jsonl")
    ended = (time.perf_counter(), time.process_time())
    bare, processor = _steps(job, events[-1]["step"])
    _before.append((time.perf_counter(), time.process_time()))
    return Measured(
        os.getpid(),
        events[-1]["step"],
        ended[0] - begun[0],
        ended[1] - begun[1],
        events[-1]["seconds"],
        bare,
        processor,
        resident(),
    )


def _steps(job: SweepRun, count: int) -> tuple[float, float]:
    """Seconds of so many bare steps, by both clocks."""
    config = job.config
    torch.manual_seed(0)
    method = methods.build(config.method, config.data.size).to(memory_format=torch.channels_last).train()
    optimiser = optim.build(method, "model", config.optim)
    feed = BatchLoader([_samples(config.data)], config.batch, 0.0, 0)
    batch = recognition.prepare(config, next(feed.epoch(0)), 0)
    torch.set_flush_denormal(True)  # as in a training
    begun = (time.perf_counter(), time.process_time())
    for _ in range(count):
        loss = torch.stack(list(method(batch, "model").values())).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    took = (time.perf_counter() - begun[0], time.process_time() - begun[1])
    torch.set_flush_denormal(False)
    return took


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--runs", type=int, default=6, help="of each worker, besides the first")
    options.add_argument("--epochs", type=int, default=12)
    options.add_argument("--faces", type=int, default=640)
    options.add_argument("--backbone", default="mobilefacenet")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records = drawings.records(folder, given.faces, size=64)
        marks = np.stack([face.landmarks for face in drawings.faces(given.faces, size=64)])
        points = folder / "points.npz"
        np.savez(points, names=np.array([one.name for one in records]), points=marks.astype(np.float32))
        manifest.write(records, folder / "manifest.csv")
        config = SweepConfig(
            base={
                "name": "benchmark",
                "method": {"name": "baseline", "backbone": given.backbone},
                "data": {
                    "reader": "manifest",
                    "root": folder,
                    "points": points,
                    "size": 64,
                    "cache": folder / "cache",
                },
                "optim": {"ema": None},
                "epochs": given.epochs,
                "validation": "end",
            },
            arms={"plain": {}},
            seeds=tuple(range((given.runs + 1) * given.workers)),
            out=folder / "out",
        )
        devices = ["cpu"] * given.workers
        cropping.load_split(config.config("plain").data, ("train", "valid", "test"))
        outcomes = list(job_queue.run(plan(config), both, devices))
    wrong = [one.error for one in outcomes if one.error]
    if wrong:
        raise SystemExit(wrong[0])
    _print(given, [one.value for one in outcomes])


def _print(given: argparse.Namespace, measured: list[Measured]) -> None:
    seen: dict[int, list[Measured]] = {}
    for one in measured:
        seen.setdefault(one.worker, []).append(one)
    counted = [one for runs in seen.values() for one in runs[1:]]
    training = np.array([one.bare / one.trained for one in counted])
    whole = np.array([one.bare / one.whole for one in counted])
    processor = np.array([one.bare_processor / one.whole_processor for one in counted])
    print(
        f"A sweep of baseline, {given.backbone} at 64 px, batch 64, {counted[0].steps} steps per run, "
        f"{given.workers} workers of one thread, {inference.machine()}, torch {torch.__version__}, Python "
        f"{platform.python_version()}, commit {checkpoint.commit()}.\n"
    )
    print(f"| share of the bare step rate, {len(counted)} runs | median | 10 % | 90 % |")
    print("|---|---:|---:|---:|")
    for name, share in (
        ("**the steps of a run** (claim: 0.9)", training),
        ("the whole run: data, steps, validation, predictions, files, queue", whole),
        ("the same in processor time", processor),
    ):
        low, high = np.quantile(share, [0.1, 0.9])
        print(f"| {name} | {np.median(share):.3f} | {low:.3f} | {high:.3f} |")
    rates = [64 * one.steps / one.bare for one in counted]
    print(f"\nBare: {np.median(rates):.0f} images/s a worker, {min(rates):.0f} to {max(rates):.0f}.\n")
    for number, runs in enumerate(seen.values()):
        print(f"- worker {number}, MB after each run: {', '.join(f'{one.memory:.0f}' for one in runs)}")


if __name__ == "__main__":
    main()
