"""The editor's training: it resumes, refuses what is wrong, exports what it learnt, and what it exported draws."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from mien.cli.main import app
from mien.data.synthetic.drawings import faces as drawn_faces
from mien.editing.corrector import OnnxCorrector
from mien.editing.editor import Editor, asked_plan
from mien.editing.geometry import ACTIVE, Geometry
from mien.editing.photo import Photo
from mien.editing.plan import Plan
from mien.editing.target import Target
from mien.editing.warp import FOLD_LIMIT
from mien.errors import ConfigError, TrainingError, WeightsError
from mien.evaluation.editor import editors
from mien.io import cards, torch_files
from mien.labels import EXPRESSIONS, NEUTRAL
from mien.training import checkpoint
from mien.training.editor import edit_pairs
from mien.training.editor import train as training
from mien.training.run_log import read

from .game import advanced, folder_of, run_of, task_of


@pytest.fixture(scope="module")
def plan() -> tuple[Photo, Plan]:
    """A drawn face and the plan of a smile on it."""
    face = drawn_faces(1, size=256, classes=("neutral",))[0]
    shares = np.eye(len(EXPRESSIONS))[NEUTRAL]
    located = edit_pairs.located(face.pixels, face.landmarks, shares)
    return Photo(face.pixels), asked_plan(Geometry.load(), located, Target.parse("happiness"), 0.8)


def test_mirrored_rows_are_the_mirrored_face_unless_contempt_is_asked(tree: dict[str, Any]) -> None:
    task = task_of(tree)
    chosen = np.arange(len(task.faces))
    as_is, turned = task.rows(chosen), task.rows(chosen, np.ones(len(chosen), bool))
    sided = as_is.change[:, ACTIVE.index("contempt")] != 0
    assert 0 < int(sided.sum()) < len(chosen)
    for name in ("before", "after"):
        plain, mirrored = getattr(as_is, name), getattr(turned, name)
        assert torch.equal(mirrored[~sided], plain[~sided].flip(-1))
        assert torch.equal(mirrored[sided], plain[sided])


def test_a_resumed_run_ends_as_an_undisturbed_one(tree: dict[str, Any]) -> None:
    whole = run_of(task_of(tree, steps=4))
    whole.train()
    out = str(folder_of(tree).with_name("halves"))

    def interrupt(kind: str, values: dict[str, Any]) -> None:
        if values["step"] == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_of(task_of(tree, steps=4, out=out), progress=interrupt).train()
    second = run_of(task_of(tree, steps=4, out=out), resume=True)
    assert second.position.step == 2
    second.train()
    for ours, theirs in ((second.network, whole.network), (second.task.method, whole.task.method)):
        expected = theirs.state_dict()
        for name, value in ours.state_dict().items():
            assert torch.equal(value, expected[name]), name
    logs = [read(folder / "metrics.jsonl") for folder in (folder_of(tree), Path(out))]
    for log in logs:
        assert log[0].pop("seconds") > 0
    assert logs[0] == logs[1]
    assert {"critic real", "critic fake", "editor expression", "editor adversarial"} <= logs[0][0].keys()


@pytest.mark.parametrize("kind", ["corrector", "skip", "stargan"])
def test_one_command_trains_exports_and_draws(
    tree: dict[str, Any], tmp_path: Path, plan: tuple[Photo, Plan], kind: str
) -> None:
    file = tmp_path / "editor.yaml"
    file.write_text(yaml.safe_dump({**tree, "method": {"name": "editor", "kind": kind}}))
    done = CliRunner().invoke(app, ["train", str(file)])
    assert done.exit_code == 0, done.output
    weights = Path(tree["out"]) / "editor.onnx"
    _, card = cards.verified(weights)
    assert card.fields["recipe"]["steps"] == 2
    assert card.fields["kind"] == kind
    assert card.fields["amount"] == 0.7
    again = CliRunner().invoke(app, ["train", str(file)])
    assert isinstance(again.exception, ConfigError)
    assert "--resume" in str(again.exception)
    photo, asked = plan
    shares = np.eye(len(EXPRESSIONS))[NEUTRAL]
    face = edit_pairs.located(photo.rgb, asked.frame.to_picture(asked.source), shares)
    if kind == "corrector":
        better = OnnxCorrector.load(weights)(photo.rgb, asked, None, 1.0)
        assert better.warp.folding >= FOLD_LIMIT
        assert better.gain is not None
        return
    generator = editors.Generator.load(weights)
    still, folding = generator(photo, face, "neutral", 1.0, None)
    assert folding == 1.0
    np.testing.assert_array_equal(still, photo.rgb)
    rgb, _ = generator(photo, face, "happiness", 1.0, None)
    changed = (rgb != photo.rgb).any(axis=2)
    assert changed.any() or kind == "skip"  # after two steps it still adds less than one level of grey
    outside = cv2.dilate(changed.astype(np.uint8), np.ones((3, 3))) == 0
    assert outside.any()


def test_onnx_answers_as_torch_does(tree: dict[str, Any]) -> None:
    from mien.io.onnx import session

    task = task_of(tree)
    run = advanced(task, 3)
    folder_of(tree).mkdir()
    path = Path(tree["out"]) / "editor.onnx"
    task.export(path, run)
    faces = task.rows(np.arange(5))
    pictures = torch.cat([faces.before, faces.after], dim=1)
    with torch.inference_mode():
        flow, gain = task.method.editor(pictures, faces.change)
    assert gain.abs().max() > 1e-4
    found = session(path.read_bytes(), 1).run(
        ["flow", "gain"], {"pictures": pictures.numpy(), "change": faces.change.numpy()}
    )
    np.testing.assert_allclose(found[0], flow.numpy(), atol=2e-4)
    np.testing.assert_allclose(found[1], gain.numpy(), atol=2e-4)


def test_wrong_requests_are_refused_at_the_door(
    tree: dict[str, Any], guide: Path, tmp_path: Path, plan: tuple[Photo, Plan]
) -> None:
    with pytest.raises(ConfigError, match="guide"):
        training.configured({**tree, "guides": []}, "test")
    with pytest.raises(ConfigError, match="kind"):
        training.configured({**tree, "method": {"name": "editor", "kind": "gan"}}, "test")
    other = tmp_path / "wide.safetensors"
    options = {"name": "meca", "backbone": "compact", "attention": False, "code": 8}
    checkpoint.save(other, checkpoint.load(guide).restore(), {"method": options, "size": 80})
    with pytest.raises(ConfigError, match="64 px"):
        training.guide_of(other)
    task = task_of(tree)
    folder_of(tree).mkdir()
    run_of(task).save()
    assert torch_files.read(Path(tree["out"]) / "state.pt")["position"]["step"] == 0
    (folder_of(tree) / "config.json").write_text(json.dumps(task.config.model_dump(mode="json")))
    config = task.config
    with pytest.raises(ConfigError, match="--resume"):
        training.run(config, resume=False)
    (config.out / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="another configuration"):
        training.run(config, resume=True)
    with pytest.raises(WeightsError, match="no such file"):
        editors.variants(Editor(None, Geometry.load(), measure=False), [str(tmp_path / "x.onnx")])  # type: ignore[arg-type]


def test_a_loss_that_is_not_finite_stops_the_run(tree: dict[str, Any]) -> None:
    task = task_of(tree)
    with torch.no_grad():
        next(iter(task.method.critic.parameters())).fill_(torch.nan)
    with pytest.raises(TrainingError, match=r"critic fake nan.*lower `rate`"):
        run_of(task).train()
    assert not folder_of(tree).exists()
