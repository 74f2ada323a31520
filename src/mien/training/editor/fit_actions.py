"""Fit how the editor's points move with each facial action, in ten minutes on one core.

    python -m mien.training.editor.fit_actions --heads ict_facekit.npz --diffusionfer DIR --out DIR

The displacements are the head's own. Their gain is measured: faces of DiffusionFER are edited by one movement at a
time, both sides together, and the reading of its actions before and after is compared. As readings do not rise in
proportion, this is repeated with the gain found. *Chosen*, by us: edits by 0.4, four rounds, a gain between 1/3 and 3,
beyond which faces look drawn; what cannot be measured keeps gain 1.

Tests: tests/training/editor/test_fit_actions.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import cv2
import numpy as np
import typer

from mien.actions import ACTIONS, GAZE, MIRROR, SIDES
from mien.data.readers import READERS
from mien.data.synthetic.head import arkit
from mien.editing.action_basis import ActionBasis
from mien.editing.editor import Editor
from mien.editing.photo import open_photo
from mien.editing.results import EditRefused, Located
from mien.editing.target import Target
from mien.errors import NoFace
from mien.training.editor.fit_blendshapes import head_displacements, held, mirrored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

STEP: Final = 0.4
"""The edit with which the gain is measured."""
LEAST: Final = 0.02
"""Displacement, in eye distances, below which no point shows an action."""
ROUNDS: Final = 4
_LIMITS: Final = (1 / 3, 3.0)
_STEADY: Final = 2.0
"""Largest factor by which a round changes a gain."""


def displacements(heads: Path) -> Array:
    """The displacement [52, P, 3] of each action, in eye distances; 0 for gaze and for what no point shows."""
    names, delta = head_displacements(heads)
    delta *= held()[:, None]
    # Which blendshapes make up an action: where ARKit has one for both sides, those of both.
    belong = np.nan_to_num(arkit(names, np.eye(len(names), dtype=np.float32))) > 0
    moved: Array = np.einsum("ea,epk->apk", belong.astype(float), delta)
    moved[[name.startswith(GAZE) for name in ACTIONS]] = 0
    # The vertices of both sides do not mirror each other exactly.
    moved = (moved + mirrored(moved)[MIRROR]) / 2
    moved[np.abs(moved[..., :2]).max(axis=(1, 2)) < LEAST] = 0
    return moved


def gains(rises: NDArray[Any], gain: Array) -> Array:
    """The next gain [52] after rises [n, 52] of each action in n edits by `STEP` at `gain` [52]; NaN where nothing was
    measured."""
    known = np.isfinite(rises)
    mean = np.where(known, rises, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    both = (mean + mean[MIRROR]) / 2
    factor = np.clip(STEP / np.maximum(both, 1e-6), 1 / _STEADY, _STEADY)
    return np.asarray(np.where(known.any(axis=0), np.clip(gain * factor, *_LIMITS), gain))


def raised(
    editor: Editor, pictures: Iterable[Path], wanted: Callable[[Located], Iterable[str]]
) -> Iterator[dict[str, dict[str, float] | None]]:
    """Edits of the largest face of each picture that has one: each movement that is `wanted` of it, raised by `STEP`
    from what the face shows.

    Yields:
        By movement, how much each measured action changes; None for a refused edit.
    """
    for path in pictures:
        photo = open_photo(path)
        try:
            located = editor.locate(photo)
        except NoFace:
            continue
        changes: dict[str, dict[str, float] | None] = {}
        for name in wanted(located[0]):
            try:
                edit = editor.apply(photo, located, Target.of_actions({name: STEP}), relative=True)
            except EditRefused:
                changes[name] = None
                continue
            before, after = (
                {} if reading is None else reading.actions for reading in (edit.before, edit.after)
            )
            changes[name] = {
                action: end - start
                for action in ACTIONS
                if (start := before.get(action)) is not None and (end := after.get(action)) is not None
            }
        yield changes


def measured(basis: ActionBasis, pictures: Iterable[Path], each: int) -> Array:
    """The rises [n, 52] of the edited actions in pictures of one face, of the first `each` with a face; NaN where one
    cannot be edited or measured."""
    editor = Editor.load(correct=False, threads=1).with_actions(basis)

    def wanted(face: Located) -> list[str]:
        """The movements that have room to rise."""
        known = {} if face.reading is None else face.reading.actions
        room = [
            name
            for name, sides in SIDES.items()
            if all((value := known.get(side)) is not None and value <= 0.5 for side in sides)
        ]
        return [name for name in room if SIDES[name][0] in basis.editable]

    rows: list[Array] = []
    for changes in islice(raised(editor, pictures, wanted), each):
        row = np.full(len(ACTIONS), np.nan)
        for name, change in changes.items():
            for side in SIDES[name]:
                if change is not None and side in change:
                    row[ACTIONS.index(side)] = change[side]
        rows.append(row)
    return np.array(rows)


def main(
    heads: Annotated[Path, typer.Option(help="ict_facekit.npz")],
    diffusionfer: Annotated[Path, typer.Option(help="its folder")],
    out: Annotated[
        Path, typer.Option(help="folder for action_basis.npz, made if missing; in the package weights/editor")
    ],
    people: Annotated[int, typer.Option(help="faces to measure the gain on")] = 40,
) -> None:
    """Write action_basis.npz."""
    cv2.setNumThreads(1)
    out.mkdir(parents=True, exist_ok=True)
    moved = displacements(heads)
    records = READERS["diffusionfer"](diffusionfer)
    spread = records[:: max(1, len(records) // (2 * people))]
    gain = np.ones(len(ACTIONS))
    for _ in range(ROUNDS):
        rises = measured(ActionBasis(moved, gain), (record.path for record in spread), people)
        gain = gains(rises, gain)
    np.savez_compressed(
        out / "action_basis.npz", displacement=moved.astype(np.float16), gain=gain.astype(np.float32)
    )
    for place, (name, factor) in enumerate(zip(ACTIONS, gain, strict=True)):
        known = rises[np.isfinite(rises[:, place]), place]
        typer.echo(f"{name:20} gain {factor:.2f}" + (f", rise {known.mean():.3f}" if len(known) else ""))


if __name__ == "__main__":
    typer.run(main)
