"""Drawn faces in FERPlus's layout, with their labels as the teacher writes them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from mien.data.readers.ferplus import FOLDERS, USAGES, VOTE_FILE
from mien.data.synthetic.drawings import faces as drawn_faces
from mien.io import images

from .drawn import rigid_of


@pytest.fixture(scope="package")
def ferplus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Drawn faces in FERPlus's layout, and their labels as the teacher writes them."""
    root, labels = tmp_path_factory.mktemp("ferplus"), tmp_path_factory.mktemp("labels")
    drawn = list(drawn_faces(40, size=48))
    table, number = [], 0
    for usage, folder in USAGES.items():
        count = 28 if usage == "Training" else 6
        (root / folder).mkdir()
        some, names = drawn[number : number + count], []
        for face in some:
            names.append(f"fer{number:07}.png")
            images.write(root / folder / names[-1], face.pixels)
            table.append([usage, names[-1], 10, *[0] * 9])
            number += 1
        np.savez(
            labels / f"ferplus_{FOLDERS[folder]}.npz",
            names=names,
            points=np.stack([face.landmarks for face in some]).astype(np.float32),
            rigid=rigid_of(count),
            score=np.array([0.5] + [1.0] * (count - 1)),  # the teacher doubts the first
        )
    with (root / "fer2013new.csv").open("w", newline="") as file:
        csv.writer(file).writerows([VOTE_FILE, *table])
    return root, labels
