"""Train the face detector from YuNet's weights, sets of faces and photographs without a face; write weights and card.

    mien train configs/detector.yaml [--resume]

One command prepares what scenes are composed of (`mien.training.detector.sources`) and keeps it so that a second run
starts at once; trains (`mien.training.loop`) on scenes that are composed on the fly; exports to ONNX; measures the
exported network on scenes of people and photographs that training did not see; and writes the card. The result is read
by `mien.faces.detect.MienDetector(weights=out / "detector.onnx")`; `detector.safetensors` beside it holds the weights
in full precision.
"""

from __future__ import annotations

import copy
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from mien.config import Frozen, checked
from mien.errors import ConfigError, WeightsError
from mien.faces.detector_network import STRIDES, NetworkFaces, decode, padded
from mien.io import cards
from mien.io.onnx import session
from mien.methods.base import Method, Terms
from mien.training import checkpoint, optim, processor, run_folder
from mien.training.config import OptimConfig
from mien.training.detector import measure, sources
from mien.training.detector.losses import losses
from mien.training.detector.network import DetectorNet, ShippedDetector, export, start
from mien.training.detector.scenes import Composer, SceneBatch, SceneDraws, Truth
from mien.training.landmarks.teacher import roots_of
from mien.training.loop import Run, fabric_of, notes, silent
from mien.training.task import Budget, Epoch, Task
from mien.types import EventProgress, LineProgress

Pixels = NDArray[Any]  # uint8

NAME: Final = "detector"
"""`method.name` of a configuration of this training."""

JUDGED: Final = 500
"""Steps between two measurements of the network in training."""

EPOCH: Final = 100
"""Steps between two lines in the log."""

SCENES: Final = 200
"""Scenes that the network in training is measured on."""

MEASURED: Final = 1000
"""Scenes that the card's figures are measured on."""

TOLERANCE: Final = 0.02
"""Largest difference of a score between the checkpoint and the exported network."""

MINED: Final = 0.4
"""Share of the training after which the network's own false alarms are looked for, to be shown more often from then
on."""

_LOWEST: Final = 0.05
"""Answers with a lower score are left out of the curve of precision over recall."""


class DetectorNetworkConfig(Frozen):
    """Which network."""

    name: Literal["detector"]


class DetectorConfig(Frozen):
    """The options of the training, and the paths of its data. A set without a folder is left out."""

    method: DetectorNetworkConfig
    sources: Path = Field(
        description="folder of what scenes are composed of; files that are missing are made"
    )
    start: Path | None = Field(None, description="yunet_n.pth, the weights to start from; None: random ones")
    teacher: Path | None = Field(
        None,
        description="yunet_n_640_640.onnx, which checks faces and backgrounds; needed to make the sources",
    )
    ferplus: Path | None = None
    muxspace: Path | None = None
    diffusionfer: Path | None = None
    head: Path | None = Field(None, description="ict_facekit.npz, to render heads")
    identities: int = Field(1500, ge=1, description="rendered people, two pictures each")
    backgrounds: tuple[Path, ...] = Field(description="folders and files of pictures without faces")
    most: int = Field(
        120, ge=1, description="largest number of files taken of each of the backgrounds' places"
    )
    out: Path = Path("runs/detector")
    side: int = Field(256, ge=64, multiple_of=32, description="of the scenes, pixels")
    steps: int = Field(12_000, ge=1)
    batch: int = Field(24, ge=1)
    rate: float = Field(1e-3, gt=0)
    minutes: float | None = Field(
        None,
        gt=0,
        description="stop, with the schedule brought forward to its end, when training has taken this long",
    )
    threads: int = Field(2, ge=1)
    workers: int = Field(1, ge=0, description="processes that compose scenes beside this one")
    seed: int = 0

    @property
    def roots(self) -> dict[str, Path]:
        """The folder of each set given, by its name in `mien.training.landmarks.teacher.FACES`."""
        return roots_of(
            ferplus=self.ferplus,
            muxspace=self.muxspace,
            diffusionfer=self.diffusionfer,
            without=("ferplus_valid", "ferplus_test"),
        )


