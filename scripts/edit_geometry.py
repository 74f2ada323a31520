"""Measures edits of turned heads, turned eyes and smiles that are taken away, for docs/editing.md.

    python scripts/edit_geometry.py ict_facekit.npz LONDON [STEP]    # the head, the set's folder

Written to docs/reports/edit-geometry are

- `turned`: at four yaws, the root mean square error of the displacement of our points by each facial action, over that
  of the true one: of the displacement seen from the front, and of the one that is projected as the head stands. Twelve
  heads with random identity, turned to both sides.
- `gaze`: on every STEP-th (4) London person, how far our own reading of the eyes follows a gaze, in degrees.
- `neutral`: of every STEP-th smiling London person who is read as smiling, how far the picture of the cheeks and the
  mouth is from that of the person's neutral photo, in levels of luma, before and after an edit to neutral. Both are
  sampled in the canonical frame, with the same mean colour. `points`: what would be left if the points of the edit were
  those of the neutral photo itself, with and without the edit's shading: the rest is skin, light and pose, which no
  displacement changes.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from mien.actions import ACTIONS
from mien.data.synthetic.head import Head, arkit, load_head, rotation
from mien.editing.action_basis import ActionBasis
from mien.editing.editor import Editor
from mien.editing.geometry import FaceFrame, lip_gap
from mien.editing.head_turn import HeadTurn
from mien.editing.photo import open_photo
from mien.editing.render import render
from mien.editing.results import EditRefused
from mien.editing.target import Target
from mien.editing.warp import warp_between
from mien.io import atomic
from mien.io.images import LUMA
from mien.landmarks import LEFT_IRIS, RIGHT_IRIS
from mien.training.editor.fit_blendshapes import HEAD_VERTICES, held

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

OUT = Path(__file__).parent.parent / "docs" / "reports" / "edit-geometry" / "geometry.json"
YAWS = (0, 15, 25, 35)
AMOUNT = 0.7
HEADS = 12
GAZES = {"right": (1, 0), "left": (-1, 0), "half": (0.5, 0), "up": (0, 1), "down": (0, -1)}
SMILING = 0.8
SIDE = 200


def seen(head: Head, vertices: Array, yaw: float) -> Array:
    """Our points [P, 2] of a mesh [v, 3] that is turned by `yaw`, from a metre away."""
    turned = (vertices - [0, 0, 3]) @ rotation(np.array([yaw, 0, 0])).T
    flat = turned[:, :2] * [1, -1] * 100 / (100 - turned[:, 2:])
    points = flat[HEAD_VERTICES].astype(np.float64)
    for iris, ring in zip((RIGHT_IRIS, LEFT_IRIS), head.irises, strict=True):
        points[iris] = flat[ring].mean(axis=0)
    return points


def turned(head: Head) -> dict[str, Any]:
    """For each yaw the error of both ways, with two digits."""
    basis, turn = ActionBasis.load(), HeadTurn.load()
    belong = np.nan_to_num(arkit(head.names, np.eye(len(head.names), dtype=np.float32))) > 0
    found = {}
    for yaw in YAWS:
        errors, size = np.zeros(2), 0.0
        for number in range(HEADS):
            weights = np.random.default_rng([7, number]).normal(size=len(head.identity)).clip(-2.5, 2.5)
            mesh = head.neutral + np.tensordot(weights.astype(np.float32), head.identity, 1)
            side = yaw if number % 2 else -yaw
            frame = FaceFrame.of(seen(head, mesh, side))
            shape = frame.to_canonical(seen(head, mesh, side))
            camera = turn.pose(shape).camera
            for name in basis.editable:
                place = ACTIONS.index(name)
                moved = mesh + AMOUNT * head.expression[belong[:, place]].sum(axis=0)
                true = (frame.to_canonical(seen(head, moved, side)) - shape) * held()[:, None]
                ours = AMOUNT * basis.displacement[place]
                errors += [((way - true) ** 2).sum() for way in (ours[:, :2], ours @ camera.T)]
                size += float((true**2).sum())
        flat, projected = np.sqrt(errors / size)
        found[str(yaw)] = {"flat": round(float(flat), 2), "projected": round(float(projected), 2)}
    return found


def gaze(editor: Editor, pictures: list[Path]) -> dict[str, Any]:
    """For each gaze the mean change of our reading, (yaw, pitch) in degrees, with one digit."""
    changes: dict[str, list[tuple[float, float]]] = {name: [] for name in GAZES}
    for photo in map(open_photo, pictures):
        located = editor.locate(photo)
        for name, asked in GAZES.items():
            try:
                edit = editor.apply(photo, located, Target.of_gaze(*asked))
            except EditRefused:
                continue
            before, after = (
                None if reading is None else reading.gaze for reading in (edit.before, edit.after)
            )
            if before is not None and after is not None:
                changes[name].append((after.yaw - before.yaw, after.pitch - before.pitch))
    means = {name: np.mean(values, axis=0).round(1).tolist() for name, values in changes.items()}
    return {"people": len(pictures)} | {
        name: {"count": len(changes[name]), "yaw": yaw, "pitch": pitch}
        for name, (yaw, pitch) in means.items()
    }


def neutral(editor: Editor, pairs: list[tuple[Path, Path]]) -> dict[str, Any]:
    """The mean distances before and after the edit, and what is left, of the whole, the mouth and the cheeks."""
    x, y = np.meshgrid(np.linspace(-1.1, 1.1, SIDE), np.linspace(-0.35, 1.85, SIDE))
    whole = (np.abs(x) < 0.78) & (y > 0.22) & (y < 1.35) & (np.hypot(x / 0.85, (y - 0.75) / 0.8) < 1)
    mouth = whole & (np.abs(x) < 0.5) & (y > 0.8)
    parts = {"whole": whole, "mouth": mouth, "cheeks": whole & ~mouth}

    def view(rgb: NDArray[Any], points: Array) -> Array:
        frame = FaceFrame.of(points)
        where = frame.to_picture(np.stack([x, y], axis=-1)).astype(np.float32)
        smooth = cv2.GaussianBlur(rgb, (0, 0), max(frame.unit / 180, 0.3))
        drawn = np.asarray(cv2.remap(smooth, where, None, cv2.INTER_LINEAR), np.float64)  # type: ignore[call-overload]
        return np.asarray(drawn / drawn[whole].mean(axis=0) * 128 @ LUMA)

    rows = []
    for smiling, calm in pairs:
        photo, other = open_photo(smiling), open_photo(calm)
        face = editor.locate(photo)[0]
        if face.reading is None or face.reading.probabilities["happiness"] < SMILING:
            continue
        calm_points = editor.locate(other)[0].points
        wanted = view(other.rgb, calm_points)
        edit = editor.apply(photo, [face], "neutral").image
        planned = editor.plan(face, Target.parse("neutral"), 1.0)
        own = FaceFrame.of(calm_points).to_canonical(calm_points)
        known = replace(planned, target=own, warp=warp_between(planned.source, own), gap=lip_gap(own))
        best = [render(photo.colour, known, shading, 0.0)[0] for shading in (None, editor.shading)]
        shown = [view(rgb, face.points) for rgb in (photo.rgb, edit, *best)]
        rows.append([[np.sqrt(((v - wanted)[m] ** 2).mean()) for v in shown] for m in parts.values()])
    found: dict[str, Any] = {"people": len(rows)}
    for name, (before, after, points, shaded) in zip(parts, np.mean(rows, axis=0), strict=True):
        found[name] = {
            "before": round(before, 1),
            "after": round(after, 1),
            "left": round(after / before, 2),
            "points": round(points / before, 2),
            "points and shading": round(shaded / before, 2),
        }
    return found


def main() -> None:
    """Measure and write."""
    cv2.setNumThreads(1)
    head, london = load_head(Path(sys.argv[1])), Path(sys.argv[2])
    step = int(sys.argv[3]) if len(sys.argv) > 3 else 4
    editor = Editor.load(threads=1)
    pictures = sorted((london / "neutral").glob("*_03.jpg"))[::step]
    smiles = sorted((london / "smiling").glob("*_08.jpg"))[::step]
    calm = [(london / "neutral" / f"{path.name[:3]}_03.jpg") for path in smiles]
    pairs = [pair for pair in zip(smiles, calm, strict=True) if pair[1].is_file()]
    figures = {"turned": turned(head), "gaze": gaze(editor, pictures), "neutral": neutral(editor, pairs)}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    atomic.write({OUT: (json.dumps(figures, indent=1) + "\n").encode()})


if __name__ == "__main__":
    main()
