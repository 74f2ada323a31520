"""The page `/docs` of the server in a browser: accessible, no wider than the screen, and nobody else is asked."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.browser

LOOKS: dict[str, dict[str, Any]] = {
    "desk": {"viewport": {"width": 1240, "height": 860}, "color_scheme": "light"},
    "phone": {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark", "is_mobile": True},
}


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_and_nothing_overflows(chromium: Any, served: Any, look: str) -> None:
    axe_core = pytest.importorskip("axe_playwright_python.sync_playwright")
    context = chromium.new_context(**LOOKS[look])
    page = context.new_page()
    page.set_default_timeout(20_000)
    complaints: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda problem: complaints.append(str(problem)))
    page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
    page.on("request", lambda request: asked.append(request.url))
    try:
        page.goto(f"{served.address}/docs")
        assert page.locator("section").count() == 14
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
        result = axe_core.Axe().run(page)
        assert result.violations_count == 0, result.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.locator("nav a", has_text="Follow a job").click()
        assert page.url.endswith("#follow_job")
        assert page.evaluate("getComputedStyle(document.querySelector('pre.shell')).borderLeftWidth") == "3px"
    finally:
        context.close()
    assert complaints == []
    assert {url.partition("#")[0] for url in asked} <= {
        f"{served.address}/{name}" for name in ("docs", "docs.css", "favicon.svg")
    }
