"""The picture of the architecture is that of the code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("tomllib", reason="needs Python 3.11")
pytest.importorskip("grimp", reason="needs import-linter")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def architecture(load_script: Callable[[Path], ModuleType]) -> ModuleType:
    """`scripts/architecture.py`."""
    return load_script(ROOT / "scripts" / "architecture.py")


def test_the_picture_shows_the_imports(architecture: ModuleType) -> None:
    stored = architecture.PICTURE.read_text(encoding="utf-8")
    assert stored == architecture.picture(), "docs/images/architecture.svg is stale: run  make figures"
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert "](images/architecture.svg)" in page


def test_every_folder_is_drawn_in_its_half(architecture: ModuleType) -> None:
    layers, core, _ = architecture.contracts()
    drawn = [name for layer in layers for name in layer]
    folders = {path.parent.name for path in (ROOT / "src" / "mien").glob("*/__init__.py")}
    assert set(drawn) == folders
    assert len(drawn) == len(set(drawn))
    assert core == {"io", "faces", "video", "editing", "batch", "server", "web"}


def test_no_arrow_leads_from_the_core_to_the_lab(architecture: ModuleType) -> None:
    layers, core, tolerated = architecture.contracts()
    found = architecture.imports({name for layer in layers for name in layer}, tolerated)
    assert found["faces"] == {"io"}
    assert {other for one in core for other in found[one]} <= core


def test_what_follows_from_other_arrows_is_left_out(architecture: ModuleType) -> None:
    found = {"c": {"b", "a"}, "b": {"a"}, "a": set(), "d": {"a"}}
    assert architecture.arrows(found) == [("b", "a"), ("c", "b"), ("d", "a")]
