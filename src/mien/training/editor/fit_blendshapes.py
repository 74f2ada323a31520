"""Fit the editor's landmark blendshapes and shading maps, in a few minutes on one core.

    python -m mien.training.editor.fit_blendshapes --points LABELS --ferplus DIR --heads ict_facekit.npz --out DIR

Two sources give each expression's displacement of the landmarks, and are mixed by `PRIOR_SHARE`:

- *people*: ridge regression of canonical landmarks on FERPlus vote shares (training split), with head pose, jaw width
  and lip gap as covariates, mirror-augmented. Votes rarely agree fully, which shrinks the estimate: `GAIN` undoes it.
- *anatomy*: the ICT FaceKit head (MIT) with its action units combined as in the emotion prototypes of EMFACS (Friesen
  and Ekman 1983). Votes for sadness, disgust and contempt are few or inconsistent, so anatomy has the larger share
  there.

Tests: tests/editing/test_editing.py.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cv2
import numpy as np
import typer

from mien.editing.geometry import ACTIVE, FaceFrame, covariates, lip_gap
from mien.editing.warp import ANCHORS, GRID, grid_points, look_up, thin_plate
from mien.labels import EXPRESSIONS
from mien.landmarks import (
    INNER_LIPS,
    JAW,
    LEFT_EYE_CORNERS,
    LEFT_IRIS,
    MIRROR,
    NOSE_BRIDGE,
    OUTER_LIPS,
    POINTS,
    RIGHT_EYE_CORNERS,
    RIGHT_IRIS,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

PRIOR_SHARE = {
    "happiness": 0.45, "surprise": 0.5, "sadness": 0.75, "anger": 0.5, "disgust": 0.85, "fear": 0.85, "contempt": 1.0,
}  # fmt: skip
"""Share of *anatomy* in each basis, the rest is *people*. Our choice, by eye on photos outside both sources."""
GAIN = {
    "happiness": 1.3, "surprise": 1.5, "sadness": 1.2, "anger": 1.6, "disgust": 1.5, "fear": 1.4, "contempt": 1.0,
}  # fmt: skip
"""Factor of the ridge regression's displacement, to undo the shrinkage by voters who disagree."""
FULL = {
    "happiness": 1.0, "surprise": 1.0, "sadness": 1.4, "anger": 1.0, "disgust": 1.0, "fear": 1.3, "contempt": 1.6,
}  # fmt: skip
"""Factor of the mixed displacement: on FERPlus training faces a larger one changes the person's identity and the edit
is not recognised better, once the learned correction (`mien.editing.corrector`) follows."""
AMOUNT = 0.7
"""Share of the fitted shading that is applied: with all of it, well-lit portraits look airbrushed."""
SMILE_LIPS, SMILE_JAW = 0.5, 0.3
"""Share of the generated faces' smile in the motion of the lips and of the jaw. Our choice."""
UNITS: dict[str, dict[str, float]] = {
    "happiness": {"mouthSmile": 0.85, "cheekSquint": 0.6, "eyeSquint": 0.25},
    "surprise": {"browInnerUp": 0.8, "browOuterUp": 0.9, "eyeWide": 0.7},
    "sadness": {"browInnerUp": 1.0, "browDown": 0.25, "mouthFrown": 0.9, "mouthShrugLower": 0.35, "eyeSquint": 0.15},
    "anger": {
        "browDown": 1.0, "eyeSquint": 0.35, "mouthPress": 0.5, "mouthRollLower": 0.3, "mouthFrown": 0.25,
        "noseSneer": 0.3,
    },
    "disgust": {
        "noseSneer": 0.9, "browDown": 0.8, "eyeSquint": 0.8, "cheekSquint": 0.5, "mouthUpperUp": 0.2,
        "mouthFrown": 0.6, "mouthShrugLower": 0.5,
    },
    "fear": {"browInnerUp": 1.0, "browOuterUp": 0.35, "browDown": 0.15, "eyeWide": 1.2, "mouthStretch": 0.9},
    "contempt": {"mouthSmile_L": 0.55, "mouthDimple_L": 0.7, "mouthPress_L": 0.3},
}  # fmt: skip
"""Action units of each expression; a name without side means both. Contempt is one-sided: the subject's left."""
# Vertices of the ICT head at our points, found by labelling a rendering of it with the lips parted.
HEAD_VERTICES = [
    1888, 1892, 1896, 374, 755, 8814, 826, 1475, 838, 871, 1683, 3935, 3079, 4044, 3067, 3070, 2996, 2615, 4096, 4092,
    4088, 2110, 1702, 295, 301, 2005, 429, 1948, 79, 124, 1998, 4304, 4150, 4178, 2543, 4206, 2489, 2628, 4175, 2369,
    4198, 2243, 1544, 1990, 1534, 633, 1522, 1516, 1511, 3760, 3758, 4190, 3748, 3744, 3736, 3730, 3725, 1514, 3729,
    1358, 1389, 4526, 4947, 4628, 4902, 1166, 1169, 1142, 1146, 4281, 3483, 3356, 157, 500, 5625, 5665, 5769, 5812,
    6546, 6197, 6105, 6128, 6432, 6494, 6299, 6366, 6509, 5934, 5956, 5841, 5889, 162, 5681, 5582, 5578, 5660, 5736,
    5796, 6527, 6216, 6111, 6083, 6422, 6308, 6342, 6379, 6513, 5938, 5952, 5848, 5803, 5729,
]  # fmt: skip
_STILL = [*range(NOSE_BRIDGE.start, NOSE_BRIDGE.stop), *RIGHT_EYE_CORNERS, *LEFT_EYE_CORNERS]
_LIDS = [i for eye in (RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS) for i in range(eye[0], eye[0] + 8)]


