"""Label faces with the mesh of MediaPipe's Face Landmarker, the teacher of our own landmark network.

The teacher is used only here, before training; nothing of it ships. `mien.training.face_mesh` opens its file,
`face_landmarker.task`. It is run twice on a face, as MediaPipe does when it tracks: the second time upright and to
scale, on the region that the first result encloses.

`mien train configs/landmarks.yaml` labels the sets that have no labels yet. Each set becomes a file `<set>.npz` with
`names`, `points` [n, 112, 2] in pixels, `rigid` [n, 40, 3] for the head's pose and `score` [n].
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.duplicates import hash_of
from mien.data.readers import diffusionfer, ferplus
from mien.data.readers.base import Reader
from mien.data.synthetic.head import Renderer, load_head, pose_of
from mien.errors import ConfigError, DatasetNotFound
from mien.io import atomic, images
from mien.landmarks import GROUPS, MIRROR
from mien.training import face_mesh
from mien.training.checkpoint import digest
from mien.training.face_mesh import FaceMesh
from mien.types import LineProgress

Floats = NDArray[Any]  # float32 or float64
Pixels = NDArray[Any]  # uint8

# The mesh's vertices of our points, in the order of the scheme.
MESH_VERTICES: dict[str, list[int]] = {
    "jaw": [
        234,
        93,
        132,
        58,
        172,
        136,
        150,
        149,
        176,
        148,
        152,
        377,
        400,
        378,
        379,
        365,
        397,
        288,
        361,
        323,
        454,
    ],
    "right_brow": [70, 63, 105, 66, 107, 46, 53, 52, 65, 55],
    "left_brow": [300, 293, 334, 296, 336, 276, 283, 282, 295, 285],
    "right_eye": [33, 161, 159, 157, 133, 154, 145, 163],
    "left_eye": [263, 388, 386, 384, 362, 381, 374, 390],
    "irises": [468, 473],
    "nose_bridge": [168, 6, 197, 195, 5, 4],
    "nose_base": [129, 98, 97, 2, 326, 327, 358],
    "outer_lips": [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146],
    "inner_lips": [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95],
}

# Vertices that hardly move with expression, for the head's pose: on the midline, then pairs right, left.
_MIDLINE = [10, 151, 9, 8, 168, 6, 197, 195, 5, 4, 1, 2]
_PAIRS = [
    (109, 338), (67, 297), (103, 332), (54, 284), (21, 251), (162, 389), (127, 356),
    (234, 454), (33, 263), (133, 362), (98, 327), (129, 358), (116, 345), (143, 372),
]  # fmt: skip
_VERTICES: Final = [vertex for name in GROUPS for vertex in MESH_VERTICES[name]]
RIGID_VERTICES = _MIDLINE + [vertex for pair in _PAIRS for vertex in pair]
_RIGID_MIRROR = [*range(len(_MIDLINE)), *(len(_MIDLINE) + (k ^ 1) for k in range(2 * len(_PAIRS)))]

# The rigid vertices of the average face looking straight ahead (x right, y up, z to the viewer; unit norm times 1000):
# the mean of the teacher's answers on 200 renderings of 50 identities, each turned back by its known pose.
_STRAIGHT = np.array([
    (0, 132, 30), (0, 93, 43), (0, 57, 53), (0, 33, 51), (0, 8, 53), (0, -15, 66), (0, -34, 81), (0, -51, 97),
    (0, -69, 113), (0, -91, 121), (0, -109, 116), (0, -128, 78), (-51, 130, 27), (51, 130, 27), (-94, 123, 11),
    (94, 123, 11), (-134, 106, -17), (134, 106, -17), (-159, 81, -49), (159, 81, -49), (-175, 49, -79),
    (175, 49, -79), (-183, 16, -110), (183, 16, -110), (-185, -24, -133), (185, -24, -133), (-183, -62, -142),
    (183, -62, -142), (-122, -10, -2), (122, -10, -2), (-47, -13, 12), (47, -13, 12), (-45, -125, 57),
    (45, -125, 57), (-56, -107, 46), (56, -107, 46), (-169, -56, -32), (169, -56, -32), (-166, -23, -40),
    (166, -23, -40),
], np.float64)  # fmt: skip


@dataclass(frozen=True)
class Label:
    """The teacher's answer for one face, in pixels of the picture.

    `points` [P, 2] in our scheme, `rigid` [R, 3] the vertices for the pose (z in the same unit, smaller is nearer),
    `score` in 0..1 that there is a face.
    """

    points: Floats
    rigid: Floats
    score: float


class Teacher:
    """The mesh network on one thread, with the answer in our scheme."""

    def __init__(self, task: Path) -> None:
        """Open the network in face_landmarker.task.

        Raises:
            ConfigError: the file or the package that runs it is missing, or it is another file.
        """
        self._mesh = FaceMesh(*face_mesh.networks(task, (FaceMesh.name,)))

    def _first(self, image: Pixels, box: Floats) -> Floats:
        centre, side = (box[:2] + box[2:]) / 2, float(np.max(box[2:] - box[:2]))
        tries: list[tuple[Floats, float]] = []
        for scale in (1.25, 1.0, 1.5):
            tries.append(self._mesh(image, (centre, side * scale, 0.0)))
            if tries[-1][1] > 0.5:
                break
        mesh, score = max(tries, key=lambda found: found[1])
        return mesh if score > 0.9 else self._mesh(image, face_mesh.square(mesh))[0]

    def __call__(self, image: Pixels, box: Floats) -> Label:
        """Label the face in `box` (x0, y0, x1, y1) of an RGB picture.

        The teacher does not treat left and right alike, so a label is the mean of its answers for the picture and for
        its mirror image.
        """
        where, last = face_mesh.square(self._first(image, box)), image.shape[1] - 1
        one, score = self._mesh(image, where)
        other, again = self._mesh(
            np.ascontiguousarray(image[:, ::-1]), face_mesh.mirrored(where, image.shape[1])
        )
        points = (one[_VERTICES, :2] + other[_VERTICES, :2][MIRROR] * [-1, 1] + [last, 0]) / 2
        rigid = (one[RIGID_VERTICES] + other[RIGID_VERTICES][_RIGID_MIRROR] * [-1, 1, 1] + [last, 0, 0]) / 2
        return Label(points, rigid, (score + again) / 2)


def head_pose(rigid: Floats) -> Floats:
    """(yaw, pitch, roll) [n, 3] in degrees from rigid vertices [n, R, 3]: the best rotation of the average face.

    The mean absolute error on near-frontal renderings of known pose is 1.2, 2.9 and 0.7 degrees.
    """
    seen = (rigid - rigid.mean(axis=1, keepdims=True)) * [1, -1, -1]
    u, _, vt = np.linalg.svd(seen.transpose(0, 2, 1) @ _STRAIGHT)
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    return pose_of(u @ vt)


def _read(reader: Reader, root: Path, split: str) -> Iterator[tuple[str, Pixels]]:
    for record in reader(root):
        if record.split == split:
            yield record.name, images.read(record.path)


def _muxspace(root: Path) -> Iterator[tuple[str, Pixels]]:
    """The faces of muxspace/facial_expressions at 128 px, from its `images` folder or images128_gray.tar."""
    archive = root / "images128_gray.tar"
    if archive.is_file():
        with tarfile.open(archive) as members:
            for member in members:
                file = members.extractfile(member) if member.isfile() else None
                if file is not None:
                    yield Path(member.name).name, images.read(file.read())
        return
    if not (root / "images").is_dir():
        raise DatasetNotFound(f"{root} does not hold muxspace: pass the folder that holds its images/")
    for path in sorted((root / "images").iterdir()):
        picture = images.read(path)
        yield path.name, cv2.resize(picture, (128, 128), interpolation=cv2.INTER_AREA)


FACES: Final[dict[str, Callable[[Path], Iterator[tuple[str, Pixels]]]]] = {
    "ferplus_train": partial(_read, ferplus.READER, split="train"),
    "ferplus_valid": partial(_read, ferplus.READER, split="valid"),
    "ferplus_test": partial(_read, ferplus.READER, split="test"),
    "muxspace": _muxspace,
    "diffusionfer": partial(_read, diffusionfer.READER, split="train"),
}
"""The sets of face crops that can be labelled; each function yields names and RGB pictures from a set's folder."""


