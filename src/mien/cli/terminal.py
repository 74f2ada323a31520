"""Messages and progress bars of commands, both on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from mien.types import CountProgress

_bars: list[Any] = []
"""The bar that is currently drawn, if any."""


def tell(message: str) -> None:
    """Print a line on standard error, above the progress bar if there is one."""
    if _bars:
        _bars[-1].console.print(message, markup=False, highlight=False, emoji=False, soft_wrap=True)
    else:
        typer.echo(message, err=True)


@contextmanager
def bar(*columns: Any) -> Iterator[Any]:
    """A progress bar on standard error, erased at the end; by default with a count and the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = columns or (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    # Standard output may be a file, so the bar is not drawn there.
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        _bars.append(progress)
        try:
            yield progress
        finally:
            _bars.remove(progress)


@contextmanager
def counted(what: str, watched: bool = True, total: int | None = None) -> Iterator[CountProgress | None]:
    """Yield a progress callback (done, total) of a bar; None without a terminal or if `watched` is false."""
    if not watched or not sys.stderr.isatty():
        yield None
        return
    with bar() as progress:
        task = progress.add_task(what, total=total)
        yield lambda done, total: progress.update(task, completed=done, total=total)


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