def mirrored(shapes: Array) -> Array:
    """Canonical shapes or displacements [..., P, 2 or 3] of the mirrored face."""
    across = np.ones(shapes.shape[-1])
    across[0] = -1
    return np.asarray(shapes[..., MIRROR, :] * across)


def symmetric(displacement: Array) -> Array:
    """The left-right symmetric part of displacements [..., P, 2]."""
    return (displacement + mirrored(displacement)) / 2


def level(displacements: Array, shape: Array) -> Array:
    """Displacements [..., P, 2] on a canonical shape [P, 2] without the part that shortens the face from the eyes down.

    People tilt their heads with an expression, most of all in anger; this shortens the picture of the face below the
    eyes and would change the person's identity. The shortening is estimated from the jaw's outline, which no expression
    moves as a whole.
    """
    depth = shape[:, 1].clip(0)
    shortening = displacements[..., JAW, 1] @ depth[JAW] / (depth[JAW] @ depth[JAW])
    levelled = displacements.copy()
    levelled[..., 1] -= shortening[..., None] * depth
    return levelled


def faces_of(points: Path, ferplus: Path) -> tuple[Array, Array, NDArray[np.intp]]:
    """Canonical shapes [N, P, 2], vote shares [N, 8] and row numbers of the usable FERPlus training faces.

    `points` is the file that `mien.training.landmarks.teacher` writes; usable are faces seen with a score over 0.8,
    with at least six votes of which at most two are for "unknown" or "not a face".
    """
    with np.load(points) as labels:
        found, score = labels["points"].astype(np.float64), labels["score"]
    with (ferplus / "labels.csv").open() as table:
        rows = [row for row in csv.DictReader(table) if row["split_folder"] == "FER2013Train"]
    votes = np.array([[float(row[name]) for name in EXPRESSIONS] for row in rows])
    doubt = np.array([float(row["unknown"]) + float(row["NF"]) for row in rows])
    used = np.flatnonzero((score > 0.8) & (doubt <= 2) & (votes.sum(axis=1) >= 6))
    shapes = np.stack([FaceFrame.of(found[n]).to_canonical(found[n]) for n in used])
    frontal = np.abs([covariates(shape)[0] for shape in shapes]) < 0.25
    return (
        shapes[frontal],
        votes[used][frontal] / votes[used][frontal].sum(axis=1, keepdims=True),
        used[frontal],
    )


def head_displacements(heads: Path) -> tuple[list[str], Array]:
    """The names of the head's e blendshapes and their displacements [e, P, 3] of our points, in eye distances: to the
    right, down and towards the viewer; the irises stay."""
    with np.load(heads) as data:
        names = [str(name) for name in data["expression_names"]]
        delta = data["expression"][:, HEAD_VERTICES].astype(np.float64) * [1, -1, 1]
        neutral = data["neutral"][HEAD_VERTICES, :2].astype(np.float64)
    eyes = neutral[list(LEFT_EYE_CORNERS)].mean(axis=0) - neutral[list(RIGHT_EYE_CORNERS)].mean(axis=0)
    delta /= float(np.linalg.norm(eyes))
    delta[:, [RIGHT_IRIS, LEFT_IRIS]] = 0
    return names, delta


