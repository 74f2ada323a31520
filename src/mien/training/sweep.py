"""Plan a sweep: its arms, seeds and folds as one list of runs, and whether it may continue in an existing folder.

An arm is a set of changes to one base configuration. Arms with equal configurations are trained once.
`mien.evaluation.sweep` trains, evaluates and compares the runs.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from mien.config import Frozen, checked, read_tree, set_key
from mien.data.config import SourceConfig
from mien.data.records import Split
from mien.errors import ConfigError
from mien.io import atomic
from mien.training import ablation, run_folder
from mien.training.config import RunConfig

FILE: Final = "sweep.json"
"""The file in the sweep's folder with the options that its runs were made with."""

Splits = Annotated[tuple[Split, ...], Field(min_length=1)]


class JudgedSet(SourceConfig):
    """A further set that every run is evaluated on, in addition to its own."""

    splits: Splits = Field(("test",), description="its splits, pooled")


class JudgeConfig(Frozen):
    """The data and the weights with which each run is evaluated."""

    splits: Splits = Field(("valid", "test"), description="the splits of the run's own set, pooled")
    weights: Literal["last", "best"] = Field(
        "last",
        description="those of the last step, so that no epoch is chosen, or those of the best epoch on validation",
    )
    by: tuple[str, ...] = Field(
        (), description="attributes kept with the predictions; the table is also parted by the first"
    )
    also: dict[str, JudgedSet] = Field({}, description="further sets by name, each with its own table")


