"""The `mien` command. A command's module is imported only when it is called, to keep the start fast."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mien import __version__
from mien.errors import ConfigError, MienError, loading, nearest

GROUPS: dict[str, tuple[str, ...]] = {
    "Look": ("predict", "adapt", "video", "live", "batch", "columns"),
    "Edit": ("edit", "verify"),
    "Train": ("data", "train", "runs", "sweep", "ablate", "release"),
    "Judge": ("evaluate", "evaluate-edits", "compare", "figures", "methods"),
    "Serve and more": ("serve", "web", "doctor", "completion", "licences"),
}
"""The commands under the headings of `mien --help`."""

COMMANDS: dict[str, tuple[str, str]] = {
    "predict": ("predict:predict", "Describe every face in pictures."),
    "adapt": ("adapt:adapt", "Correct the recogniser with a few labelled pictures of your own."),
    "video": ("video:video", "Describe every face in every frame of a video, and track people."),
    "live": ("video:live", "Describe the faces in a camera's picture, live."),
    "edit": (
        "edit:edit",
        "Change the expression a face shows in a photo or video, and record it in the file.",
    ),
    "verify": ("edit:verify", "Check a file's record of how it was edited."),
    "methods": ("methods:methods", "List the weights inside this package, and their cards."),
    "columns": ("methods:columns", "Explain every column of a table."),
    "licences": ("licences:licences", "List the terms of the weights, pictures and data."),
    "train": ("train:train", "Train a method."),
    "runs": ("train:runs", "List training runs as a table."),
    "sweep": ("sweep:sweep", "Train, evaluate and compare many runs over processes and devices."),
    "ablate": ("ablate:ablate", "Train, evaluate and compare each rung of a method's ladder."),
    "release": ("release:release", "Make weights for prediction from a trained run."),
    "evaluate": ("evaluate:evaluate", "Evaluate a model on a dataset."),
    "evaluate-edits": ("evaluate_edits:evaluate_edits", "Evaluate the expression editor."),
    "compare": ("compare:compare", "Compare runs on the same images."),
    "figures": ("figures:figures", "Draw a model's figures."),
    "batch": ("batch:batch", "Describe every face in very many pictures, on all processors or a cluster."),
    "serve": ("serve:serve", "Serve the HTTP API and the web page."),
    "web": ("web:web", "Write the page that analyses in the browser, without a server of ours."),
    "data": ("data:app", "List, check and show datasets."),
    "doctor": ("doctor:doctor", "Check this installation, and say what would add what is missing."),
    "completion": ("completion:completion", "Print the script that completes commands in your shell."),
}
"""Each command: its module of `mien.cli`, its function or app, and its description."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "predict": (
        "mien predict portrait.jpg",
        "mien predict photos/ --out faces.csv --report report.html",
        "mien predict --list names.txt --json",
    ),
    "adapt": (
        "mien adapt labelled/ --out studio.json",
        "mien adapt labels.csv --out studio.json",
        "mien adapt labelled/ --out studio.json --weights my-model --overwrite",
    ),
    "video": (
        "mien video clip.mp4 --out faces.csv",
        "mien video clip.mp4 --annotate annotated.mp4",
        "mien video clip.mp4 --page summary.html",
    ),
    "live": ("mien live", "mien live --camera 1", "mien live --seconds 60 --out faces.csv"),
    "edit": (
        "mien edit portrait.jpg --to happiness --out happy.jpg",
        "mien edit portrait.jpg --like another.jpg --out alike.jpg",
        "mien edit clip.mp4 --to happiness:0.6,surprise:0.4 --out mixed.mp4",
    ),
    "verify": ("mien verify happy.jpg", "mien verify happy.mp4", "mien verify happy.jpg --json"),
    "methods": ("mien methods", "mien methods --card", "mien methods recogniser --json"),
    "columns": ("mien columns", "mien columns --video", "mien columns openface"),
    "licences": ("mien licences", "mien licences --json", "mien licences | less"),
    "train": (
        "mien train configs/tiny.yaml",
        "mien train configs/baseline-ferplus.yaml --set seed=1",
        "mien train configs/baseline-ferplus.yaml --resume",
    ),
    "runs": ("mien runs", "mien runs elsewhere/runs --json", "mien runs --curves curves.png"),
    "sweep": (
        "mien sweep configs/sweeps/ferplus-tenth.yaml --plan",
        "mien sweep configs/sweeps/ferplus-tenth.yaml",
        "mien sweep configs/sweeps/ferplus-tenth.yaml --set workers=2 --json",
    ),
    "ablate": (
        "mien ablate jadfer --plan",
        "mien ablate jadfer --seeds 0,1",
        "mien ablate jadfer --out comparison/",
    ),
    "release": (
        "mien release runs/baseline-ferplus-s0 --out my-model",
        "mien release runs/baseline-ferplus-s0 --out my-model --data moved/ferplus",
        "mien release configs/recogniser.yaml",
    ),
    "evaluate": (
        "mien evaluate shipped ferplus/ --protocol ferplus-majority",
        "mien evaluate runs/baseline-ferplus-s0 ferplus/ --protocol ferplus-majority",
        "mien evaluate my-model labelled/ --reader folder --out report/",
    ),
    "evaluate-edits": (
        "mien evaluate-edits --judge fer.hdf5 --identity dlib.dat --london london/",
        "mien evaluate-edits --judge fer.hdf5 --identity dlib.dat --ferplus ferplus/",
        "mien evaluate-edits --judge fer.hdf5 --identity dlib.dat --photo face.jpg",
    ),
    "compare": (
        "mien compare runs/baseline-s0 runs/jadfer-s0",
        "mien compare runs/baseline-s0 runs/jadfer-s0 --out comparison/",
        "mien compare runs/baseline-s0 runs/jadfer-s0 --format tex",
    ),
    "figures": (
        "mien figures runs/baseline-ferplus-s0 ferplus/ --protocol ferplus-majority",
        "mien figures runs/baseline-ferplus-s0 ferplus/ --only confusion,grid",
        "mien figures shipped labelled/ --reader folder --out figures/",
    ),
    "batch": (
        "mien batch photos/ --out faces/",
        "mien batch photos/ --out faces/ --workers 8",
        "mien batch s3://bucket/photos --out s3://bucket/faces",
    ),
    "serve": ("mien serve", "mien serve --port 9000", "mien serve --host 0.0.0.0 --api-key-file key.txt"),
    "web": ("mien web site/ --download", "mien web site/ --serve", "mien web npm/ --package --overwrite"),
    "doctor": ("mien doctor", "mien doctor --json", "mien doctor > report.txt"),
    "data": ("mien data list", "mien data check ferplus/", "mien data show ferplus/ --out sheet.png"),
    "data list": ("mien data list", "mien data list --json", "mien data list | less"),
    "data check": (
        "mien data check ferplus/",
        "mien data check labelled/ --manifest labelled.csv",
        "mien data check rafdb/ --reader rafdb --faces --json",
    ),
    "data show": (
        "mien data show ferplus/ --out sheet.png",
        "mien data show ferplus/ --out sheet.png --split test --columns 20",
        "mien data show ferplus/ --out sheet.png --protocol ferplus-majority",
    ),
    "data render": (
        "mien data render head.npz rendered/",
        "mien data render head.npz rendered/ --identities 100 --images 5",
        "mien data render head.npz actions/ --actions --seed 1",
    ),
    "completion": (
        'eval "$(mien completion bash)"',
        'eval "$(mien completion zsh)"',
        "mien completion fish > ~/.config/fish/completions/mien.fish",
    ),
}
"""Examples below the help of each command and each command below it; `tests/cli/test_main.py` checks every line against
the options."""

HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


def _with_values(args: list[str]) -> list[str]:
    """`--label` of `mien edit` alone means `--label text`: options of Typer have a value always or never."""
    if args[:1] != ["edit"]:
        return args
    after = [*args[1:], ""]
    given = [
        "--label=text" if arg == "--label" and following not in ("text", "icon") else arg
        for arg, following in zip(args, after, strict=True)
    ]
    end = args.index("--") if "--" in args else len(args)
    return given[:end] + args[end:]


class Commands(TyperGroup):
    """The commands of `COMMANDS`, each imported on first use."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Only the names are read, to suggest one for a misspelt word.
        self.commands = dict.fromkeys(COMMANDS)  # type: ignore[assignment]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse empty arguments: they come from unset shell variables, and as a path would mean the current folder."""
        for before, given in zip(("", *args), args, strict=False):
            if given == "" or (given.startswith("--") and given.endswith("=")):
                what = before if before.startswith("--") and not given else given.rstrip("=")
                raise ConfigError(f"{what or 'an argument'} is empty: fill it in, or leave it out")
        parsed: list[str] = super().parse_args(ctx, _with_values(args))
        return parsed

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import one command; None for an unknown word."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        found = getattr(import_module(f"mien.cli.{module}"), name)
        single = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=HELP)
        if isinstance(found, typer.Typer):
            single.add_typer(found, name=cmd_name, epilog=_epilog(cmd_name), context_settings=HELP)
            group = typer.main.get_group(single).commands[cmd_name]
            for name, below in group.commands.items():  # type: ignore[attr-defined]
                below.epilog = _epilog(f"{cmd_name} {name}")
            return group
        single.command(cmd_name, epilog=_epilog(cmd_name), context_settings=HELP)(found)
        return typer.main.get_command(single)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a wrong choice is answered with the nearest right one."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as problem:
            choices = getattr(getattr(problem.param, "type", None), "choices", None)
            given = re.match("'(.*)' is not one of", problem.message, re.DOTALL)
            if problem.param is None or choices is None or given is None:
                raise
            raise ConfigError(
                f"{problem.param.opts[0]}: no '{given[1]}': {nearest(given[1], [*choices])}"
            ) from None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of `mien --help`, without importing any of them."""
        for group, names in GROUPS.items():
            with formatter.section(group):
                formatter.write_dl([(name, COMMANDS[name][1]) for name in names])


def _epilog(name: str) -> str:
    """The examples of a command; "\b" prevents the help from rewrapping lines."""
    return "Examples:\n\n\b\n" + "\n".join(f"  {line}" for line in EXAMPLES[name])


app = typer.Typer(
    cls=Commands,
    name="mien",
    help="Recognise, measure, edit and compare facial expressions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich would take longer to import than everything else
    context_settings=HELP,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"mien {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Recognise, measure, edit and compare facial expressions."""


