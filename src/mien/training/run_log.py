"""The log of a run: `metrics.jsonl`, one line per event, and TensorBoard where it is installed.

Also selects the best epoch of a run.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

from mien.errors import ConfigError, nearest
from mien.io import atomic

HIGHER_IS_BETTER: dict[str, bool] = {
    "accuracy": True,
    "macro_accuracy": True,
    "cross_entropy": False,
    "ccc": True,
    "ccc_valence": True,
    "ccc_arousal": True,
}
"""The validation metrics that `select` can name, and their direction."""


def score(select: str, value: float) -> float:
    """A validation metric as a number where higher is better; NaN, an undefined metric, is the worst."""
    if math.isnan(value):
        return -math.inf
    return value if HIGHER_IS_BETTER[select] else -value


def best(epochs: list[dict[str, Any]], select: str) -> dict[str, Any]:
    """The epoch with the weights that a run keeps: the first of the best ones; {} if there are no epochs."""
    told = [event for event in epochs if select in event]
    return max(told, key=lambda event: score(select, event[select]), default={})


def check_select(select: str) -> None:
    """Refuse the name of an unknown validation metric.

    Raises:
        ConfigError: no such metric; the message names the nearest.
    """
    if select not in HIGHER_IS_BETTER:
        raise ConfigError(f"select: no metric '{select}': {nearest(select, list(HIGHER_IS_BETTER))}")


def without_seed(run: str) -> str:
    """The name that a run shares with its other seeds: `NAME` of the folder `NAME-s0`."""
    return re.sub(r"-s\d+$", "", run)


class RunLog:
    """Appends events to `metrics.jsonl` in the run folder, each flushed: a killed run loses at most one line."""

    def __init__(self, folder: Path, resume_step: int | None = None) -> None:
        self.path = folder / "metrics.jsonl"
        if resume_step is None:
            self.path.unlink(missing_ok=True)
        elif self.path.is_file():
            self._forget_after(resume_step)
        self._file: IO[str] = self.path.open("a", encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._board = None
        else:
            # Events that an interrupted run logged after its last saved state will be logged again.
            again = None if resume_step is None else resume_step + 1
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=again)

    def _forget_after(self, step: int) -> None:
        """Drop events that the resumed run will write again, and an incomplete last line."""
        kept = [event for event in read(self.path) if event["step"] <= step]
        atomic.write({self.path: "".join(json.dumps(event) + "\n" for event in kept).encode()})

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Record one event of a kind ("step", "epoch") at a step."""
        self._file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Flush and close."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def read(path: Path) -> list[dict[str, Any]]:
    """The events of a `metrics.jsonl`; an incomplete last line is left out."""
    events: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return events


@dataclass(frozen=True)
class RunSummary:
    """One run folder: its name, configuration, finished epochs (as `read` gives them), and whether it has ended."""

    name: str
    config: dict[str, Any]
    epochs: list[dict[str, Any]]
    finished: bool

    def row(self) -> dict[str, Any]:
        """The run in a table; figures are those of the best epoch, "" where there is none."""
        event = best(self.epochs, self.config["select"])
        data = self.config["data"]
        return {
            "run": self.name,
            "method": self.config["method"]["name"],
            "data": data["protocol"] or data["reader"],
            "epochs": f"{len(self.epochs)}/{self.config['epochs']}",
            "best epoch": event.get("epoch", -1) + 1 if event else "",
            "accuracy": round(event["accuracy"], 4) if "accuracy" in event else "",
            "macro": round(event["macro_accuracy"], 4) if "macro_accuracy" in event else "",
            "finished": self.finished,
        }


def runs(folder: Path) -> list[RunSummary]:
    """The runs that have their folder in `folder`, by name."""
    found = []
    for path in sorted(folder.glob("*/config.yaml")):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        metrics = path.parent / "metrics.jsonl"
        events = read(metrics) if metrics.is_file() else []
        epochs = [event for event in events if event["kind"] == "epoch"]
        found.append(RunSummary(path.parent.name, config, epochs, (path.parent / "finished").is_file()))
    return found


def environment() -> dict[str, Any]:
    """Python, machine kind and the versions that decide a result; no host name and no path."""
    packages = ("torch", "torchvision", "timm", "numpy", "opencv-python-headless", "onnxruntime", "mien")
    versions: dict[str, str] = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "packages": versions,
    }
