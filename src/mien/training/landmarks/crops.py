"""Training data of the landmark network: labelled faces, pictures without a face, and degraded crops of both.

The network sees a grey square of 64 px around a noisy face box and is trained to tolerate the faults of detectors and
videos: boxes off by 15 %, heads that roll, faces of 20 px, blur, noise, poor light, and occlusion.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.data.duplicates import hash_of
from mien.errors import DatasetDamaged
from mien.faces.detect import MienDetector
from mien.faces.landmarker import SIDE, box_of_points, cut, square_of, upright_square
from mien.landmarks import MIRROR, POINTS
from mien.training.landmarks.teacher import FACES, head_pose

Floats = NDArray[Any]  # float32 or float64
Pixels = NDArray[Any]  # uint8

SURE: Final = 0.9
"""Faces with a lower score by the teacher are left out."""


@dataclass(frozen=True)
class LandmarkFaces:
    """Grey pictures, each with its face's points [P, 2] in pixels and its pose [3] in degrees."""

    images: list[Pixels]
    points: Floats
    pose: Floats

    def take(self, rows: NDArray[np.intp]) -> LandmarkFaces:
        """Some of the faces."""
        return LandmarkFaces([self.images[row] for row in rows], self.points[rows], self.pose[rows])


def held_out(names: NDArray[Any]) -> NDArray[np.bool_]:
    """Mask of a tenth of the people: those with an LFW or DiffusionFER name that, without its number, has a hash of 0
    modulo 10."""
    people = [str(name).rsplit("/", 1)[-1].rsplit("_", 1)[0] for name in names]
    return np.array([zlib.crc32(person.encode()) % 10 == 0 for person in people])


