"""Measures the teeth that edits draw, for docs/editing.md.

    python scripts/edit_mouths.py LONDON [STEP]    # the set's folder

The neutral photo of every STEP-th person of the London Set (1) is edited to their smile, if it shows teeth, with
the teeth of an example and with the person's own, and compared with the smile (`metrics.mouth_error`). Written to
docs/reports/edit-mouths is the error over that of one flat tone, with 95 % intervals over people.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mien.editing.editor import Editor
from mien.editing.mouth_interior import examples
from mien.evaluation.editor import metrics
from mien.evaluation.editor.benchmark import Pairs, london
from mien.io import atomic, cards

OUT = Path(__file__).parent.parent / "docs" / "reports" / "edit-mouths" / "mouths.json"


def measured(editor: Editor, pairs: Pairs) -> dict[str, Any]:
    """Ratios of errors with their intervals, the people, and how many of them the commonest example was used for."""
    found: dict[str, Any] = {}
    sides = (pairs.neutral.photos, pairs.neutral.faces, pairs.smiling.photos, pairs.smiling.faces)
    for name, own in (("example", False), ("own", True)):
        known = [
            error
            for pair in zip(*sides, strict=True)
            if (error := metrics.mouth_error(editor, *pair, own)) is not None
        ]
        figure = metrics.ratio_by_source(*np.array(known).T)
        found[name] = {"ratio": figure.value, "low": figure.low, "high": figure.high, "people": len(known)}
    used: Counter[str] = Counter()
    for photo, face in zip(pairs.neutral.photos, pairs.neutral.faces, strict=True):
        flags = editor.apply(photo, [face], "happiness", force=True).flags
        used.update(flag.split("'")[1].split()[0] for flag in flags if "filled from" in flag)
    found["faces"], found["used"], found["most"] = sum(used.values()), len(used), max(used.values())
    mouths = examples()[::2]
    found["mouths"], found["teeth"] = len(mouths), sum(mouth.bares for mouth in mouths)
    found["bytes"] = (cards.FOLDER / "editor" / "mouths.npz").stat().st_size
    return found


def main() -> None:
    """Measure and write."""
    cv2.setNumThreads(1)
    step = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    editor = Editor.load(threads=1, measure=False)
    figures = measured(editor, london(Path(sys.argv[1]), editor, step))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    atomic.write({OUT: (json.dumps(figures, indent=1) + "\n").encode()})
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
