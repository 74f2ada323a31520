"""`mien train` with an actions configuration: training, export, figures and card, on made-up faces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from mien.actions import ACTIONS, MIRROR
from mien.cli.main import app
from mien.errors import ConfigError
from mien.faces.action_reader import ActionReader
from mien.io import cards
from mien.training import checkpoint
from mien.training.actions import measure, train
from mien.training.actions.draws import ActionDraws
from mien.training.actions.faces import read
from mien.training.actions.train import ActionMethod, configured, verdicts

from .test_draws import faces


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """The files of a set with 6 faces to learn from and 4 to measure on, and of 9 renderings."""
    folder = tmp_path / "labels"
    folder.mkdir()
    photographs, renderings = faces(10), faces(9, seed=1)
    again = np.full_like(photographs.actions, np.nan)
    again[6:] = photographs.actions[6:]
    stored = {"crops": photographs.crops, "points": photographs.points, "actions": photographs.actions}
    np.savez(folder / "muxspace.npz", names=photographs.names, again=again, **stored)
    split = np.array(["train", "valid", "unseen"] * 3)
    stored = {"crops": renderings.crops, "points": renderings.points, "actions": renderings.actions}
    stored |= {"gaze": renderings.gaze, "places": renderings.places}
    np.savez(folder / "muxspace-gaze.npz", names=photographs.names[2:8], gaze=photographs.gaze[2:8])
    np.savez(folder / "rendered.npz", names=renderings.names, again=renderings.again, split=split, **stored)
    return folder


def tree_of(labels: Path, out: Path, **more: Any) -> dict[str, Any]:
    places = {"labels": str(labels), "muxspace": str(labels), "rendered": str(labels), "out": str(out)}
    method = {"name": "actions", "widths": [4, 4, 8, 8], "hidden": 16}
    return {"method": method, **places, "steps": 3, "batch": 4, **more}


def test_one_command_trains_exports_measures_and_writes_the_card(labels: Path, tmp_path: Path) -> None:
    config, out = tmp_path / "actions.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(tree_of(labels, out)))
    done = CliRunner().invoke(app, ["train", str(config)])
    assert done.exit_code == 0, done.output
    _, card = cards.verified(out / "actions.onnx")
    assert card.fields["recipe"]["steps"] == 3
    assert set(card.fields["actions"]) == set(ACTIONS)
    assert card.fields["metrics"]["sets"]["muxspace"]["n"] == 4
    assert str(tmp_path) not in card.text()  # a card says nothing of the machine
    master = checkpoint.load(out / "actions.safetensors")
    assert master.card["recipe"] == card.fields["recipe"]
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in master.tensors.values())
    reader = ActionReader.load(out / "actions.onnx", threads=1)
    said, gaze, _ = reader(np.zeros((0, 80, 80), np.uint8), np.zeros((0, 112, 2)))
    assert (said.shape, gaze.shape) == ((0, 52), (0, 2))
    figures = card.fields["metrics"]["sets"]
    assert (figures["muxspace"]["gaze"]["n"], figures["rendered"]["gaze"]["n"]) == (2, 3)

    again = CliRunner().invoke(app, ["train", str(config)])
    assert isinstance(again.exception, ConfigError)
    assert "--resume" in str(again.exception)
    further = CliRunner().invoke(app, ["train", str(config), "--resume", "--set", "steps=5"])
    assert further.exit_code == 0, further.output
    assert cards.read(out / "actions.json").fields["recipe"]["steps"] == 5


def test_a_training_starts_from_a_smaller_network_that_it_repeats_at_first(
    labels: Path, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    config = configured(tree_of(labels, tmp_path / "run"), "actions.yaml")
    small = ActionMethod(config).network.eval()
    start = tmp_path / "small.safetensors"
    checkpoint.save(start, small, {"name": "small"})
    batch = next(iter(ActionDraws(faces(0), faces(3), 4, 1.0, 0)))
    with torch.no_grad():
        before, _ = small(batch.crops.float(), batch.points)

    tree = tree_of(labels, tmp_path / "run", start=str(start))
    tree["method"] |= {"hidden": 24}
    wider = configured(tree, "actions.yaml")
    task = train.ActionTask(wider, faces(0), faces(3), {}, lambda line: None)
    with torch.no_grad():
        after, _ = task.averaged.eval()(batch.crops.float(), batch.points)
    np.testing.assert_allclose(after, before, atol=1e-5)

    tree["method"] |= {"hidden": 8}
    with pytest.raises(ConfigError, match="another network"):
        train.ActionTask(configured(tree, "actions.yaml"), faces(0), faces(3), {}, lambda line: None)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"stepps": 3}, "stepps"),
        ({"share": 2}, "share"),
        ({"muxspace": None, "rendered": None}, "nothing to learn from"),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        configured({**tree_of(tmp_path, tmp_path), **change}, "actions.yaml")


def test_the_configuration_that_ships_is_one() -> None:
    shipped = Path(__file__).parents[3] / "configs" / "actions.yaml"
    config = configured(yaml.safe_load(shipped.read_text()), str(shipped))
    assert set(config.roots) == {"ferplus_train", "ferplus_test", "muxspace", "diffusionfer"}


def test_people_who_are_measured_on_are_not_learnt_from(labels: Path) -> None:
    sets = read(labels, ["muxspace"], renders=True)
    assert sets["muxspace"].names.tolist() == ["6", "7", "8", "9"]
    assert sets["photographs"].names.tolist() == ["0", "1", "2", "3", "4", "5"]
    assert [len(sets[name]) for name in ("renderings", "rendered_valid", "rendered")] == [3, 3, 3]
    known = np.isfinite(sets["photographs"].gaze).all(axis=1)
    assert known.tolist() == [False, False, True, True, True, True], (
        "two have no answer by the teacher of gaze"
    )


def test_the_network_learns_a_batch_by_heart(labels: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sets = read(labels, ["muxspace"], renders=True)
    method = ActionMethod(configured(tree_of(labels, tmp_path / "run"), "actions.yaml"))
    batch = next(iter(ActionDraws(sets["photographs"], sets["renderings"], 8, 0.5, seed=0)))
    optimiser = torch.optim.Adam(method.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        loss = sum(method(batch, "model").values())
        assert isinstance(loss, torch.Tensor)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_correlations_leave_out_what_hardly_varies() -> None:
    random = np.random.default_rng(0)
    truth = random.random((50, 52))
    truth[:, 3] = 0.5
    said = 0.5 * truth
    values = measure.pearson(said, truth)
    assert np.isnan(values[3])
    np.testing.assert_allclose(np.delete(values, 3), 1)
    np.testing.assert_allclose(np.delete(measure.slope(said, truth), 3), 2)


def test_an_action_is_measured_on_both_sides_or_not_at_all() -> None:
    rendered, teacher = np.full(52, 0.1), np.full(52, np.nan)
    left, right = ACTIONS.index("eyeWideLeft"), ACTIONS.index("eyeWideRight")
    rendered[[left, right]] = 0.7, 0.4
    teacher[ACTIONS.index("jawOpen")] = 0.9
    values = {
        "rendered": {"pearson": rendered, "slope": np.ones(52), "teacher": teacher},
        "muxspace": {"pearson": teacher, "retest": teacher},
    }
    stated = verdicts(values)
    assert {name for name in ACTIONS if stated[name]["measured"]} == {
        "eyeWideLeft",
        "eyeWideRight",
        "jawOpen",
    }
    rendered[right] = 0.2
    assert not verdicts(values)["eyeWideLeft"]["measured"]
    assert (MIRROR[left], train.MEASURED) == (right, 0.5)
