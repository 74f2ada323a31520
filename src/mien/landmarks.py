"""Where the parts of a face are: 112 named points, a presence score and the head's pose.

**Left and right are the subject's own.** In a picture that is not mirrored the subject's left eye has the larger x.
Every group runs in a fixed direction (from the subject's right to their left, or round a contour), so a group can
be drawn as a line, and :data:`MIRROR` says which point a point becomes when the picture is mirrored.

**Pose** is (yaw, pitch, roll) in degrees, 0 for a head that looks straight into the camera. Yaw is positive when the
nose points to the picture's right (the subject looks to their own left), pitch when it points up, roll when the head
is turned clockwise in the picture (the subject's left eye is the lower one). They compose as roll after yaw after
pitch.

**Source.** The network is ours, trained by `configs/landmarks.yaml` on the answers of MediaPipe's FaceMesh and on
rendered heads; the points lie where FaceMesh puts the vertices listed in `mien.data.teacher`. See the card beside
the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.threads import Network, Team

Floats = NDArray[Any]  # float32 or float64
Pixels = NDArray[Any]  # uint8

# The groups of the scheme and their sizes, in the order of the points.
_SIZES: Final = {
    "jaw": 21,  # the face's lower outline, from beside the right ear over the chin (point 10) to the left ear
    "right_brow": 10,  # upper edge outer -> inner (5), lower edge outer -> inner (5)
    "left_brow": 10,  # the mirror image of the right brow, point for point
    "right_eye": 8,  # outer corner, upper lid outer -> inner (3), inner corner, lower lid inner -> outer (3)
    "left_eye": 8,  # the mirror image of the right eye, point for point
    "irises": 2,  # centres: right, left
    "nose_bridge": 6,  # from between the eyes down to the tip
    "nose_base": 7,  # right wing, right nostril (2), base below the septum, left nostril (2), left wing
    "outer_lips": 20,  # right corner, along the upper edge to the left corner (point 10), back along the lower edge
    "inner_lips": 20,  # the same round of the inner contour
}


def _slices() -> dict[str, slice]:
    ends = np.cumsum(list(_SIZES.values()))
    return {
        name: slice(int(end) - size, int(end)) for (name, size), end in zip(_SIZES.items(), ends, strict=True)
    }


GROUPS: Final[dict[str, slice]] = _slices()
POINTS: Final = tuple(f"{name}_{number}" for name, size in _SIZES.items() for number in range(size))

JAW: Final = GROUPS["jaw"]
RIGHT_BROW: Final = GROUPS["right_brow"]
LEFT_BROW: Final = GROUPS["left_brow"]
RIGHT_EYE: Final = GROUPS["right_eye"]
LEFT_EYE: Final = GROUPS["left_eye"]
RIGHT_IRIS: Final = GROUPS["irises"].start
LEFT_IRIS: Final = GROUPS["irises"].start + 1
NOSE_BRIDGE: Final = GROUPS["nose_bridge"]
NOSE_BASE: Final = GROUPS["nose_base"]
OUTER_LIPS: Final = GROUPS["outer_lips"]
INNER_LIPS: Final = GROUPS["inner_lips"]

CHIN: Final = JAW.start + 10
NOSE_TIP: Final = NOSE_BRIDGE.start + 5
NOSE_BOTTOM: Final = NOSE_BASE.start + 3
RIGHT_EYE_CORNERS: Final = (RIGHT_EYE.start, RIGHT_EYE.start + 4)
LEFT_EYE_CORNERS: Final = (LEFT_EYE.start, LEFT_EYE.start + 4)
RIGHT_MOUTH_CORNER: Final = OUTER_LIPS.start
LEFT_MOUTH_CORNER: Final = OUTER_LIPS.start + 10
# Upper and lower point of the inner lips that touch when the mouth is closed, right to left.
INNER_LIP_PAIRS: Final = tuple((INNER_LIPS.start + k, INNER_LIPS.start + 20 - k) for k in range(1, 10))
# Upper and lower lid, outer to inner, of each eye.
RIGHT_LID_PAIRS: Final = tuple((RIGHT_EYE.start + k, RIGHT_EYE.start + 8 - k) for k in range(1, 4))
LEFT_LID_PAIRS: Final = tuple((LEFT_EYE.start + k, LEFT_EYE.start + 8 - k) for k in range(1, 4))


def _mirror() -> NDArray[np.intp]:
    order = np.arange(len(POINTS))
    for name in ("jaw", "nose_base"):
        order[GROUPS[name]] = order[GROUPS[name]][::-1]
    order[RIGHT_BROW], order[LEFT_BROW] = (
        np.arange(len(POINTS))[LEFT_BROW],
        np.arange(len(POINTS))[RIGHT_BROW],
    )
    order[RIGHT_EYE], order[LEFT_EYE] = np.arange(len(POINTS))[LEFT_EYE], np.arange(len(POINTS))[RIGHT_EYE]
    order[RIGHT_IRIS], order[LEFT_IRIS] = LEFT_IRIS, RIGHT_IRIS
    for lips in (OUTER_LIPS, INNER_LIPS):
        order[lips] = lips.start + (10 - np.arange(20)) % 20
    return order


MIRROR: Final = _mirror()
"""Mirroring a picture turns point ``i`` into point ``MIRROR[i]``; doing so twice changes nothing."""

SIDE: Final = 64
"""Side of the network's square input, pixels."""

