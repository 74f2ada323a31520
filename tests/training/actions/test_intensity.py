"""Intensity: monotone, unsaturated, fitted to strengths, and measured against them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mien.actions import ACTIONS, GAZE, MIRROR
from mien.labels import EXPRESSIONS, NEUTRAL
from mien.training.actions import intensity as intensity_module
from mien.training.actions.intensity import FULL, figures, fit, graded, intensity


def made(count: int = 400) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Smiles and frowns of a known strength, with noise in all actions, and eyes that look anywhere."""
    random = np.random.default_rng(0)
    strength, smiles = random.random(count), random.random(count) < 0.5
    actions = random.random((count, len(ACTIONS))) * 0.02
    for name, rows in (("mouthSmile", smiles), ("browDown", ~smiles)):
        for side in ("Left", "Right"):
            actions[:, ACTIONS.index(name + side)] += 0.8 * strength * rows
    for place, name in enumerate(ACTIONS):
        if name.startswith(GAZE):
            actions[:, place] = random.random(count)
    return actions, strength


def test_the_strength_is_found_and_no_action_lowers_it() -> None:
    actions, strength = made()
    weights = fit(actions, strength)
    assert (weights.weights >= 0).all()
    np.testing.assert_allclose(weights.weights[MIRROR], weights.weights, atol=1e-6)
    assert not weights.weights[[name.startswith(GAZE) for name in ACTIONS]].any()
    said = intensity(actions, weights)
    assert np.corrcoef(said, strength)[0, 1] > 0.95
    assert said.max() < 1
    assert intensity(np.zeros((1, 52)), weights)[0] == 0
    more = actions.copy()
    more[:, ACTIONS.index("jawOpen")] += 0.3
    assert (intensity(more, weights) >= said).all()


def test_full_strength_is_below_one() -> None:
    actions = np.zeros((200, 52))
    actions[100:, ACTIONS.index("jawOpen")] = 1
    weights = fit(actions, actions[:, ACTIONS.index("jawOpen")])
    assert intensity(actions[-1:], weights)[0] == pytest.approx(1 - np.exp(-FULL), abs=0.01)


def test_the_figures_are_of_unseen_people_and_of_test_votes() -> None:
    said, target = np.linspace(0, 0.9, 40), np.linspace(0, 0.5, 40)
    kind = np.array(["valid", "unseen", "votes", "votes test"] * 10)
    expression = np.where(np.arange(40) < 4, NEUTRAL, EXPRESSIONS.index("happiness"))
    stated = figures(said, {"kind": kind, "expression": expression, "target": target})
    assert stated["spearman"] == {"happiness": 1.0}
    assert stated["neutral"] == pytest.approx(said[1], abs=1e-3)
    assert stated["votes"] == 1.0
    assert stated["clear smiles"]["n"] == ((kind == "votes test") & (target >= 0.4)).sum()
    assert stated["clear smiles"]["above .98"] == 0


def test_only_rendered_people_who_were_not_learnt_from_and_votes_with_a_label_count(
    tmp_path: Path, load_script: Callable[[Path], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every picture counts as a located face here: the miniatures show balls and drawings."""
    data = Path(__file__).parents[2] / "data"
    for name in ("rendered", "ferplus"):
        load_script(data / name / "make.py").make(tmp_path / name)
    found = (0, np.zeros((100, 100), np.uint8), np.zeros((112, 2)))
    monkeypatch.setattr(intensity_module, "locate", lambda landmarker, image: found)
    faces = graded(tmp_path / "rendered", tmp_path / "ferplus")
    rendered = np.isin(faces["kind"], ("valid", "unseen"))
    assert rendered.sum() == 10, "two of the four persons, in five pictures"
    assert ((faces["target"] >= 0) & (faces["target"] <= np.where(rendered, 1, 0.5))).all()
    assert {"votes", "votes test"} <= set(faces["kind"])
