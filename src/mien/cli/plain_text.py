"""Tables and Markdown as plain text no wider than the terminal, or than 80 columns in a pipe or file."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from mien.io.lettering import cells

GAP = "  "
"""Between two columns."""


def room() -> int:
    """The columns that printed lines may take: those of the terminal; COLUMNS, or else 80, in a pipe or file."""
    return shutil.get_terminal_size().columns


def hanging(text: str, indent: int = 4, first: str = "", width: int | None = None) -> str:
    """A text wrapped at `width` (None: `room()`).

    `first` stands before its first line, `indent` spaces before the others. Words longer than a line, such
    as paths, stay whole.
    """
    return textwrap.fill(
        text,
        width or room(),
        initial_indent=first,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def listed(rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Rows in aligned columns without a header, the last of which is wrapped within its column."""
    wide = [max(cells(cell) for cell in column) for column in zip(*(row[:-1] for row in rows), strict=True)]
    indent = sum(wide) + len(GAP) * len(wide)
    lines = []
    for row in rows:
        first = "".join(_padded(cell, size) + GAP for cell, size in zip(row[:-1], wide, strict=True))
        lines.append(hanging(row[-1], indent, first, width) if row[-1] else first.rstrip())
    return "\n".join(lines)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """A table in aligned columns if it fits in `width` (None: `room()`), else each row as a block of names and values.

    Args:
        header: the names of the columns.
        rows: as many cells each.
        width: in characters.
    """
    width = width or room()
    if not rows:
        return GAP.join(header)
    wide = [max(cells(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    if sum(wide) + len(GAP) * (len(wide) - 1) > width:
        return "\n".join(_block(header, row, width) for row in rows)
    right = [all(_NUMBER.match(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = (
        GAP.join(_padded(cell, size, end) for cell, size, end in zip(row, wide, right, strict=True))
        for row in (header, ["-" * size for size in wide], *rows)
    )
    return "\n".join(line.rstrip() for line in lines)


_NONE: Final = ("", "-", "–")

_NUMBER: Final = re.compile(r"[-+]?\d|[-–]?$")
"""Begins the cells of a column that is aligned to the right."""


def _padded(text: str, size: int, right: bool = False) -> str:
    space = " " * (size - cells(text))
    return space + text if right else text + space


def _block(header: Sequence[str], row: Sequence[str], width: int) -> str:
    """The first cell, and below it the names and values of the others, but for those that are empty or a dash.

    Cells of columns without a name stand beside the first.
    """
    others = [(name, cell) for name, cell in zip(header[1:], row[1:], strict=True) if cell not in _NONE]
    first = f"{header[0]}: {row[0]}" if header[0] else row[0]
    title = hanging(", ".join([first, *(cell for name, cell in others if not name)]), width=width)
    named = [(f"  {name}", cell) for name, cell in others if name]
    return "\n".join([title, listed(named, width)] if named else [title])


def of_markdown(text: str, width: int | None = None) -> str:
    """Markdown with its tables as `table` and its paragraphs and lists wrapped; the rest stays as it is."""
    width = width or room()
    parts: list[str] = []
    for is_table, lines in groupby(text.splitlines(), lambda line: line.startswith("|")):
        if is_table:
            header, _, *rows = map(_cells, lines)
            parts.append(table(header, rows, width))
        else:
            parts += _prose(lines, width)
    return "\n".join(parts)


def _cells(line: str) -> list[str]:
    """The cells of a line of a Markdown table."""
    found = re.split(r"(?<!\\)\|", line.strip()[1:].removesuffix("|"))
    return [cell.strip().replace("\\|", "|") for cell in found]


def _prose(lines: Iterator[str], width: int) -> Iterator[str]:
    for line in lines:
        indent = 2 if line.startswith("- ") else 0
        yield line if len(line) <= width else hanging(line, indent, width=width)
