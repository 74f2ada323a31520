"""How much of our code one reads to read a method: the files that its imports lead to, and their lines.

Follows the imports of `mien` that stand outside functions, annotations' included, from `methods/<paper>.py` on. What
a function imports when it is called, such as the encoder of a name, stays behind that call.

    python scripts/method_pages.py

prints a line for each paper; a test holds all of them to `FILES` and `LINES`.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1] / "src"
PAPERS = ("ke2nt", "jadfer", "cclls", "cal", "meca")
FILES, LINES = 5, 900


def imported(path: Path) -> set[Path]:
    """The files of ours that a module imports outside its functions."""
    found = set()
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        todo += ast.iter_child_nodes(node)
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "mien":
                both = (
                    ROOT.joinpath(*parts).with_suffix(".py"),
                    ROOT.joinpath(*parts[:-1]).with_suffix(".py"),
                )
                found |= {one for one in both if one.is_file()}
    return found


def page(paper: str) -> dict[str, int]:
    """The files that a method's page of code is made of, the method's own first, and the lines of each."""
    order = [ROOT / "mien" / "methods" / f"{paper}.py"]
    for path in order:
        order += sorted(imported(path) - set(order))
    return {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in order}


def main() -> None:
    """Print the pages."""
    for paper in PAPERS:
        files = page(paper)
        parts = ", ".join(f"{name.removeprefix('mien/')} {lines}" for name, lines in files.items())
        print(f"{paper}: {len(files)} files, {sum(files.values())} lines ({parts})")


if __name__ == "__main__":
    main()
