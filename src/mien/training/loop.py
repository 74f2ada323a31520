"""Train a method with resumable, seeded steps.

    for batch in task.batches(step):
        for turn in method.turns:
            terms = method(batch, turn)
            ...step that turn's parameters on their sum

The loop is independent of the method: a `mien.training.task.Task` defines what is trained, on what data and for how
long, and what follows an epoch. Randomness comes only from (seed, step): the order of the pictures, their augmentation
and dropout repeat exactly after a resume, so a killed run ends with the same losses as an undisturbed one.

The run folder of a recogniser holds `config.yaml`, `environment.json`, `metrics.jsonl`, `weights.safetensors` (the best
epoch on validation, with its card), `last.safetensors` (the last step, not averaged) and `state.pt` (for --resume).
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from mien.data.cropping import load_split
from mien.errors import ConfigError, TrainingError
from mien.io import torch_files
from mien.training import optim, processor, recognition, run_folder, run_log
from mien.training.task import Epoch, Task
from mien.types import EventProgress, LineProgress

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mien.methods.base import Method
    from mien.training.config import RunConfig
    from mien.training.recognition import Load, Validate

STATE_SECONDS = 300.0
"""How often, besides the end of each epoch, the state to resume from is written."""
CHECK_STEPS = 50
"""Number of steps between two readings of the losses from a GPU: a loss that is not finite is found within so many
steps.

On a CPU, where reading costs nothing, the losses are read before every step. This is necessary: torch's `grid_sample`
ends the process on coordinates that are NaN.
"""


def silent(kind: str, values: dict[str, Any]) -> None:
    """A `progress` callback that shows nothing."""


def notes(progress: EventProgress) -> LineProgress:
    """A callback that passes lines on as events of a training."""
    return lambda line: progress("note", {"text": line})


def folder_of(config: RunConfig) -> Path:
    """The run folder: `<runs>/<name>-s<seed>`."""
    return config.runs / f"{config.name}-s{config.seed}"


def run(
    config: RunConfig,
    validate: Validate,
    resume: bool = False,
    progress: EventProgress = silent,
    device: str = "auto",
    load: Load = load_split,
    overwrite: bool = False,
) -> Path:
    """Train a recogniser as configured and return the run folder.

    Args:
        config: the run.
        validate: evaluates the method on the validation pictures after each epoch, as
            `mien.evaluation.validation.validate` does; `config.select` names the value that selects the kept weights.
        resume: continue from `state.pt` if there is one; a finished run, stopped early or not, returns at once.
        progress: called with progress.
        device: the device to train on, see `fabric_of`.
        load: reads the data, as `mien.data.cropping.load_split` does.
        overwrite: replace a run in the folder, once the data were read.

    Raises:
        FileLocked: another process is training this run.
        ConfigError: the folder has a run and neither `resume` nor `overwrite` is on, or one of another configuration;
            or there is no such metric to select by. The folder is made after the data were read, so a refused start
            leaves nothing.
        TrainingError: a loss became NaN or infinite, or the disk is full; the last good files are kept.
        KeyboardInterrupt: after the state was saved.
    """
    folder = folder_of(config)
    # Of several processes of one run, only the first locks the folder.
    first = os.environ.get("RANK", "0") == "0"
    claim = run_folder.claimed(folder, "runs") if first else contextlib.nullcontext()
    with claim, processor.settings(config.threads):
        return _train(config, folder, validate, resume, progress, device, load, overwrite)


def _train(
    config: RunConfig,
    folder: Path,
    validate: Validate,
    resume: bool,
    progress: EventProgress,
    device: str,
    load: Load,
    overwrite: bool,
) -> Path:
    config = recognition.with_labels(config)
    fabric = fabric_of(config.precision, device)
    run_log.check_select(config.select)
    stored = recognition.stored_config(folder / "config.yaml")
    run_folder.admit(folder, stored, config.model_dump(mode="json"), resume, overwrite=overwrite)
    fabric.barrier()  # no process writes into the folder before all have read it
    if resume and (folder / "finished").is_file():
        notes(progress)(f"{folder} is finished: nothing is left to train")
        return folder
    fresh = not (resume and (folder / run_folder.STATE).is_file())
    task = recognition.RecogniserTask(
        config, folder, validate, progress, fresh, fabric.global_rank, fabric.world_size, load
    )
    if config.compile:
        _compile(task.method, fabric.device, progress)
    training = Run(task, fabric, progress, resume)
    training.train()
    if fabric.is_global_zero:
        task.finish(training.position.step, training.position.seconds)
    return folder


@dataclass
class Position:
    """Progress of a training: steps, seconds by the budget's clock, and the step at which the epoch began."""

    step: int = 0
    seconds: float = 0.0
    epoch_start: int = 0


