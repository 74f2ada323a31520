"""Pages ask for nothing over the network, escape what they are given, and can be read aloud."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from mien.io import pages


@pytest.fixture
def written(tmp_path: Path):
    """A function from a template's text and its values to the page."""

    def write(text: str, name: str = "page.html", **values: object) -> str:
        template = tmp_path / f"{len(list(tmp_path.iterdir()))}-{name}"
        template.write_text(text, encoding="utf-8")
        return pages.render(template, "train", **values)

    return write


def test_a_page_is_whole_and_asks_for_nothing(written) -> None:
    page = written('{% extends "page.html" %}', title="<b> & co")
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "<title>&lt;b&gt; &amp; co</title>" in page
    assert not re.search(r"https?://|src=|@import|url\(", page)


def test_a_table_has_a_caption_and_header_cells_and_escapes_its_cells(written) -> None:
    text = '{% import "parts.html" as parts %}{{ parts.table(caption, header, rows, text=(1,), apart=(2,)) }}'
    table = written(text, caption="a < b", header=("name", "note", "n"), rows=[("<i>x</i>", "y", "1")])
    assert "<caption>a &lt; b</caption>" in table
    assert table.count('scope="col"') == 3
    assert '<th scope="row">&lt;i&gt;x&lt;/i&gt;</th>' in table
    assert '<td class="text">y</td>' in table
    assert '<td class="apart">1</td>' in table


def test_an_interval_stands_below_its_value() -> None:
    assert pages.interval("79.4 ± 1.8 (76.7 to 81.8)") == (
        '<span class="n">79.4 ± 1.8</span><br><small class="n">76.7 to 81.8</small>'
    )
    assert pages.interval("<none>") == "&lt;none&gt;"


def test_small_pieces_escape_names_and_hide_the_bar_from_screen_readers(written) -> None:
    text = '{% import "parts.html" as parts %}'
    facts = written(text + "{{ parts.facts(pairs) }}", pairs=[("a&b", "<b>")])
    assert "<dt>a&amp;b</dt><dd>&lt;b&gt;</dd>" in facts
    meter = written(text + "{{ parts.meter(0.5) }}")
    assert 'aria-hidden="true"' in meter
    assert "width:50.0%" in meter


def test_a_template_uses_no_other_variable_than_it_is_given(written) -> None:
    with pytest.raises(UndefinedError):
        written("{{ missing }}", "page.md")
