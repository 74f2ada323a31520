"""Assembles the `mien` command. Heavy imports live inside the commands, so that `--help` answers at once."""

from __future__ import annotations

import sys
from io import TextIOWrapper

import typer

from mien import __version__
from mien.cli import evaluate, methods, predict, release, train
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
app.command()(methods.methods)
app.command()(methods.columns)
app.command()(train.train)
app.command()(train.runs)
app.command()(release.release)
app.command()(evaluate.evaluate)


def main() -> None:
    """Run the command line; a `MienError` becomes one line on standard error and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, TextIOWrapper
        ):  # a file name that the terminal cannot show is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except MienError as problem:
        typer.echo(f"mien: {problem}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
