"""Detect hard cuts between shots, from thumbnails of the frames.

After a cut faces must be detected and identified again. Two frames belong to one shot if the fine structure of one is
found in the other, in place (light may change: a flash, a fade) or moved (a pan, a hand-held camera). Brightness and
colours are ignored, so cuts in dark scenes and between scenes of the same colours are detected. Black and white frames
are skipped: the frame after them is compared with the frame before. Dissolves and fades are not cuts here: the faces
are lost and detected again.
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
"""Standard deviation, in pixels of the thumbnail, of the blur that is subtracted from it to leave the structure."""
_PARTS: Final = ((6, 30, 12, 52), (5, 31, 0, 36), (5, 31, 28, 64))
"""Parts of a thumbnail (top, bottom, left, right) that are searched for in the next one: its middle, left and right."""

# The limits were chosen on clips made as those of tests/video/test_shot_detection.py are, of other pictures.
_IN_PLACE: Final = 0.42
"""Least correlation of the structure, in place, of two frames of one shot."""
_MOVED: Final = 0.8
"""The same for the best match of a part that has moved."""
_DETAIL: Final = (256, 144)
"""Width and height at which corners are matched if thumbnails are inconclusive."""
_AGREE: Final = 0.35
"""Least share of the matched corners that move together (by a similarity transform) in one shot ..."""
_LEAST: Final = 25
"""... if there are at least this many."""
_BLANK: Final = 2.0
"""Standard deviation of the thumbnail, of 255, below which a frame is blank."""
_CHANGE: Final = 16.0
"""Least mean change, of 255, between a blank frame (a wall) and another for a cut."""
_SOON: Final = 2
"""Frames after a cut in which another one is not counted: a mixed or broken frame between two shots."""


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
        """Whether the frame is black or white."""
        return self.blank and not 20 <= float(self.small.mean()) <= 235


class Shots:
    """Counts the cuts of a video; call it with each frame in order.

    Attributes:
        number: cuts so far.
        scene: cuts and other breaks so far, such as frames after black: faces must be detected again.
    """

    def __init__(self) -> None:
        self.number = self.scene = 0
        self._before: list[_FrameFeatures] = []
        """The last two frames, newest first, without black and white ones."""
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
        """Whether there is a cut before `now`, and whether `now` continues no earlier frame."""
        if not self._before:
            return False, False
        before = self._before[0]
        if now.blank or before.blank:
            # Between two almost blank frames there may be a fade, which is no cut.
            sudden = abs(now.spread - before.spread) > 4 * _BLANK or (now.blank and before.blank)
            cut = sudden and float(np.abs(now.small - before.small).mean()) > _CHANGE
            return cut, cut
        likeness = _correlation(now.fine, before.fine)
        other = likeness < _IN_PLACE and not _continues(before, now)
        mixed = _IN_PLACE <= likeness < 0.85
        if mixed and len(self._before) > 1 and not self._before[1].blank:
            # A mix of two shots resembles both, but they do not resemble one another.
            old = self._before[1]
            other = _correlation(now.fine, old.fine) < _IN_PLACE / 2 and not _continues(old, now)
        # A slow rise from black is a fade, and almost black frames contain only noise.
        faded = self._void and now.spread < 0.5 * self._contrast
        faded |= max(now.spread, before.spread) < 0.3 * self._contrast
        return other and not faded, other or self._void


def _features(rgb: NDArray[np.uint8]) -> _FrameFeatures:
    step = max(1, min(rgb.shape[0] // _DETAIL[1], rgb.shape[1] // _DETAIL[0]))
    grey = cv2.cvtColor(np.ascontiguousarray(rgb[::step, ::step]), cv2.COLOR_RGB2GRAY)
    detail = cv2.resize(grey, _DETAIL, interpolation=cv2.INTER_AREA)
    small = cv2.resize(detail, _SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)
    held = np.minimum(small, 252)  # parts overexposed by a flash have no structure
    fine = held - cv2.GaussianBlur(held, (0, 0), _FINE)
    return _FrameFeatures(
        np.asarray(detail, np.uint8), small, np.asarray(fine, np.float32), float(held.std())
    )


def _continues(before: _FrameFeatures, now: _FrameFeatures) -> bool:
    """Whether the second frame is the first one, moved."""
    return _moved(before.fine, now.fine) >= _MOVED or _turned(before.detail, now.detail)


def _correlation(one: Thumbnail, other: Thumbnail) -> float:
    one, other = one - one.mean(), other - other.mean()
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / size if size > 1e-3 else 0.0


def _moved(before: Thumbnail, now: Thumbnail) -> float:
    """Best correlation of a part of the earlier frame anywhere in the later one, at most 1."""
    best = 0.0
    for top, bottom, left, right in _PARTS:
        part = before[top:bottom, left:right]
        if part.std() > 0.3:  # else it is noise
            best = max(best, float(cv2.matchTemplate(now, part, cv2.TM_CCOEFF_NORMED).max()))
    return best


def _turned(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> bool:
    """Whether the matched corners of two frames move together."""
    finder = cv2.ORB.create(400, fastThreshold=4, edgeThreshold=12, patchSize=21)
    places, codes = [], []
    for picture in (before, now):
        smooth = cv2.normalize(cv2.GaussianBlur(picture, (0, 0), 1), np.empty(0), 0, 255, cv2.NORM_MINMAX)
        corners, descriptors = finder.detectAndCompute(smooth, np.empty(0))
        if descriptors is None:
            return False
        places.append(np.array([corner.pt for corner in corners], np.float32))
        codes.append(descriptors)
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(codes[0], codes[1])
    if len(pairs) < _LEAST:
        return False
    before_points = places[0][[pair.queryIdx for pair in pairs]]
    now_points = places[1][[pair.trainIdx for pair in pairs]]
    _, agree = cv2.estimateAffinePartial2D(before_points, now_points, ransacReprojThreshold=4)
    count = 0 if agree is None else int(agree.sum())
    return count >= max(_LEAST, _AGREE * len(pairs))
