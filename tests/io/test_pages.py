"""Pages ask for nothing over the network, escape what they are given, and can be read aloud."""

from __future__ import annotations

import re

from mien.io import pages


def test_a_page_is_whole_and_asks_for_nothing() -> None:
    page = pages.document("<b> & co", ["<p>text</p>"])
    assert page.startswith("<!doctype html>")
    assert "<title>&lt;b&gt; &amp; co</title>" in page
    assert not re.search(r"https?://|src=|@import|url\(", page)
    assert pages.WIDE not in page
    assert pages.WIDE in pages.document("t", [], wide=True)


def test_a_table_has_a_caption_and_header_cells() -> None:
    table = pages.table("a < b", ("name", "note", "n"), [("<i>x</i>", "y", "1")], text=(1,), apart=(2,))
    assert "<caption>a &lt; b</caption>" in table
    assert table.count('scope="col"') == 3
    assert '<th scope="row"><i>x</i></th>' in table  # cells are trusted markup
    assert '<td class="text">y</td>' in table
    assert '<td class="apart">1</td>' in table


def test_an_interval_stands_below_its_value() -> None:
    assert pages.interval("79.4 ± 1.8 (76.7 to 81.8)") == (
        '<span class="n">79.4 ± 1.8</span><br><small class="n">76.7 to 81.8</small>'
    )
    assert pages.interval("<none>") == "&lt;none&gt;"


def test_small_pieces_escape_names_and_hide_the_bar_from_screen_readers() -> None:
    assert pages.facts([("a&b", "<b>1</b>")]) == '<dl class="facts"><dt>a&amp;b</dt><dd><b>1</b></dd></dl>'
    assert 'aria-hidden="true"' in pages.meter(0.5)
    assert "width:50.0%" in pages.meter(0.5)
    assert pages.figure("<svg/>", "a < b") == "<figure><svg/><figcaption>a &lt; b</figcaption></figure>"
