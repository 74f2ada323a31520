"""Tables and Markdown as plain text that fits."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mien.cli import plain_text

ROOT = Path(__file__).parent.parent.parent
HEADER, ROWS = ("run", "epochs", "accuracy"), [("a", "12/12", "0.9"), ("longer", "1/12", "-")]


def test_a_narrow_table_has_aligned_columns() -> None:
    assert plain_text.table(HEADER, ROWS, 40).splitlines() == [
        "run     epochs  accuracy",
        "------  ------  --------",
        "a        12/12       0.9",
        "longer    1/12         -",
    ]


def test_a_wide_table_has_a_block_for_each_row() -> None:
    assert plain_text.table(HEADER, ROWS, 20).splitlines() == [
        "run: a",
        "  epochs    12/12",
        "  accuracy  0.9",
        "run: longer",
        "  epochs  1/12",
    ]


def test_no_row_leaves_the_header() -> None:
    assert plain_text.table(HEADER, []) == "run  epochs  accuracy"


def test_wide_letters_count_as_two() -> None:
    table = plain_text.table(("name", "n"), [("喜び", "1"), ("a", "22")], 40)
    assert table.splitlines()[2:] == ["喜び   1", "a     22"]


def test_the_last_column_of_a_list_is_wrapped_in_its_place() -> None:
    assert plain_text.listed([("a", "one two three"), ("bcd", "four")], 14).splitlines() == [
        "a    one two",
        "     three",
        "bcd  four",
    ]


def test_markdown_keeps_its_words_and_escaped_bars() -> None:
    text = "# A title\n\n| a | b |\n|---|---:|\n| x \\| y | 2 |\n\n- a note of many words\n"
    assert plain_text.of_markdown(text, 16).splitlines() == [
        "# A title",
        "",
        "a      b",
        "-----  -",
        "x | y  2",
        "",
        "- a note of many",
        "  words",
    ]


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs" / "reports").glob("*/comparison.md")), ids=lambda path: path.parent.name
)
def test_comparisons_fit_eighty_columns_whole(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    printed = plain_text.of_markdown(text, 80)
    assert max(map(len, printed.splitlines())) <= 80
    lines = text.splitlines()
    # Not the headings: a column of dashes is left out.
    body = [line for line, below in pairwise(lines) if line[:2] == "| " and below[:2] != "|-"]
    cells = [cell for line in body for cell in plain_text._cells(line)]
    words = {*printed.split(), "–"}  # a dash is left out
    assert [
        word for cell in cells for word in cell.split() if word not in words and word + ":" not in words
    ] == []


@pytest.mark.parametrize(
    "words",
    [
        ("methods",),
        ("columns", "--video"),
        ("columns", "openface"),
        ("data", "list"),
        ("licences",),
        ("runs",),
        ("compare", "--ledger"),
    ],
    ids=" ".join,
)
def test_what_commands_list_fits_eighty_columns_in_a_pipe(
    words: tuple[str, ...], command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    ran = command(*words)
    assert ran.code == 0
    assert [line for line in ran.out.splitlines() if len(line) > 80] == []


def test_faces_fit_eighty_columns_in_a_pipe(
    command: Any, examples: Path, recogniser_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    ran = command("predict", examples, "--weights", recogniser_file)
    assert ran.code == 0
    assert "valence" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
