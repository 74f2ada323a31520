"""Assembles the `mien` command. Heavy imports live inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

import typer

from mien import __version__
from mien.cli import (
    ablate,
    compare,
    data,
    edit,
    evaluate,
    figures,
    methods,
    predict,
    release,
    render,
    serve,
    train,
)
from mien.errors import MienError

app = typer.Typer(
    name="mien",
    help="Recognise, measure, edit and compare facial expressions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich alone would take longer to import than all the rest
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"mien {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Recognise, measure, edit and compare facial expressions."""


app.command()(predict.predict)
app.command()(edit.edit)
app.command()(edit.verify)
app.command()(methods.methods)
app.command()(methods.columns)
app.command()(train.train)
app.command()(train.runs)
app.command()(ablate.ablate)
app.command()(release.release)
app.command()(evaluate.evaluate)
app.command()(compare.compare)
app.command()(figures.figures)
app.command()(serve.serve)
data.app.command()(render.render)
app.add_typer(data.app)


def main() -> None:
    """Run the command line; a `MienError` becomes one line on standard error and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        # A file name that the terminal cannot show is no reason to stop.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except MienError as problem:
        typer.echo(f"mien: {problem}", err=True)
        sys.exit(2)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        _drop_output()
        sys.exit(141)
    except OSError as problem:
        _drop_output()
        named = f"{problem.filename}: " if problem.filename else ""
        typer.echo(f"mien: {named}{problem.strerror or problem}: mend it and try again", err=True)
        sys.exit(2)


def _drop_output() -> None:
    """Send what is still buffered for standard output nowhere, or Python would fail on it once more at exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
