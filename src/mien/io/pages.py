"""Render pages from Jinja2 templates: self-contained HTML with styles for light, dark and print, and Markdown.

A page loads nothing over the network: styles and pictures are embedded. Tables have captions and header cells, pictures
have a text description, and colour is never the only cue. `templates/` beside this module holds the shared parts:
`page.html` to extend, `parts.html` and `parts.md` to import from.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mien.errors import ExtraMissing

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

FAINT: Final = "#8A8D93"
"""Colour of grids, reference lines and secondary text; readable on light and dark backgrounds."""


def render(template: Path, extra: str, **values: Any) -> str:
    """Render a template with its values. In an `.html` template all text that is not `Markup` is escaped.

    Args:
        template: the file; it may extend and import templates beside it and the shared ones.
        extra: the extra of `mien` that includes Jinja2, named in the error if that is not installed.
        values: the template's variables; using any other is an error.

    Raises:
        ExtraMissing: Jinja2 is not installed.
    """
    try:
        page = _environment(template.parent).get_template(template.name)
    except ModuleNotFoundError as missing:
        raise ExtraMissing(extra, missing.name or "jinja2") from None
    return page.render(values)


@cache
def _environment(folder: Path) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    found = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent / "templates"]),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["interval"] = interval
    return found


def interval(cell: str) -> Markup:
    """Markup of a cell's text; "79.4 ± 1.8 (76.7 to 81.8)" is put on two lines, with the interval in small type."""
    from markupsafe import Markup, escape

    found = re.fullmatch(r"(.+?) \((\S+ to \S+)\)", cell)
    if found is None:
        return escape(cell)
    return Markup('<span class="n">{}</span><br><small class="n">{}</small>').format(*found.groups())
