"""Whether CAL is held up by its start: many seeds of a whole backbone on rendered heads.

Trains each arm from the same weights with several seeds and prints the CCC of valence and arousal on the validating
persons, and how many seeds were held up: a CCC below a third of the arm's median for either.

    python benchmarks/method_checks_cal.py cache/rendered --weights cache/mobilefacenet.pt --seeds 8

prints Markdown. Arms are options of the method, `--arm NAME:key=value,key=value`; by default regression alone, the game
(`match`) and the public code's answer (`raise`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from mien.data.config import DataConfig
from mien.data.cropping import Samples, load_split
from mien.data.transforms import augment, normalise, to_float
from mien.methods import build
from mien.methods.base import Method, Recognition, ccc
from mien.training import optim
from mien.training.batches import BatchLoader
from mien.training.config import OptimConfig

ARMS = ("regression:critic=false", "match:adversary=match", "raise:adversary=raise")
OPTIM = OptimConfig(rate=1e-3, ema=None)


def train(method: Method, feed: BatchLoader, data: DataConfig, epochs: int) -> None:
    """Play every turn of every step, with live norms and without a weight average."""
    players = {turn: optim.build(method, turn, OPTIM) for turn in method.turns}
    schedules = {turn: optim.schedule(one, OPTIM, epochs * feed.steps) for turn, one in players.items()}
    method.train()
    for epoch in range(epochs):
        for step, targets, crops in feed.epoch(epoch):
            draw = torch.Generator().manual_seed(epoch * feed.steps + step)
            batch = targets._replace(image=augment(crops, data, draw))
            for turn in method.turns:
                loss = torch.stack(list(method(batch, turn).values())).sum()
                for player in players.values():
                    player.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(list(method.parameters_for(turn)), OPTIM.clip or torch.inf)
                players[turn].step()
                schedules[turn].step()


@torch.no_grad()
def judge(method: Recognition, samples: Samples) -> list[float]:
    """CCC of valence and arousal."""
    method.eval()
    crops = torch.from_numpy(np.array(samples.images))
    affect = [method.predict(normalise(to_float(part))).affect for part in crops.split(128)]
    return [float(value) for value in ccc(torch.cat(affect), torch.from_numpy(samples.affect))]


def main() -> None:
    """Train all arms and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("root", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--arm", action="append", default=[])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    data = DataConfig(
        reader="rendered",
        root=chosen.root,
        points=chosen.root / "points.npz",
        size=chosen.size,
        cache=chosen.cache,
    )
    splits = load_split(data, ("train", "valid"))
    print("| arm | CCC valence, seed by seed | CCC arousal | held up |\n| --- | --- | --- | --- |")
    for arm in chosen.arm or ARMS:
        name, _, options = arm.partition(":")
        pairs = [pair.split("=") for pair in options.split(",") if pair]
        section: dict[str, Any] = {
            "name": "cal",
            "backbone": "mobilefacenet",
            "weights": str(chosen.weights),
            "adversary_turn": "shared",
            "dropout": 0.0,
            **{key: yaml.safe_load(value) for key, value in pairs},
        }
        reached = []
        for seed in range(chosen.seeds):
            torch.manual_seed(seed)
            method = build(section, chosen.size)
            assert isinstance(method, Recognition)
            train(method, BatchLoader(splits["train"], chosen.batch, 0, seed), data, chosen.epochs)
            reached.append(judge(method, splits["valid"][0]))
        table = np.array(reached)
        held = int((table < np.median(table, axis=0) / 3).any(axis=1).sum())
        words = [" ".join(f"{value:.2f}" for value in column) for column in table.T]
        print(f"| {name} | {words[0]} | {words[1]} | {held} of {len(table)} |", flush=True)


if __name__ == "__main__":
    main()
