"""What the documentation says, works: its commands and its Python are run, page by page, and the site builds strictly.

The rules, for whoever writes a page:

- Every fenced block marked `sh` or `python` is run, in the page's order, in one folder for each page. Python blocks
  of a page share their variables; `paths` (two photographs) and `array` (one of them) are there from the start. The
  folder holds `examples/` and `configs/` of the repository and the pictures that `_furnish` lists (`photo.jpg`,
  `portrait.jpg`, ...), so that a page can name any of them.
- A block that cannot be run (it needs a dataset, a network, half an hour) has a comment right before it that says why:
  `<!-- not run: needs FERPlus -->`. It is still read: its Python must compile and import only what exists, and each
  `mien` command in it must be one that the command line accepts.
- A block marked `text` with `<!-- printed by the block above -->` before it is compared with what was printed; numbers
  may differ by a twentieth, because processors round differently.
- On a page that starts a server by the line `mien serve`, a server is there at http://127.0.0.1:8000 (in truth on a
  free port, which is put in place of 8000). `pip install` lines are not run.

Everything else (`console`, `yaml`, `json`, ...) is only shown.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
Command = Callable[..., Any]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
PRINTED = "printed by the block above"


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its code, its place, and the comment that stands right before it."""

    language: str
    code: str
    place: str
    note: str

    @property
    def skipped(self) -> bool:
        return self.note.startswith("not run:")


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found, note, lines = [], "", iter(enumerate(page.read_text(encoding="utf-8").splitlines(), start=1))
    for number, line in lines:
        fence = re.match(r"(\s*)```+\s*(\w*)", line)
        if fence is None:
            comment = re.fullmatch(r"<!-- (.*) -->", line.strip())
            note = comment.group(1) if comment else note if not line.strip() else ""
            continue
        inner = []
        for _, text in lines:
            if text.strip().startswith("```"):
                break
            inner.append(text.removeprefix(fence.group(1)))
        place = f"{page.relative_to(ROOT)}:{number}"
        found.append(Block(fence.group(2), "\n".join(inner), place, note))
        note = ""
    return found


def commands(code: str) -> list[str]:
    """The lines of a shell block, continued lines joined, without comments, blank lines and installations."""
    joined = code.replace("\\\n", " ").splitlines()
    kept = [re.sub(r"(^|\s)#.*", "", line).strip() for line in joined]
    return [line for line in kept if line and not re.match(r"(pip|python -m pip|apt-get|make) ", line)]


NAMED = [page for page in PAGES if any(block.language in ("sh", "python") for block in blocks(page))]


