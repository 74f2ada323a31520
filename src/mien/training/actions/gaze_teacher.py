"""Label faces with the direction of their eyes that Intel's network estimates, the teacher of our gaze.

The teacher is used only here, before training; nothing of it ships. It needs the files
`gaze-estimation-adas-0002.xml` and `.bin` (Open Model Zoo, Intel, Apache-2.0) and the package `openvino` to run them.

*Given* by its documentation: BGR crops of 60 px of both eyes, upright, and the head's yaw, pitch and roll in degrees (0
for upright crops); a vector towards what is looked at. *Measured* on renderings with a known gaze: the eye on the left
of the picture is its "left" eye, x points to the right of the picture, y upwards, z away from the camera, and its pitch
has the other sign than ours; a crop is 0.6 eye distances wide. Correlation there .82 for yaw and .74 for pitch, median
error 9 and 6 degrees.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError
from mien.landmarks import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS

Floats = NDArray[Any]  # float32 or float64
Pixels = NDArray[Any]  # uint8

_SIDE: Final = 60
_SHARE: Final = 0.6
_SMALLEST: Final = 30.0
"""Smallest distance of the eyes, pixels: below it an eye's crop is under 18 px wide, and the answers are noise."""


class GazeTeacher:
    """Intel's network on one thread."""

    def __init__(self, network: Path) -> None:
        """Open `network`, the .xml file.

        Raises:
            ConfigError: a file or the package that runs it is missing, or it is another network.
        """
        for path in (network, network.with_suffix(".bin")):
            if not path.is_file():
                raise ConfigError(
                    f"{path}: no such file: pass gaze-estimation-adas-0002.xml, with its .bin beside it, in "
                    "'gaze_teacher'"
                )
        try:
            import openvino
        except ModuleNotFoundError:
            raise ConfigError("asking the teacher of gaze needs 'openvino': pip install openvino") from None
        try:
            self._run = openvino.Core().compile_model(network, "CPU", {"INFERENCE_NUM_THREADS": 1})
        except RuntimeError as problem:
            raise ConfigError(
                f"{network}: not OpenVINO's network of gaze ({str(problem).splitlines()[0]}): pass "
                "gaze-estimation-adas-0002.xml"
            ) from None

    def __call__(self, image: Pixels, points: Floats, pose: Floats) -> Floats:
        """The gaze (yaw, pitch) in degrees of a face turned upright, in the camera's frame; NaN for a small face.

        Args:
            image: RGB.
            points: our landmarks [P, 2] in pixels.
            pose: the head's (yaw, pitch, roll) in degrees.
        """
        right, left = (points[list(eye)].mean(axis=0) for eye in (RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS))
        across = left - right
        distance = float(np.hypot(*across))
        if distance < _SMALLEST:
            return np.full(2, np.nan)
        cosine, sine = across / distance * (_SIDE / (_SHARE * distance))
        turn = np.array([[cosine, sine], [-sine, cosine]])
        crops = []
        for centre in (right, left):
            matrix = np.column_stack([turn, (_SIDE - 1) / 2 - turn @ centre])
            eye = cv2.warpAffine(image, matrix, (_SIDE, _SIDE), borderMode=cv2.BORDER_REPLICATE)
            crops.append(eye[None, ..., ::-1].transpose(0, 3, 1, 2).astype(np.float32))
        yaw, pitch, _ = pose
        answer = self._run(
            {
                "left_eye_image": crops[0],
                "right_eye_image": crops[1],
                "head_pose_angles": np.array([[yaw, -pitch, 0]], np.float32),
            }
        )
        x, y, z = answer[self._run.outputs[0]].ravel()
        return np.degrees([np.arctan2(x, -z), np.arctan2(y, np.hypot(x, z))])
