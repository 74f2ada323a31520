"""Training data of the network of actions: photographs of faces with the teacher's answers, and renderings with exact
values.

Each set becomes one file `<set>.npz` in a folder, and is made once:

- `names`, and `crops` uint8 [n, 100, 100]: luma of the aligned face with a margin, so that it can be moved a little;
- `points` [n, 112, 2]: our landmarks in unit coordinates of the aligned square (`mien.faces.align`);
- `actions` [n, 52] in 0..1, NaN where unknown: the teacher's answers, or the exact values of a rendering;
- for sets used only for measuring, `again` [n, 52]: the teacher's answers for a shifted square;
- for renderings, `gaze` [n, 2]: yaw and pitch in degrees of the upright face, as the network states them. For
  photographs they are in `<set>-gaze.npz`, with `names`; NaN where the teacher of gaze has no answer;
- for renderings, `places` [n, 112, 2]: the exact points in the same coordinates as `points`; NaN for photographs.

Faces are located as `mien` does it: by our landmark network, with the whole picture as the face's box.

Tests: tests/training/actions/test_faces.py, test_train.py beside it, and `complete` in test_teacher.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.actions import ACTIONS
from mien.data.readers import rendered
from mien.errors import ConfigError
from mien.faces import align
from mien.faces.action_reader import SIZE, upright
from mien.faces.landmarker import Landmarker
from mien.io import images
from mien.landmarks import POINTS
from mien.training.actions.gaze_teacher import GazeTeacher
from mien.training.actions.teacher import ActionTeacher, Answer
from mien.training.landmarks.crops import held_out
from mien.training.landmarks.teacher import FACES, save
from mien.types import LineProgress

Floats = NDArray[Any]  # float32 or float64
Pixels = NDArray[Any]  # uint8

MARGIN: Final = 1.25
"""Ratio of the side of a stored crop to the side of the square that the network sees."""

STORED: Final = round(SIZE * MARGIN)

SURE: Final = 0.9
"""Faces with a lower score by the teacher are left out."""

_PRESENCE: Final = 0.5
_SEEN: Final = ("muxspace", "diffusionfer")
"""The sets with faces large enough for the teacher of gaze."""

_TAKEN: Final = {"ferplus_train": 10_000, "ferplus_test": 1000}
"""Number of pictures that the teacher labels of large sets, evenly spread: at 48 px, more pictures add little."""


@dataclass(frozen=True)
class ActionFaces:
    """n faces, as in the module's description."""

    names: NDArray[Any]
    crops: Pixels
    points: Floats
    actions: Floats
    again: Floats
    gaze: Floats
    places: Floats

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: NDArray[np.intp]) -> ActionFaces:
        """Some of the faces."""
        return ActionFaces(*(getattr(self, part)[rows] for part in _PARTS))


def locate(landmarker: Landmarker, image: Pixels) -> tuple[Floats, Pixels, Floats] | None:
    """(points in pixels, stored crop, points in unit coordinates) of the face that fills a picture, or None."""
    height, width = image.shape[:2]
    points, presence, _ = landmarker(image, np.array([[0, 0, width - 1, height - 1]]))
    if presence[0] < _PRESENCE:
        return None
    try:
        matrix = align.face_matrix(points[0])
    except align.DegenerateFace:
        return None
    wide = matrix / MARGIN
    wide[:, 2] += 0.5 - 0.5 / MARGIN
    return points[0], align.crop(image, wide, STORED, grey=True), align.apply(matrix, points[0])


def ask(
    teacher: ActionTeacher, faces: Iterable[tuple[str, Pixels]], measured: Callable[[str], bool]
) -> dict[str, NDArray[Any]]:
    """Locate and label the faces of named pictures, each filled by one face; returns the arrays of a set's file.

    For pictures where `measured` is true the teacher's careful answer is used and a second one is kept in `again`; the
    others have NaN there.
    """
    landmarker, random = Landmarker.load(threads=1), np.random.default_rng(0)
    rows: list[tuple[Any, ...]] = []
    for name, image in faces:
        found = locate(landmarker, image)
        if found is None:
            continue
        points, crop, unit = found
        careful = measured(name)
        answer = teacher(image, points) if careful else teacher.glance(image, points)
        again = np.full(len(ACTIONS), np.nan, np.float32)
        if careful:
            again = _moved(teacher, image, points, random).actions
        if answer.score > SURE:
            rows.append((name, crop, unit, answer.actions, again))
    return _arrays(rows)


