"""Train a learned editor: the corrector, or one of the two generators that it is compared with.

    mien train configs/editor-corrector.yaml [--resume]

One command computes the edits to learn from (`mien.training.editor.edit_pairs`), trains (`mien.training.loop`), exports
to ONNX and writes the card. The schedule ends after a number of steps or minutes of processor time, whichever comes
first, so that several editors can be given the same time whatever else the machine does. An interrupted run continues
with --resume; one limited by steps ends with the same weights as an uninterrupted one.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, cast

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn

from mien.config import Frozen, checked
from mien.data import protocols
from mien.data.readers import READERS
from mien.editing.corrector import SIDE
from mien.editing.geometry import ACTIVE
from mien.errors import ConfigError, DatasetDamaged
from mien.io import cards
from mien.methods.mobilefacenet import MobileFaceNet
from mien.training import checkpoint, processor, run_folder
from mien.training.config import OptimConfig
from mien.training.editor import edit_pairs
from mien.training.editor.edit_pairs import Bank
from mien.training.editor.losses import WITNESS_SIDE, EditedFaces, Game, Guide, Guided, Star, Witness, axes_of
from mien.training.editor.networks import Change, Corrector, Skip, StarGenerator
from mien.training.loop import Run, fabric_of, notes, silent
from mien.training.task import Budget, Epoch, Task
from mien.types import EventProgress

NAME: Final = "editor"
"""`method.name` of a configuration of this training."""
HELD: Final = 0.05
"""Share of the bank that is not trained on."""


class NetworkConfig(Frozen):
    """The kind of editor."""

    name: Literal["editor"]
    kind: Literal["corrector", "skip", "stargan"]


class EditorConfig(Frozen):
    """The options of an editor's training, and the paths of its data."""

    method: NetworkConfig
    ferplus: Path = Field(description="FERPlus in its official layout")
    points: Path = Field(description="landmarks by picture name: an .npz with `names` and `points`")
    bank: Path = Field(Path("cache/edits"), description="folder of the edits to learn from; kept")
    faces: int = Field(6000, ge=2, description="faces in the bank")
    guides: tuple[Path, ...] = Field(
        (),
        description="checkpoints of recognisers on 64 px (meca or baseline) that take turns; the first conditions the "
        "editor; unless the kind is stargan one is needed",
    )
    identity: Path | None = Field(
        None,
        description="published weights of MobileFaceNet, which keeps the identity of edited faces; not for stargan",
    )
    out: Path = Path("runs/editor")
    steps: int = Field(20000, ge=1)
    minutes: float | None = Field(None, gt=0, description="of processor time")
    batch: int = Field(24, ge=2)
    rate: float = Field(4e-4, gt=0)
    ema: float = Field(0.995, gt=0, lt=1)
    amount: float = Field(1.0, gt=0, le=2, description="share of a trained corrector's answer that edits use")
    threads: int = Field(1, ge=1)
    seed: int = 0


def configured(tree: dict[str, Any], source: str) -> EditorConfig:
    """Check a configuration that was read from `source`.

    Raises:
        ConfigError: a key or value is wrong, or the guide or the witness is missing.
    """
    config = checked(EditorConfig, tree, source)
    if config.identity is not None:
        if config.method.kind == "stargan":
            raise ConfigError(f"{source}: a stargan has no witness: leave out `identity`")
        if not config.identity.is_file():
            raise ConfigError(
                f"{config.identity}: no such file: pass the published mobilefacenet.pt (foamliu/MobileFaceNet), or "
                "leave out `identity`"
            )
    if not config.guides and config.method.kind != "stargan":
        raise ConfigError(
            f"{source}: a {config.method.kind} needs a guide: train configs/meca-ferplus.yaml first and name its "
            "weights.safetensors in `guides`"
        )
    return config


def run(
    config: EditorConfig, resume: bool = False, progress: EventProgress = silent, overwrite: bool = False
) -> Path:
    """Make the bank, train, export; return the run folder.

    The folder holds editor.onnx, its card editor.json, editor.safetensors, metrics.jsonl, and state.pt for --resume.

    Args:
        config: the run.
        resume: continue from `state.pt` if there is one.
        progress: called with progress.
        overwrite: replace a run in the folder.

    Raises:
        FileLocked: another process is training this run.
        ConfigError: the folder has a run and neither `resume` nor `overwrite` is on, or one of another configuration; a
            guide is not a meca or baseline on 64 px.
        WeightsError: a guide or the witness cannot be opened.
        DatasetNotFound, DatasetDamaged: FERPlus or the points are missing.
        TrainingError: a loss is not finite, or the folder cannot be written.
    """
    with run_folder.held(config, resume, overwrite=overwrite), processor.settings(config.threads):
        records = [
            record
            for record in protocols.load("ferplus-majority").apply(READERS["ferplus"](config.ferplus))
            if record.split == "train"
        ]
        points = read_points(config.points)
        faces = edit_pairs.build(config.bank, records, points, config.faces, config.seed, notes(progress))
        task = EditorTask(config, faces)
        training = Run(task, fabric_of("float32", "cpu"), progress, resume)
        training.train()
        task.export(config.out / "editor.onnx", training)
    return config.out


