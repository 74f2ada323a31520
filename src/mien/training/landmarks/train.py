"""Train the landmark network from the teacher's answers and sets of faces; write its weights and card.

    mien train configs/landmarks.yaml [--resume]

One command labels each set with the teacher (`mien.training.landmarks.teacher`) and renders heads, and keeps both so
that a second run starts at once; trains (`mien.training.loop`); exports to ONNX; measures the exported network on faces
that training did not see; and writes the card. `mien.faces.landmarker.Landmarker.load(out / "landmarks.onnx")` opens
the result; `landmarks.safetensors` beside it holds the weights in full precision.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from mien.config import Frozen, checked
from mien.errors import ConfigError
from mien.faces.landmarker import SIDE, Landmarker, box_of_points
from mien.io import cards
from mien.io.onnx import session
from mien.landmarks import GROUPS, LEFT_EYE_CORNERS, POINTS, RIGHT_EYE_CORNERS
from mien.methods.base import Method, Terms
from mien.training import checkpoint, optim, processor, run_folder
from mien.training.config import OptimConfig
from mien.training.landmarks import teacher
from mien.training.landmarks.crops import Draws, LandmarkCrops, LandmarkFaces, read_backgrounds, read_faces
from mien.training.landmarks.network import MODES, LandmarkNet, export, point_loss, point_weights, pose_loss
from mien.training.loop import Run, fabric_of, notes, silent
from mien.training.onnx_export import STORED
from mien.training.task import Budget, Epoch, Task
from mien.types import EventProgress, LineProgress

Floats = NDArray[Any]  # float32 or float64

NAME: Final = "landmarks"
"""`method.name` of a configuration of this training."""

MEASURED: Final = 1000
"""Largest number of faces of each held-out set that the card's figures are measured on."""

JUDGED: Final = 1000
"""Steps between two measurements of the network in training."""


class LandmarkNetworkConfig(Frozen):
    """Which network."""

    name: Literal["landmarks"]
    widths: tuple[int, int, int, int] = Field((16, 32, 64, 128), description="channels of the four stages")


class LandmarksConfig(Frozen):
    """The options of the landmark network's training, and the paths of its data. A set without a folder is left out."""

    method: LandmarkNetworkConfig
    labels: Path = Field(description="folder of the label files; those that are missing are made")
    teacher: Path | None = Field(None, description="MediaPipe's face_landmarker.task; needed to make labels")
    ferplus: Path | None = None
    muxspace: Path | None = None
    diffusionfer: Path | None = None
    head: Path | None = Field(None, description="ict_facekit.npz, to render heads with exact points")
    identities: int = Field(2000, ge=1, description="rendered people, three pictures each")
    backgrounds: tuple[Path, ...] = Field(
        (), description="folders and files of pictures and videos to take crops without a face from"
    )
    out: Path = Path("runs/landmarks")
    steps: int = Field(8000, ge=1)
    batch: int = Field(48, ge=2)
    rate: float = Field(2e-3, gt=0)
    negatives: float = Field(0.2, ge=0, lt=1, description="share of a batch that shows no face")
    pose_weight: float = Field(0.3, ge=0)
    presence_weight: float = Field(1.5, ge=0)
    minutes: float | None = Field(
        None,
        gt=0,
        description="stop, with the schedule brought forward to its end, when training has taken this long",
    )
    threads: int = Field(1, ge=1)
    workers: Literal[0, 1] = Field(1, description="1: crops are drawn by a process beside this one")
    seed: int = 0

    @property
    def roots(self) -> dict[str, Path]:
        """The folder of each set given, by its name in `mien.training.landmarks.teacher.FACES`."""
        return teacher.roots_of(ferplus=self.ferplus, muxspace=self.muxspace, diffusionfer=self.diffusionfer)


def configured(tree: dict[str, Any], source: str) -> LandmarksConfig:
    """Check a configuration that was read from `source`.

    Raises:
        ConfigError: a key or value is wrong, or no set is given.
    """
    config = checked(LandmarksConfig, tree, source)
    if not config.roots and config.head is None:
        raise ConfigError(f"{source}: nothing to learn from: give ferplus, muxspace, diffusionfer or head")
    return config


