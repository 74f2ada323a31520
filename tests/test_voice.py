"""Docstrings, comments and messages are in plain present-day English: they use none of a list of words."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "mien"
DONE = ("", "io", "video", "editing", "batch", "server")
"""Folders that keep to it; "" is the modules beside them."""

WORDS = re.compile(
    r"\b(albeit|amongst|aught|betwixt|gleams?|hence|here(in|by)|hitherto|lack(s|ing)?|mend(s|ed)?|naught|nigh|oft|shall"
    r"|somebody|there(by|in|of)|[wt]hence|[wt]hither|unto|upon|where(by|in|of)|whilst|whoever|whom|whose)\b",
    re.IGNORECASE,
)
"""Archaic or poetic; each has a plain word ("fix", "misses", "while", "so far", "if", "with its", ...)."""

CODE = re.compile(r"`[^`]*`|https?://\S+")


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """Docstrings, comments and strings of more than one word, with their lines; names in backticks are code."""
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield node.lineno, CODE.sub("", node.value)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], CODE.sub("", token.string)


def found(path: Path) -> list[str]:
    """Where a file uses a word of the list."""
    return [
        f"{path.name}:{line}: {match[0]}" for line, text in sentences(path) for match in WORDS.finditer(text)
    ]


@pytest.mark.parametrize("folder", DONE)
def test_words_that_we_do_not_use(folder: str) -> None:
    paths = sorted((SOURCE / folder).glob("*.py"))
    assert paths
    assert [place for path in paths for place in found(path)] == []


def test_the_words_are_found(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        '"""What shall be."""\n\nlacking = "whence"  # mend it\nraise ValueError(f"{lacking} lacks `whilst`")\n',
        encoding="utf-8",
    )
    assert found(path) == ["module.py:1: shall", "module.py:4: lacks", "module.py:3: mend"]
