"""Draw the eyes of an edit: lids move over an eyeball that does not.

The flow stretches what lies between the lids, and an iris is round. So between the lids of the edit the photo is drawn
unmoved. Near the lids it gives way to what the flow draws there: lashes and the shadow of the lid move with it. Where
lids part, they uncover what the photo does not show. There the iris is continued as a disc, by the median colour
at each distance from its centre, and the white of the eye by that of the same eye.

Eyes that look elsewhere are drawn so too: the iris moves as a disc, the white beside it is stretched or taken in as far
as the corners, which stay, and the lids follow a glance up or down, as on the ICT-FaceKit head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from mien.editing.geometry import FaceFrame
from mien.editing.mouth_interior import SAMPLES, Opening, window_of
from mien.editing.warp import look_up
from mien.io.images import LUMA
from mien.landmarks import LEFT_EYE, LEFT_IRIS, NOSE_TIP, POINTS, RIGHT_EYE, RIGHT_IRIS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mien.editing.head_turn import HeadPose
    from mien.editing.plan import Plan
    from mien.editing.warp import Region

    Array = NDArray[np.float64]
    Pixels = NDArray[Any]

RADIUS: Final = 0.093
"""Radius of an iris in eye distances: 5.9 of 63 mm, which varies little between adults."""
GLANCE: Final = 0.0418
"""Displacement of an iris that turns by 15 degrees, in eye distances: on the ICT-FaceKit head its centre lies 0.16 eye
distances from the centre of the eyeball."""
_FOLLOWS: Final = {"up": (0.6, 0.28), "down": (0.95, 0.28)}
"""Share of a glance up or down with which the upper and the lower lid follow it on that head."""
_MARGIN: Final = 0.65
"""Least distance of a turned iris's centre from the corners of the eye, in its radii."""
_MOVES: Final = (1.15, 2.2)
"""Distances from a turned iris's centre, in its radii, within which all moves with it, and beyond which nothing."""
_RADII: Final = (0.074, 0.112)
"""Radii between which the edge of an iris is looked for."""
_STEEP: Final = 6.0
"""Least step of luma at the edge of an iris; where it is less, the usual radius is taken."""
_NEAR: Final = ((-0.025, 0.025), (-0.04, 0.02))
"""How far from its landmark an iris is looked for, across and down, in eye distances: it is a little low."""
_PLAIN: Final = 15.0
"""Contrast of an iris's edge below which its landmarks may be wrong."""
_OUTWARD: Final = np.linspace(0, 0.08, 17)
"""How far outside its landmarks the edge of a lid is looked for, in eye distances: behind made-up lashes the network's
are within the eye."""
_CLEARLY: Final = 15.0
"""Luma, summed over both eyes, by which the edge must be steeper there."""
_TURNED: Final = 0.15
"""Distance of the tip of the nose from between the eyes, in eye distances, from which a head is turned: 12 degrees."""
_ASIDE: Final = np.arange(-9, 10) / 60, np.arange(-4, 5) / 60
"""How far across and down the eyes of a turned head are looked for, in eye distances."""
_FOUND: Final = 9.0, 1.1
"""Least edge of an iris (`_edge`) with which an eye is moved there, and how many times the edge where it was. Of 36
eyes of DiffusionFER faces turned by 15 to 36 degrees 34 irises are then where they are seen, one is moved wrongly."""
_PLACES: Final = 40
"""Places on a circle at which the edge of an iris is looked at."""
_UNSEEN: Final = 5.0
"""Edge of an iris below which it was not found, and its eye is left to the flow: of 78 eyes of London faces none is."""
_SHIFTS: Final = (-0.12, -0.09, -0.06, -0.03, 0.03, 0.06)
_OPEN: Final = 0.12
"""Least height over width of an eye that is open."""
_STILL: Final = 0.004
"""Largest displacement of a lid, in eye distances, with which an eye is left to the flow."""
_LASHES: Final = (0.018, 0.008)
"""Depth below the upper and above the lower lid, in eye distances, at which the eyeball is whole."""
_COVERED: Final = (0.022, 0.008)
"""Depth to which the photo's upper and lower lid hide the eyeball or darken it."""
_SHADE: Final = 0.35
"""Share of its light that a continued eyeball loses at the upper lid."""
_RIM: Final = 1.45
"""Distance from an iris's centre, in its radii, from which all is white of the eye."""


