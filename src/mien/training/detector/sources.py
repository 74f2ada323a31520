"""What scenes are composed of: faces with their points, and photographs without a face.

Everything is prepared once and kept in a folder:

- `<set>.npz` for each set of faces: `names`, `points` [n, 112, 2] in pixels and `presence` [n], by our landmark
  network, and `sure` [n]: whether YuNet finds this face and no other in the picture, and its box overlaps that of the
  points by half; for pictures of 48 px the presence alone decides.
- `rendered.npz`: `images` [n, 128, 128, 3], exact `points` and `pose`.
- `backgrounds.npz`: `pixels` of all pictures one after the other, their `shapes` [n, 2], their `names` and `places`
  (the folder each comes from), and `alarms` [k, 5]: number of the picture and box of what YuNet takes for a face though
  the landmark network does not. A picture in which both see a face is left out.

Tests: tests/training/detector/test_sources.py.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.synthetic.head import Renderer, load_head
from mien.errors import ConfigError, DatasetDamaged, ImageError
from mien.faces.detect import Detector, YuNet
from mien.faces.landmarker import Landmarker, box_of_points
from mien.io import images
from mien.landmarks import GROUPS, LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS
from mien.training.landmarks.crops import held_out
from mien.training.landmarks.teacher import FACES, save
from mien.types import Box, LineProgress

Floats = NDArray[Any]  # float32 or float64
Pixels = NDArray[Any]  # uint8

LONGEST: Final = 800
"""Longest side of a stored background, pixels; larger ones are shrunk to it."""

SMALLEST: Final = 120
"""A smaller picture is no background."""

WIDER: Final = 1 / 1.025
HIGHER: Final = 1 / 0.975
"""`box_of_points` follows libfacedetection; its boxes are 2.5 % wider and lower than the exact ones
(`mien.faces.detect`)."""

_PRESENCE: Final = 0.95
_ALARM: Final = 0.25
"""YuNet's score from which a place without a face is an alarm."""
_RENDERED: Final = 128
_PICTURES: Final = (".jpg", ".jpeg", ".png", ".webp")
_VIDEOS: Final = (".mp4", ".mov")
_LARGE: Final = 64
"""A picture of a face must be this large for YuNet to be asked."""


@dataclass(frozen=True)
class FaceSources:
    """n pictures [h, w, 3] or [h, w], each of one face.

    Attributes:
        images: uint8.
        points: [n, 5, 2]: the eye on the left and on the right of the picture of the upright face, tip of the nose,
            left and right corner of the mouth likewise; pixels.
        ellipses: [n, 5]: centre x and y, half width, half height, angle in degrees clockwise, of an ellipse from ear to
            ear and from the upper forehead to the chin.
    """

    images: list[Pixels]
    points: Floats
    ellipses: Floats

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: NDArray[np.intp]) -> FaceSources:
        """Some of the faces."""
        return FaceSources([self.images[row] for row in rows], self.points[rows], self.ellipses[rows])


@dataclass(frozen=True)
class Background:
    """A picture without a face, the place it comes from, and boxes [k, 4] in it that YuNet takes for faces."""

    image: Pixels
    place: str
    alarms: Floats


def five_points(points: Floats) -> Floats:
    """The five points [..., 5, 2] of `FaceSources` from our landmarks [..., 112, 2]."""
    right = points[..., list(RIGHT_EYE_CORNERS), :].mean(axis=-2)
    left = points[..., list(LEFT_EYE_CORNERS), :].mean(axis=-2)
    tip = points[..., GROUPS["nose_bridge"].stop - 1, :]
    lips = GROUPS["outer_lips"].start
    return np.stack([right, left, tip, points[..., lips, :], points[..., lips + 10, :]], axis=-2)


def ellipse_of(points: Floats, roll: float | None = None) -> Floats:
    """The ellipse of `FaceSources` for landmarks [112, 2]; `roll` in degrees, None: that of the line of the eyes."""
    if roll is None:
        along = points[list(LEFT_EYE_CORNERS)].mean(axis=0) - points[list(RIGHT_EYE_CORNERS)].mean(axis=0)
        roll = float(np.degrees(np.arctan2(along[1], along[0])))
    turn = np.radians(roll)
    axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    known = points[np.isfinite(points).all(axis=1)]
    box = box_of_points(known @ axes).astype(np.float64)
    centre, half = axes @ ((box[:2] + box[2:]) / 2), (box[2:] - box[:2]) / 2
    return np.array([*centre, half[0] * WIDER, half[1] * HIGHER, roll])