class SweepConfig(Frozen):
    """Many runs of one base configuration."""

    base: dict[str, Any] = Field(description="a run configuration: a path, or its keys")
    arms: dict[Annotated[str, Field(pattern=r"^\w[\w.+-]*$")], dict[str, Any]] = Field(
        description="by name, what each changes in the base; the first is the reference", min_length=1
    )
    ladder: str | None = Field(
        None,
        description="a method: the rungs of its ladder (see `mien ablate`) become arms too, before the others",
    )
    rungs: tuple[str, ...] = Field((), description="only these rungs of the ladder")
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    folds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (), description="tested folds of the protocol; their predictions are pooled"
    )
    workers: int | None = Field(
        None, ge=1, description="processes; by default one per device, or on CPUs as many as `threads` allows"
    )
    devices: Annotated[
        tuple[Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")], ...], Field(min_length=1)
    ] = Field(("auto",), description="auto, cpu, cuda, cuda:1 and so on; workers take them in turn")
    threads: int = Field(1, ge=1, description="processor threads of each worker")
    judge: JudgeConfig = JudgeConfig()
    keep: Literal["predictions", "weights"] = Field(
        "predictions", description="what is kept of a finished run besides its log and configuration"
    )
    out: Path = Field(description="folder of the sweep")

    @model_validator(mode="before")
    @classmethod
    def _with_rungs(cls, given: Any) -> Any:
        """The rungs of a ladder as arms."""
        if not isinstance(given, dict) or not isinstance(given.get("ladder"), str):
            return given
        try:
            rungs = ablation.ladder(given["ladder"], given.get("rungs") or ())
        except ConfigError as problem:
            raise ValueError(str(problem)) from None
        return given | {
            "arms": {rung.name: {"method": rung.change} for rung in rungs} | (given.get("arms") or {})
        }

    @field_validator("arms", mode="before")
    @classmethod
    def _unchanged(cls, given: Any) -> Any:
        """An arm without changes may be left empty."""
        if not isinstance(given, dict):
            return given
        return {name: {} if changes is None else changes for name, changes in given.items()}

    @model_validator(mode="after")
    def _folds_share_splits(self) -> SweepConfig:
        if len(self.folds) > 1 and self.judge.splits != ("test",):
            raise ValueError("folds share pictures outside their test parts: set judge.splits to [test]")
        return self

    def config(self, arm: str, seed: int = 0, fold: int | None = None) -> RunConfig:
        """The configuration of one run.

        Raises:
            ConfigError: a key or value of the base or of the arm is wrong.
        """
        tree = copy.deepcopy(self.base)
        _merge(tree, self.arms[arm], arm)
        tree |= {
            "name": arm if fold is None else f"{arm}-f{fold}",
            "seed": seed,
            "runs": self.out / "runs",
        }
        config = checked(RunConfig, tree, f"arm '{arm}'")
        if fold is None:
            return config
        return config.model_copy(update={"data": config.data.model_copy(update={"fold": fold})})


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep."""

    arm: str
    seed: int
    fold: int | None
    config: RunConfig
    judge: JudgeConfig
    keep: Literal["predictions", "weights"] = "predictions"

    @property
    def label(self) -> str:
        """The name of the run and of its folder."""
        return f"{self.config.name}-s{self.seed}"

    @property
    def folder(self) -> Path:
        """The run folder, the same as `mien.training.loop.folder_of`."""
        return self.config.runs / self.label


def load_sweep(path: Path | str, assignments: Sequence[str] = ()) -> SweepConfig:
    """Read a sweep from YAML, apply assignments and check it with every arm.

    Args:
        path: the file; `base` in it may be the path of a run configuration.
        assignments: `key=value`; those that begin with `base.` change the base that was read.

    Raises:
        ConfigError: a file is missing or not YAML, or a key or value is wrong.
    """
    inner = [one for one in assignments if one.startswith("base.")]
    tree = read_tree(path, [one for one in assignments if one not in inner])
    if isinstance(tree.get("base"), str):
        tree["base"] = read_tree(tree["base"])
    for one in inner:
        set_key(tree, one)
    sweep = checked(SweepConfig, tree, str(path))
    for arm in sweep.arms:
        try:
            sweep.config(arm)
        except ConfigError as problem:
            raise ConfigError(f"{path}: {problem}") from None
    return sweep


def equal_arms(sweep: SweepConfig) -> dict[str, str]:
    """Maps each arm to the first arm with the same configuration, which is trained for both."""
    first: dict[str, str] = {}
    return {arm: first.setdefault(json.dumps(_stated(sweep, arm)), arm) for arm in sweep.arms}


def plan(sweep: SweepConfig) -> list[SweepRun]:
    """All runs, seed by seed, so that an unfinished sweep has the same number of runs of each arm; equal arms once."""
    trained = dict.fromkeys(equal_arms(sweep).values())
    return [
        SweepRun(arm, seed, fold, sweep.config(arm, seed, fold), sweep.judge, sweep.keep)
        for seed in sweep.seeds
        for fold in (sweep.folds or (None,))
        for arm in trained
    ]


def admit(sweep: SweepConfig) -> None:
    """Create the sweep's folder, or check that an existing one has runs made with the same options.

    Arms, seeds and folds may be added; workers, devices, threads and what is kept may change.

    Raises:
        ConfigError: an option of an arm or of the judging differs; the message names it. Or that file is damaged.
    """
    path = sweep.out / FILE
    wanted = {
        "arms": {arm: _stated(sweep, arm) for arm in sweep.arms},
        "judge": sweep.judge.model_dump(mode="json"),
    }
    stored = _stored(path)
    if stored is not None:
        shared = {arm: made for arm, made in stored["arms"].items() if arm in wanted["arms"]}
        before = {"arms": shared, "judge": stored["judge"]}
        now = {"arms": {arm: wanted["arms"][arm] for arm in shared}, "judge": wanted["judge"]}
        found = [line for _, line in run_folder.differences(before, now)]
        if found:
            raise ConfigError(
                f"{sweep.out} holds a sweep of other options ({found[0]}{'; ...' if len(found) > 1 else ''}): use the "
                "same, or another `out`"
            )
        wanted["arms"] = stored["arms"] | wanted["arms"]
    sweep.out.mkdir(parents=True, exist_ok=True)
    atomic.write({path: json.dumps(wanted, indent=1).encode()})


def _stated(sweep: SweepConfig, arm: str) -> dict[str, Any]:
    """The options that determine the runs of an arm, in plain types."""
    tree = sweep.config(arm).model_dump(mode="json")
    return {key: value for key, value in tree.items() if key not in ("name", "seed", "runs", "threads")}


def _stored(path: Path) -> dict[str, Any] | None:
    """The options stored in a sweep's folder, with current defaults for missing keys; None if there is no such file.

    Raises:
        ConfigError: it is damaged.
    """
    if not path.is_file():
        return None
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        configs = {arm: RunConfig(name=arm, **made) for arm, made in tree["arms"].items()}
        dropped = {"name", "seed", "runs", "threads"}
        return {
            "arms": {arm: made.model_dump(mode="json", exclude=dropped) for arm, made in configs.items()},
            "judge": JudgeConfig(**tree["judge"]).model_dump(mode="json"),
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as problem:
        raise ConfigError(
            f"{path}: damaged ({type(problem).__name__}): delete it if the runs beside it are of the same options"
        ) from None


def _merge(tree: dict[str, Any], changes: dict[str, Any], arm: str) -> None:
    """Apply changes to a nested dict in place; a key may be a path with dots.

    Raises:
        ConfigError: a dotted key goes into a value that is not a section.
    """
    for key, value in _flat(changes):
        *parents, last = key
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(f"arm '{arm}': '{parent}' is a value, not a section")
        node[last] = value


def _flat(changes: dict[str, Any], above: tuple[str, ...] = ()) -> Iterable[tuple[tuple[str, ...], Any]]:
    for key, value in changes.items():
        path = (*above, *str(key).split("."))
        if isinstance(value, dict):
            yield from _flat(value, path)
        else:
            yield path, value
