"""Train the network of facial actions from a teacher, sets of faces and renderings; write its weights and card.

    mien train configs/actions.yaml [--resume]

One command labels each set with the teacher (`mien.training.actions.teacher`) and reads the renderings, and keeps both
so that a second run starts at once; trains (`mien.training.loop`); exports to ONNX; measures the exported network on
people that training did not see; and writes the card. `ActionReader.load(out / "actions.onnx")` of
`mien.faces.action_reader` opens the result; `actions.safetensors` beside it holds the weights in full precision.
"""

from __future__ import annotations

import copy
import hashlib
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, cast

import cv2
import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from mien.actions import ACTIONS, VERSION, other_side
from mien.config import Frozen, checked
from mien.errors import ConfigError
from mien.faces.action_reader import SIZE, ActionReader
from mien.io import cards
from mien.io.onnx import session
from mien.landmarks import POINTS
from mien.methods.base import Method, Terms
from mien.training import checkpoint, optim, processor, run_folder
from mien.training.actions import faces, intensity, measure
from mien.training.actions.draws import ActionCrops, ActionDraws
from mien.training.actions.faces import ActionFaces
from mien.training.actions.network import GLANCE, OUTPUTS, ActionNet, action_loss, export, point_loss, spreads
from mien.training.actions.teacher import TAUGHT
from mien.training.config import OptimConfig
from mien.training.landmarks.teacher import roots_of, save
from mien.training.loop import Run, fabric_of, notes, silent
from mien.training.onnx_export import STORED
from mien.training.task import Budget, Epoch, Task
from mien.types import EventProgress, LineProgress

NAME: Final = "actions"
"""`method.name` of a configuration of this training."""

JUDGED: Final = 1000
"""Steps between two measurements of the network in training."""

MEASURED: Final = 0.5
"""Smallest Pearson's correlation, with the exact values of unseen people or else with the teacher on unseen people, at
which an action counts as measured."""


PLACES: Final = 0.5
"""Weight of a pixel's mean distance between the corrected and the exact points of renderings."""


class ActionNetworkConfig(Frozen):
    """Which network."""

    name: Literal["actions"]
    widths: tuple[int, int, int, int] = Field((12, 24, 48, 96), description="channels of the four stages")
    hidden: int = Field(256, ge=1, description="width of the layer that joins crop and points")


class ActionsConfig(Frozen):
    """The options of the training, and the paths of its data. A set without a folder is left out."""

    method: ActionNetworkConfig
    labels: Path = Field(description="folder of the teacher's answers; those that are missing are made")
    teacher: Path | None = Field(None, description="face_landmarker.task; needed to make labels")
    gaze_teacher: Path | None = Field(
        None, description="gaze-estimation-adas-0002.xml; without it photographs teach no gaze"
    )
    ferplus: Path | None = None
    muxspace: Path | None = None
    diffusionfer: Path | None = None
    rendered: Path | None = Field(None, description="a folder of 'mien data render --actions'")
    expressions: Path | None = Field(
        None, description="a folder of 'mien data render': the eight expressions, to fit the intensity"
    )
    people: Path | None = Field(
        None, description="neutral/ and smiling/ pictures of the same people, to measure on"
    )
    start: Path | None = Field(
        None, description="weights to start from, a .safetensors of this training; without it they are random"
    )
    out: Path = Path("runs/actions")
    steps: int = Field(12_000, ge=1)
    batch: int = Field(64, ge=2)
    rate: float = Field(2e-3, gt=0)
    share: float = Field(0.45, ge=0, le=1, description="of the renderings in a batch")
    minutes: float | None = Field(
        None,
        gt=0,
        description="stop, with the schedule brought forward to its end, when training has taken this long",
    )
    threads: int = Field(1, ge=1)
    seed: int = 0

    @property
    def roots(self) -> dict[str, Path]:
        """The folder of each set given, by its name in `mien.training.landmarks.teacher.FACES`."""
        return roots_of(
            ferplus=self.ferplus,
            muxspace=self.muxspace,
            diffusionfer=self.diffusionfer,
            without=("ferplus_valid",),
        )


