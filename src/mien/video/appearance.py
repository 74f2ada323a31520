"""Appearance descriptors of people within one video: texture of the face, colours of skin and hair.

The recogniser's embedding describes the expression, so it does not separate people (measured in `docs/video.md`).
Texture and colour stay the same from shot to shot of one video, and classical descriptors measure them: histograms of
local binary patterns (Ojala et al. 2002; of faces, Ahonen et al. 2006) in cells of the aligned face, and smoothed
histograms of chroma in the face and in the hair above it. They are compared by the Bhattacharyya coefficient, the inner
product of their square roots: 1 means equal.

This is not face recognition and must not be used as such: it fails on other photographs of the same people, by design.
A person's number has no meaning outside the video, and no descriptor is written to a file.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.faces import align
from mien.types import Landmarks

Look = NDArray[np.float32]
"""A vector of length 1; the inner product of two is their similarity, 0 to 1."""

_SIDE: Final = 74  # pixels of the aligned face: 72 patterns per side, in cells of 12
_CELLS: Final = 6
_HAIR: Final = (0.15, -0.4, 0.7, 0.4)
"""Left, top, width, height of the hair region, in the unit coordinates of `mien.faces.align`."""

_RING: Final = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


def _uniform() -> NDArray[np.uint8]:
    """Pattern to bin: one each for the 58 patterns with at most two changes around the ring, one for all others."""
    bins = np.full(256, 58, dtype=np.uint8)
    kept = [
        code
        for code in range(256)
        if sum((code >> k & 1) != (code >> (k + 1) % 8 & 1) for k in range(8)) <= 2
    ]
    bins[kept] = np.arange(len(kept))
    return bins


_UNIFORM: Final = _uniform()


def look(rgb: NDArray[np.uint8], landmarks: Landmarks) -> Look:
    """Describe a face with known landmarks, in RGB uint8 [height, width, 3].

    Raises:
        DegenerateFace: the points do not form a face.
    """
    matrix = align.face_matrix(landmarks.points)
    face = align.crop(rgb, matrix, _SIDE)
    left, top, width, height = _HAIR
    above = matrix.copy()
    above[:, 2] -= (left, top)
    above /= width  # a square as wide as the hair region, of which only the upper part is used
    hair = align.crop(rgb, above, 32)[: round(32 * height / width)]
    parts = _texture(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY)), _chroma(face), _chroma(hair)
    return np.concatenate(parts).astype(np.float32) / np.float32(np.sqrt(len(parts)))


def _texture(grey: NDArray[np.uint8] | cv2.typing.MatLike) -> NDArray[np.float64]:
    """Square roots of the shares of local binary patterns in each cell; a vector of length 1."""
    inner = grey[1:-1, 1:-1]
    codes = np.zeros(inner.shape, dtype=np.uint8)
    for bit, (down, right) in enumerate(_RING):
        codes |= (grey[1 + down : _SIDE - 1 + down, 1 + right : _SIDE - 1 + right] >= inner).astype(
            np.uint8
        ) << bit
    side = (_SIDE - 2) // _CELLS
    cells = (
        _UNIFORM[codes].reshape(_CELLS, side, _CELLS, side).transpose(0, 2, 1, 3).reshape(_CELLS**2, side**2)
    )
    counts = np.stack([np.bincount(cell, minlength=59) for cell in cells])
    return np.asarray(np.sqrt(counts / counts.sum())).ravel()


def _chroma(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Square roots of the shares of smoothed chroma (a, b of CIELAB), independent of brightness; a vector of length
    1."""
    lab = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2LAB)
    counts = cv2.calcHist([lab], [1, 2], None, [32, 32], [96, 192, 96, 192])
    counts = cv2.GaussianBlur(counts, (0, 0), 1.2)
    total = counts.sum()
    if total <= 0:  # colours outside those of skin and hair, as in false-colour pictures
        return np.full(counts.size, 1 / np.sqrt(counts.size))
    return np.asarray(np.sqrt(counts / total), dtype=np.float64).ravel()
