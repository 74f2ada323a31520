"""`mien ablate` from drawn faces to a table; a second call trains nothing again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from mien.cli.main import app
from mien.data.synthetic import drawings
from mien.errors import ConfigError, OutputExists
from mien.methods import ABLATIONS


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ladder's full configuration on 80 drawn faces with their landmarks."""
    folder = tmp_path_factory.mktemp("faces")
    records = drawings.records(folder, 80, size=48)
    np.savez(
        folder / "points.npz",
        names=np.array([record.name for record in records]),
        points=np.stack([face.landmarks for face in drawings.faces(80, size=48)]).astype(np.float32),
    )
    lines = ["path,split,expression,subject,name"]
    lines += [
        f"{one.path.name},{one.split},{drawings.EXPRESSIONS[one.expression]},{one.subject},{one.name}"
        for one in records
    ]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tree = {
        "name": "drawn",
        "method": {"name": "ke2nt", "backbone": "tiny", "contrast_weight": 0.1},
        "data": {
            "reader": "manifest",
            "root": str(folder),
            "size": 32,
            "cache": str(folder / "cache"),
            "points": str(folder / "points.npz"),
        },
        "epochs": 1,
        "batch": 16,
        "threads": 1,
        "runs": str(folder / "runs"),
    }
    path = folder / "ladder.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def call(config: Path, *more: str, method: str = "ke2nt"):
    return CliRunner().invoke(app, ["ablate", method, "--config", str(config), *more], catch_exceptions=False)


def test_a_ladder_is_trained_judged_tabulated_and_not_done_twice(config: Path) -> None:
    asked = (
        "--rungs",
        "linear,random",
        "--seeds",
        "0",
        "--draws",
        "20",
        "--json",
        "--out",
        str(config.parent / "out"),
    )
    first = call(config, *asked)
    assert first.exit_code == 0, first.output
    table = json.loads(first.stdout)
    assert [row["name"] for row in table["rows"]] == ["drawn-linear", "drawn-random"]
    assert [pair["reference"] for pair in table["pairs"]] == ["drawn-linear"]
    assert list((config.parent / "out").glob("comparison.*"))
    runs = config.parent / "runs"
    assert (
        yaml.safe_load((runs / "drawn-random-s0" / "config.yaml").read_text())["method"]["text"] == "random-0"
    )
    written = {path: path.stat().st_mtime_ns for path in runs.glob("*/weights.safetensors")}
    assert len(written) == 2
    with pytest.raises(OutputExists, match="--overwrite"):
        call(config, *asked)
    again = call(config, *asked, "--overwrite")
    assert json.loads(again.stdout) == table
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_the_plan_names_every_run_and_does_nothing(config: Path) -> None:
    planned = call(config, "--plan", "--seeds", "4,5")
    assert planned.exit_code == 0
    assert planned.stdout.count("-s4") == planned.stdout.count("-s5") == len(ABLATIONS["ke2nt"])
    assert not (config.parent / "runs" / "drawn-full-s4").exists()


def test_a_wrong_method_rung_or_seed_is_one_clear_line(config: Path) -> None:
    with pytest.raises(ConfigError, match="ke2nt"):
        call(config, method="ke2n")
    with pytest.raises(ConfigError, match="not 'cclls'"):
        call(config, method="cclls")
    with pytest.raises(ConfigError, match="transformation"):
        call(config, "--rungs", "transformaton")
    with pytest.raises(ConfigError, match="whole numbers"):
        call(config, "--seeds", "one")
