"""How a displacement looks on a turned head: in depth, by the pose of a mean head that is fitted to the points.

The displacements of `mien.editing.geometry` are those of a face seen from the front. The corner of a mouth that smiles
moves out and *back*, so on the far side of a head turned by 35 degrees it hardly leaves its place. So each displacement
has a depth, taken from the ICT-FaceKit head (MIT), and is projected as the head stands.

The pose is a rotation fitted to the points by least squares against the mean head, without the jaw, as its points lie
on the outline and not on the skin, and without the irises. On renderings of eight heads turned by 0 to 35 degrees its
yaw is right within 1.6 degrees on average, with a deviation of 1.4 (frontal) to 4.1, as that of the network; an
expression changes it by at most one degree. Modes of identity and expression in the fit did not improve it.

The arrays are made by `mien.training.editor.fit_depths`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mien.editing.geometry import ACTIVE, FaceFrame, Geometry
from mien.io import cards
from mien.io.arrays import shaped, stored
from mien.landmarks import JAW, LEFT_IRIS, POINTS, RIGHT_IRIS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_FITTED = np.setdiff1d(np.arange(len(POINTS)), [*range(JAW.start, JAW.stop), RIGHT_IRIS, LEFT_IRIS])
"""Points from which the pose is fitted."""


@dataclass(frozen=True)
class HeadPose:
    """How a head stands.

    Attributes:
        turn: [2, 3] the first two rows of its rotation.
        camera: [2, 3] from lengths on the head to canonical ones, in which the turned eyes are one unit apart too: how
            a displacement in depth looks. Seen from the front it is [[1, 0, 0], [0, 1, 0]].
    """

    turn: Array
    camera: Array

    @property
    def upright(self) -> float:
        """Canonical length of one eye distance down the head: over 1 on a turned head, as its eyes are seen closer
        together."""
        return float(self.camera[1, 1])

    @property
    def yaw(self) -> float:
        """The head's yaw in degrees, with the sign of `mien.landmarks`."""
        turn = self.turn
        roll = np.arctan2(turn[1, 0], turn[0, 0])  # the canonical frame of a turned face is a little tilted
        across = np.cos(roll) * turn[0, 2] + np.sin(roll) * turn[1, 2]
        forward = turn[0, 0] * turn[1, 1] - turn[0, 1] * turn[1, 0]
        return float(np.degrees(np.arctan2(across, forward)))


@dataclass(frozen=True)
class HeadTurn:
    """A mean head and the depth of every displacement; P points, K = len(ACTIVE). Lengths are in eye distances: x to
    the right of the picture, y down, z towards the viewer.

    Attributes:
        head: [P, 3] the mean head seen from the front, in the canonical frame.
        basis, basis_open: [K, P] depths of those of `Geometry`.
        opening: [P] depth of its opening.
    """

    head: Array
    basis: Array
    basis_open: Array
    opening: Array

    @classmethod
    def from_arrays(cls, arrays: dict[str, Any]) -> HeadTurn:
        """Check shapes and freeze.

        Raises:
            WeightsError: an array is missing or has another shape.
        """
        p, k = len(POINTS), len(ACTIVE)
        shapes = {"head": (p, 3), "basis": (k, p), "basis_open": (k, p), "opening": (p,)}
        return cls(**shaped(arrays, shapes, "the depths", "mien.training.editor.fit_depths"))

    @classmethod
    def load(cls) -> HeadTurn:
        """The shipped depths.

        Raises:
            WeightsError: the file is missing or not of this form.
        """
        return _shipped()

    def pose(self, shape: Array) -> HeadPose:
        """How the head with the canonical shape [P, 2] stands. One edit asks for it once and passes it on."""
        model, seen = self.head[_FITTED], shape[_FITTED]
        free = np.linalg.lstsq(model - model.mean(axis=0), seen - seen.mean(axis=0), rcond=None)[0].T
        u, _, v = np.linalg.svd(free, full_matrices=False)
        turn = np.asarray(u @ v)  # the nearest rotation's
        return HeadPose(turn, np.asarray(np.linalg.solve(FaceFrame.of(self.head @ turn.T).turn, turn)))

    def seen(self, geometry: Geometry, pose: HeadPose) -> Geometry:
        """A geometry with the displacements of a head that stands so."""
        across, depth = pose.camera[:, :2].T, pose.camera[:, 2]
        # One unit of lip gap stays one unit of the turned face's own.
        upright = pose.upright
        return replace(
            geometry,
            basis=geometry.basis @ across + self.basis[..., None] * depth,
            basis_open=(geometry.basis_open @ across + self.basis_open[..., None] * depth) / upright,
            opening=(geometry.opening @ across + self.opening[:, None] * depth) / upright,
        )


@lru_cache(maxsize=1)
def _shipped() -> HeadTurn:
    return HeadTurn.from_arrays(stored(cards.FOLDER / "editor" / "depths.npz"))
