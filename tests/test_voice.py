"""Docstrings, comments, messages and pages are in plain present-day English, without the words of a list."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "mien"
FOLDERS = ("", *sorted(path.name for path in SOURCE.iterdir() if (path / "__init__.py").is_file()))
"""Of the package; "" is the modules beside them."""

PAGES = (
    *sorted(path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(path for path in SOURCE.rglob("*") if path.suffix in {".html", ".js", ".md"}),
)
"""What people read beside the code, except the changelog, where old entries stay as they were."""

WORDS = re.compile(
    r"\b(albeit|amongst|anew|aught|betwixt|gleams?|hence|here(in|by)|hitherto|is\s+said|knocks?|lack(s|ing)?"
    r"|mend(s|ed)?|naught|nigh|oft|shall|somebody|there(by|in|of)|torn|unasked|[wt]hence|[wt]hither|unto|upon"
    r"|vouch(es)?|where(by|in|of)|whilst|whoever|whom|whose)\b"
    r"|\bas\s+one\s+likes\b|\bat\s+(its|their)\s+full(est)?\b|\bcan\s+bear\b|\bfor\s+want\s+of\b|\bnone\s+but\b"
    r"|\bpassed\s+over\b|\bso\s+many-th\b|\band\s+(the|its|their)\s+like\b|\b(whole|all)\s+or\s+not\s+at\s+all\b"
    r"|\b(cases|crops|faces|files|frames|images|MB|minutes|ms|photos|pictures|pixels|places|portraits|requests|rows|steps)\s+an?\s+"
    r"(class|crop|epoch|face|frame|label|line|minute|person|photo|picture|process|processor|run|second|seed|side|step)\b",
    re.IGNORECASE,
)
"""Archaic, poetic or riddling; each has a plain word ("fix", "misses", "while", "so far", "if", "with its", "again",
"per second" ...)."""

CODE = re.compile(r"^ *```.*?^ *```|`[^`]*`|https?://\S+", re.DOTALL | re.MULTILINE)


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """Docstrings, comments and strings with a space, with their lines; names in backticks are code."""
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, CODE.sub("", node.value)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], CODE.sub("", token.string)


def found(path: Path) -> list[str]:
    """Where a file uses a word of the list."""
    return [
        f"{path.name}:{line}: {match[0]}" for line, text in sentences(path) for match in WORDS.finditer(text)
    ]


def ids(path: Path) -> str:
    """Name of a test of a file."""
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("folder", FOLDERS)
def test_code_uses_none_of_the_words(folder: str) -> None:
    paths = (SOURCE / folder).rglob("*.py") if folder else SOURCE.glob("*.py")
    assert [place for path in sorted(paths) for place in found(path)] == []


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").glob("*.py")), ids=ids)
def test_scripts_use_none_of_the_words(path: Path) -> None:
    assert found(path) == []


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_pages_use_none_of_the_words(path: Path) -> None:
    text = CODE.sub("", path.read_text(encoding="utf-8"))
    assert [text[max(0, match.start() - 40) : match.end() + 40] for match in WORDS.finditer(text)] == []


def test_the_words_are_found(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        '"""What shall be."""\n\nlacking = "whence"  # mend it\nraise ValueError(f"{lacking} lacks `whilst`")\n'
        'rate = "3 faces a second, 2 per face"\n',
        encoding="utf-8",
    )
    assert found(path) == [
        "module.py:1: shall",
        "module.py:5: faces a second",
        "module.py:4: lacks",
        "module.py:3: mend",
    ]
