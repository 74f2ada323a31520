"""A training of drawn faces that takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mien.evaluation.validation import validate
from mien.training import loop
from mien.training.config import RunConfig
from mien.training.run_log import read

STEPS_PER_EPOCH = 6


def tree(faces: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """A configuration that trains in seconds."""
    return {
        "name": "test",
        "method": {"name": "baseline", "backbone": "tiny", "dropout": 0.1},
        "data": {
            "reader": "manifest",
            "root": str(faces),
            "size": 32,
            "cache": str(faces / "cache"),
            "points": str(faces / "points.npz"),
            "rotate": 5,
            "scale": 0.05,
            "shift": 0.02,
            "erase": 0.0,
            "light": 0.1,
            "mirror": False,
        },
        "optim": {"rate": 0.03, "ema": 0.8},
        "epochs": 4,
        "batch": 16,
        "threads": 1,
        "runs": str(out),
        **changes,
    }


def events(folder: Path) -> list[dict[str, Any]]:
    """Everything the run measured, without its clock."""
    return [{k: v for k, v in event.items() if k != "seconds"} for event in read(folder / "metrics.jsonl")]


def trained(config: RunConfig, **options: Any) -> Path:
    """The run folder, once it is trained."""
    return loop.run(config, validate, **options)
