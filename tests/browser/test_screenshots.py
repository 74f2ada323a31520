"""Takes the pictures of `docs/images/serve`: `MIEN_SCREENSHOTS=docs/images/serve pytest -m browser -k screenshots`.

They show what the shipped weights say, so they are taken with those or not at all.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mien.colours import COLOURS
from mien.faces.recognise import SHIPPED

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif("MIEN_SCREENSHOTS" not in os.environ, reason="MIEN_SCREENSHOTS names no folder"),
    pytest.mark.skipif(not SHIPPED.exists(), reason="the recogniser's weights are not in this package"),
]

DESK = {"viewport": {"width": 1160, "height": 860}}
PHONE = {"viewport": {"width": 390, "height": 800}, "is_mobile": True, "has_touch": True}


def rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


KEPT = [
    rgb(colour)
    for colour in (
        *COLOURS.values(),
        "#d3c31f",
        "#1f5f5b",
        "#1f7a74",
        "#7fcac1",
        "#b04a16",
        "#ffffff",
        "#faf8f4",
    )
]
"""Colours of the page that small dots and lines have, which a photo beside them would take from the palette."""
WASH, ARM = rgb("#f3efe8"), 0.55
"""The ground of the dial, and how opaque its arm is."""


def shoot(page: Any, name: str) -> None:
    """Keep what the window shows, with 256 colours: a quarter of the bytes."""
    import io

    import numpy as np
    from PIL import Image

    page.mouse.move(0, 0)
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(500)
    folder = Path(os.environ["MIEN_SCREENSHOTS"])
    folder.mkdir(parents=True, exist_ok=True)
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    arms = [[round(ARM * a + (1 - ARM) * b) for a, b in zip(one, WASH, strict=True)] for one in KEPT]
    kept = np.array([*KEPT, *arms])
    own = (shot.quantize(256 - len(kept)).getpalette() or [])[: 768 - kept.size]
    own += [0] * (768 - kept.size - len(own))
    palette = Image.new("P", (1, 1))
    palette.putpalette(own)
    places = np.array(shot.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG))
    for place, colour in enumerate(kept, start=256 - len(kept)):
        places[(np.asarray(shot) == colour).all(axis=2)] = place
    full = Image.fromarray(places, "P")
    full.putpalette([*own, *kept.ravel().tolist()])
    full.save(folder / f"{name}.png", optimize=True)


def test_screenshots_of_a_desk(visit: Any, examples: Path) -> None:
    page = (one := visit(**DESK, color_scheme="light")).page
    shoot(page, "start")
    one.read(examples / "portrait_smiling.jpg")
    shoot(page, "read")
    one.read(examples / "group_1.jpg", first=False)
    page.locator("#read-faces button").nth(5).click()
    shoot(page, "group")
    page.locator("#read-new").click()
    one.read(examples / "portrait_neutral.jpg", first=False)
    page.locator("#read-edit").click()
    page.wait_for_selector("#edit-tiles .tile:last-child canvas")
    page.wait_for_selector("#edit-stage:not(.busy)")
    shoot(page, "edit")
    page.locator(".segments").get_by_text("Movements").click()
    with page.expect_file_chooser() as waiting:
        page.locator("#like-pick").click()
    waiting.value.set_files(str(examples / "portrait_smiling.jpg"))
    page.wait_for_selector("#like-remove:visible")
    page.wait_for_selector("#edit-stage:not(.busy)")
    shoot(page, "movements")


@pytest.fixture
def film(examples: Path, models: dict[str, Any], tmp_path: Path) -> Path:
    """A portrait that smiles, is surprised and returns to rest, drawn by the editor."""
    av = pytest.importorskip("av")
    from mien.editing.photo import open_photo

    editor, photo = models["editor"], open_photo(examples / "portrait_neutral.jpg")
    located = editor.locate(photo)
    path = tmp_path / "portrait.webm"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=10)
        stream.width, stream.height = photo.rgb.shape[1] // 2 * 2, photo.rgb.shape[0] // 2 * 2
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for target in ("happiness", "surprise"):
            for step in (*range(11), *[10] * 14, *reversed(range(11)), *[0] * 4):
                edit = editor.apply(photo, located, target, step / 10)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(edit.image, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_screenshots_of_the_live_view(visit: Any, film: Path) -> None:
    page = (one := visit(**DESK, color_scheme="light")).page
    page.locator("#tab-live").click()
    page.set_input_files("#file-film", str(film))
    one.state_purpose()
    page.wait_for_selector("#live-panel .dial")
    video = page.locator("#live-video")
    while video.evaluate("node => node.currentTime") < 5.8:  # the film is in its surprise
        page.wait_for_timeout(50)
    video.evaluate("node => { node.pause(); node.controls = false; }")
    shoot(page, "live")
    page.locator("#live-summary").click()
    summary = page.frame_locator("#film-page iframe")
    summary.get_by_role("heading", name="Person 0").wait_for()
    shoot(page, "summary")


def test_screenshot_of_a_summary_page(
    chromium: Any, film: Path, models: dict[str, Any], tmp_path: Path
) -> None:
    """`page`, for docs/images/video."""
    from mien.video.process import Orders, run

    run(Orders(film, page=tmp_path / "page.html"), lambda: models["pipeline"])
    page = chromium.new_page(viewport={"width": 900, "height": 1074})
    page.goto((tmp_path / "page.html").as_uri())
    shoot(page, "page")
    page.close()


def test_screenshots_in_the_dark(visit: Any, examples: Path) -> None:
    page = (one := visit(**DESK, color_scheme="dark")).page
    page.locator("#tab-batch").click()
    names = ("portrait_smiling.jpg", "portrait_neutral.jpg", "astronaut.png", "group_1.jpg")
    page.set_input_files("#file-many", [str(examples / name) for name in names])
    one.state_purpose()
    page.wait_for_selector("#batch-stop:disabled")
    shoot(page, "batch-dark")


def test_screenshots_of_a_phone(visit: Any, examples: Path) -> None:
    page = (one := visit(**PHONE)).page
    one.read(examples / "portrait_neutral.jpg")
    page.locator("#read-edit").click()
    page.wait_for_selector("#edit-tiles .tile:last-child canvas")
    page.wait_for_selector("#edit-stage:not(.busy)")
    shoot(page, "phone")
