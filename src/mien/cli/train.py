"""`mien train` and `mien runs`: train a method, and list training runs."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from mien.cli import options, plain_text
from mien.cli.terminal import bar, tell, tell_end
from mien.errors import ConfigError, ExtraMissing
from mien.training import run_log
from mien.wording import several


def train(
    config: Annotated[Path, typer.Argument(help="A run configuration, e.g. configs/baseline-ferplus.yaml.")],
    assignments: options.Assignments = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue this run if it was interrupted.")
    ] = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Train a method; the run folder gets the weights with their card, the metrics and the learning curve.

    A folder that holds a run is refused: --resume continues it, --overwrite deletes it with its evaluation and trains
    again.
    """
    from mien.config import read_tree

    begun = time.monotonic()
    options.check_resume(resume, overwrite)
    tree = read_tree(config, assignments or [])
    section = tree.get("method")
    name = section.get("name") if isinstance(section, dict) else None
    run = _own(name, tree, config) if name in _OWN else _recogniser(config, assignments or [])
    try:
        alone = os.environ.get("RANK", "0") == "0"  # of several processes under torchrun, only one prints
        drawn = _drawn() if alone and sys.stderr.isatty() else nullcontext(_lines() if alone else _silent)
        with drawn as progress:
            folder = run(resume=resume, progress=progress, overwrite=overwrite)
    except KeyboardInterrupt:
        typer.echo("stopped; the state is saved: continue with --resume", err=True)
        raise typer.Exit(130) from None
    if alone:
        counts = "1 run"
        if name not in _OWN:
            _curve(folder)
            done = [event for event in run_log.read(folder / "metrics.jsonl") if event["kind"] == "epoch"]
            counts = f"1 run, {several(len(done), 'epoch')}"
        typer.echo(folder)
        tell_end(counts, begun, folder)


_OWN = {
    "actions": "mien.training.actions.train",
    "detector": "mien.training.detector.train",
    "landmarks": "mien.training.landmarks.train",
    "editor": "mien.training.editor.train",
}
"""Trainings with their own kind of configuration."""


def _own(name: str, tree: dict[str, Any], config: Path) -> Callable[..., Path]:
    try:
        training = importlib.import_module(_OWN[name])
    except ModuleNotFoundError as missing:
        raise ExtraMissing("train", missing.name or "torch") from None
    return partial(training.run, training.configured(tree, str(config)))


def _recogniser(config: Path, assignments: list[str]) -> Callable[..., Path]:
    from mien.training.config import load_config

    settings = load_config(config, assignments)
    try:
        from mien.evaluation.validation import validate
        from mien.training import loop
    except ModuleNotFoundError as missing:
        raise ExtraMissing("train", missing.name or "torch") from None
    return partial(loop.run, settings, validate)


RUNS = Path("runs")
"""Where trainings write unless they are told another place; it is made by the first."""

LINE_SECONDS = 60.0
"""Longest time between two lines of a training in a log."""


def _lines() -> Any:
    """One plain line per epoch, and one per minute in between."""
    printed = time.monotonic()

    def progress(kind: str, values: dict[str, Any]) -> None:
        nonlocal printed
        if kind == "note":
            tell(values["text"])
        elif kind == "epoch":
            tell(f"epoch {values['epoch'] + 1}/{values['epochs']}  {_numbers(values)}")
        elif time.monotonic() - printed < LINE_SECONDS:
            return
        elif kind == "crops":
            tell(f"aligned {values['done']:,} of {values['of']:,}")
        else:
            spent = f"{values['share']:.0%}, {values['seconds'] / 60:.0f} min"
            tell(f"step {values['step']:,}, {spent}  {_numbers(values['losses'])}")
        printed = time.monotonic()

    return progress


def _silent(kind: str, values: dict[str, Any]) -> None:
    """The progress callback of the other processes under torchrun: they print nothing."""


def _numbers(values: dict[str, Any]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in values.items() if isinstance(value, float))


@contextmanager
def _drawn() -> Iterator[Any]:
    """A progress bar over crops and then steps, with a line for each epoch above it."""
    plain = _lines()
    with bar() as display:
        tasks: dict[str, Any] = {}

        def progress(kind: str, values: dict[str, Any]) -> None:
            if kind not in ("crops", "step"):
                plain(kind, values)
                return
            if kind not in tasks:
                crops = kind == "crops"
                tasks[kind] = display.add_task(
                    "aligning" if crops else "training", total=1.0, unit="faces" if crops else "steps"
                )
            share = values["done"] / values["of"] if kind == "crops" else values["share"]
            display.update(tasks[kind], completed=round(share * values["of"]), total=values["of"])

        yield progress


def runs(
    folder: Annotated[Path, typer.Argument(help="The folder that holds the run folders.")] = RUNS,
    curves: Annotated[
        Path | None,
        typer.Option(help="Also draw their validation accuracy by epoch into this file."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    overwrite: options.Overwrite = False,
) -> None:
    """List training runs as a table."""
    import json

    begun = time.monotonic()
    if curves is not None:
        from mien.figures import palette
        from mien.io import outputs

        for form in palette.FORMS:
            outputs.check(curves.with_suffix(f".{form}"), overwrite=overwrite)
    if not folder.is_dir() and folder != RUNS:
        raise ConfigError(f"{folder}: no such folder: name the one that holds the run folders")
    found = run_log.runs(folder)
    if curves is not None and found:
        from mien.figures import learning_curves

        drawn = learning_curves.several({run.name: run.epochs for run in found})
        palette.save(drawn, curves.with_suffix(""))
        files = " and ".join(str(curves.with_suffix(f".{form}")) for form in palette.FORMS)
        tell_end(f"curves of {several(len(found), 'run')}", begun, files)
    rows = [run.row() for run in found]
    if as_json:
        typer.echo(json.dumps(rows))
    else:
        cells = [
            ["yes" if cell is True else "" if cell is False else str(cell) for cell in row.values()]
            for row in rows
        ]
        typer.echo(plain_text.table(list(rows[0]), cells) if rows else f"no runs in {folder}")


def _curve(folder: Path) -> None:
    """Draw the learning curve if matplotlib is installed."""
    try:
        from mien.figures import learning_curves
    except ModuleNotFoundError:
        return
    learning_curves.learning(run_log.read(folder / "metrics.jsonl"), folder / "curve.png")
