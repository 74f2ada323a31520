"""Measure how an edit stretches the irises: height over width, by registering each eye with that of the photo.

The measure takes no part in editing: it sees the two pictures and the landmarks found in each, and looks for the affine
map between the two eyes with the highest correlation (Evangelidis and Psarakis 2008, `cv2.findTransformECC`) over the
part of the iris that is visible in both. An iris is round, so its height over width in the edit is the map's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from mien.editing.geometry import FaceFrame
from mien.editing.warp import look_up
from mien.io.images import LUMA
from mien.landmarks import LEFT_EYE, LEFT_IRIS, RIGHT_EYE, RIGHT_IRIS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mien.io.images import Rgb

    Array = NDArray[np.float64]

REACH: Final = 0.125
"""Half the side of the square about an iris that is registered, in eye distances; an iris has a radius of 0.093."""
_SIDE: Final = 65
_LASHES: Final = 7
"""Pixels of that square by which the area between the lids is made smaller, as lids are found inexactly."""
_LEAST: Final = 0.15
"""Least share of that square that is visible between the lids in both pictures."""
_ALIKE: Final = 0.85
"""Least correlation of a registration that counts."""


def iris_ratios(before: Rgb, after: Rgb, points: Array, points_after: Array) -> list[float]:
    """Height over width of each iris in `after`, relative to `before`, two pictures of the same size in which the face
    has the landmarks `points` and `points_after` [P, 2]; nan where too little of an iris is visible."""
    frame = FaceFrame.of(points)
    lumas = [np.asarray(rgb @ LUMA, np.float32) for rgb in (before, after)]
    return [
        _ratio(lumas, frame, points[iris], (points[lids], points_after[lids]))
        for iris, lids in ((RIGHT_IRIS, RIGHT_EYE), (LEFT_IRIS, LEFT_EYE))
    ]


def _ratio(
    lumas: list[NDArray[np.float32]], frame: FaceFrame, centre: Array, lids: tuple[Array, Array]
) -> float:
    middle = frame.to_canonical(centre)
    steps = np.linspace(-REACH, REACH, _SIDE)
    places = frame.to_picture(middle + np.stack(np.meshgrid(steps, steps), axis=-1)).astype(np.float32)
    first, second = (np.asarray(look_up(luma, places, cv2.INTER_CUBIC), np.float32) for luma in lumas)
    seen = [_between(frame.to_canonical(outline) - middle) for outline in lids]
    visible = seen[0] & seen[1]
    if visible.mean() < _LEAST:
        return float("nan")
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 200, 1e-6)
    start = np.eye(2, 3, dtype=np.float32)
    try:
        alike, matrix = cv2.findTransformECC(
            second, first, start, cv2.MOTION_AFFINE, stop, visible.astype(np.uint8), 3
        )
    except cv2.error:  # it does not converge
        return float("nan")
    # From the edit's square to the photo's.
    linear = np.asarray(matrix, np.float64)[:, :2]
    if alike < _ALIKE or np.linalg.det(linear) <= 0.1:
        return float("nan")
    fitted = np.linalg.inv(linear)
    return float(np.hypot(*fitted[:, 1]) / np.hypot(*fitted[:, 0]))


def _between(outline: Array) -> NDArray[np.bool_]:
    """Which pixels of the square [_SIDE, _SIDE] lie well between the lids `outline` [8, 2], given in eye distances from
    the middle of the square."""
    mask = np.zeros((_SIDE, _SIDE), np.uint8)
    corners = (outline / REACH + 1) / 2 * (_SIDE - 1)
    cv2.fillPoly(mask, [np.rint(corners * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    return np.asarray(cv2.erode(mask, np.ones((_LASHES, _LASHES), np.uint8)) > 0)