def run(
    config: LandmarksConfig, resume: bool = False, progress: EventProgress = silent, overwrite: bool = False
) -> Path:
    """Label, render, train, export, measure; return the run folder.

    The folder holds landmarks.onnx, its card landmarks.json, landmarks.safetensors, metrics.jsonl, and state.pt for
    --resume.

    Args:
        config: the run.
        resume: continue from `state.pt` if there is one.
        progress: called with progress.
        overwrite: replace a run in the folder.

    Raises:
        FileLocked: another process is training this run.
        ConfigError: labels are missing and cannot be made, or the folder has a run and neither `resume` nor `overwrite`
            is on.
        DatasetNotFound: a folder does not hold its set.
        TrainingError: a loss is not finite, or the folder cannot be written.
    """
    note = notes(progress)
    with (
        run_folder.held(config, resume, free=_MAY_CHANGE, overwrite=overwrite),
        processor.settings(config.threads),
    ):
        teacher.complete(config.labels, config.roots, config.teacher, config.head, config.identities, note)
        sets = read_faces(config.labels, config.roots, config.head is not None)
        faces = sets.pop("train")
        backgrounds = read_backgrounds(config.backgrounds)
        held = ", ".join(f"{len(some.images)} of {name}" for name, some in sets.items())
        note(f"{len(faces.images)} faces, {len(backgrounds)} backgrounds; held out: {held}")
        task = LandmarkTask(config, faces, sets, backgrounds, note)
        if not (resume and (config.out / run_folder.STATE).is_file()):
            task.start()
        training = Run(task, fabric_of("float32", "cpu"), progress, resume)
        training.train()
        weights = config.out / "landmarks.onnx"
        export(cast(LandmarkNet, training.network), weights)
        figures = judge(Landmarker(session(str(weights), 1)), sets)
        card = card_of(config, weights, faces, backgrounds, training, figures)
        cards.write(weights, card)
        master = {**card, "sha256": None, "bytes": None}
        run_folder.write(
            lambda path: checkpoint.save(path, training.network, master), weights.with_suffix(".safetensors")
        )
    for name, values in figures["error_percent"].items():
        note(f"{name}: error {values} %")
    return config.out


_MAY_CHANGE: Final = ("steps", "minutes", "workers", "threads", "out")
"""Options that may differ when a run is resumed: how long it trains, and with how many threads and processes."""


class LandmarkMethod(Method):
    """The network with its three losses."""

    pretrained: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: LandmarksConfig, size: int = SIDE) -> None:
        super().__init__(config, size)
        self.network = LandmarkNet(config.method.widths).to(memory_format=torch.channels_last)
        self.weights: Tensor
        self.register_buffer("weights", point_weights(), persistent=False)
        self._pose, self._presence = config.pose_weight, config.presence_weight

    def forward(self, batch: LandmarkCrops, turn: str) -> Terms:
        # float32: at these widths bfloat16 is slower on a CPU.
        images = batch.images.float().contiguous(memory_format=torch.channels_last)
        points, presence, pose = self.network(images)
        present = functional.binary_cross_entropy_with_logits(presence, batch.presence)
        return {
            "points": point_loss(points, batch.points, self.weights),
            "pose": self._pose * pose_loss(pose, batch.pose),
            "presence": self._presence * present,
        }


