"""The site builds strictly, its generated pages hold what the package states, and no page loads anything foreign."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mien.data import protocols
from mien.data.readers import READERS
from mien.io import cards

ROOT = Path(__file__).parent.parent
LOADING = {
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("video", "src"),
    ("embed", "src"),
    ("object", "data"),
    ("img", "srcset"),
}
RELATIONS = {
    "stylesheet",
    "icon",
    "preload",
    "prefetch",
    "preconnect",
    "dns-prefetch",
    "modulepreload",
    "manifest",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built once."""
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install 'mien[docs]'")
    pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed: pip install 'mien[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return folder


class _Loads(HTMLParser):
    """What a browser would fetch by itself on opening a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.found += [value for name, value in given.items() if (tag, name) in LOADING]
        if tag == "link" and RELATIONS & set(given.get("rel", "").split()):
            self.found.append(given.get("href", ""))


def test_what_is_loaded_from_elsewhere_is_noticed() -> None:
    parser = _Loads()
    parser.feed(
        '<link rel="preload stylesheet" href="https://a/x.css"><a href="https://b"></a><img src="//c/x.png">'
    )
    assert parser.found == ["https://a/x.css", "//c/x.png"]


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) >= 30
    for page in pages:
        parser = _Loads()
        parser.feed(page.read_text(encoding="utf-8"))
        foreign = [address for address in parser.found if re.match(r"(https?:)?//", address)]
        assert not foreign, f"{page.relative_to(site)} loads {foreign}"
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", text), sheet.name


def test_every_page_is_in_the_navigation(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    docs = ROOT / "docs"
    places = [path.relative_to(docs).with_suffix("").as_posix() for path in docs.rglob("*.md")]
    places = [place.replace("/README", "/index") for place in places]
    places = [  # a report that is there as a page too
        f"{place}-text" if (docs / f"{place}.html").is_file() else place for place in places
    ]
    made = [f"weights/{path.stem}" for path in cards.FOLDER.rglob("*.json")]
    places += [*made, *(f"datasets/{name}" for name in READERS)]
    assert {place for place in places if place != "index" and f'href="{place}.html"' not in text} == set()


def test_a_page_or_docstring_that_is_wrong_stops_the_build() -> None:
    """`--strict` turns warnings into a failure; what is to stop the build must therefore be one."""
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert re.search(r"^strict: true$", settings, re.MULTILINE)
    levels = re.findall(r"^    (\w+): (\w+)$", settings.split("\nvalidation:")[1], re.MULTILINE)
    assert len(levels) >= 6
    assert {name for name, level in levels if level != "warn"} == set()


def test_every_page_of_the_reference_has_its_text(site: Path) -> None:
    text = (site / "reference.html").read_text(encoding="utf-8")
    for name in (
        "mien.faces.pipeline.load",
        "mien.types.Analysis",
        "mien.editing.editor.Editor",
        "mien.io.tables.Writer",
    ):
        assert f'id="{name}"' in text, name


def test_every_weight_has_a_page_with_its_figures(site: Path) -> None:
    for path in cards.FOLDER.rglob("*.json"):
        text = (site / "weights" / f"{path.stem}.html").read_text(encoding="utf-8")
        stated = json.loads(path.read_text(encoding="utf-8"))
        assert stated["sha256"] in text
        for leaf in _leaves(stated.get("metrics", {})):
            assert leaf in text, f"{path.name}: {leaf}"


def _leaves(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in _leaves(inner)]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in _leaves(inner)]
    if isinstance(value, float):
        return [f"{value:.3f}" if value == 0 or abs(value) >= 0.001 else f"{value:.2g}"]
    return [str(value)] if isinstance(value, int) and not isinstance(value, bool) else []


def test_the_accuracy_in_the_prose_is_the_one_on_the_card() -> None:
    stated = cards.read(cards.FOLDER / "recogniser.json").fields["metrics"]["accuracy"]
    low, high = (f"{100 * stated[end]:.1f}" for end in ("low", "high"))
    figure = f"{100 * stated['value']:.1f} % [{low}, {high}]"
    for page in ("README.md", "docs/weights.md"):
        assert figure in (ROOT / page).read_text(encoding="utf-8"), f"{page} does not say {figure}"


def test_every_dataset_has_a_page_with_layout_terms_and_protocols(site: Path) -> None:
    known = [protocols.load(name) for name in protocols.names()]
    for name, reader in READERS.items():
        text = (site / "datasets" / f"{name}.html").read_text(encoding="utf-8")
        assert f"--reader {name}" in re.sub(r"<[^>]+>", "", text)
        assert "Terms" in text
        assert "Layout and source" in text
        for protocol in known:
            assert (f"<code>{protocol.name}</code>" in text) == (protocol.dataset == reader.name)


def test_the_table_of_floors_is_the_contract(site: Path) -> None:
    text = (site / "architecture.html").read_text(encoding="utf-8")
    contract = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split('name = "floors"')[1].split("]")[0]
    modules = set(re.findall(r"mien\.\w+", contract))
    assert len(modules) == 26
    assert {module for module in modules if f"<td><code>{module}</code></td>" not in text} == set()