MARGIN: Final = 1.2
"""The input square's side over the longer side of a face box."""


NETWORK_BATCH: Final = 32
"""Faces that one thread takes at once; more are worked off in turns, to bound memory."""

WORTH_SHARING: Final = 4
"""Faces for which another thread is worth waking. Measured on two cores: 2 faces take 0.39 ms each on two threads and
0.35 on one, 8 take 0.21 and 0.26, 32 take 0.18 and 0.31."""

PLAIN: Final = 0.999
"""Presence, at every look, of a face that plainly stands upright in its box. With less, or with more than `TILT`, the
quarter turns are tried too: for none of 204 studio portraits, 2 % of 500 press photographs and 17 % of 500 web faces of
48 px; upside-down faces pass as plain in 1 of 455 (`tests/test_visibility.py` measures it)."""

TILT: Final = 20.0
"""Degrees of roll, see `PLAIN`."""

TURNED: Final = 0.95
"""Presence, at every look, that a turned view must reach to be taken, so that turning does not make faces of bushes."""

TURN_FACTOR: Final = 4.5
"""How many times higher the odds of presence in a turned view must be: faces mostly stand upright."""


class Landmarker:
    """The landmark network on ONNX Runtime. Safe to call from several threads."""

    def __init__(self, session: Any, looks: int = 2, threads: int | None = 1) -> None:
        """`looks`: how often the network looks; from the second time on upright, at what it found before."""
        self._session = session
        self._team = Team(threads, most=NETWORK_BATCH, least=WORTH_SHARING)
        self.looks = looks

    @classmethod
    def load(cls, path: Path | str | None = None, threads: int | None = None) -> Landmarker:
        """Open the weights at `path` (None: those that ship) for `threads` threads (None: all this process may use).

        Raises:
            WeightsError: the weights or their card are missing or do not belong together.
        """
        from mien import cards

        network, _ = Network.open(cards.FOLDER / "landmarks.onnx" if path is None else path)
        return cls(network, threads=threads)

    def __call__(self, image: Pixels, boxes: Floats) -> tuple[Floats, Floats, Floats]:
        """Points [n, P, 2] in pixels, presence [n] in 0..1 and pose [n, 3] in degrees of n faces.

        `image` is an RGB picture [height, width, 3]; `boxes` [n, 4] are (left, top, right, bottom) in its pixels, as
        a face detector draws them: about as wide as the face, from the hairline to the chin. The face may be turned by
        any angle in the picture: where it does not plainly stand upright, quarter turns of its box are tried as well.
        Roll is in -180..180.
        """
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        views = [(*square_of(box), 0.0) for box in boxes]
        points, presence, pose, last = self._looks(image, views)
        odd = np.flatnonzero((np.minimum(presence, last) < PLAIN) | (abs(pose[:, 2]) > TILT))
        if len(odd):
            turns = (90.0, 180.0, 270.0)
            turned = [(*views[face][:2], turn) for face in odd for turn in turns]
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
        """All looks at n views: points, presence at the first look, pose, and presence at the last look."""
        points, presence, pose = self._look(image, views)
        last = presence
        for _ in range(self.looks - 1):
            points, last, pose = self._look(image, [upright_square(face) for face in points])
        return points, presence, pose, last

    def follow(self, image: Pixels, points: Floats) -> tuple[Floats, Floats, Floats]:
        """As `__call__`, with one look at faces whose points [n, P, 2] in the frame before are known, not their boxes.

        Presence falls below one half where a face has gone or turned away: time to detect again.
        """
        return self._look(image, [upright_square(face) for face in np.asarray(points, np.float32)])

    def _look(
        self, image: Pixels, views: Sequence[tuple[Floats, float, float]]
    ) -> tuple[Floats, Floats, Floats]:
        """As `__call__`, for squares of a centre, a side and an angle in degrees."""
        points = np.empty((len(views), len(POINTS), 2), np.float32)
        presence, pose = np.empty(len(views), np.float32), np.empty((len(views), 3), np.float32)

        def look(rows: slice) -> None:
            crops, maps = zip(*(grey_cut(image, *view) for view in views[rows]), strict=True)
            found, presence[rows], pose[rows] = self._session.run(None, {"images": np.stack(crops)[:, None]})
            linear, shift = np.stack(maps)[:, :, :2], np.stack(maps)[:, None, :, 2]
            # Crop units have pixel edges at 0 and 1; undo the cut's affine map.
            points[rows] = (found * SIDE - 0.5 - shift) @ np.linalg.inv(linear).transpose(0, 2, 1)
            pose[rows, 2] += [angle for _, _, angle in views[rows]]

        self._team.share(look, len(views))
        return points, presence, pose


