"""Counts and numbers in sentences: right plurals, no negative zero, one home for both."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mien.wording import fixed, several, signed

SOURCES = sorted((Path(__file__).parent.parent / "src" / "mien").rglob("*.py"))


def test_counts_have_their_word() -> None:
    assert [several(n, "frame") for n in (0, 1, 2, 1234)] == [
        "0 frames",
        "1 frame",
        "2 frames",
        "1,234 frames",
    ]
    assert [several(n, "person", "people") for n in (1, 2)] == ["1 person", "2 people"]


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [(-0.004, 2, "+0.00"), (-0.0, 2, "+0.00"), (-0.006, 2, "-0.01"), (0.714, 2, "+0.71"), (-0.04, 1, "+0.0"),
     (None, 2, "-"), (float("nan"), 2, "-")],
)  # fmt: skip
def test_signs(value: float | None, digits: int, expected: str) -> None:
    assert signed(value, digits) == expected
    if expected not in ("-",) and value is not None:
        assert fixed(value, digits) == expected.removeprefix("+")


def test_no_sign_is_printed_but_by_signed() -> None:
    """A `:+.2f` of its own would print -0.00."""
    signs = {path.name for path in SOURCES if re.search(r":[<>]?\+\d*\.", path.read_text(encoding="utf-8"))}
    assert signs == {"wording.py"}
