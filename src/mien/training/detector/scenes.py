"""Training scenes, composed on the fly: faces of all sizes, turned by any angle, covered and cut off, in photographs.

A network learns first what is easiest to see, and that must not be the edge of a pasted picture: beside faces, scenes
hold decoys, which are pieces of faceless photographs and shuffled pieces of faces, pasted in the same ways. A face is
pasted whole with its surroundings, with a hard or soft rectangular edge, or in a soft ellipse about the head.

Each scene knows which pixels show which face. A face counts if at least `CLEAR` of its ellipse is visible; its box is
clipped to the picture. One of which less is visible, or that is lower than `LEAST` pixels, is neither right nor wrong.

Tests: tests/training/detector/test_scenes.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.training.detector.sources import Background, FaceSources, bounds

Floats = NDArray[Any]  # float32 or float64
Pixels = NDArray[Any]  # uint8

MOST: Final = 16
"""Largest number of faces, and of ignored places, of a scene."""

CLEAR: Final = 0.5
"""Visible share of a face from which it counts."""

HINT: Final = 0.15
"""Visible share of a face up to which it is no face."""

LEAST: Final = 10
"""Faces lower than this, in pixels, are ignored."""

SWAP: Final = (1, 0, 2, 4, 3)
"""The five points of the mirror image."""

UNCLEAR: Final = 20.0
"""Degrees around the middle between two quarter turns in which the head's quarter turn is not taught."""

_SMALL: Final = 20
"""Faces of fewer pixels are mostly upright: turned by any angle they look like too much else."""

_UPRIGHT: Final = 0.55
_UPRIGHT_SMALL: Final = 0.85
"""Shares of the faces that are about upright."""

_ALARMED: Final = 0.3
"""Largest share of the crops of photographs that show a false alarm."""

_ENLARGED: Final = 1.6
"""Largest factor by which a picture of a face is enlarged."""

_SKIN: Final = np.array(
    [(94, 60, 45), (141, 85, 62), (198, 134, 104), (224, 172, 140), (241, 205, 180)], np.float32
)
"""Colours of skin, RGB, for hands and for grey pictures of faces."""


class SceneBatch(NamedTuple):
    """A batch of n scenes with up to k faces.

    Attributes:
        images: uint8 [n, h, w, 3].
        boxes: float32 [n, k, 4], (left, top, right, bottom) in pixels; NaN for no face.
        points: float32 [n, k, 5, 2]; NaN where unknown.
        turns: int64 [n, k], quarter turns clockwise, 0 to 3; -1 where unclear.
        ignored: float32 [n, k, 4], boxes of places that are neither right nor wrong; NaN for none.
    """

    images: Tensor
    boxes: Tensor
    points: Tensor
    turns: Tensor
    ignored: Tensor


@dataclass
class SceneCanvas:
    """A picture in the making, with its faces.

    Attributes:
        image: uint8 [h, w, 3].
        owner: int16 [h, w], the number of the face that a pixel shows, -1 for none.
        ellipses: of each face, as in `FaceSources`, in pixels of the scene.
        points: [5, 2] of each face.
    """

    image: Pixels
    owner: NDArray[np.int16]
    ellipses: list[Floats] = field(default_factory=list)
    points: list[Floats] = field(default_factory=list)


class Truth(NamedTuple):
    """What a scene shows: `boxes` [k, 4], `points` [k, 5, 2], `turns` [k], and `ignored` boxes [m, 4]."""

    boxes: Floats
    points: Floats
    turns: NDArray[np.int64]
    ignored: Floats


