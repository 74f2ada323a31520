"""The contact sheets of `docs/editing.md`: eight people, six expressions, three strengths; and some of them close up.

    python benchmarks/editing.py --london FOLDER --out docs/images/editing/london.jpg \\
        --close docs/images/editing/close.jpg --worst docs/images/editing/worst.jpg --judge emotion_model.hdf5

FOLDER, the Face Research Lab London Set, holds full/ (or neutral/ and smiling/, smaller). In the last row, of a person
who smiles, neutral stands in place of happiness. --worst has the ten edits at 1, of every fifth neutral face of the
set, to which the judge of `mien evaluate-edits` gives the lowest probability, at most two of one expression. It prints
what was refused or weakened, and the processor time of an edit. Cite the set with them: DeBruine, L., & Jones, B.
(2017). Face Research Lab London Set (Version 5). figshare. doi:10.6084/m9.figshare.5047666.v5, CC BY 4.0.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from mien.editing.editor import Editor
from mien.editing.grids import face_crop, labelled
from mien.editing.photo import Photo
from mien.editing.results import EditRefused
from mien.evaluation.editor.judges import JUDGED, MiniXception, grey_crop, square_of
from mien.io import images

PEOPLE = ("011_03", "063_03", "126_03", "003_03", "135_03", "096_03", "020_03", "030_08")
TARGETS = ("happiness", "surprise", "sadness", "anger", "disgust", "fear")
STRENGTHS = (0.4, 0.7, 1.0)
CLOSE = (
    ("126_03", ("happiness", "surprise", "anger")),
    ("003_03", ("happiness", "sadness", "fear")),
    ("030_08", ("neutral", "surprise", "disgust")),
)
CLOSE_WIDTH = 380
WORST_WIDTH = 160


def read(london: Path, name: str) -> images.Rgb:
    """The largest picture of a person that the folder holds."""
    folders = ("full", "smiling" if name.endswith("_08") else "neutral")
    places = [london / folder / f"{name}.jpg" for folder in folders]
    return images.read(next((path for path in places if path.is_file()), places[-1]))


def close_up(editor: Editor, london: Path) -> images.Rgb:
    """One row per person: the photo and edits at 1, large enough to see teeth and skin."""
    rows = []
    for name, targets in CLOSE:
        photo = Photo(read(london, name))
        located = editor.locate(photo)
        row = [labelled(face_crop(photo.rgb, located[0], CLOSE_WIDTH), "photograph")]
        for target in targets:
            shown = editor.apply(photo, located, target, 1.0).image
            row.append(labelled(face_crop(shown, located[0], CLOSE_WIDTH), target))
        rows.append(np.concatenate(row, axis=1))
    return np.concatenate(rows)


def worst(editor: Editor, london: Path, judge: MiniXception) -> images.Rgb:
    """Two rows of five pairs: a photo, and its edit."""
    found: list[tuple[float, str, images.Rgb]] = []
    for path in sorted((london / "neutral").glob("*_03.jpg"))[::5]:
        photo = Photo(images.read(path))
        located = editor.locate(photo)
        before = face_crop(photo.rgb, located[0], WORST_WIDTH)
        for target in TARGETS:
            shown = editor.apply(photo, located, target, 1.0).image
            crop = grey_crop(shown, square_of(located[0].points))
            share = float(judge(crop[None])[0][0, JUDGED.index(target)])
            pair = np.concatenate([before, face_crop(shown, located[0], WORST_WIDTH)], axis=1)
            found.append((share, target, labelled(pair, f"{target} {share:.2f}")))
    chosen: list[tuple[float, str, images.Rgb]] = []
    for entry in sorted(found, key=lambda entry: entry[0]):
        if sum(entry[1] == other[1] for other in chosen) < 2:
            chosen.append(entry)
    rows = [np.concatenate([entry[2] for entry in chosen[n : n + 5]], axis=1) for n in (0, 5)]
    return np.concatenate(rows)


def main() -> None:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--london", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--close", type=Path)
    parser.add_argument("--worst", type=Path)
    parser.add_argument("--judge", type=Path)
    parser.add_argument("--width", type=int, default=150)
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    editor = Editor.load(threads=1)
    if asked.close is not None:
        cv2.imwrite(
            str(asked.close), close_up(editor, asked.london)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88]
        )
    if asked.worst is not None:
        if asked.judge is None:
            parser.error("--worst needs --judge, emotion_model.hdf5 of fer 25.10.3")
        sheet = worst(editor, asked.london, MiniXception(asked.judge))
        cv2.imwrite(str(asked.worst), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    rows, edits, spent, weakened, refused = [], 0, 0.0, 0, 0
    for name in PEOPLE:
        smiles = name.endswith("_08")
        photo = Photo(read(asked.london, name))
        located = editor.locate(photo)
        row = [labelled(face_crop(photo.rgb, located[0], asked.width), "photograph")]
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
                row.append(labelled(cell, f"{target} {strength}"))
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