class LandmarkTask(Task):
    """The network's training, with its data read."""

    remedy: ClassVar[str] = "lower `rate`"
    saves_epochs: ClassVar[bool] = False
    method: LandmarkMethod

    def __init__(
        self,
        config: LandmarksConfig,
        faces: LandmarkFaces,
        held: dict[str, LandmarkFaces],
        backgrounds: list[tuple[NDArray[Any], Floats]],
        note: LineProgress,
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.held, self.note = config, held, note
        self._data = (faces, backgrounds, config.batch, config.negatives, config.seed)
        self.folder, self.seed, self.state = config.out, config.seed, {}
        self.method = LandmarkMethod(config)
        self.optim = OptimConfig(rate=config.rate, weight_decay=0.01, ema=0.997)
        self.budget, self.epoch_steps = Budget(config.steps, config.minutes), 100

    def start(self) -> None:
        """Set the principal modes of the points in a new network."""
        mean, modes = point_modes(Draws(*self._data))
        self.averaged.mean.copy_(mean)
        self.averaged.modes.copy_(modes)

    @property
    def averaged(self) -> LandmarkNet:
        return self.method.network

    def files(self) -> dict[str, bytes]:
        return run_folder.stating(self.config)

    def batches(self, step: int) -> Iterator[LandmarkCrops]:
        workers = self.config.workers
        if workers:
            cv2.setNumThreads(0)  # OpenCV's threads do not survive the fork of the loader
        return iter(
            torch.utils.data.DataLoader(
                Draws(*self._data, step),
                batch_size=None,
                num_workers=workers,
                prefetch_factor=4 if workers else None,
                worker_init_fn=processor.ignore_interrupts,
            )
        )

    def rate(self, step: int, share: float) -> float:
        return optim.warm_cosine(step, share)

    def end_epoch(self, epoch: Epoch) -> dict[str, Any]:
        if epoch.step % JUDGED == 0:  # on few faces
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "landmarks.onnx"
                export(copy.deepcopy(cast(LandmarkNet, epoch.network)), path)
                figures = judge(Landmarker(session(str(path), 1)), self.held, limit=200)
            for name, values in figures["error_percent"].items():
                self.note(f"step {epoch.step:,}  {name}: error {values} %")
        return epoch.means


def point_modes(draws: Draws) -> tuple[Tensor, Tensor]:
    """The mean [2 P] and principal modes [MODES, 2 P] (one standard deviation each) of the points in drawn crops."""
    places = np.stack([draws.place()[1].ravel() for _ in range(4000)]) / SIDE + 0.5 / SIDE
    places = places[np.isfinite(places).all(axis=1)]
    mean = places.mean(axis=0)
    _, deviations, modes = np.linalg.svd(places - mean, full_matrices=False)
    modes = modes[:MODES] * (deviations[:MODES, None] / np.sqrt(len(places)))
    return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(modes.astype(np.float32))


TURNS: Final = ((0, 15), (15, 30), (30, 45), (45, 60))
"""Bands of yaw, in degrees, for which the error on renderings is stated."""


def measure(
    landmarker: Landmarker, faces: LandmarkFaces, pixels: float, noise: float = 1.0
) -> tuple[Floats, Floats, Floats]:
    """Error of each point in percent of the eye distance [n, P], NaN where it is not labelled, presence [n] and pose
    error in degrees [n, 3] of labelled faces.

    A face's box comes from its points and is then moved and scaled by up to 8 % and 15 % (times `noise`), as a
    detector's would be; a picture with a face box higher than `pixels` is shrunk first.
    """
    random = np.random.default_rng(1)
    errors, presences, poses = [], [], []
    for image, points, pose in zip(faces.images, faces.points, faces.pose, strict=True):
        box = box_of_points(points)
        if (scale := pixels / (box[3] - box[1])) < 1:
            size = np.round(np.array(image.shape[::-1]) * scale).astype(int)
            points = (points + 0.5) * size / np.array(image.shape[::-1]) - 0.5
            image = cv2.resize(image, size.tolist(), interpolation=cv2.INTER_AREA)
            box = box_of_points(points)
        centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
        centre = centre + noise * random.uniform(-0.16, 0.16, 2) * half
        half = half * np.exp(noise * random.uniform(-0.15, 0.15))
        found, presence, turn = landmarker(
            cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.concatenate([centre - half, centre + half])[None]
        )
        errors.append(100 * np.linalg.norm(found[0] - points, axis=1) / inter_ocular(points))
        presences.append(presence[0])
        poses.append(np.abs(turn[0] - pose))
    return np.array(errors), np.array(presences), np.array(poses)


def inter_ocular(points: Floats) -> float:
    """Distance between the outer eye corners."""
    return float(np.linalg.norm(points[RIGHT_EYE_CORNERS[0]] - points[LEFT_EYE_CORNERS[0]]))


def interval(values: Floats, seed: int = 0) -> str:
    """The mean with its 95 % bootstrap interval, as text."""
    draws = np.random.default_rng(seed).choice(values, (1000, len(values))).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return f"{values.mean():.2f} [{low:.2f}, {high:.2f}]"


def judge(landmarker: Landmarker, held: dict[str, LandmarkFaces], limit: int = MEASURED) -> dict[str, Any]:
    """The figures of a card: error, error by part of the face, faces kept and pose error on each held-out set, at 128
    and 48 px; of renderings also the error by how far the head is turned."""
    error: dict[str, str] = {}
    kept: dict[str, str] = {}
    pose: dict[str, str] = {}
    parts: dict[str, dict[str, float]] = {}
    turns: dict[str, str] = {}
    for name, faces in held.items():
        if not faces.images:
            continue
        some = faces.take(np.linspace(0, len(faces.images) - 1, min(limit, len(faces.images))).astype(int))
        for pixels in (48,) if name == "ferplus" else (128, 48):
            errors, presence, turned = measure(landmarker, some, pixels)
            each, what = np.nanmean(errors, axis=1), f"{name}, {pixels} px, n={len(errors)}"
            error[what] = _stated(each)
            parts[what] = {
                part: round(float(np.nanmedian(np.nanmean(errors[:, points], axis=1))), 2)
                for part, points in GROUPS.items()
            }
            kept[what] = interval(100.0 * (presence > 0.5))
            yaw, pitch, roll = turned.mean(axis=0)
            pose[what] = f"yaw {yaw:.1f}, pitch {pitch:.1f}, roll {roll:.1f}"
            if name == "rendered" and pixels == 128:
                yaws = np.abs(some.pose[:, 0])
                for low, high in TURNS:
                    within = (yaws >= low) & (yaws < high)
                    if within.any():
                        turns[f"{low} to {high} degrees of yaw, n={within.sum()}"] = _stated(each[within])
    return {
        "error_percent": error,
        "error_percent_by_part_median": parts,
        "error_percent_by_yaw_of_renderings": turns,
        "kept_percent_at_0.5": kept,
        "pose_mean_absolute_error_degrees": pose,
    }


def _stated(errors: Floats) -> str:
    return f"{interval(errors)}, median {np.median(errors):.2f}"


_SOURCES: Final = {
    "ferplus": "FERPlus (votes MIT; web pictures of the ICML 2013 challenge, for research), labelled by the teacher",
    "muxspace": "muxspace facial_expressions (LFW press photographs, for research), labelled by the teacher",
    "diffusionfer": "DiffusionFER (CC0 1.0), labelled by the teacher",
}


def card_of(
    config: LandmarksConfig,
    weights: Path,
    faces: LandmarkFaces,
    backgrounds: list[tuple[NDArray[Any], Floats]],
    training: Run,
    figures: dict[str, Any],
) -> dict[str, Any]:
    """The content of `landmarks.json`."""
    used = [text for name, text in _SOURCES.items() if getattr(config, name) is not None]
    if config.head is not None:
        used.append(f"ICT-FaceKit (MIT): renderings of {config.identities} people with exact points and pose")
    plain = config.model_dump(mode="json")
    return {
        "name": NAME,
        "task": f"{len(POINTS)} facial points, face presence and head pose from a face box",
        "sha256": checkpoint.digest(weights),
        "bytes": weights.stat().st_size,
        "parameters": sum(value.numel() for value in training.network.parameters()),
        "architecture": f"3x3 convolutions with ReLU, {config.method.widths[0]} to {config.method.widths[-1]} "
        f"channels, a linear layer to {MODES} modes of the points",
        "storage": STORED,
        "input": {
            "name": "images",
            "type": f"uint8 [n, 1, {SIDE}, {SIDE}]",
            "content": "luma of the square mien.faces.landmarker.square_of(box); normalised inside the graph",
            "looks": "twice: in the detector's box, then upright and to scale in the square of the points found",
        },
        "output": {
            "points": f"float32 [n, {len(POINTS)}, 2], x and y in 0..1 of the crop (pixel edges at 0 and 1), order of "
            "mien.landmarks.POINTS, left is the subject's left",
            "presence": "float32 [n], 0..1",
            "pose": "float32 [n, 3], yaw, pitch, roll in degrees, signs in mien.landmarks",
        },
        "points": {name: part.stop - part.start for name, part in GROUPS.items()},
        "data": [
            *used,
            f"together {len(faces.images)} faces; a tenth of the people and FERPlus test held out",
            f"{len(backgrounds)} pictures for crops without a face, parts and pieces of the faces, drawn patterns",
        ],
        "teacher": "MediaPipe Face Landmarker (mesh of 478 points), Google, Apache-2.0; used to label, not shipped",
        "initialisation": "random",
        "terms": "Weights: Apache-2.0 with mien. Data as stated. No picture is contained in the weights file.",
        "recipe": {
            "command": "mien train configs/landmarks.yaml",
            "config": {name: value for name, value in plain.items() if name not in _PLACES},
            "commit": checkpoint.commit(),
            "steps": training.position.step,
            "seconds": round(training.position.seconds, 1),
        },
        "metrics": {
            "protocol": "box from the points, moved by up to 8 % and scaled by up to 15 % as a detector's; two looks; "
            "error = mean distance to the teacher's points (of renderings: the exact ones) over that of the outer eye "
            "corners; [95 % bootstrap interval over faces]",
            **figures,
        },
        "intended_use": "Aligning faces, head pose, geometry for expression measurement and editing, rejecting false "
        "detections.",
        "limits": "The truth is another network's answer, not people's. Heads turned by more than about 50 degrees, "
        "strong occlusion and faces under 20 px are poorly placed. Figures by age, skin tone or gender were not "
        "measured.",
        "must_not": "Not for identifying or recognising people, and not as evidence of where someone looks or what "
        "they feel.",
    }


_PLACES: Final = ("labels", "teacher", "ferplus", "muxspace", "diffusionfer", "head", "backgrounds", "out")
"""Keys of the configuration that are paths on one machine; the card leaves them out."""