class Composer:
    """Composes scenes of `side` x `side` pixels from faces (`sets` by name) and backgrounds."""

    def __init__(self, sets: dict[str, FaceSources], backgrounds: Sequence[Background], side: int) -> None:
        self._sets = [faces for faces in sets.values() if len(faces)]
        # Large sets are drawn from more often, but less than in proportion.
        sizes = np.sqrt([len(faces) for faces in self._sets])
        self._shares = sizes / sizes.sum()
        self.backgrounds, self._side = backgrounds, side
        # Likewise for the places that photographs come from.
        places = Counter(background.place for background in backgrounds)
        weights = np.array([places[background.place] ** -0.5 for background in backgrounds])
        self._ends = np.cumsum(weights) / weights.sum()
        self._alarms: Floats = np.empty((0, 5))
        self.learn(())

    def learn(self, alarms: Sequence[Sequence[float]]) -> None:
        """Show more often what was wrongly taken for a face: `alarms` are (number of the background, left, top, right,
        bottom), beside those that YuNet gives."""
        given = [
            (number, *box)
            for number, background in enumerate(self.backgrounds)
            for box in background.alarms.tolist()
        ]
        self._alarms = np.array([*given, *alarms], np.float64).reshape(-1, 5)

    def __call__(self, random: np.random.Generator) -> tuple[Pixels, Truth]:
        """One scene; everything depends on `random` alone."""
        image = self._background(random)
        scene = SceneCanvas(image, np.full(image.shape[:2], -1, np.int16))
        kind = random.random()
        if kind < 0.1:
            sizes = []
        elif kind < 0.35:
            sizes = [_between(random, 0.3, 1.1)]
        elif kind < 0.7:
            sizes = [_between(random, 0.08, 0.5) for _ in range(random.integers(1, 5))]
        else:
            sizes = [_between(random, 0.04, 0.2) for _ in range(random.integers(4, MOST))]
        for size in sorted(sizes, reverse=True):
            if random.random() < 0.2:
                self._decoy(scene, size * self._side, random)
            self._face(scene, size * self._side, random)
        if random.random() < 0.3:
            self._decoy(scene, _between(random, 0.05, 0.6) * self._side, random)
        sharpness = float(random.uniform(0.4, 0.9)) if random.random() < 0.2 else 1.0
        return spoilt(scene.image, random, sharpness), _truth(scene, LEAST / sharpness)

    def _background(self, random: np.random.Generator) -> Pixels:
        """A crop of a photograph without a face, or two beside each other."""
        image = self._crop(self._side, self._side, random)
        if random.random() < 0.25:
            edge = int(self._side * random.uniform(0.2, 0.8))
            if random.random() < 0.5:
                image[:, edge:] = self._crop(self._side, self._side - edge, random)
            else:
                image[edge:] = self._crop(self._side - edge, self._side, random)
        return image

    def _crop(self, height: int, width: int, random: np.random.Generator) -> Pixels:
        if not self.backgrounds or random.random() < 0.03:
            shade = random.uniform(0, 255, (2, 2, 3)).astype(np.float32)
            return cv2.resize(shade, (width, height)).astype(np.uint8)
        if random.random() < min(_ALARMED, len(self._alarms) / 1000):
            number, *alarm = self._alarms[int(random.integers(len(self._alarms)))].tolist()
            source = self.backgrounds[int(number)].image
            scale = (
                _between(random, 1.2, 8) * max(alarm[2] - alarm[0], alarm[3] - alarm[1]) / max(height, width)
            )
            middle = np.array([alarm[1] + alarm[3], alarm[0] + alarm[2]]) / 2
            place = random.uniform(0.25, 0.75, 2)
        else:
            source = self.backgrounds[int(np.searchsorted(self._ends, random.random()))].image
            scale = min(source.shape[0] / height, source.shape[1] / width)
            scale *= np.exp(random.uniform(min(0.0, np.log(0.3 / scale)), 0))
            middle, place = random.uniform(0, 1, 2) * source.shape[:2], np.full(2, 0.5)
        rows = min(max(8, int(scale * height)), source.shape[0])
        columns = min(max(8, int(scale * width)), source.shape[1])
        low = np.clip(
            middle - place * (rows, columns), 0, (source.shape[0] - rows, source.shape[1] - columns)
        )
        top, left = low.astype(int)
        part = source[top : top + rows, left : left + columns]
        how = cv2.INTER_AREA if rows > height else cv2.INTER_LINEAR
        image = np.asarray(cv2.resize(part, (width, height), interpolation=how), np.uint8)
        return np.ascontiguousarray(image[:, ::-1]) if random.random() < 0.5 else image

    def _face(self, scene: SceneCanvas, height: float, random: np.random.Generator) -> None:
        faces = self._sets[int(random.choice(len(self._sets), p=self._shares))]
        number = int(random.integers(len(faces)))
        source, ellipse, points = faces.images[number], faces.ellipses[number], faces.points[number]
        if random.random() < 0.5:
            source, ellipse, points = mirrored(source, ellipse, points)
        source = coloured(source, random)
        if random.random() < 0.25:
            source = self._covered(source, ellipse, points, random)
        scale = min(_ENLARGED, height / (2 * ellipse[3]))
        half = scale * float(ellipse[3])
        turn = _angle(random, _UPRIGHT if 2 * half > _SMALL else _UPRIGHT_SMALL)
        for _ in range(6):
            low, high = (half, self._side - half) if random.random() < 0.85 else (0.0, float(self._side))
            centre = random.uniform(min(low, self._side / 2), max(high, self._side / 2), 2)
            if all(np.hypot(*(centre - other[:2])) > 0.75 * (half + other[3]) for other in scene.ellipses):
                break
        else:
            return
        matrix = _turned(scale, turn, ellipse[:2], centre)
        mask = _mask(source.shape, ellipse, random)
        covered = paste(scene.image, source, mask, matrix)
        if covered is None:
            return
        rows, columns, shown = covered
        scene.owner[rows, columns][shown] = len(scene.ellipses)
        scene.ellipses.append(np.array([*centre, scale * ellipse[2], half, ellipse[4] + turn]))
        scene.points.append(points @ matrix[:, :2].T + matrix[:, 2])

    def _decoy(self, scene: SceneCanvas, height: float, random: np.random.Generator) -> None:
        """Paste something that is no face, in the same way."""
        if random.random() < 0.75:
            source = self._crop(96, 96, random)
        else:
            faces = self._sets[int(random.choice(len(self._sets), p=self._shares))]
            number = int(random.integers(len(faces)))
            source = shuffled(coloured(faces.images[number], random), random)
        if random.random() < 0.4:  # as grey as many pictures of faces
            source = coloured(source[..., 1], random)
        ellipse = np.array(
            [source.shape[1] / 2, source.shape[0] / 2, 0.28 * source.shape[1], 0.36 * source.shape[0], 0]
        )
        scale = height / (2 * ellipse[3])
        centre = random.uniform(0, self._side, 2)
        matrix = _turned(scale, _angle(random, _UPRIGHT), ellipse[:2], centre)
        covered = paste(scene.image, source, _mask(source.shape, ellipse, random), matrix)
        if covered is not None:
            rows, columns, shown = covered
            scene.owner[rows, columns][shown] = -1

    def _covered(
        self, source: Pixels, ellipse: Floats, points: Floats, random: np.random.Generator
    ) -> Pixels:
        """A copy with sunglasses, a mask, a hand, a bar, or a piece of a photograph over a part of the face."""
        image, kind = source.copy(), random.integers(5)
        radius, across = float(ellipse[2]), points[1] - points[0]
        colour = tuple(random.uniform(0, 255, 3).tolist())
        if kind == 0:
            size = max(2, int(0.26 * radius)), max(2, int(random.uniform(0.18, 0.28) * radius))
            for eye in points[:2]:
                angle = float(np.degrees(np.arctan2(across[1], across[0])))
                cv2.ellipse(
                    image, _pixel(eye), size, angle, 0, 360, tuple(random.uniform(0, 60, 3).tolist()), -1
                )
            cv2.line(image, _pixel(points[0]), _pixel(points[1]), (20, 20, 20), max(1, int(0.06 * radius)))
        elif kind == 1:
            cv2.fillConvexPoly(
                image, _lower_face(ellipse, float(random.uniform(0.0, 0.25))), colour, cv2.LINE_AA
            )
        elif kind == 2:
            _draw_hand(image, ellipse, random)
        elif kind == 3:
            middle = ellipse[:2] + random.uniform(-0.8, 0.8, 2) * ellipse[2:4]
            way = random.normal(size=2)
            way *= 3 * radius / max(float(np.hypot(*way)), 1e-6)
            width = max(1, int(random.uniform(0.1, 0.4) * radius))
            cv2.line(image, _pixel(middle - way), _pixel(middle + way), colour, width, cv2.LINE_AA)
        else:
            side = int(np.ceil(radius * random.uniform(0.4, 0.9)))
            left, top = (ellipse[:2] + random.uniform(-1.3, 0.4, 2) * ellipse[2:4]).astype(int)
            right, bottom = min(left + side, image.shape[1]), min(top + side, image.shape[0])
            left, top = max(left, 0), max(top, 0)
            if right > left and bottom > top:
                image[top:bottom, left:right] = self._crop(bottom - top, right - left, random)
        return image


