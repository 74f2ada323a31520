"""Messages and progress bars of commands, both on standard error."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import typer

_bars: list[Any] = []
"""The bar that is currently drawn, if any."""


def tell(message: str) -> None:
    """Print a line on standard error, above the progress bar if there is one."""
    if _bars:
        _bars[-1].console.print(message, markup=False, highlight=False, emoji=False, soft_wrap=True)
    else:
        typer.echo(message, err=True)


def tell_end(counts: str, begun: float, where: object, err: bool = True) -> None:
    """Print the closing line of a command that wrote something: counts, the seconds since `begun` (of
    `time.monotonic`), and where the results are; on standard error, or, without `err`, on standard output."""
    typer.echo(f"{counts}; {time.monotonic() - begun:.1f} s: {where}", err=err)


@contextmanager
def bar(*columns: Any) -> Iterator[Any]:
    """A progress bar on standard error, erased at the end; by default with a count, the rate and the time left.

    The rate is that of the field `unit` of each task: of the field `counted` if the task has one, or else of what is
    completed.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = columns or (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        _rate()(),
        TimeRemainingColumn(),
    )
    # Standard output may be a file, so the bar is not drawn there.
    with (
        _console() as console,
        Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress,
    ):
        _bars.append(progress)
        try:
            yield progress
        finally:
            _bars.remove(progress)


@contextmanager
def _console() -> Iterator[Any]:
    """A console on standard error that no other writer disturbs.

    Python's own messages go through the console. What libraries in C and worker processes write there directly, such
    as "Corrupt JPEG data", would break the bar: it waits in a temporary file, and is printed at the end.
    """
    from rich.console import Console

    try:
        kept = os.dup(sys.stderr.fileno())
    except OSError:  # replaced by an object in memory
        yield Console(stderr=True)
        return
    # rich asks standard input for the width, which need not be a terminal.
    asked = sys.stdin is not None and sys.stdin.isatty()
    width = os.get_terminal_size(kept).columns if os.isatty(kept) and not asked else None
    with (
        tempfile.TemporaryFile() as others,
        os.fdopen(kept, "w", encoding=sys.stderr.encoding, errors="backslashreplace") as file,
    ):
        os.dup2(others.fileno(), sys.stderr.fileno())
        try:
            yield Console(file=file, width=width)
        finally:
            os.dup2(kept, sys.stderr.fileno())
            others.seek(0)
            for line, times in Counter(others.read().decode(errors="replace").splitlines()).items():
                typer.echo(line + (f" ({times:,} times)" if times > 1 else ""), err=True)


@cache
def _rate() -> Any:
    """The class of the bar's column with the rate; made when needed, as rich takes time to import."""
    from rich.progress import ProgressColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            done, unit = task.fields.get("counted", task.completed), task.fields.get("unit")
            return Text(per_second(done / task.elapsed, unit) if unit and done and task.elapsed else "")

    return Rate


def per_second(rate: float, unit: str) -> str:
    """A rate for people: "12 faces/s", "0.4 crops/s"."""
    return f"{rate:,.{0 if rate >= 10 else 1}f} {unit}/s"


class Counted:
    """Moves a progress bar: called with (done, total), and with the number for the rate if that counts other things."""

    def __init__(self, progress: Any, task: Any) -> None:
        self._progress, self._task = progress, task

    def __call__(self, done: int, total: int, counted: int | None = None) -> None:
        fields = {} if counted is None else {"counted": counted}
        self._progress.update(self._task, completed=done, total=total, **fields)


@contextmanager
def counted(
    what: str, watched: bool = True, total: int | None = None, unit: str = "pictures"
) -> Iterator[Counted | None]:
    """Yield a progress callback of a bar that shows `unit`/s; None without a terminal or if `watched` is false."""
    if not watched or not sys.stderr.isatty():
        yield None
        return
    with bar() as progress:
        yield Counted(progress, progress.add_task(what, total=total, unit=unit))


@contextmanager
def interruptible(remedy: str) -> Iterator[None]:
    """Make Ctrl-C within the block end the command with exit code 130 and a line that ends with `remedy`."""
    try:
        yield
    except KeyboardInterrupt:
        tell(f"mien: interrupted{remedy}")
        raise typer.Exit(130) from None


def tell_links(linked: Sequence[Path]) -> None:
    """Print that links to folders were not followed."""
    if linked:
        from mien.io.images import describe

        what = "a linked folder was" if len(linked) == 1 else f"{len(linked):,} linked folders were"
        first = ", ".join(describe(path) for path in linked[:3]) + (", ..." if len(linked) > 3 else "")
        tell(f"mien: note: {what} not searched: name it to have it searched too: {first}")


def shortened(text: str, width: int) -> str:
    """The text, without its middle if it is longer than `width` characters."""
    if len(text) <= width:
        return text
    ahead = (width - 1) // 2
    return f"{text[:ahead]}…{text[len(text) - (width - 1 - ahead) :]}"
