"""The script that measures the round trip of facial actions counts what an editor does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from mien.editing.editor import Editor

ROOT = Path(__file__).parent.parent


def test_each_movement_is_raised_and_counted(
    load_script: Callable[[Path], ModuleType], examples: Path
) -> None:
    script = load_script(ROOT / "scripts" / "action_round_trip.py")
    figures = script.round_trip(Editor.load(threads=1), [examples / "portrait_neutral.jpg"])
    assert figures["people"] == 1
    assert set(figures["movements"]) == set(script.TWELVE)
    smile = figures["movements"]["mouthSmile"]
    assert smile["n"] == 1
    assert smile["rise"] > 0.15
    assert smile["others"] < smile["rise"]
