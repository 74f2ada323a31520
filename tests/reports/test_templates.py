"""Templates: what is text stays text, a page is told everything it shows, and each module of reports is tested."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mien.errors import ExtraMissing
from mien.io import pages

jinja2 = pytest.importorskip("jinja2")

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "src" / "mien"
TEMPLATES = sorted(path for path in PACKAGE.rglob("templates/*") if path.is_file())
SHARED = PACKAGE / "io" / "templates"


def made(folder: Path, text: str, name: str = "page.x.html", **values: object) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return pages.render(folder / name, "figures", **values)


def test_html_escapes_text_and_markdown_does_not(tmp_path: Path) -> None:
    assert made(tmp_path, "<p>{{ a }}</p>", a="<b>&") == "<p>&lt;b&gt;&amp;</p>"
    assert made(tmp_path, "{{ a }}", "page.md", a="<b>&") == "<b>&"


def test_parts_escape_what_they_are_given(tmp_path: Path) -> None:
    text = made(
        tmp_path,
        '{% from "parts.html" import facts, figure, key, table %}'
        "{{ table(x, [x, x], [[x, x]]) }}{{ facts([(x, x)]) }}{{ key([(x, x, x)], x) }}{{ figure('<svg/>', x) }}",
        x='<i>"&',
    )
    assert "<i>" not in text
    assert text.count("&lt;i&gt;&#34;&amp;") == 12
    assert "<svg/>" in text, "a picture is markup"


def test_a_table_marks_its_columns_and_sets_intervals_small(tmp_path: Path) -> None:
    text = made(
        tmp_path,
        '{% from "parts.html" import table %}{{ table("c", heads, rows, text=(1, 2), apart=(2,)) }}',
        heads=["a", "b", "c"],
        rows=[["79.4 ± 1.8 (76.7 to 81.8)", "1 (one)", "z"]],
    )
    assert re.findall(r"<t[hd] [^>]*>", text) == [
        '<th scope="col">', '<th scope="col" class="text">', '<th scope="col" class="text apart">',
        '<th scope="row">', '<td class="text">', '<td class="text apart">',
    ]  # fmt: skip
    assert '<span class="n">79.4 ± 1.8</span><br><small class="n">76.7 to 81.8</small>' in text
    assert '<td class="text">1 (one)</td>' in text


def test_a_cell_of_markdown_ends_no_column(tmp_path: Path) -> None:
    text = made(
        tmp_path,
        '{% from "parts.md" import table %}{{ table(["a", "b|c"], [["1", "2|3"]], "---:") }}',
        "page.md",
    )
    assert text == "| a | b\\|c |\n|---|---:|\n| 1 | 2\\|3 |\n"


def test_a_page_that_is_not_told_something_is_an_error_and_no_gap(tmp_path: Path) -> None:
    with pytest.raises(jinja2.UndefinedError, match="missing"):
        made(tmp_path, "{{ missing }}")


def test_a_page_without_jinja_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    pages._environment.cache_clear()
    with pytest.raises(ExtraMissing, match=r"pip install 'mien\[video\]'"):
        pages.render(SHARED / "page.html", "video", title="x")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: f"{path.parent.parent.name}/{path.name}")
def test_every_template_is_used_and_goes_into_the_package(path: Path) -> None:
    texts = [one.read_text(encoding="utf-8") for one in (*PACKAGE.rglob("*.py"), *TEMPLATES) if one != path]
    assert any(f'"{path.name}"' in text for text in texts)
    # The wheel takes every file below src/mien that git does not ignore.
    ran = subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False)
    assert ran.returncode != 0


@pytest.mark.parametrize("name", [path.stem for path in (PACKAGE / "reports").glob("[!_]*.py")])
def test_every_module_of_reports_has_its_tests_or_the_readme_says_where(name: str) -> None:
    readme = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    line = re.search(rf"^- `{name}`: (.*)$", readme, re.MULTILINE)
    assert line is not None, f"tests/reports/README.md has no line for {name}"
    files = re.findall(r"`([^`]+)`", line[1])
    assert files
    assert all((ROOT / file).is_file() for file in files)