@pytest.fixture
def furnished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder a page runs in; it is also the home folder, where signing keys go."""
    _furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(ModuleNotFoundError):
        # Matplotlib's list of fonts takes seconds to make: it stays where it is.
        monkeypatch.setenv("MPLCONFIGDIR", import_module("matplotlib").get_cachedir())
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    return tmp_path


def _furnish(folder: Path) -> None:
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("*.ipynb"))
    shutil.copytree(ROOT / "configs", folder / "configs")
    smiling, neutral = (ROOT / "examples" / f"portrait_{name}.jpg" for name in ("smiling", "neutral"))
    (folder / "photos").mkdir()
    for name, source in {
        "photo.jpg": smiling,
        "portrait.jpg": neutral,
        "a.jpg": smiling,
        "b.jpg": neutral,
        "photos/one.jpg": smiling,
        "photos/two.jpg": neutral,
    }.items():
        shutil.copy(source, folder / name)


@pytest.mark.parametrize("page", NAMED, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_a_page_runs(page: Path, furnished: Path, command: Command) -> None:
    array = np.asarray(Image.open("photo.jpg").convert("RGB"))
    variables: dict[str, Any] = {"__name__": "__page__", "paths": ["a.jpg", "b.jpg"], "array": array}
    printed = ""
    found = blocks(page)
    serves = any("mien serve" in commands(b.code) for b in found if b.language == "sh" and not b.skipped)
    with _server() if serves else contextlib.nullcontext("127.0.0.1:8000") as address:
        for block in found:
            code = block.code.replace("127.0.0.1:8000", address)
            if block.language == "text" and block.note == PRINTED:
                _same(printed, block)
            elif block.language not in ("sh", "python"):
                continue
            elif block.skipped:
                _check(block)
            elif block.language == "python":
                printed = _run_python(block, code, variables)
            else:
                printed = "".join(_run_line(block, line, command) for line in commands(code))


def _run_python(block: Block, code: str, variables: dict[str, Any]) -> str:
    said = io.StringIO()
    lines = "\n" * int(block.place.rpartition(":")[2]) + code  # a traceback names the page's line
    with contextlib.redirect_stdout(said):
        exec(compile(lines, str(ROOT / block.place.rpartition(":")[0]), "exec"), variables)
    return said.getvalue()


def _run_line(block: Block, line: str, command: Command) -> str:
    """A plain `mien` command is run in this process, which has loaded everything already; any other line by bash."""
    if line == "mien serve":
        return ""
    words = shlex.split(line)
    if words[0] == "mien" and not re.search(r"[|<>&;$`]", line):
        expanded = [name for word in words[1:] for name in (_matching(word) if "*" in word else [word])]
        ran = command(*expanded)
        code, out, err = ran.code, ran.out, ran.err
    else:
        shell = ["bash", "-euo", "pipefail", "-c", line]
        done = subprocess.run(shell, capture_output=True, text=True, check=False, timeout=300)
        code, out, err = done.returncode, done.stdout, done.stderr
    assert code == 0, f"{block.place}: {line}\n{out[-1000:]}\n{err[-2000:]}"
    return out


def _matching(pattern: str) -> list[str]:
    return sorted(map(str, Path().glob(pattern)))


@contextlib.contextmanager
def _server() -> Iterator[str]:
    """`mien serve` on a free port, ready to answer; gives its address."""
    pytest.importorskip("fastapi")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    serving = subprocess.Popen(
        [sys.executable, "-m", "mien", "serve", "--port", address.rpartition(":")[2]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(f"http://{address}/ready").close()
                break
            assert serving.poll() is None, "mien serve ended"
            time.sleep(0.2)
        yield address
    finally:
        serving.terminate()
        serving.wait(60)


def _same(printed: str, block: Block) -> None:
    """What a page shows is what was printed, word for word, numbers within a twentieth (or 0.05)."""
    shown, found = block.code.split(), printed.split()
    assert len(shown) == len(found), f"{block.place}: the block above printed\n{printed}"
    for word, other in zip(shown, found, strict=True):
        try:
            value, actual = float(word.rstrip(",%")), float(other.rstrip(",%"))
        except ValueError:
            assert word == other, f"{block.place}: '{word}', but the block above printed '{other}'"
        else:
            assert actual == pytest.approx(value, rel=0.05, abs=0.05), (
                f"{block.place}: {word}, printed {other}"
            )


def _check(block: Block) -> None:
    """What is not run must at least be possible: names that exist, commands that are accepted."""
    assert len(block.note) > len("not run: ") + 3, f"{block.place}: say why it is not run"
    if block.language == "sh":
        for line in commands(block.code):
            _accepted(line, block.place)
        return
    for node in ast.walk(ast.parse(block.code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mien":
            home = import_module(node.module or "")
            for alias in node.names:
                if not hasattr(home, alias.name):
                    import_module(f"{node.module}.{alias.name}")


def _accepted(line: str, place: str) -> None:
    """Parse a `mien` command's words as the command line would, without calling it."""
    import typer

    from mien.cli.main import app

    usage_error = typer.BadParameter.__mro__[1]  # of the click that typer carries or uses
    words = shlex.split(line)
    if "mien" not in words:
        return
    words = words[words.index("mien") + 1 :]
    words = words[: next((i for i, word in enumerate(words) if word in ("|", ">", "&")), len(words))]
    found: Any = typer.main.get_command(app)
    with contextlib.suppress(typer.Exit):  # --help and --version
        while hasattr(found, "get_command") and not (words and words[0].startswith("--")):
            name = words.pop(0) if words else ""
            found = found.get_command(None, name)
            if found is None:
                pytest.fail(f"{place}: {line}\nis not accepted: no command '{name}'")
        try:
            found.make_context("mien", words)
        except usage_error as problem:
            pytest.fail(f"{place}: {line}\nis not accepted: {problem}")


def test_blocks_and_their_notes_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "text\n\n<!-- not run: needs a dataset -->\n```sh\nmien train a.yaml \\\n  --resume  # a comment\n```\n\n"
        "```python\nprint(1)\n```\n",
        encoding="utf-8",
    )
    first, second = blocks(page)
    assert (first.language, first.skipped, first.place) == ("sh", True, "page.md:4")
    assert commands(first.code) == ["mien train a.yaml    --resume"]
    assert (second.language, second.code, second.skipped) == ("python", "print(1)", False)


def test_a_command_that_does_not_exist_is_noticed() -> None:
    _accepted("mien predict photos/ --out table.csv", "here")
    _accepted("torchrun --nproc-per-node=2 -m mien train configs/tiny.yaml", "here")
    for wrong in ("mien predict --ouch x", "mien perdict x", "mien train", "mien data chek x"):
        with pytest.raises(pytest.fail.Exception, match="is not accepted"):
            _accepted(wrong, "here")


def test_readme_begins_with_what_a_newcomer_needs() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    screen = "\n".join(lines[:32])
    assert re.search(r"^\*\*.+\*\*$", screen, re.MULTILINE), "one sentence"
    picture = re.search(r"!\[.{20,}\]\((.+)\)", screen)
    assert picture is not None
    assert (ROOT / picture.group(1)).is_file()
    python, shell, setting_up = (block for block in blocks(ROOT / "README.md")[:3])
    assert python.language == "python"
    assert len([line for line in python.code.splitlines() if line]) <= 3
    assert len(commands(shell.code)) == 1
    assert [line.split("#")[0].strip() for line in setting_up.code.splitlines()] == ["make demo", "make test"]