def draw(
    colour: Pixels, plan: Plan, region: Region, new: NDArray[np.float32], touched: NDArray[np.bool_]
) -> None:
    """Draw the eyes of a plan on `new` [h, w, 3], the region of the photo `colour` [H, W, 3] after the flow, in
    place; `touched` [h, w] is where it differs from the photo."""
    points = plan.frame.to_picture(np.stack([plan.source, plan.target]))
    for group, iris in ((RIGHT_EYE, RIGHT_IRIS), (LEFT_EYE, LEFT_IRIS)):
        moved = np.abs(plan.target[group] - plan.source[group]).max()
        source, target = (opening_of(shape[group]) for shape in points)
        if (moved > _STILL or any(plan.gaze)) and source.ratio > _OPEN:
            eye = Eye.of(colour, source, points[0, iris], plan.frame.unit)
            if _edge(colour, source, eye.centre, eye.unit) > _UNSEEN:
                shift = plan.frame.turn @ displacement(plan.gaze, plan.pose)
                _draw(colour, eye, target, region, new, touched, shift)


def displacement(gaze: tuple[float, float], pose: HeadPose) -> Array:
    """Displacement [2] of the irises of a head by a `gaze` (across, up) in units of 15 degrees."""
    return np.asarray(GLANCE * pose.upright * np.array([gaze[0], -gaze[1]]))


def followed(gaze: tuple[float, float], pose: HeadPose) -> Array:
    """Displacement [P, 2] of the lids of a head that follow a gaze up or down."""
    down, moved = displacement(gaze, pose)[1], np.zeros((len(POINTS), 2))
    upper, lower = _FOLLOWS["down" if down > 0 else "up"]
    for lids in (RIGHT_EYE, LEFT_EYE):
        moved[lids][1:4, 1] = upper * down
        moved[lids][5:8, 1] = lower * down
    return moved


def reachable(gaze: tuple[float, float], shape: Array, pose: HeadPose) -> tuple[float, float]:
    """The largest share of a gaze with which both irises of a canonical shape [P, 2], on a head that stands so, stay
    between the corners and the lids."""

    def stays(share: float) -> bool:
        part = gaze[0] * share, gaze[1] * share
        lids = shape + followed(part, pose)
        for group, iris in ((RIGHT_EYE, RIGHT_IRIS), (LEFT_EYE, LEFT_IRIS)):
            x, y = shape[iris] + displacement(part, pose)
            corners = np.sort(lids[group][[0, 4], 0]) + np.array([1, -1]) * _MARGIN * RADIUS
            beyond = x < min(corners[0], shape[iris, 0]) or x > max(corners[1], shape[iris, 0])
            if beyond or y < lids[group][1:4, 1].min() or y > lids[group][5:8, 1].max():
                return False
        return True

    share = next((share for share in np.linspace(1, 0, 21) if stays(share)), 0.0)
    return float(gaze[0] * share), float(gaze[1] * share)


def unturnable(colour: Pixels, points: Array) -> str:
    """Why the eyes of a face with landmarks [P, 2] in a photo [H, W, 3] cannot be turned; empty if they can."""
    unit = FaceFrame.of(points).unit
    for group, iris in ((RIGHT_EYE, RIGHT_IRIS), (LEFT_EYE, LEFT_IRIS)):
        opening = opening_of(points[group])
        if opening.ratio <= _OPEN:
            return "an eye is closed"
        if _edge(colour, opening, _disc(colour, opening, points[iris], unit)[0], unit) <= _UNSEEN:
            return "an iris is not seen"
    return ""


def opening_of(lids: Array) -> Opening:
    """The opening between the lids [8, 2] of `mien.landmarks`: two curves through their points that meet in the
    corners."""
    turned = lids[0, 0] > lids[4, 0]  # the left eye runs from the picture's right to its left
    order = [4, 3, 2, 1, 0, 5, 6, 7] if turned else [0, 1, 2, 3, 4, 7, 6, 5]
    right, left = lids[order[0]], lids[order[4]]
    across = left - right
    square = max(float(across @ across), 1e-9)
    grid = np.linspace(0, 1, SAMPLES)
    curves = []
    for lid in (order[1:4], order[5:8]):
        offset = lids[lid] - right
        t = np.clip(offset @ across / square, 0.08, 0.92)
        height = offset @ np.array([-across[1], across[0]]) / square
        powers = np.stack([np.ones(3), t, t * t], axis=1)
        shape = np.linalg.lstsq(powers, height / (t * (1 - t)), rcond=None)[0]
        curves.append(grid * (1 - grid) * (shape[0] + shape[1] * grid + shape[2] * grid**2))
    middle = (curves[0] + curves[1]) / 2
    return Opening(right, left, np.minimum(curves[0], middle), np.maximum(curves[1], middle))


