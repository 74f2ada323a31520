"""Align faces: the similarity transform from a face in a picture to an upright square, and back.

Training, evaluation, prediction and editing all use this module, so they see the same crops. Three anchors that
expressions hardly move (both eye centres and the base of the nose) are moved to fixed positions in a square by
rotation, uniform scale and translation.

A **matrix** here is [2, 3] and maps picture pixels (the centre of the top left pixel is (0, 0)) to *unit coordinates*
of the square: (0, 0) its top left corner, (1, 1) its bottom right. It does not depend on the size of the crop, so the
same matrix is used for a 112 px and a 64 px network.
"""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mien.errors import MienError
from mien.landmarks import LEFT_EYE_CORNERS, NOSE_BOTTOM, RIGHT_EYE_CORNERS

Matrix = NDArray[np.float64]
"""[2, 3]: picture pixels to unit coordinates."""

TEMPLATE: Final[NDArray[np.float64]] = np.array([[0.33, 0.38], [0.67, 0.38], [0.50, 0.625]])
"""Positions of the anchors: the subject's right eye centre (image left), left eye centre, nose base.

Our choice: eyes 0.34 of the side apart leave room for raised brows above and a dropped chin below.
"""
TEMPLATE.setflags(write=False)

MAX_SAMPLES: Final = 6
"""Largest number of samples per crop pixel in each direction; more would bring no visible anti-aliasing."""


class DegenerateFace(MienError, ValueError):
    """Anchors that do not determine a similarity: they coincide, are not finite, or form a mirrored face."""


def face_anchors(points: ArrayLike) -> NDArray[np.float64]:
    """The three anchors [..., 3, 2], in the order of `TEMPLATE`, of facial points [..., 112, 2] in pixels.

    An eye's centre is the mean of its corners: unlike the iris or the lids they do not move with gaze or blinks.
    """
    values = np.asarray(points, dtype=np.float64)
    right = values[..., list(RIGHT_EYE_CORNERS), :].mean(axis=-2)
    left = values[..., list(LEFT_EYE_CORNERS), :].mean(axis=-2)
    return np.stack([right, left, values[..., NOSE_BOTTOM, :]], axis=-2)


def face_matrix(points: ArrayLike, template: ArrayLike = TEMPLATE) -> Matrix:
    """The matrix that aligns one face by its facial points [112, 2] in pixels.

    Raises:
        DegenerateFace: as `fit` raises it.
    """
    matrix: Matrix = fit(face_anchors(points)[None], template)[0]
    return matrix


ANGLE_STEP = 0.125
"""Degrees to which the angle of a crop is rounded, see `settled`."""


def fit(anchors: ArrayLike, template: ArrayLike = TEMPLATE) -> NDArray[np.float64]:
    """The similarity that brings each face's anchors closest to the template, in the least squares sense.

    The closed form of Umeyama (1991) in two dimensions: with points as complex numbers, `w = a z + b` has the solution
    `a = <z, w> / <z, z>` about the centroids. A reflection cannot be expressed, so none is ever returned.

    Args:
        anchors: [n, k, 2], pixels; k >= 2 points in the order of the template.
        template: [k, 2], unit coordinates.

    Returns:
        [n, 2, 3] matrices from picture pixels to unit coordinates.

    Raises:
        DegenerateFace: the anchors of some face are not finite, coincide (spread under a thousandth of a pixel), or
            are a mirror image of the template, which no rotation brings into place.
    """
    pixels = np.asarray(anchors, dtype=np.float64)
    target = np.asarray(template, dtype=np.float64)
    if pixels.ndim != 3 or pixels.shape[1:] != target.shape:
        raise DegenerateFace(f"anchors of shape {pixels.shape}: they must be [n, {target.shape[0]}, 2]")
    finite = np.asarray(np.isfinite(pixels).all(axis=(1, 2)))
    pixels = np.where(finite[:, None, None], pixels, 0)
    z = pixels[..., 0] + 1j * pixels[..., 1]
    w = target[:, 0] + 1j * target[:, 1]
    centre, goal = z.mean(axis=1), w.mean()
    z = z - centre[:, None]
    w = w - goal
    spread = (z.real**2 + z.imag**2).sum(axis=1)
    sound = finite & (spread > 1e-6)
    a = (z.conj() * w).sum(axis=1) / np.where(sound, spread, 1)
    # How much of the anchors' spread the similarity explains: 1 is a perfect fit, and a mirrored face is far below.
    explained = (abs(a) ** 2) * spread / (w.real**2 + w.imag**2).sum()
    sound &= explained > 0.2
    if not sound.all():
        face = int(np.flatnonzero(~sound)[0])
        raise DegenerateFace(
            f"face {face}: its eyes and nose base coincide, are mirrored or are not finite: "
            "drop it, or check the order of the points"
        )
    b = goal - a * centre
    return np.stack(
        [np.stack([a.real, -a.imag, b.real], axis=1), np.stack([a.imag, a.real, b.imag], axis=1)], axis=1
    )


def apply(matrix: ArrayLike, points: ArrayLike) -> NDArray[np.float64]:
    """Map points [..., 2] by a matrix [2, 3]."""
    linear = np.asarray(matrix, dtype=np.float64)
    return np.asarray(np.asarray(points, dtype=np.float64) @ linear[:, :2].T + linear[:, 2])


def invert(matrix: ArrayLike) -> Matrix:
    """The matrix [2, 3] that undoes `matrix`: from unit coordinates to picture pixels.

    Raises:
        DegenerateFace: it maps everything to one point or line.
    """
    linear = np.asarray(matrix, dtype=np.float64)
    (a, b, c), (d, e, f) = linear
    determinant = a * e - b * d
    if not np.isfinite(determinant) or determinant == 0:
        raise DegenerateFace("this matrix cannot be inverted: fit it to valid anchors first")
    inverse: Matrix = np.array([[e, -b, b * f - e * c], [-d, a, d * c - a * f]]) / determinant
    return inverse


