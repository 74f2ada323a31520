"""`mien train` and `mien runs`."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import typer

from mien.cli.terminal import bar, tell
from mien.errors import ExtraMissing
from mien.training import run_log


def train(
    config: Path = typer.Argument(help="A run configuration, e.g. configs/baseline-ferplus.yaml."),
    assignments: list[str] = typer.Option([], "--set", help="Change a key: --set optim.rate=0.001"),
    resume: bool = typer.Option(False, help="Go on with this run if it was interrupted."),
) -> None:
    """Train a method; the run folder then holds weights, card, metrics and curve."""
    from mien.config import read_tree

    tree = read_tree(config, assignments)
    section = tree.get("method")
    name = section.get("name") if isinstance(section, dict) else None
    run = _own(name, tree, config) if name in _OWN else _recogniser(config, assignments)
    try:
        alone = os.environ.get("RANK", "0") == "0"  # of several processes under torchrun, one speaks
        drawn = _drawn() if alone and sys.stderr.isatty() else nullcontext(_lines() if alone else None)
        with drawn as report:
            folder = run(resume, report)
    except KeyboardInterrupt:
        typer.echo("stopped; the state is saved: go on with --resume", err=True)
        raise typer.Exit(130) from None
    if alone:
        if name not in _OWN:
            _curve(folder)
        typer.echo(folder)


_OWN = {"landmarks": "mien.training.landmarks.train", "editor": "mien.training.editor.train"}
"""Trainings with a configuration of their own."""


def _own(name: str, tree: dict[str, Any], config: Path) -> Callable[[bool, Any], Path]:
    try:
        training = importlib.import_module(_OWN[name])
    except ModuleNotFoundError as missing:
        raise ExtraMissing("train", missing.name or "torch") from None
    return partial(training.run, training.configured(tree, str(config)))


def _recogniser(config: Path, assignments: list[str]) -> Callable[[bool, Any], Path]:
    from mien.training.config import load_config

    settings = load_config(config, assignments)
    try:
        from mien.evaluation.validation import validate
        from mien.training import loop
    except ModuleNotFoundError as missing:
        raise ExtraMissing("train", missing.name or "torch") from None
    return partial(loop.run, settings, validate)


LINE_SECONDS = 60.0
"""The longest silence of a training in a log."""


def _lines() -> Any:
    """One plain line an epoch, and between them one a minute."""
    told = time.monotonic()

    def report(kind: str, values: dict[str, Any]) -> None:
        nonlocal told
        if kind == "note":
            tell(values["text"])
        elif kind == "epoch":
            tell(f"epoch {values['epoch'] + 1}/{values['epochs']}  {_numbers(values)}")
        elif time.monotonic() - told < LINE_SECONDS:
            return
        elif kind == "crops":
            tell(f"aligned {values['done']:,} of {values['of']:,}")
        else:
            spent = f"{values['progress']:.0%}, {values['seconds'] / 60:.0f} min"
            tell(f"step {values['step']:,}, {spent}  {_numbers(values['losses'])}")
        told = time.monotonic()

    return report


def _numbers(values: dict[str, Any]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in values.items() if isinstance(value, float))


@contextmanager
def _drawn() -> Iterator[Any]:
    """A progress bar over crops, then over steps, with the epochs' lines above it."""
    plain = _lines()
    with bar() as progress:
        tasks: dict[str, Any] = {}

        def report(kind: str, values: dict[str, Any]) -> None:
            if kind not in ("crops", "step"):
                plain(kind, values)
                return
            if kind not in tasks:
                tasks[kind] = progress.add_task("aligning" if kind == "crops" else "training", total=1.0)
            share = values["done"] / values["of"] if kind == "crops" else values["progress"]
            progress.update(tasks[kind], completed=round(share * values["of"]), total=values["of"])

        yield report


def runs(
    folder: Path = typer.Argument(Path("runs"), help="The folder that holds the run folders."),
    curves: Path | None = typer.Option(
        None, help="Also draw their accuracy on validation, epoch by epoch, here."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a picture that is there."),
) -> None:
    """List training runs as a table."""
    import json

    import yaml

    from mien.training import run_log

    if curves is not None:
        from mien.figures import palette
        from mien.io import outputs

        for form in palette.FORMS:
            outputs.check(curves.with_suffix(f".{form}"), overwrite=overwrite)
    rows: list[dict[str, Any]] = []
    learnt: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*/config.yaml")):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        metrics = path.parent / "metrics.jsonl"
        lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else []
        epochs = [event for event in map(json.loads, lines) if event["kind"] == "epoch"]
        learnt[path.parent.name] = epochs
        best = run_log.best(epochs, config["select"])
        rows.append(
            {
                "run": path.parent.name,
                "method": config["method"]["name"],
                "data": config["data"]["protocol"] or config["data"]["reader"],
                "epochs": f"{len(epochs)}/{config['epochs']}",
                "best epoch": best.get("epoch", -1) + 1 if best else "",
                "accuracy": round(best["accuracy"], 4) if "accuracy" in best else "",
                "macro": round(best["macro_accuracy"], 4) if "macro_accuracy" in best else "",
                "finished": (path.parent / "finished").is_file(),
            }
        )
    if curves is not None and learnt:
        from mien.figures import learning_curves as lines_of

        palette.save(lines_of.several(learnt), curves.with_suffix(""))
    if as_json:
        typer.echo(json.dumps(rows))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in rows[0] if rows else ("no runs",):
        table.add_column(name, no_wrap=name == "run")
    for row in rows:
        table.add_row(
            *("yes" if cell is True else "" if cell is False else str(cell) for cell in row.values())
        )
    # A log has no width: nothing is cut there.
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _curve(folder: Path) -> None:
    """Draw the learning curve where matplotlib is installed."""
    try:
        from mien.figures import learning_curves
    except ModuleNotFoundError:
        return
    learning_curves.learning(run_log.read(folder / "metrics.jsonl"), folder / "curve.png")
