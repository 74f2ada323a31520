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

DESK = {"viewport": {"width": 1160, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 800}, "is_mobile": True, "has_touch": True}


def shoot(page: Any, name: str) -> None:
    """Keep what the window shows, with 256 colours: a quarter of the bytes."""
    import io

    from PIL import Image

    page.mouse.move(0, 0)
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(500)
    folder = Path(os.environ["MIEN_SCREENSHOTS"])
    folder.mkdir(parents=True, exist_ok=True)
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    # A strip of the expressions' colours below, cut off again, keeps small dots from losing theirs to a photo.
    wide = Image.new("RGB", (shot.width, shot.height + 160), "white")
    wide.paste(shot)
    for number, colour in enumerate([*COLOURS.values(), "#d3c31f", "#1f5f5b"]):
        wide.paste(colour, (number * 110, shot.height, number * 110 + 110, shot.height + 160))
    small = wide.quantize(256, dither=Image.Dither.FLOYDSTEINBERG)
    small.crop((0, 0, *shot.size)).save(folder / f"{name}.png", optimize=True)


def test_screenshots_of_a_desk(visit: Any, examples: Path) -> None:
    page = (one := visit(**DESK, color_scheme="light")).page
    shoot(page, "start")
    one.read(examples / "portrait_smiling.jpg")
    shoot(page, "read")
    page.locator("#read-new").click()
    one.read(examples / "portrait_neutral.jpg", first=False)
    page.locator("#read-edit").click()
    page.wait_for_selector("#edit-save:enabled")
    shoot(page, "edit")


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
    one.read(examples / "astronaut.png")
    shoot(page, "phone")
