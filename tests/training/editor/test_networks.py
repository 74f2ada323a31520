"""The networks that edit: what they start from, that all of them learns, and that they learn what is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mien.training.editor.train import EditorTask

from .game import advanced, task_of

Overfit = Callable[..., tuple[float, float]]


@pytest.mark.parametrize("kind", ["corrector", "skip"])
def test_untrained_they_change_nothing(tree: dict[str, Any], kind: str) -> None:
    task = task_of(tree, method={"name": "editor", "kind": kind})
    faces = task.rows(np.arange(12))
    shown = faces.after if kind == "corrector" else faces.before
    assert (task.method.edit(faces) - shown).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["corrector", "skip", "stargan"])
def test_gradient_reaches_every_parameter(tree: dict[str, Any], kind: str) -> None:
    task = task_of(tree, method={"name": "editor", "kind": kind})
    run = advanced(task)  # heads that start at zero let gradient through after one step
    before = {name: value.detach().clone() for name, value in task.method.named_parameters()}
    run.step(next(task.batches(1)))
    still = [name for name, value in task.method.named_parameters() if torch.equal(value, before[name])]
    # As long as both hinges hold everywhere, as many real faces push the critic's offset up as edits push it down.
    assert set(still) <= {"critic.patch.bias"}


@pytest.mark.parametrize("kind", ["corrector", "skip"])
def test_learning_brings_edits_nearer_to_what_was_asked(
    tree: dict[str, Any], kind: str, overfit: Overfit
) -> None:
    assert learnt(task_of(tree, method={"name": "editor", "kind": kind}), "expression", overfit) < 0.97


def test_the_generator_learns_to_draw_faces(tree: dict[str, Any], overfit: Overfit) -> None:
    assert learnt(task_of(tree, method={"name": "editor", "kind": "stargan"}), "cycle", overfit) < 0.9


def learnt(task: EditorTask, term: str, overfit: Overfit) -> float:
    """What is left of one of the editor's terms, on the same faces and requests, once it has learnt that alone."""
    faces = task.rows(np.arange(12))

    def loss() -> torch.Tensor:
        terms = task.method.editor_terms(faces, task.method.edit(faces))
        return terms[term]

    before, lowest = overfit(loss, task.method.editor.parameters(), steps=20, rate=2e-3)
    return lowest / before