def _odds(presence: Floats) -> Floats:
    sure = np.clip(presence.astype(np.float64), 0, 1 - 1e-6)
    return np.asarray(sure / (1 - sure))


def grey_cut(image: Pixels, centre: Floats, side: float, angle: float = 0.0) -> tuple[Pixels, Floats]:
    """`cut` of an RGB picture as luma; only the part that is needed is touched."""
    half = side * 0.8 + 2
    low = np.clip(np.floor(centre - half), 0, np.array(image.shape[1::-1]) - 1).astype(int)
    high = np.maximum(np.clip(np.ceil(centre + half), 0, image.shape[1::-1]).astype(int), low + 1)
    crop, there = cut(image[low[1] : high[1], low[0] : high[0]], centre - low, side, angle)
    there[:, 2] -= there[:, :2] @ low
    return cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), there


def box_of_points(points: Floats) -> Floats:
    """The box (left, top, right, bottom) that a detector would draw round a face with these points [P, 2].

    The points end at the brows and a box at the hairline: on 75 faces libfacedetection's boxes are as wide as their
    points, 1.36 times as high, and lie 0.16 heights further up.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    (width, height), centre = high - low, (low + high) / 2
    half = np.array([width / 2, 1.36 * height / 2])
    centre = centre - [0, 0.16 * height]
    return np.concatenate([centre - half, centre + half]).astype(np.float32)


def square_of(box: Floats) -> tuple[Floats, float]:
    """Centre (x, y) and side of the square that the network sees of a face box (left, top, right, bottom)."""
    return (box[:2] + box[2:]) / 2, float(np.max(box[2:] - box[:2])) * MARGIN


def upright_square(points: Floats) -> tuple[Floats, float, float]:
    """Centre, side and angle in degrees of the square, turned with the eyes, for a face of known points [P, 2]."""
    along = points[list(LEFT_EYE_CORNERS)].mean(axis=0) - points[list(RIGHT_EYE_CORNERS)].mean(axis=0)
    angle = np.arctan2(along[1], along[0])
    axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre, side = square_of(box_of_points(points @ axes))
    return axes @ centre, max(side, 4.0), float(np.degrees(angle))


def cut(image: Pixels, centre: Floats, side: float, angle: float = 0.0) -> tuple[Pixels, Floats]:
    """The square about `centre` as SIDE x SIDE pixels, and the affine map [2, 3] from the picture into it.

    The square is turned by `angle` degrees clockwise, so that a head of that roll stands upright in it. Beyond the
    picture its edge is repeated.
    """
    scale, turn = SIDE / side, np.radians(angle)
    cosine, sine = scale * np.cos(turn), scale * np.sin(turn)
    linear = np.array([[cosine, sine], [-sine, cosine]])
    there = np.concatenate([linear, ((SIDE - 1) / 2 - linear @ centre)[:, None]], axis=1)
    step = min(int(1 / scale), *image.shape[:2])
    if step < 2:
        return cv2.warpAffine(image, there, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE), there
    height, width = (size // step for size in image.shape[:2])
    # Average blocks of step x step pixels first, so that none falls between two of ours.
    small = cv2.resize(image[: height * step, : width * step], (width, height), interpolation=cv2.INTER_AREA)
    blocks = there.copy()
    blocks[:, :2] *= step
    blocks[:, 2] += there[:, :2].sum(axis=1) * (step - 1) / 2
    return cv2.warpAffine(small, blocks, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE), there