def _moved(teacher: ActionTeacher, image: Pixels, points: Floats, random: np.random.Generator) -> Answer:
    """The teacher's answer for a square shifted by up to 5 % and scaled by up to 10 %."""
    mesh, _ = teacher.mesh(image, teacher.square(points))
    return teacher.again(
        image, mesh, random.uniform(-0.05, 0.05, 2), float(np.exp(random.uniform(-0.1, 0.1)))
    )


def _arrays(rows: list[tuple[Any, ...]]) -> dict[str, NDArray[Any]]:
    if not rows:
        raise ConfigError("no face was found in any picture of a set: each must be filled by one face")
    names, crops, points, actions, again = zip(*rows, strict=True)
    return {
        "names": np.array(names),
        "crops": np.stack(crops),
        "points": np.stack(points).astype(np.float32),
        "actions": np.stack(actions).astype(np.float32),
        "again": np.stack(again).astype(np.float32),
    }


def known(root: Path, teacher: ActionTeacher | None) -> dict[str, NDArray[Any]]:
    """The arrays of a folder of `mien data render --actions`, with `split` "train", "valid", "seen" or "unseen".

    `again` holds the teacher's answers for the pictures of unseen people (NaN for the others), for comparison.

    Raises:
        ConfigError: it holds renderings of the eight expressions.
    """
    landmarker, rows, splits, gazes, places = Landmarker.load(threads=1), [], [], [], []
    with np.load(root / rendered.POINTS) as file:
        exact_points = dict(zip(file["names"].tolist(), file["points"], strict=True))
    for record in rendered.READER(root):
        if "jawOpen" not in record.attributes:
            raise ConfigError(
                f"{root} holds the eight expressions: render it with 'mien data render --actions'"
            )
        image = images.read(record.path)
        found = locate(landmarker, image)
        if found is None:
            continue
        points, crop, unit = found
        exact = [float(record.attributes.get(name, np.nan)) for name in ACTIONS]
        test = record.split == "test"
        unseen = test and record.attributes["person"] == "unseen"
        again = (
            teacher(image, points).actions
            if unseen and teacher is not None
            else np.full(len(ACTIONS), np.nan, np.float32)
        )
        rows.append((record.name, crop, unit, exact, again))
        splits.append(record.attributes["person"] if test else record.split)
        known = [float(record.attributes.get(name, np.nan)) for name in ("gaze_yaw", "gaze_pitch")]
        matrix = align.face_matrix(points)
        gazes.append(upright(np.array([known]), matrix[None])[0])
        places.append(align.apply(matrix, exact_points[record.name]))
    return {
        **_arrays(rows),
        "split": np.array(splits),
        "gaze": np.array(gazes, np.float32),
        "places": np.array(places, np.float32),
    }


def complete(
    folder: Path,
    roots: Mapping[str, Path],
    task: Path | None,
    renders: Path | None,
    progress: LineProgress,
    gaze: Path | None = None,
) -> None:
    """Write the files that are missing in `folder`.

    Args:
        folder: for `<set>.npz` and `rendered.npz`; made if missing.
        roots: the folder of each set, by its name in `mien.training.landmarks.teacher.FACES`.
        task: the teacher's file; may be None where every set is labelled.
        renders: a folder of `mien data render --actions`.
        progress: called with a line about each file before it is made.
        gaze: the file of the teacher of gaze; without it gaze is learnt from existing labels and from renderings alone.

    Raises:
        ConfigError: labels are missing and there is no teacher.
        DatasetNotFound: a folder does not hold its set.
    """
    cv2.setNumThreads(1)
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in roots if not (folder / f"{name}.npz").is_file()]
    if missing and task is None:
        raise ConfigError(
            f"{folder / missing[0]}.npz: no such labels: name MediaPipe's face_landmarker.task in 'teacher', to make "
            "them"
        )
    teacher = ActionTeacher(task) if task is not None and (missing or renders is not None) else None
    if renders is not None and not (folder / "rendered.npz").is_file():
        progress("reading the renderings")
        save(folder / "rendered.npz", known(renders, teacher))
    for name in missing:
        if teacher is not None:
            progress(f"asking the teacher about {name}")
            save(folder / f"{name}.npz", ask(teacher, _some(name, roots[name]), _measured(name)))
    for name in roots if gaze is not None else ():
        path = folder / f"{name}-gaze.npz"
        if gaze is not None and name in _SEEN and not path.is_file():
            progress(f"asking the teacher of gaze about {name}")
            save(path, glances(GazeTeacher(gaze), FACES[name](roots[name])))


