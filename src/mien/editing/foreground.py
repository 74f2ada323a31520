"""What lies in front of the eyes and brows: glasses, and hair that hangs over them. It stays where it is.

Lids and brows move behind a frame or a strand of hair. So an edit is drawn on the photo without them (`removed`), with
skin continued from beside them, and they are laid over it again, unmoved (`laid_over`).

*Glasses* are told by a linear reader of histograms of gradients over both eyes, as a bridge and two rims have the same
shape on every face; what differs there from the skin beside it, and is neither brow nor eye, is frame or reflection.
*Hair* has not the colour of the cheeks and the nose, and hangs together with what lies above the brows.
`mien.training.editor.fit_glasses` makes the reader.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from mien.editing.geometry import FaceFrame
from mien.faces import align
from mien.io import cards
from mien.io.arrays import shaped, stored
from mien.io.images import LUMA
from mien.landmarks import JAW, LEFT_BROW, LEFT_EYE, RIGHT_BROW, RIGHT_EYE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mien.io.images import Rgb

    Array = NDArray[np.float64]
    Map = NDArray[np.float32]
    Mask = NDArray[np.bool_]
    Pixels = NDArray[Any]

STRIP: Final = (112, 64)
"""Width and height of the strip over both eyes from which glasses are told, in pixels."""
STRIP_UNIT: Final = 48
"""Its pixels for one eye distance."""
STRIP_TOP: Final = -0.5
"""Its upper edge, in canonical coordinates."""
FEATURES: Final = 13 * 7 * 36
_CORNER: Final = np.array([-1.2, -0.95])
"""Upper left corner of the raster on which all is found, in canonical coordinates."""
_BOTTOM: Final = 0.6
_UNIT: Final = 96
"""Cells of the raster for one eye distance."""
_LIGHT: Final = 128.0
"""Luma that the cheeks are brought to before colours are compared."""
_WIDE: Final = 0.24
"""Width of the window for the median that is the skin beside a rim, in eye distances: four times a thick rim."""
_LINE: Final = (7.0, 14.0)
"""Difference in CIELAB from the skin beside it at which a line may belong to glasses, and at which it surely does."""
_OWN_COLOUR: Final = 25.0
"""Difference from the usual colour of the rims, in bytes of CIELAB, within which they go on over brows and lashes."""
_LONG: Final = 0.2
"""Least extent of a part of glasses, in eye distances."""
_LASHES: Final = 0.06
"""Reach of the lashes around the lids, in eye distances."""
_SPREAD: Final = np.array([10.0, 5.0, 6.0])
"""Least standard deviation of skin, in CIELAB."""
_OTHER: Final = 3.0
"""Distance from the skin's colour, in standard deviations, from which a pixel may be hair."""
_STRAND: Final = 9.0
"""Difference in CIELAB of a strand from what is around it."""
_ALIKE: Final = 40.0
"""Difference from the usual colour of the hair, in bytes of CIELAB, within which a pixel of a brow may be hair."""
_SIDE: Final = 0.15
"""Distance within the sides of the face from which hair is looked for; further out is `mien.editing.face_mask`."""
_ABOVE: Final = 0.3
"""Height above the brows from which hair hangs down."""
_BESIDE: Final = 0.08
"""Height above a brow within which hair moves with it."""
_HANGS: Final = 0.06
"""Least share of a brow, its lid and what is just above that hair covers, for it to be told. Our choice."""
_AROUND: Final = 0.015
"""How far beyond its edge what lies in front is kept, in eye distances: edges are a little soft."""


