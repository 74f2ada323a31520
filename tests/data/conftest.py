"""Miniatures of the datasets' real layouts, written by `tests/data/<set>/make.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Miniature = Callable[..., Path]


@pytest.fixture
def making(load_script: Callable[[Path], ModuleType]) -> Callable[[str], ModuleType]:
    """The make.py module of a dataset, for its constants."""
    return lambda name: load_script(Path(__file__).parent / name / "make.py")


@pytest.fixture
def miniature(tmp_path: Path, making: Callable[[str], ModuleType]) -> Miniature:
    """Write a miniature and return its folder: `miniature("rafdb", "nested")`."""

    def write(name: str, variant: str = "") -> Path:
        root = tmp_path / f"{name}-{variant or 'default'}"
        making(name).make(root, *([variant] if variant else []))
        return root

    return write