def anatomy(heads: Path) -> Array:
    """Displacement [K, P, 2] of each of `ACTIVE` by action units, in eye distances."""
    names, delta = head_displacements(heads)

    def unit(name: str) -> Array:
        sides = [name] if name in names else [f"{name}_L", f"{name}_R"]
        return np.asarray(sum(delta[names.index(side), :, :2] for side in sides))

    moved = np.stack([sum(w * unit(name) for name, w in UNITS[k].items()) for k in ACTIVE])
    one_sided = ACTIVE.index("contempt")
    both = symmetric(moved)
    both[one_sided] = moved[one_sided]
    return both


def held() -> Array:
    """How far each point [P] follows a displacement: less at the bridge of the nose and the corners of the eyes, since
    moving these would change the person's identity, and not at all at the irises."""
    hold = np.ones(len(POINTS))
    hold[_STILL] = 0.3
    hold[[RIGHT_IRIS, LEFT_IRIS]] = 0
    hold[[i for i in _LIDS if i not in _STILL]] = 0.75
    return hold


def fit_geometry(shapes: Array, shares: Array, prior: Array) -> dict[str, Any]:
    """The arrays of `mien.editing.geometry.Geometry` from shapes [N, P, 2], vote shares [N, 8] and `anatomy`."""
    shapes, shares = np.concatenate([shapes, mirrored(shapes)]), np.concatenate([shares, shares])
    k, p = len(ACTIVE), len(POINTS)
    pose = np.stack([covariates(shape) for shape in shapes])
    gap = np.array([lip_gap(shape) for shape in shapes])
    active = shares[:, 1:]
    design = np.concatenate(
        [np.ones((len(shapes), 1)), active, active * gap[:, None], pose - pose.mean(axis=0), gap[:, None]],
        axis=1,
    )
    penalty = np.full(design.shape[1], 3.0)
    penalty[0] = 0
    flat = shapes.reshape(len(shapes), -1)
    solved = np.linalg.solve(design.T @ design + np.diag(penalty), design.T @ flat)
    mean, basis, basis_open, by_pose, opening = np.split(
        solved, [1, 1 + k, 1 + 2 * k, 1 + 2 * k + pose.shape[1]]
    )
    spread = np.cov((flat - design @ solved).T)
    explained = 1 - np.trace(spread) / flat.var(axis=0).sum()
    typer.echo(f"geometry: {len(flat)} faces with mirrors, R2 {explained:.3f}")

    at_mean_gap = basis + gap.mean() * basis_open
    reader = _reader(at_mean_gap, spread)
    raw = (flat - design @ solved + active @ at_mean_gap) @ reader.T
    full = np.array(
        [raw[active[:, n] > 0.8, n].mean() if (active[:, n] > 0.8).sum() > 20 else np.nan for n in range(k)]
    )
    full = np.where(np.isfinite(full), full, np.nanmin(full))
    noise = raw[shares[:, 0] > 0.7].std(axis=0) / full

    hold = held()
    share = np.array([PRIOR_SHARE[name] for name in ACTIVE])[:, None, None]
    gain, whole = (np.array([table[name] for name in ACTIVE])[:, None, None] for table in (GAIN, FULL))
    people, people_open = (symmetric(part.reshape(k, p, 2)) for part in (basis, basis_open))
    people = level(people, symmetric(mean.reshape(p, 2)))
    mixed = whole * ((1 - share) * gain * people + share * prior) * hold[:, None]
    return {
        "mean": symmetric(mean.reshape(p, 2)),
        "basis": mixed,
        "basis_open": whole * (1 - share) * people_open * hold[:, None],
        "opening": symmetric(opening.reshape(p, 2)) * hold[:, None],
        "pose": by_pose.reshape(-1, p, 2),
        "pose_mean": pose.mean(axis=0),
        "typical_gap": np.array([np.average(gap, weights=active[:, n] ** 2) for n in range(k)]),
        "neutral_gap": float(np.average(gap, weights=shares[:, 0] ** 2)),
        "reader": reader / full[:, None],
        "noise": noise,
    }


