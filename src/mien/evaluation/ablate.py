"""Train and evaluate one rung of an ablation; finished steps are not repeated.

Tests: tests/cli/test_ablate.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mien.data.predictions import FILE, Predictions
from mien.evaluation import evaluate
from mien.evaluation.evaluate import Report
from mien.evaluation.validation import validate
from mien.training import checkpoint, loop, run_folder
from mien.training.config import RunConfig


def train_and_judge(run: RunConfig, by: str, write: Callable[[Report, Predictions, Path], object]) -> Path:
    """Train a run unless it is finished, evaluate it unless its current weights were, and return its folder.

    Args:
        run: the configuration of one rung and seed.
        by: an attribute to evaluate by group as well; "" for none.
        write: writes the report into the run's folder `evaluation`.

    Raises:
        ConfigError: the folder holds a run of other options.
        MienError: training or evaluation cannot continue.
    """
    folder = loop.folder_of(run)
    loop.run(run, validate, resume=True)  # a finished one returns at once
    if not is_judged(folder, by):
        data = run.data
        report, predictions = evaluate.run(
            folder,
            data.root,
            data.protocol,
            reader=data.reader,
            fold=data.fold,
            points=data.points,
            cache=data.cache,
            by=[by] if by else [],
        )
        write(report, predictions, folder / run_folder.EVALUATION)
    return folder


def is_finished(folder: Path) -> bool:
    """Whether the training in a run folder is finished."""
    return (folder / "finished").is_file()


def is_judged(folder: Path, by: str) -> bool:
    """Whether a run was evaluated with its current weights and with this attribute."""
    path = folder / run_folder.EVALUATION / FILE
    if not path.is_file():
        return False
    predictions = Predictions.load(path)
    same = predictions.provenance.weights_hash == checkpoint.digest(folder / "weights.safetensors")
    return same and (not by or by in predictions.attributes)
