"""Give the editor's displacements a depth, from the ICT-FaceKit head, in a second.

    python -m mien.training.editor.fit_depths --heads ict_facekit.npz --out DIR

The displacements of `mien.editing.geometry` are fitted on pictures, which have no depth. Each is written as a sum of
the head's blendshapes by ridge regression, and the depth of that sum is taken. *Chosen*, by us: the ridge, with which
no blendshape is used more than twice over, and the sum misses 7 to 25 % of an expression's displacement.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
import typer

from mien.actions import GAZE
from mien.data.synthetic.head import Head, load_head
from mien.editing.geometry import FaceFrame, Geometry
from mien.landmarks import LEFT_IRIS, MIRROR, NOSE_BOTTOM, RIGHT_IRIS
from mien.training.editor.fit_blendshapes import HEAD_VERTICES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

RIDGE: Final = 1e-2


def canonical_head(head: Head) -> tuple[Array, Array]:
    """Our points of the mean head [P, 3] in the canonical frame, symmetric, and its blendshapes' displacements
    [e, P, 3] there."""
    axes = np.array([1, -1, 1])
    points = head.neutral[HEAD_VERTICES].astype(np.float64)
    for iris, ring in zip((RIGHT_IRIS, LEFT_IRIS), head.irises, strict=True):
        points[iris] = head.neutral[ring].mean(axis=0)
    points *= axes
    frame = FaceFrame.of(points[:, :2])
    deep = (points[:, 2:] - points[NOSE_BOTTOM, 2]) / frame.unit
    placed = np.concatenate([frame.to_canonical(points[:, :2]), deep], axis=1)
    moved = head.expression[:, HEAD_VERTICES].astype(np.float64) * axes / frame.unit
    moved[:, [RIGHT_IRIS, LEFT_IRIS]] = 0
    return (placed + placed[MIRROR] * [-1, 1, 1]) / 2, moved


def depth_of(flat: Array, moved: Array) -> Array:
    """The depth [..., P] of displacements [..., P, 2], given those of the blendshapes [e, P, 3]."""
    design = moved[..., :2].reshape(len(moved), -1)
    wanted = flat.reshape(-1, design.shape[1])
    shares = np.linalg.solve(design @ design.T + RIDGE * np.eye(len(design)), design @ wanted.T)
    return np.asarray(np.tensordot(shares.T, moved[..., 2], 1).reshape(flat.shape[:-1]))


def depths(head: Head, geometry: Geometry) -> dict[str, Array]:
    """The arrays of `mien.editing.head_turn.HeadTurn`."""
    points, moved = canonical_head(head)
    skin = moved[[not name.startswith(GAZE) for name in head.names]]
    flat = {name: getattr(geometry, name) for name in ("basis", "basis_open", "opening")}
    return {"head": points} | {name: depth_of(displacement, skin) for name, displacement in flat.items()}


def main(
    heads: Annotated[Path, typer.Option(help="ict_facekit.npz")],
    out: Annotated[Path, typer.Option(help="folder for depths.npz, in the package weights/editor")],
) -> None:
    """Write depths.npz."""
    found = depths(load_head(heads), Geometry.load())
    halves: dict[str, Any] = {name: array.astype(np.float16) for name, array in found.items()}
    np.savez_compressed(out / "depths.npz", **halves)


if __name__ == "__main__":
    typer.run(main)
