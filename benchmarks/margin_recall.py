"""The adaptive margin of `mien.methods.cal` against a static one, where no affect is involved: Recall@1.

The published check of the margin on its own: take a loss of metric learning, put the adaptive margin in the place of
its constant, and look up each picture's nearest neighbour among classes that training has not seen.

Here the classes are the persons of a folder of rendered heads (`mien data render`). Frozen pooled features of a
backbone are learnt upon by one linear layer to 64 numbers. Training persons teach; the static margin is the best of a
grid on the validating persons, separately for each loss and seed; the persons of the test whom training has not seen
are looked up once: Recall@1 is the share of pictures whose nearest other picture shows the same person.

- `contrastive`: pull D^2 of two pictures of a person, push [margin - D^2]+ of two persons.
- `triplet`: [D^2(a, p) - D^2(a, n) + margin]+ with semi-hard negatives (the nearest that is farther than the positive).

Both with embeddings of length 1 and with free ones. The adaptive margin of a pair is alpha(eta), eta being Pearson's
correlation of its two embeddings, held fixed, and N the batch. It has nothing to choose: c = 10, K = 4 as published.

    python benchmarks/margin_recall.py cache/rendered --weights cache/mobilefacenet.pt

prints Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mien.data.config import DataConfig
from mien.data.cropping import load_crops, source_records
from mien.data.transforms import normalise, to_float
from mien.methods import backbone
from mien.methods.cal import adaptive_margin

GRID = (0.1, 0.2, 0.5, 1.0, 2.0)
PERSONS, EACH = 32, 4
WIDTH, STEPS, RATE = 64, 600, 1e-3


@torch.no_grad()
def describe(root: Path, weights: Path, size: int, cache: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """(features [n, 512], person [n]) of the persons to learn from, to validate on and to test."""
    config = DataConfig(
        reader="rendered", root=root, points=root / "points.npz", size=size, cache=cache, colour=False
    )
    network = backbone.build("mobilefacenet", weights, size).eval()
    found = {}
    for split in ("train", "valid", "test"):
        records = [record for record in source_records(config) if record.split == split]
        crops = load_crops(records, size, False, cache, config.points)
        # Whom training has seen says nothing of new classes.
        kept = [
            row
            for row, record in enumerate(records)
            if split != "test" or record.attributes["person"] == "unseen"
        ]
        features = [
            network(normalise(to_float(torch.from_numpy(np.array(crops.images[part])))))[0]
            for part in np.array_split(kept, max(1, len(kept) // 128))
        ]
        persons = torch.tensor([int(records[row].subject or -1) for row in kept])
        found[split] = (torch.cat(features), persons)
    mean, spread = found["train"][0].mean(dim=0), found["train"][0].std(dim=0) + 1e-6
    return {name: ((features - mean) / spread, persons) for name, (features, persons) in found.items()}


def recall(embedded: Tensor, persons: Tensor) -> float:
    """Share of rows whose nearest other row has the same person."""
    apart = torch.cdist(embedded, embedded)
    apart.fill_diagonal_(torch.inf)
    return float((persons[apart.argmin(dim=1)] == persons).float().mean())


def batches(persons: Tensor, seed: int) -> Iterator[Tensor]:
    """Rows of 32 persons, four each."""
    random = np.random.default_rng(seed)
    rows = {who: np.flatnonzero(persons.numpy() == who) for who in persons.unique().tolist()}
    names = np.array([who for who, own in rows.items() if len(own) >= EACH])
    while True:
        chosen = random.choice(names, PERSONS, replace=False)
        yield torch.from_numpy(
            np.concatenate([random.choice(rows[who], EACH, replace=False) for who in chosen])
        )


def margins(embedded: Tensor, static: float | None) -> Tensor:
    """The margin [n, n] of each pair of rows: the constant, or the adaptive one, held fixed."""
    if static is not None:
        return embedded.new_full((len(embedded), len(embedded)), static)
    with torch.no_grad():
        around = functional.normalize(embedded - embedded.mean(dim=1, keepdim=True), dim=1)
        return adaptive_margin((around @ around.T).flatten(), len(embedded)).view(len(embedded), -1)


def loss_of(kind: str, embedded: Tensor, persons: Tensor, static: float | None) -> Tensor:
    """The loss of one batch."""
    length = embedded.square().sum(dim=1)
    square = (length[:, None] + length[None] - 2 * embedded @ embedded.T).clamp(min=0)
    same = persons[:, None] == persons[None]
    itself = torch.eye(len(persons), dtype=torch.bool)
    margin = margins(embedded, static)
    if kind == "contrastive":
        push = functional.relu(margin - square)[~same]
        # The mean over the pairs that still push: over all, it would fade as most pairs come apart.
        return square[same & ~itself].mean() + push.sum() / (push > 0).sum().clamp(min=1)
    anchor, positive = torch.nonzero(same & ~itself, as_tuple=True)
    near = square[anchor, positive]
    rows = square[anchor].masked_fill(same[anchor], torch.inf)
    farther = rows.masked_fill(rows <= near[:, None], torch.inf)
    # Without a negative that is farther than the positive, the farthest negative is the easiest to learn from.
    farthest = rows.masked_fill(torch.isinf(rows), -1).argmax(dim=1)
    negative = torch.where(torch.isinf(farther).all(dim=1), farthest, farther.argmin(dim=1))
    return functional.relu(near - square[anchor, negative] + margin[anchor, negative]).mean()


class Layer(nn.Module):
    """Features to 64 numbers, of length 1 or free."""

    def __init__(self, width: int, unit: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(width, WIDTH, bias=False)
        self.unit = unit

    def forward(self, features: Tensor) -> Tensor:
        embedded: Tensor = self.linear(features)
        return functional.normalize(embedded, dim=1) if self.unit else embedded


def train(
    kind: str, unit: bool, static: float | None, seed: int, features: Tensor, persons: Tensor, steps: int
) -> Layer:
    """Learn the layer; the same seed gives the same start and batches to every margin."""
    torch.manual_seed(seed)
    layer = Layer(features.shape[1], unit)
    optimiser = torch.optim.AdamW(layer.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    feed = batches(persons, seed)
    for _ in range(steps):
        rows = next(feed)
        optimiser.zero_grad()
        loss_of(kind, layer(features[rows]), persons[rows], static).backward()
        optimiser.step()
        schedule.step()
    return layer.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    data = describe(arguments.root, arguments.weights, arguments.size, arguments.cache)
    told = {
        name: f"{len(persons)} pictures of {len(persons.unique())}" for name, (_, persons) in data.items()
    }
    print(f"persons: train {told['train']}, valid {told['valid']}, test {told['test']}\n")
    print(f"without any learning: {100 * recall(*data['test']):.1f} %\n")
    print(
        "| loss | embedding | static, best of the grid | static 1 | adaptive | adaptive minus best static |"
    )
    print("|---|---|---|---|---|---|")

    def score(layer: Layer, split: str) -> float:
        features, persons = data[split]
        with torch.no_grad():
            return 100 * recall(layer(features), persons)

    for kind in ("contrastive", "triplet"):
        for unit in (True, False):
            best, one, adaptive, chosen = [], [], [], []
            for seed in range(arguments.seeds):
                layers = {
                    margin: train(kind, unit, margin, seed, *data["train"], arguments.steps)
                    for margin in (None, *GRID)
                }
                held = {
                    margin: score(layer, "valid") for margin, layer in layers.items() if margin is not None
                }
                winner = max(held, key=lambda margin: held[margin])
                chosen.append(f"{winner:g}")
                best.append(score(layers[winner], "test"))
                one.append(score(layers[1.0], "test"))
                adaptive.append(score(layers[None], "test"))
            gain = np.subtract(adaptive, best)
            cells = [
                f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}" for values in (best, one, adaptive)
            ]
            print(
                f"| {kind} | {'length 1' if unit else 'free'} | {cells[0]} (margin {', '.join(chosen)}) | {cells[1]} "
                f"| {cells[2]} | {gain.mean():+.1f} ± {gain.std(ddof=1):.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