def configured(tree: dict[str, Any], source: str) -> ActionsConfig:
    """Check a configuration that was read from `source`.

    Raises:
        ConfigError: a key or value is wrong, or no set is given.
    """
    config = checked(ActionsConfig, tree, source)
    if not config.roots and config.rendered is None:
        raise ConfigError(
            f"{source}: nothing to learn from: give ferplus, muxspace, diffusionfer or rendered"
        )
    return config


def run(
    config: ActionsConfig, resume: bool = False, progress: EventProgress = silent, overwrite: bool = False
) -> Path:
    """Label with the teacher, train, export, measure; return the run folder.

    The folder holds actions.onnx, its card actions.json, actions.safetensors, metrics.jsonl, and state.pt for --resume.

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
        faces.complete(
            config.labels, config.roots, config.teacher, config.rendered, note, config.gaze_teacher
        )
        held = faces.read(config.labels, config.roots, config.rendered is not None)
        photographs, renderings = held.pop("photographs"), held.pop("renderings")
        told = ", ".join(f"{len(some)} of {name}" for name, some in held.items())
        note(f"{len(photographs)} photographs, {len(renderings)} renderings; held out: {told}")
        task = ActionTask(config, photographs, renderings, held, note)
        training = Run(task, fabric_of("float32", "cpu"), progress, resume)
        training.train()
        card = finish(
            config, cast(ActionNet, training.network), held, training, len(photographs), len(renderings)
        )
    measured = [name for name, stated in card["actions"].items() if stated["measured"]]
    note(f"{len(measured)} of {len(ACTIONS)} actions are measured; {card['metrics']['summary']}")
    return config.out


_MAY_CHANGE: Final = (
    "steps", "minutes", "threads", "out", "people", "expressions", "teacher", "gaze_teacher",
)  # fmt: skip
"""Options that may differ when a run is resumed: how long it trains, with how many threads, what is measured,
and the teachers, since their answers are kept."""


class ActionMethod(Method):
    """The network with its two losses."""

    pretrained: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: ActionsConfig, size: int = SIZE) -> None:
        super().__init__(config, size)
        self.network = ActionNet(config.method.widths, config.method.hidden).to(
            memory_format=torch.channels_last
        )
        self.taught: Tensor
        self.exact: Tensor
        self.register_buffer("taught", torch.ones(OUTPUTS))
        self.register_buffer("exact", torch.ones(OUTPUTS))
        self._share = config.share

    def forward(self, batch: ActionCrops, turn: str) -> Terms:
        images = batch.crops.float().contiguous(memory_format=torch.channels_last)
        said, corrected = self.network(images, batch.points)
        return {
            "taught": (1 - self._share) * action_loss(said, batch.taught, self.taught),
            "exact": self._share * action_loss(said, batch.exact, self.exact),
            "places": self._share * PLACES * point_loss(corrected, batch.places),
        }


class ActionTask(Task):
    """The network's training, with its data read."""

    remedy: ClassVar[str] = "lower `rate`"
    saves_epochs: ClassVar[bool] = False
    method: ActionMethod

    def __init__(
        self,
        config: ActionsConfig,
        photographs: ActionFaces,
        renderings: ActionFaces,
        held: dict[str, ActionFaces],
        note: LineProgress,
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.held, self.note = config, held, note
        self._data = (photographs, renderings, config.batch, config.share, config.seed)
        self.folder, self.seed, self.state = config.out, config.seed, {}
        self.method = ActionMethod(config)
        if config.start is not None:
            fill(self.method.network, config.start)
        if len(photographs):
            taught = np.where(TAUGHT, photographs.actions, np.nan)
            self.method.taught.copy_(_spreads(taught, photographs.gaze))
        if len(renderings):
            self.method.exact.copy_(_spreads(renderings.actions, renderings.gaze))
        self.optim = OptimConfig(rate=config.rate, weight_decay=0.02, ema=0.998)
        self.budget, self.epoch_steps = Budget(config.steps, config.minutes), 100

    @property
    def averaged(self) -> ActionNet:
        return self.method.network

    def files(self) -> dict[str, bytes]:
        return run_folder.stating(self.config)

    def batches(self, step: int) -> Iterator[ActionCrops]:
        cv2.setNumThreads(1)
        return iter(ActionDraws(*self._data, step))

    def rate(self, step: int, share: float) -> float:
        return optim.warm_cosine(step, share)

    def end_epoch(self, epoch: Epoch) -> dict[str, Any]:
        if epoch.step % JUDGED == 0:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "actions.onnx"
                export(copy.deepcopy(cast(ActionNet, epoch.network)), path)
                figures = measure.figures(_runner(path), self.held)
            for name, values in figures.items():
                self.note(f"step {epoch.step:,}  {name}: {_summary(name, values)}")
        return epoch.means


def fill(network: ActionNet, start: Path) -> None:
    """Fill a network with the weights of `start`, in place.

    Layers that `start` has not keep their random weights. Where a layer has more inputs or outputs than there, the
    further weights are 0, so at first they change nothing.

    Raises:
        ConfigError: `start` has a layer that the network has not, or a larger one.
        WeightsError: it is missing or damaged.
    """
    own = network.state_dict()
    for name, weights in checkpoint.load(start).tensors.items():
        if name not in own or not _fits(weights.shape, own[name].shape):
            raise ConfigError(
                f"start: {start} is another network ({name}): leave it out, or set `method` as there"
            )
        own[name].zero_()[tuple(slice(0, size) for size in weights.shape)] = weights


def _fits(small: Sequence[int], large: Sequence[int]) -> bool:
    """Whether an array of the shape `small` is a part of one of the shape `large`."""
    return len(small) == len(large) and all(one <= other for one, other in zip(small, large, strict=True))


def _spreads(actions: Any, gaze: Any) -> Tensor:
    return spreads(torch.from_numpy(np.concatenate([actions, gaze / GLANCE], axis=1)))


def _runner(path: Path) -> Callable[[Any], Any]:
    opened = session(str(path), 1)
    return lambda inputs: opened.run(None, inputs)


def _summary(name: str, values: dict[str, Any]) -> str:
    """The mean correlation; for photographs, over the actions on which the teacher agrees with itself."""
    kept = np.isfinite(values["pearson"])
    if "retest" in values:
        kept &= TAUGHT & (values["retest"] >= measure.RELIABLE)
    if not kept.any():
        return "no action varies"
    some = values["pearson"][kept]
    told = f"Pearson {some.mean():.3f} in the mean of {kept.sum()} actions, {some.min():.2f} at least"
    gaze = values.get("gaze")
    return told if gaze is None else f"{told}; gaze {gaze['median']:.1f} degrees off in the median"


def finish(
    config: ActionsConfig,
    network: ActionNet,
    held: dict[str, ActionFaces],
    training: Run,
    photographs: int,
    renderings: int,
) -> dict[str, Any]:
    """Export the network, measure it, write weights and card; return the card."""
    weights = config.out / "actions.onnx"
    export(copy.deepcopy(network), weights)
    values = measure.figures(_runner(weights), held)
    actions = verdicts(values)
    card = card_of(config, weights, network, training, values, actions, (photographs, renderings))
    card["intensity"] = _intensity(config, weights)
    if config.people is not None:
        # Of every answer, also of those that are left empty.
        reader = ActionReader(_Opened(session(str(weights), 1)), np.ones(len(ACTIONS), bool))
        card["metrics"]["people"] = measure.people(reader, config.people)
    cards.write(weights, card)
    master = {**card, "sha256": None, "bytes": None}
    run_folder.write(lambda path: checkpoint.save(path, network, master), weights.with_suffix(".safetensors"))
    return card


def _intensity(config: ActionsConfig, weights: Path) -> dict[str, Any] | None:
    """The card's entry for intensity: the weight and the value at rest of each action, and its figures; None without
    `expressions`."""
    if config.expressions is None:
        return None
    path = config.labels / "graded.npz"
    if not path.is_file():
        save(path, intensity.graded(config.expressions, config.ferplus))
    with np.load(path) as file:
        fitted, figures = intensity.fitted(_runner(weights), dict(file))
    return {
        "formula": "1 - exp(-sum of weight x max(0, action - rest)), see mien.training.actions.intensity",
        "weights": {name: round(float(one), 4) for name, one in zip(ACTIONS, fitted.weights, strict=True)},
        "rest": {name: round(float(one), 4) for name, one in zip(ACTIONS, fitted.rest, strict=True)},
        "figures": figures,
    }


class _Opened:
    """Adapts a session to what `ActionReader` takes."""

    def __init__(self, opened: Any) -> None:
        self.run = opened.run


def verdicts(values: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The card's entry for each action: whether it is `measured`, what it was learnt from, and its correlations.

    `rendered` is the correlation with the exact values of unseen people; `teacher` and `retest` are means over the sets
    of photographs.
    The two sides of an action are measured both or not at all, by the mean of their correlations.
    """
    photographs = [figures for figures in values.values() if "retest" in figures]
    exact = values.get("rendered", {}).get("pearson", np.full(len(ACTIONS), np.nan))
    size = values.get("rendered", {}).get("slope", np.full(len(ACTIONS), np.nan))
    result: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(ACTIONS):
        known = [figures for figures in photographs if np.isfinite(figures["pearson"][place])]
        teacher, retest = (
            float(np.mean([figures[kind][place] for figures in known]))
            if known and TAUGHT[place]
            else math.nan
            for kind in ("pearson", "retest")
        )
        rendered = float(exact[place])
        result[name] = {
            "measured": False,
            "learnt_from": (["renderings"] if np.isfinite(rendered) else [])
            + (["teacher"] if np.isfinite(teacher) else []),
            "rendered": _rounded(rendered),
            "slope": _rounded(float(size[place])),
            "teacher": _rounded(teacher),
            "retest": _rounded(retest),
        }
    for name, stated in result.items():
        sides = stated, result[other_side(name)]
        reached = [sum(side[kind] or 0.0 for side in sides) / 2 for kind in ("rendered", "teacher")]
        stated["measured"] = max(reached) >= MEASURED
    return result


def _rounded(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None


def _initialisation(start: Path | None) -> str:
    if start is None:
        return "random"
    return f"{start.name} of SHA-256 {hashlib.sha256(start.read_bytes()).hexdigest()}; new layers random"


_SOURCES: Final = {
    "ferplus": "FERPlus (votes MIT; web pictures of the ICML 2013 challenge, for research), every other or third "
    "training face, labelled by the teacher",
    "muxspace": "muxspace facial_expressions (LFW press photographs, for research), labelled by the teacher",
    "diffusionfer": "DiffusionFER (CC0 1.0), labelled by the teacher",
    "rendered": "ICT-FaceKit (MIT): renderings of combined movements with exact values",
    "people": "only measured on: Face Research Lab London Set (DeBruine and Jones 2017, CC BY 4.0)",
}
_PLACES: Final = (
    "labels", "teacher", "gaze_teacher", "ferplus", "muxspace", "diffusionfer", "rendered", "expressions", "people",
    "start", "out",
)  # fmt: skip
"""Keys of the configuration that are paths on one machine; the card leaves them out."""


def card_of(
    config: ActionsConfig,
    weights: Path,
    network: ActionNet,
    training: Run,
    values: dict[str, dict[str, Any]],
    actions: dict[str, dict[str, Any]],
    counts: tuple[int, int],
) -> dict[str, Any]:
    """The content of `actions.json`."""
    plain = config.model_dump(mode="json")
    used = [text for name, text in _SOURCES.items() if getattr(config, name) is not None]
    summary = "; ".join(f"{name} (n={some['n']}): {_summary(name, some)}" for name, some in values.items())
    return {
        "name": NAME,
        "task": f"{len(ACTIONS)} facial actions and the gaze from an aligned face and its landmarks",
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "bytes": weights.stat().st_size,
        "parameters": sum(value.numel() for value in network.parameters()),
        "architecture": f"3x3 convolutions with ReLU, {config.method.widths[0]} to {config.method.widths[-1]} "
        "channels, beside one layer for the points; the mean over the face and its mirror image",
        "storage": STORED,
        "input": {
            "crops": f"uint8 [n, {SIZE}, {SIZE}], luma of faces aligned by mien.faces.align",
            "points": f"float32 [n, {len(POINTS)}, 2], mien.landmarks.POINTS in unit coordinates of the crop",
        },
        "output": {
            "actions": f"float32 [n, {len(ACTIONS)}] in 0..1, in the order of mien.actions.ACTIONS",
            "gaze": "float32 [n, 2], yaw (positive to the subject's left) and pitch (positive upwards) in degrees, of "
            "the face turned upright, in the camera's frame",
        },
        "units": {"version": VERSION, "map": "mien.actions.UNITS"},
        "actions": actions,
        "data": [
            *used,
            f"together {counts[0]} photographs and {counts[1]} renderings; a tenth of the people, FERPlus "
            "test and two sevenths of the rendered people held out",
        ],
        "teacher": "MediaPipe Face Landmarker (mesh and blendshape networks), Google, Apache-2.0"
        + ("; for gaze gaze-estimation-adas-0002, Intel, Apache-2.0" if config.gaze_teacher else "")
        + "; used to label, not shipped",
        "initialisation": _initialisation(config.start),
        "terms": "Weights: Apache-2.0 with mien. Data as stated. No picture is contained in the weights file.",
        "recipe": {
            "command": "mien train configs/actions.yaml",
            "config": {name: value for name, value in plain.items() if name not in _PLACES},
            "commit": checkpoint.commit(),
            "steps": training.position.step,
            "seconds": round(training.position.seconds, 1),
        },
        "metrics": {
            "protocol": "Pearson's correlation of each action over the held-out faces of a set. `rendered`: with the "
            "exact values of unseen people, `slope` of the exact value over the answer. `teacher`: with the teacher's "
            "answers (mean over picture and mirror image), averaged over the sets; `retest`: the teacher's own with a "
            f"second look at a square moved by up to 5 % and scaled by up to 10 %. An action is measured from "
            f"{MEASURED} on. In the summary photographs count where the teacher's retest is at least "
            f"{measure.RELIABLE}. `people`, from neutral to smiling: the mean change over its standard deviation with "
            "a 95 % bootstrap interval over people, of all answers, also those that are left empty; `mirror`: the mean "
            "difference between a picture's actions and those of its mirror image. `gaze`: the angle in degrees "
            "between the answer and the exact direction or the teacher's, its median and 90th percentile; `camera`: "
            "the median angle from the camera; for faces with open eyes. `people` look at the camera.",
            "summary": summary,
            "sets": {
                name: {
                    "n": some["n"],
                    **{
                        kind: [_rounded(float(value)) for value in some[kind]]
                        for kind in ("pearson", "slope", "retest", "teacher")
                        if kind in some
                    },
                    **({"gaze": some["gaze"]} if "gaze" in some else {}),
                }
                for name, some in values.items()
            },
        },
        "intended_use": "Measuring how faces move, in groups and over time; comparing a person with their own neutral "
        "face.",
        "limits": "The size of an action on photographs is the teacher's, which is another network, not people's "
        "coding; actions learnt from renderings alone have no truth on photographs. It is no certified FACS coding. "
        "Heads turned by more than about 40 degrees, occlusion and faces under 40 px are poorly measured. Figures by "
        "age, skin tone or gender were not measured.",
        "must_not": "Not for telling what people feel, lie about or intend, nor for identifying them.",
    }