class SceneDraws(torch.utils.data.IterableDataset[SceneBatch]):
    """Endless batches of `batch` scenes; each depends only on the seed and its step. `step` is that of the first."""

    def __init__(self, composer: Composer, batch: int, seed: int, step: int = 0) -> None:
        self.composer, self.batch = composer, batch
        self._seed, self._step = seed, step

    def __iter__(self) -> Iterator[SceneBatch]:
        cv2.setNumThreads(1)
        for step in count(self._step):
            random = np.random.default_rng((self._seed, step))
            yield batched([self.composer(random) for _ in range(self.batch)])


def batched(scenes: Sequence[tuple[Pixels, Truth]]) -> SceneBatch:
    """Scenes of one size as a batch."""
    boxes = np.full((len(scenes), MOST, 4), np.nan, np.float32)
    points = np.full((len(scenes), MOST, 5, 2), np.nan, np.float32)
    turns = np.full((len(scenes), MOST), -1, np.int64)
    ignored = np.full((len(scenes), MOST, 4), np.nan, np.float32)
    for row, (_, truth) in enumerate(scenes):
        known = len(truth.boxes)
        boxes[row, :known], points[row, :known], turns[row, :known] = truth.boxes, truth.points, truth.turns
        ignored[row, : len(truth.ignored)] = truth.ignored
    images = np.stack([image for image, _ in scenes])
    return SceneBatch(*(torch.from_numpy(part) for part in (images, boxes, points, turns, ignored)))