def grey(image: Pixels) -> Pixels:
    """Luma of an RGB picture."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def read_set(labels: Path, name: str, root: Path) -> tuple[NDArray[Any], LandmarkFaces]:
    """Names and faces of one set for which the teacher's score is high enough, with its labels.

    Raises:
        DatasetDamaged: none of the pictures has a label, or a picture differs from the one that was labelled.
    """
    with np.load(labels / f"{name}.npz") as file:
        rows = {str(one): number for number, one in enumerate(file["names"])}
        points, score, pose = file["points"], file["score"], head_pose(file["rigid"])
        content = file.get("content")  # older labels have no hashes
    kept = []
    for one, image in FACES[name](root):
        if one in rows and score[rows[one]] > SURE:
            if content is not None and content[rows[one]] != hash_of(image):
                raise DatasetDamaged(
                    f"{labels / name}.npz labels another picture named {one} than {root} holds: remove it, to have the "
                    "set labelled again"
                )
            kept.append((one, grey(image), rows[one]))
    if not kept:
        raise DatasetDamaged(
            f"{labels / name}.npz labels no face of {root}: remove it, to have the set labelled again"
        )
    names, pictures, chosen = zip(*kept, strict=True)
    return np.array(names), LandmarkFaces(list(pictures), points[list(chosen)], pose[list(chosen)])


def read_rendered(file: Path) -> LandmarkFaces:
    """Renderings with exact points and pose."""
    with np.load(file) as arrays:
        return LandmarkFaces([grey(image) for image in arrays["images"]], arrays["points"], arrays["pose"])


def read_faces(labels: Path, roots: Mapping[str, Path], rendered: bool) -> dict[str, LandmarkFaces]:
    """All faces for which the teacher's score is high enough: `train` and, not used in training, one set for each
    source.

    Args:
        labels: the folder of label files, see `mien.training.landmarks.teacher.complete`.
        roots: the folder of each set, by its name in `mien.training.landmarks.teacher.FACES`.
        rendered: take the renderings too.
    """
    train, held = [], {}
    for name, root in roots.items():
        names, faces = read_set(labels, name, root)
        if name == "ferplus_test":
            held["ferplus"] = faces
        elif name.startswith("ferplus"):
            train.append(faces)
        else:
            out = held_out(names)
            held[name] = faces.take(np.flatnonzero(out))
            train.append(faces.take(np.flatnonzero(~out)))
    if rendered:
        held["rendered"] = read_rendered(labels / "rendered_test.npz")
        train.append(read_rendered(labels / "rendered_train.npz"))
    held["train"] = LandmarkFaces(
        [image for faces in train for image in faces.images],
        np.concatenate([faces.points for faces in train]),
        np.concatenate([faces.pose for faces in train]),
    )
    return held


def read_backgrounds(places: tuple[Path, ...]) -> list[tuple[Pixels, Floats]]:
    """Grey pictures and the boxes [k, 4] of the faces that our detector sees in them, to be avoided."""
    detector = MienDetector(minimum=10, first=640)
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*")))]
    found = []
    for file in files:
        pictures = []
        if file.suffix in (".mp4", ".mov"):
            video, count = cv2.VideoCapture(str(file)), 0
            while (frame := video.read())[0]:
                if count % 15 == 0:
                    pictures.append(frame[1])
                count += 1
        elif file.suffix in (".jpg", ".jpeg", ".png", ".gif", ".tif"):
            picture = cv2.imread(str(file))
            pictures += [] if picture is None else [picture]
        for picture in pictures:
            scale = min(1.0, 640 / max(picture.shape[:2]))
            picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            height, width = picture.shape[:2]
            if min(height, width) < 48:
                continue
            rgb = np.ascontiguousarray(picture[:, :, ::-1])
            boxes = np.array(
                [face.box.corners for face in detector(rgb.astype(np.uint8, copy=False))], np.float32
            ).reshape(-1, 4)
            found.append((grey(rgb), boxes))
    return found


class LandmarkCrops(NamedTuple):
    """A batch.

    Attributes:
        images: uint8 [n, 1, 64, 64] luma.
        points: float32 [n, P, 2] in 0..1 of the crop; NaN without a face.
        pose: float32 [n, 3] in degrees; NaN without a face.
        presence: float32 [n], 1 for a face and 0 without.
    """

    images: Tensor
    points: Tensor
    pose: Tensor
    presence: Tensor


class Draws(torch.utils.data.IterableDataset[LandmarkCrops]):
    """Endless augmented batches; each depends only on the seed and its step.

    Args:
        faces, backgrounds: the pictures that crops are cut from.
        batch: crops per batch.
        negatives: the share of crops without a face.
        seed: the seed of everything random.
        step: the step of the first batch.
    """

    def __init__(
        self,
        faces: LandmarkFaces,
        backgrounds: list[tuple[Pixels, Floats]],
        batch: int,
        negatives: float,
        seed: int,
        step: int = 0,
    ) -> None:
        self.faces, self.backgrounds, self.batch, self.negatives = faces, backgrounds, batch, negatives
        self._seed, self._step = seed, step
        self.random = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[LandmarkCrops]:
        cv2.setNumThreads(1)
        for step in count(self._step):
            self.random = np.random.default_rng((self._seed, step))
            rows = [
                self.no_face() if self.random.random() < self.negatives else self.face()
                for _ in range(self.batch)
            ]
            images, points, poses = (np.stack([row[k] for row in rows]) for k in range(3))
            presence = np.isfinite(points[:, 0, 0])
            yield LandmarkCrops(
                torch.from_numpy(images)[:, None],
                torch.from_numpy(points),
                torch.from_numpy(poses),
                torch.from_numpy(presence.astype(np.float32)),
            )

    def face(self) -> tuple[Pixels, Floats, Floats]:
        """A crop of one face with the errors of a poor detector and camera."""
        crop, points, pose = self.place()
        return (
            self.spoil(crop, occlude=0.25),
            ((points + 0.5) / SIDE).astype(np.float32),
            pose.astype(np.float32),
        )

    def place(self) -> tuple[Pixels, Floats, Floats]:
        """A misplaced crop of a face: half of the time by as much as a detector's box, else by as little as the second
        look."""
        random, number = self.random, int(self.random.integers(len(self.faces.images)))
        image, points, pose = (
            self.faces.images[number],
            self.faces.points[number],
            self.faces.pose[number].copy(),
        )
        if random.random() < 0.5:
            off, (centre, side), angle = 1.0, square_of(box_of_points(points)), 0.0
        else:
            off, (centre, side, angle) = 0.25, upright_square(points)
        side *= float(np.exp(off * random.uniform(-0.16, 0.16)))
        centre = centre + off * random.uniform(-0.08, 0.08, 2) * side
        angle += off * float(random.uniform(-35, 35))
        crop, there = cut(image, centre, side, angle)
        points = points @ there[:, :2].T + there[:, 2]
        pose[2] -= angle
        if random.random() < 0.5:
            crop, points = crop[:, ::-1], (points * [-1, 1] + [SIDE - 1, 0])[MIRROR]
            pose[[0, 2]] *= -1
        return crop, points, pose

    def no_face(self) -> tuple[Pixels, Floats, Floats]:
        """A crop without a whole face: background, part of a face, a face cut into pieces, or a pattern."""
        random, kind = self.random, self.random.random()
        if kind < 0.5 and self.backgrounds:
            crop = self.elsewhere()
        elif kind < 0.75:
            crop = self._part()
        elif kind < 0.88:
            crop = self._pieces()
        else:
            crop = self._pattern()
        if random.random() < 0.5:
            crop = crop[:, ::-1]
        return (
            self.spoil(crop, occlude=0.1),
            np.full((len(POINTS), 2), np.nan, np.float32),
            np.full(3, np.nan, np.float32),
        )

    def elsewhere(self) -> Pixels:
        """A crop of a background picture that overlaps no face in it."""
        random = self.random
        picture, boxes = self.backgrounds[random.integers(len(self.backgrounds))]
        for _ in range(20):
            side = float(np.exp(random.uniform(np.log(20), np.log(min(picture.shape)))))
            corner = random.uniform(0, 1, 2) * (np.array(picture.shape[::-1]) - side)
            overlap = np.prod(
                np.clip(np.minimum(boxes[:, 2:], corner + side) - np.maximum(boxes[:, :2], corner), 0, None),
                axis=1,
            )
            areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
            union = areas + side * side - overlap
            if not (overlap / union > 0.15).any():
                return cut(picture, corner + side / 2, side, float(random.normal(0, 10)))[0]
        return self._pattern()

    def _part(self) -> Pixels:
        """A crop far beside a face or far too close to it: intersection over union below 0.3."""
        random = self.random
        number = int(random.integers(len(self.faces.images)))
        centre, side = square_of(box_of_points(self.faces.points[number]))
        if random.random() < 0.5:
            way = random.normal(size=2)
            centre = centre + way / np.abs(way).max() * side * random.uniform(0.55, 0.9)
        else:
            centre = centre + random.uniform(-0.35, 0.35, 2) * side
            side *= random.uniform(0.2, 0.42)
        return cut(self.faces.images[number], centre, side, float(random.normal(0, 15)))[0]

    def _pieces(self) -> Pixels:
        random = self.random
        number = int(random.integers(len(self.faces.images)))
        crop, _ = cut(self.faces.images[number], *square_of(box_of_points(self.faces.points[number])), 0.0)
        parts = int(random.choice([3, 4, 6, 8]))
        edge = SIDE // parts
        tiles = crop[: edge * parts, : edge * parts].reshape(parts, edge, parts, edge).transpose(0, 2, 1, 3)
        tiles = random.permutation(tiles.reshape(-1, edge, edge)).reshape(parts, parts, edge, edge)
        return cv2.resize(
            np.ascontiguousarray(tiles.transpose(0, 2, 1, 3).reshape(edge * parts, -1)), (SIDE, SIDE)
        )

    def _pattern(self) -> Pixels:
        random = self.random
        image: Floats = cv2.resize(random.uniform(0, 255, (2, 2)).astype(np.float32), (SIDE, SIDE))
        for _ in range(random.integers(8)):
            where = (random.uniform(-0.1, 1.1, 2) * SIDE).astype(int)
            axes = (random.uniform(0.02, 0.5, 2) * SIDE).astype(int)
            colour = float(random.uniform(0, 255))
            if random.random() < 0.5:
                cv2.ellipse(
                    image, where.tolist(), axes.tolist(), float(random.uniform(0, 180)), 0, 360, colour, -1
                )
            else:
                cv2.rectangle(image, where.tolist(), (where + axes).tolist(), colour, -1)
        if random.random() < 0.3:
            letters = "".join(chr(code) for code in random.integers(48, 123, random.integers(1, 6)))
            start, font = (
                (random.uniform([-0.2, 0.3], [0.5, 1.0]) * SIDE).astype(int).tolist(),
                int(random.integers(8)),
            )
            grey_value, stroke = float(random.uniform(0, 255)), int(random.integers(1, 9))
            cv2.putText(image, letters, start, font, float(random.uniform(0.5, 3)), grey_value, stroke)
        cells = int(random.integers(2, SIDE))
        noise = random.normal(0, random.uniform(0, 60), (cells, cells)).astype(np.float32)
        image = np.clip(image + cv2.resize(noise, (SIDE, SIDE)), 0, 255)
        return image.astype(np.uint8)

    def spoil(self, crop: Pixels, occlude: float) -> Pixels:
        """Degrade a crop: an occluder (with probability `occlude`), low resolution, blur, light, noise and JPEG."""
        random = self.random
        crop = np.ascontiguousarray(crop)
        if random.random() < occlude:
            low = (random.uniform(-0.1, 0.9, 2) * SIDE).astype(int)
            size = (random.uniform(0.1, 0.45, 2) * SIDE).astype(int)
            (left, top), (right, bottom) = np.clip(low, 0, SIDE), np.clip(low + size, 0, SIDE)
            crop[top:bottom, left:right] = random.integers(256)
        if random.random() < 0.4:
            small = int(np.exp(random.uniform(np.log(16), np.log(50))))
            crop = cv2.resize(cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA), (SIDE, SIDE))
        if random.random() < 0.2:
            crop = cv2.GaussianBlur(crop, (0, 0), float(random.uniform(0.5, 2)))
        contrast, light = float(np.exp(random.normal(0, 0.3))), float(random.normal(0, 25))
        middle = float(crop.mean())
        image: Floats = (crop.astype(np.float32) - middle) * contrast + middle + light
        if random.random() < 0.4:
            image += random.standard_normal((SIDE, SIDE), np.float32) * np.float32(random.uniform(0, 14))
        crop = np.clip(image, 0, 255).astype(np.uint8)
        if random.random() < 0.2:
            crop = as_jpeg(crop, int(random.integers(15, 80)))
        return crop


def as_jpeg(crop: Pixels, quality: int) -> Pixels:
    """A grey crop after JPEG compression at this quality, 1 to 100."""
    coded = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cast(Pixels, cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE))
