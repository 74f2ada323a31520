"""Every module has its test file, or its docstring or that of its folder names the file that tests it.

A module `mien/<folder>/<name>.py` is tested in `test_<name>.py` in a folder of the same name, or in `tests/` itself if
no other module has that name, or in `test_<folder>_<name>.py` anywhere. Else a paragraph of a docstring that begins
with "Tests" says where: "Tests: `name` in tests/.../test_other.py".
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "mien"
MODULES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py") if not path.stem.startswith("__"))
FILES = {path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}


def paragraph(path: Path) -> str:
    """The paragraph of a module's docstring that begins with "Tests"."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return next((part for part in text.split("\n\n") if part.startswith("Tests")), "")


def has_its_file(module: Path) -> bool:
    """Whether there is a test file of the module's name where it belongs."""
    folder, name = module.parent, module.stem
    others = [other for other in MODULES if other.stem == name and other.parent.name != "cli"]
    alone = module.parent.name == "cli" or others == [module]  # commands are tested with what they call
    return any(
        (file.stem == f"test_{name}" and (file.parent.name in folder.parts or file.parent == folder))
        or (file.stem == f"test_{name}" and file.parent == Path() and alone)
        or (file.stem == f"test_{folder.name}_{name}" and folder.parts)
        for file in FILES
    )


def is_named(module: Path) -> bool:
    """Whether a docstring says where the module is tested."""
    own, folder = paragraph(SOURCE / module), paragraph(SOURCE / module.parent / "__init__.py")
    return bool(own) or f"`{module.stem}`" in folder


def test_every_module_is_tested_where_one_looks_for_it() -> None:
    lost = {str(module) for module in MODULES if not has_its_file(module) and not is_named(module)}
    assert lost == set(), "no test file, and no docstring that names one"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_the_files_that_docstrings_name_exist(path: Path) -> None:
    said = paragraph(path)
    if not said:
        return
    named = re.findall(r"tests/[\w/]+\.py", said)
    assert named, f"{path}: the paragraph names no file"
    assert [name for name in named if not (ROOT / name).is_file()] == []
    if path.stem == "__init__":
        modules = {one.stem for one in path.parent.iterdir()}
        assert set(re.findall(r"`(\w+)`", said)) <= modules