def _between(random: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _angle(random: np.random.Generator, upright: float) -> float:
    """Degrees clockwise by which a face is turned: little with probability `upright`, else about a quarter turn, or
    any."""
    kind = (random.random() - upright) / (1 - upright)
    if kind < 0:
        return float(random.normal(0, 12))
    if kind < 0.55:
        return float(90 * random.integers(1, 4) + random.normal(0, 12))
    return float(random.uniform(-180, 180))


def _turned(scale: float, turn: float, source: Floats, target: Floats) -> Floats:
    """The map [2, 3] that scales, turns by degrees clockwise, and moves `source` to `target`."""
    cosine, sine = scale * np.cos(np.radians(turn)), scale * np.sin(np.radians(turn))
    linear = np.array([[cosine, -sine], [sine, cosine]])
    return np.concatenate([linear, (target - linear @ source)[:, None]], axis=1)


def _mask(shape: tuple[int, ...], ellipse: Floats, random: np.random.Generator) -> Pixels:
    """The opacity uint8 [h, w] with which a picture is pasted: all of it, softer at the rim, or a soft ellipse."""
    height, width = shape[:2]
    kind = random.random()
    if kind < 0.25:
        return np.full((height, width), 255, np.uint8)
    mask = np.zeros((height, width), np.uint8)
    soft = max(1, int(random.uniform(0.03, 0.12) * width))
    if kind < 0.6:
        mask[soft:-soft, soft:-soft] = 255
    else:
        grown = random.uniform(1.2, 1.7)
        axes = [int(grown * ellipse[2]), int(grown * ellipse[3])]
        cv2.ellipse(mask, _pixel(ellipse[:2]), axes, float(ellipse[4]), 0, 360, 255, -1)
        mask[:soft] = mask[-soft:] = 0
        mask[:, :soft] = mask[:, -soft:] = 0
    return np.asarray(cv2.blur(mask, (2 * soft + 1, 2 * soft + 1)), np.uint8)


def paste(
    image: Pixels, source: Pixels, mask: Pixels, matrix: Floats
) -> tuple[slice, slice, NDArray[np.bool_]] | None:
    """Draw `source` [h, w, 3] into `image` where `mask` [h, w] says, moved by a matrix [2, 3].

    Returns:
        The rows and columns of the part that changed, and where in it the source is more opaque than not; None if it
        lies outside.
    """
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    shrink = int(0.7 / scale) if scale < 0.35 else 1
    if (
        shrink > 1
    ):  # against aliasing; the centre of a pixel of the small picture lies between those of the large
        size = max(1, source.shape[1] // shrink), max(1, source.shape[0] // shrink)
        ratio = np.array([source.shape[1] / size[0], source.shape[0] / size[1]])
        source = np.asarray(cv2.resize(source, size, interpolation=cv2.INTER_AREA), np.uint8)
        mask = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_AREA), np.uint8)
        shift = matrix[:, 2] + matrix[:, :2] @ ((ratio - 1) / 2)
        matrix = np.concatenate([matrix[:, :2] * ratio, shift[:, None]], axis=1)
    height, width = source.shape[:2]
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ matrix[:, :2].T + matrix[:, 2]
    left, top = np.maximum(np.floor(corners.min(axis=0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 1, image.shape[1::-1])
    if right <= left or bottom <= top:
        return None
    moved = matrix - np.array([[0, 0, left], [0, 0, top]])
    extent = (int(right - left), int(bottom - top))
    drawn = cv2.warpAffine(source, moved, extent, borderMode=cv2.BORDER_REPLICATE)
    opacity = cv2.warpAffine(mask, moved, extent)
    share = opacity.astype(np.float32)[..., None] / 255
    rows, columns = slice(int(top), int(bottom)), slice(int(left), int(right))
    part = image[rows, columns]
    image[rows, columns] = (part + (drawn - part.astype(np.float32)) * share + 0.5).astype(np.uint8)
    return rows, columns, opacity > 127


def _truth(scene: SceneCanvas, least: float = LEAST) -> Truth:
    """What is visible at last; faces lower than `least` pixels are ignored."""
    height, width = scene.owner.shape
    boxes, points, turns, ignored = [], [], [], []
    for number, (ellipse, marks) in enumerate(zip(scene.ellipses, scene.points, strict=True)):
        whole = bounds(ellipse[None])[0]
        box = np.clip(whole, 0, [width, height, width, height])
        size = ellipse[2:4]
        left, top = np.floor(box[:2]).astype(int)
        right, bottom = np.ceil(box[2:]).astype(int)
        if right <= left or bottom <= top:
            continue
        inside = np.zeros((bottom - top, right - left), np.uint8)
        cv2.ellipse(
            inside, _pixel(ellipse[:2] - [left, top]), np.maximum(size.round().astype(int), 1).tolist(),
            float(ellipse[4]), 0, 360, 1, -1,
        )  # fmt: skip
        shown = np.count_nonzero(inside[scene.owner[top:bottom, left:right] == number]) / (
            np.pi * size.prod()
        )
        if shown < HINT:
            continue
        if shown < CLEAR or 2 * size[1] < least:
            ignored.append(box)
            continue
        quarter, rest = divmod(ellipse[4] + 45, 90)
        clear = UNCLEAR < rest < 90 - UNCLEAR
        boxes.append(box)
        points.append(marks)
        turns.append(int(quarter) % 4 if clear else -1)
    return Truth(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(points, np.float32).reshape(-1, 5, 2),
        np.array(turns, np.int64),
        np.array(ignored, np.float32).reshape(-1, 4),
    )


def mirrored(image: Pixels, ellipse: Floats, points: Floats) -> tuple[Pixels, Floats, Floats]:
    """The mirror image of a picture of a face."""
    last = image.shape[1] - 1
    other = ellipse * [-1, 1, 1, 1, -1] + [last, 0, 0, 0, 0]
    return np.ascontiguousarray(image[:, ::-1]), other, (points * [-1, 1] + [last, 0])[list(SWAP)]


def coloured(image: Pixels, random: np.random.Generator) -> Pixels:
    """An RGB copy: grey pictures stay grey or become as warm as skin; colours become grey in one of seven."""
    if image.ndim == 3:
        if random.random() < 1 / 7:
            return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        return image
    if random.random() < 0.4:
        return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_GRAY2RGB)
    skin = _SKIN[int(random.integers(len(_SKIN)))]
    tint = skin / skin.max() * random.uniform(0.92, 1.08, 3).astype(np.float32)
    table = np.arange(256, dtype=np.float32)[:, None]
    # Dark tones, such as hair, and highlights have less of the colour.
    strength = 4 * (table / 255) * (1 - table / 255) * np.float32(random.uniform(0.6, 1.0))
    table = np.clip(table * (1 + strength * (tint / tint.mean() - 1)), 0, 255).astype(np.uint8)
    return np.asarray(table[image], np.uint8)


def shuffled(image: Pixels, random: np.random.Generator) -> Pixels:
    """A picture cut into squares in another order."""
    parts = int(random.choice([3, 4, 6]))
    edge = min(image.shape[:2]) // parts
    tiles = image[: edge * parts, : edge * parts].reshape(parts, edge, parts, edge, 3).swapaxes(1, 2)
    tiles = random.permutation(tiles.reshape(-1, edge, edge, 3)).reshape(parts, parts, edge, edge, 3)
    return np.ascontiguousarray(tiles.swapaxes(1, 2).reshape(edge * parts, edge * parts, 3))


def spoilt(image: Pixels, random: np.random.Generator, sharpness: float = 1.0) -> Pixels:
    """A scene as a poor camera and codec show it: other light and colours, `sharpness` times the resolution, blur,
    noise, JPEG."""
    side = image.shape[0]
    gain, cast = np.exp(random.normal(0, 0.25)), np.exp(random.normal(0, 0.06, 3))
    if random.random() < 0.1:
        gain *= random.uniform(0.15, 0.5)  # a dark room
    gamma = np.exp(random.normal(0, 0.2))
    ramp = (np.arange(256) / 255) ** gamma
    table = np.clip(255 * ramp[:, None] * gain * cast + random.normal(0, 8), 0, 255).astype(np.uint8)
    image = cv2.LUT(image, table[None])
    if random.random() < 0.15:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if sharpness < 1:
        small = int(side * sharpness)
        image = cv2.resize(cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA), (side, side))
    if random.random() < 0.15:
        image = cv2.GaussianBlur(image, (0, 0), float(random.uniform(0.4, 1.4)))
    if random.random() < 0.3:
        noise = random.standard_normal((side // 2, side // 2, 3), np.float32)
        noise *= np.float32(random.uniform(2, 16))
        image = cv2.add(
            image, cv2.resize(noise, (side, side), interpolation=cv2.INTER_NEAREST), dtype=cv2.CV_8U
        )
    if random.random() < 0.35:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(20, 90))]
        coded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)[1]
        decoded: Any = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        image = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(image)


