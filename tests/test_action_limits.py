"""The script that measures what limits the reading of actions: exact points tell them, noisy ones less."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mien.actions import ACTIONS
from mien.landmarks import POINTS
from mien.training.actions.faces import STORED, ActionFaces

ROOT = Path(__file__).parent.parent


@pytest.fixture
def script(load_script: Callable[[Path], ModuleType]) -> ModuleType:
    return load_script(ROOT / "scripts" / "action_limits.py")


def test_points_that_are_off_tell_less(script: ModuleType) -> None:
    random = np.random.default_rng(0)
    actions = random.random((600, len(ACTIONS)))
    # Each action moves two points of its own; the others stay.
    points = np.full((600, len(POINTS), 2), 0.5)
    for number in range(len(ACTIONS)):
        points[:, 2 * number : 2 * number + 2, 0] += 0.05 * actions[:, number, None]
    noisy = points + random.normal(0, 0.1, points.shape)
    exact, off = (
        np.mean(script.from_points((some[:500], actions[:500]), (some[500:], actions[500:]), steps=120))
        for some in (points, noisy)
    )
    assert exact > off + 0.2


def test_a_face_at_rest_takes_off_what_is_the_persons_own(script: ModuleType) -> None:
    random = np.random.default_rng(0)
    actions = random.random((40, len(ACTIONS))).astype(np.float32)
    actions[::10] = 0  # four people, each with one picture at rest
    names = np.array([f"{number // 10:05d}/{number % 10:02d}.png" for number in range(40)])
    own = np.repeat(random.normal(0, 0.5, (4, len(ACTIONS))), 10, axis=0)
    some = ActionFaces(
        names, np.zeros((40, STORED, STORED), np.uint8), np.zeros((40, len(POINTS), 2), np.float32),
        actions, np.full_like(actions, np.nan), np.zeros((40, 2), np.float32),
        np.zeros((40, len(POINTS), 2), np.float32),
    )  # fmt: skip
    told = script.against_rest(actions + own, some)
    assert (told["people"], told["pictures"]) == (4, 36)
    assert told["change"] == pytest.approx(1, abs=0.01)
    assert told["itself"] < 0.9
