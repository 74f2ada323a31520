"""The table of actions in the guide is the card's."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_table_of_actions_is_the_cards() -> None:
    spec = importlib.util.spec_from_file_location("action_table", ROOT / "scripts" / "action_table.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = script.PAGE.read_text(encoding="utf-8")
    assert script.filled(text) == text, "docs/actions.md is stale: run  python scripts/action_table.py"
    assert "mouthSmileLeft" in text
