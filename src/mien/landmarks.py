"""The 112 facial landmarks: names, groups, mirroring, and the conventions of pose and presence.

**Left and right are the subject's own.** In a picture that is not mirrored the subject's left eye has the larger x.
Every group runs in a fixed direction (from the subject's right to their left, or around a contour), so a group can
be drawn as a line, and :data:`MIRROR` gives the point that each point becomes when the picture is mirrored.

**Pose** is (yaw, pitch, roll) in degrees, 0 for a head that looks straight into the camera. Yaw is positive when the
nose points to the picture's right (the subject looks to their own left), pitch when it points up, roll when the head
is turned clockwise in the picture (the subject's left eye is the lower one). They compose as roll after yaw after
pitch.

**Source.** The network is ours, trained by `configs/landmarks.yaml` on the outputs of MediaPipe's FaceMesh and on
rendered heads; the points lie where FaceMesh puts the vertices listed in `mien.training.landmarks.teacher`. See the
card beside the weights.

Tests: tests/faces/test_landmarker.py.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]  # float32 or float64
Pixels = NDArray[Any]  # uint8

# The groups of the scheme and their sizes, in the order of the points.
_SIZES: Final = {
    "jaw": 21,  # the face's lower outline, from beside the right ear over the chin (point 10) to the left ear
    "right_brow": 10,  # upper edge outer -> inner (5), lower edge outer -> inner (5)
    "left_brow": 10,  # the mirror image of the right brow, point for point
    "right_eye": 8,  # outer corner, upper lid outer -> inner (3), inner corner, lower lid inner -> outer (3)
    "left_eye": 8,  # the mirror image of the right eye, point for point
    "irises": 2,  # centres: right, left
    "nose_bridge": 6,  # from between the eyes down to the tip
    "nose_base": 7,  # right wing, right nostril (2), base below the septum, left nostril (2), left wing
    "outer_lips": 20,  # right corner, along the upper edge to the left corner (point 10), back along the lower edge
    "inner_lips": 20,  # the inner contour in the same order
}


def _slices() -> dict[str, slice]:
    ends = np.cumsum(list(_SIZES.values()))
    return {
        name: slice(int(end) - size, int(end)) for (name, size), end in zip(_SIZES.items(), ends, strict=True)
    }


GROUPS: Final[dict[str, slice]] = _slices()
POINTS: Final = tuple(f"{name}_{number}" for name, size in _SIZES.items() for number in range(size))

JAW: Final = GROUPS["jaw"]
RIGHT_BROW: Final = GROUPS["right_brow"]
LEFT_BROW: Final = GROUPS["left_brow"]
RIGHT_EYE: Final = GROUPS["right_eye"]
LEFT_EYE: Final = GROUPS["left_eye"]
RIGHT_IRIS: Final = GROUPS["irises"].start
LEFT_IRIS: Final = GROUPS["irises"].start + 1
NOSE_BRIDGE: Final = GROUPS["nose_bridge"]
NOSE_BASE: Final = GROUPS["nose_base"]
OUTER_LIPS: Final = GROUPS["outer_lips"]
INNER_LIPS: Final = GROUPS["inner_lips"]

CHIN: Final = JAW.start + 10
NOSE_TIP: Final = NOSE_BRIDGE.start + 5
NOSE_BOTTOM: Final = NOSE_BASE.start + 3
RIGHT_EYE_CORNERS: Final = (RIGHT_EYE.start, RIGHT_EYE.start + 4)
LEFT_EYE_CORNERS: Final = (LEFT_EYE.start, LEFT_EYE.start + 4)
RIGHT_MOUTH_CORNER: Final = OUTER_LIPS.start
LEFT_MOUTH_CORNER: Final = OUTER_LIPS.start + 10
# Upper and lower point of the inner lips that touch when the mouth is closed, right to left.
INNER_LIP_PAIRS: Final = tuple((INNER_LIPS.start + k, INNER_LIPS.start + 20 - k) for k in range(1, 10))


def _mirror() -> NDArray[np.intp]:
    order = np.arange(len(POINTS))
    for name in ("jaw", "nose_base"):
        order[GROUPS[name]] = order[GROUPS[name]][::-1]
    order[RIGHT_BROW], order[LEFT_BROW] = (
        np.arange(len(POINTS))[LEFT_BROW],
        np.arange(len(POINTS))[RIGHT_BROW],
    )
    order[RIGHT_EYE], order[LEFT_EYE] = np.arange(len(POINTS))[LEFT_EYE], np.arange(len(POINTS))[RIGHT_EYE]
    order[RIGHT_IRIS], order[LEFT_IRIS] = LEFT_IRIS, RIGHT_IRIS
    for lips in (OUTER_LIPS, INNER_LIPS):
        order[lips] = lips.start + (10 - np.arange(20)) % 20
    return order


MIRROR: Final = _mirror()
"""Mirroring a picture turns point ``i`` into point ``MIRROR[i]``; doing so twice changes nothing."""
