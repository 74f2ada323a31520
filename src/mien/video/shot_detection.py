"""Where one shot ends and the next begins: a hard cut, seen in thumbnails of the frames.

A cut is not announced to anyone: after it nothing is where it was, so faces must be found anew and recognised by how
they look. Two frames belong together when the fine structure of one is found again in the other, in place (light may
change: a flash, a fade) or moved (a pan, a shaken hand). Brightness and colours do not count, so cuts in dark scenes
and between scenes of the same colours are seen. Black and white frames are passed over: the frame after them is
compared with the frame before.

Dissolves and fades are no cuts here: they lose the faces and find them again.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Thumbnail = NDArray[np.float32]

_SIZE: Final = (64, 36)
"""Thumbnail, width and height: small enough that noise and moving lips hardly change it."""
_FINE: Final = 3.0
"""Standard deviation, in pixels of the thumbnail, of the blur that is taken away from it: what is left is structure."""
_PARTS: Final = ((6, 30, 12, 52), (5, 31, 0, 36), (5, 31, 28, 64))
"""Parts of a thumbnail (top, bottom, left, right) that are looked for in the next one: its middle, left and right."""

# The limits were chosen on clips made as those of tests/video/test_shot_detection.py are, of other pictures.
_IN_PLACE: Final = 0.42
"""Correlation of the structure in place from which on two frames are one shot."""
_MOVED: Final = 0.8
"""The same for the best match of a part that has moved."""
_DETAIL: Final = (256, 144)
"""Width and height at which corners are matched, where thumbnails leave a doubt."""
_AGREE: Final = 0.35
"""Share of the matched corners that move together (by a shift, a turn and a scale) from which on it is one shot."""
_LEAST: Final = 25
"""... if they are so many."""
_BLANK: Final = 2.0
"""Standard deviation of the thumbnail's 0 to 255 below which a frame shows nothing."""
_CHANGE: Final = 16.0
"""Mean change, of 255, between a frame that shows nothing (a wall) and another that makes a cut of it."""
_SOON: Final = 2
"""Frames after a cut in which another one is counted with it: a mixed or broken frame between two shots."""


class _FrameFeatures(NamedTuple):
    detail: NDArray[np.uint8]
    small: Thumbnail
    fine: Thumbnail
    spread: float

    @property
    def blank(self) -> bool:
        return self.spread < _BLANK

    @property
    def void(self) -> bool:
        """Black or white."""
        return self.blank and not 20 <= float(self.small.mean()) <= 235


class Shots:
    """Counts the cuts of a clip; feed it each frame in turn.

    Attributes:
        number: cuts so far.
        scene: cuts and other breaks so far, such as frames after black: whoever followed a face must look again.
    """

    def __init__(self) -> None:
        self.number = self.scene = 0
        self._before: list[_FrameFeatures] = []
        """The last two frames, newest first, black and white ones left out."""
        self._contrast = 0.0
        self._void = False
        self._since = _SOON

    def __call__(self, rgb: NDArray[np.uint8]) -> bool:
        """Whether a cut lies between this frame and the one before."""
        now = _features(rgb)
        self._since += 1
        if now.void:
            self._void = True
            return False
        cut, broken = self._compare(now)
        self._before = [now, *([] if cut else self._before[:1])]
        self._contrast = now.spread if cut else max(0.98 * self._contrast, now.spread)
        self._void = False
        self.scene += broken
        if cut and self._since > _SOON:
            self.number += 1
            self._since = 0
        return cut

    def _compare(self, now: _FrameFeatures) -> tuple[bool, bool]:
        """Whether there is a cut before `now`; and whether it continues nothing."""
        if not self._before:
            return False, False
        before = self._before[0]
        if now.blank or before.blank:
            # Out of next to nothing into next to nothing, a fade goes through it.
            sudden = abs(now.spread - before.spread) > 4 * _BLANK or (now.blank and before.blank)
            cut = sudden and float(np.abs(now.small - before.small).mean()) > _CHANGE
            return cut, cut
        likeness = _correlation(now.fine, before.fine)
        other = likeness < _IN_PLACE and not _continues(before, now)
        mixed = _IN_PLACE <= likeness < 0.85
        if mixed and len(self._before) > 1 and not self._before[1].blank:
            # Half of each of two shots is like both, which are not like one another.
            old = self._before[1]
            other = _correlation(now.fine, old.fine) < _IN_PLACE / 2 and not _continues(old, now)
        # What rises slowly out of black is a fade, and in what is almost gone there is but noise to compare.
        faded = self._void and now.spread < 0.5 * self._contrast
        faded |= max(now.spread, before.spread) < 0.3 * self._contrast
        return other and not faded, other or self._void


def _features(rgb: NDArray[np.uint8]) -> _FrameFeatures:
    step = max(1, min(rgb.shape[0] // _DETAIL[1], rgb.shape[1] // _DETAIL[0]))
    grey = cv2.cvtColor(np.ascontiguousarray(rgb[::step, ::step]), cv2.COLOR_RGB2GRAY)
    detail = cv2.resize(grey, _DETAIL, interpolation=cv2.INTER_AREA)
    small = cv2.resize(detail, _SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)
    held = np.minimum(small, 252)  # what a flash burns out has no structure
    fine = held - cv2.GaussianBlur(held, (0, 0), _FINE)
    return _FrameFeatures(
        np.asarray(detail, np.uint8), small, np.asarray(fine, np.float32), float(held.std())
    )


def _continues(before: _FrameFeatures, now: _FrameFeatures) -> bool:
    """Whether the picture has only moved."""
    return _moved(before.fine, now.fine) >= _MOVED or _turned(before.detail, now.detail)


def _correlation(one: Thumbnail, other: Thumbnail) -> float:
    one, other = one - one.mean(), other - other.mean()
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / size if size > 1e-3 else 0.0


def _moved(before: Thumbnail, now: Thumbnail) -> float:
    """How well a part of the frame before is found again, wherever it is now: at most 1."""
    best = 0.0
    for top, bottom, left, right in _PARTS:
        part = before[top:bottom, left:right]
        if part.std() > 0.3:  # else it is noise
            best = max(best, float(cv2.matchTemplate(now, part, cv2.TM_CCOEFF_NORMED).max()))
    return best


def _turned(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> bool:
    """Whether corners of two pictures that look alike also move together."""
    finder = cv2.ORB.create(400, fastThreshold=4, edgeThreshold=12, patchSize=21)
    places, codes = [], []
    for picture in (before, now):
        smooth = cv2.normalize(cv2.GaussianBlur(picture, (0, 0), 1), np.empty(0), 0, 255, cv2.NORM_MINMAX)
        corners, found = finder.detectAndCompute(smooth, np.empty(0))
        if found is None:
            return False
        places.append(np.array([corner.pt for corner in corners], np.float32))
        codes.append(found)
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(codes[0], codes[1])
    if len(pairs) < _LEAST:
        return False
    one = places[0][[pair.queryIdx for pair in pairs]]
    other = places[1][[pair.trainIdx for pair in pairs]]
    _, agree = cv2.estimateAffinePartial2D(one, other, ransacReprojThreshold=4)
    count = 0 if agree is None else int(agree.sum())
    return count >= max(_LEAST, _AGREE * len(pairs))