def bounds(ellipses: Floats) -> Floats:
    """The boxes [n, 4] (left, top, right, bottom) of ellipses [n, 5]."""
    turn = np.radians(ellipses[:, 4])
    half = np.stack(
        [
            np.hypot(ellipses[:, 2] * np.cos(turn), ellipses[:, 3] * np.sin(turn)),
            np.hypot(ellipses[:, 2] * np.sin(turn), ellipses[:, 3] * np.cos(turn)),
        ],
        axis=1,
    )
    return np.concatenate([ellipses[:, :2] - half, ellipses[:, :2] + half], axis=1)


def label(
    faces: Iterable[tuple[str, Pixels]], landmarker: Landmarker, detector: Detector
) -> dict[str, NDArray[Any]]:
    """The arrays of a set's file for named pictures of one face each."""
    names, points, presences, sure = [], [], [], []
    for name, image in faces:
        height, width = image.shape[:2]
        found, presence, _ = landmarker(image, np.array([[0, 0, width - 1, height - 1]]))
        names.append(name)
        points.append(found[0])
        presences.append(presence[0])
        sure.append(presence[0] >= _PRESENCE and (height < _LARGE or _agrees(image, found[0], detector)))
    return {
        "names": np.array(names),
        "points": np.stack(points).astype(np.float32),
        "presence": np.array(presences, np.float32),
        "sure": np.array(sure, bool),
    }


def _agrees(image: Pixels, points: Floats, detector: Detector) -> bool:
    """Whether a detector finds exactly this face; the picture gets an edge, since faces fill it."""
    edge = image.shape[0] // 4
    wider = cv2.copyMakeBorder(image, edge, edge, edge, edge, cv2.BORDER_REPLICATE)
    found = detector(np.asarray(wider, np.uint8))
    left, top, right, bottom = (float(value) + edge for value in box_of_points(points))
    return len(found) == 1 and found[0].box.iou(Box(left, top, right - left, bottom - top)) >= 0.5


def _read(path: Path) -> Iterator[tuple[str, Pixels]]:
    """Name and RGB picture of at most `LONGEST` px of a file, or of every fifteenth frame of a video; nothing for one
    that is too small or cannot be read."""
    if path.suffix.lower() in _VIDEOS:
        for number, frame in enumerate(_frames(path)):
            yield f"{path.name}#{15 * number}", _shrunk(frame)
        return
    try:
        image = images.read(path)
    except ImageError:
        return
    if min(image.shape[:2]) >= SMALLEST:
        yield path.name, _shrunk(image)


def _frames(path: Path) -> Iterator[Pixels]:
    video, number = cv2.VideoCapture(str(path)), 0
    while (frame := video.read())[0]:
        if number % 15 == 0:
            yield np.ascontiguousarray(frame[1][..., ::-1])
        number += 1


def _shrunk(image: Pixels) -> Pixels:
    scale = LONGEST / max(image.shape[:2])
    if scale >= 1:
        return image
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def gather(
    places: Sequence[Path], most: int, landmarker: Landmarker, detector: Detector
) -> dict[str, NDArray[Any]]:
    """The arrays of `backgrounds.npz`: pictures and videos in folders or single files, of each place at most `most`,
    evenly spread.

    Raises:
        ConfigError: there is none without a face.
    """
    kept: list[tuple[str, str, Pixels]] = []
    alarms = []
    for place in places:
        files = [place] if place.is_file() else sorted(place.rglob("*"))
        files = [file for file in files if file.is_file() and file.suffix.lower() in (*_PICTURES, *_VIDEOS)]
        for row in np.linspace(0, len(files) - 1, min(most, len(files))).astype(int):
            for name, image in _read(files[row]):
                found = detector(image)
                boxes = np.array([one.box.corners for one in found]).reshape(-1, 4)
                if not (landmarker(image, boxes)[1] >= 0.5).any():
                    alarms += [(len(kept), *one.box.corners) for one in found]
                    kept.append((place.name, name, image))
    if not kept:
        raise ConfigError("backgrounds: no picture without a face in these places: name others")
    return {
        "places": np.array([place for place, _, _ in kept]),
        "names": np.array([name for _, name, _ in kept]),
        "shapes": np.array([image.shape[:2] for _, _, image in kept]),
        "pixels": np.concatenate([image.ravel() for _, _, image in kept]),
        "alarms": np.array(alarms, np.float32).reshape(-1, 5),
    }


def render(head: Path, identities: int) -> dict[str, NDArray[Any]]:
    """The arrays of `rendered.npz`: two pictures each of `identities` people, turned by up to a right angle."""
    renderer = Renderer(load_head(head), size=_RENDERED, fill=(0.5, 0.75), turn=(90, 40, 25), play=0.6)
    made = list(renderer.identities(range(identities), 2))
    return {
        "images": np.stack([one.image for one in made]),
        "points": np.stack([one.points for one in made]),
        "pose": np.stack([one.pose for one in made]),
    }


