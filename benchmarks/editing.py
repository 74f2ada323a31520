"""The contact sheet of `docs/editing.md`: eight people of the London set, six expressions, three strengths.

    python benchmarks/editing.py --london FOLDER --out docs/images/editing/london.jpg

FOLDER holds neutral/ and smiling/. In the last row, of a person who smiles, neutral stands in place of happiness. It
prints what was refused or weakened, and the processor time of an edit. Cite the set with the sheet: DeBruine, L., &
Jones, B. (2017). Face Research Lab London Set (Version 5). figshare. doi:10.6084/m9.figshare.5047666.v5, CC BY 4.0.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from mien import images
from mien.edit import Editor, EditRefused
from mien.editing.photo import Photo
from mien.editing.sheets import face_crop, labelled

PEOPLE = ("011_03", "063_03", "126_03", "003_03", "135_03", "096_03", "020_03", "030_08")
TARGETS = ("happiness", "surprise", "sadness", "anger", "disgust", "fear")
STRENGTHS = (0.4, 0.7, 1.0)


def main() -> None:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--london", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--width", type=int, default=150)
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    editor = Editor.load(threads=1)
    rows, edits, spent, weakened, refused = [], 0, 0.0, 0, 0
    for name in PEOPLE:
        smiles = name.endswith("_08")
        photo = Photo(images.read(asked.london / ("smiling" if smiles else "neutral") / f"{name}.jpg"))
        located = editor.locate(photo)
        row = [labelled(face_crop(photo.rgb, located[0], asked.width), name)]
        for target in ("neutral", *TARGETS[1:]) if smiles else TARGETS:
            for strength in STRENGTHS:
                start = time.process_time()
                try:
                    done = editor.apply(photo, located, target, strength)
                    shown, weakened = done.image, weakened + (done.applied < strength)
                except EditRefused:
                    shown, refused = photo.rgb, refused + 1
                spent, edits = spent + time.process_time() - start, edits + 1
                cell = face_crop(shown, located[0], asked.width)
                row.append(labelled(cell, f"{target[:4]} {strength}"))
        rows.append(np.concatenate(row, axis=1))
        print(
            name,
            f"{weakened} weakened, {refused} refused of {edits}; {spent / edits:.2f} s an edit",
            flush=True,
        )
    sheet = np.concatenate(rows)
    cv2.imwrite(str(asked.out), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
