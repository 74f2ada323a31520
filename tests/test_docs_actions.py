"""The table of actions in the guide is the card's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent


def test_the_table_of_actions_is_the_cards(load_script: Callable[[Path], ModuleType]) -> None:
    script = load_script(ROOT / "scripts" / "action_table.py")
    text = script.PAGE.read_text(encoding="utf-8")
    assert script.filled(text) == text, "docs/actions.md is stale: run  python scripts/action_table.py"
    assert "mouthSmileLeft" in text


def test_every_action_in_the_table_has_its_picture(load_script: Callable[[Path], ModuleType]) -> None:
    names = load_script(ROOT / "scripts" / "action_faces.py").names()
    assert {path.stem for path in (ROOT / "docs" / "images" / "actions").glob("*.jpg")} == set(names)
    page = (ROOT / "docs" / "actions.md").read_text(encoding="utf-8")
    assert all(f"images/actions/{name}.jpg" in page for name in names)