def complete(
    folder: Path,
    roots: Mapping[str, Path],
    head: Path | None,
    identities: int,
    backgrounds: Sequence[Path],
    most: int,
    teacher: Path | None,
    progress: LineProgress,
) -> None:
    """Write the files that are missing in `folder`.

    Args:
        folder: made if missing.
        roots: the folder of each set of faces, by its name in `mien.training.landmarks.teacher.FACES`.
        head: ict_facekit.npz, to render two pictures each of `identities` people; None renders none.
        identities: see `head`.
        backgrounds: folders and files of pictures and videos.
        most: largest number of files taken of each.
        teacher: YuNet's .onnx file; may be None where nothing is missing.
        progress: called with a line about each file before it is made.

    Raises:
        ConfigError: a file is missing and there is no teacher.
        DatasetNotFound: a folder does not hold its set.
    """
    cv2.setNumThreads(1)
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in (*roots, "backgrounds") if not (folder / f"{name}.npz").is_file()]
    if missing and teacher is None:
        raise ConfigError(
            f"{folder / missing[0]}.npz: is missing: name YuNet's .onnx file in 'teacher', to make it"
        )
    if missing and teacher is not None:
        landmarker = Landmarker.load(threads=1)
        for name in missing:
            progress(f"preparing {name}")
            if name == "backgrounds":
                alarmed = YuNet(model_path=teacher, confidence=_ALARM, first=640)
                save(folder / "backgrounds.npz", gather(backgrounds, most, landmarker, alarmed))
            else:
                one = YuNet(model_path=teacher, confidence=0.5)
                save(folder / f"{name}.npz", label(FACES[name](roots[name]), landmarker, one))
    if head is not None and not (folder / "rendered.npz").is_file():
        progress(f"rendering {2 * identities} heads")
        save(folder / "rendered.npz", render(head, identities))


def read_faces(folder: Path, roots: Mapping[str, Path], rendered: bool) -> dict[str, dict[str, FaceSources]]:
    """The faces to learn from, `train`, and those of people held out, `held`, of each set by name.

    Raises:
        DatasetDamaged: a set has no face.
    """
    sets: dict[str, dict[str, FaceSources]] = {"train": {}, "held": {}}
    for name, root in roots.items():
        with np.load(folder / f"{name}.npz") as file:
            rows = {str(one): row for row, one in enumerate(file["names"])}
            points, sure = file["points"], file["sure"]
        chosen, pixels = [], []
        for one, image in FACES[name](root):
            if one in rows and sure[rows[one]]:
                chosen.append(one)
                grey = bool((image[..., 0] == image[..., 2]).all())
                pixels.append(np.ascontiguousarray(image[..., 0]) if grey else image)
        if not chosen:
            raise DatasetDamaged(
                f"{folder / name}.npz: no face of {root}: remove it, to have the set labelled again"
            )
        marks = points[[rows[one] for one in chosen]].astype(np.float64)
        faces = FaceSources(pixels, five_points(marks), np.stack([ellipse_of(face) for face in marks]))
        _split(sets, name, faces, held_out(np.array(chosen)))
    if rendered:
        with np.load(folder / "rendered.npz") as file:
            images_, marks, pose = file["images"], file["points"].astype(np.float64), file["pose"]
        ellipses = np.stack(
            [ellipse_of(face, float(turn[2])) for face, turn in zip(marks, pose, strict=True)]
        )
        faces = FaceSources(list(images_), five_points(marks), ellipses)
        _split(sets, "rendered", faces, np.arange(len(faces)) // 2 % 10 == 0)
    return sets


def _split(
    sets: dict[str, dict[str, FaceSources]], name: str, faces: FaceSources, out: NDArray[np.bool_]
) -> None:
    sets["train"][name] = faces.take(np.flatnonzero(~out))
    sets["held"][name] = faces.take(np.flatnonzero(out))


def read_backgrounds(folder: Path) -> dict[str, list[Background]]:
    """The pictures to learn from, `train`, and a fifth by the hash of their names, `held`."""
    with np.load(folder / "backgrounds.npz") as file:
        pixels, shapes, alarms = file["pixels"], file["shapes"], file["alarms"]
        places, names = file["places"].tolist(), file["names"].tolist()
    found: dict[str, list[Background]] = {"train": [], "held": []}
    first = 0
    for number, (place, name, (height, width)) in enumerate(zip(places, names, shapes.tolist(), strict=True)):
        image = pixels[first : first + 3 * height * width].reshape(height, width, 3)
        first += image.size
        split = "held" if zlib.crc32(f"{place}/{name}".encode()) % 5 == 0 else "train"
        found[split].append(Background(image, place, alarms[alarms[:, 0] == number, 1:]))
    return found