def roots_of(
    *, ferplus: Path | None, muxspace: Path | None, diffusionfer: Path | None, without: Collection[str] = ()
) -> dict[str, Path]:
    """The given folders by the names of their sets, in the order of `FACES` and without those in `without`."""
    folders = {"ferplus": ferplus, "muxspace": muxspace, "diffusionfer": diffusionfer}
    return {
        name: root
        for name in FACES
        if name not in without and (root := folders[name.split("_")[0]]) is not None
    }


def label_all(teacher: Teacher, faces: Iterable[tuple[str, Pixels]]) -> dict[str, NDArray[Any]]:
    """Label named face crops that fill their pictures; arrays as in :class:`Label`, one row per face.

    `content` is the hash of each picture's pixels, with which `mien.training.landmarks.crops.read_set` recognises it.
    """
    names, labels, content = [], [], []
    for name, image in faces:
        height, width = image.shape[:2]
        names.append(name)
        content.append(hash_of(image))
        labels.append(teacher(image, np.array([0, 0, width - 1, height - 1], np.float32)))
    return {
        "names": np.array(names),
        "points": np.stack([label.points for label in labels]).astype(np.float32),
        "rigid": np.stack([label.rigid for label in labels]).astype(np.float32),
        "score": np.array([label.score for label in labels], np.float32),
        "content": np.array(content),
    }