def configured(tree: dict[str, Any], source: str) -> DetectorConfig:
    """Check a configuration that was read from `source`.

    Raises:
        ConfigError: a key or value is wrong, or no set is given.
    """
    config = checked(DetectorConfig, tree, source)
    if not config.roots and config.head is None:
        raise ConfigError(f"{source}: nothing to learn from: give ferplus, muxspace, diffusionfer or head")
    return config


def run(
    config: DetectorConfig, resume: bool = False, progress: EventProgress = silent, overwrite: bool = False
) -> Path:
    """Prepare, train, export, measure; return the run folder.

    The folder holds detector.onnx, its card detector.json, detector.safetensors, metrics.jsonl, and state.pt for
    --resume.

    Args:
        config: the run.
        resume: continue from `state.pt` if there is one.
        progress: called with progress.
        overwrite: replace a run in the folder.

    Raises:
        FileLocked: another process is training this run.
        ConfigError: the sources are missing and cannot be made, or the folder has a run and neither `resume` nor
            `overwrite` is on.
        DatasetNotFound: a folder does not hold its set.
        WeightsError: `start` holds other weights, or the exported network gives other scores.
        TrainingError: a loss is not finite, or the folder cannot be written.
    """
    note = notes(progress)
    with (
        run_folder.held(config, resume, free=_MAY_CHANGE, overwrite=overwrite),
        processor.settings(config.threads),
    ):
        sources.complete(
            config.sources,
            config.roots,
            config.head,
            config.identities,
            config.backgrounds,
            config.most,
            config.teacher,
            note,
        )
        faces = sources.read_faces(config.sources, config.roots, config.head is not None)
        backgrounds = sources.read_backgrounds(config.sources)
        counts = {split: sum(map(len, sets.values())) for split, sets in faces.items()}
        note(
            f"{counts['train']} faces, {len(backgrounds['train'])} backgrounds; held out: {counts['held']} and "
            f"{len(backgrounds['held'])}"
        )
        composers = {
            split: Composer(faces[split], backgrounds[split], config.side) for split in ("train", "held")
        }
        task = DetectorTask(config, composers, note)
        if config.start is not None and not (resume and (config.out / run_folder.STATE).is_file()):
            start(task.averaged, config.start)
        training = Run(task, fabric_of("float32", "cpu"), progress, resume)
        training.train()
        figures = finish(
            config,
            cast(DetectorNet, training.network),
            measure.scenes(composers["held"], MEASURED),
            training,
            {name: len(some) for name, some in faces["train"].items()}
            | {"backgrounds": len(backgrounds["train"])},
        )
    note(_summary(figures))
    return config.out


_MAY_CHANGE: Final = ("steps", "minutes", "threads", "workers", "out", "teacher")
"""Options that may differ when a run is resumed: how long it trains, with how many threads and processes, and the
teacher, since its answers are kept."""


class DetectorMethod(Method):
    """The network with its losses."""

    pretrained: ClassVar[tuple[str, ...]] = (
        "network.stem", "network.stem_norm", "network.stem_unit", "network.fine",
    )  # fmt: skip

    def __init__(self, config: DetectorConfig, size: int) -> None:
        super().__init__(config, size)
        self.network = DetectorNet().to(memory_format=torch.channels_last)

    def forward(self, batch: SceneBatch, turn: str) -> Terms:
        terms = losses(self.network(batch.images), batch)
        return {
            "score": terms["score"],
            "box": 2 * terms["box"],
            "points": 5 * terms["points"],
            "roll": 0.6 * terms["roll"],
        }


