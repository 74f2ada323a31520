"""The one training loop: turns in, named terms out, everything resumable.

    for batch in feed:
        for turn in method.turns:
            terms = method(batch, turn)
            ...step that turn's parameters on their sum

The loop knows no method. Randomness comes only from (seed, step): the order of the pictures, their augmentation and
dropout repeat exactly after a resume, so a killed run ends with the same losses as an undisturbed one.

A run folder holds `config.yaml`, `environment.json`, `metrics.jsonl`, `weights.safetensors` (the best epoch on
validation, with its card), `last.safetensors` (the last step, not averaged), `state.pt` (to go on from) and
`curve.png`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml
from pydantic import ValidationError

from mien import methods
from mien.data.cropping import Samples, label_names, load_split
from mien.data.transforms import augment, normalise, to_float
from mien.errors import ConfigError, TrainingError
from mien.evaluation import metrics
from mien.io import atomic, torch_files
from mien.io.locks import FileLock
from mien.labels import EXPRESSIONS
from mien.methods.base import Batch, Method, Recognition, expression_target
from mien.training import checkpoint, distillation, initialise, optim, processor, run_log
from mien.training.batches import Feed
from mien.training.config import RunConfig

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim.swa_utils import AveragedModel

STATE_SECONDS = 300.0
"""How often, besides the end of each epoch, the state to resume from is written."""

Report = Callable[[str, dict[str, Any]], None]
"""Told ("crops" | "step" | "epoch" | "note", values) so that a surface can draw progress."""


@dataclass
class _State:
    """What a resumed run must know besides weights and optimisers."""

    step: int = 0
    best: float = -math.inf
    best_epoch: int = -1
    stale: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)


def folder_of(config: RunConfig) -> Path:
    """The run folder: `<runs>/<name>-s<seed>`."""
    return config.runs / f"{config.name}-s{config.seed}"


def run(config: RunConfig, resume: bool = False, report: Report | None = None) -> Path:
    """Train as configured and return the run folder.

    Args:
        config: the run.
        resume: go on from `state.pt` if it is there; a finished run, stopped early or not, returns at once.
        report: told of progress.

    Raises:
        FileLocked: another process trains this run now.
        ConfigError: the folder holds another configuration, or has a run and `resume` is off; or there is no such
            metric to select by. The folder is made once the data were read, so a refused start leaves nothing.
        TrainingError: a loss became NaN or infinite, or the disk is full; the last good files are kept.
        KeyboardInterrupt: after the state was saved.
    """
    if os.environ.get("RANK", "0") != "0":  # one of several processes of one run: the first holds it for all
        with processor.settings(config.threads):
            return _run(config, resume, report)
    folder = folder_of(config)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(folder.name + ".lock"), str(folder))
    except OSError as problem:
        raise TrainingError(
            f"{folder}: cannot be written ({problem.strerror}): choose another `runs`"
        ) from None
    try:
        with processor.settings(config.threads):
            return _run(config, resume, report)
    finally:
        lock.release()


def with_labels(config: RunConfig) -> RunConfig:
    """The same configuration with its own labels by name, and a method with as many classes.

    Raises:
        ConfigError: the method rests on the eight expressions, or `method.classes` says another number.
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


