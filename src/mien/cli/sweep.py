"""`mien sweep`: train many runs of one configuration, queued over processes and devices.

Exit code 0: every run is done. 1: some failed; each has its row with the error in `runs.csv`. 2: the command itself was
wrong. 130: interrupted; the same command continues.

Tests: tests/evaluation/test_sweep.py.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli import options, plain_text
from mien.cli.terminal import bar, interruptible, shortened, tell, tell_end
from mien.errors import ExtraMissing
from mien.wording import several

if TYPE_CHECKING:
    from mien.evaluation.sweep import Result
    from mien.training.job_queue import QueueStatus
    from mien.training.sweep import SweepConfig


def sweep(
    config: Annotated[Path, typer.Argument(help="A sweep, e.g. configs/sweeps/ferplus-tenth.yaml.")],
    assignments: options.Assignments = None,
    draws: options.Draws = 1000,
    plan: Annotated[bool, typer.Option("--plan", help="Print the runs, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Train, evaluate and compare arms over seeds and folds on all processors or devices; continues where it
    stopped."""
    from mien.training.sweep import load_sweep

    begun = time.monotonic()
    settings = load_sweep(config, assignments or [])
    try:
        from mien.evaluation import sweep
    except ModuleNotFoundError as missing:
        raise ExtraMissing("train", missing.name or "torch") from None
    from mien.reports import comparison_report

    if plan:
        _print_plan(settings)
        return
    remedy = f": finished runs and the states of others are in {settings.out}: continue with the same command"
    with interruptible(remedy), _watched() as progress:
        result = sweep.run(settings, draws, partial(progress, "runs"), tell, partial(progress, "crops"))
    for name, comparison in result.comparisons.items():
        comparison_report.write(comparison, settings.out / name)
    own = result.comparisons.get("")
    if own is not None:
        typer.echo(own.to_json() if as_json else plain_text.of_markdown(comparison_report.markdown(own)))
    _end(settings, result, begun)


def _print_plan(settings: SweepConfig) -> None:
    """Print every run and its state."""
    from mien.evaluation.sweep import is_done
    from mien.training.sweep import equal_arms, plan

    for job in plan(settings):
        typer.echo(f"{job.folder}{'  done' if is_done(job) else ''}")
    for arm, trained in equal_arms(settings).items():
        if arm != trained:
            typer.echo(f"{arm}: the same as {trained}")


def _end(settings: SweepConfig, result: Result, begun: float) -> None:
    """Print where the results are, and exit with 1 if runs failed."""
    for outcome in result.failed:
        typer.echo(f"mien: {outcome.job.label} failed: {outcome.error}", err=True)
    done = result.runs - len(result.failed)
    tell_end(f"{several(done, 'run')} done, {len(result.failed):,} failed", begun, settings.out)
    if result.failed:
        raise typer.Exit(1)


LINE_SECONDS = 60.0
"""Time between two lines in a log."""


SweepProgress = Callable[..., None]
"""Called with ("runs", status) or ("crops", done, total)."""


@contextmanager
def _watched() -> Iterator[SweepProgress]:
    """One line that is redrawn on a terminal; elsewhere one line per minute."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

    with bar(TextColumn("{task.description}"), BarColumn(bar_width=20), TimeRemainingColumn()) as display:
        tasks: dict[str, Any] = {}

        def progress(kind: str, *values: Any) -> None:
            if kind not in tasks:  # runs begin when crops are done
                for other in tasks.values():
                    display.remove_task(other)
                tasks.clear()
                tasks[kind] = display.add_task(kind, total=1.0)
            described = shortened(_words(kind, *values), max(20, display.console.width - 32))
            display.update(tasks[kind], description=described, completed=_share(kind, *values))

        yield progress


def _lines() -> SweepProgress:
    """A line a minute. The time left is estimated from the share done since the first line, as continued runs begin
    with what they had done before."""
    printed = time.monotonic()
    first: dict[str, tuple[float, float]] = {}

    def progress(kind: str, *values: Any) -> None:
        nonlocal printed
        now = time.monotonic()
        if now - printed < LINE_SECONDS:
            return
        printed, share = now, _share(kind, *values)
        begun, before = first.setdefault(kind, (now, share))
        left = (now - begun) * (1 - share) / (share - before) / 60 if share > before else 0.0
        tell(f"{_words(kind, *values)}{f', about {left:.0f} min left' if left else ''}")

    return progress


def _share(kind: str, *values: Any) -> float:
    """The share that is done, 0 to 1."""
    return float(values[0].share if kind == "runs" else values[0] / max(1, values[1]))


def _words(kind: str, *values: Any) -> str:
    """The progress in a line: runs that are done or failed, and the progress of the running ones."""
    if kind == "crops":
        return f"aligned {values[0]:,} of {values[1]:,}"
    status: QueueStatus = values[0]
    parts = [f"{status.done} of {several(status.total, 'run')}"]
    if status.failed:
        parts.append(f"{status.failed} failed")
    parts += [f"{job.label} {share:.0%}" for job, share in status.running]
    return ", ".join(parts)
