"""Which head reads valence and arousal best from the shipped recogniser's features? Chosen on validation.

The network is fixed: its embeddings of FERPlus (vote-derived affect) and DiffusionFER (its labels) are computed once.
Candidates learn from the training parts of both at once, each set weighing the same, and are ranked by the mean CCC of
valence and arousal over both validation parts (fold 0):

- `linear`: what ships. Linear and tanh, squared error plus half of 1 - CCC, full batches; its decay as in the card.
- `regression`: CAL's encoder turn without a game: a layer to 32 and CAL's regressor, by RMSE.
- `correlation`: the same with half of 1 - PCC and of 1 - CCC.
- `game`: CAL whole (adaptive margin, one optimiser for the encoder), with the correlation terms. The layer to 32 is the
  encoder that answers the critic.

The last three are means over seeds. The test columns (fold 0 of DiffusionFER, FERPlus) were looked at once and decide
nothing.

    python benchmarks/affect_heads.py --ferplus cache/ferplus --diffusionfer cache/diffusionfer

prints Markdown.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mien.data.config import DataConfig
from mien.data.cropping import load_split
from mien.io import cards
from mien.methods.base import Batch, ccc
from mien.methods.cal import CAL, CALConfig
from mien.release import build, export

Floats = NDArray[np.float32]
Set = dict[str, tuple[Floats, Floats]]
STEPS, RATE, HALF, WIDTH = 2000, 1e-3, 64, 32

HEADS: dict[str, dict[str, Any]] = {
    "regression": {"critic": False},
    "correlation": {"critic": False, "correlation": 0.5},
    "game": {"correlation": 0.5, "adversary_turn": "shared"},
}


class Layer(nn.Module):
    """Embeddings to a few numbers: the part of the encoder that is still learnt."""

    def __init__(self, inputs: int, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.linear, self.width = nn.Linear(inputs, WIDTH), WIDTH
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)

    def forward(self, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        return torch.relu(self.linear((embedding - self.mean) / self.spread)), []


def embed(data: DataConfig) -> Set:
    """(embedding [n, d], affect [n, 2]) of the rated pictures of each split."""
    network = cards.FOLDER / "recogniser.onnx"
    found: Set = {}
    for split, samples in load_split(data, ("train", "valid", "test")).items():
        (one,) = samples
        known = np.isfinite(one.affect).all(axis=1)
        found[split] = (export.run_onnx(network, one.images)["embedding"][known], one.affect[known])
    return found


def fit(options: dict[str, Any], sets: list[Set], seed: int) -> Callable[[Floats], Floats]:
    """A CAL of these switches on embeddings; each step takes as many rows of every set."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    pairs = [tuple(torch.from_numpy(part) for part in one["train"]) for one in sets]
    whole = torch.cat([embedding for embedding, _ in pairs])
    method = CAL(CALConfig(backbone="tiny", expression="off", **options), 64)
    assert method.backbone.width == WIDTH
    method.backbone = Layer(whole.shape[1], whole.mean(dim=0), whole.std(dim=0) + 1e-6)  # type: ignore[assignment]
    players = {
        turn: torch.optim.AdamW(
            [p for p in method.parameters_for(turn) if p.requires_grad], RATE, weight_decay=0.02
        )
        for turn in method.turns
    }
    schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(one, STEPS) for one in players.values()]
    for _ in range(STEPS):
        rows = [torch.from_numpy(random.integers(len(embedding), size=HALF)) for embedding, _ in pairs]
        chosen = [
            torch.cat([pair[part][row] for pair, row in zip(pairs, rows, strict=True)]) for part in (0, 1)
        ]
        count = len(chosen[0])
        batch = Batch(
            chosen[0],
            torch.full((count,), -1),
            chosen[1],
            torch.full((count, 8), torch.nan),
            torch.full((count,), -1),
            {},
        )
        for turn, player in players.items():
            method.zero_grad(set_to_none=True)
            torch.stack(list(method(batch, turn).values())).sum().backward()
            player.step()
        for schedule in schedules:
            schedule.step()
    method.eval()

    def rate(embedding: Floats) -> Floats:
        affect: Floats = method.predict(torch.from_numpy(embedding)).affect.numpy()
        return affect

    return rate


def score(rate: Callable[[Floats], Floats], part: tuple[Floats, Floats]) -> Floats:
    """CCC of valence and of arousal."""
    both: Floats = ccc(torch.from_numpy(rate(part[0])), torch.from_numpy(part[1])).numpy()
    return both


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--ferplus", type=Path, required=True)
    parser.add_argument("--diffusionfer", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    card = json.loads((cards.FOLDER / "recogniser.json").read_text(encoding="utf-8"))
    sets = [
        embed(
            DataConfig(
                reader=reader, root=root, protocol=protocol, size=card["input"]["size"], cache=arguments.cache
            )
        )
        for reader, root, protocol in (
            ("ferplus", arguments.ferplus, "ferplus-majority"),
            ("diffusionfer", arguments.diffusionfer, "diffusionfer-5fold"),
        )
    ]
    linear = build.fit_affect([one["train"] for one in sets], card["metrics"]["affect"]["decay"])
    raters = {"linear": [lambda embedding: build.rate(linear, embedding)]}
    for name, options in HEADS.items():
        raters[name] = [fit(options, sets, seed) for seed in range(arguments.seeds)]
    print("| head | validation, mean of both sets | FERPlus test, v / a | DiffusionFER fold 0, v / a |")
    print("|---|---|---|---|")
    for name, seeds in raters.items():
        held = [np.mean([score(rate, one["valid"]) for one in sets]) for rate in seeds]
        tests = [np.mean([score(rate, one["test"]) for rate in seeds], axis=0) for one in sets]
        spread = f" ± {np.std(held, ddof=1):.4f}" if len(held) > 1 else ""
        cells = " | ".join(f"{valence:.3f} / {arousal:.3f}" for valence, arousal in tests)
        print(f"| {name} | {np.mean(held):.4f}{spread} | {cells} |")


if __name__ == "__main__":
    main()