class Run:
    """One training: a task's method with its optimisers, running average and position.

    Args:
        task: what is trained.
        fabric: the device and the processes, see `fabric_of`; the method is moved to its device.
        progress: called at each step.
        resume: continue from the state in the run folder, if there is one.

    Raises:
        WeightsError: the state cannot be read.
        TrainingError: the state belongs to another training.
    """

    def __init__(self, task: Task, fabric: Any, progress: EventProgress, resume: bool) -> None:
        self.task, self.progress = task, progress
        self._fabric, self._resume = fabric, resume
        self._module = fabric.setup_module(task.method)
        self.optimisers = {turn: optim.build(task.method, turn, task.optim) for turn in task.method.turns}
        # Made after the method was moved, so that it is on the same device.
        self.average = optim.average(task.averaged, task.optim.ema) if task.optim.ema else None
        self.position = Position()
        self._sums: dict[str, Tensor] = {}
        self._losses: dict[str, float] = {}
        self._log: run_log.RunLog | None = None
        self._reads_wait = _reads_wait(fabric.device)
        # Seeding an unused GPU takes half a millisecond per step.
        on_cpu = fabric.device.type == "cpu"
        self._seed: Callable[[int], Any] = (
            torch.default_generator.manual_seed if on_cpu else torch.manual_seed
        )
        self._saved = time.monotonic()
        if resume and self._state_file.is_file():
            self._restore()
        self._clock_start = task.budget.clock() - self.position.seconds

    @property
    def share(self) -> float:
        """From 0 to 1: how much of the budget is spent."""
        return self.task.budget.share(self.position.step, self.position.seconds)

    @property
    def network(self) -> nn.Module:
        """The weights that are evaluated and kept: the running average, or without one `Task.averaged` itself."""
        return self.task.averaged if self.average is None else self.average.module

    def train(self) -> None:
        """Train to the end of the budget, or until the task has stopped.

        Raises:
            TrainingError: a loss is not finite, or a file cannot be written.
            KeyboardInterrupt: it was interrupted; the state was saved.
        """
        with contextlib.ExitStack() as stack:
            if self._fabric.is_global_zero:
                stack.enter_context(run_folder.begun(self.task.folder, self.task.files(), not self._resume))
                log = run_log.RunLog(self.task.folder, self.position.step if self._resume else None)
                self._log = stack.enter_context(contextlib.closing(log))
            interrupted = stack.enter_context(_deferred_interrupt())
            self._clock_start = self.task.budget.clock() - self.position.seconds
            batches = self.task.batches(self.position.step)
            while not self._over or self.position.step > self.position.epoch_start:
                self.epoch(batches, interrupted)

    @property
    def _over(self) -> bool:
        return self.share >= 1 or self.task.stopped

    def epoch(self, batches: Iterator[Any], interrupted: Callable[[], bool] = lambda: False) -> None:
        """Train to the end of the current epoch, evaluate and log it, and save the state if the task asks for it."""
        position = self.position
        while position.step - position.epoch_start < self.task.epoch_steps and not self._over:
            self.step(next(batches))
            self._tell()
            if interrupted():
                self.save()
                raise KeyboardInterrupt
            if time.monotonic() - self._saved > STATE_SECONDS:
                self.save()
        self.check()
        values = self.task.end_epoch(Epoch(position.step, position.seconds, self._losses, self.network))
        if self._log is not None:
            self._log.write(self.task.event, position.step, {**values, "seconds": round(position.seconds, 1)})
        self._sums, position.epoch_start = {}, position.step
        if self.task.saves_epochs or self._over:
            self.save()

    def step(self, batch: Any) -> None:
        """Run every turn of the method on one batch."""
        task, position, fabric = self.task, self.position, self._fabric
        # For dropout and everything else that a method draws at random.
        self._seed((task.seed * 7_919 + position.step) * fabric.world_size + fabric.global_rank)
        batch = task.prepare(fabric.to_device(batch), position.step)
        task.train()
        task.method.advance(position.step)
        for turn in task.method.turns:
            self._turn(batch, turn)
        if self.average is not None:
            self.average.update_parameters(task.averaged)
        position.step += 1
        position.seconds = task.budget.clock() - self._clock_start
        if position.step % CHECK_STEPS == 0:
            self.check()

    def _turn(self, batch: Any, turn: str) -> None:
        task = self.task
        terms: dict[str, Tensor] = self._module(batch, turn)
        total = torch.stack([term.float() for term in terms.values()]).sum()
        if not self._reads_wait and not torch.isfinite(total):
            raise self._not_finite({name: term.item() for name, term in terms.items()})
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        self._fabric.backward(total)
        if task.optim.clip is not None:
            torch.nn.utils.clip_grad_norm_(list(task.method.parameters_for(turn)), task.optim.clip)
        factor = task.rate(self.position.step, self.share)
        for group in self.optimisers[turn].param_groups:
            group["lr"] = factor * group["initial_lr"]
        self.optimisers[turn].step()
        for name, term in terms.items():  # summed on the device: reading them would wait for it
            value = term.detach().to(_precise(term.device))
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def check(self) -> None:
        """Read the losses of the epoch so far.

        Raises:
            TrainingError: one was not finite in a step since the last reading.
        """
        if not self._sums:
            return
        sums = dict(zip(self._sums, torch.stack(list(self._sums.values())).tolist(), strict=True))
        if not all(map(math.isfinite, sums.values())):
            raise self._not_finite(sums)
        count = self.position.step - self.position.epoch_start
        self._losses = {name: value / count for name, value in sums.items()}

    def _not_finite(self, losses: dict[str, float]) -> TrainingError:
        wrong = ", ".join(f"{name} {value}" for name, value in losses.items() if not math.isfinite(value))
        return TrainingError(
            f"step {self.position.step}: a loss is not finite ({wrong}): {self.task.remedy}; the last good files are "
            "kept"
        )

    def _tell(self) -> None:
        self.progress(
            "step",
            {
                "step": self.position.step,
                "of": self.task.budget.steps,
                "seconds": self.position.seconds,
                "share": self.share,
                "losses": self._losses,
            },
        )

    @property
    def _state_file(self) -> Path:
        return self.task.folder / run_folder.STATE

    def save(self) -> None:
        """Write the state for `--resume`.

        Raises:
            TrainingError: a loss was not finite, or the file cannot be written; the one before is kept.
        """
        self.check()
        if self._fabric.is_global_zero:
            run_folder.write(lambda path: torch.save(self._state(), path), self._state_file)
        self._saved = time.monotonic()

    def _state(self) -> dict[str, Any]:
        return {
            "position": asdict(self.position),
            "sums": self._sums,
            "task": self.task.state,
            "method": self.task.method.state_dict(),
            "optimisers": {turn: one.state_dict() for turn, one in self.optimisers.items()},
            "average": None if self.average is None else self.average.state_dict(),
        }

    def _restore(self) -> None:
        stored = torch_files.read(self._state_file)
        try:
            self.task.method.load_state_dict(stored["method"])
            for turn, optimiser in self.optimisers.items():
                optimiser.load_state_dict(stored["optimisers"][turn])
            if self.average is not None:
                self.average.load_state_dict(stored["average"])
            self.task.state = dict(stored["task"])
            self._sums = {name: value.to(self._fabric.device) for name, value in stored["sums"].items()}
            self.position = Position(**stored["position"])
        except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as problem:
            raise TrainingError(
                f"{self._state_file}: is not this run's state ({type(problem).__name__}): delete it to start the run "
                "again"
            ) from None