def generated_smiles(points: Path) -> tuple[Array, NDArray[np.bool_]]:
    """Canonical shapes [N, P, 2] of DiffusionFER's frontal smiling and neutral faces, and which smile.

    `points` is the file that `mien.training.landmarks.teacher` writes.
    """
    with np.load(points) as labels:
        names, found = [str(name) for name in labels["names"]], labels["points"].astype(np.float64)
    used = [n for n, name in enumerate(names) if name.startswith(("happy/", "neutral/"))]
    shapes = np.stack([FaceFrame.of(found[n]).to_canonical(found[n]) for n in used])
    frontal = np.abs([covariates(shape)[0] for shape in shapes]) < 0.25
    smiles = np.array([names[n].startswith("happy/") for n in used])
    return shapes[frontal], smiles[frontal]


def mixed_smile(arrays: dict[str, Any], shapes: Array, smiles: NDArray[np.bool_]) -> dict[str, Any]:
    """The arrays of `fit_geometry` with a smile that is half that of generated faces: canonical shapes [N, P, 2], of
    which `smiles` [N] smile and the others are neutral.

    Votes for happiness mix smiles and laughs, so the smile of *people* widens the mouth and drops the chin too much.
    Ridge regression with the covariates of `fit_geometry`, mirrored;
    mixed at points of the lips by `SMILE_LIPS` and of the jaw by `SMILE_JAW`.
    """
    shapes, smiles = (
        np.concatenate([shapes, mirrored(shapes)]),
        np.concatenate([smiles, smiles]).astype(float),
    )
    gap = np.array([lip_gap(shape) for shape in shapes])
    pose = np.stack([covariates(shape) for shape in shapes])
    design = np.stack(
        [np.ones(len(shapes)), smiles, smiles * gap, gap, *(pose - pose.mean(axis=0)).T], axis=1
    )
    penalty = np.diag([0.0] + [1.0] * (design.shape[1] - 1))
    solved = np.linalg.solve(design.T @ design + penalty, design.T @ shapes.reshape(len(shapes), -1))
    smile, smile_open, opening = (symmetric(row.reshape(-1, 2)) for row in solved[1:4])
    share = np.zeros((shapes.shape[1], 1))
    share[JAW], share[OUTER_LIPS], share[INNER_LIPS] = SMILE_JAW, SMILE_LIPS, SMILE_LIPS
    number = ACTIVE.index("happiness")
    basis, basis_open = arrays["basis"].copy(), arrays["basis_open"].copy()
    basis[number] += share * (smile - basis[number])
    # What the gap adds to the shape is the smile's and the opening's part together.
    basis_open[number] += share * (smile_open + opening - arrays["opening"] - basis_open[number])
    return arrays | {"basis": basis, "basis_open": basis_open}


def _reader(basis: Array, spread: Array) -> Array:
    """The maximum a posteriori estimate of strengths from a shape's residual, [K, 2 P]: residual = strengths @ basis +
    person, person ~ N(0, spread), strengths ~ N(0, 0.3^2)."""
    spread = spread + np.eye(len(spread)) * np.trace(spread) / len(spread) * 0.05
    weighted = np.linalg.solve(spread, basis.T)
    return np.asarray(np.linalg.solve(basis @ weighted + np.eye(len(basis)) / 0.3**2, weighted.T))


