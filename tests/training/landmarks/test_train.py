"""`mien train` with a landmarks configuration: labels, training, export, figures and card, on drawn faces."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from mien.cli.main import app
from mien.errors import ConfigError, TrainingError
from mien.faces.landmarker import SIDE, Landmarker
from mien.io import cards, torch_files
from mien.landmarks import GROUPS, LEFT_EYE_CORNERS, POINTS, RIGHT_EYE_CORNERS
from mien.training import checkpoint
from mien.training.landmarks import teacher, train
from mien.training.landmarks.crops import Draws
from mien.training.landmarks.network import MODES
from mien.training.landmarks.train import LandmarkMethod, configured, measure, point_modes
from mien.training.run_log import read

from .drawn import faces_with_a_dot, tree_of

Overfit = Callable[..., tuple[float, float]]


def test_one_command_trains_exports_measures_and_writes_the_card(
    ferplus: tuple[Path, Path], tmp_path: Path
) -> None:
    config = tmp_path / "landmarks.yaml"
    config.write_text(yaml.safe_dump(tree_of(ferplus, tmp_path / "run")))
    done = CliRunner().invoke(app, ["train", str(config)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run").as_posix() in done.output
    weights = tmp_path / "run" / "landmarks.onnx"
    _, card = cards.verified(weights)
    assert card.fields["recipe"]["steps"] == 3
    assert card.fields["recipe"]["config"]["method"]["widths"] == [4, 4, 8, 8]
    assert str(tmp_path) not in card.text()  # a card says nothing of the machine
    (figure,) = card.fields["metrics"]["error_percent"]
    assert figure == "ferplus, 48 px, n=5"
    assert set(card.fields["metrics"]["error_percent_by_part_median"][figure]) == set(GROUPS)
    master = checkpoint.load(tmp_path / "run" / "landmarks.safetensors")
    assert master.tensors["modes"].shape == (MODES, 2 * len(POINTS))
    points, presence, pose = Landmarker.load(weights, threads=1)(
        np.zeros((48, 48, 3), np.uint8), np.array([[0, 0, 47, 47]], np.float32)
    )
    assert (points.shape, presence.shape, pose.shape) == ((1, len(POINTS), 2), (1,), (1, 3))

    again = CliRunner().invoke(app, ["train", str(config)])
    assert again.exit_code != 0
    assert isinstance(again.exception, ConfigError)
    assert "--resume" in str(again.exception)
    other = CliRunner().invoke(app, ["train", str(config), "--resume", "--set", "rate=0.1"])
    assert "rate is 0.002 there, 0.1 here" in str(other.exception)
    further = CliRunner().invoke(app, ["train", str(config), "--resume", "--set", "steps=5"])
    assert further.exit_code == 0, further.output
    assert cards.read(weights.with_suffix(".json")).fields["recipe"]["steps"] == 5


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"stepps": 3}, "stepps"),
        ({"steps": 0}, "steps"),
        ({"ferplus": None}, "nothing to learn from"),
        ({"method": {"name": "landmarks", "width": 3}}, r"method\.width"),
    ],
)
def test_a_wrong_configuration_is_refused(
    ferplus: tuple[Path, Path], tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        configured({**tree_of(ferplus, tmp_path), **change}, "landmarks.yaml")


def test_the_configuration_that_ships_is_one() -> None:
    shipped = Path(__file__).parents[3] / "configs" / "landmarks.yaml"
    config = configured(yaml.safe_load(shipped.read_text()), str(shipped))
    assert set(config.roots) == set(teacher.FACES)


def test_the_modes_span_the_drawn_points() -> None:
    draws = Draws(faces_with_a_dot(), [], 4, 0.0, seed=3)
    mean, modes = (part.numpy() for part in point_modes(draws))
    assert modes.shape == (MODES, 2 * len(POINTS))
    place = draws.place()[1].ravel() / SIDE + 0.5 / SIDE - mean
    left = place - place @ np.linalg.pinv(modes) @ modes
    assert np.abs(left).max() < 0.01  # of the crop


def test_measure_gives_no_error_to_whoever_knows() -> None:
    faces = faces_with_a_dot()
    known = iter(zip(faces.points, faces.pose, strict=True))

    class Knows:
        """Answers the truth, moved by a hundredth of the eye distance."""

        def __call__(self, image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, ...]:
            points, pose = next(known)
            eyes = np.linalg.norm(points[RIGHT_EYE_CORNERS[0]] - points[LEFT_EYE_CORNERS[0]])
            off, turned = np.array([0.01 * eyes, 0]), np.array([1, 2, 3])
            return (points + off)[None], np.array([0.9]), (pose + turned)[None]

    errors, presence, pose = measure(Knows(), faces, 1000)  # type: ignore[arg-type]
    assert errors.shape == (len(faces.images), len(POINTS))
    labelled = np.isfinite(faces.points).all(axis=2)
    assert errors[labelled] == pytest.approx(1.0)
    assert np.isnan(errors[~labelled]).all()
    assert presence == pytest.approx(0.9)
    assert pose.mean(axis=0) == pytest.approx([1, 2, 3])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_ends_as_an_undisturbed_one(
    ferplus: tuple[Path, Path], tmp_path: Path, workers: int
) -> None:
    def config(name: str) -> train.LandmarksConfig:
        return configured(tree_of(ferplus, tmp_path / name, steps=4, workers=workers), "test")

    train.run(config("whole"))

    def interrupt(kind: str, values: dict[str, Any]) -> None:
        if kind == "step" and values["step"] == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train.run(config("halves"), progress=interrupt)
    assert torch_files.read(tmp_path / "halves" / "state.pt")["position"]["step"] == 2
    train.run(config("halves"), resume=True)
    whole, halves = (torch_files.read(tmp_path / name / "state.pt") for name in ("whole", "halves"))
    for part in ("method", "average"):
        for name, value in whole[part].items():
            assert torch.equal(value, halves[part][name]), name
    first, second = (read(tmp_path / name / "metrics.jsonl") for name in ("whole", "halves"))
    assert {"points", "pose", "presence"} <= first[0].keys()
    assert first[0].pop("seconds") >= 0
    assert second[0].pop("seconds") >= 0
    assert first == second


def test_the_method_learns_all_of_a_batch(
    ferplus: tuple[Path, Path], tmp_path: Path, overfit: Overfit
) -> None:
    torch.manual_seed(0)
    method = LandmarkMethod(configured(tree_of(ferplus, tmp_path), "test")).train()
    mean, modes = point_modes(Draws(faces_with_a_dot(), [], 4, 0.0, seed=3))
    method.network.mean.copy_(mean)
    method.network.modes.copy_(modes)
    batch = next(iter(Draws(faces_with_a_dot(), [], 16, 0.3, seed=1)))
    for term in ("points", "pose", "presence"):
        before, lowest = overfit(
            lambda term=term: method(batch, "model")[term], method.parameters(), rate=3e-3
        )
        assert lowest < 0.9 * before, term


def test_a_loss_that_is_not_finite_is_one_clear_error(ferplus: tuple[Path, Path], tmp_path: Path) -> None:
    hot = configured(tree_of(ferplus, tmp_path / "run", rate=1e30, steps=20), "test")
    with pytest.raises(TrainingError, match="lower `rate`"):
        train.run(hot)
    assert list(tmp_path.iterdir()) == []


def test_minutes_end_a_training(ferplus: tuple[Path, Path], tmp_path: Path) -> None:
    config = configured(tree_of(ferplus, tmp_path / "run", steps=10_000, minutes=0.01), "test")
    card = cards.read(train.run(config) / "landmarks.json")
    assert 0 < card.fields["recipe"]["steps"] < 10_000
    assert card.fields["recipe"]["seconds"] >= 0.6


@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_an_interrupt_of_the_loader_too_saves_the_state(ferplus: tuple[Path, Path], tmp_path: Path) -> None:
    config = tmp_path / "landmarks.yaml"
    config.write_text(yaml.safe_dump(tree_of(ferplus, tmp_path / "run", steps=100_000, workers=1, batch=48)))
    command = [sys.executable, "-m", "mien", "train", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    log, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 120
    while not (log.exists() and log.stat().st_size):  # the first hundred steps are done
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert torch_files.read(tmp_path / "run" / "state.pt")["position"]["step"] >= 100