def _pixel(point: Floats) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def _lower_face(ellipse: Floats, start: float) -> NDArray[np.int32]:
    """The outline [k, 2] of a mask over nose and mouth, from `start` half heights below the face's centre."""
    turn = np.radians(ellipse[4])
    axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    down = np.linspace(np.arcsin(start), np.pi - np.arcsin(start), 12)
    outline = np.stack([np.cos(down) * ellipse[2], np.sin(down) * ellipse[3]], axis=1)
    return np.asarray(np.round(outline @ axes.T + ellipse[:2]), np.int32)


def _draw_hand(image: Pixels, ellipse: Floats, random: np.random.Generator) -> None:
    """Four fingers over a part of the face."""
    skin = _SKIN[int(random.integers(len(_SKIN)))] * random.uniform(0.7, 1.1)
    turn = random.uniform(0, 2 * np.pi)
    way, beside = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    width = float(ellipse[2]) * random.uniform(0.16, 0.26)
    tip = ellipse[:2] + random.uniform(-0.5, 0.5, 2) * ellipse[2:4]
    for finger in range(4):
        end = tip + (finger - 1.5) * 1.1 * width * beside + way * random.uniform(0, 1) * width
        colour = tuple(np.clip(skin * random.uniform(0.85, 1.1), 0, 255).tolist())
        start = end + way * 3.5 * float(ellipse[2])
        cv2.line(image, _pixel(end), _pixel(start), colour, max(1, int(width)), cv2.LINE_AA)
