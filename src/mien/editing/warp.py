"""A smooth backward flow that warps a face from one set of points to another.

The flow is a thin-plate spline in the canonical frame of `mien.editing.geometry`. The mouth is a cut in the face:
one spline moves everything above the line between the lips, another everything below it, so that lips can part and
meet without tearing or smearing. Outside the mouth's corners the two agree and are blended.

A map that folds would show a part of the face twice. `Warp.folding` is the smallest Jacobian determinant of the map
where it is used; `mien.editing.editor` weakens an edit until it is at least `FOLD_LIMIT`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from mien.editing.geometry import HIGH, LOW, FaceFrame
from mien.landmarks import (
    CHIN,
    INNER_LIPS,
    JAW,
    LEFT_BROW,
    LEFT_MOUTH_CORNER,
    OUTER_LIPS,
    RIGHT_BROW,
    RIGHT_MOUTH_CORNER,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Pixels = NDArray[Any]

GRID = 81
FOLD_LIMIT = 0.15
SMOOTHING = 5e-4
"""Ridge of the spline: displacements may be missed by about this share, which suppresses noise of the points."""
_BESIDE = ((0.08, 0.9), (0.17, 0.75))
"""Distances beside a corner of the mouth, in eye distances, and the share of the corner's motion there."""
_ROOM: Final = 0.5
"""Largest of these distances over that from the corner to the jaw, which is near on the far side of a turned head: the
cheek's outline does not follow the corner."""
BESIDE: Final = 0.12
"""Reach of the flow beside the jaw, in eye distances."""
BELOW: Final = 0.5
"""Its reach below the chin, where the skin of the neck follows."""
ABOVE: Final = 0.3
"""Its reach above the forehead."""
FOREHEAD: Final = 0.62
"""Height of the forehead above the brows, in eye distances: a usual hairline."""
_FINE: Final = 4
"""Cells of the raster on which distances are measured, per cell of the flow's grid."""
_UPPER_LIPS = [
    *range(OUTER_LIPS.start + 1, OUTER_LIPS.start + 10),
    *range(INNER_LIPS.start + 1, INNER_LIPS.start + 10),
]
_LOWER_LIPS = [*range(OUTER_LIPS.start + 11, OUTER_LIPS.stop), *range(INNER_LIPS.start + 11, INNER_LIPS.stop)]


def _anchors() -> Array:
    """24 fixed points on the rim of the frame."""
    t = np.linspace(0, 1, 7)[:-1]
    unit = np.concatenate(
        [np.stack(side, axis=1) for side in ((t, 0 * t), (1 + 0 * t, t), (1 - t, 1 + 0 * t), (0 * t, 1 - t))]
    )
    return np.asarray(LOW + unit * (HIGH - LOW))


ANCHORS = _anchors()


def _kernel(a: Pixels, b: Pixels) -> Pixels:
    """r^2 log r^2 between points [M, 2] and [N, 2], in their precision."""
    square: Pixels = (a[:, :1] - b[:, 0]) ** 2
    square += (a[:, 1:] - b[:, 1]) ** 2
    logs: Pixels = np.log(square + np.asarray(1e-12, square.dtype))
    logs *= square
    return logs


def thin_plate(
    places: Array, values: Array, queries: Array, smoothing: float = SMOOTHING, quick: bool = False
) -> Array:
    """Interpolate `values` [N, D] given at `places` [N, 2] to `queries` [M, 2] by a smoothing thin-plate spline.

    `quick` evaluates it in single precision, which is exact to 1e-4 pixels on a face and five times as fast.
    """
    far = _kernel(*(part.astype(np.float32 if quick else np.float64) for part in (queries, places)))
    return _evaluate(_solve(places, values, smoothing), far, queries)