def read_points(path: Path) -> dict[str, Any]:
    """Landmarks [P, 2] by picture name.

    Raises:
        DatasetDamaged: the file is missing or holds no landmarks.
    """
    try:
        with np.load(path) as stored:
            return dict(zip(stored["names"].tolist(), stored["points"], strict=True))
    except (OSError, ValueError, KeyError) as problem:
        raise DatasetDamaged(
            f"{path}: no landmarks ({problem}): an .npz with `names` and `points`, see mien.training.landmarks.teacher"
        ) from None


def guide_of(path: Path) -> Guide:
    """The guide in a checkpoint.

    Raises:
        WeightsError: it cannot be opened.
        ConfigError: it is not a meca or baseline on 64 px.
    """
    found = checkpoint.load(path)
    method = found.restore()
    if not isinstance(method, Guide) or found.card.get("size") != SIDE:
        raise ConfigError(
            f"{path}: a guide must be a meca or baseline on 64 px: train configs/meca-ferplus.yaml, or a baseline with "
            "--set data.size=64"
        )
    return method


class EditorTask(Task):
    """An editor's training, with its data read."""

    remedy: ClassVar[str] = "lower `rate`"
    saves_epochs: ClassVar[bool] = False
    method: Game

    def __init__(self, config: EditorConfig, faces: Bank) -> None:
        torch.manual_seed(config.seed)
        self.config, self.faces = config, faces
        held = max(1, int(HELD * len(faces)))
        self._held, self._rows = np.arange(held), np.arange(held, len(faces))
        # The commit of the code that trains; it may have changed by the time of export.
        self._commit = checkpoint.commit()
        self.folder, self.seed, self.state = config.out, config.seed, {}
        self.method = self._game()
        self.optim = OptimConfig(rate=config.rate, betas=(0.5, 0.99), weight_decay=0.0, ema=config.ema)
        self.budget, self.epoch_steps = Budget(config.steps, config.minutes, time.process_time), 50

    def _game(self) -> Game:
        if self.config.method.kind == "stargan":
            return Star()
        guides = [guide_of(path) for path in self.config.guides]
        axes = axes_of(guides[0])
        editor = Corrector(axes) if self.config.method.kind == "corrector" else Skip(axes)
        return Guided(editor, guides, self._witness())

    def _witness(self) -> Witness | None:
        if self.config.identity is None:
            return None
        network = MobileFaceNet(WITNESS_SIDE)
        network.load_published(self.config.identity)
        return Witness(network, self.rows(self._rows[:256]).before)

    def _witnessed(self) -> dict[str, str]:
        if self.config.identity is None:
            return {}
        digest = checkpoint.digest(self.config.identity)[:12]
        return {"witness": f"{digest} (MobileFaceNet of foamliu, Apache-2.0, trained on MS-Celeb-1M)"}

    def rows(self, chosen: Any, mirror: Any = False) -> EditedFaces:
        """Rows of the bank as tensors, mirrored where `mirror` (a bool or [n]) is true, except for edits that add or
        remove contempt, which is one-sided."""
        sided = self.faces.change[chosen][:, ACTIVE.index("contempt")] != 0
        turned = (np.asarray(mirror) & ~sided)[:, None, None]
        luma = (
            torch.from_numpy(np.where(turned, part[..., ::-1], part)).float()[:, None] / 255
            for part in (pictures[chosen] for pictures in (self.faces.before, self.faces.after))
        )
        rest = (
            torch.from_numpy(values[chosen])
            for values in (self.faces.change, self.faces.votes, self.faces.target, self.faces.strength)
        )
        return EditedFaces(*luma, *rest)

    @property
    def averaged(self) -> nn.Module:
        return self.method.editor

    def files(self) -> dict[str, bytes]:
        return run_folder.stating(self.config)

    def batches(self, step: int) -> Iterator[EditedFaces]:
        for number in count(step):
            random = np.random.default_rng((self.seed, number))
            chosen = random.choice(self._rows, min(self.config.batch, len(self._rows)), replace=False)
            yield self.rows(chosen, random.random(len(chosen)) < 0.5)

    def rate(self, step: int, share: float) -> float:
        return min(1.0, (step + 1) / 50, max(0.0, 2 * (1 - share)) + 1e-3)

    def end_epoch(self, epoch: Epoch) -> dict[str, Any]:
        return epoch.means

    def read_as_asked(self) -> dict[str, float]:
        """Share of held-out faces that a guide reads as the requested expression, unedited, after the analytic and
        after the learned edit; empty without a guide. The guide trained the editor, so this does not measure
        quality."""
        if not isinstance(self.method, Guided):
            return {}
        faces = self.rows(self._held)
        with torch.inference_mode():
            shown = {"unedited": faces.before, "analytic": faces.after, "learned": self.method.edit(faces)}
            return {
                name: round(
                    float((self.method.read(pictures)[0].argmax(dim=1) == faces.target).float().mean()), 4
                )
                for name, pictures in shown.items()
            }

    def export(self, path: Path, training: Run) -> None:
        """Write the averaged editor as ONNX with its card, and as safetensors."""
        editor = training.network.eval()
        self.method.editor.load_state_dict(editor.state_dict())
        save_file(
            {name: value.contiguous() for name, value in editor.state_dict().items()},
            path.with_suffix(".safetensors"),
        )
        kind = self.config.method.kind
        size = 2 if kind == "corrector" else 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a warning that this exporter is the older one
            torch.onnx.export(
                _Deployed(editor),
                (torch.rand(2, size, 64, 64), torch.rand(2, self.faces.change.shape[1])),
                str(path),
                input_names=["pictures", "change"],
                output_names=OUTPUTS[kind],
                dynamic_axes={name: {0: "n"} for name in ("pictures", "change", *OUTPUTS[kind])},
                opset_version=17,
                dynamo=False,
            )
        cards.write(path, self.card(path, training))

    def card(self, path: Path, training: Run) -> dict[str, Any]:
        """The card of the exported file."""
        config = self.config
        plain = config.model_dump(mode="json")
        return {
            "name": f"editor_{config.method.kind}",
            "task": TASKS[config.method.kind],
            "kind": config.method.kind,
            "amount": config.amount,
            "input": {
                "pictures": "float32 [n, 1 or 2, 64, 64] luma in 0..1, windows of mien.editing.corrector",
                "change": "float32 [n, 7] change of the strengths of mien.editing.geometry.ACTIVE",
            },
            "sha256": checkpoint.digest(path),
            "data": [
                f"FERPlus, {len(self.faces)} training faces with one asked edit each: votes MIT, pixels of the FER2013 "
                "challenge, for research",
            ],
            "terms": {"code": "Apache-2.0", "weights": "Apache-2.0"},
            "recipe": {
                "command": f"mien train configs/editor-{config.method.kind}.yaml",
                "config": {name: value for name, value in plain.items() if name not in _PLACES},
                "guides": [checkpoint.digest(path)[:12] for path in config.guides],
                **self._witnessed(),
                "commit": self._commit,
                "steps": training.position.step,
                "processor_seconds": round(training.position.seconds, 1),
            },
            "metrics": {
                "held-out edits that a guide reads as asked, no measure of quality": self.read_as_asked()
            },
            "intended_use": [
                "changing the expression shown in photographs of oneself or of people who agreed (mien edit)"
            ],
            "limits": [
                "adults, mostly frontal web photographs of 2013 with an unknown mix of people; figures by ethnicity of "
                "102 people are in docs/editing.md, none by age or gender"
            ],
            "must_not": [
                "presenting an edited picture as evidence of what someone felt or did",
                "editing people who did not agree",
                "removing the notice that a picture was edited in order to deceive",
            ],
        }


OUTPUTS: Final = {"corrector": ["flow", "gain"], "skip": ["added"], "stargan": ["drawn"]}
TASKS: Final = {
    "corrector": "corrects the flow and the light of an analytic edit of a face",
    "skip": "adds luma to a face so that it shows another expression; without flow, for comparison",
    "stargan": "generates a face with another expression; for comparison",
}
_PLACES: Final = ("ferplus", "points", "bank", "guides", "identity", "out")


class _Deployed(nn.Module):
    """The exported network: takes pictures and the change of strengths, for every kind of editor."""

    def __init__(self, editor: nn.Module) -> None:
        super().__init__()
        self.editor = editor

    def forward(self, pictures: Tensor, change: Tensor) -> Tensor | Change:
        if isinstance(self.editor, StarGenerator):
            return cast(Tensor, self.editor(pictures, self.editor.code(change)))
        return cast(Tensor | Change, self.editor(pictures, change))
