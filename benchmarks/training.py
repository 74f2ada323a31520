"""How much of the bare training step the loop keeps: images/s of `mien train` over images/s of forward-backward-step.

Both train the same network on the same batch size with the same optimiser, in turn, in one process. The loop adds what
a run needs: gathering crops, augmentation, the weight average, logs. The claim is a ratio of at least 0.85.

    python benchmarks/training.py [--backbone mobilefacenet] [--size 80] [--batch 64] [--steps 20] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from mien import methods, optim, train
from mien.config import DataConfig, OptimConfig, RunConfig
from mien.data.loaders import Feed, Samples


def drawn(count: int, size: int) -> Samples:
    """Random crops: speed does not depend on what is in them."""
    random = np.random.default_rng(0)
    return Samples(
        random.integers(0, 256, (count, size, size), dtype=np.uint8),
        np.ones(count, dtype=bool),
        random.integers(0, 8, count),
        np.full((count, 8), np.nan, dtype=np.float32),
        random.uniform(-1, 1, (count, 2)).astype(np.float32),
        np.full(count, -1),
        tuple(str(one) for one in range(count)),
    )


def bare(config: RunConfig, steps: int) -> float:
    """Images/s of forward, backward and optimiser step on one fixed batch."""
    method = methods.build(config.method, config.data.size).to(memory_format=torch.channels_last).train()
    optimiser = optim.build(method, "model", config.optim)
    feed = Feed([drawn(config.batch, config.data.size)], config.batch, 0.0, 0)
    _, targets, crops = next(feed.epoch(0))
    batch = train._prepare(config, targets, crops, 0, 0, 1)
    rates = []
    for step in range(steps + 2):
        begun = time.perf_counter()
        loss = torch.stack(list(method(batch, "model").values())).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if step >= 2:
            rates.append(config.batch / (time.perf_counter() - begun))
    return statistics.median(rates)


def loop(config: RunConfig, steps: int, samples: Samples) -> float:
    """Images/s of the steps of `mien.train.run` itself."""
    stamps: list[float] = []
    original = train.load_split
    train.load_split = lambda *given: {"train": [samples], "valid": [drawn(8, config.data.size)]}  # type: ignore[assignment]
    try:
        with tempfile.TemporaryDirectory() as folder:
            train.run(
                config.model_copy(update={"runs": Path(folder)}),
                report=lambda kind, values: stamps.append(time.perf_counter()) if kind == "step" else None,
            )
    finally:
        train.load_split = original
    return config.batch / statistics.median(np.diff(stamps[2:]).tolist())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--backbone", default="mobilefacenet")
    options.add_argument("--size", type=int, default=80)
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--steps", type=int, default=20)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int)
    given = options.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    config = RunConfig(
        name="benchmark",
        method={"name": "baseline", "backbone": given.backbone},
        data=DataConfig(reader="manifest", root=Path(), size=given.size),
        optim=OptimConfig(clip=5.0, ema=0.999),
        epochs=1,
        batch=given.batch,
    )
    samples = drawn(given.batch * given.steps, given.size)
    pairs = [(bare(config, given.steps), loop(config, given.steps, samples)) for _ in range(given.rounds)]
    for first, second in pairs:
        print(f"bare {first:7.1f} images/s   loop {second:7.1f} images/s   ratio {second / first:.3f}")
    print(f"median ratio {statistics.median(second / first for first, second in pairs):.3f}")


if __name__ == "__main__":
    main()