@dataclass(frozen=True)
class Eye:
    """An eye of a photo, in its pixels.

    Attributes:
        opening: between its lids.
        centre, radius: of the iris, [2] and a number.
        rings: [N, 3] median colour of the visible eyeball by distance from the centre, evenly from 0 to `_RIM` radii.
        unit: pixels of one eye distance.
    """

    opening: Opening
    centre: Array
    radius: float
    rings: Array
    unit: float

    @classmethod
    def of(cls, colour: Pixels, opening: Opening, centre: Array, unit: float) -> Eye:
        """Measure the eye with an iris near `centre` [2] in a photo [H, W, 3]."""
        centre, radius, _ = _disc(colour, opening, centre, unit)
        turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        reach = np.linspace(0, _RIM * radius, 24)
        places = centre + reach[:, None, None] * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        colours = look_up(colour, places.astype(np.float32), cv2.INTER_LINEAR).astype(np.float64)
        seen = visible(opening, places, unit) > 0.5
        rings = np.stack(
            [
                np.median(row[shown], axis=0) if shown.sum() > 3 else np.full(3, np.nan)
                for row, shown in zip(colours, seen, strict=True)
            ]
        )
        known = np.isfinite(rings[:, 0])
        if known.any():
            rings = np.stack([np.interp(reach, reach[known], band[known]) for band in rings.T], axis=1)
        return cls(opening, centre, radius, rings, unit)

    @property
    def measured(self) -> bool:
        """Whether anything of the eyeball is visible."""
        return bool(np.isfinite(self.rings).all())

    def ball(self, colour: Pixels, places: Array) -> Array:
        """The eyeball at `places` [h, w, 2] that the lids of the photo hide."""
        away = np.linalg.norm(places - self.centre, axis=-1)
        steps = np.linspace(0, _RIM * self.radius, len(self.rings))
        disc = np.stack([np.interp(away, steps, band) for band in self.rings.T], axis=-1)
        # Beside the iris, what is visible in the same column.
        t, depth, height = self.opening.locate(places)
        width = float(np.linalg.norm(self.opening.left - self.opening.right))
        upper, lower = (cover * self.unit / width for cover in _COVERED)
        low = np.minimum(upper, height / 2)
        nearest = self.opening.at(t, np.clip(depth, low, np.maximum(height - lower, low)))
        white = look_up(colour, nearest.astype(np.float32), cv2.INTER_LINEAR).astype(np.float64)
        beside = (
            np.clip(np.linalg.norm(nearest - self.centre, axis=-1) / self.radius - 1.05, 0, 0.25)[..., None]
            / 0.25
        )
        return np.asarray(disc + beside * (white - disc))


def visible(opening: Opening, places: Array, unit: float) -> Array:
    """How far the photo shows the eyeball at `places` [..., 2]: 1 well between the lids, 0 on them."""
    t, depth, height = opening.locate(places)
    width = float(np.linalg.norm(opening.left - opening.right))
    above, below = (cover * unit / width for cover in _COVERED)
    soft = 0.006 * unit / width
    seen = np.minimum((depth - above) / soft, (height - depth - below) / soft)
    return np.asarray(np.clip(seen + 0.5, 0, 1) * ((t > 0.04) & (t < 0.96)))


