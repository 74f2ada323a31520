"""Measures how requested intensities of edits are read back, for docs/editing.md.

    python scripts/edit_strengths.py LONDON JUDGE [STEP]    # the set's folder, emotion_model.hdf5

Every STEP-th neutral face of the London Set (5) is edited towards each expression. Written to
docs/reports/edit-strengths are the mean probability of the expression and the share labelled so, by the shipped
recogniser, with which the strengths were fitted on other faces, and by the judge of `mien evaluate-edits`, which took
no part.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mien.editing.editor import Editor
from mien.editing.geometry import ACTIVE
from mien.editing.photo import open_photo
from mien.editing.results import EditRefused
from mien.evaluation.editor.judges import JUDGED, MiniXception, grey_crop, square_of
from mien.io import atomic
from mien.types import Detection

OUT = Path(__file__).parent.parent / "docs" / "reports" / "edit-strengths" / "strengths.json"
INTENSITIES = (0.3, 0.5, 0.7, 1.0)


def measured(editor: Editor, judge: MiniXception, pictures: list[Path]) -> dict[str, Any]:
    """For each expression and intensity the readings of both, with two digits."""
    faces = [(photo, editor.locate(photo)[0]) for photo in map(open_photo, pictures)]
    found: dict[str, Any] = {}
    for name in ACTIVE:
        found[name] = {}
        for intensity in INTENSITIES:
            own, labelled, crops = [], [], []
            for photo, face in faces:
                try:
                    shown = editor.apply(photo, [face], name, intensity).image
                except EditRefused:
                    shown = photo.rgb
                crops.append(grey_crop(shown, square_of(face.points)))
                read = editor.pipeline.read(editor.pipeline.locate(shown, [Detection(face.box, 1.0)]))
                shares = read[0].probabilities if read else {name: 0.0}
                own.append(shares[name])
                labelled.append(max(shares, key=shares.__getitem__) == name)
            row = {"recogniser": float(np.mean(own)), "labelled": float(np.mean(labelled))}
            if name in JUDGED:
                judged, number = judge(np.stack(crops))[0], JUDGED.index(name)
                row["judge"] = float(judged[:, number].mean())
                row["judged"] = float((judged.argmax(axis=1) == number).mean())
            found[name][str(intensity)] = {key: round(value, 2) for key, value in row.items()}
            print(name, intensity, found[name][str(intensity)], flush=True)
    return {"people": len(faces), "read": found}


def main() -> None:
    """Measure and write."""
    cv2.setNumThreads(1)
    london, judge = Path(sys.argv[1]), MiniXception(Path(sys.argv[2]))
    step = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    pictures = sorted((london / "neutral").glob("*_03.jpg"))[::step]
    figures = measured(Editor.load(threads=1), judge, pictures)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    atomic.write({OUT: (json.dumps(figures, indent=1) + "\n").encode()})


if __name__ == "__main__":
    main()
