"""A table over sets and made shifts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.cli import plain_text
from mien.data.readers import manifest
from mien.data.synthetic import drawings
from mien.errors import ConfigError
from mien.evaluation import leave_out
from mien.io import cards
from mien.labels import EXPRESSIONS


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small sets of drawn faces as a configuration."""
    folder = tmp_path_factory.mktemp("sets")
    lines = ["sets:"]
    for seed, name in enumerate(("one", "two")):
        records = drawings.records(folder / name, 24, seed, subjects=5)
        manifest.write(records, folder / name / "manifest.csv")
        lines += [f"  - name: {name}", "    reader: manifest", f"    root: {folder / name}"]
    path = folder / "sets.yaml"
    path.write_text("\n".join(lines))
    return path


def test_shifts_keep_type_shape_and_mean() -> None:
    crops = np.random.default_rng(0).integers(60, 200, (5, 80, 80), dtype=np.uint8)
    for name, change in leave_out.SHIFTS.items():
        changed = change(crops)
        assert changed.dtype == np.uint8, name
        assert changed.shape == crops.shape, name
        assert np.abs(changed.mean(axis=(1, 2)) - crops.mean(axis=(1, 2))).max() < 4, name
    assert leave_out.SHIFTS["low contrast"](crops).std() < 0.5 * crops.std()
    assert leave_out.SHIFTS["high contrast"](crops).std() > 1.3 * crops.std()
    assert leave_out.SHIFTS["48 px"](crops).std() < 0.9 * crops.std()


def test_every_set_is_judged_under_every_shift(sets: Path, command: Any, tmp_path: Path) -> None:
    ran = command(
        "evaluate", "shipped", sets, "--leave-out", "--cache", tmp_path / "cache", "--out", tmp_path / "table",
        "--draws", "50", "--threads", "1",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    rows = json.loads((tmp_path / "table" / "leave-out.json").read_text())
    assert [(row["set"], row["shift"]) for row in rows] == [
        (name, shift) for name in ("one", "two") for shift in leave_out.SHIFTS
    ]
    assert all(row["images"] == 24 and row["learnt"] == 0 for row in rows)
    assert all(row["accuracy"]["low"] <= row["accuracy"]["value"] <= row["accuracy"]["high"] for row in rows)
    kept = (tmp_path / "table" / "leave-out.md").read_text()
    assert kept.startswith("| set | shift |")
    assert ran.out == plain_text.of_markdown(kept, 80) + "\n"
    again = command("evaluate", "shipped", sets, "--leave-out", "--out", tmp_path / "table")
    assert again.code != 0
    assert "--overwrite" in again.err


def test_options_that_would_be_passed_over_are_refused(sets: Path, command: Any) -> None:
    ran = command("evaluate", "shipped", sets, "--leave-out", "--mirror", "--by", "yaw")
    assert ran.code != 0
    assert "leave out --by, --mirror" in ran.err


def test_weights_are_opened_once_and_named_by_content(sets: Path, tmp_path: Path) -> None:
    opened: list[str] = []
    real = leave_out.inference.open_weights
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            leave_out.inference, "open_weights", lambda name, *rest: opened.append(name) or real(name, *rest)
        )
        rows = leave_out.run("shipped", leave_out.load(sets), cache=tmp_path, draws=10, threads=1)
    assert opened == ["shipped"]
    _, card = cards.verified(cards.FOLDER / "recogniser.onnx")
    assert {row.weights_hash for row in rows} == {card.fields["sha256"]}


def test_figures_are_those_of_the_answers() -> None:
    truth = np.array([0, 0, 1, 1])
    shares = np.full((4, len(EXPRESSIONS)), 0.01)
    shares[[0, 1, 2, 3], [0, 0, 1, 0]] = [0.93, 0.93, 0.93, 0.4]
    judged = leave_out._judged(shares / shares.sum(axis=1, keepdims=True), truth, None, 20, 0.9)
    assert judged["accuracy"].value == 0.75
    assert judged["macro_recall"].value == 0.75
    assert judged["flagged"] == 0.25
    assert judged["caught"] == 1.0


def test_a_wrong_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        leave_out.load(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("sets: [{name: a, reader: folder, root: x, rot: 1}]")
    with pytest.raises(ConfigError, match="rot"):
        leave_out.load(tmp_path / "bad.yaml")
