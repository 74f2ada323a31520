"""The page of `mien predict --report` in a browser: accessible, nothing overflows, and its order and filter work."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mien.io import inputs
from mien.reports.picture_report import PictureReport

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page_file(models: dict[str, Any], examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of photographs with certain and uncertain faces, of a picture without a face, and of a damaged one."""
    from mien.faces.parallel import made_with

    folder = tmp_path_factory.mktemp("photographs")
    for name in ("group_1", "group_2", "portrait_smiling"):
        shutil.copy(examples / f"{name}.jpg", folder)
    blurred = cv2.GaussianBlur(cv2.imread(str(examples / "group_2.jpg")), None, 7)
    cv2.imwrite(str(folder / "blurred.png"), blurred)
    cv2.imwrite(str(folder / "empty.png"), np.full((90, 90, 3), 120, np.uint8))
    (folder / "damaged.jpg").write_bytes(b"nothing")
    pipeline = models["pipeline"]
    report = PictureReport(pipeline.labels)
    sources = inputs.gather([str(folder)])
    for analysis, source in zip(pipeline.stream(sources), sources, strict=True):
        report.add(analysis, source)
    path = folder / "report.html"
    report.write(path, "photographs", made_with({}), ["A note."])
    return path


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("look", ["light", "dark"])
def test_axe_finds_nothing_and_nothing_overflows(
    chromium: Any, page_file: Path, width: int, look: str
) -> None:
    axe_core = pytest.importorskip("axe_playwright_python.sync_playwright")
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=look)
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda problem: complaints.append(str(problem)))
    page.on("console", lambda said: complaints.append(said.text))
    page.goto(page_file.as_uri())
    page.locator("details").evaluate("element => element.open = true")
    found = axe_core.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert complaints == []
    context.close()


def test_faces_are_ordered_and_filtered(chromium: Any, page_file: Path) -> None:
    context = chromium.new_context()
    page = context.new_page()
    page.goto(page_file.as_uri())
    faces = page.locator("#sheets section").first.locator("figure")

    def values(name: str) -> list[float]:
        return [float(value) for value in faces.evaluate_all(f"all => all.map(face => face.dataset.{name})")]

    assert values("probability") == sorted(values("probability"), reverse=True)
    page.get_by_label("Order").select_option("lowest valence first")
    assert values("valence") == sorted(values("valence"))
    page.get_by_label("File name contains").fill("GROUP_1")
    visible = page.locator("#sheets figure:visible")
    assert visible.count() == 6
    assert page.locator("output").inner_text() == "6 shown"
    page.get_by_label("File name contains").fill("")
    assert visible.count() > 6
    context.close()


def test_it_reads_without_scripts(chromium: Any, page_file: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert page.locator("#sheets figure").first.is_visible()
    assert page.locator("form").count() == 0
    context.close()
