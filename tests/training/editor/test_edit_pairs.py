"""The bank of edits is made once, and anew when its pictures change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.io import images
from mien.labels import NEUTRAL
from mien.training.editor import edit_pairs
from mien.training.editor import train as training

from .game import task_of


def test_a_bank_is_made_once(tree: dict[str, Any]) -> None:
    first = task_of(tree).faces
    files = sorted(Path(tree["bank"]).rglob("*.npz"))
    stamps = [file.stat().st_mtime_ns for file in files]
    again = task_of(tree).faces
    assert [file.stat().st_mtime_ns for file in files] == stamps
    np.testing.assert_array_equal(first.after, again.after)
    assert len(first) == 40
    assert (first.votes.argmax(axis=1) == NEUTRAL).sum() <= 20
    assert (first.votes.argmax(axis=1) != first.target).all()


def test_a_bank_of_exchanged_pictures_is_made_anew(
    ferplus: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mien.data.readers import READERS

    monkeypatch.setattr(edit_pairs, "_part", lambda *_: {"made": np.zeros(1)})
    monkeypatch.setattr(edit_pairs, "Bank", dict)
    monkeypatch.setattr(edit_pairs, "fields", lambda kind: ())
    points = training.read_points(ferplus[1])
    record = next(r for r in READERS["ferplus"](ferplus[0]) if r.split == "train")
    path = tmp_path / record.path.name
    for level, banks in ((10, 1), (200, 2), (200, 2)):
        images.write(path, np.full((48, 48, 3), level, np.uint8))
        edit_pairs.build(tmp_path / "bank", [replace(record, path=path)], points, 2, 0, lambda line: None)
        assert len(list((tmp_path / "bank").iterdir())) == banks
