"""Train a recogniser on labelled pictures, with validation after each epoch; the best weights are kept."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
import yaml
from pydantic import ValidationError

from mien import methods
from mien.data.cropping import Samples, label_names, load_split
from mien.data.transforms import augment
from mien.errors import ConfigError
from mien.io import atomic
from mien.labels import EXPRESSIONS
from mien.methods.base import Batch, Method, Recognition, expression_target
from mien.training import checkpoint, distillation, initialise, optim, run_folder, run_log
from mien.training.batches import BatchLoader
from mien.training.config import RunConfig
from mien.training.task import Budget, Epoch, Task
from mien.types import EventProgress

if TYPE_CHECKING:
    from torch import nn

Validate = Callable[[Any, list[Samples], int], dict[str, float]]
"""A function of a `Recognition`, the validation sets and the rows per batch that returns validation metrics by name; a
run selects by one (`mien.training.run_log.HIGHER_IS_BETTER`). `mien.evaluation.validation.validate` is one."""

Load = Callable[..., dict[Any, list[Samples]]]
"""Reads splits of a set, as `mien.data.cropping.load_split` does."""


class RecogniserTask(Task):
    """A `RunConfig` with its data read.

    Args:
        config: the run, with its labels by name.
        folder: the run folder.
        validate: evaluates the method after each epoch.
        progress: called with progress.
        fresh: whether the run starts from the beginning, so that norms have to be estimated.
        rank, world: the number of this process, and how many train.
        load: reads the data, as `mien.data.cropping.load_split` does.

    Raises:
        ConfigError: the method is not a recogniser, the data do not fit, or no validation picture has what `select`
            needs.
    """

    event: ClassVar[str] = "epoch"
    remedy: ClassVar[str] = "lower optim.rate or use precision float32"

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        validate: Validate,
        progress: EventProgress,
        fresh: bool = True,
        rank: int = 0,
        world: int = 1,
        load: Load = load_split,
    ) -> None:
        self.config, self.folder, self.progress = config, folder, progress
        self._validate, self._rank, self._world = validate, rank, world
        self.method, self.optim, self.seed = _method(config), config.optim, config.seed
        splits = _splits(config, progress, load)
        self._held = splits["valid"]
        self.feed = BatchLoader(splits["train"], config.batch, config.data.balance, config.seed)
        if config.batch % world:
            raise ConfigError(f"batch {config.batch} does not divide over {world} processes")
        self.epoch_steps = self.feed.steps
        self.budget = Budget(self.feed.steps * config.epochs)
        self.rate_of = optim.schedule(config.optim, self.budget.steps)
        self.heads = heads_of(config, self.method, splits["train"])
        _check_selectable(config, self._held, self.heads)
        self.state = {"best": -math.inf, "best_epoch": -1, "stale": 0}
        if fresh:
            initialise.restore_norms(self.method, self.feed, config)
            if config.norms == "frozen":
                initialise.adapt_norms(self.method, self.feed, config)

    @property
    def stopped(self) -> bool:
        return self.config.patience is not None and self.state["stale"] >= self.config.patience

    def files(self) -> dict[str, bytes]:
        environment = {**run_log.environment(), "commit": checkpoint.commit()}
        settings = yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False)
        return {
            "config.yaml": settings.encode(),
            "environment.json": json.dumps(environment, indent=2).encode(),
        }

    def batches(self, step: int) -> Iterator[Batch]:
        return self.feed.batches(step)

    def prepare(self, batch: Batch, step: int) -> Batch:
        return prepare(self.config, batch, step, self._rank, self._world)

    def rate(self, step: int, share: float) -> float:
        return self.rate_of(step)

    def train(self) -> None:
        self.method.train()
        if self.config.norms == "frozen":
            initialise.freeze_norms(self.method)

    def end_epoch(self, epoch: Epoch) -> dict[str, Any]:
        number = epoch.step // self.epoch_steps - 1
        means = {f"train_{name}": value for name, value in epoch.means.items()}
        if self.config.validation == "end" and number + 1 < self.config.epochs:
            self.progress("epoch", {"epoch": number, "epochs": self.config.epochs, "best": False, **means})
            return {"epoch": number, **means}
        values = self._validate(epoch.network, self._held, self.config.batch)
        reached = run_log.score(self.config.select, values[self.config.select])
        better = self.state["best_epoch"] < 0 or reached > self.state["best"]
        if better:
            self.state = {"best": reached, "best_epoch": number, "stale": 0}
            self._keep("weights.safetensors", epoch.network, number, values, epoch.seconds)
        else:
            self.state["stale"] += 1
        told = {"epoch": number, "epochs": self.config.epochs, "best": better}
        self.progress("epoch", {**told, **means, **values})
        if self.stopped:
            self.progress("note", {"text": f"no better epoch for {self.config.patience}: stopping"})
        return {"epoch": number, **means, **values}

    def finish(self, steps: int, seconds: float) -> None:
        """Keep the last weights and mark the run as finished."""
        self._keep("last.safetensors", self.method, steps // self.epoch_steps - 1, {}, seconds)
        facts = json.dumps({"seconds": seconds, "best_epoch": self.state["best_epoch"]})
        atomic.write({self.folder / "finished": facts.encode()})

    def _keep(
        self, name: str, method: nn.Module, epoch: int, values: dict[str, float], seconds: float
    ) -> None:
        if self._rank == 0:
            card = card_of(self.config, epoch, values, seconds, self.heads)
            run_folder.write(lambda path: checkpoint.save(path, method, card), self.folder / name)


def with_labels(config: RunConfig) -> RunConfig:
    """The same configuration with its own labels by name, and a method with as many classes.

    Raises:
        ConfigError: the method needs the eight expressions, or `method.classes` says another number.
    """
    labels = label_names(config.labels, config.data)
    if labels == EXPRESSIONS:
        return config
    name = str(config.method.get("name"))
    kind = methods.METHODS.get(name)
    if kind is not None and kind.eight_only:
        free = ", ".join(sorted(key for key, method in methods.METHODS.items() if not method.eight_only))
        raise ConfigError(
            f"method '{name}' cannot learn own labels: {kind.eight_only}. Methods that can: {free}"
        )
    if config.method.get("classes", len(labels)) != len(labels):
        raise ConfigError(
            f"method.classes is {config.method['classes']} and there are {len(labels)} labels: leave it out"
        )
    return config.model_copy(update={"labels": labels, "method": {**config.method, "classes": len(labels)}})


def stored_config(path: Path) -> dict[str, Any] | None:
    """The configuration in a run's `config.yaml`, with current defaults for keys that it does not have; None for a
    missing or broken file."""
    try:
        return RunConfig(**yaml.safe_load(path.read_text(encoding="utf-8"))).model_dump(mode="json")
    except (OSError, UnicodeDecodeError, ValidationError, TypeError, yaml.YAMLError):
        return None


def prepare(config: RunConfig, batch: Batch, step: int, rank: int = 0, world: int = 1) -> Batch:
    """Augment a step's pictures and finish its targets, on their device.

    Args:
        config: the settings of augmentation, smoothing and mixup.
        batch: from `mien.training.batches.BatchLoader`: raw crops and targets of all processes.
        step: the step of the training; with the seed it determines everything random.
        rank, world: the number of this process, and how many train; each keeps its contiguous share of the rows.
    """
    generator = torch.Generator().manual_seed((config.seed * 1_000_003 + step) % 2**63)
    share = len(batch.image) // world
    part = slice(rank * share, (rank + 1) * share)
    image = augment(batch.image, config.data, generator, part)
    extra = {name: values[part] for name, values in batch.extra.items()}
    batch = Batch._make([image, *(target[part] for target in batch[1:-1]), extra])
    if config.smoothing or config.mixup:
        classes = batch.votes.shape[1]
        shares, labelled = expression_target(batch, classes)
        shares = shares * (1 - config.smoothing) + config.smoothing / classes
        shares[labelled == 0] = torch.nan
        batch = batch._replace(votes=shares)
    if config.mixup:
        weight = float(np.random.default_rng((config.seed, step)).beta(config.mixup, config.mixup))
        mixed = {name: getattr(batch, name) for name in ("image", "votes", "affect")}
        batch = batch._replace(
            **{name: weight * value + (1 - weight) * value.roll(1, 0) for name, value in mixed.items()}
        )
    if config.channels_last:
        batch = batch._replace(image=batch.image.contiguous(memory_format=torch.channels_last))
    return batch


def heads_of(config: RunConfig, method: Method, samples: list[Samples]) -> dict[str, bool]:
    """Which heads are trained: one without labels in the training pictures, or turned off, keeps its initial
    weights."""
    settings = getattr(method, "config", None)
    labelled = any((one.expression >= 0).any() or np.isfinite(one.votes).all(axis=1).any() for one in samples)
    heads = {
        "expression": labelled and getattr(settings, "expression", "") != "off",
        "affect": _rated(samples) and getattr(settings, "affect_weight", 1.0) > 0,
    }
    if config.start is not None and config.start_part == "whole":
        before = initialise.opened(config.start, method).heads
        heads = {name: taught or before[name] for name, taught in heads.items()}
    return heads


def card_of(
    config: RunConfig, epoch: int, values: dict[str, float], seconds: float, heads: dict[str, bool]
) -> dict[str, Any]:
    """The card of a checkpoint."""
    return {
        "method": config.method,
        "size": config.data.size,
        "colour": config.data.colour,
        "classes": list(config.labels or EXPRESSIONS),
        "heads": heads,
        "config": config.model_dump(mode="json"),
        "epoch": epoch,
        "valid": values,
        "seconds": round(seconds, 1),
        "seed": config.seed,
        "commit": checkpoint.commit(),
        "environment": run_log.environment(),
    }


def _method(config: RunConfig) -> Recognition:
    torch.manual_seed(config.seed)
    method = methods.build(config.method, config.data.size)
    if not isinstance(method, Recognition):
        raise ConfigError(f"method '{config.method.get('name')}' labels no faces: configure one that does")
    if config.start is not None:
        initialise.fill(method, config.start, config.start_part, config.labels or EXPRESSIONS)
    return method.to(memory_format=torch.channels_last) if config.channels_last else method


def _splits(config: RunConfig, progress: EventProgress, load: Load) -> dict[Any, list[Samples]]:
    """Training and validation sets, the former with the teachers' predictions mixed in.

    Raises:
        ConfigError: there are no validation pictures.
    """
    labels = config.labels or EXPRESSIONS
    splits = load(
        config.data,
        ("train", "valid"),
        lambda done, total: progress("crops", {"done": done, "of": total}),
        labels,
    )
    if not splits["valid"]:
        raise ConfigError(
            f"{config.data.root}: no validation pictures: choose a protocol that holds some out"
        )
    if config.data.teachers:
        train = distillation.taught(splits["train"], config.data.teachers, config.data.teaching, labels)
        return {**splits, "train": train}
    return splits


def _rated(samples: list[Samples]) -> bool:
    """Whether enough pictures have valence and arousal for a correlation."""
    return sum(int(np.isfinite(one.affect).all(axis=1).sum()) for one in samples) > 1


def _check_selectable(config: RunConfig, held: list[Samples], heads: dict[str, bool]) -> None:
    """Refuse to select by a metric of labels that no validation picture has, or of a head that is not trained.

    Raises:
        ConfigError: no validation picture has such labels, or the head is not trained.
    """
    affect = config.select.startswith("ccc")
    instead = "accuracy" if affect else "ccc"
    if not heads["affect" if affect else "expression"]:
        raise ConfigError(
            f"select: '{config.select}' is of a head that these training pictures do not teach: select by {instead}"
        )
    if not (_rated(held) if affect else any((one.expression >= 0).any() for one in held)):
        what = "valence and arousal" if affect else "expression"
        raise ConfigError(
            f"select: '{config.select}' needs {what} labels, and the validation pictures of {config.data.root} "
            f"have none: select by {instead}"
        )
