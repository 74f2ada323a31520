"""Label names are drawn in a font that has their letters, cut where too long, else as a number."""

from __future__ import annotations

import pytest

from mien.io import lettering


def test_plain_names_use_pillows_own_font() -> None:
    assert lettering.font_file("happiness") == ""
    assert lettering.shown("happiness", ["neutral", "happiness"]) == "happiness"


def test_long_names_are_cut() -> None:
    assert lettering.short("a" * 24) == "a" * 24
    cut = lettering.short("a name that is longer than what fits")
    assert len(cut) <= lettering.LONGEST
    assert cut.endswith("…")


def test_a_name_without_a_font_is_drawn_as_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "font_file", lambda words: "" if words.isascii() else None)
    labels = ["calm", "\U000110d0\U000110d1", "angry"]
    assert lettering.shown(labels[1], labels) == "#1"
    assert lettering.numbered(labels) == {labels[1]: "#1"}


@pytest.mark.parametrize(("text", "columns"), [("abc", 3), ("喜び", 4), ("e\u0301", 1), ("a\u200db", 2)])
def test_columns_of_a_terminal(text: str, columns: int) -> None:
    assert lettering.cells(text) == columns