def _run(config: RunConfig, resume: bool, report: Report | None) -> Path:
    tell: Report = report or (lambda kind, values: None)
    config = with_labels(config)
    labels = config.labels or EXPRESSIONS
    folder = folder_of(config)
    fabric = _fabric(config)
    run_log.check_select(config.select)
    wanted = config.model_dump(mode="json")
    run_log.admit(folder, _with_defaults(folder / "config.yaml"), wanted, resume)
    fabric.barrier()  # no process writes into the folder before all have looked
    if (folder / "finished").is_file():
        tell("note", {"text": f"{folder} is finished: nothing is left to train"})
        return folder
    torch.manual_seed(config.seed)
    method = methods.build(config.method, config.data.size)
    if not isinstance(method, Recognition):
        raise ConfigError(f"method '{config.method.get('name')}' is not trained by this loop")
    if config.start is not None:
        initialise.fill(method, config.start, config.start_part, labels)
    if config.channels_last:
        method = method.to(memory_format=torch.channels_last)
    splits = load_split(
        config.data,
        ("train", "valid"),
        lambda done, total: tell("crops", {"done": done, "of": total}),
        labels,
    )
    if not splits["valid"]:
        raise ConfigError(
            f"{config.data.root}: no validation pictures: choose a protocol that holds some out"
        )
    if config.data.teachers:
        splits["train"] = distillation.taught(
            splits["train"], config.data.teachers, config.data.teaching, labels
        )
    feed = Feed(
        splits["train"], config.batch, config.data.balance, config.seed, fabric.global_rank, fabric.world_size
    )
    steps = feed.steps * config.epochs
    players = {turn: optim.build(method, turn, config.optim) for turn in method.turns}
    schedules = {turn: optim.schedule(one, config.optim, steps) for turn, one in players.items()}
    average = optim.average(method, config.optim.ema) if config.optim.ema else None
    heads = heads_of(config, method, splits["train"])
    _selectable(config, splits["valid"], heads)
    state = _State()
    if resume and (folder / "state.pt").is_file():
        state = _restore(folder / "state.pt", method, players, schedules, average)
    else:
        initialise.restore_norms(method, feed, config)
        if config.norms == "frozen":
            initialise.adapt_norms(method, feed, config)
        if average is not None:
            average.module.load_state_dict(method.state_dict())
    wrapped = fabric.setup_module(method)  # the optimisers keep stepping the parameters they own
    # Everything was read: what is refused from here on is a matter of training, not of a typing error.
    if fabric.is_global_zero:
        _settle(folder, wanted)
    log = run_log.RunLog(folder, state.step if resume else None) if fabric.is_global_zero else None

    def keep() -> None:
        if fabric.is_global_zero:
            _write(
                lambda path: torch.save(_state(state, method, players, schedules, average), path),
                folder / "state.pt",
            )

    started, saved = time.monotonic() - state.seconds, time.monotonic()
    try:
        with _deferred_interrupt() as interrupted:
            while state.step < steps and not _out_of_patience(config, state):
                epoch = state.step // feed.steps
                for _, targets, crops in feed.epoch(epoch, state.step % feed.steps):
                    batch = _prepare(
                        config, targets, crops, state.step, fabric.global_rank, fabric.world_size
                    )
                    batch = Batch(*fabric.to_device(tuple(batch)))
                    method.train()
                    if config.norms == "frozen":
                        initialise.freeze_norms(method)
                    method.advance(state.step / steps)
                    for turn in method.turns:
                        terms: dict[str, Tensor] = wrapped(batch, turn)
                        total = torch.stack([term.float() for term in terms.values()]).sum()
                        if not torch.isfinite(total):
                            raise TrainingError(
                                f"step {state.step}: the loss is {total.item()} "
                                f"({', '.join(f'{name} {term.item():.3g}' for name, term in terms.items())}): "
                                "lower optim.rate or use precision float32; the last good weights are kept"
                            )
                        for player in players.values():
                            player.zero_grad(set_to_none=True)
                        fabric.backward(total)
                        if config.optim.clip is not None:
                            torch.nn.utils.clip_grad_norm_(
                                list(method.parameters_for(turn)), config.optim.clip
                            )
                        players[turn].step()
                        schedules[turn].step()
                        for name, term in terms.items():
                            state.sums[name] = state.sums.get(name, 0.0) + float(term.detach())
                    if average is not None:
                        average.update_parameters(method)
                    state.step += 1
                    state.seconds = time.monotonic() - started
                    tell("step", {"step": state.step, "of": steps, "seconds": state.seconds})
                    if interrupted():
                        keep()
                        raise KeyboardInterrupt
                    if time.monotonic() - saved > STATE_SECONDS:
                        keep()
                        saved = time.monotonic()
                means = {f"train_{name}": value / feed.steps for name, value in state.sums.items()}
                state.sums = {}
                judged: Any = average.module if average is not None else method
                values = validate(judged, splits["valid"], config.batch)
                reached = run_log.score(config.select, values[config.select])
                better = state.best_epoch < 0 or reached > state.best
                if better:
                    state.best, state.best_epoch, state.stale = reached, epoch, 0
                else:
                    state.stale += 1
                if fabric.is_global_zero and log is not None:
                    if better:
                        card = card_of(config, epoch, values, state.seconds, heads)
                        _write(partial(_save, judged, card), folder / "weights.safetensors")
                    log.write(
                        "epoch",
                        state.step,
                        {"epoch": epoch, **means, **values, "seconds": round(state.seconds, 1)},
                    )
                tell("epoch", {"epoch": epoch, "epochs": config.epochs, "best": better, **means, **values})
                keep()
                saved = time.monotonic()
                if _out_of_patience(config, state):
                    tell("note", {"text": f"no better epoch for {config.patience}: stopping"})
    finally:
        if log is not None:
            log.close()
    if fabric.is_global_zero:
        last = card_of(config, state.step // feed.steps - 1, {}, state.seconds, heads)
        _write(partial(_save, method, last), folder / "last.safetensors")
        facts = json.dumps({"seconds": state.seconds, "best_epoch": state.best_epoch})
        atomic.write({folder / "finished": facts.encode()})
    return folder


def heads_of(config: RunConfig, method: Method, samples: list[Samples]) -> dict[str, bool]:
    """Which heads the training pictures teach: one without labels, or turned off, is left as it was at the start."""
    settings = getattr(method, "config", None)
    named = any((one.expression >= 0).any() or np.isfinite(one.votes).all(axis=1).any() for one in samples)
    rated = sum(int(np.isfinite(one.affect).all(axis=1).sum()) for one in samples) > 1
    heads = {
        "expression": named and getattr(settings, "expression", "") != "off",
        "affect": rated and getattr(settings, "affect_weight", 1.0) > 0,
    }
    if config.start is not None and config.start_part == "whole":
        before = checkpoint.load(config.start).heads
        heads = {name: taught or before[name] for name, taught in heads.items()}
    return heads


def card_of(
    config: RunConfig, epoch: int, values: dict[str, float], seconds: float, heads: dict[str, bool]
) -> dict[str, Any]:
    """What a checkpoint says of itself."""
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


def validate(method: Recognition, samples: list[Samples], batch: int) -> dict[str, float]:
    """Accuracy, macro accuracy, cross-entropy, CCC of valence and arousal and their mean, without augmentation."""
    was = method.training
    method.eval()
    logits, affect = predict(method, samples, batch)
    method.train(was)
    expression = np.concatenate([one.expression for one in samples])
    target = np.concatenate([one.affect for one in samples])
    known = expression >= 0
    values: dict[str, float] = {}
    if known.any():
        hit = logits[known].argmax(axis=1) == expression[known]
        values["accuracy"] = float(hit.mean())
        values["macro_accuracy"] = float(
            np.mean([hit[expression[known] == label].mean() for label in np.unique(expression[known])])
        )
        shifted = logits[known] - logits[known].max(axis=1, keepdims=True)
        likelihood = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        values["cross_entropy"] = float(-likelihood[np.arange(len(hit)), expression[known]].mean())
    felt = np.isfinite(target).all(axis=1)
    if felt.sum() > 1:
        for place, name in enumerate(("valence", "arousal")):
            values[f"ccc_{name}"] = metrics.affect(affect[felt, place], target[felt, place])["ccc"]
        values["ccc"] = (values["ccc_valence"] + values["ccc_arousal"]) / 2
    return values


def predict(
    method: Recognition, samples: list[Samples], batch: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Logits [n, k] and affect [n, 2] of all samples, in order, as float32."""
    device = next(method.parameters()).device
    logits: list[np.ndarray[Any, Any]] = []
    affect: list[np.ndarray[Any, Any]] = []
    with torch.inference_mode():
        for one in samples:
            for start in range(0, len(one), batch):
                crops = torch.from_numpy(np.array(one.images[start : start + batch])).to(device)
                prediction = method.predict(normalise(to_float(crops)))
                logits.append(prediction.logits.float().cpu().numpy())
                affect.append(prediction.affect.float().cpu().numpy())
    return np.concatenate(logits), np.concatenate(affect)


def _prepare(config: RunConfig, targets: Batch, crops: Tensor, step: int, rank: int, world: int) -> Batch:
    """Augment one step's pictures and finish its targets; everything random is drawn from (seed, step)."""
    generator = torch.Generator().manual_seed((config.seed * 1_000_003 + step) % 2**63)
    torch.manual_seed((config.seed * 7_919 + step) * world + rank)  # dropout inside the method
    share = len(crops) // world
    part = slice(rank * share, (rank + 1) * share)
    image = augment(crops, config.data, generator, part)
    batch = targets._replace(image=image)
    if config.smoothing or config.mixup:
        classes = batch.votes.shape[1]
        shares, labelled = expression_target(batch, classes)
        shares = shares * (1 - config.smoothing) + config.smoothing / classes
        shares[labelled == 0] = torch.nan
        batch = batch._replace(votes=shares)
    if config.mixup:
        random = np.random.default_rng((config.seed, step))
        weight = float(random.beta(config.mixup, config.mixup))
        order = torch.roll(torch.arange(len(image)), 1)
        batch = batch._replace(
            image=weight * batch.image + (1 - weight) * batch.image[order],
            votes=weight * batch.votes + (1 - weight) * batch.votes[order],
            affect=weight * batch.affect + (1 - weight) * batch.affect[order],
        )
    if config.channels_last:
        batch = batch._replace(image=batch.image.contiguous(memory_format=torch.channels_last))
    return batch


def _fabric(config: RunConfig) -> Any:
    from lightning_fabric import Fabric

    world = int(os.environ.get("WORLD_SIZE", "1"))
    precision: Any = "bf16-mixed" if config.precision == "bfloat16" else "32-true"
    if world == 1:
        return Fabric(accelerator="auto", devices=1, precision=precision)
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    from lightning_fabric.strategies.ddp import DDPStrategy

    fabric = Fabric(
        accelerator="auto",
        devices=local,
        num_nodes=world // local,
        strategy=DDPStrategy(find_unused_parameters=True),
        precision=precision,
    )
    fabric.launch()
    return fabric


def _out_of_patience(config: RunConfig, state: _State) -> bool:
    return config.patience is not None and state.stale >= config.patience


def _selectable(config: RunConfig, held: list[Samples], heads: dict[str, bool]) -> None:
    """Refuse to select by a metric of labels that the validation pictures lack, or of a head that is not trained.

    Raises:
        ConfigError: there are none, or it is not.
    """
    affect = config.select.startswith("ccc")
    known = (
        sum(int(np.isfinite(one.affect).all(axis=1).sum()) for one in held) > 1
        if affect
        else any((one.expression >= 0).any() for one in held)
    )
    if not heads["affect" if affect else "expression"]:
        raise ConfigError(
            f"select: '{config.select}' is of a head that these training pictures do not teach: select by "
            f"{'accuracy' if affect else 'ccc'}"
        )
    if not known:
        what = "valence and arousal" if affect else "expression"
        raise ConfigError(
            f"select: '{config.select}' needs {what} labels, and the validation pictures of {config.data.root} "
            f"have none: select by {'accuracy' if affect else 'ccc'}"
        )


def _settle(folder: Path, wanted: dict[str, Any]) -> None:
    """Make the run folder and say in it what is trained, where and with what."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = json.dumps({**run_log.environment(), "commit": checkpoint.commit()}, indent=2)
    settings = yaml.safe_dump(wanted, sort_keys=False)
    atomic.write(
        {folder / "config.yaml": settings.encode(), folder / "environment.json": environment.encode()}
    )


def _with_defaults(written: Path) -> dict[str, Any] | None:
    """The configuration of a folder, with today's defaults for keys that are younger than it; None for none or a broken
    one."""
    try:
        return RunConfig(**yaml.safe_load(written.read_text(encoding="utf-8"))).model_dump(mode="json")
    except (OSError, UnicodeDecodeError, ValidationError, TypeError, yaml.YAMLError):
        return None


def _state(
    state: _State,
    method: Method,
    players: dict[str, torch.optim.Optimizer],
    schedules: dict[str, Any],
    average: AveragedModel | None,
) -> dict[str, Any]:
    return {
        "progress": {name: getattr(state, name) for name in state.__dataclass_fields__},
        "method": method.state_dict(),
        "players": {turn: player.state_dict() for turn, player in players.items()},
        "schedules": {turn: one.state_dict() for turn, one in schedules.items()},
        "average": average.state_dict() if average is not None else None,
    }


def _restore(
    path: Path,
    method: Method,
    players: dict[str, torch.optim.Optimizer],
    schedules: dict[str, Any],
    average: AveragedModel | None,
) -> _State:
    stored = torch_files.read(path)
    try:
        method.load_state_dict(stored["method"])
        for turn, player in players.items():
            player.load_state_dict(stored["players"][turn])
            schedules[turn].load_state_dict(stored["schedules"][turn])
        if average is not None:
            average.load_state_dict(stored["average"])
        return _State(**stored["progress"])
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as problem:
        raise TrainingError(
            f"{path}: is not this run's state ({type(problem).__name__}): delete it to start the run anew"
        ) from None


def _save(method: Method, card: dict[str, Any], path: Path) -> None:
    checkpoint.save(path, method, card)


def _write(save: Callable[[Path], None], path: Path) -> None:
    """Write a file whole or not at all; a full disk is said plainly and the old file stays."""
    part = path.with_name(f"{path.stem}.new{path.suffix}")
    try:
        save(part)
    except (OSError, RuntimeError) as problem:
        part.unlink(missing_ok=True)
        raise TrainingError(
            f"{path}: could not be written ({problem}): free some space and add --resume; the last good file is kept"
        ) from None
    atomic.replace(part, path)


@contextlib.contextmanager
def _deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C and a termination request end the run between two steps; a second Ctrl-C ends it at once."""
    asked = [False]

    def remember(number: int, frame: Any) -> None:
        if asked[0]:
            raise KeyboardInterrupt
        asked[0] = True

    try:
        before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: the caller's handlers stay
        yield lambda: False
        return
    try:
        yield lambda: asked[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
