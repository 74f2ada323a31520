"""Fit how light a mouth is inside: a map for openings of every shape, by ridge regression. A minute on one core.

    python -m mien.editing.fit_mouth --points LABELS --muxspace DIR --out DIR

What shows between the lips is unrolled to a small raster, from corner to corner and from the upper to the lower lip,
and its luma over that of the skin is regressed on the opening's shape and on whether the face smiles
(`mouth.features`). The map is blurred where mouths differ; the examples lend their detail
(`mien.editing.mouth.filled`).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
import typer

from mien.data.teacher import FACES
from mien.editing import lips, mouth
from mien.editing.flow import look_up
from mien.editing.geometry import Frame, lip_gap
from mien.editing.render import surroundings
from mien.errors import DatasetNotFound

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

RIDGE: Final = 3.0
TRUSTED: Final = 0.8
"""Smallest score of the landmark teacher."""


def unrolled(rgb: NDArray[np.uint8], points: Array) -> tuple[mouth.Opening, float, Array] | None:
    """The opening of a face with landmarks [P, 2], the luma of its skin in 0..255, and its inside's luma over that,
    [ROWS, COLUMNS]; None for closed lips."""
    frame = Frame.of(points)
    if lip_gap(frame.to_canonical(points)) < 2 * mouth.SHOWS:
        return None
    opening = mouth.opening_of(points)
    t, share = mouth.raster()
    places = opening.at(t, share * opening.height_at(t)).astype(np.float32)
    luma = look_up(rgb.astype(np.float32), places) @ mouth.LUMA
    skin = float(surroundings(rgb, frame, 1.0)[0] @ mouth.LUMA)
    return opening, skin, np.asarray(luma / max(skin, 1.0))


def fit_tone(
    faces: Iterable[tuple[str, NDArray[np.uint8]]],
    points: dict[str, Array],
    smiles: Callable[[str], bool],
) -> tuple[NDArray[np.float32], int]:
    """Coefficients [F, ROWS, COLUMNS] of `mouth.features`, and from how many open mouths; mirrored ones count too.

    Raises:
        DatasetNotFound: no mouth is open.
    """
    design: list[Array] = []
    tones: list[Array] = []
    for name, rgb in faces:
        if name not in points:
            continue
        found = unrolled(rgb, lips.refine(rgb, points[name])[0])
        if found is None:
            continue
        opening, skin, tone = found
        for _ in range(2):
            design.append(mouth.features(opening, skin, float(smiles(name))))
            tones.append(tone.ravel())
            opening, tone = opening.mirrored(), tone[:, ::-1]
    if not design:
        raise DatasetNotFound("no open mouth to learn from: check --muxspace and --points")
    x, y = np.stack(design), np.stack(tones)
    penalty = np.diag([0.0, *[RIDGE] * (x.shape[1] - 1)])
    solved = np.linalg.solve(x.T @ x + penalty, x.T @ np.clip(y, 0, 1.6))
    return solved.reshape(-1, mouth.ROWS, mouth.COLUMNS).astype(np.float32), len(x) // 2


def main(
    points: Annotated[Path, typer.Option(help="folder with muxspace.npz of the teacher")],
    muxspace: Annotated[Path, typer.Option(help="muxspace/facial_expressions with its labels")],
    out: Annotated[Path, typer.Option(help="folder for tone.npz, in the package weights/editor")],
    every: Annotated[int, typer.Option(help="take each such smiling face")] = 2,
) -> None:
    """Write tone.npz."""
    with np.load(points / "muxspace.npz") as labels:
        names, found, score = [str(n) for n in labels["names"]], labels["points"], labels["score"]
    with (muxspace / "labels.csv").open() as table:
        said = {row["image"]: row["emotion"].lower() for row in csv.DictReader(table)}
    smiling = [name for name in names if said.get(name) == "happiness"][::every]
    others = [name for name in names if said.get(name) in ("surprise", "fear", "anger", "disgust", "sadness")]
    taken = {*smiling, *others}
    known: dict[str, Any] = {
        name: place.astype(np.float64)
        for name, place, sure in zip(names, found, score, strict=True)
        if name in taken and sure > TRUSTED
    }
    tone, count = fit_tone(FACES["muxspace"](muxspace), known, lambda name: said[name] == "happiness")
    typer.echo(f"{count} open mouths")
    np.savez_compressed(out / "tone.npz", tone=tone.astype(np.float16))


if __name__ == "__main__":
    typer.run(main)
