"""Refine the contour of the inner lips in the full-resolution photo.

A landmark network that sees a whole face in a few dozen pixels locates the mouth well, but cannot measure a small lip
gap, which the editor needs. Here the photo is sampled along nine lines across the mouth. Teeth are far less red than
lips, an open mouth without teeth is a wide dark band, and between closed lips there is one thin dark line. The points
of the inner lips are set accordingly; all others are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from mien.editing.geometry import FaceFrame, lip_gap
from mien.editing.warp import look_up
from mien.landmarks import INNER_LIP_PAIRS, OUTER_LIPS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mien.io.images import Rgb

    Array = NDArray[np.float64]

SMALLEST = 50.0
"""Least eye distance in pixels; below it the lips are too small to measure."""
WIDE = 0.1
"""Lip gap in eye distances from which the network is trusted although the photo shows neither teeth nor a dark band."""
_ROWS = 57
_BEYOND = 0.2
"""Share of the lips' height by which a line extends beyond the points of the outer lips, which are inexact."""
_PAIRS = len(INNER_LIP_PAIRS)
_MIDDLE = slice(2, _PAIRS - 2)


def refine(rgb: Rgb, points: Array) -> tuple[Array, Literal["closed", "open", "unseen"]]:
    """Landmarks [P, 2] in pixels with refined inner lips, and their state.

    Lips too small to measure are returned unchanged ("unseen").
    """
    frame = FaceFrame.of(points)
    if frame.unit < SMALLEST:
        return points, "unseen"
    lines = _lines(points)
    colour = _read(rgb, lines, frame.unit)
    between = interior(colour)
    if between is None:
        if lip_gap(frame.to_canonical(points)) > WIDE:
            return points, "open"
        rows = seam(colour[..., 0])
        between = rows, rows
        seen: Literal["closed", "open"] = "closed"
    else:
        # The wider of the network's and the photo's opening, as a rim of teeth left on a lip looks worst.
        network = [
            np.array([_row_of(points[pair[side]], line) for pair, line in _each(lines)]) for side in (0, 1)
        ]
        between = np.minimum(between[0], network[0]), np.maximum(between[1], network[1])
        seen = "open"
    moved = points.copy()
    for column, (pair, line) in enumerate(_each(lines)):
        for index, rows in zip(pair, between, strict=True):
            moved[index] = line[0] + rows[column] / (_ROWS - 1) * (line[-1] - line[0])
    return moved, seen


def _each(lines: Array) -> list[tuple[tuple[int, int], Array]]:
    """Each pair of inner-lip points (upper, lower) with its line."""
    return list(zip(INNER_LIP_PAIRS, lines, strict=True))


def _row_of(point: Array, line: Array) -> float:
    """Where along a line [_ROWS, 2] a point lies, in rows."""
    along = line[-1] - line[0]
    return float((point - line[0]) @ along / max(float(along @ along), 1e-9)) * (_ROWS - 1)


def _lines(points: Array) -> Array:
    """Nine lines [9, _ROWS, 2] across the mouth, right to left, each from above the upper to below the lower lip."""
    share = np.linspace(-_BEYOND, 1 + _BEYOND, _ROWS)[:, None]
    lines = []
    for column in range(_PAIRS):
        top, bottom = points[OUTER_LIPS.start + 1 + column], points[OUTER_LIPS.start + 19 - column]
        lines.append(top + share * (bottom - top))
    return np.stack(lines)


def _read(rgb: Rgb, lines: Array, unit: float) -> NDArray[np.float32]:
    """CIELAB colours [9, _ROWS, 3] along the lines, smoothed by 1 % of the eye distance."""
    margin = int(0.05 * unit) + 3
    height, width = rgb.shape[:2]
    low = (np.floor(lines.min(axis=(0, 1))).astype(int) - margin).clip(0, [width - 2, height - 2])
    high = (np.ceil(lines.max(axis=(0, 1))).astype(int) + margin).clip(low + 2, [width, height])
    part = rgb[low[1] : high[1], low[0] : high[0]]
    lab = cv2.cvtColor(part.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab = np.asarray(cv2.GaussianBlur(lab, (0, 0), max(0.01 * unit, 0.5)))
    return np.asarray(look_up(lab, (lines - low).astype(np.float32), cv2.INTER_LINEAR), np.float32)


def interior(colour: NDArray[np.float32]) -> tuple[Array, Array] | None:
    """First and last row ([9] each) of the mouth interior; None for closed lips.

    `colour` [9, rows, 3] is CIELAB along the lines.
    """
    light, red = colour[..., 0], colour[..., 1]
    rows = colour.shape[1]
    redness = float(np.percentile(red, 80))
    lips = float(np.median(light[_MIDDLE, rows // 4 : -rows // 4]))
    teeth = (red < 0.5 * redness) & (light > lips + 1)
    # Pale skin is no redder than teeth, but it is not between the lips.
    teeth[:, : rows // 6] = teeth[:, -rows // 5 :] = False
    dark = light < 0.45 * lips
    seen = teeth | dark
    least = max(3, round(0.1 * rows))
    runs = [_longest_run(column) for column in seen]
    wide = [last - first + 1 >= least for first, last in runs]
    if sum(wide[_MIDDLE]) < 3:
        return None
    centre = np.arange(_PAIRS)
    known = np.flatnonzero(wide)
    first = np.interp(centre, known, [runs[n][0] for n in known])
    last = np.interp(centre, known, [runs[n][1] for n in known])
    # Beyond the outermost line that shows an opening the lips approach each other towards the corner.
    middle = (first + last) / 2
    for column in centre:
        outside = max(known[0] - column, column - known[-1], 0)
        narrow = 1 - outside / (min(known[0], _PAIRS - 1 - known[-1]) + 2) if outside else 1.0
        first[column] = middle[column] + narrow * (first[column] - middle[column])
        last[column] = middle[column] + narrow * (last[column] - middle[column])
    return _smooth(first), _smooth(last)


def _longest_run(seen: NDArray[np.bool_]) -> tuple[int, int]:
    """First and last index of the longest run of True, bridging gaps of two; (0, -1) where there is none."""
    best, first, last = (0, -1), None, -9
    for index in np.flatnonzero(seen):
        if first is None or index - last > 3:
            first = int(index)
        last = int(index)
        if last - first > best[1] - best[0]:
            best = (first, last)
    return best


def seam(lightness: NDArray[np.float32]) -> Array:
    """The row [9] of the darkest smooth path across the lines [9, rows], by dynamic programming."""
    count = lightness.shape[1]
    rows = np.arange(count)
    # The line between the lips is near the middle; moustaches and the shadow under the lip are not.
    aside = np.abs(rows - (count - 1) / 2) / (count / 2)
    cost = lightness - lightness.mean(axis=1, keepdims=True) + 60 * aside**4
    step = 0.5 * (rows[:, None] - rows[None]) ** 2
    total, came = cost[0], []
    for column in cost[1:]:
        ways = total[None] + step
        came.append(ways.argmin(axis=1))
        total = ways.min(axis=1) + column
    path = [int(total.argmin())]
    for back in reversed(came):
        path.append(int(back[path[-1]]))
    return _smooth(np.array(path[::-1], np.float64))


def _smooth(rows: Array) -> Array:
    return np.asarray(np.convolve(np.pad(rows, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid"))
