"""Measures the round trip of facial actions: read a face, raise one action by 0.4 with the editor, read it again.

    python scripts/action_round_trip.py PEOPLE [COUNT]   # a folder of neutral faces; writes docs/reports/action-edits

For each of twelve movements (both sides together) on each person: how far the edited action rises, how far all other
measured actions change in the mean, and how often the edit is refused. Tests: tests/test_action_round_trip.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mien.actions import GAZE, SIDES
from mien.editing.editor import Editor
from mien.training import checkpoint
from mien.training.editor.fit_actions import STEP, raised

OUT = Path(__file__).parent.parent / "docs" / "reports" / "action-edits" / "round_trip.json"
TWELVE = (
    "mouthSmile", "mouthFrown", "mouthUpperUp", "mouthLowerDown", "mouthPucker", "mouthStretch",
    "jawOpen", "browInnerUp", "browDown", "browOuterUp", "eyeBlink", "eyeSquint",
)  # fmt: skip
"""Our choice of the most used."""


def round_trip(editor: Editor, pictures: Iterable[Path]) -> dict[str, Any]:
    """The figures of each movement over the largest faces of some pictures."""
    rises: dict[str, list[float]] = {name: [] for name in TWELVE}
    others: dict[str, list[float]] = {name: [] for name in TWELVE}
    refused, people = 0, 0
    for changes in raised(editor, pictures, lambda face: TWELVE):
        people += 1
        for name, change in changes.items():
            if change is None:
                refused += 1
                continue
            sides = [change[side] for side in SIDES[name] if side in change]
            if sides:
                rises[name].append(float(np.mean(sides)))
                others[name].append(
                    float(
                        np.mean(
                            [
                                abs(one)
                                for action, one in change.items()
                                if action not in SIDES[name] and not action.startswith(GAZE)
                            ]
                        )
                    )
                )
    return {
        "people": people,
        "step": STEP,
        "refused": refused,
        "commit": checkpoint.commit(),
        "movements": {name: _figures(rises[name], others[name]) for name in TWELVE},
    }


def _figures(rises: list[float], others: list[float]) -> dict[str, Any]:
    if not rises:
        return {"n": 0}
    low, high = np.percentile(rises, [10, 90])
    return {
        "n": len(rises),
        "rise": round(float(np.mean(rises)), 3),
        "10th": round(float(low), 3),
        "90th": round(float(high), 3),
        "others": round(float(np.mean(others)), 3),
    }


def main(people: Path, count: int) -> None:
    """Write the figures."""
    figures = round_trip(Editor.load(threads=1), sorted(people.glob("*.jpg"))[:count])
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    for name, row in figures["movements"].items():
        print(name, row)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