class DetectorTask(Task):
    """The network's training, with its data read."""

    remedy: ClassVar[str] = "lower `rate`"
    saves_epochs: ClassVar[bool] = False
    method: DetectorMethod

    def __init__(self, config: DetectorConfig, composers: dict[str, Composer], note: LineProgress) -> None:
        torch.manual_seed(config.seed)
        self.config, self.composers, self.note = config, composers, note
        self.folder, self.seed, self.state = config.out, config.seed, {}
        self.method = DetectorMethod(config, config.side)
        # The first layers know pictures already: they learn slowly, and what they know of other photographs stays.
        slow = 1.0 if config.start is None else 0.3
        self.optim = OptimConfig(rate=config.rate, backbone_rate=slow, weight_decay=0.02, ema=0.998)
        self.budget, self.epoch_steps = Budget(config.steps, config.minutes), EPOCH
        self._scenes: list[tuple[Pixels, Truth]] = []

    @property
    def averaged(self) -> DetectorNet:
        return self.method.network

    def files(self) -> dict[str, bytes]:
        return run_folder.stating(self.config)

    def batches(self, step: int) -> Iterator[SceneBatch]:
        while True:
            mined = "alarms" in self.state
            self.composers["train"].learn(self.state.get("alarms", ()))
            for batch in self._loader(step):
                yield batch
                step += 1
                if ("alarms" in self.state) != mined:  # the loader's processes know the old ones
                    break

    def _loader(self, step: int) -> Iterator[SceneBatch]:
        workers = self.config.workers
        if workers:
            cv2.setNumThreads(0)  # OpenCV's threads do not survive the fork of the loader
        return iter(
            torch.utils.data.DataLoader(
                SceneDraws(self.composers["train"], self.config.batch, self.config.seed, step),
                batch_size=None,
                num_workers=workers,
                prefetch_factor=4 if workers else None,
                worker_init_fn=processor.ignore_interrupts,
            )
        )

    def rate(self, step: int, share: float) -> float:
        return optim.warm_cosine(step, share)

    def end_epoch(self, epoch: Epoch) -> dict[str, Any]:
        if epoch.step % JUDGED == 0:
            self._scenes = self._scenes or measure.scenes(self.composers["held"], SCENES)
            figures = measure.figures(_exported(epoch), self._scenes)
            self.note(f"step {epoch.step:,}  {_summary(figures)}")
        if "alarms" not in self.state and self.budget.share(epoch.step, epoch.seconds) >= MINED:
            self.state["alarms"] = measure.alarms(_exported(epoch), self.composers["train"].backgrounds)
            self.note(f"{len(self.state['alarms'])} false alarms on the backgrounds")
        return epoch.means


