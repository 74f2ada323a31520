"""The documentation site as a reader meets it: on a desk and on a phone, in light and in dark, without the network."""

from __future__ import annotations

import functools
import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = (
    "index.html",
    "tutorials/photos.html",
    "coming-from.html",
    "reference.html",
    "weights/recogniser.html",
    "datasets/rafdb.html",
)
LOOKS: dict[str, dict[str, Any]] = {
    "desk": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "phone": {
        "viewport": {"width": 390, "height": 800},
        "color_scheme": "dark",
        "is_mobile": True,
        "has_touch": True,
    },
}

pytestmark = pytest.mark.browser


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install 'mien[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=True)
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The site, served from this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.mark.parametrize("look", LOOKS)
def test_pages_fit_ask_nobody_else_and_are_accessible(chromium: Any, address: str, look: str) -> None:
    axe_core = pytest.importorskip("axe_playwright_python.sync_playwright")
    axe = axe_core.Axe()
    context = chromium.new_context(**LOOKS[look])
    page = context.new_page()
    page.set_default_timeout(60_000)
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda problem: complaints.append(str(problem)))
    page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
    for place in PAGES:
        page.goto(f"{address}/{place}")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (
            f"{place} is too wide"
        )
        loaded = (
            "[...document.images].filter(i => i.loading != 'lazy' && !(i.complete && i.naturalWidth)).length"
        )
        assert page.evaluate(loaded) == 0, f"{place} lacks a picture"
        found = axe.run(page, options={"runOnly": ["wcag2a", "wcag2aa"]})
        grave = [one for one in found.response["violations"] if one["impact"] in ("critical", "serious")]
        assert not grave, (
            f"{place}: {[(one['id'], [node['html'] for node in one['nodes']][:3]) for one in grave]}"
        )
    assert not complaints
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    context.close()


@pytest.mark.parametrize("opened", ["served", "as files"])
def test_the_search_finds_a_word_without_the_network(
    chromium: Any, site: Path, address: str, opened: str
) -> None:
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(60_000)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    start = address if opened == "served" else site.as_uri()
    page.goto(f"{start}/index.html")
    page.locator("input.md-search__input").click()
    page.keyboard.type("provenance")
    page.locator(".md-search-result__item a[href*='editing.html']").first.click()
    page.wait_for_url(re.compile(re.escape(f"{start}/editing.html")))
    assert [url for url in asked if not url.startswith((start, "data:", "blob:", "about:"))] == []
    context.close()