def glances(teacher: GazeTeacher, faces: Iterable[tuple[str, Pixels]]) -> dict[str, NDArray[Any]]:
    """The gaze of named pictures, each filled by one face: `names` [n] and `gaze` [n, 2] as in `ActionFaces`."""
    landmarker, names, gazes = Landmarker.load(threads=1), [], []
    for name, image in faces:
        height, width = image.shape[:2]
        points, presence, poses = landmarker(image, np.array([[0, 0, width - 1, height - 1]]))
        if presence[0] >= _PRESENCE:
            names.append(name)
            gazes.append(teacher(image, points[0], poses[0]))
    return {"names": np.array(names), "gaze": np.array(gazes, np.float32).reshape(-1, 2)}


def _some(name: str, root: Path) -> Iterator[tuple[str, Pixels]]:
    """A set's pictures; of a set in `_TAKEN`, that many, evenly spread."""
    pictures = FACES[name](root)
    if name not in _TAKEN:
        return pictures
    listed = list(pictures)
    return iter(listed[:: max(1, len(listed) // _TAKEN[name])])


def _measured(name: str) -> Callable[[str], bool]:
    if name.startswith("ferplus"):
        return lambda one: name == "ferplus_test"
    return lambda one: bool(held_out(np.array([one]))[0])


def read(folder: Path, sets: Iterable[str], renders: bool) -> dict[str, ActionFaces]:
    """All faces of `complete`'s files: `photographs` and `renderings` for training and, for measuring only, those of
    the other sets that have any: `ferplus_test`, `muxspace`, `diffusionfer`, `rendered_valid` and `rendered`."""
    train: list[ActionFaces] = [_NONE]
    held: dict[str, ActionFaces] = {}
    for name in sets:
        faces, _ = _load(folder / f"{name}.npz")
        out = np.isfinite(faces.again).any(axis=1)
        if out.any():
            held[name] = faces.take(np.flatnonzero(out))
        train.append(faces.take(np.flatnonzero(~out)))
    held["renderings"] = _NONE
    if renders:
        faces, split = _load(folder / "rendered.npz")
        for name, kept in (("renderings", "train"), ("rendered_valid", "valid"), ("rendered", "unseen")):
            held[name] = faces.take(np.flatnonzero(split == kept))
    held["photographs"] = ActionFaces(
        *(np.concatenate([getattr(faces, part) for faces in train]) for part in _PARTS)
    )
    return held


_PARTS: Final = ("names", "crops", "points", "actions", "again", "gaze", "places")
_NONE: Final = ActionFaces(
    np.empty(0, "U1"),
    np.empty((0, STORED, STORED), np.uint8),
    np.empty((0, len(POINTS), 2), np.float32),
    np.empty((0, len(ACTIONS)), np.float32),
    np.empty((0, len(ACTIONS)), np.float32),
    np.empty((0, 2), np.float32),
    np.empty((0, len(POINTS), 2), np.float32),
)


def _load(path: Path) -> tuple[ActionFaces, NDArray[Any]]:
    with np.load(path) as file:
        parts = {part: file[part] for part in _PARTS if part in file}
        split = file.get("split", np.array([]))
    if "gaze" not in parts:
        parts["gaze"] = _gaze(path.with_name(f"{path.stem}-gaze.npz"), parts["names"])
    if "places" not in parts:
        parts["places"] = np.full_like(parts["points"], np.nan)
    return ActionFaces(**parts), split


def _gaze(path: Path, names: NDArray[Any]) -> Floats:
    """The gaze [n, 2] of the named faces in a file of `glances`; NaN where it has none, or where there is no file."""
    known: dict[str, Floats] = {}
    if path.is_file():
        with np.load(path) as file:
            known = dict(zip(file["names"].tolist(), file["gaze"], strict=True))
    nothing = np.full(2, np.nan, np.float32)
    return np.array([known.get(name, nothing) for name in names.tolist()], np.float32).reshape(-1, 2)