def _exported(epoch: Epoch) -> Callable[[Pixels], NetworkFaces]:
    """The network of a training under way, exported, as a function of a picture [h, w, 3]."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "detector.onnx"
        export(copy.deepcopy(cast(DetectorNet, epoch.network)), path)
        return finder(path)


def finder(path: Path, lowest: float = _LOWEST) -> Callable[[Pixels], NetworkFaces]:
    """The exported network at `path` as a function of a picture [h, w, 3]."""
    opened = session(str(path), 1)
    return lambda image: decode(
        [maps[0] for maps in opened.run(None, {"image": padded(np.ascontiguousarray(image))})], lowest
    )


def _summary(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in figures.items())


def finish(
    config: DetectorConfig,
    network: DetectorNet,
    shown: list[tuple[Pixels, Truth]],
    training: Run,
    counts: dict[str, int],
) -> dict[str, float]:
    """Export the network, compare it with the checkpoint, measure it, write weights and card; return the figures.

    Raises:
        WeightsError: the exported network gives other scores.
    """
    weights = config.out / "detector.onnx"
    export(copy.deepcopy(network), weights)
    gap = difference(network, weights, [image for image, _ in shown[:32]])
    if gap > TOLERANCE:
        raise WeightsError(f"{weights}: a score differs from the checkpoint's by {gap:.3f}")
    figures = measure.figures(finder(weights), shown)
    card = card_of(config, weights, network, training, figures, gap, counts)
    cards.write(weights, card)
    master = {**card, "sha256": None, "bytes": None}
    run_folder.write(lambda path: checkpoint.save(path, network, master), weights.with_suffix(".safetensors"))
    return figures


@torch.inference_mode()
def difference(network: DetectorNet, path: Path, images: list[Pixels]) -> float:
    """The largest difference of a score between a network and its exported file."""
    opened, gap = session(str(path), 1), 0.0
    shipped = ShippedDetector(network).eval()
    for image in images:
        expected = shipped(torch.from_numpy(image[None]))
        for maps, known in zip(opened.run(None, {"image": image[None]}), expected, strict=True):
            scores = torch.from_numpy(maps[:, 0]).sigmoid() - known[:, 0].sigmoid()
            gap = max(gap, float(scores.abs().max()))
    return gap


_SOURCES: Final = {
    "start": "start: YuNet's yunet_n.pth (Apache-2.0; its authors trained it on WIDER FACE)",
    "ferplus": "FERPlus (votes MIT; web pictures of the ICML 2013 challenge, for research)",
    "muxspace": "muxspace facial_expressions (LFW press photographs, for research)",
    "diffusionfer": "DiffusionFER (CC0 1.0)",
    "head": "ICT-FaceKit (MIT): renderings with exact points and pose",
    "backgrounds": "photographs and textures without faces of free software packages, as listed in the recipe",
}
_PLACES: Final = (
    "sources", "start", "teacher", "ferplus", "muxspace", "diffusionfer", "head", "backgrounds", "out",
)  # fmt: skip
"""Keys of the configuration that are paths on one machine; the card leaves them out."""


def card_of(
    config: DetectorConfig,
    weights: Path,
    network: DetectorNet,
    training: Run,
    figures: dict[str, float],
    gap: float,
    counts: dict[str, int],
) -> dict[str, Any]:
    """The content of `detector.json`."""
    plain = config.model_dump(mode="json")
    used = [text for name, text in _SOURCES.items() if getattr(config, name)]
    return {
        "name": NAME,
        "task": "face boxes, five points and the quarter turn of heads in a picture",
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "bytes": weights.stat().st_size,
        "parameters": sum(value.numel() for value in network.parameters()),
        "architecture": "YuNet (Wu, Peng and Yu 2023) with a residual unit more at each stride and in each head: "
        "separable convolutions with ReLU, 16 to 64 channels, a feature pyramid of strides 8, 16 and 32; stored in "
        "half precision, computed in float32",
        "input": {"image": "uint8 [1, h, w, 3], RGB; h and w are multiples of 32, at least 64"},
        "output": {
            f"stride{stride}": f"float32 [1, 19, h / {stride}, w / {stride}], channels as in "
            "mien.faces.detector_network"
            for stride in STRIDES
        },
        "data": [
            *used,
            ", ".join(f"{count} of {name}" for name, count in counts.items())
            + "; a tenth of the people and a fifth of the backgrounds held out",
        ],
        "teacher": "YuNet's yunet_n_640_640.onnx (Apache-2.0) and our landmark network agree on where faces are, and "
        "where there is none",
        "initialisation": "YuNet's published weights" if config.start is not None else "random",
        "terms": "Weights: Apache-2.0 with mien, derived from YuNet's (Apache-2.0). Data as stated. No picture is "
        "contained in the weights file.",
        "recipe": {
            "command": "mien train configs/detector.yaml",
            "config": {name: value for name, value in plain.items() if name not in _PLACES},
            "backgrounds": [path.name for path in config.backgrounds],
            "commit": checkpoint.commit(),
            "steps": training.position.step,
            "seconds": round(training.position.seconds, 1),
        },
        "metrics": {
            "protocol": f"{MEASURED} composed scenes of {config.side} px with people and photographs held out: recall "
            f"and precision at intersection over union {measure.OVERLAP} of answers scored {measure.SCORE} or more; "
            "average precision; `turns`: share of the faces found with the right quarter turn; `points`: mean distance "
            "of the five points in per cent of the box",
            "scenes": {name: round(value, 4) for name, value in figures.items()},
            "largest_score_difference_to_checkpoint": round(gap, 5),
        },
        "intended_use": "Finding faces in pictures, as the first step of mien's pipeline.",
        "limits": "Faces under 12 px of the searched picture, faces covered by more than half, and heads seen from "
        "behind are not found reliably; drawn faces are found in part. The scenes are composed: figures on photographs "
        "are in the documentation. Figures by age, skin tone or gender were not measured.",
        "must_not": "Not for identifying people, nor for watching them without their consent.",
    }
