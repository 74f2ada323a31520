"""How soon the page of `mien web` shows its first result, and how many frames of a camera it reads per second.

A server on this machine, a headless Chromium (the system's; `MIEN_CHROMIUM` names another) with a fake camera of
one moving face, and the page in a fresh profile. Other work on the machine adds to the times, so the processor time is
stated too, of all of the browser's processes: with it, a first result and the rate that one idle core would reach.

    python benchmarks/web.py [--seconds 20] [--threads 2]

Goals: a first result 2 s after opening, 15 frames per second, 12 MB in all with networks under 4 MB.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from mien.web import runtime, site
from mien.web.serving import server
from page import _processor_seconds as processor_seconds

ROOT = Path(__file__).parent.parent
PORTRAIT = ROOT / "examples" / "portrait_smiling.jpg"
VISITS = 6
FRAMES = """async ([seconds, threads]) => {
  const { load } = await import("./engine/analyser.js");
  const analyser = await load({ threads });
  const video = Object.assign(document.createElement("video"), { muted: true });
  video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
  await video.play();
  const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 480 });
  const times = [];
  const stream = analyser.stream();
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) {
    canvas.getContext("2d").drawImage(video, 0, 0);
    const start = performance.now();
    const { faces } = await stream.analyse(canvas);
    if (faces.length !== 1) throw new Error(`${faces.length} faces`);
    times.push(performance.now() - start);
  }
  video.srcObject.getTracks().forEach((track) => track.stop());
  analyser.close();
  return times;
}"""


def main() -> None:
    """Print the three figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20, help="length of each measurement of the camera")
    parser.add_argument("--threads", type=int, default=2, help="threads of the networks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = site.site(runtime.bring())
        print(site.size_of(files))
        site.write(Path(folder) / "site", files)
        film = Path(folder) / "face.mjpeg"
        film.write_bytes(_film())
        with server(Path(folder) / "site", 0) as running, sync_playwright() as playwright:
            threading.Thread(target=running.serve_forever, daemon=True).start()
            browser = playwright.chromium.launch(
                executable_path=os.environ.get("MIEN_CHROMIUM") or shutil.which("chromium"),
                args=[
                    "--no-sandbox",
                    "--disable-gpu",
                    "--use-fake-device-for-media-stream",
                    "--use-fake-ui-for-media-stream",
                    f"--use-file-for-fake-video-capture={film}",
                ],
            )
            address = f"http://127.0.0.1:{running.server_address[1]}/"
            _first_result(browser, address)
            for threads in sorted({1, options.threads}):
                _rate(browser, address, options.seconds, threads)
            _live(browser, address, options.seconds)
            running.shutdown()


def _film() -> bytes:
    """Frames of a face that moves to and fro, as Motion JPEG."""
    with Image.open(PORTRAIT) as opened:
        portrait = opened.convert("RGB").resize((480, 480))
    film = io.BytesIO()
    for step in (*range(10), *reversed(range(10))):
        frame = Image.new("RGB", (640, 480), portrait.getpixel((2, 2)))
        frame.paste(portrait, (60 + 4 * step, 0))
        frame.save(film, "JPEG", quality=90)
    return film.getvalue()


def _page(browser: Any, address: str) -> Any:
    page = browser.new_context(permissions=["camera"], viewport={"width": 1280, "height": 860}).new_page()
    page.set_default_timeout(120_000)
    page.goto(address)
    return page


def _first_result(browser: Any, address: str) -> None:
    """From the request of the page to the result of an example, in the page itself, fetched for the first time."""
    times, worked = [], []
    for _ in range(VISITS):
        begun, used = time.monotonic(), processor_seconds()
        page = _page(browser, address)
        page.evaluate("sessionStorage.setItem('purpose', 'trial')")
        page.locator("#read .examples button").first.click()
        page.wait_for_selector("#read-stage:not(.busy) svg.over", state="attached")
        times.append(time.monotonic() - begun)
        worked.append(processor_seconds() - used)
        page.context.close()
        time.sleep(1)  # until its processes have ended
    print(
        f"first result after opening the page, {VISITS} visits: median {statistics.median(times):.2f} s, fastest "
        f"{min(times):.2f} s; processor time {min(worked):.2f} s"
    )


def _rate(browser: Any, address: str, seconds: float, threads: int) -> None:
    """Frames of the camera through the worker, one after another, without the page around them."""
    page = _page(browser, address)
    page.wait_for_selector("html[data-loaded]")
    used = processor_seconds()
    times = sorted(page.evaluate(FRAMES, [seconds, threads]))
    worked = (processor_seconds() - used) / len(times)
    print(
        f"analysis of a camera frame, {threads} threads: median {times[len(times) // 2]:.0f} ms, fastest tenth "
        f"{times[len(times) // 10]:.0f} ms ({1000 / times[len(times) // 10]:.0f} per second); processor time "
        f"{1000 * worked:.0f} ms a frame"
    )
    page.context.close()


def _live(browser: Any, address: str, seconds: float) -> None:
    """The live view as a person sees it."""
    page = _page(browser, address)
    page.wait_for_selector("html[data-loaded]")
    page.evaluate("sessionStorage.setItem('purpose', 'trial')")
    page.locator("#tab-live").click()
    page.locator("#live-empty [data-live-camera]").click()
    page.locator("#live-rate", has_text="frames per second").wait_for()
    page.locator("#live-record").click()
    begun, used = time.monotonic(), processor_seconds()
    time.sleep(seconds)
    rows = int(page.locator("#live-count").inner_text().split()[0])
    taken, worked = time.monotonic() - begun, processor_seconds() - used
    print(
        f"live view: {rows / taken:.1f} frames per second; processor time {1000 * worked / rows:.0f} ms a frame"
    )
    page.close()


if __name__ == "__main__":
    main()
