"""Measures what the editor finds in front of eyes, and whether it stays where it is, for docs/editing.md.

    python scripts/edit_foreground.py MUXSPACE LONDON    # the folders of both sets

Written to docs/reports/edit-foreground are

- `open`: how often glasses and hair are told on faces without glasses, of the neutral London photographs and of
  the first `PRESS` press photographs (muxspace) on which we saw none, which were in the fit; and on which, by name, to
  look at. A fringe or a hat over a brow is told as hair, rightly.
- `glasses`: how often glasses are told on every `STEP`-th London person with a drawn frame. Press photographs with
  glasses are counted when the reader is fitted (the card `glasses`).
- `drawn`: of the pixels of drawn frames and strands of hair, the share that an edit at strength 1 changes by more than
  `CHANGED` levels, with the editor as it is and with nothing taken for foreground.

Tests: tests/editing/test_foreground.py and tests/training/editor/test_fit_glasses.py.
"""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import cv2
import numpy as np

from mien.editing.editor import Editor
from mien.editing.foreground import Foreground
from mien.editing.geometry import FaceFrame
from mien.editing.photo import Photo
from mien.editing.results import EditRefused
from mien.io import atomic
from mien.training import checkpoint
from mien.training.editor.fit_glasses import SEEN, located, press, with_frame, with_hair

if TYPE_CHECKING:
    from collections.abc import Callable

    from mien.training.editor.fit_glasses import Face

OUT = Path(__file__).parent.parent / "docs" / "reports" / "edit-foreground" / "foreground.json"
PRESS = 200
STEP = 8
CHANGED = 12


def told(faces: dict[str, Face]) -> dict[str, Any]:
    """How many faces there are, the share on which each kind is told, and on which."""
    names: dict[str, list[str]] = {"glasses": [], "hair over an eye": []}
    for name, face in faces.items():
        front = Foreground.of(*face)
        for kind in front.kinds if front is not None else ():
            names[kind].append(name)
    shares = {kind: {"share": round(len(on) / len(faces), 3), "on": on} for kind, on in names.items()}
    return {"faces": len(faces)} | shares


def drawn(editor: Editor, faces: dict[str, Face], draw: Callable[..., Any]) -> dict[str, Any]:
    """The share of the drawn pixels that edits change, with and without what is told as foreground."""
    rows = []
    for number, (rgb, points) in enumerate(faces.values()):
        shown, share = draw(rgb, points, number)
        photo = Photo(shown)
        face = editor.locate(photo)
        places = np.argwhere(share > 0.8 * share.max())
        near = np.abs(FaceFrame.of(face[0].points).to_canonical(places[:, ::-1].astype(float)))
        lines, columns = places[(near < [1.0, 0.8]).all(axis=1)].T
        for target in ("surprise", "anger"):
            row = []
            for without in (False, True):
                with mock.patch.object(Foreground, "of", return_value=None) if without else mock.MagicMock():
                    try:
                        image = editor.apply(photo, face, target, 1.0).image
                    except EditRefused:
                        break
                change = np.abs(image.astype(int) - shown).mean(axis=2)[lines, columns]
                row.append(float((change > CHANGED).mean()))
            if len(row) == 2:
                rows.append(row)
    kept, moved = np.mean(rows, axis=0)
    return {"edits": len(rows), "changed": round(kept, 3), "changed before": round(moved, 3)}


def main() -> None:
    """Measure and write."""
    cv2.setNumThreads(1)
    muxspace, london = Path(sys.argv[1]), Path(sys.argv[2])
    editor = Editor.load(threads=1, measure=False)
    people = located(editor, ((path.stem, path) for path in sorted((london / "neutral").glob("*_03.jpg"))))
    seen = json.loads(SEEN.read_text(encoding="utf-8"))
    others = ((name, file) for name, file in press(muxspace) if name not in seen["glasses"] + seen["unsure"])
    few = dict(islice(people.items(), 0, None, STEP))
    framed = {
        name: (with_frame(*face, number)[0], face[1]) for number, (name, face) in enumerate(few.items())
    }
    figures = {
        "commit": checkpoint.commit(),
        "open": {"london": told(people), "press": told(located(editor, islice(others, PRESS)))},
        "glasses": told(framed)["glasses"]["share"],
        "drawn": {"frames": drawn(editor, few, with_frame), "hair": drawn(editor, few, with_hair)},
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    atomic.write({OUT: (json.dumps(figures, indent=1) + "\n").encode()})


if __name__ == "__main__":
    main()
