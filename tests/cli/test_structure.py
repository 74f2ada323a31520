"""Commands parse, call and print: none of their functions is long or branched, and each module is tested somewhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
CLI = ROOT / "src" / "mien" / "cli"
MODULES = sorted(path for path in CLI.glob("*.py") if path.stem != "__init__")
LONGEST = 40
"""Lines that a function may have, from the first statement after its docstring to the last; a signature is not counted,
as it is a command's list of options."""


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_lines_are_counted_without_signature_and_docstring() -> None:
    text = 'def f(\n    a,\n):\n    """Says.\n\n    More.\n    """\n    a = 1\n\n    return (\n        a\n    )\n'
    (function,) = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef)
    assert body_lines(function) == 5


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_function_of_a_command_is_long(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    too_long = {node.name: lines for node in functions if (lines := body_lines(node)) > LONGEST}
    assert not too_long


def test_no_function_of_a_command_is_complex() -> None:
    ruff = [sys.executable, "-m", "ruff", "check", "--no-cache", "--ignore-noqa", "--select", "C901"]
    ran = subprocess.run(
        [*ruff, "--config", "lint.mccabe.max-complexity=10", str(CLI)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_module_has_its_tests_or_the_readme_says_where(path: Path) -> None:
    if (Path(__file__).parent / f"test_{path.stem}.py").is_file():
        return
    readme = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    line = re.search(rf"^- `{path.stem}`: (.*)$", readme, re.MULTILINE)
    assert line is not None, f"tests/cli/README.md has no line for {path.stem}"
    files = re.findall(r"`([^`]+)`", line[1])
    assert files
    assert all((ROOT / name).is_file() for name in files)
