"""Drawn faces to train on, and a run of them that nothing disturbed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mien.data.readers import manifest
from mien.data.synthetic import drawings
from mien.training.config import RunConfig

from .drawn import trained, tree


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 drawn faces as a manifest, with their exact landmarks."""
    folder = tmp_path_factory.mktemp("faces")
    records = drawings.records(folder, 160, size=48)
    drawn = drawings.faces(160, size=48)
    np.savez(
        folder / "points.npz",
        names=np.array([record.name for record in records]),
        points=np.stack([face.landmarks for face in drawn]).astype(np.float32),
    )
    manifest.write(records, folder / "manifest.csv")
    return folder


@pytest.fixture(scope="module")
def undisturbed(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(RunConfig(**tree(faces, tmp_path_factory.mktemp("undisturbed"))))
