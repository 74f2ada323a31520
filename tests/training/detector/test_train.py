"""`mien train` with a detector configuration: training, export, figures and card, on drawn faces."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from mien.cli.main import app
from mien.errors import ConfigError
from mien.faces.detect import MienDetector
from mien.io import cards, torch_files
from mien.training import checkpoint
from mien.training.detector import train
from mien.training.detector.losses import losses
from mien.training.detector.network import DetectorNet
from mien.training.detector.scenes import Composer, batched
from mien.training.detector.train import configured

from .drawn import face_sources, photographs, sources_folder


def tree_of(keys: dict[str, object], out: Path, **more: Any) -> dict[str, Any]:
    method = {"name": "detector"}
    return {
        "method": method,
        **keys,
        "out": str(out),
        "steps": 3,
        "batch": 2,
        "side": 64,
        "workers": 0,
        **more,
    }


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure on few scenes."""
    monkeypatch.setattr(train, "MEASURED", 8)


@pytest.mark.usefixtures("few")
def test_one_command_trains_exports_measures_and_writes_the_card(tmp_path: Path) -> None:
    config, out = tmp_path / "detector.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(tree_of(sources_folder(tmp_path), out)))
    done = CliRunner().invoke(app, ["train", str(config)])
    assert done.exit_code == 0, done.output
    _, card = cards.verified(out / "detector.onnx")
    assert card.fields["recipe"]["steps"] == 3
    assert card.fields["initialisation"] == "random"
    assert card.fields["bytes"] < 400_000
    assert str(tmp_path) not in card.text()  # a card says nothing of the machine
    assert set(card.fields["metrics"]["scenes"]) == {
        "recall",
        "precision",
        "average_precision",
        "turns",
        "points",
    }
    master = checkpoint.load(out / "detector.safetensors")
    assert master.card["recipe"] == card.fields["recipe"]
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in master.tensors.values())
    found = MienDetector(weights=out / "detector.onnx")(np.zeros((70, 90, 3), np.uint8))
    assert isinstance(found, list)

    again = CliRunner().invoke(app, ["train", str(config)])
    assert isinstance(again.exception, ConfigError)
    assert "--resume" in str(again.exception)
    further = CliRunner().invoke(app, ["train", str(config), "--resume", "--set", "steps=4"])
    assert further.exit_code == 0, further.output
    assert cards.read(out / "detector.json").fields["recipe"]["steps"] == 4


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_ends_as_an_undisturbed_one(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the network's own false alarms were looked for in between."""
    keys = sources_folder(tmp_path)
    monkeypatch.setattr(train, "EPOCH", 2)
    monkeypatch.setattr(train.measure, "alarms", lambda find, backgrounds: [[1.0, 20, 20, 90, 90]] * 900)

    def config(name: str) -> train.DetectorConfig:
        return configured(tree_of(keys, tmp_path / name, steps=5, workers=workers), "test")

    train.run(config("whole"))

    def interrupt(kind: str, values: dict[str, Any]) -> None:
        if kind == "step" and values["step"] == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train.run(config("halves"), progress=interrupt)
    stored = torch_files.read(tmp_path / "halves" / "state.pt")
    assert stored["position"]["step"] == 3
    assert len(stored["task"]["alarms"]) == 900
    train.run(config("halves"), resume=True)
    whole, halves = (torch_files.read(tmp_path / name / "state.pt") for name in ("whole", "halves"))
    for part in ("method", "average"):
        for name, value in whole[part].items():
            assert torch.equal(value, halves[part][name]), name


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"stepps": 3}, "stepps"),
        ({"side": 100}, "side"),
        ({"muxspace": None}, "nothing to learn from"),
        ({"method": {"name": "detector", "width": 3}}, r"method\.width"),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    keys: dict[str, object] = {"muxspace": "m", "sources": "s", "backgrounds": []}
    with pytest.raises(ConfigError, match=complaint):
        configured({**tree_of(keys, tmp_path), **change}, "detector.yaml")


def test_the_configuration_that_ships_is_one() -> None:
    shipped = Path(__file__).parents[3] / "configs" / "detector.yaml"
    config = configured(yaml.safe_load(shipped.read_text()), str(shipped))
    assert set(config.roots) == {"ferplus_train", "muxspace", "diffusionfer"}
    assert config.start is not None


def test_the_network_learns_a_scene_by_heart() -> None:
    torch.manual_seed(0)
    make = Composer({"drawn": face_sources()}, photographs(), 64)
    scenes = [make(np.random.default_rng(seed)) for seed in range(12)]
    batch = batched([scene for scene in scenes if len(scene[1].boxes)][:4])
    network = DetectorNet().train()
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    first = None
    for _ in range(40):
        terms = losses(network(batch.images), batch)
        total = torch.stack(list(terms.values())).sum()
        first = float(total.detach()) if first is None else first
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    assert float(total.detach()) < 0.5 * first
