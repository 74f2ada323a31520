"""Fills in the tables of actions and of intensity in `docs/actions.md` from the card of the weights.

    python scripts/action_table.py           # writes what has changed
    python scripts/action_table.py --check   # only says whether it differs, and exits with 1

Tests: tests/test_docs_actions.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mien.actions import ACTIONS, UNITS, other_side

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "actions.md"
CARD = ROOT / "src" / "mien" / "weights" / "actions.json"
ACTIONS_AT = "<!-- actions -->", "<!-- end of actions -->"
INTENSITY_AT = "<!-- intensity -->", "<!-- end of intensity -->"


def table(stated: dict[str, dict[str, Any]]) -> str:
    """Rows of the actions of a card, the sides of one in one row."""
    rows = [
        "| at 1 | action | measured | with exact values | with the teacher | the teacher with itself | unit |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in ACTIONS:
        sides = (name, other_side(name))
        if sides[0].endswith("Right") and sides[0] != "mouthRight" and sides[0] != "jawRight":
            continue
        paired = name.endswith("Left") and name not in ("mouthLeft", "jawLeft")
        shown = f"`{name.removesuffix('Left')}Left`, `...Right`" if paired else f"`{name}`"
        kept = sides if paired else sides[:1]
        units = [code for code, unit in UNITS.items() if name in (*unit.left, *unit.right, *unit.both)]
        figures = (_mean(stated, kept, kind) for kind in ("rendered", "teacher", "retest"))
        measured = "yes" if stated[name]["measured"] else "no: empty"
        drawn = name.removesuffix("Left") if paired else name
        picture = f"![{drawn}](images/actions/{drawn}.jpg){{ width=120 loading=lazy }}"
        if drawn == "tongueOut":
            picture = ""
        rows.append(f"| {picture} | {shown} | {measured} | {' | '.join(figures)} | {', '.join(units)} |")
    return "\n".join(rows)


def _mean(stated: dict[str, dict[str, Any]], names: tuple[str, ...], kind: str) -> str:
    values = [stated[name][kind] for name in names if stated[name][kind] is not None]
    return f"{sum(values) / len(values):.2f}" if values else ""


def intensity_table(figures: dict[str, Any]) -> str:
    """Spearman's correlation of the intensity with the exact strength, by expression."""
    values = figures["spearman"]
    lines = ["| " + " | ".join(values) + " | at rest, median |", "|---" * (len(values) + 1) + "|"]
    return "\n".join(
        [*lines, "| " + " | ".join(f"{one:.2f}" for one in [*values.values(), figures["neutral"]]) + " |"]
    )


def filled(text: str) -> str:
    """A page with the tables of the card between their marks."""
    card = json.loads(CARD.read_text(encoding="utf-8"))
    for (begin, end), inside in (
        (ACTIONS_AT, table(card["actions"])),
        (INTENSITY_AT, intensity_table(card["intensity"]["figures"])),
    ):
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{inside}\n\n{end}{rest.split(end)[1]}"
    return text


def main() -> int:
    """Write the page, or compare it."""
    text = PAGE.read_text(encoding="utf-8")
    new = filled(text)
    if "--check" in sys.argv[1:]:
        return int(new != text)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
