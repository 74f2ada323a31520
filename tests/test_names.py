"""One class name means one thing, and a module is imported under its own name."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "mien"
TREES = {
    path.relative_to(SOURCE): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(SOURCE.rglob("*.py"))
}


def is_module(name: str) -> bool:
    """Whether a dotted name is a module or folder of the package."""
    path = SOURCE.joinpath(*name.split(".")[1:])
    return name.startswith("mien.") and (path.is_dir() or path.with_suffix(".py").is_file())


def aliases(tree: ast.AST) -> list[str]:
    """Modules of the package that are imported under another name."""
    renamed = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = [(f"{node.module}.{alias.name}", alias) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [(alias.name, alias) for alias in node.names]
        else:
            continue
        renamed += [
            f"{full} as {alias.asname}"
            for full, alias in names
            if alias.asname and alias.asname != full.rsplit(".", 1)[-1] and is_module(full)
        ]
    return renamed


def test_a_class_name_is_used_once() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path}:{node.lineno}")
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert twice == {}


def test_modules_are_imported_under_their_own_names() -> None:
    found = [f"{path}: {name}" for path, tree in TREES.items() for name in aliases(tree)]
    assert found == []


def test_an_alias_is_found() -> None:
    code = (
        "from mien.evaluation import intervals as bootstrap\nfrom mien.io import atomic\nimport numpy as np\n"
    )
    assert aliases(ast.parse(code)) == ["mien.evaluation.intervals as bootstrap"]
