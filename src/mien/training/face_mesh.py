"""MediaPipe's mesh of the face, the teacher of our landmarks and, with the network behind it, of our actions.

It is used only here, before training; nothing of it ships. It needs the file `face_landmarker.task` (Google,
Apache-2.0: a zip of TFLite files) and the package `ai-edge-litert` to run them.

*Given* by MediaPipe: the network sees an upright RGB square of 256 px in 0..1, 1.5 times as wide as the points of the
face, and answers 478 points in three dimensions and a score.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError
from mien.landmarks import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS

Floats = NDArray[Any]  # float32 or float64
Pixels = NDArray[Any]  # uint8
Square = tuple[Floats, float, float]
"""Centre [2] and side in pixels, and the angle in radians by which the face in it is turned clockwise."""

VERTICES: Final = 478
ROOM: Final = 1.5
"""Side of the square that the network sees, relative to the larger side of the box around the face's points."""

_SIDE: Final = 256
_STILL: Final = np.zeros(2)
_OUTER_CORNERS: Final = (33, 263)  # of the right and the left eye


def networks(task: Path, names: Sequence[str]) -> list[Any]:
    """Networks of face_landmarker.task, by their names in it, ready to run on one thread.

    Raises:
        ConfigError: the file or the package that runs it is missing, or it is another file.
    """
    if not task.is_file():
        raise ConfigError(f"{task}: no such file: pass MediaPipe's face_landmarker.task in 'teacher'")
    try:
        with zipfile.ZipFile(task) as bundle:
            contents = [bundle.read(f"{name}.tflite") for name in names]
    except (zipfile.BadZipFile, KeyError) as problem:
        raise ConfigError(
            f"{task}: not MediaPipe's Face Landmarker ({problem}): pass its face_landmarker.task"
        ) from None
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ModuleNotFoundError:
        raise ConfigError("asking the teacher needs 'ai-edge-litert': pip install ai-edge-litert") from None
    with _quiet():
        opened = [Interpreter(model_content=content, num_threads=1) for content in contents]
        for network in opened:
            network.allocate_tensors()
    return opened


class FaceMesh:
    """The mesh network on one thread."""

    name: Final = "face_landmarks_detector"

    def __init__(self, network: Any) -> None:
        self._network = network
        self._input = network.get_input_details()[0]["index"]
        outputs = {tuple(output["shape"]): output["index"] for output in network.get_output_details()}
        self._points, self._score = outputs[1, 1, 1, 3 * VERTICES], outputs[1, 1, 1, 1]

    def __call__(self, image: Pixels, square: Square) -> tuple[Floats, float]:
        """The mesh [478, 3] and the score in 0..1 that there is a face, in a square of an RGB picture.

        x and y are in pixels of the picture; z is in the same unit, smaller is nearer.
        """
        centre, side, angle = square
        cosine, sine = np.cos(angle) * side / _SIDE, np.sin(angle) * side / _SIDE
        turn = np.array([[cosine, -sine], [sine, cosine]])
        shift = np.asarray(centre) - turn @ np.full(2, (_SIDE - 1) / 2)
        back = np.concatenate([turn, shift[:, None]], axis=1)
        flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_LINEAR if side < _SIDE else cv2.INTER_AREA)
        patch = cv2.warpAffine(image, back, (_SIDE, _SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        self._network.set_tensor(self._input, patch[None].astype(np.float32) / 255)
        self._network.invoke()
        mesh = self._network.get_tensor(self._points).reshape(VERTICES, 3)
        score = float(self._network.get_tensor(self._score).ravel()[0])
        # Pixel edges at 0 and 256, in the picture pixel centres at 0.
        flat = (mesh[:, :2] - 0.5) @ turn.T + shift
        return np.concatenate([flat, mesh[:, 2:] * (side / _SIDE)], axis=1), float(1 / (1 + np.exp(-score)))


def square(points: Floats, shift: Floats = _STILL, scale: float = 1.0) -> Square:
    """The upright square around a mesh [478, 2 or 3], or around our points [112, 2].

    `shift` (in sides) and `scale` move it from there.
    """
    points = points[:, :2]
    right, left = _OUTER_CORNERS if len(points) == VERTICES else (RIGHT_EYE_CORNERS[0], LEFT_EYE_CORNERS[0])
    across = points[left] - points[right]
    angle = float(np.arctan2(across[1], across[0]))
    axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    upright = points @ axes
    low, high = upright.min(axis=0), upright.max(axis=0)
    side = ROOM * float((high - low).max())
    return axes @ ((low + high) / 2 + side * np.asarray(shift)), side * scale, angle


def mirrored(where: Square, width: int) -> Square:
    """The same square in the mirrored picture."""
    centre, side, angle = where
    return np.array([width - 1 - centre[0], centre[1]]), side, -angle


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
