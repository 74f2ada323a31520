"""Label faces with the actions that MediaPipe's Face Landmarker reads, the teacher of our network of facial actions.

The teacher is used only here, before training; nothing of it ships. `mien.training.face_mesh` opens its file.

*Given* by MediaPipe: the network of actions sees 146 of the mesh's 478 points and answers 52 numbers in 0..1, the first
of which has no meaning. *Measured*: six of the others never move (`DEAD`), and seven hardly (`DIM`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mien.actions import ACTIONS, MIRROR
from mien.training import face_mesh
from mien.training.face_mesh import FaceMesh, Square

Floats = NDArray[Any]  # float32 or float64
Pixels = NDArray[Any]  # uint8

DEAD: Final = (
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "jawForward", "noseSneerLeft", "noseSneerRight",
)  # fmt: skip
"""Actions that the teacher does not measure: its values stay near zero."""

DIM: Final = (
    "eyeWideLeft", "eyeWideRight", "jawLeft", "jawRight", "mouthClose", "mouthDimpleLeft", "mouthDimpleRight",
)  # fmt: skip
"""Actions of which the teacher sees too little to learn from: over 13,420 press photographs and over 1,279 generated
faces its answers spread by less than 0.045 (standard deviation), and wide eyes hardly reach 0.1."""

TAUGHT: Final = np.array([name not in (*DEAD, *DIM, "tongueOut") for name in ACTIONS])
"""Mask over `ACTIONS`: those that are learnt from the teacher."""

# The mesh points that the network of actions reads, in its order: those of MediaPipe's face_blendshapes_graph.cc.
_READ: Final = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80,
    81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153,
    154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251,
    263, 267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318,
    321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386,
    387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
)  # fmt: skip
# The square around our points, which end at the brows, relative to that around the mesh, which is 1.16 times as wide:
# the median of 65 faces.
_FROM_POINTS: Final = np.array([0.0, -0.05])
_STILL: Final = np.zeros(2)


class Answer(NamedTuple):
    """The teacher's answer for one face: `actions` [52] in 0..1, NaN where it has none; `score` in 0..1 that it is a
    face."""

    actions: Floats
    score: float


class ActionTeacher:
    """The mesh network and the network of actions on one thread."""

    def __init__(self, task: Path) -> None:
        """Open the networks in face_landmarker.task.

        Raises:
            ConfigError: the file or the package that runs it is missing, or it is another file.
        """
        mesh, self._read = face_mesh.networks(task, (FaceMesh.name, "face_blendshapes"))
        self.mesh = FaceMesh(mesh)

    def again(self, image: Pixels, points: Floats, shift: Floats = _STILL, scale: float = 1.0) -> Answer:
        """The actions of the face with a known mesh [478, 2], or with our points, in an upright square around it.

        `shift` (in sides) and `scale` move that square, to measure the teacher's agreement with itself.
        """
        return self._within(image, face_mesh.square(points, shift, scale))

    def _within(self, image: Pixels, where: Square) -> Answer:
        mesh, score = self.mesh(image, where)
        network = self._read
        network.set_tensor(
            network.get_input_details()[0]["index"], mesh[None, list(_READ), :2].astype(np.float32)
        )
        network.invoke()
        values = network.get_tensor(network.get_output_details()[0]["index"]).ravel()[1:]
        actions = np.full(len(ACTIONS), np.nan, np.float32)
        actions[: len(values)] = values
        return Answer(actions, score)

    @staticmethod
    def square(points: Floats) -> Square:
        """The first square for a face with our points [P, 2]."""
        return face_mesh.square(points, _FROM_POINTS, 1.16)

    def glance(self, image: Pixels, points: Floats) -> Answer:
        """The actions of the face with our `points` [P, 2] in an RGB picture, from one pass: accurate enough for
        training."""
        return self.again(image, points, _FROM_POINTS, 1.16)

    def __call__(self, image: Pixels, points: Floats) -> Answer:
        """The same more accurately, for measuring: the mean of the answers for the picture and its mirror image (the
        teacher does not treat left and right alike), each from a second pass in the square that the first one found."""
        mesh, _ = self.mesh(image, self.square(points))
        where = face_mesh.square(mesh)
        one = self._within(image, where)
        other = self._within(np.ascontiguousarray(image[:, ::-1]), face_mesh.mirrored(where, image.shape[1]))
        return Answer((one.actions + other.actions[MIRROR]) / 2, (one.score + other.score) / 2)
