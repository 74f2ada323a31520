"""The folder of a run: its lock, the check whether a training may use it, and atomic files."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

from mien.errors import ConfigError, TrainingError
from mien.io import atomic
from mien.io.locks import FileLock

STATE: Final = "state.pt"
LOG: Final = "metrics.jsonl"
BOARD: Final = "tensorboard"
KEPT: Final = (STATE, "weights.safetensors", "last.safetensors", "finished")
"""Files with trained weights or training state."""
BEGUN: Final = (*KEPT, LOG)
"""Files that show that a folder holds a run; a folder with fewer was left by a start that failed early, and may be
used."""
EVALUATION: Final = "evaluation"
"""The folder in a run folder with the evaluation of its weights."""


class OwnConfig(Protocol):
    """A configuration that names its run folder."""

    @property
    def out(self) -> Path:
        """The run folder."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Its values in plain types, as pydantic gives them."""


@contextmanager
def claimed(folder: Path, option: str) -> Iterator[None]:
    """Lock a run folder against other processes; `option` names the option that sets it, for the message.

    The folders above it are made, and removed again if nothing came into them. Half-written files of a killed process
    are deleted.

    Raises:
        FileLocked: another process trains this run now.
        TrainingError: the folder cannot be written.
    """
    made = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        claim = FileLock(folder.with_name(folder.name + ".lock"), str(folder))
    except OSError as problem:
        raise TrainingError(
            f"{folder}: cannot be written ({problem.strerror}): choose another `{option}`"
        ) from None
    try:
        atomic.clear(folder)
        yield
    finally:
        claim.release()
        with suppress(OSError):  # a folder that is not empty stays, and so do those above it
            for parent in made:
                parent.rmdir()


@contextmanager
def begun(folder: Path, files: Mapping[str, bytes], fresh: bool = False) -> Iterator[None]:
    """Make the folder with `files` that describe the training; remove them if it fails before it has kept anything.

    `fresh`: it does not continue a run. One in the folder, which `admit` has allowed to be replaced, is then deleted
    with its evaluation; files of other origin stay.
    """
    if fresh:
        for name in BEGUN:
            (folder / name).unlink(missing_ok=True)
        for name in (BOARD, EVALUATION):
            shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    done = False
    try:
        atomic.write({folder / name: data for name, data in files.items()})
        yield
        done = True
    finally:
        if not done and not any((folder / name).exists() for name in KEPT):
            for name in (*files, LOG):
                (folder / name).unlink(missing_ok=True)
            shutil.rmtree(folder / BOARD, ignore_errors=True)
            with suppress(OSError):  # it holds other files
                folder.rmdir()


def write(save: Callable[[Path], None], path: Path) -> None:
    """Write a file with `save`, atomically.

    Raises:
        TrainingError: it could not be written, for example because the disk is full; the old file stays.
    """
    try:
        with atomic.writing(path) as part:
            save(part)
    except (OSError, RuntimeError) as problem:
        raise TrainingError(
            f"{path}: could not be written ({problem}): free some space and add --resume; the last good file is kept"
        ) from None


def admit(
    folder: Path,
    stored: dict[str, Any] | None,
    wanted: dict[str, Any],
    resume: bool,
    free: Sequence[str] = (),
    overwrite: bool = False,
) -> None:
    """Refuse a run folder that may not be trained into; nothing is written.

    Args:
        folder: the run folder.
        stored: the configuration that it holds; None where it is damaged or missing.
        wanted: the configuration to train now, in the same plain types.
        resume: whether an existing run may be continued.
        free: keys that may differ, such as the length of the training.
        overwrite: whether an existing run, of whatever configuration, may be replaced.

    Raises:
        ConfigError: the folder has a run and `resume` and `overwrite` are off, or one of another configuration; the
            message names the options that differ.
    """
    if overwrite or not any((folder / name).exists() for name in BEGUN):
        return
    if not resume and stored in (None, wanted):
        raise ConfigError(
            f"{folder} holds this run already: add --resume to continue, or --overwrite to train it again"
        )
    if stored is None:
        raise ConfigError(
            f"{folder} holds a run with a missing or damaged configuration: train into another folder, or add "
            "--overwrite to replace it"
        )
    found = [line for key, line in differences(stored, wanted) if key.split(".")[0] not in free]
    if found:
        raise ConfigError(
            f"{folder} holds a run of another configuration ({'; '.join(found[:3])}"
            f"{'; ...' if len(found) > 3 else ''}): use the same options, train into another folder, or add "
            "--overwrite to replace that run"
        )
    if not resume:
        raise ConfigError(f"{folder} holds a run: add --resume to continue, or --overwrite to replace it")


def stored(folder: Path) -> dict[str, Any] | None:
    """The configuration in a run folder's `config.json`; None for none or a damaged one."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


@contextmanager
def held(
    config: OwnConfig, resume: bool, free: Sequence[str] = (), overwrite: bool = False
) -> Iterator[None]:
    """Lock the run folder `config.out`, after `admit` has accepted it, for a training that has its own kind of
    configuration.

    Raises:
        FileLocked, TrainingError: as for `claimed`.
        ConfigError: as for `admit`.
    """
    with claimed(config.out, "out"):
        admit(config.out, stored(config.out), config.model_dump(mode="json"), resume, free, overwrite)
        yield


def stating(config: OwnConfig) -> dict[str, bytes]:
    """The file that `stored` reads, by name."""
    return {"config.json": json.dumps(config.model_dump(mode="json"), indent=1).encode()}


def differences(stored: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """(key, "key is X there, Y here") of each option in which two configurations differ, with sections as dotted
    keys."""
    found: list[tuple[str, str]] = []
    for key in {**stored, **wanted}:
        here, there, name = wanted.get(key), stored.get(key), f"{prefix}{key}"
        if isinstance(here, dict) and isinstance(there, dict):
            found += differences(there, here, f"{name}.")
        elif here != there:
            found.append((name, f"{name} is {_shown(there)} there, {_shown(here)} here"))
    return found


def _shown(value: Any) -> str:
    return textwrap.shorten(json.dumps(value, default=str), 60, placeholder=" ...")
