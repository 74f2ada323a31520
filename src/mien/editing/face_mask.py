"""Where the face ends: how far the flow reaches beyond its outline, and what beside it is background or hair.

The landmarks follow the jaw only within a tenth of the eye distance, so the silhouette comes from the photo: colours
beside the head and colours of the face are each described by a few clusters, and a pixel outside the face belongs to
the nearer one. Background stays as it is, to the bit; where the edit uncovers or covers it, it is drawn.

Light is for skin: it falls to nothing at the outline, and on hair, beards and glasses, which differ in colour from the
person's own cheeks, nose and forehead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from mien.editing.warp import BELOW, Region, distance_outside, filled, look_up, outline
from mien.landmarks import JAW, LEFT_BROW, LEFT_EYE, NOSE_TIP, OUTER_LIPS, RIGHT_BROW, RIGHT_EYE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Pixels = NDArray[Any]
    Map = NDArray[np.float32]

_SURE: Final = 0.15
"""Depth inside the outline from which a pixel is the face's whatever its colour; the jaw's points err by about 0.1."""
_RING: Final = (0.22, 0.6)
"""Distances outside the outline, beside the head, from which the background's colours are taken."""
_THIN: Final = 0.04
"""Half the width, in eye distances, below which a strip of background's colour is a shadow or a strand of hair."""
_FAINT: Final = 0.3
"""Share of the face in a pixel beside it, by colour, that is taken for noise of the background."""
_CLUSTERS: Final = 5
_SAMPLES: Final = 600
"""Largest number of pixels from which the clusters of each side are made."""
_SPREAD: Final = np.array([5.0, 3.0, 3.0])
"""Least standard deviation of a cluster, in CIELAB."""
_SKIN: Final = np.array([16.0, 5.0, 6.0])
"""Least standard deviation of skin, in CIELAB: light and shade on a face change its lightness most."""
_LIT: Final = (2.2, 3.4)
"""Distances from the skin's colour, in standard deviations, at which light begins to fall, and is gone."""
_BYTE: Final = np.array([100 / 255, 1, 1], np.float32)
"""One step of each of OpenCV's bytes of CIELAB, which are 128 too high in a and b."""
_RIM: Final = 0.05
"""Width at the outline over which light falls to nothing, in eye distances."""


@dataclass(frozen=True)
class FaceMask:
    """What of a photo belongs to a face, on the coarse raster of its region.

    Attributes:
        face: [h, w] in 0..1: 0 on background and hair beside the face.
        skin: [h, w] in 0..1: 0 on hair, glasses and what else has not the colour of the person's skin.
    """

    face: Map
    skin: Map

    @classmethod
    def of(cls, colour: Pixels, source: Array, region: Region) -> FaceMask:
        """The mask of the face with the canonical shape [P, 2] in a photo [h, w, 3] (RGB)."""
        rows, columns = region.places.shape[:2]
        part = colour[region.top : region.top + region.height, region.left : region.left + region.width]
        part = part if part.dtype == np.uint8 else (part >> 8).astype(np.uint8)
        small = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
        lab = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2LAB) * _BYTE, np.float32)
        cell = _cell(region)
        edge = _on_raster(outline(source), region)
        inside = filled(edge, (rows, columns))
        outside, depth = distance_outside(inside) * cell, distance_outside(1 - inside) * cell
        return cls(_face(lab, source, region, outside, depth), _skin(lab, source, region))

    def mixed(self, where: Map, region: Region) -> Map:
        """Share [h, w] of the drawn picture at each pixel of the region, where `where` [h, w, 2] is the place in the
        photo that it shows: 0 if neither it nor that place is the face's."""
        # A rim that the face leaves would keep the colours of its edge.
        left = cv2.dilate(self.face, np.ones((5, 5), np.uint8))
        return region.enlarge(np.maximum(left, _moved(self.face, where, region)))

    def lit(self, where: Map, target: Array, region: Region) -> Map:
        """Share [rows, columns] of the light at each place of the coarse raster; `where` as in `mixed`, `target` [P, 2]
        the canonical shape that is drawn."""
        inside = filled(_on_raster(outline(target), region), self.skin.shape)
        depth = distance_outside(1 - inside) * _cell(region)
        return np.asarray(np.clip(depth / _RIM, 0, 1) * _moved(self.skin, where, region), np.float32)


def _cell(region: Region) -> float:
    """Side of a cell of the coarse raster, in eye distances."""
    return float(region.width / region.places.shape[1] / region.frame.unit)


def _moved(values: Map, where: Map, region: Region) -> Map:
    """What `values` on the coarse raster are at the places `where` [h, w, 2] of the photo, on the same raster."""
    rows, columns = values.shape
    coarse = cv2.resize(where, (columns, rows), interpolation=cv2.INTER_NEAREST)
    scale = np.array([columns / region.width, rows / region.height])
    shown = ((coarse - [region.left, region.top] + 0.5) * scale - 0.5).astype(np.float32)
    return np.asarray(look_up(values, shown, cv2.INTER_LINEAR), np.float32)


