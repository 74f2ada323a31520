"""What the players are trained for: terms that mean what they say, frozen guides, and a witness."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mien.data.synthetic.drawings import faces as drawn_faces
from mien.editing.corrector import SIDE
from mien.editing.geometry import ACTIVE
from mien.errors import ConfigError
from mien.labels import EXPRESSIONS, NEUTRAL
from mien.methods.mobilefacenet import MobileFaceNet
from mien.training.editor.losses import EditedFaces, Guided, disturbed, size_of, wanted

from .game import advanced, task_of


def test_the_guide_stays_as_it_is(tree: dict[str, Any]) -> None:
    task = task_of(tree)
    assert isinstance(task.method, Guided)
    before = {name: value.clone() for name, value in task.method.guides[0].state_dict().items()}
    advanced(task)
    after = task.method.guides[0].state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_witness_tells_a_face_from_its_edits_and_from_others(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MobileFaceNet, "load_published", lambda self, path: None)  # random weights do here
    file = tmp_path / "faces.pt"
    with pytest.raises(ConfigError, match="mobilefacenet"):
        task_of(tree, identity=str(file))
    file.write_bytes(b"weights")
    task = task_of(tree, identity=str(file))
    assert task._witnessed()["witness"].startswith(hashlib.sha256(b"weights").hexdigest()[:12])
    assert isinstance(task.method, Guided)
    witness = task.method.witness
    assert witness is not None
    faces = task.rows(np.arange(12)).before
    assert witness.apart(faces, faces).abs().max() < 1e-5
    lit = (faces * 0.9).requires_grad_()
    near, far = witness.apart(faces, lit), witness.apart(faces, faces.roll(1, 0))
    assert float(near.detach().mean()) < 0.7 * float(far.mean())
    near.sum().backward()
    assert lit.grad is not None
    assert torch.isfinite(lit.grad).all()
    assert lit.grad.abs().amax(dim=(1, 2, 3)).min() > 0
    task.method(task.rows(np.arange(8)), "critic")
    assert "editor identity" in task.method(task.rows(np.arange(8)), "editor")
    before = {name: value.clone() for name, value in witness.network.state_dict().items()}
    advanced(task)
    assert all(torch.equal(value, before[name]) for name, value in witness.network.state_dict().items())


def test_what_a_guide_should_read() -> None:
    """Half a smile is half neutral; half of what a face shows, taken away, leaves the other half."""
    votes = torch.zeros(2, len(EXPRESSIONS))
    votes[:, NEUTRAL] = 1
    votes[1] = torch.nn.functional.one_hot(torch.tensor(3), len(EXPRESSIONS)).float()
    happy = EXPRESSIONS.index("happiness")
    faces = EditedFaces(
        torch.zeros(2, 1, 4, 4),
        torch.zeros(2, 1, 4, 4),
        torch.zeros(2, len(ACTIVE)),
        votes,
        torch.tensor([happy, NEUTRAL]),
        torch.tensor([0.5, 0.5]),
    )
    shares, intensity = wanted(faces)
    assert shares[0, happy] == shares[0, NEUTRAL] == 0.5
    assert shares[1, 3] == shares[1, NEUTRAL] == 0.5
    torch.testing.assert_close(intensity, torch.tensor([0.5, 0.5]))
    assert size_of(torch.tensor([[0.5, -0.2], [2.0, 0.0]])).tolist() == pytest.approx([0.7, 1.0])


def test_disturbing_keeps_a_face_in_the_picture() -> None:
    faces = np.stack([f.pixels[..., 0] for f in drawn_faces(6, size=SIDE, colour=False)])
    pictures = torch.from_numpy(faces).float()[:, None] / 255
    seen = disturbed(pictures)
    assert seen.shape == pictures.shape
    assert seen.min() >= 0
    assert seen.max() <= 1
    assert (seen - pictures).abs().mean(dim=(1, 2, 3)).max() < 0.25


@pytest.mark.parametrize("kind", ["corrector", "stargan"])
def test_an_edit_is_drawn_once_a_step_and_serves_both_players(
    tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    task = task_of(tree, method={"name": "editor", "kind": kind})
    faces, drawn = task.rows(np.arange(8)), []
    edit = task.method.edit
    monkeypatch.setattr(task.method, "edit", lambda faces: drawn.append(edit(faces)) or drawn[-1])
    for turn in ("critic", "editor", "critic", "editor"):
        terms = task.method(faces, turn)
        assert all(name.startswith(f"{turn} ") for name in terms)
    assert len(drawn) == 2


def test_guides_take_turns(tree: dict[str, Any], guide: Path) -> None:
    task = task_of(tree, guides=[str(guide), str(guide)])
    assert isinstance(task.method, Guided)
    with torch.no_grad():
        for value in task.method.guides[1].parameters():
            value.mul_(0.5)
        pictures, read = task.rows(np.arange(4)).before, []
        for step in range(4):
            task.method.advance(step)
            read.append(task.method.read(pictures)[0])
    assert torch.equal(read[0], read[2])
    assert torch.equal(read[1], read[3])
    assert not torch.equal(read[0], read[1])
