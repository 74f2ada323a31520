"""The home page shows an analysis, an edit and a video, and a script makes them from the bundled photographs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import mien
from mien.io import images

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def script(load_script: Callable[[Path], ModuleType]) -> ModuleType:
    pytest.importorskip("av")
    return load_script(ROOT / "scripts" / "home_pictures.py")


def test_the_home_page_shows_the_three_pictures_with_a_description(script: ModuleType) -> None:
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"!\[([^]]{40,})\]\((images/home/[^)]+)\)", text))
    assert sorted(shown.values()) == [f"images/home/{name}.jpg" for name in ("analysis", "edit", "video")]
    assert all((ROOT / "docs" / path).is_file() for path in shown.values())


@pytest.mark.parametrize("name", ["analysis", "group"])
def test_the_stored_analyses_are_what_the_script_draws_now(script: ModuleType, name: str) -> None:
    drawn = getattr(script, name)(mien.load(threads=1)).astype(float)
    folder = script.TUTORIALS if name == "group" else script.PICTURES
    stored = images.read(folder / f"{name}.jpg").astype(float)
    assert stored.shape == drawn.shape
    assert np.abs(stored - drawn).mean() < 4, "run  python scripts/home_pictures.py"
