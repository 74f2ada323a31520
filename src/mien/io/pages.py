"""Pages from Jinja2 templates: HTML that stands alone, with styles for light, dark and paper, and Markdown.

A page made here asks for nothing over the network: styles and pictures stand inside it. Tables have captions and
header cells, pictures have a description in words, and colour is never the only sign. `templates/` beside this module
holds what pages share: `page.html` to extend, `parts.html` and `parts.md` to import from.
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
"""Grid, reference lines and second-rank text; readable on light and dark paper."""


def render(template: Path, extra: str, **values: Any) -> str:
    """A page from a template and what it shows. In an `.html` template every text is escaped that is not markup.

    Args:
        template: the file; it may extend and import those beside it, and those that all pages share.
        extra: the extra of `mien` that the page belongs to, named where Jinja2 is not installed.
        values: the template's variables; it may use each of them, and no other.

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
    """Markup of a cell's text; "79.4 ± 1.8 (76.7 to 81.8)" stands on two lines, its interval small."""
    from markupsafe import Markup, escape

    found = re.fullmatch(r"(.+?) \((\S+ to \S+)\)", cell)
    if found is None:
        return escape(cell)
    return Markup('<span class="n">{}</span><br><small class="n">{}</small>').format(*found.groups())