def _on_raster(points: Array, region: Region) -> Array:
    """Canonical points [N, 2] in pixels of the coarse raster of a region."""
    rows, columns = region.places.shape[:2]
    scale = np.array([columns / region.width, rows / region.height])
    return np.asarray((region.frame.to_picture(points) - [region.left, region.top] + 0.5) * scale - 0.5)


def _face(lab: Map, source: Array, region: Region, outside: Map, depth: Map) -> Map:
    """`FaceMask.face` from CIELAB colours and distances from the outline [h, w]."""
    belongs, heights = np.ones(lab.shape[:2], np.float32), region.places[..., 1]
    doubtful = (depth < _SURE) & (outside < BELOW + _RING[0])
    low = float(source[JAW][[5, 15], 1].mean())
    beside = (outside > _RING[0]) & (outside < _RING[1]) & (heights > -0.9) & (heights < low)
    backs, fronts = _clusters(lab[beside]), _clusters(lab[depth > _SURE])
    if backs is None or fronts is None:
        return belongs
    colours = lab[doubtful]
    nearer = _distance(colours, *backs) - _distance(colours, *fronts)
    belongs[doubtful] = np.clip(1 + nearer / 2, 0, 1)
    other = _reached(belongs < 0.5, beside, _cell(region))
    return np.asarray(np.where(other, np.clip((belongs - _FAINT) / (1 - _FAINT), 0, 1), 1), np.float32)


def _reached(other: NDArray[np.bool_], beside: NDArray[np.bool_], cell: float) -> NDArray[np.bool_]:
    """The parts of `other` [h, w] that are connected to `beside` [h, w], and a rim of a pixel: a shadow under the chin
    has the colours of dark hair, but is thin or enclosed by skin."""
    radius = max(1, round(_THIN / max(cell, 1e-6)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    wide = cv2.morphologyEx((other | beside).astype(np.uint8), cv2.MORPH_OPEN, disc)
    _, parts = cv2.connectedComponents(wide)
    kept = np.isin(parts, np.unique(parts[beside & (wide > 0)])) & (wide > 0)
    return np.asarray(cv2.dilate(kept.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)


def _clusters(colours: Map) -> tuple[Array, Array] | None:
    """Centres and standard deviations [K, 3] of colours [N, 3]; None for too few."""
    chosen = np.ascontiguousarray(colours[:: max(1, len(colours) // _SAMPLES)])
    if len(chosen) < 8 * _CLUSTERS:
        return None
    # The first labels are by lightness, as OpenCV's own draw is not the same every time.
    labels = np.empty(len(chosen), np.int32)
    labels[chosen[:, 0].argsort(kind="stable")] = np.arange(len(chosen)) * _CLUSTERS // len(chosen)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 10, 0.5)
    _, found, centres = cv2.kmeans(chosen, _CLUSTERS, labels[:, None], stop, 1, cv2.KMEANS_USE_INITIAL_LABELS)
    spread = [
        chosen[found[:, 0] == k].std(axis=0) if (found == k).any() else _SPREAD for k in range(_CLUSTERS)
    ]
    return np.asarray(centres, np.float64), np.maximum(spread, _SPREAD)


def _distance(colours: Map, centres: Pixels, spread: Pixels) -> Map:
    """Distance of colours [N, 3] from the nearest cluster, in its standard deviations."""
    weight, centre = (1 / spread**2).astype(np.float32), centres.astype(np.float32)
    square = weight @ (colours**2).T - 2 * (weight * centre) @ colours.T
    square += (weight * centre**2).sum(axis=1)[:, None]
    return np.asarray(np.sqrt(np.maximum(square.min(axis=0), 0)), np.float32)


def _skin(lab: Map, source: Array, region: Region) -> Map:
    """`FaceMask.skin`: colours near those of the cheeks, the nose and the forehead."""
    brow = float(source[RIGHT_BROW.start : LEFT_BROW.stop, 1].mean())
    lips, nose = source[OUTER_LIPS].mean(axis=0), source[NOSE_TIP]
    eyes = [source[group].mean(axis=0) for group in (RIGHT_EYE, LEFT_EYE)]
    spots = [nose, [nose[0], brow - 0.2], *([eye[0], (eye[1] + lips[1]) / 2] for eye in eyes)]
    known = np.zeros(lab.shape[:2], np.uint8)
    radius = max(1, round(0.12 * region.frame.unit * lab.shape[1] / region.width))
    for column, row in np.rint(_on_raster(np.array(spots), region)).astype(int).tolist():
        cv2.circle(known, (column, row), radius, 1, -1)
    colours = lab[known > 0]
    if len(colours) < 8:
        return np.ones(lab.shape[:2], np.float32)
    middle = np.median(colours, axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(colours - middle), axis=0), _SKIN)
    away = _distance(lab.reshape(-1, 3), middle[None], spread[None]).reshape(lab.shape[:2])
    return np.asarray(np.clip((_LIT[1] - away) / (_LIT[1] - _LIT[0]), 0, 1), np.float32)