@dataclass(frozen=True)
class Foreground:
    """What lies in front of the eyes of one face.

    Attributes:
        frame: of the face.
        share: [h, w] in 0..1, how far a cell of the raster belongs to it.
        skin: [h, w, 3] the raster with skin in its place, RGB in 0..255.
        kinds: what it is, in words: "glasses", "hair over an eye".
    """

    frame: FaceFrame
    share: Map
    skin: Rgb
    kinds: tuple[str, ...]

    @classmethod
    def of(cls, rgb: Rgb, points: Array, opaque: bool = False) -> Foreground | None:
        """What lies in front of the eyes of the face with landmarks [P, 2] in a photo [H, W, 3]; None if nothing does.
        `opaque`: the glasses are dark (`mien.editing.occlusion`), so the lenses belong to it."""
        frame = FaceFrame.of(points)
        shape = frame.to_canonical(points)
        raster = _raster(rgb, frame)
        lab = _lab(raster)
        kinds, front = [], np.zeros(raster.shape[:2], bool)
        if opaque or glasses_score(rgb, points) > 0:
            kinds.append("glasses")
            front |= _rims(lab, shape)
        if opaque:
            front |= _lenses(lab, shape)
        hair = _hair(lab, shape)
        if hair is not None:
            kinds.append("hair over an eye")
            front |= hair
        if not front.any():
            return None
        wide = _grown(front, _AROUND)
        skin = cv2.inpaint(raster, _grown(wide, _AROUND).astype(np.uint8), 3, cv2.INPAINT_TELEA)
        share = cv2.GaussianBlur(wide.astype(np.float32), (0, 0), 0.6 * _AROUND * _UNIT)
        return cls(frame, np.asarray(share, np.float32), np.asarray(skin, np.uint8), tuple(kinds))

    def removed(self, colour: Pixels) -> Pixels:
        """The photo [H, W, 3] (RGB, uint8 or uint16) with skin in its place."""
        part, share, box = self._over(colour)
        out = colour.copy()
        scale = np.iinfo(colour.dtype).max // 255
        skin = self._drawn(self.skin, box).astype(colour.dtype) * colour.dtype.type(scale)
        np.copyto(out[part], skin, where=share[..., None] > 0)
        return out

    def laid_over(self, edited: Pixels, bare: Pixels, colour: Pixels) -> Pixels:
        """An edit of `bare`, which `removed` made of a photo `colour`, with what lies in front again, in place. Where
        the edit changed nothing, it has the photo's own pixels."""
        part, share, _ = self._over(colour)
        new, own = edited[part], colour[part]
        mixed = new + share[..., None] * (own.astype(np.float32) - new)
        changed = (new != bare[part]).any(axis=2, keepdims=True)
        edited[part] = np.where(changed, np.rint(mixed).astype(colour.dtype), own)
        return edited

    def _over(self, colour: Pixels) -> tuple[tuple[slice, slice], Map, tuple[int, int, int, int]]:
        """Rows and columns of a photo that the raster covers, its share [h, w] there, and their box (left, top, width,
        height)."""
        size = np.array(self.share.shape[::-1]) / _UNIT
        corners = self.frame.to_picture(_CORNER + size * np.array([[0, 0], [1, 0], [0, 1], [1, 1]]))
        most = np.array(colour.shape[1::-1])
        low = np.floor(corners.min(axis=0)).clip(0, most).astype(int)
        high = np.ceil(corners.max(axis=0)).clip(low, most).astype(int)
        box = (int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
        share = np.asarray(self._drawn(self.share, box), np.float32)
        return (slice(low[1], high[1]), slice(low[0], high[0])), share, box

    def _drawn(self, raster: Pixels, box: tuple[int, int, int, int]) -> Pixels:
        """A raster [h, w(, C)] in the pixels of a box (left, top, width, height) of the photo, 0 outside it."""
        left, top, width, height = box
        if width < 1 or height < 1:
            return np.zeros((height, width, *raster.shape[2:]), raster.dtype)
        # From the photo's pixels to the raster's.
        turn = np.linalg.inv(self.frame.turn) * _UNIT
        shift = turn @ (np.array([left, top]) - self.frame.origin) - _CORNER * _UNIT - 0.5
        matrix = np.concatenate([turn, shift[:, None]], axis=1)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(raster, matrix, (width, height), flags=flags))


def strip(rgb: Rgb, points: Array) -> NDArray[np.uint8]:
    """The luma of a face around both eyes, `STRIP` pixels."""
    width, height = STRIP
    square = _square(
        rgb, FaceFrame.of(points), np.array([-width / STRIP_UNIT / 2, STRIP_TOP]), width, STRIP_UNIT
    )
    return np.asarray(cv2.cvtColor(square[:height], cv2.COLOR_RGB2GRAY))


def features(picture: NDArray[np.uint8]) -> Map:
    """Histograms of gradients [FEATURES] of a strip: 9 directions in cells of 8 pixels, equalised over 2 x 2 cells."""
    reader = cv2.HOGDescriptor(STRIP, (16, 16), (8, 8), (8, 8), 9)
    return np.asarray(reader.compute(picture), np.float32).ravel()


