"""Assembles the `mien` command. A command's module is imported when it is called, so that the others cost nothing."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Any

import typer
from typer.core import TyperGroup

from mien import __version__
from mien.errors import MienError, loading

COMMANDS: dict[str, tuple[str, str]] = {
    "predict": ("predict:predict", "Describe every face in pictures."),
    "video": ("video:video", "Describe every face in every frame of a video, and follow people."),
    "live": ("video:live", "Watch a camera."),
    "edit": ("edit:edit", "Change the expression a face shows in a photo, and say so in the file."),
    "verify": ("edit:verify", "Read what a file says of how it was edited."),
    "methods": ("methods:methods", "List the weights inside this package, and their cards."),
    "columns": ("methods:columns", "Explain every column of a table."),
    "licences": ("licences:licences", "List the terms of the code, the weights and the data."),
    "train": ("train:train", "Train a method."),
    "runs": ("train:runs", "List training runs as a table."),
    "ablate": ("ablate:ablate", "Train, judge and compare each rung of a method's ladder."),
    "release": ("release:release", "Make the network and card that ship from a trained run."),
    "evaluate": ("evaluate:evaluate", "Judge a model on a dataset."),
    "evaluate-edits": ("evaluate_edits:evaluate_edits", "Judge the expression editor."),
    "compare": ("compare:compare", "Compare runs on the same images."),
    "figures": ("figures:figures", "Draw a model's figures."),
    "batch": ("batch:batch", "Describe every face in very many pictures, on all processors or a cluster."),
    "serve": ("serve:serve", "Serve the HTTP API and the web page."),
    "data": ("data:app", "List, examine and look at datasets."),
}
"""Each command, in the order of `mien --help`: where it is (module of `mien.cli`, function or app) and what it does."""


class Commands(TyperGroup):
    """The commands of `COMMANDS`, each imported when it is asked for."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Only the names are read, to suggest one for a misspelt word.
        self.commands = dict.fromkeys(COMMANDS)  # type: ignore[assignment]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import one command; None for a word that is none."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        found = getattr(import_module(f"mien.cli.{module}"), name)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        if isinstance(found, typer.Typer):
            single.add_typer(found, name=cmd_name)
            return typer.main.get_group(single).commands[cmd_name]
        single.command(cmd_name)(found)
        return typer.main.get_command(single)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of `mien --help`, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


app = typer.Typer(
    cls=Commands,
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


def main() -> None:
    """Run the command line; a `MienError` becomes one line on standard error and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        # A file name that the terminal cannot show is no reason to stop.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with loading("mien"):
            app(prog_name="mien")
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
