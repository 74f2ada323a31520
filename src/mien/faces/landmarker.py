"""The landmark network: from a face's box to 112 points, a presence score and the head pose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from mien.faces import align
from mien.io.onnx import Network, ThreadedBatches
from mien.landmarks import LEFT_EYE_CORNERS, POINTS, RIGHT_EYE_CORNERS, Floats, Pixels

SIDE: Final = 64
"""Side of the network's square input, pixels."""

LOOKS: Final = 2
"""Passes of the network: the first in the detector's box, the others in the upright square of the points found."""

MARGIN: Final = 1.2
"""Ratio of the input square's side to the longer side of a face box."""


NETWORK_BATCH: Final = 32
"""Largest number of faces in one run of the network; more are split into several runs, to limit memory."""

TALLER, LIFT = 1.36, 0.16
"""How much higher a detector's box is than the points in it, and how far it lies further up, in heights of the points:
on 75 faces, of which libfacedetection's boxes are as wide as the points."""

WORTH_SHARING: Final = 4
"""Number of faces from which another thread pays off. Measured on two cores: 2 faces take 0.39 ms each on two threads
and 0.35 on one, 8 take 0.21 and 0.26, 32 take 0.18 and 0.31."""


class Landmarker:
    """The landmark network on ONNX Runtime. Safe to call from several threads."""

    def __init__(self, session: Any, looks: int = LOOKS, threads: int | None = 1) -> None:
        """`looks`: number of passes of the network; from the second on, on the upright square of the points found
        before."""
        self._session = session
        self._team = ThreadedBatches(threads, most=NETWORK_BATCH, least=WORTH_SHARING)
        self.looks = looks

    @classmethod
    def load(cls, path: Path | str | None = None, threads: int | None = None) -> Landmarker:
        """Open the weights at `path` (None: those that ship) for `threads` threads (None: all this process may use).

        Raises:
            WeightsError: the weights or their card are missing or do not belong together.
        """
        from mien.io import cards

        network, _ = Network.open(cards.FOLDER / "landmarks.onnx" if path is None else path)
        return cls(network, threads=threads)

    def __call__(
        self, image: Pixels, boxes: Floats, rolls: Sequence[float] | None = None
    ) -> tuple[Floats, Floats, Floats]:
        """Points [n, P, 2] in pixels, presence [n] in 0..1 and pose [n, 3] in degrees of n faces.

        `image` is an RGB picture [height, width, 3]; `boxes` [n, 4] are (left, top, right, bottom) in its pixels, as
        a face detector draws them: about as wide as the face, from the hairline to the chin. The face may be turned by
        any angle in the picture: `rolls` [n] are the quarter turns, in degrees clockwise, at which a detector saw the
        heads (None: upright); where a face is not clearly so, the other quarter turns of its box are tried too.
        Roll is in -180..180.
        """
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        angles = np.zeros(len(boxes)) if rolls is None else np.asarray(rolls, np.float64)
        views = [(*square_of(box), float(angle)) for box, angle in zip(boxes, angles, strict=True)]
        points, presence, pose, last = self._looks(image, views)
        tilt = abs((pose[:, 2] - angles + 180) % 360 - 180)
        odd = np.flatnonzero((np.minimum(presence, last) < PLAIN) | (tilt > TILT))
        if len(odd):
            turns = (90.0, 180.0, 270.0)
            turned = [(*views[face][:2], views[face][2] + turn) for face in odd for turn in turns]
            found = self._looks(image, turned)
            odds = _odds(found[3]).reshape(-1, len(turns))
            odds[np.minimum(found[1], found[3]).reshape(odds.shape) < TURNED] = 0
            best, rows = odds.argmax(axis=1), np.arange(len(odd))
            better = odds[rows, best] > TURN_FACTOR * _odds(last[odd])
            for mine, other in zip((points, presence, pose), found, strict=False):
                mine[odd[better]] = other[(rows * len(turns) + best)[better]]
        pose[:, 2] = (pose[:, 2] + 180) % 360 - 180
        return points, presence, pose

    def _looks(
        self, image: Pixels, views: Sequence[tuple[Floats, float, float]]
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Run all passes on n views: points, presence in the first pass, pose, and presence in the last pass."""
        points, presence, pose = self.look_at(image, views)
        last = presence
        for _ in range(self.looks - 1):
            points, last, pose = self.look_at(image, [upright_square(face) for face in points])
        return points, presence, pose, last

    def follow(self, image: Pixels, points: Floats) -> tuple[Floats, Floats, Floats]:
        """As `__call__`, in one pass over faces known by their points [n, P, 2] in the previous frame, not by boxes.

        Presence falls below one half when a face has disappeared or turned away; then run the detector again.
        """
        return self.look_at(image, [upright_square(face) for face in np.asarray(points, np.float32)])

    def look_at(
        self, image: Pixels, views: Sequence[tuple[Floats, float, float]]
    ) -> tuple[Floats, Floats, Floats]:
        """As `__call__`, for squares of a centre, a side and an angle in degrees."""
        views = [settled(*view) for view in views]
        points = np.empty((len(views), len(POINTS), 2), np.float32)
        presence, pose = np.empty(len(views), np.float32), np.empty((len(views), 3), np.float32)

        def look(rows: slice) -> None:
            crops, maps = zip(*(grey_cut(image, *view) for view in views[rows]), strict=True)
            found, presence[rows], pose[rows] = self._session.run(None, {"images": np.stack(crops)[:, None]})
            linear, shift = np.stack(maps)[:, :, :2], np.stack(maps)[:, None, :, 2]
            # Crop units have pixel edges at 0 and 1; invert the affine map of `cut`.
            points[rows] = (found * SIDE - 0.5 - shift) @ np.linalg.inv(linear).transpose(0, 2, 1)
            pose[rows, 2] += [angle for _, _, angle in views[rows]]

        self._team.map(look, len(views))
        return points, presence, pose


def settled(centre: Floats, side: float, angle: float) -> tuple[Floats, float, float]:
    """A square, rounded as by `mien.faces.align.settled`: the network sees the same pixels on every processor."""
    step = align.grid(side / SIDE)
    turn = round(angle / align.ANGLE_STEP) * align.ANGLE_STEP
    return np.round(np.asarray(centre, np.float64) / step) * step, max(round(side / step), 1) * step, turn


def grey_cut(image: Pixels, centre: Floats, side: float, angle: float = 0.0) -> tuple[Pixels, Floats]:
    """`cut` of an RGB picture as luma; only the pixels under the crop are converted."""
    half = side * 0.8 + 2
    low = np.clip(np.floor(centre - half), 0, np.array(image.shape[1::-1]) - 1).astype(int)
    high = np.maximum(np.clip(np.ceil(centre + half), 0, image.shape[1::-1]).astype(int), low + 1)
    crop, there = cut(image[low[1] : high[1], low[0] : high[0]], centre - low, side, angle)
    there[:, 2] -= there[:, :2] @ low
    return cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), there


def box_of_points(points: Floats) -> Floats:
    """The box (left, top, right, bottom) that a detector would draw around a face with these points [P, 2].

    The points end at the brows and a box at the hairline, see `TALLER`.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    (width, height), centre = high - low, (low + high) / 2
    half = np.array([width / 2, TALLER * height / 2])
    centre = centre - [0, LIFT * height]
    return np.concatenate([centre - half, centre + half])


def square_of(box: Floats) -> tuple[Floats, float]:
    """Centre (x, y) and side of the network's input square for a face box (left, top, right, bottom)."""
    return (box[:2] + box[2:]) / 2, float(np.max(box[2:] - box[:2])) * MARGIN


def upright_square(points: Floats) -> tuple[Floats, float, float]:
    """Centre, side and angle in degrees of the square, turned with the eyes, for a face of known points [P, 2]."""
    points = np.asarray(points, np.float64)
    along = points[list(LEFT_EYE_CORNERS)].mean(axis=0) - points[list(RIGHT_EYE_CORNERS)].mean(axis=0)
    angle = np.arctan2(along[1], along[0])
    axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre, side = square_of(box_of_points(points @ axes))
    return axes @ centre, max(side, 4.0), float(np.degrees(angle))


def cut(image: Pixels, centre: Floats, side: float, angle: float = 0.0) -> tuple[Pixels, Floats]:
    """The square about `centre` as SIDE x SIDE pixels, and the affine map [2, 3] from the picture into it.

    The square is turned by `angle` degrees clockwise, so that a head of that roll stands upright in it. Outside the
    picture its edge pixels are repeated.
    """
    scale, turn = SIDE / side, np.radians(angle)
    cosine, sine = scale * np.cos(turn), scale * np.sin(turn)
    linear = np.array([[cosine, sine], [-sine, cosine]])
    there = np.concatenate([linear, ((SIDE - 1) / 2 - linear @ centre)[:, None]], axis=1)
    step = min(int(1 / scale), *image.shape[:2])
    if step < 2:
        return cv2.warpAffine(image, there, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE), there
    height, width = (size // step for size in image.shape[:2])
    # Average blocks of step x step pixels first, against aliasing.
    small = cv2.resize(image[: height * step, : width * step], (width, height), interpolation=cv2.INTER_AREA)
    blocks = there.copy()
    blocks[:, :2] *= step
    blocks[:, 2] += there[:, :2].sum(axis=1) * (step - 1) / 2
    return cv2.warpAffine(small, blocks, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE), there


PLAIN: Final = 0.999
"""Presence, in every pass, of a face that is clearly upright in its box. With a lower one, or a roll above `TILT`, the
quarter turns are tried too: for none of 204 studio portraits, 2 % of 500 press photographs and 17 % of 500 web faces of
48 px; upside-down faces pass as upright in 1 of 455 (`tests/faces/test_visibility.py` measures it)."""

TILT: Final = 20.0
"""Largest roll in degrees of a clearly upright face, see `PLAIN`."""

TURNED: Final = 0.95
"""Presence, in every pass, that a turned view must reach to be used, so that turning does not turn background into
faces."""

TURN_FACTOR: Final = 4.5
"""Factor by which the odds of presence in a turned view must be higher, since most faces are upright."""


def _odds(presence: Floats) -> Floats:
    sure = np.clip(presence.astype(np.float64), 0, 1 - 1e-6)
    return np.asarray(sure / (1 - sure))