def _solve(places: Array, values: Array, smoothing: float) -> Array:
    """The spline's coefficients [N + 3, D]: one for each place, then the affine part."""
    n = len(places)
    system = np.zeros((n + 3, n + 3))
    system[:n, :n] = _kernel(places, places) + smoothing * np.eye(n)
    system[:n, n] = system[n, :n] = 1
    system[:n, n + 1 :] = places
    system[n + 1 :, :n] = places.T
    right = np.concatenate([values, np.zeros((3, values.shape[1]))])
    return np.asarray(np.linalg.solve(system, right))


def _evaluate(solved: Array, far: Pixels, queries: Array) -> Array:
    n = far.shape[1]
    near = far @ solved[:n].astype(far.dtype)
    return np.asarray(near + solved[n] + queries @ solved[n + 1 :], np.float64)


def grid_points() -> Array:
    """Canonical coordinates [GRID * GRID, 2] of the flow's grid, row by row."""
    x, y = (np.linspace(low, high, GRID) for low, high in zip(LOW, HIGH, strict=True))
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def rim_fade(points: Array, width: float = 0.45) -> Array:
    """1 inside the frame, falling smoothly to 0 at its rim over `width` units."""
    inside = np.minimum(points - LOW, HIGH - points).min(axis=-1)
    t = np.clip(inside / width, 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def outline(shape: Array) -> Array:
    """The outline [N, 2] of a canonical shape [P, 2]: the jaw, and an arc over the forehead."""
    jaw = shape[JAW]
    brow = float(shape[RIGHT_BROW.start : LEFT_BROW.stop, 1].mean())
    middle, half = (jaw[0] + jaw[-1]) / 2, float(jaw[-1, 0] - jaw[0, 0]) / 2
    turn = np.linspace(0, np.pi, 17)[1:-1]
    rise = middle[1] - (brow - FOREHEAD)
    arc = np.stack([middle[0] + half * np.cos(turn), middle[1] - rise * np.sin(turn)], axis=1)
    return np.concatenate([jaw, arc])


def filled(polygon: Array, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A mask [h, w] of the inside of a polygon [N, 2] in its pixels."""
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, [np.rint(polygon * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    return mask


def distance_outside(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Distance of each pixel from a mask, in pixels; 0 inside."""
    return np.asarray(cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_5), np.float32)


def _band(places: Array, shape: Array) -> Array:
    """Reach of the flow outside the outline at `places` [..., 2]: it grows from the cheeks to the chin."""
    jaw = shape[JAW]
    low, high = float(jaw[[5, 15], 1].mean()), float(jaw[10, 1])
    down = np.clip((places[..., 1] - low) / max(high - low, 1e-3), 0, 1)
    up = np.clip((jaw[[0, -1], 1].mean() - places[..., 1]) / 0.8, 0, 1)
    return np.asarray(BESIDE + (BELOW - BESIDE) * down + (ABOVE - BESIDE) * up)


def flow_reach(source: Array, target: Array) -> Array:
    """Weight of the flow between canonical shapes [P, 2], [GRID, GRID] in 0..1: 1 inside the outline of either, falling
    to 0 over `BESIDE`, `BELOW` and `ABOVE` of it."""
    count = (GRID - 1) * _FINE + 1
    cell = float(HIGH[0] - LOW[0]) / (count - 1)
    mask = filled((outline(source) - LOW) / cell, (count, count))
    mask |= filled((outline(target) - LOW) / cell, (count, count))
    distance = distance_outside(mask)[::_FINE, ::_FINE] * cell
    t = np.clip(1 - distance / _band(grid_points().reshape(GRID, GRID, 2), source), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def mouth_line(shape: Array) -> Array:
    """The line between the lips of a canonical shape [P, 2], corner to corner: [11, 2] with rising x."""
    inner = shape[INNER_LIPS]
    line = np.concatenate([inner[:1], (inner[1:10] + inner[:10:-1]) / 2, inner[10:11]])
    line[:, 0] = np.maximum.accumulate(line[:, 0] + 1e-6 * np.arange(11))
    return np.asarray(line)


def above_mouth(shape: Array, queries: Array, softness: float = 1e-3) -> Array:
    """How far `queries` [..., 2] lie above the lips' line, 0 below to 1 above; a step between the mouth's corners.

    Beyond a corner the line continues horizontally and the step widens in proportion to the distance from the corner.
    """
    line = mouth_line(shape)
    height = np.interp(queries[..., 0], line[:, 0], line[:, 1]) - queries[..., 1]
    beyond = np.maximum(line[0, 0] - queries[..., 0], queries[..., 0] - line[-1, 0]).clip(0, None)
    t = np.clip(0.5 + height / (2 * (softness + 0.9 * beyond)), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


@dataclass(frozen=True)
class Warp:
    """A backward flow on the grid: canonical displacement to add to a target place to find its source.

    `upper` and `lower` [GRID, GRID, 2] are the flows above and below the line between the lips of `target`;
    `folding` the smallest Jacobian determinant where they are used (1 for no flow; at most 0 where it folds).
    """

    source: Array
    target: Array
    upper: Array
    lower: Array
    folding: float


def warp_between(source: Array, target: Array) -> Warp:
    """The warp that shows at `target` [P, 2] what was at `source` [P, 2], both canonical."""
    queries = grid_points()
    fade = rim_fade(queries)[:, None] * flow_reach(source, target).reshape(-1, 1)
    # The skin beside the corners of the mouth follows them; these points are in both splines, so that they agree there.
    corners = [RIGHT_MOUTH_CORNER, LEFT_MOUTH_CORNER]
    near = np.minimum(1.0, _ROOM * _to_jaw(target) / _BESIDE[-1][0])
    outward = np.stack([near * [-1, 1], [0.0, 0.0]], axis=1)
    beside = [target[corners] + away * outward for away, _ in _BESIDE]
    following = [share * (source - target)[corners] for _, share in _BESIDE]
    places = np.concatenate([target, *beside, ANCHORS])
    values = np.concatenate([source - target, *following, np.zeros_like(ANCHORS)])
    far = _kernel(queries.astype(np.float32), places.astype(np.float32))
    flows = []
    for dropped in (_LOWER_LIPS, _UPPER_LIPS):
        kept = np.setdiff1d(np.arange(len(places)), dropped)
        spline = _solve(places[kept], values[kept], SMOOTHING)
        flows.append((_evaluate(spline, far[:, kept], queries) * fade).reshape(GRID, GRID, 2))
    return Warp(source, target, flows[0], flows[1], folding(target, flows[0], flows[1]))


def _to_jaw(shape: Array) -> Array:
    """Distance of the right and the left corner of the mouth to the jaw at their height, [2], at least 0.02."""
    jaw, chin = shape[JAW], CHIN - JAW.start
    room = []
    for corner, side, sign in (
        (RIGHT_MOUTH_CORNER, jaw[: chin + 1], -1),
        (LEFT_MOUTH_CORNER, jaw[: chin - 1 : -1], 1),
    ):
        edge = np.interp(shape[corner, 1], np.maximum.accumulate(side[:, 1]), side[:, 0])
        room.append(sign * (edge - shape[corner, 0]))
    return np.maximum(room, 0.02)


def folding(target: Array, upper: Array, lower: Array) -> float:
    """Smallest Jacobian determinant of the flows above and below the lips of `target` where each is used."""
    points = grid_points().reshape(GRID, GRID, 2)
    # At grid resolution the step along the mouth is checked on each side, and the blend beyond the corners as blended.
    weight = above_mouth(target, points)
    line = mouth_line(target)
    between = (points[..., 0] > line[0, 0]) & (points[..., 0] < line[-1, 0])
    blended = weight[..., None] * upper + (1 - weight[..., None]) * lower
    inner = target[INNER_LIPS].astype(np.float32)
    inside = np.zeros((GRID, GRID), bool)
    low, high = inner.min(axis=0), inner.max(axis=0)
    for row, column in np.argwhere(((points > low) & (points < high)).all(axis=2)):
        place = float(points[row, column, 0]), float(points[row, column, 1])
        inside[row, column] = cv2.pointPolygonTest(inner, place, False) > 0
    smallest = np.inf
    # A flow is only used on its side of the line, so it is only differenced to that side.
    for flow, used, side in (
        (upper, between & (weight > 0.5), -1),
        (lower, between & (weight <= 0.5), 1),
        (blended, ~between, 0),
    ):
        smallest = min(smallest, float(_jacobian(flow, side)[used & ~inside].min(initial=np.inf)))
    return smallest


def _jacobian(flow: Array, side: int = 0) -> Array:
    """Determinant at each place of the grid; vertical differences are central (0), or to the row below (1) or above
    (-1)."""
    cell = float(HIGH[0] - LOW[0]) / (GRID - 1)  # the frame is square
    dx = np.asarray(np.gradient(flow, cell, axis=1))
    if side == 0:
        dy = np.asarray(np.gradient(flow, cell, axis=0))
    else:
        step = np.diff(flow, axis=0) / cell
        dy = np.concatenate([step, step[-1:]] if side > 0 else [step[:1], step])
    return np.asarray((1 + dx[..., 0]) * (1 + dy[..., 1]) - dx[..., 1] * dy[..., 0])


@dataclass(frozen=True)
class Region:
    """The rectangle of the picture that the canonical frame covers, with its coordinate maps.

    `left`, `top`, `width`, `height` in pixels (inside the picture); `places` [h, w, 2] canonical coordinates of a
    coarse raster of the rectangle, from which full-size maps are enlarged; `fade` [h, w] falls to 0 at the photo's rim.
    """

    frame: FaceFrame
    left: int
    top: int
    width: int
    height: int
    places: Array
    fade: Array

    @classmethod
    def of(cls, frame: FaceFrame, width: int, height: int, coarse: int = 320) -> Region:
        """The region of a face's frame in a picture of `width` x `height` pixels."""
        corners = frame.to_picture(np.array([LOW, [HIGH[0], LOW[1]], HIGH, [LOW[0], HIGH[1]]]))
        low = np.floor(corners.min(axis=0)).clip(0, [width - 1, height - 1]).astype(int)
        high = np.ceil(corners.max(axis=0)).clip(0, [width - 1, height - 1]).astype(int) + 1
        size = high - low
        count = np.minimum(size, coarse)
        # The coarse raster has the pixel centres of cv2.resize, so that enlarging it needs no shift.
        x, y = (
            low[axis] + (np.arange(count[axis]) + 0.5) * size[axis] / count[axis] - 0.5 for axis in (0, 1)
        )
        pixels = np.stack(np.meshgrid(x, y), axis=-1)
        rim = np.minimum(
            np.minimum(pixels[..., 0], width - 1 - pixels[..., 0]),
            np.minimum(pixels[..., 1], height - 1 - pixels[..., 1]),
        )
        t = np.clip(rim / max(0.06 * min(width, height), 1.0), 0, 1)
        return cls(
            frame,
            int(low[0]),
            int(low[1]),
            int(size[0]),
            int(size[1]),
            frame.to_canonical(pixels),
            t * t * (3 - 2 * t),
        )

    def enlarge(self, coarse: Pixels) -> NDArray[np.float32]:
        """A map on the coarse raster at the region's full size."""
        return np.asarray(
            cv2.resize(coarse.astype(np.float32), (self.width, self.height), interpolation=cv2.INTER_LINEAR),
            np.float32,
        )

    def coarse(self, grid: Array) -> NDArray[np.float32]:
        """A map on the canonical grid [G, G(, C)] on the coarse raster; 0 outside the frame."""
        scale = (np.array(grid.shape[1::-1]) - 1) / (HIGH - LOW)
        where = ((self.places - LOW) * scale).astype(np.float32)
        return np.asarray(look_up(grid.astype(np.float32), where, border=cv2.BORDER_CONSTANT), np.float32)

    def sample(self, grid: Array) -> NDArray[np.float32]:
        """A map on the canonical grid [G, G(, C)] at the region's full size; 0 outside the frame."""
        return self.enlarge(self.coarse(grid))

    def enlarge_part(self, coarse: Pixels, window: tuple[slice, slice]) -> NDArray[np.float32]:
        """The result of `enlarge` in a window of the region."""
        height, width = coarse.shape[:2]
        rows, columns = (
            ((np.arange(part.start, part.stop) + 0.5) * few / many - 0.5).clip(0, few - 1)
            for part, few, many in zip(window, (height, width), (self.height, self.width), strict=True)
        )
        where = np.stack(np.meshgrid(columns, rows), axis=-1).astype(np.float32)
        return np.asarray(look_up(coarse.astype(np.float32), where, cv2.INTER_LINEAR), np.float32)

    def window(self, low: Array, high: Array) -> tuple[slice, slice]:
        """Rows and columns of the region that hold the canonical rectangle from `low` to `high`."""
        corners = self.frame.to_picture(np.array([low, [high[0], low[1]], high, [low[0], high[1]]]))
        size = [self.width, self.height]
        first = np.floor(corners.min(axis=0) - [self.left, self.top]).clip(0, size).astype(int)
        last = (np.ceil(corners.max(axis=0) - [self.left, self.top]) + 1).clip(first, size).astype(int)
        return slice(first[1], last[1]), slice(first[0], last[0])

    def canonical(self, window: tuple[slice, slice]) -> Array:
        """Canonical coordinates [h, w, 2] of every pixel of a window of the region."""
        rows, columns = (np.arange(part.start, part.stop, dtype=np.float64) for part in window)
        return self.frame.to_canonical(np.stack(np.meshgrid(columns + self.left, rows + self.top), axis=-1))


def look_up(
    picture: Pixels,
    where: NDArray[np.float32],
    interpolation: int = cv2.INTER_CUBIC,
    border: int = cv2.BORDER_REPLICATE,
) -> Pixels:
    """Values of `picture` at `where` [h, w, 2], (column, row) in its pixels."""
    # OpenCV needs no second map if the first has two channels, which its type stubs do not allow.
    values = cv2.remap(picture, where, None, interpolation, borderMode=border)  # type: ignore[call-overload]
    return np.asarray(values)


def pixel_map(warp: Warp, region: Region) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where each pixel of the region comes from: (map [h, w, 2] in picture pixels, displacement length [h, w])."""
    # Converted to pixels and faded on the coarse raster, so that only one map is enlarged.
    turn, fade = region.frame.turn.T, region.fade[..., None]
    upper, lower = (region.coarse(flow) * fade @ turn for flow in (warp.upper, warp.lower))
    step = 0.75 / region.frame.unit
    weight = above_mouth(warp.target, region.places, step)[..., None]
    moved = region.enlarge(lower + weight * (upper - lower))
    # The step between the lips needs full resolution; the rest of the map is smooth.
    line = mouth_line(warp.target)
    window = region.window(line.min(axis=0) - 0.2, line.max(axis=0) + 0.2)
    weight = above_mouth(warp.target, region.canonical(window), step)[..., None].astype(np.float32)
    if weight.size:
        above, below = region.enlarge_part(upper, window), region.enlarge_part(lower, window)
        moved[window] = below + weight * (above - below)
    distance = np.hypot(moved[..., 0], moved[..., 1])
    moved[..., 0] += np.arange(region.left, region.left + region.width, dtype=np.float32)
    moved[..., 1] += np.arange(region.top, region.top + region.height, dtype=np.float32)[:, None]
    return moved, distance


def pull(picture: Pixels, where: NDArray[np.float32]) -> Pixels:
    """Sample a picture [H, W(, C)] (uint8, uint16 or float32) at `where` [h, w, 2], once, by Lanczos."""
    return look_up(picture, where, cv2.INTER_LANCZOS4)
