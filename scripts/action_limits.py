"""Measures what limits the network of facial actions on renderings of people that it has not seen.

    python scripts/action_limits.py LABELS masters/actions.safetensors   # writes docs/reports/action-limits/limits.json

LABELS is the folder of labels of `mien train configs/actions.yaml`. Three questions:

- How well could the actions be told from the facial points alone? A small network (two layers of 512) is trained on the
  exact points of the renderings to learn from, with noise of so many pixels on them, and on the points that the network
  of actions is given. Chosen, by us: 1,500 steps of 256 renderings, each mirrored at random.
- How far are the points from the exact ones, as given and as the network corrects them?
- What does the same person's face at rest add? The answer for it is taken off, as `mien predict --baseline` does.

Pixels are those of the network's crop, 80 px wide. Tests: tests/test_action_limits.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mien.actions import ACTIONS, GAZE, MIRROR
from mien.faces.action_reader import SIZE
from mien.landmarks import MIRROR as MIRRORED_POINTS
from mien.training import checkpoint, processor
from mien.training.actions import faces, measure
from mien.training.actions.draws import middle
from mien.training.actions.faces import ActionFaces
from mien.training.actions.network import ActionNet

OUT = Path(__file__).parent.parent / "docs" / "reports" / "action-limits" / "limits.json"
NOISE = (0.0, 0.25, 0.5, 1.0)
STEPS, BATCH, WIDTH = 1500, 256, 512
GOOD = 0.7

Floats = NDArray[Any]


def from_points(
    learnt: tuple[Floats, Floats], asked: tuple[Floats, Floats], steps: int = STEPS, seed: int = 0
) -> Floats:
    """Pearson's correlation [52] on `asked` of a small network trained on `learnt`; both are points [n, P, 2] in unit
    coordinates and exact actions [n, 52]."""
    torch.manual_seed(seed)
    points, actions = learnt
    points = np.concatenate([points, (points * [-1, 1] + [1, 0])[:, MIRRORED_POINTS]])
    actions = np.nan_to_num(np.concatenate([actions, actions[:, MIRROR]]))
    middle_of, spread = points.mean(axis=0), points.std(axis=0) + 1e-4

    def inputs(some: Floats) -> torch.Tensor:
        return torch.from_numpy(((some - middle_of) / spread).reshape(len(some), -1).astype(np.float32))

    known, target = inputs(points), torch.from_numpy(actions.astype(np.float32))
    weights = 1 / target.var(dim=0).clamp(min=0.004)
    network = nn.Sequential(
        nn.Linear(known.shape[1], WIDTH), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Dropout(0.2), nn.Linear(WIDTH, actions.shape[1]),
    )  # fmt: skip
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)
    for _ in range(steps):
        rows = torch.randint(len(known), (BATCH,))
        loss = ((network(known[rows]) - target[rows]).square() * weights).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        said = network.eval()(inputs(asked[0])).numpy()
    return measure.pearson(said, asked[1])


def answers(network: ActionNet, some: ActionFaces) -> tuple[Floats, Floats]:
    """The actions [n, 52], as the mean over the faces and their mirror images, and the corrected points [n, P, 2]."""
    crops, actions, corrected = middle(some.crops), [], []
    mirrored = (some.points * [-1, 1] + [1, 0])[:, MIRRORED_POINTS].astype(np.float32)
    for first in range(0, len(some), 128):
        rows = slice(first, first + 128)
        images = torch.from_numpy(crops[rows])[:, None].float()
        with torch.no_grad():
            plain, points = network(images, torch.from_numpy(some.points[rows]))
            other, _ = network(images.flip(3), torch.from_numpy(mirrored[rows]))
        plain, other = (said[:, : len(ACTIONS)].numpy() for said in (plain, other))
        actions.append((plain + other[:, MIRROR]) / 2)
        corrected.append(points[-1].numpy())
    return np.concatenate(actions), np.concatenate(corrected)


def against_rest(said: Floats, some: ActionFaces) -> dict[str, Any]:
    """The mean correlation on people with a picture at rest, of the answers and of their change from rest."""
    moving = np.array([not name.startswith(GAZE) for name in ACTIONS])
    at_rest = (np.nan_to_num(some.actions[:, moving]) == 0).all(axis=1)
    people = np.array([name.split("/")[0] for name in some.names.tolist()])
    change, asked = np.array(said, float), np.zeros(len(said), bool)
    for person in np.unique(people[at_rest]):
        theirs = people == person
        change[theirs] -= said[theirs & at_rest].mean(axis=0)
        asked |= theirs & ~at_rest
    plain, less = (measure.pearson(one[asked], some.actions[asked])[moving] for one in (said, change))
    return {
        "people": len(np.unique(people[at_rest])),
        "pictures": int(asked.sum()),
        "itself": _mean(plain),
        "change": _mean(less),
    }


def apart(points: Floats, places: Floats) -> float:
    """The median distance of points from the exact ones in pixels of the crop."""
    return round(float(np.median(np.linalg.norm(points - places, axis=-1))) * SIZE, 2)


def _mean(values: Floats) -> float:
    return round(float(np.nanmean(values)), 3)


def limits(labels: Path, network: ActionNet) -> dict[str, Any]:
    """All figures."""
    sets = faces.read(labels, [], renders=True)
    train, unseen = sets["renderings"], sets["rendered"]
    random = np.random.default_rng(0)
    points = {}
    for noise in NOISE:
        learnt, asked = (
            (some.places + random.normal(0, noise / SIZE, some.places.shape), some.actions)
            for some in (train, unseen)
        )
        points[f"{noise:g}"] = _mean(from_points(learnt, asked))
    given = from_points((train.points, train.actions), (unseen.points, unseen.actions))
    said, corrected = answers(network.eval(), unseen)
    reached = measure.pearson(said, unseen.actions)
    return {
        "renderings": len(train),
        "people": len({name.split("/")[0] for name in train.names.tolist()}),
        "asked": len(unseen),
        "commit": checkpoint.commit(),
        "from points off by": points,
        "from the given points": _mean(given),
        "distance": {
            "given": apart(unseen.points, unseen.places),
            "corrected": apart(corrected, unseen.places),
        },
        "network": {
            "mean": _mean(reached),
            "good": int((reached >= GOOD).sum()),
            "of": int(np.isfinite(reached).sum()),
        },
        "teacher": _mean(measure.pearson(unseen.again, unseen.actions)),
        "rest": against_rest(said, unseen),
    }


def main(labels: Path, master: Path) -> None:
    """Write the figures."""
    kept = checkpoint.load(master)
    method = kept.card["recipe"]["config"]["method"]
    network = ActionNet(tuple(method["widths"]), method["hidden"])
    network.load_state_dict(kept.tensors)
    with processor.settings(1):
        figures = limits(labels, network)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