def main() -> None:
    """Run the command line; a `MienError` becomes one line on standard error and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        # A file name that the terminal cannot show must not be an error.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if "_MIEN_COMPLETE" in os.environ:  # the shell asks for completions
        from mien.cli.completion import answer

        answer()
    _leave_no_cache()
    try:
        with loading("mien"):
            app(prog_name="mien")
    except MienError as problem:
        typer.echo(f"mien: {problem}", err=True)
        sys.exit(2)
    except SystemExit as stop:
        # Typer turns Ctrl-C into an exit without a word, where a command has none of its own.
        if isinstance(getattr(stop.__context__, "__cause__", None), KeyboardInterrupt):
            typer.echo("mien: interrupted", err=True)
        raise
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        _drop_output()
        sys.exit(141)
    except OSError as problem:
        _drop_output()
        named = f"{problem.filename}: " if problem.filename else ""
        from mien.urls import without_secrets

        typer.echo(
            without_secrets(f"mien: {named}{problem.strerror or problem}: fix it and try again"), err=True
        )
        sys.exit(2)


def _leave_no_cache() -> None:
    """Let matplotlib store its list of fonts only for this run, unless this user has one already."""
    usual = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")  # noqa: PTH111 - raises nothing
    if "MPLCONFIGDIR" in os.environ or os.path.isdir(f"{usual}/matplotlib"):  # noqa: PTH112
        return
    temporary = os.environ.get("TMPDIR") or os.environ.get("TEMP") or "/tmp"
    folder = os.environ["MPLCONFIGDIR"] = (
        f"{temporary}/mien-{os.urandom(8).hex()}"  # made by matplotlib, if at all
    )
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _drop_output() -> None:
    """Discard buffered standard output, or Python would fail on it again at exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
