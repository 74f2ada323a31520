"""Tell whether something covers the eyes or the mouth of a located face, from the colours of its own skin.

Landmarks are found behind sunglasses, masks and hands too, where the network guesses. Signs in the photo do not
depend on it: behind dark glasses the skin under the eyes is much darker than the cheeks and no white of an eye is seen,
an eye behind a hand is even, and visible lips differ in colour from the skin around them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from mien.editing.geometry import FaceFrame
from mien.editing.mouth_interior import white_of
from mien.io.images import LUMA
from mien.landmarks import INNER_LIP_PAIRS, INNER_LIPS, LEFT_EYE, OUTER_LIPS, RIGHT_EYE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mien.io.images import Rgb

    Array = NDArray[np.float64]

UNDER: Final = 0.22
"""Distance from an eye down to the skin under it, in eye distances: within the lens of glasses."""
SHADED: Final = 0.55
"""Luma under both eyes, over that of the cheeks, below which something dark may cover them."""
NO_WHITE: Final = 0.75
"""Luma of the brightest part between the lids, over that of the cheeks, below which no white of an eye is visible."""
PLAIN: Final = 3.0
"""Least difference in CIELAB of visible lips from the skin around them and the line between them, in the light of
`SKIN`. Our choice: it is at least 4.2 on 85 London photos, neutral and smiling, and 8 on 65 DiffusionFER faces, and no
less than 3.7 with a third of their light; behind drawn masks it is below 2.4 on 116 faces, behind drawn fingers, which
have lines between them too, on 96 of 114."""
BLANK: Final = 0.1
"""Least standard deviation of the luma between the lids of an eye, over its mean. Our choice: it is at least 0.3 on 99
in 100 London photos and 0.127 on 99 in 100 press photographs; behind drawn fingers it is at most 0.05."""
SKIN: Final = 0.5
"""Luma in 0..1 that the skin around the lips is brought to before colours are compared, as dim light brings all colours
close to each other."""
_SMALLEST: Final = 40.0
"""Least eye distance in pixels at which lips are told from the skin around them, and eyes from a hand."""


def covered(rgb: Rgb, points: Array, eyes: bool = True) -> list[str]:
    """What seems covered of the face with landmarks [P, 2] in pixels, in words; empty if nothing does. Without `eyes`
    only the mouth is looked at."""
    found = []
    if eyes and eyes_are_dark(rgb, points):
        found.append("the eyes seem covered, as by sunglasses")
    elif eyes and FaceFrame.of(points).unit >= _SMALLEST and eye_contrast(rgb, points) < BLANK:
        found.append("an eye seems covered, as by a hand or hair")
    if FaceFrame.of(points).unit >= _SMALLEST and lip_contrast(rgb, points) < PLAIN:
        found.append("the mouth seems covered, as by a hand or a mask")
    return found


def eyes_are_dark(rgb: Rgb, points: Array) -> bool:
    """Whether something dark seems to cover both eyes of the face with landmarks [P, 2] in pixels."""
    frame = FaceFrame.of(points)
    shape = frame.to_canonical(points)
    lips = shape[OUTER_LIPS].mean(axis=0)
    eyes = [shape[group].mean(axis=0) for group in (RIGHT_EYE, LEFT_EYE)]
    cheeks = [_luma(rgb, frame, np.array([1.1 * eye[0], eye[1] + 0.55 * (lips[1] - eye[1])])) for eye in eyes]
    below = [_luma(rgb, frame, eye + np.array([0.0, UNDER])) for eye in eyes]
    if any(value is None for value in (*cheeks, *below)):
        return False
    light = float(np.mean(np.array(cheeks, float)))
    if max(np.array(below, float)) >= SHADED * light:
        return False
    white = white_of(rgb, points)
    return white is None or white < NO_WHITE * light


def _luma(rgb: Rgb, frame: FaceFrame, place: Array) -> float | None:
    """Median luma of a spot at a canonical place; None outside the photo."""
    x, y = np.rint(frame.to_picture(place)).astype(int)
    half = max(1, int(0.06 * frame.unit))
    if not (half <= x < rgb.shape[1] - half and half <= y < rgb.shape[0] - half):
        return None
    return float(np.median(rgb[y - half : y + half + 1, x - half : x + half + 1] @ LUMA))


def eye_contrast(rgb: Rgb, points: Array) -> float:
    """Standard deviation of the luma between the lids over its mean, of the eye in which it is less: iris, white and
    lashes differ, a finger or a lock of hair is even."""
    found = []
    for group in (RIGHT_EYE, LEFT_EYE):
        low = np.floor(points[group].min(axis=0)).astype(int).clip(0)
        high = np.ceil(points[group].max(axis=0)).astype(int).clip(low) + 1
        luma = rgb[low[1] : high[1], low[0] : high[0]] @ LUMA
        inside = np.zeros(luma.shape, np.uint8)
        cv2.fillPoly(inside, [np.rint(points[group] - low).astype(np.int32)], 1)
        seen = luma[inside > 0]
        found.append(float(seen.std() / max(float(seen.mean()), 1.0)) if len(seen) else np.inf)
    return min(found)


def lip_contrast(rgb: Rgb, points: Array) -> float:
    """Difference in CIELAB of the lips from the skin around them, or from the line between them if that is larger, in
    the light that gives that skin the luma `SKIN`: medians of places on contours between the edges of the lips, a sixth
    of the mouth's width outside them, and between the lips."""
    outer, inner = points[OUTER_LIPS], points[INNER_LIPS]
    away = outer - outer.mean(axis=0)
    width = float(np.linalg.norm(outer[10] - outer[0]))
    around = outer + away / np.linalg.norm(away, axis=1, keepdims=True).clip(1e-6) * width / 6
    between = (
        points[[pair[0] for pair in INNER_LIP_PAIRS]] + points[[pair[1] for pair in INNER_LIP_PAIRS]]
    ) / 2
    contours = ((outer + inner) / 2, around, between)
    colours = np.stack([_median_colour(rgb, contour) for contour in contours])
    light = SKIN / max(float(colours[1] @ LUMA), 1 / 255)
    shown = (light * colours).clip(0, 1).astype(np.float32)
    lips, skin, line = np.asarray(cv2.cvtColor(shown[None], cv2.COLOR_RGB2LAB)[0], np.float64)
    return float(max(np.linalg.norm(lips - skin), np.linalg.norm(lips - line)))


def _median_colour(rgb: Rgb, places: Array) -> Array:
    """Median RGB [3] in 0..1 at places [N, 2]."""
    rows, columns = np.rint(places[:, 1]).astype(int), np.rint(places[:, 0]).astype(int)
    spots = rgb[rows.clip(0, rgb.shape[0] - 1), columns.clip(0, rgb.shape[1] - 1)]
    return np.asarray(np.median(spots, axis=0) / 255, np.float64)