def _reads_wait(device: torch.device) -> bool:
    """Whether reading a number waits until the device has finished all queued work."""
    return device.type != "cpu"


def _precise(device: torch.device) -> torch.dtype:
    """The type in which losses are summed; Apple's GPUs have no double precision."""
    return torch.float32 if device.type == "mps" else torch.float64


def _compile(method: Method, device: torch.device, progress: EventProgress) -> None:
    """Compile the pretrained networks of a method at their first call, or report why that is not possible.

    They take most of a step and have no branches; a method's own losses are not compiled.
    """
    try:
        torch.compile(torch.exp)(torch.zeros(4, device=device))
    except RuntimeError as problem:  # no C++ compiler, or none of the device: torch names many kinds
        reason = next(iter(str(problem).strip().splitlines()), type(problem).__name__)
        notes(progress)(
            f"compile: this machine cannot ({reason[:150]}): training continues without; install a C++ compiler, or "
            "set compile: false"
        )
        return
    for name in method.pretrained:
        method.get_submodule(name).compile()


def fabric_of(precision: Literal["float32", "bfloat16"], device: str = "auto") -> Any:
    """The device to train on (auto, cpu, mps, cuda, cuda:1), or all processes of a run under torchrun with one each.

    Raises:
        ConfigError: this machine has no such device.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    world = int(os.environ.get("WORLD_SIZE", "1"))
    kind: Any = "bf16-mixed" if precision == "bfloat16" else "32-true"
    accelerator, _, number = device.partition(":")
    if world == 1:
        try:
            return Fabric(accelerator=accelerator, devices=[int(number)] if number else 1, precision=kind)
        except (MisconfigurationException, RuntimeError) as problem:
            raise ConfigError(f"device {device}: {problem}: choose another, or auto") from None
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    from lightning_fabric.strategies.ddp import DDPStrategy

    fabric = Fabric(
        accelerator=accelerator,
        devices=local,
        num_nodes=world // local,
        strategy=DDPStrategy(find_unused_parameters=True),
        precision=kind,
    )
    fabric.launch()
    return fabric


@contextlib.contextmanager
def _deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Make Ctrl-C and a termination request end the run between two steps; a second Ctrl-C ends it at once."""
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
