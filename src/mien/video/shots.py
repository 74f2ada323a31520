"""Where one shot ends and the next begins: a hard cut, seen in thumbnails of the frames.

A cut is not announced to anyone: after it nothing is where it was, so faces must be found anew and recognised by how
they look. Taking a flash or a jolt for a cut costs one more detection, overlooking a cut would give one person's track
to another; the limits below lean to the former. Dissolves and fades are no cuts here: they lose the faces and find them
again.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

_SIZE: Final = (32, 18)
"""Thumbnail, width and height: small enough that moving heads hardly change it."""

CHANGE: Final = 24.0
"""Mean absolute change of a thumbnail's pixels, of 255, from which on two frames may be different shots."""

COMMON: Final = 0.75
"""... if also their colour histograms share less than this: a moving camera changes pixels, not the colours."""


class Shots:
    """Counts the cuts of a clip; feed it each frame in turn."""

    def __init__(self) -> None:
        self.number = 0
        self._before: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def __call__(self, rgb: NDArray[np.uint8]) -> bool:
        """Whether a cut lies between this frame and the one before."""
        step = max(1, min(rgb.shape[0] // (4 * _SIZE[1]), rgb.shape[1] // (4 * _SIZE[0])))
        small = cv2.resize(np.ascontiguousarray(rgb[::step, ::step]), _SIZE, interpolation=cv2.INTER_AREA)
        shares = cv2.calcHist([small], [0, 1, 2], None, [6, 6, 6], [0, 256] * 3) / (_SIZE[0] * _SIZE[1])
        now = small.astype(np.float32), np.asarray(shares, dtype=np.float32)
        before, self._before = self._before, now
        if before is None:
            return False
        change = float(np.abs(now[0] - before[0]).mean())
        common = float(np.minimum(now[1], before[1]).sum())
        cut = change > CHANGE and common < COMMON
        self.number += cut
        return cut