def fit_shading(
    points: Path, ferplus: Path, rows: NDArray[np.intp], shares: Array, mean: Array, per_class: int = 1500
) -> NDArray[np.float32]:
    """Log-gain maps [K, GRID, GRID] on the frame of `mean`: ridge of shape-free log luma on vote shares.

    Every face is warped to the mean shape first, so that the maps contain changes of brightness, not motion of
    features. Open mouths darken the area below them whatever the expression, so the maps are those of closed lips (the
    votes also enter multiplied by the lip gap), leave out lips and chin, and keep only detail finer than about a cheek.
    """
    with np.load(points) as labels:
        found = labels["points"].astype(np.float64)
    with np.load(ferplus / "FER2013Train.npz") as packed:
        pictures = packed["images"]
    random = np.random.default_rng(0)
    winner = shares.argmax(axis=1)
    chosen = np.concatenate(
        [random.permutation(np.flatnonzero(winner == c))[:per_class] for c in range(len(EXPRESSIONS))]
    )
    queries = grid_points()
    places = np.concatenate([mean, ANCHORS])
    # The spline's matrix depends only on the mean shape, so it is solved once for all faces.
    matrix = thin_plate(places, np.eye(len(places)), queries)
    inside = _inside_face(mean)
    luma, design = [], []
    for n in chosen:
        frame = FaceFrame.of(found[rows[n]])
        shape = frame.to_canonical(found[rows[n]])
        source = queries + matrix @ (np.concatenate([shape, ANCHORS]) - places)
        where = frame.to_picture(source).reshape(GRID, GRID, 2).astype(np.float32)
        drawn = look_up(pictures[rows[n]].astype(np.float32), where, cv2.INTER_LINEAR)
        logs = np.log(drawn + 12)
        both = [logs, logs[:, ::-1]]
        pose, gap = covariates(shape), lip_gap(shape)
        for side, view in enumerate(both):
            luma.append(
                ((view - view[inside].mean()) / max(float(view[inside].std()), 0.1))
                .astype(np.float32)
                .ravel()
            )
            yaw = -pose[0] if side else pose[0]
            design.append([1.0, *shares[n, 1:], *(shares[n, 1:] * gap), gap, yaw, yaw * yaw, pose[2]])
    x, y = np.array(design), np.stack(luma)
    contrast = (
        0.40  # mean standard deviation of log luma over a face: puts the normalised maps back to log units
    )
    solved = np.linalg.solve(x.T @ x + np.diag([0, *[20.0] * 7, *[1.0] * 7, *[0.1] * 4]), x.T @ y)
    maps = solved[1:8].reshape(7, GRID, GRID) * contrast
    weight = cv2.GaussianBlur(cv2.erode(inside.astype(np.float32), np.ones((5, 5))), (0, 0), 2.0)
    lips = mean[OUTER_LIPS].mean(axis=0)
    down = np.clip((queries.reshape(GRID, GRID, 2)[..., 1] - lips[1] + 0.12) / 0.2, 0, 1)
    aside = np.clip(1.25 - np.abs(queries.reshape(GRID, GRID, 2)[..., 0] - lips[0]) / 0.42, 0, 1)
    weight *= 1 - down * aside
    fine = [image - cv2.GaussianBlur(image, (0, 0), 7.0) for image in maps.astype(np.float32)]
    maps = np.stack([cv2.GaussianBlur(image, (0, 0), 0.8) * weight for image in fine])
    maps = (maps + maps[:, :, ::-1]) / 2
    return np.asarray(maps, np.float32)


def _inside_face(mean: Array) -> NDArray[np.bool_]:
    """Mask of the mean shape's face on the grid: inside the jaw, up to a forehead's height above the brows."""
    low, high = grid_points()[0], grid_points()[-1]
    jaw = mean[:21]
    brow = mean[21:41].mean(axis=0)
    forehead = np.array(
        [
            [jaw[20, 0] * 0.92, brow[1] - 0.15],
            [0.55, brow[1] - 0.5],
            [-0.55, brow[1] - 0.5],
            [jaw[0, 0] * 0.92, brow[1] - 0.15],
        ]
    )
    outline = (np.concatenate([jaw * [0.95, 0.97], forehead]) - low) / (high - low) * (GRID - 1)
    mask = np.zeros((GRID, GRID), np.uint8)
    cv2.fillPoly(mask, [np.rint(outline).astype(np.int32)], 1)
    return mask > 0


def main(
    points: Annotated[
        Path, typer.Option(help="folder with ferplus_train.npz and diffusionfer.npz of the teacher")
    ],
    ferplus: Annotated[Path, typer.Option(help="packed FERPlus: labels.csv and FER2013Train.npz")],
    heads: Annotated[Path, typer.Option(help="ict_facekit.npz")],
    out: Annotated[Path, typer.Option(help="folder for the arrays, in the package weights/editor")],
) -> None:
    """Write geometry.npz and shading.npz."""
    cv2.setNumThreads(1)
    shapes, shares, rows = faces_of(points / "ferplus_train.npz", ferplus)
    geometry = mixed_smile(
        fit_geometry(shapes, shares, anatomy(heads)), *generated_smiles(points / "diffusionfer.npz")
    )
    single: dict[str, Any] = {name: np.asarray(array, np.float32) for name, array in geometry.items()}
    np.savez_compressed(out / "geometry.npz", **single)
    gap = geometry["neutral_gap"]
    mean = geometry["mean"] + gap * geometry["opening"]
    maps = fit_shading(points / "ferplus_train.npz", ferplus, rows, shares, mean)
    np.savez_compressed(
        out / "shading.npz",
        maps=maps.astype(np.float16),
        mean=mean.astype(np.float32),
        amount=np.float32(AMOUNT),
    )


if __name__ == "__main__":
    typer.run(main)
