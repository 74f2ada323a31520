"""Fit the strength of displacement that reads as a requested intensity, in half an hour on one core.

    python -m mien.training.editor.fit_strengths --diffusionfer DIR

Neutral faces of DiffusionFER are edited at a few strengths, and read by the shipped recogniser. The mean probability of
the expression, over that at strength 1, is made to rise with the strength, and inverted at the intensities of
`mien.editing.target.ASKED`. *Chosen*, by us: six strengths, and 20 faces that are read as neutral with 0.92 or more, as
generated neutral faces often read as a little sad. It prints the table `mien.editing.target.STRENGTHS`.

Tests: tests/training/editor/test_fit_strengths.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import cv2
import numpy as np
import typer

from mien.data.readers import READERS
from mien.editing import target
from mien.editing.editor import Editor
from mien.editing.geometry import ACTIVE
from mien.editing.photo import Photo, open_photo
from mien.editing.results import EditRefused, Located
from mien.errors import NoFace
from mien.labels import NEUTRAL
from mien.types import Detection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

FACES: Final = 20
GRID: Final = (0.2, 0.35, 0.5, 0.65, 0.8, 1.0)
SURE: Final = 0.92
"""Least probability of neutral of a face that is used."""


def inverted(strengths: Array, readings: Array, asked: Array) -> Array:
    """The strengths [N] at which `readings` [M] at `strengths` [M], made monotone, reach each share `asked` [N] of
    that at strength 1; 0 for 0 and 1 for 1."""
    rising = np.maximum.accumulate(np.concatenate([[0.0], readings]))
    places = np.concatenate([[0.0], strengths])
    rising += 1e-9 * np.arange(len(rising))  # where it is level, the first strength is taken
    found = np.interp(asked * np.interp(1.0, places, rising), rising, places)
    return np.where(asked >= 1, 1.0, found)


def neutral_faces(editor: Editor, root: Path, count: int) -> list[tuple[Photo, Located]]:
    """The first `count` located faces of DiffusionFER that are labelled and read as neutral."""
    chosen: list[tuple[Photo, Located]] = []
    for record in READERS["diffusionfer"](root):
        if record.expression != NEUTRAL:
            continue
        photo = open_photo(record.path)
        try:
            face = editor.locate(photo)[0]
        except NoFace:
            continue
        if face.reading is not None and face.reading.probabilities["neutral"] >= SURE:
            chosen.append((photo, face))
        if len(chosen) == count:
            break
    return chosen


def read(editor: Editor, faces: list[tuple[Photo, Located]], name: str, strength: float) -> float:
    """Mean probability of the expression `name` over edits of `faces` at a strength of displacement."""
    readings = []
    for photo, face in faces:
        try:
            shown = editor.apply(photo, [face], name, strength).image
        except EditRefused:
            shown = photo.rgb
        found = editor.pipeline.read(editor.pipeline.locate(shown, [Detection(face.box, 1.0)]))
        readings.append(found[0].probabilities[name] if found else 0.0)
    return float(np.mean(readings))


def main(
    diffusionfer: Annotated[Path, typer.Option(help="folder of DiffusionFER")],
    faces: Annotated[int, typer.Option(help="number of faces")] = FACES,
) -> None:
    """Print the strength of each expression that reads as the intensities of `target.ASKED`."""
    cv2.setNumThreads(1)
    editor = Editor.load(threads=1)
    chosen = neutral_faces(editor, diffusionfer, faces)
    # Edits at strengths, not at intensities.
    target.STRENGTHS.update(dict.fromkeys(ACTIVE, target.ASKED))
    for name in ACTIVE:
        readings = np.array([read(editor, chosen, name, strength) for strength in GRID])
        row = inverted(np.array(GRID), readings, np.array(target.ASKED))
        typer.echo(f'    "{name}": ({", ".join(f"{value:.2f}" for value in row)}),')


if __name__ == "__main__":
    typer.run(main)