def settled(rgb: Pixels, points: Array) -> Array:
    """Landmarks [P, 2] with the eyes moved up or down together, if the network missed them: on very dark faces by up to
    half their height.

    On a head turned by more than about 12 degrees the network's eyes are too near the middle of the face, by up to 0.1
    eye distances; each is moved by itself to where an iris is seen.

    Irises at their place have an edge of over 19 levels on all of 34 London people but one. Where one has not, lids
    and irises are moved by up to 0.12 eye distances, if that doubles the contrast.
    """
    frame = FaceFrame.of(points)
    eyes = ((RIGHT_EYE, RIGHT_IRIS), (LEFT_EYE, LEFT_IRIS))
    if any(opening_of(points[lids]).ratio < _OPEN for lids, _ in eyes):
        return points
    if abs(frame.to_canonical(points[NOSE_TIP])[0]) > _TURNED:
        points = points.copy()
        for lids, iris in eyes:
            by = _found_aside(rgb, points[lids], points[iris], frame)
            points[lids] += by
            points[iris] += by

    def contrasts(shift: float) -> list[float]:
        by = shift * frame.turn[:, 1]
        return [
            _disc(rgb, opening_of(points[lids] + by), points[iris] + by, frame.unit)[2] for lids, iris in eyes
        ]

    moved, here = points.copy(), contrasts(0)
    if min(here) < _PLAIN:
        tried = {shift: sum(contrasts(shift)) for shift in _SHIFTS}
        best = max(tried, key=lambda shift: tried[shift])
        if tried[best] > 2 * max(sum(here), _PLAIN):
            for part in (RIGHT_EYE, LEFT_EYE, [RIGHT_IRIS, LEFT_IRIS]):
                moved[part] += best * frame.turn[:, 1]
    found = [(lids, *_disc(rgb, opening_of(moved[lids]), moved[iris], frame.unit)[:2]) for lids, iris in eyes]
    for lid, sign in ((slice(1, 4), -1), (slice(5, 8), 1)):
        both = [
            _fall(rgb, opening_of(moved[lids]), sign, centre, radius, frame.unit)
            for lids, centre, radius in found
        ]
        falls = np.sum(both, axis=0)
        best = int(falls.argmax())
        if falls[best] > falls[0] + _CLEARLY and best < len(falls) - 1:
            for lids, _, _ in found:
                moved[lids][lid] += sign * _OUTWARD[best] * frame.turn[:, 1]
    return moved


def _fall(rgb: Pixels, opening: Opening, sign: int, centre: Array, radius: float, unit: float) -> Array:
    """Fall of the luma, [N], from the white of the eye to the upper (`sign` -1) or lower (1) lid, with its middle moved
    outwards by each of `_OUTWARD`; beside an iris of this `centre` and `radius`."""
    across = (opening.left - opening.right) / float(np.linalg.norm(opening.left - opening.right))
    outward = sign * np.array([-across[1], across[0]])
    t = np.linspace(0.14, 0.86, 25)
    line = opening.at(t, 0 * t if sign < 0 else opening.height_at(t))
    rise = 4 * t * (1 - t)
    offsets = _OUTWARD[:, None, None] * rise[:, None] + np.linspace(-0.024, 0.024, 7)
    places = line[:, None] + offsets[..., None] * unit * outward
    colours = look_up(rgb, places.reshape(-1, len(t), 2).astype(np.float32), cv2.INTER_LINEAR)
    luma = (colours.astype(np.float32) @ LUMA.astype(np.float32)).reshape(offsets.shape)
    fall = luma[..., :3].mean(axis=2) - luma[..., 4:].mean(axis=2)
    beside = np.abs((line - centre) @ across) > 1.08 * radius
    return np.asarray(
        fall[:, beside].clip(-10, 80).mean(axis=1) if beside.sum() > 5 else np.zeros(len(offsets))
    )


def _disc(colour: Pixels, opening: Opening, centre: Array, unit: float) -> tuple[Array, float, float]:
    """Centre [2] and radius of the iris near `centre`, where the luma rises most across the visible part of its edge,
    and by how much, in 0..255."""
    across, down = (np.linspace(*reach, 7) * unit for reach in _NEAR)
    moved = centre + np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2)
    radii = np.linspace(*_RADII, 9) * unit
    rises, count = _rises(colour, opening, moved, radii, unit)
    rise = rises / np.maximum(count, 1)
    rise[count < 8] = 0
    place, size = np.unravel_index(int(rise.argmax()), rise.shape)
    contrast = float(rise[place, size])
    if contrast < _STEEP:
        return centre, RADIUS * unit, contrast
    return np.asarray(moved[place]), float(radii[size]), contrast


