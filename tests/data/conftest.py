"""Miniatures of the datasets' real layouts, written by `tests/data/<set>/make.py`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Miniature = Callable[..., Path]


def maker(name: str) -> ModuleType:
    """The make.py of a dataset."""
    path = Path(__file__).parent / name / "make.py"
    spec = importlib.util.spec_from_file_location(f"make_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def miniature(tmp_path: Path) -> Miniature:
    """Write a miniature and return its folder: `miniature("rafdb", "nested")`."""

    def write(name: str, variant: str = "") -> Path:
        root = tmp_path / f"{name}-{variant or 'default'}"
        maker(name).make(root, *([variant] if variant else []))
        return root

    return write


@pytest.fixture
def making() -> Callable[[str], ModuleType]:
    """The make.py module of a dataset, for its constants."""
    return maker
