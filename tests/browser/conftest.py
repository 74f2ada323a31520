"""A headless Chromium and a server in a thread; tests skip, with the reason, where either cannot be had."""

from __future__ import annotations

import os
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)


@pytest.fixture(scope="session")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the browser's camera shows: an example face that moves to and fro, as Motion JPEG."""
    import io

    from PIL import Image

    portrait = Image.open(ROOT / "examples" / "portrait_smiling.jpg").convert("RGB").resize((480, 480))
    file = tmp_path_factory.mktemp("camera") / "face.mjpeg"
    with file.open("wb") as film:
        for step in (*range(10), *reversed(range(10))):
            frame = Image.new("RGB", (640, 480), portrait.getpixel((2, 2)))
            frame.paste(portrait, (60 + 4 * step, 0))
            picture = io.BytesIO()
            frame.save(picture, "JPEG", quality=90)
            film.write(picture.getvalue())
    return file


@pytest.fixture(scope="session")
def chromium(camera: Path) -> Iterator[Any]:
    """The system's Chromium, driven by Playwright; `MIEN_CHROMIUM` names another."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    found = os.environ.get("MIEN_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found, args=[*FLAGS, f"--use-file-for-fake-video-capture={camera}"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def models(recogniser_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Pipeline, editor and signer; the shipped recogniser where there is one, random weights where not."""
    from mien.editing.editor import Editor
    from mien.editing.signing import Signer
    from mien.faces.pipeline import load
    from mien.faces.recognise import SHIPPED

    pipeline = load(weights=None if SHIPPED.exists() else recogniser_file, threads=1)
    editor = Editor.load(pipeline)
    signer = Signer.of_install(tmp_path_factory.mktemp("signing"))
    return {"pipeline": pipeline, "editor": editor, "signer": signer}


class Served:
    """A running application: its address, and the application itself."""

    def __init__(self, app: Any) -> None:
        import uvicorn

        self.app = app
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws="wsproto"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        end = time.monotonic() + 20
        while not self._server.started:
            assert time.monotonic() < end
            time.sleep(0.01)
        self.address = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"
        end = time.monotonic() + 60
        while not _is_ready(self.address):  # else the page asks again, and the browser complains of each 503
            assert time.monotonic() < end
            time.sleep(0.1)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)


def _is_ready(address: str) -> bool:
    try:
        urllib.request.urlopen(f"{address}/ready").close()
    except urllib.error.HTTPError as problem:
        problem.close()
        return False
    return True


@pytest.fixture(scope="session")
def served(models: dict[str, Any]) -> Iterator[Served]:
    """The application with its default limits."""
    pytest.importorskip("fastapi")
    from mien.server.app import create_app

    running = Served(create_app(**models))
    yield running
    running.stop()


class Visit:
    """A page in a fresh profile that records every complaint of the browser and every address that is asked for."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(accept_downloads=True, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda problem: self.complaints.append(str(problem)))
        self.page.on("console", lambda said: said.type == "error" and self.complaints.append(said.text))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("websocket", lambda socket: self.asked.append(socket.url.replace("ws:", "http:", 1)))
        self.address = address
        self.page.goto(address)
        self.page.wait_for_selector("html[data-ready]")

    def state_purpose(self, purpose: str = "trial") -> None:
        """Answer the question that comes before the first photo."""
        self.page.locator(f"#purposes input[value={purpose}]").check()
        self.page.locator("#purpose-go").click()

    def read(self, file: Path | str, first: bool = True) -> None:
        """Bring a photo and wait until it is read."""
        self.page.set_input_files("#file-one", str(file))
        if first:
            self.state_purpose()
        self.page.wait_for_selector("#read-stage:not(.busy) svg.over", state="attached")


@pytest.fixture
def visit(chromium: Any, served: Served) -> Iterator[Any]:
    """A function that opens the page; afterwards the browser must have had nothing to complain of."""
    visits: list[Visit] = []

    def go(address: str = served.address, **options: Any) -> Visit:
        options.setdefault("viewport", {"width": 1240, "height": 860})
        visits.append(Visit(chromium, address, **options))
        return visits[-1]

    yield go
    for one in visits:
        one.context.close()
    for one in visits:
        assert one.complaints == []
        foreign = [url for url in one.asked if not url.startswith((one.address, "blob:"))]
        assert foreign == []
