"""The command line as a whole: its help, its examples, completion in the shell."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from typing import Any

import pytest
import typer

from mien.cli.main import COMMANDS, EXAMPLES, GROUPS, app


def parser(*words: str) -> tuple[Any, list[str]]:
    """The command that words call, and the words that are left for it."""
    command: Any = typer.main.get_command(app)
    left = list(words)
    context: Any = None
    while hasattr(command, "get_command"):
        context = type(command).context_class(command, parent=context)
        command = command.get_command(context, left.pop(0))
    return command, left


def test_every_command_stands_under_one_heading() -> None:
    listed = [name for names in GROUPS.values() for name in names]
    assert sorted(listed) == sorted(COMMANDS)
    assert set(EXAMPLES) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples_and_a_short_form(name: str, command: Any) -> None:
    long, short = command(name, "--help"), command(name, "-h")
    assert long.code == short.code == 0
    assert long.out == short.out
    for line in EXAMPLES[name]:
        assert line in long.out


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_examples_use_options_that_exist(line: str) -> None:
    words = shlex.split(line.split("$(")[-1].split(")")[0].split(" > ")[0])
    assert words[0] == "mien"
    command, left = parser(*words[1:])
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in left if word.startswith("--")} <= known
    command.make_context("mien", left)  # parses: every needed argument is there, every choice is one


@pytest.mark.parametrize(
    ("words", "expected"),
    [("mien pre", "predict"), ("mien predict --anno", "--annotate"), ("mien data sh", "show")],
)
def test_bash_completes_commands_and_options(words: str, expected: str) -> None:
    environment = os.environ | {
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
        "_MIEN_COMPLETE": "complete_bash",
    }
    ran = subprocess.run(
        [sys.executable, "-c", "from mien.cli.main import main; main()"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert expected in ran.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_calls_this_command(shell: str, command: Any) -> None:
    script = command("completion", shell).out
    assert re.search(rf"_MIEN_COMPLETE=complete_{shell}\b", script)
