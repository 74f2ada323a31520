"""Draws real and edited faces in random order, for people to judge, and the answers in a file beside the sheet.

    python scripts/blind_sheet.py PHOTOS --out sheet.png --key answers.csv --i-have-consent [--seed 0]

Of each photo's largest face the sheet shows one picture with a number: the photo itself or, with even odds, an edit
towards an expression drawn at random, at 0.7. All are cut and resized alike, so only the edit can give itself away. Ask
viewers "a photograph, or changed by software?" and which expression they see; compare their answers with the key. Half
of the answers are right by guessing: with 40 faces, 27 right answers are more than chance (p < 0.05, two-sided).
The sheet itself records that it holds edits, as every file of `mien edit` does. Photos that cannot be edited are left
out, and named.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from mien.editing import provenance
from mien.editing.editor import Editor
from mien.editing.grids import EXPRESSIONS, face_crop, labelled
from mien.editing.photo import Photo, open_photo
from mien.editing.results import Edit
from mien.errors import ConfigError, MienError
from mien.io import atomic, images, inputs, outputs
from mien.wording import several

INTENSITY, WIDTH, COLUMNS = 0.7, 300, 6


def drawn(
    editor: Editor, photos: list[Path], random: np.random.Generator
) -> tuple[list[images.Rgb], list[dict[str, Any]], Edit | None]:
    """The crops in random order, the answer for each, and the last edit."""
    crops: list[images.Rgb] = []
    answers: list[dict[str, Any]] = []
    last = None
    for number in random.permutation(len(photos)):
        path = photos[number]
        change, target = random.random() < 0.5, str(random.choice(EXPRESSIONS))
        try:
            photo = open_photo(path)
            located = editor.locate(photo)
            # Also for faces that are not changed: refused edits must be left out of both halves.
            edit = editor.apply(photo, located, target, INTENSITY)
        except MienError as problem:
            print(f"left out: {problem}", file=sys.stderr)
            continue
        last = edit if change else last
        crops.append(face_crop(edit.image if change else photo.rgb, located[0], WIDTH))
        answers.append(
            {
                "number": len(crops),
                "answer": "edited" if change else "photo",
                "target": target if change else "",
                "applied": f"{edit.applied:.2f}" if change else "",
                "file": str(path),
            }
        )
    return crops, answers, last


def sheet(crops: list[images.Rgb]) -> images.Rgb:
    """The numbered crops in rows."""
    cells = [labelled(crop, str(number)) for number, crop in enumerate(crops, 1)]
    cells += [np.zeros_like(cells[0])] * (-len(cells) % COLUMNS)
    rows = [np.concatenate(cells[at : at + COLUMNS], axis=1) for at in range(0, len(cells), COLUMNS)]
    return np.concatenate(rows)


def draw(photos: list[Path], out: Path, key: Path, *, consent: bool, seed: int = 0) -> int:
    """Write the sheet and its key; returns the number of faces.

    Raises:
        ConfigError: consent is missing, or no face could be edited.
        OutputExists: a file is there.
    """
    if not consent:
        raise ConfigError(
            f"{several(len(photos), 'photo')}: pass --i-have-consent if the people shown agreed to be edited"
        )
    provenance.free(out, reads=photos)
    outputs.check(key, reads=photos)
    crops, answers, last = drawn(Editor.load(), photos, np.random.default_rng(seed))
    if last is None:
        raise ConfigError("no face was edited: pass more photos, or another --seed")
    table = StringIO()
    writer = csv.DictWriter(table, list(answers[0]))
    writer.writeheader()
    writer.writerows(answers)
    record = replace(last, photo=Photo(sheet(crops)), faces=(), target="a sheet of photos and edits")
    provenance.write_edit(record, out, kind="sheet", consent=consent)
    atomic.write({key: table.getvalue().encode()})
    return len(crops)


def main() -> None:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument(
        "--i-have-consent", action="store_true", help="the people shown have agreed; recorded"
    )
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    try:
        photos = [Path(str(path)) for path in inputs.gather(asked.photos, None, set(), None)]
        count = draw(photos, asked.out, asked.key, consent=asked.i_have_consent, seed=asked.seed)
    except MienError as problem:
        parser.error(str(problem))
    print(f"{several(count, 'face')}: {asked.out}; the answers: {asked.key}")


if __name__ == "__main__":
    main()