def _made_of(head: Path, identities: range, each: int) -> str:
    return f"yaw {_TURN[0]} {digest(head)} {identities} {each}"


_TURN: Final = (70.0, 30.0, 25.0)
"""Largest yaw, pitch and roll of a rendering, in degrees."""


def render_all(head: Path, identities: range, each: int) -> dict[str, NDArray[Any]]:
    """Renderings for training: `images` [n, 128, 128, 3], `points` and `pose`, exact; `made_of` identifies the head and
    the people."""
    renderer = Renderer(load_head(head), size=128, fill=(0.5, 0.7), turn=_TURN, play=0.6)
    made = list(renderer.identities(identities, each))
    return {
        "images": np.stack([one.image for one in made]),
        "points": np.stack([one.points for one in made]),
        "pose": np.stack([one.pose for one in made]),
        "made_of": np.array(_made_of(head, identities, each)),
    }


def complete(
    folder: Path,
    roots: Mapping[str, Path],
    task: Path | None,
    head: Path | None,
    identities: int,
    progress: LineProgress,
) -> None:
    """Write the label files that are missing in `folder`.

    Args:
        folder: for `<set>.npz`, `rendered_train.npz` and `rendered_test.npz`; made if missing.
        roots: the folder of each set, by its name in `FACES`.
        task: the teacher's file; may be None where every set is labelled.
        head: ict_facekit.npz, to render three pictures each of `identities` people, and a tenth as many for the test.
        progress: called with a line about each file before it is made.

    Raises:
        ConfigError: labels are missing and there is no teacher, or existing ones are of another teacher, or existing
            renderings of another head or other people.
        DatasetNotFound: a folder does not hold its set.
    """
    cv2.setNumThreads(1)
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name in roots if not (folder / f"{name}.npz").is_file()]
    if task is not None and task.is_file():
        for name in roots.keys() - set(missing):
            with np.load(folder / f"{name}.npz") as stored:
                if "teacher" not in stored or str(stored["teacher"]) != digest(task):
                    raise ConfigError(
                        f"{folder / name}.npz: was labelled by another teacher than {task}: remove it to label the "
                        "set again"
                    )
    if missing and task is None:
        raise ConfigError(
            f"{folder / missing[0]}.npz: no such labels: name in 'teacher' the file face_landmarker.task, "
            "to make them"
        )
    if missing and task is not None:
        teacher, made_by = Teacher(task), digest(task)
        for name in missing:
            progress(f"labelling {name}")
            labels = label_all(teacher, FACES[name](roots[name]))
            save(folder / f"{name}.npz", {**labels, "teacher": np.array(made_by)})
    rendered = {"train": range(identities), "test": range(10_000, 10_000 + max(1, identities // 10))}
    for split, people in rendered.items() if head is not None else ():
        path = folder / f"rendered_{split}.npz"
        if head is not None and path.is_file():
            with np.load(path) as stored:
                if "made_of" in stored and str(stored["made_of"]) != _made_of(head, people, 3):
                    raise ConfigError(
                        f"{path}: was rendered from another head or of other people: remove it to render it again"
                    )
        elif head is not None:
            progress(f"rendering {3 * len(people)} heads for {split}")
            save(path, render_all(head, people, 3))


def save(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write a label file atomically, since an existing one is assumed to be complete."""
    with atomic.writing(path) as part:
        np.savez(part, **arrays)  # type: ignore[arg-type]  # numpy's stub takes them for its flag
