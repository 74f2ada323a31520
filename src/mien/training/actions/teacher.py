"""Label faces with the actions that MediaPipe's Face Landmarker reads, the teacher of our network of facial actions.

The teacher is used only here, before training; nothing of it ships. It needs the file `face_landmarker.task` (Google,
Apache-2.0: a zip of TFLite files) and the package `ai-edge-litert` to run them.

*Given* by MediaPipe: the mesh network sees an upright RGB square of 256 px in 0..1, 1.5 times as wide as the points of
the face; the network of actions sees 146 of its 478 points and answers 52 numbers in 0..1, the first of which has no
meaning. *Measured*: six of the others never move (`DEAD`), and seven hardly (`DIM`).
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.actions import ACTIONS, MIRROR
from mien.errors import ConfigError
from mien.landmarks import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS

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

_SIDE: Final = 256
_ROOM: Final = 1.5

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
_OUTER_CORNERS: Final = (33, 263)  # of the right and the left eye


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
        if not task.is_file():
            raise ConfigError(f"{task}: no such file: pass MediaPipe's face_landmarker.task in 'teacher'")
        try:
            with zipfile.ZipFile(task) as bundle:
                networks = [
                    bundle.read(f"{name}.tflite") for name in ("face_landmarks_detector", "face_blendshapes")
                ]
        except (zipfile.BadZipFile, KeyError) as problem:
            raise ConfigError(
                f"{task}: not MediaPipe's Face Landmarker ({problem}): pass its face_landmarker.task"
            ) from None
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ModuleNotFoundError:
            raise ConfigError(
                "asking the teacher needs 'ai-edge-litert': pip install ai-edge-litert"
            ) from None
        with _quiet():
            self._mesh, self._read = (
                Interpreter(model_content=network, num_threads=1) for network in networks
            )
            self._mesh.allocate_tensors()
            self._read.allocate_tensors()

    def look(self, image: Pixels, centre: Floats, side: float, angle: float = 0.0) -> tuple[Floats, float]:
        """The mesh [478, 2] in pixels and the face's score, of an RGB picture's square turned by `angle` radians."""
        cosine, sine = np.cos(angle) * side / _SIDE, np.sin(angle) * side / _SIDE
        turn = np.array([[cosine, -sine], [sine, cosine]])
        shift = np.asarray(centre) - turn @ np.full(2, (_SIDE - 1) / 2)
        back = np.concatenate([turn, shift[:, None]], axis=1)
        flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_LINEAR if side < _SIDE else cv2.INTER_AREA)
        patch = cv2.warpAffine(image, back, (_SIDE, _SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        network = self._mesh
        network.set_tensor(network.get_input_details()[0]["index"], patch[None].astype(np.float32) / 255)
        network.invoke()
        outputs = {tuple(output["shape"]): output["index"] for output in network.get_output_details()}
        points = network.get_tensor(outputs[1, 1, 1, 1434]).reshape(478, 3)[:, :2]
        # Pixel edges at 0 and 256, in the picture pixel centres at 0.
        score = float(network.get_tensor(outputs[1, 1, 1, 1]).ravel()[0])
        return (points - 0.5) @ turn.T + shift, float(1 / (1 + np.exp(-score)))

    def again(self, image: Pixels, points: Floats, shift: Floats = _STILL, scale: float = 1.0) -> Answer:
        """The actions of the face with a known mesh [478, 2], or with our points, in an upright square around it.

        `shift` (in sides) and `scale` move that square, to measure the teacher's agreement with itself.
        """
        mesh, score = self.look(image, *_square(points, shift, scale))
        network = self._read
        network.set_tensor(
            network.get_input_details()[0]["index"], mesh[None, list(_READ)].astype(np.float32)
        )
        network.invoke()
        values = network.get_tensor(network.get_output_details()[0]["index"]).ravel()[1:]
        actions = np.full(len(ACTIONS), np.nan, np.float32)
        actions[: len(values)] = values
        return Answer(actions, score)

    @staticmethod
    def square(points: Floats) -> tuple[Floats, float, float]:
        """Centre, side and angle in radians of the first square for a face with our points [P, 2]."""
        return _square(points, _FROM_POINTS, 1.16)

    def glance(self, image: Pixels, points: Floats) -> Answer:
        """The actions of the face with our `points` [P, 2] in an RGB picture, from one pass: accurate enough for
        training."""
        return self.again(image, points, _FROM_POINTS, 1.16)

    def __call__(self, image: Pixels, points: Floats) -> Answer:
        """The same more accurately, for measuring: the mean of the answers for the picture and its mirror image (the
        teacher does not treat left and right alike), each from a second pass in the square that the first one found."""
        mesh, _ = self.look(image, *self.square(points))
        one = self.again(image, mesh)
        other = self.again(np.ascontiguousarray(image[:, ::-1]), _mirrored(mesh, image.shape[1]))
        return Answer((one.actions + other.actions[MIRROR]) / 2, (one.score + other.score) / 2)


def _mirrored(mesh: Floats, width: int) -> Floats:
    """A mesh in the mirrored picture, as far as `_square` needs it: each point mirrored, the eye corners exchanged."""
    mirrored = mesh * [-1, 1] + [width - 1, 0]
    mirrored[list(_OUTER_CORNERS)] = mirrored[list(_OUTER_CORNERS)[::-1]]
    return np.asarray(mirrored)


def _square(points: Floats, shift: Floats, scale: float) -> tuple[Floats, float, float]:
    """Centre, side and angle in radians of the upright square around a mesh [478, 2], or around our points [112, 2]."""
    right, left = _OUTER_CORNERS if len(points) == 478 else (RIGHT_EYE_CORNERS[0], LEFT_EYE_CORNERS[0])
    across = points[left] - points[right]
    angle = float(np.arctan2(across[1], across[0]))
    axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    upright = points @ axes
    low, high = upright.min(axis=0), upright.max(axis=0)
    side = _ROOM * float((high - low).max())
    return axes @ ((low + high) / 2 + side * np.asarray(shift)), side * scale, angle


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the line about its delegate that TensorFlow Lite writes to the process's standard error."""
    kept, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)
