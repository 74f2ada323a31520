"""The fit of the editor's actions: which blendshapes make up an action, and the gain that undoes a weak edit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mien.actions import ACTIONS, MIRROR
from mien.landmarks import LEFT_EYE_CORNERS, LEFT_IRIS, POINTS, RIGHT_EYE_CORNERS, RIGHT_IRIS
from mien.training.editor import fit_actions
from mien.training.editor.fit_actions import STEP, displacements, gains
from mien.training.editor.fit_blendshapes import HEAD_VERTICES, mirrored


def test_a_blendshape_moves_its_action_in_eye_distances(tmp_path: Path) -> None:
    neutral = np.zeros((9000, 3), np.float32)
    for eye, x in ((RIGHT_EYE_CORNERS, -3.0), (LEFT_EYE_CORNERS, 3.0)):
        neutral[[HEAD_VERTICES[corner] for corner in eye], 0] = x
    names = ["jawOpen", "mouthSmile_L", "mouthSmile_R", "browInnerUp_L", "browInnerUp_R", "eyeLookUp_L"]
    expression = np.zeros((len(names), 9000, 3), np.float32)
    expression[:, :, 1] = -3.0  # down by half an eye distance
    np.savez(tmp_path / "head.npz", neutral=neutral, expression=expression, expression_names=np.array(names))
    moved = displacements(tmp_path / "head.npz")
    chin = moved[ACTIONS.index("jawOpen"), 8]
    assert chin == pytest.approx([0, 0.5, 0])
    assert moved[ACTIONS.index("browInnerUp"), 8] == pytest.approx([0, 1.0, 0]), "both sides together"
    left, right = (moved[ACTIONS.index(f"mouthSmile{side}")] for side in ("Left", "Right"))
    assert left[8] == pytest.approx([0, 0.5, 0])
    np.testing.assert_allclose(mirrored(left), right)
    assert not moved[ACTIONS.index("mouthFrownLeft")].any()
    assert not moved[ACTIONS.index("eyeLookUpLeft")].any()
    assert not moved[:, [RIGHT_IRIS, LEFT_IRIS]].any()
    assert moved.shape == (52, len(POINTS), 3)


def test_the_gain_undoes_a_weak_edit_alike_on_both_sides() -> None:
    rises = np.full((3, 52), np.nan)
    left, jaw, brow = (ACTIONS.index(name) for name in ("mouthSmileLeft", "jawOpen", "browInnerUp"))
    rises[:, [left, MIRROR[left]]] = STEP / 2, STEP
    rises[:, jaw] = STEP / 10
    rises[0, brow] = 4 * STEP
    gain = gains(rises, np.ones(52))
    assert gain[left] == gain[MIRROR[left]] == pytest.approx(4 / 3)
    assert gain[jaw] == 2.0, "at most doubled in a round"
    assert gain[brow] == 0.5
    assert gain[ACTIONS.index("tongueOut")] == 1.0, "what is not measured keeps its gain"
    for _ in range(9):
        gain = gains(rises, gain)
    assert gain[jaw] == 3.0
    assert gain[brow] == pytest.approx(1 / 3)


def test_the_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_actions, "displacements", lambda heads: np.zeros((52, len(POINTS), 2)))
    monkeypatch.setattr(fit_actions, "measured", lambda basis, pictures, each: np.full((1, 52), np.nan))
    monkeypatch.setitem(fit_actions.READERS, "diffusionfer", lambda root: [])
    fit_actions.main(tmp_path / "head.npz", tmp_path, tmp_path / "new" / "editor", people=2)
    with np.load(tmp_path / "new" / "editor" / "action_basis.npz") as file:
        assert (file["gain"] == 1).all()