def _rises(
    colour: Pixels, opening: Opening, centres: Array, radii: Array, unit: float
) -> tuple[Array, NDArray[np.intp]]:
    """Rise of the luma, in 0..255, across the visible part of circles with centres [n, 2] and radii [r], summed over
    the visible ones of 40 places on each, and how many these are: [n, r] both."""
    turn = np.linspace(0, 2 * np.pi, _PLACES, endpoint=False)
    rays = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    step = max(0.010 * unit, 0.6)
    edge = centres[:, None, None] + radii[:, None, None] * rays
    both = np.stack([edge - step * rays, edge + step * rays]).reshape(-1, len(rays), 2)
    colours = look_up(colour, both.astype(np.float32), cv2.INTER_LINEAR).astype(np.float32)
    luma = (colours @ LUMA.astype(np.float32)).reshape(2, len(centres), len(radii), len(rays))
    seen = visible(opening, edge, unit) > 0.5
    scale = 255 / np.iinfo(colour.dtype).max
    return ((luma[1] - luma[0]) * seen).sum(axis=-1) * scale, seen.sum(axis=-1)


def _edge(colour: Pixels, opening: Opening, centre: Array, unit: float) -> float:
    """How visible the edge of an iris with this `centre` [2] is: the rise of `_rises` over the whole circle, so that a
    short piece of a lid does not pass for it."""
    return (
        float(_rises(colour, opening, centre[None], np.linspace(*_RADII, 7) * unit, unit)[0].max()) / _PLACES
    )


def _found_aside(rgb: Pixels, lids: Array, iris: Array, frame: FaceFrame) -> Array:
    """How far, [2] in pixels, an eye with lids [8, 2] and an iris [2] is moved to where its iris is seen."""
    opening, best, found = opening_of(lids), 0.0, np.zeros(2)
    here = _edge(rgb, opening, iris, frame.unit)
    for x in _ASIDE[0]:
        for y in _ASIDE[1]:
            by = frame.turn @ np.array([x, y])
            moved = replace(opening, right=opening.right + by, left=opening.left + by)
            edge = _edge(rgb, moved, iris + by, frame.unit)
            if edge > best:
                best, found = edge, by
    return found if best > max(_FOUND[0], _FOUND[1] * here) else np.zeros(2)


def _draw(
    colour: Pixels,
    eye: Eye,
    target: Opening,
    region: Region,
    new: NDArray[np.float32],
    touched: NDArray[np.bool_],
    shift: Array,
) -> None:
    """Draw one eye on `new` between the lids `target`, in place, turned so that its iris moves by `shift` [2]."""
    window = window_of(target, region)
    rows, columns = (np.arange(part.start, part.stop) for part in window)
    if not eye.measured or not len(rows) or not len(columns):
        return
    places = np.stack(np.meshgrid(columns + region.left, rows + region.top), axis=-1).astype(np.float64)
    t, depth, height = target.locate(places)
    width = float(np.linalg.norm(target.left - target.right)) / eye.unit
    above, below = depth * width, (height - depth) * width  # in eye distances
    share = np.minimum(above / _LASHES[0], below / _LASHES[1]).clip(0, 1) * ((t > 0) & (t < 1))
    share = (share * share * (3 - 2 * share))[..., None]
    own = colour[
        rows[0] + region.top : rows[-1] + region.top + 1,
        columns[0] + region.left : columns[-1] + region.left + 1,
    ]
    shown: Pixels = own
    if shift.any():
        away = np.linalg.norm(places - eye.centre - shift, axis=-1) / eye.radius
        far = np.clip((away - _MOVES[0]) / (_MOVES[1] - _MOVES[0]), 0, 1)
        moves = (1 - far * far * (3 - 2 * far))[..., None]
        _sheared(new, window, moves[..., 0] * shift[0] * (above / _LASHES[0]).clip(0, 1))
        places = places - moves * shift
        shown = look_up(colour, places.astype(np.float32))
    seen = visible(eye.opening, places, eye.unit)[..., None]
    shade = 1 - _SHADE * np.exp(-above.clip(0) / 0.03)[..., None]
    ball = seen * shown + (1 - seen) * shade * eye.ball(colour, places)
    new[window] += share * (ball - new[window])
    touched[window] |= (share[..., 0] > 0) & (np.abs(new[window] - own).max(axis=2) > 0.5)


def _sheared(new: NDArray[np.float32], window: tuple[slice, slice], across: Array) -> None:
    """Move what the flow drew in a window of `new` by `across` [h, w] pixels to the right, in place: under the upper
    lid, where the eyeball gives way to it, the iris would else stay where it was."""
    rows, columns = (np.arange(part.start, part.stop) for part in window)
    x, y = np.meshgrid(columns, rows)
    where = np.stack([x - across, y], axis=-1).astype(np.float32)
    new[window] = look_up(new, where, cv2.INTER_LINEAR)
