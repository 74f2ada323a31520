"""The detector's network: from a picture to scored boxes with five points and the quarter turn of the head.

The network has three output maps, of strides 8, 16 and 32 pixels, with 19 channels at each cell:

- 0: the score's logit;
- 1 to 4: logarithms of the distances from the cell's centre to the left, top, right and bottom edge, in strides;
- 5 to 14: five points (x, y), as offsets from the cell's centre in strides: the eye on the left and the eye on the
  right of the picture of the upright face, the tip of the nose, the left and the right corner of the mouth likewise;
- 15 to 18: logits of the roll of the head: upright, turned by 90, 180, 270 degrees clockwise.

Tests: tests/faces/test_detector_network.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]  # float32 or float64

STRIDES: Final = (8, 16, 32)
"""Pixels of a side of a cell, for each output map."""

CHANNELS: Final = 19
"""Channels of each output map."""

MULTIPLE: Final = 32
"""Both sides of the network's input are multiples of this; pictures are padded with `GREY` at the right and the
bottom."""

GREY: Final = 114

UNSURE: Final = 0.7
"""Detections with a lower score need a higher presence, see `mien.faces.pipeline.needed_presence`."""
OVERLAP: Final = 0.4
"""Largest intersection over union of two answers that are kept beside each other."""


class NetworkFaces(NamedTuple):
    """n faces, best first, in pixels of the network's input.

    Attributes:
        scores: [n] in 0..1.
        boxes: [n, 4], (left, top, right, bottom).
        points: [n, 5, 2].
        rolls: [n], 0, 90, 180 or 270 degrees clockwise.
    """

    scores: Floats
    boxes: Floats
    points: Floats
    rolls: Floats


def padded(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The network's input [1, h, w, 3] for a picture [height, width, 3]."""
    height, width = image.shape[:2]
    sides = [max(2 * MULTIPLE, -(-side // MULTIPLE) * MULTIPLE) for side in (height, width)]
    if sides == [height, width]:
        return image[None]
    whole = np.full((1, *sides, 3), GREY, np.uint8)
    whole[0, :height, :width] = image
    return whole


def decode(maps: Sequence[Floats], threshold: float) -> NetworkFaces:
    """The faces with a score above `threshold` in the output maps [19, h, w] of a picture; overlapping answers are
    merged into the best."""
    least = math.log(max(threshold, 1e-6) / max(1 - threshold, 1e-6))
    parts = []
    for stride, values in zip(STRIDES, maps, strict=True):
        rows, columns = np.nonzero(values[0] > least)
        if not len(rows):
            continue
        cells = values[:, rows, columns].T.astype(np.float64)
        centres = (np.stack([columns, rows], axis=1) + 0.5) * stride
        sides = stride * np.exp(np.minimum(cells[:, 1:5], 8.0))
        parts.append(
            (
                1 / (1 + np.exp(-cells[:, 0])),
                np.concatenate([centres - sides[:, :2], centres + sides[:, 2:]], axis=1),
                centres[:, None] + stride * cells[:, 5:15].reshape(-1, 5, 2),
                90.0 * cells[:, 15:].argmax(axis=1),
            )
        )
    if not parts:
        return NetworkFaces(np.empty(0), np.empty((0, 4)), np.empty((0, 5, 2)), np.empty(0))
    scores, boxes, points, rolls = (np.concatenate(part) for part in zip(*parts, strict=True))
    kept = _best(scores, boxes)
    return NetworkFaces(scores[kept], boxes[kept], points[kept], rolls[kept])


def _best(scores: Floats, boxes: Floats) -> NDArray[np.intp]:
    """The rows that stay when each answer removes the lower ones that overlap it."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    waiting = np.argsort(-scores, kind="stable")
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        low = np.maximum(boxes[waiting, :2], boxes[best, :2])
        high = np.minimum(boxes[waiting, 2:], boxes[best, 2:])
        common = np.clip(high - low, 0, None).prod(axis=1)
        waiting = waiting[common <= OVERLAP * (areas[waiting] + areas[best] - common)]
    return np.array(kept, np.intp)
