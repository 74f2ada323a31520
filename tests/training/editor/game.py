"""An editor's training on drawn faces, before its first step."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from mien.data.readers import READERS
from mien.training.editor import edit_pairs
from mien.training.editor import train as training
from mien.training.editor.train import EditorTask
from mien.training.loop import Run, fabric_of, silent


def task_of(tree: dict[str, Any], **more: Any) -> EditorTask:
    """The training of a configuration."""
    config = training.configured({**tree, **more}, "test")
    records = [r for r in READERS["ferplus"](config.ferplus) if r.split == "train"]
    points = training.read_points(config.points)
    faces = edit_pairs.build(config.bank, records, points, config.faces, config.seed, lambda line: None)
    return EditorTask(config, faces)


def run_of(task: EditorTask, resume: bool = False, progress: Any = silent) -> Run:
    """Its run."""
    return Run(task, fabric_of("float32", "cpu"), progress, resume)


def advanced(task: EditorTask, steps: int = 1, start: int = 0) -> Run:
    """The run after some steps."""
    run = run_of(task)
    for batch in islice(task.batches(start), steps):
        run.step(batch)
    return run


def folder_of(tree: dict[str, Any]) -> Path:
    """The run folder."""
    return Path(tree["out"])