def to_pixels(matrix: ArrayLike, size: int) -> Matrix:
    """The matrix from picture pixels to *pixels of a crop* of this size (centre of its top left pixel at (0, 0))."""
    warp: Matrix = np.asarray(matrix, dtype=np.float64) * size
    warp[:, 2] -= 0.5
    return warp


def scale_of(matrix: ArrayLike) -> float:
    """Unit lengths per picture pixel; times the crop's size this is the magnification of a crop."""
    linear = np.asarray(matrix, dtype=np.float64)
    return float(np.hypot(linear[0, 0], linear[1, 0]))


def settled(matrix: ArrayLike, size: int) -> Matrix:
    """The matrix [2, 3] of a square of `size` pixels, rounded in its place, so that no crop depends on kernels.

    Points from a network in floating point differ by about 1e-5 pixels between processors. A warp rounds places to a
    32nd of a pixel, so without this some pixels of the crop would differ too, and an int8 network amplifies that. See
    `grid` for the steps; a value that lies between two of them is still rounded either way, rarely.
    """
    (a, _, _), (b, _, _) = np.asarray(matrix, dtype=np.float64)
    side = 1 / scale_of(matrix)
    step = grid(side / size)
    angle = np.radians(round(float(np.degrees(np.arctan2(b, a))) / ANGLE_STEP) * ANGLE_STEP)
    side = round(side / step) * step
    x, y = np.round(apply(invert(matrix), [0.5, 0.5]) / step) * step
    cosine, sine = np.cos(angle) / side, np.sin(angle) / side
    return np.array(
        [[cosine, -sine, 0.5 - cosine * x + sine * y], [sine, cosine, 0.5 - sine * x - cosine * y]]
    )


def grid(pixel: float) -> float:
    """The step, in pixels of the picture, to which places and sides of a crop are rounded: a power of two, between a
    16th and an eighth of one of the crop's pixels, which are `pixel` pixels of the picture wide (our choice)."""
    return float(2.0 ** np.floor(np.log2(pixel / 8)))


def crop(image: NDArray[np.uint8], matrix: ArrayLike, size: int, grey: bool = False) -> NDArray[np.uint8]:
    """Cut an aligned square out of a picture.

    Faces larger than the crop are anti-aliased: several bilinear samples are averaged for each pixel when
    the magnification is below a half. Outside the picture its border pixels are repeated.

    Args:
        image: [height, width, 3] RGB uint8 (or [height, width]).
        matrix: [2, 3] from `fit`.
        size: side of the square, pixels.
        grey: return luma (0.299 R + 0.587 G + 0.114 B) instead of colour.

    Returns:
        uint8 [size, size, 3], or [size, size] for grey.
    """
    magnification = scale_of(matrix) * size
    samples = min(MAX_SAMPLES, max(1, int(np.ceil(0.5 / magnification)))) if magnification < 0.5 else 1
    region, warp = _region(image, to_pixels(matrix, size * samples), size * samples)
    square: Any = cv2.warpAffine(
        region,
        warp,
        (size * samples, size * samples),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if samples > 1:
        square = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
    if grey and square.ndim == 3:
        square = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)
    return np.asarray(square, dtype=np.uint8)


def face_crop(image: NDArray[np.uint8], matrix: ArrayLike, size: int) -> NDArray[np.uint8]:
    """What the recogniser and the action reader see of a face: `crop` as luma [size, size], its place `settled`.

    Args:
        image: [height, width, 3] RGB uint8.
        matrix: [2, 3] from `face_matrix`.
        size: side of the recogniser's input, pixels.
    """
    return crop(image, settled(matrix, size), size, grey=True)


def feather(size: int, margin: float = 10 / 64) -> NDArray[np.float32]:
    """A mask [size, size]: 1 inside, falling smoothly to 0 at the rim over `margin` of the side."""
    position = (np.arange(size) + 0.5) / size
    rise = np.clip(np.minimum(position, 1 - position) / margin - 0.5 / (size * margin), 0, 1)
    ramp = rise * rise * (3 - 2 * rise)
    return np.outer(ramp, ramp).astype(np.float32)


def _bounds(warp: Matrix, size: int, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the picture's pixels that a crop of this size touches, clipped to the picture."""
    corners = np.array([[-1, -1], [size, -1], [-1, size], [size, size]])
    spots = apply(invert(warp), corners)
    (left, top), (right, bottom) = np.floor(spots.min(axis=0)) - 1, np.ceil(spots.max(axis=0)) + 2
    height, width = shape[:2]
    return (
        int(np.clip(left, 0, width)),
        int(np.clip(top, 0, height)),
        int(np.clip(right, 0, width)),
        int(np.clip(bottom, 0, height)),
    )


def _shifted(warp: Matrix, left: int, top: int) -> Matrix:
    """The same warp from the coordinates of a region with its top left pixel at (left, top)."""
    moved = warp.copy()
    moved[:, 2] += warp[:, :2] @ (left, top)
    return moved


def _region(image: NDArray[np.uint8], warp: Matrix, size: int) -> tuple[NDArray[np.uint8], Matrix]:
    """The picture, or if it is too large for OpenCV to warp (32,767 px), the part of it that the warp touches."""
    height, width = image.shape[:2]
    if max(height, width) < 32_000:
        return image, warp
    left, top, right, bottom = _bounds(warp, size, image.shape)
    left, top = min(left, width - 1), min(top, height - 1)
    return image[top : max(bottom, top + 1), left : max(right, left + 1)], _shifted(warp, left, top)
