"""How much of the bare training step the loop keeps, and whether its memory stays flat over epochs.

Both train the same network with the same heads, norms, optimiser and batch, in one process. After each step of
`mien.training.loop.run` one bare step is taken (forward, backward, optimiser step on one fixed, prepared batch), so
that whatever else the machine does slows both alike. The loop's step has all that a run needs besides: gathering
crops from the memory-mapped file, augmentation, gradient clipping, the weight average, the loss terms' log. What stands
between two epochs (validation, files) is not part of a step. The claims: at least 0.85 of the bare rate, and no growth.

    python benchmarks/training.py [--threads 1] [--norms frozen] [--steps 20] [--epochs 4]

prints Markdown.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mien import methods
from mien.data.config import DataConfig
from mien.data.cropping import Samples
from mien.evaluation import inference
from mien.evaluation.validation import validate
from mien.training import checkpoint, initialise, loop, optim, recognition
from mien.training.batches import BatchLoader
from mien.training.config import OptimConfig, RunConfig


def drawn(count: int, size: int, folder: Path) -> Samples:
    """Random crops in a memory-mapped file, with votes and affect: speed does not depend on what is in them."""
    random = np.random.default_rng(0)
    path = folder / f"{count}.npy"
    np.save(path, random.integers(0, 256, (count, size, size), dtype=np.uint8))
    return Samples(
        np.load(path, mmap_mode="r"),
        np.ones(count, dtype=bool),
        random.integers(0, 8, count),
        random.dirichlet(np.ones(8), count).astype(np.float32),
        random.uniform(-1, 1, (count, 2)).astype(np.float32),
        np.full(count, -1),
        tuple(str(one) for one in range(count)),
    )


class Clock(NamedTuple):
    """Seconds on the wall, and seconds of processor time, which other programs cannot stretch."""

    wall: float
    processor: float

    @classmethod
    def now(cls) -> Clock:
        """Read both clocks."""
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: Clock) -> Clock:
        return Clock(self.wall - other.wall, self.processor - other.processor)


class Bare:
    """Forward, backward and optimiser step of the same network on one batch."""

    def __init__(self, config: RunConfig, samples: Samples) -> None:
        self.method = methods.build(config.method, config.data.size).to(memory_format=torch.channels_last)
        self.method.train()
        if config.norms == "frozen":
            initialise.freeze_norms(self.method)
        self.optimiser = optim.build(self.method, "model", config.optim)
        self.batch = recognition.prepare(
            config, next(BatchLoader([samples], config.batch, 0.0, 0).epoch(0)), 0
        )

    def step(self) -> Clock:
        """Take one step; what it took."""
        begun = Clock.now()
        loss = torch.stack(list(self.method(self.batch, "model").values())).sum()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return Clock.now() - begun


def resident() -> float:
    """Megabytes of memory of this process that are no file's."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    raise SystemExit("/proc/self/status has no RssAnon: measure memory on Linux")


def measure(config: RunConfig, steps: int) -> tuple[list[Clock], list[Clock], list[float]]:
    """What each step of the loop took, what the bare step after it took, and megabytes after each epoch."""
    whole: list[Clock] = []
    bare: list[Clock] = []
    memory: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        samples = {
            "train": [drawn(config.batch * steps, config.data.size, folder)],
            "valid": [drawn(config.batch, config.data.size, folder)],
        }
        other = Bare(config, samples["train"][0])
        left: Clock | None = None

        def told(kind: str, values: dict[str, Any]) -> None:
            nonlocal left
            now = Clock.now()
            if kind == "epoch":
                memory.append(resident())
            if kind != "step":
                return
            took = other.step()
            if left is not None:
                whole.append(now - left)
                bare.append(took)
            # The step after an epoch's end has the validation before it, and is not counted.
            left = None if values["step"] % steps == 0 else Clock.now()

        own = config.model_copy(update={"runs": folder / "runs"})
        loop.run(own, validate, progress=told, load=lambda *given, **options: samples)
    return whole, bare, memory


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--backbone", default="mobilefacenet")
    options.add_argument("--size", type=int, default=80)
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--norms", choices=("batch", "frozen"), default="frozen")
    options.add_argument(
        "--steps", type=int, default=20, help="a step of the loop and a bare one, this often an epoch"
    )
    options.add_argument("--epochs", type=int, default=4)
    options.add_argument("--threads", type=int, default=1)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    config = RunConfig(
        name="benchmark",
        method={"name": "baseline", "backbone": given.backbone},
        data=DataConfig(reader="manifest", root=Path(), size=given.size),
        optim=OptimConfig(),
        epochs=given.epochs,
        batch=given.batch,
        norms=given.norms,
    )
    whole, bare, memory = measure(config, given.steps)
    slow, quick = np.median(np.array(whole), axis=0), np.median(np.array(bare), axis=0)
    pairs = np.array(bare)[:, 0] / np.array(whole)[:, 0]
    low, high = np.quantile(pairs, [0.1, 0.9])
    print(
        f"Training, {given.backbone} at {given.size} px, batch {given.batch}, norms {given.norms}, ", end=""
    )
    print(f"{inference.machine()}, {given.threads} thread(s), torch {torch.__version__}, ", end="")
    print(f"Python {platform.python_version()}, commit {checkpoint.commit()}.\n")
    print("| median step | images/s | seconds | seconds of processor time |")
    print("|---|---:|---:|---:|")
    for name, took in (("bare forward, backward, step", quick), ("the loop", slow)):
        print(f"| {name} | {given.batch / took[0]:.1f} | {took[0]:.3f} | {took[1]:.3f} |")
    share, steady = quick / slow
    print(f"| **share kept** (claim: 0.85) | | **{share:.3f}** | {steady:.3f} |")
    print(f"\nPair by pair the share was {low:.2f} to {high:.2f} in 80 % of {len(whole)} pairs.")
    print("\n| after epoch | " + " | ".join(str(epoch + 1) for epoch in range(len(memory))) + " |")
    print("|---|" + "---:|" * len(memory))
    print("| MB, no file's | " + " | ".join(f"{one:.0f}" for one in memory) + " |")
    if len(memory) > 2:
        print(f"\nMemory grew by {memory[-1] - memory[1]:+.1f} MB from the second epoch to the last.")


if __name__ == "__main__":
    main()