def glasses_score(rgb: Rgb, points: Array) -> float:
    """Above 0 where the face with landmarks [P, 2] in a photo [H, W, 3] seems to wear glasses."""
    weights, bias = _reader()
    return float(weights @ features(strip(rgb, points)) + bias)


@lru_cache(maxsize=1)
def _reader() -> tuple[Array, float]:
    found = shaped(
        stored(cards.FOLDER / "editor" / "glasses.npz"),
        {"weights": (FEATURES,), "bias": ()},
        "the reader of glasses",
        "mien.training.editor.fit_glasses",
    )
    return found["weights"], float(found["bias"])


def _square(rgb: Rgb, frame: FaceFrame, corner: Array, side: int, unit: int) -> Rgb:
    """A square of the canonical frame with `side` pixels, `unit` of them for one eye distance."""
    inverse = np.linalg.inv(frame.turn)
    matrix = np.concatenate([inverse, (-inverse @ frame.origin - corner)[:, None]], axis=1) * unit / side
    return align.crop(rgb, matrix, side)


def _raster(rgb: Rgb, frame: FaceFrame) -> Rgb:
    side = round(-2 * float(_CORNER[0]) * _UNIT)
    return np.ascontiguousarray(
        _square(rgb, frame, _CORNER, side, _UNIT)[: round((_BOTTOM - float(_CORNER[1])) * _UNIT)]
    )


def _lab(raster: Rgb) -> NDArray[np.uint8]:
    """Bytes of CIELAB in a usual light."""
    cheeks = raster[-_UNIT // 5 :, raster.shape[1] // 4 : -raster.shape[1] // 4]
    light = _LIGHT / max(float(np.median(cheeks @ LUMA)), 8.0)
    return np.asarray(cv2.cvtColor(cv2.convertScaleAbs(raster, alpha=light), cv2.COLOR_RGB2LAB))


def _cells(points: Array) -> NDArray[np.int32]:
    """Canonical points [N, 2] in sixteenths of the raster's cells."""
    return np.asarray(np.rint(((points - _CORNER) * _UNIT - 0.5) * 16), np.int32)


def _hull(points: Array) -> Array:
    return np.asarray(cv2.convexHull(points.astype(np.float32))[:, 0], np.float64)


def _filled(polygons: list[Array], size: tuple[int, int], reach: float = 0.0) -> Mask:
    """The inside of polygons [N, 2] on the raster, grown by `reach` eye distances."""
    mask = np.zeros(size, np.uint8)
    for polygon in polygons:
        cv2.fillPoly(mask, [_cells(polygon)], 1, cv2.LINE_8, 4)
    return _grown(mask > 0, reach)


def _grown(mask: Mask, reach: float) -> Mask:
    radius = round(reach * _UNIT)
    if radius < 1:
        return mask
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disc) > 0)


def _own(shape: Array, size: tuple[int, int]) -> Mask:
    """Brows and eyes with their lashes, which are not skin either."""
    brows = [_hull(shape[brow]) for brow in (RIGHT_BROW, LEFT_BROW)]
    eyes = [shape[eye] for eye in (RIGHT_EYE, LEFT_EYE)]
    return _filled(brows, size, 0.02) | _filled(eyes, size, _LASHES)


def _rims(lab: NDArray[np.uint8], shape: Array) -> Mask:
    """The frame of glasses and reflections on them."""
    size = lab.shape[:2]
    line = _lines(lab)
    heights = _CORNER[1] + (np.arange(size[0]) + 0.5) / _UNIT
    own = _own(shape, size)
    near = ((heights > -0.45) & (heights < 0.5))[:, None] & ~own
    _, parts, stats, _ = cv2.connectedComponentsWithStats(((line > _LINE[0]) & near).astype(np.uint8))
    extent = stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(axis=1) >= _LONG * _UNIT
    sure = np.zeros(len(stats), bool)
    sure[np.unique(parts[(line > _LINE[1]) & near])] = True
    chosen = extent & sure
    chosen[0] = False
    rims = chosen[parts]
    # A rim goes on, in its own colour, in front of brows and lashes.
    eyes = [shape[eye] for eye in (RIGHT_EYE, LEFT_EYE)]
    passing = rims.copy()
    if rims.any():
        alike = np.linalg.norm(lab - np.median(lab[rims], axis=0), axis=2) < _OWN_COLOUR
        passing |= own & ~_filled(eyes, size, 0.015) & (line > _LINE[0]) & alike
    return _touching(passing, rims)


