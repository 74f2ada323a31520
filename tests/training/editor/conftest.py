"""Drawn faces in FERPlus's layout, a guide that has seen them, and a configuration of a few steps."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mien.data.readers.ferplus import USAGES, VOTE_FILE
from mien.data.synthetic.drawings import faces as drawn_faces
from mien.data.transforms import normalise
from mien.editing.corrector import SIDE
from mien.io import images
from mien.labels import EXPRESSIONS
from mien.methods.base import Batch
from mien.methods.meca import MECA, MECAConfig
from mien.training import checkpoint

FACES = 64


@pytest.fixture(scope="package")
def ferplus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Drawn faces in FERPlus's layout with votes, and their landmarks by name."""
    root = tmp_path_factory.mktemp("ferplus")
    table, names, points = [], [], []
    for number, face in enumerate(drawn_faces(FACES, size=48, colour=False)):
        usage = "Training"
        names.append(f"fer{number:07}.png")
        (root / USAGES[usage]).mkdir(exist_ok=True)
        images.write(root / USAGES[usage] / names[-1], face.pixels)
        votes = [0] * 10
        votes[face.expression] = 10
        table.append([usage, names[-1], *votes])
        points.append(face.landmarks)
    for usage in ("PublicTest", "PrivateTest"):
        (root / USAGES[usage]).mkdir()
        name = f"{usage}.png"
        images.write(root / USAGES[usage] / name, drawn_faces(1, size=48)[0].pixels)
        table.append([usage, name, 10, *[0] * 9])
    with (root / "fer2013new.csv").open("w", newline="") as file:
        csv.writer(file).writerows([VOTE_FILE, *table])
    np.savez(root / "points.npz", names=names, points=np.stack(points).astype(np.float32))
    return root, root / "points.npz"


@pytest.fixture(scope="package")
def guide(tmp_path_factory: pytest.TempPathFactory, ferplus: tuple[Path, Path]) -> Path:
    """A small meca that has learnt drawn faces for a few seconds."""
    torch.manual_seed(0)
    method = MECA(MECAConfig(backbone="compact", attention=False, code=8), SIDE)
    pictures = np.stack([face.pixels[..., 0] for face in drawn_faces(FACES, size=SIDE, colour=False)])
    labels = torch.tensor([face.expression for face in drawn_faces(FACES, size=SIDE, colour=False)])
    luma = torch.from_numpy(pictures).float()[:, None].expand(-1, 3, -1, -1) / 255
    optimiser = torch.optim.AdamW(method.parameters(), 3e-3)
    votes = torch.nn.functional.one_hot(labels, len(EXPRESSIONS)).float()
    unknown = torch.full((FACES, 2), torch.nan)
    for _ in range(25):
        batch = Batch(normalise(luma), labels, unknown, votes, torch.zeros(FACES, dtype=torch.long), {})
        loss = torch.stack(list(method(batch, "model").values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    path = tmp_path_factory.mktemp("guide") / "weights.safetensors"
    options = {"name": "meca", "backbone": "compact", "attention": False, "code": 8}
    checkpoint.save(path, method.eval(), {"method": options, "size": SIDE})
    return path


@pytest.fixture(scope="package")
def edits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("edits")


@pytest.fixture
def tree(ferplus: tuple[Path, Path], guide: Path, edits: Path, tmp_path: Path) -> dict[str, Any]:
    """A configuration of a few steps on drawn faces."""
    return {
        "method": {"name": "editor", "kind": "corrector"},
        "ferplus": str(ferplus[0]),
        "points": str(ferplus[1]),
        "bank": str(edits),
        "faces": 40,
        "guides": [str(guide)],
        "out": str(tmp_path / "run"),
        "steps": 2,
        "batch": 8,
        "amount": 0.7,
    }