def _lenses(lab: NDArray[np.uint8], shape: Array) -> Mask:
    """Dark lenses: what is dark and hangs together with an eye."""
    dark = lab[..., 0] < 0.6 * np.median(lab[-_UNIT // 5 :, :, 0])
    dark[: round((-0.45 - float(_CORNER[1])) * _UNIT)] = False
    eyes = _filled([shape[eye] for eye in (RIGHT_EYE, LEFT_EYE)], lab.shape[:2])
    return _touching(dark, eyes)


def _hair(lab: NDArray[np.uint8], shape: Array) -> Mask | None:
    """Hair in front of the forehead and the eyes; None if it covers no part of a lid or a brow."""
    size = lab.shape[:2]
    away, own = _unlike_skin(lab, shape), _own(shape, size)
    x, y = (_CORNER[axis] + (np.arange(size[1 - axis]) + 0.5) / _UNIT for axis in (0, 1))
    brows = [shape[brow] for brow in (RIGHT_BROW, LEFT_BROW)]
    other = (away > _OTHER) | (_lines(lab) > _STRAND)
    other &= ((x > shape[JAW.start, 0] + _SIDE) & (x < shape[JAW.stop - 1, 0] - _SIDE)) & ~own
    # Over the eyes alone: at the temples hair touches the ends of the brows.
    ends = np.sort(shape[[RIGHT_EYE.start, LEFT_EYE.start], 0])
    front = other & (x > ends[0]) & (x < ends[1])
    # A strand that crosses a brow or the lashes is seen above and below them.
    across = np.ones((2 * round(0.15 * _UNIT) + 1, 1), np.uint8)
    if front.any():
        usual = np.median(lab[front], axis=0)
        alike = np.linalg.norm(lab - usual, axis=2) < _ALIKE
        front |= (cv2.morphologyEx(front.astype(np.uint8), cv2.MORPH_CLOSE, across) > 0) & own & alike
    above = min(float(brow[:, 1].min()) for brow in brows) - _ABOVE
    hanging = _touching(front, y < above)
    for brow, eye in zip(brows, (RIGHT_EYE, LEFT_EYE), strict=True):
        corners = np.sort(shape[eye][[0, 4], 0])
        hull = _hull(np.concatenate([brow, brow - [0, _BESIDE], shape[eye]]))
        over = _filled([hull], size) & (x > corners[0]) & (x < corners[1])
        if (hanging & over).sum() > _HANGS * over.sum():
            return hanging | _touching(other, y < above)
    return None


def _touching(mask: Mask, where: Mask) -> Mask:
    """The parts of `mask` [h, w] that reach the cells [h, w] or the rows [h] `where`."""
    _, parts = cv2.connectedComponents(mask.astype(np.uint8))
    return np.asarray(np.isin(parts, np.setdiff1d(np.unique(parts[where]), [0])))


def _lines(lab: NDArray[np.uint8]) -> Map:
    """Difference in CIELAB [h, w] from what is around a line."""
    away = lab.astype(np.float32) - cv2.medianBlur(lab, 2 * round(_WIDE * _UNIT / 2) + 1)
    return np.asarray(np.hypot(np.hypot(away[..., 0] * (100 / 255), away[..., 1]), away[..., 2]), np.float32)


def _unlike_skin(lab: NDArray[np.uint8], shape: Array) -> Map:
    """Distance [h, w] from the colour of the cheeks and the nose, in standard deviations."""
    known = np.zeros(lab.shape[:2], np.uint8)
    eyes = [shape[eye].mean(axis=0) for eye in (RIGHT_EYE, LEFT_EYE)]
    spots = [np.array([np.mean(eyes, axis=0)[0], 0.2]), *(eye + np.array([0, 0.42]) for eye in eyes)]
    for column, row in (_cells(np.array(spots)) // 16).tolist():
        cv2.circle(known, (column, row), round(0.1 * _UNIT), 1, -1)
    scale = np.array([100 / 255, 1, 1], np.float32)
    colours = lab[known > 0] * scale
    if not len(colours):
        return np.zeros(lab.shape[:2], np.float32)
    middle = np.median(colours, axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(colours - middle), axis=0), _SPREAD)
    return np.asarray(np.linalg.norm((lab * scale - middle) / spread, axis=2), np.float32)
