"""The page of `mien web`: the same results as in Python, nothing but its own files, and no need of a network later."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mien.faces.detect import MienDetector
from mien.faces.operating_point import Adaptation
from mien.faces.pipeline import Pipeline, load
from mien.io import cards, images
from mien.io.columns import columns_of, rows
from mien.labels import EXPRESSIONS
from mien.landmarks import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS
from mien.types import Analysis, Box
from mien.video.tracking import Follower
from mien.web import runtime, serving, site

from . import detector, pictures
from .conftest import Visit

pytestmark = pytest.mark.browser


@pytest.fixture(scope="session")
def onnxruntime_web() -> dict[str, bytes]:
    """ONNX Runtime Web; the variable names a copy of the npm package."""
    given = os.environ.get("MIEN_ONNXRUNTIME_WEB")
    if given is None and not ((kept := runtime.kept()) and kept.is_dir()):
        pytest.skip("ONNX Runtime Web is not here: mien web /tmp/site --download keeps it")
    return runtime.bring(None if given is None else Path(given))


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped networks, with a detector of random weights where none ships."""
    if (cards.FOLDER / "detector.onnx").is_file():
        return cards.FOLDER
    folder = tmp_path_factory.mktemp("weights")
    for path in cards.FOLDER.glob("*.*"):
        shutil.copy(path, folder)
    detector.write(folder)
    return folder


class ServedFolder:
    """A written folder with its server."""

    def __init__(self, folder: Path) -> None:
        self._server = serving.server(folder, 0)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def stop(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(20)


@pytest.fixture(scope="session")
def folder(
    onnxruntime_web: dict[str, bytes], weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    made = tmp_path_factory.mktemp("web") / "site"
    site.write(made, site.site(onnxruntime_web, weights))
    return made


@pytest.fixture(scope="session")
def page_of_web(folder: Path) -> Iterator[ServedFolder]:
    running = ServedFolder(folder)
    yield running
    running.stop()


@pytest.fixture
def browse(chromium: Any, page_of_web: ServedFolder) -> Iterator[Any]:
    """A function that opens the page; a request for anything but its own files is refused, and fails the test."""
    visits: list[Visit] = []
    refused: list[str] = []

    def go(address: str = page_of_web.address, **options: Any) -> Visit:
        options.setdefault("viewport", {"width": 1240, "height": 860})
        visits.append(Visit(chromium, address, **options))
        return visits[-1]

    yield go
    for one in visits:
        refused += [url for url in one.asked if not url.startswith((one.address, f"blob:{one.address}"))]
        one.context.close()
    assert refused == []
    assert [text for one in visits for text in one.complaints] == []


# Each of these runs in the page, with what it is given.

OPEN = """async (threads) => {
  const { load } = await import("./engine/analyser.js");
  globalThis.mien = await load(threads ? { threads } : {});
  return [mien.labels, crossOriginIsolated];
}"""
ANALYSE = """async ([data, options]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  return mien.analyse(new Blob([bytes]), options);
}"""
FOLLOW = """async (frames) => {
  const { Pipeline } = await import("./engine/pipeline.js");
  const { Follower } = await import("./engine/follower.js");
  const pipeline = await Pipeline.open(location.href, 1);
  const follower = new Follower(pipeline);
  const sides = [];
  const find = pipeline.detector.find;
  pipeline.detector.find = function (image, side) {
    sides.push(side ?? 0);
    return find.call(this, image, side);
  };
  const analyses = [];
  for (const [time, data] of frames) {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    analyses.push(await pipeline.follow(follower, new Blob([bytes]), time));
    sides.push(null);
  }
  return [analyses, sides];
}"""
DETECT = """async (data) => {
  const { Pipeline } = await import("./engine/pipeline.js");
  const { decode } = await import("./engine/images.js");
  globalThis.pipeline ??= await Pipeline.open(location.href, 1);
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  return pipeline.detector.find(await decode(new Blob([bytes]), 1e8));
}"""


def coded(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.fixture(scope="module")
def sixty(examples: Path) -> list[tuple[str, bytes]]:
    return list(pictures.pictures(examples))


@pytest.fixture(scope="module")
def python() -> Pipeline:
    return load(threads=1)


def of_browser(found: dict[str, Any]) -> Analysis:
    """The browser's answer, checked field by field: it has exactly those of Python."""
    return Analysis.from_dict(found)


def test_boxes_are_those_of_python(browse: Any, sixty: list[tuple[str, bytes]], weights: Path) -> None:
    page = browse().page
    search = MienDetector(weights=weights / "detector.onnx")
    compared = 0
    for name, content in sixty:
        expected = search(images.read(content))
        found = page.evaluate(DETECT, coded(content))
        assert len(found) == len(expected), name
        for ours, theirs in zip(expected, found, strict=True):
            box = Box(**theirs["box"])
            far = np.abs(np.subtract(box.corners, ours.box.corners)).max()
            assert far < 1.5, f"{name}: {far:.2f} px"
            assert theirs["score"] == pytest.approx(ours.score, abs=0.02)
            assert theirs["roll"] == ours.roll
            compared += 1
    assert compared > 30


@pytest.mark.parametrize("name", ["detector", "landmarks", "actions"])
def test_weights_become_the_floats_that_onnx_runtime_would_make(
    browse: Any, weights: Path, name: str
) -> None:
    """To the last bit; what else the file holds stays."""
    onnx = pytest.importorskip("onnx")
    page = browse().page
    found = page.evaluate(
        """async (name) => {
          const { unpacked } = await import("./engine/weights.js");
          const bytes = unpacked(new Uint8Array(await (await fetch(`weights/${name}.onnx`)).arrayBuffer()));
          const texts = [];
          for (let at = 0; at < bytes.length; at += 30000) {
            texts.push(String.fromCharCode(...bytes.subarray(at, at + 30000)));
          }
          return btoa(texts.join(""));
        }""",
        name,
    )
    model, packed = onnx.load_from_string(base64.b64decode(found)), onnx.load(str(weights / f"{name}.onnx"))
    onnx.checker.check_model(model)
    values = {one.name: onnx.numpy_helper.to_array(one) for one in packed.graph.initializer}
    undone, rest = 0, []
    for node in packed.graph.node:
        if node.input and all(each in values for each in node.input):
            parts = [values.pop(each) for each in node.input]
            values[node.output[0]] = parts[0].astype(np.float32) * (
                parts[1] if len(parts) > 1 else np.float32(1)
            )
            undone += 1
        else:
            rest.append(node.SerializeToString())
    assert undone > 10
    made = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    assert made.keys() == values.keys()
    for key, value in values.items():
        assert made[key].dtype == value.dtype
        assert (made[key] == value).all(), key
    assert [node.SerializeToString() for node in model.graph.node] == rest


def test_readings_are_those_of_python(browse: Any, sixty: list[tuple[str, bytes]], python: Pipeline) -> None:
    """In the same boxes. All answers agree closely, but for a face between two steps of the rounding of crops: it is
    rounded either way."""
    page = browse().page
    labels, isolated = page.evaluate(OPEN, None)
    assert tuple(labels) == EXPRESSIONS
    assert isolated
    points, probabilities, equal, others = [], [], [], []
    for name, content in sixty:
        expected = python(content)
        given = [{"box": face.box, "roll": face.detection.roll} for face in expected.faces]
        boxes = [
            {
                "x": one["box"].x,
                "y": one["box"].y,
                "width": one["box"].width,
                "height": one["box"].height,
            }
            for one in given
        ]
        found = of_browser(page.evaluate(ANALYSE, [coded(content), {"boxes": boxes}]))
        assert (found.width, found.height) == (expected.width, expected.height), name
        assert len(found.faces) == len(expected.faces), name
        assert found.model == expected.model
        for theirs, ours in zip(found.faces, expected.faces, strict=True):
            there, here = np.array(theirs.landmarks.points), np.array(ours.landmarks.points)
            eyes = [here[list(corners)].mean(axis=0) for corners in (LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS)]
            points.append(np.linalg.norm(there - here, axis=1).max() / np.linalg.norm(eyes[0] - eyes[1]))
            probabilities.append(
                max(abs(theirs.probabilities[label] - share) for label, share in ours.probabilities.items())
            )
            equal.append(theirs.expression == ours.expression)
            others.append(
                [
                    abs(theirs.quality - ours.quality),
                    abs(theirs.landmarks.presence - ours.landmarks.presence),
                    abs((theirs.intensity or 0) - (ours.intensity or 0)),
                    max(abs(theirs.actions[key] - value) for key, value in ours.actions.items() if value),
                    abs(theirs.pose.yaw - ours.pose.yaw) / 90,
                ]
            )
            assert {key for key, value in theirs.actions.items() if value is None} == {
                key for key, value in ours.actions.items() if value is None
            }
            assert (theirs.gaze is None) == (ours.gaze is None)
            if ours.gaze and theirs.gaze:
                assert theirs.gaze.yaw == pytest.approx(ours.gaze.yaw, abs=0.5)
    assert len(points) > 80
    assert max(points) < 0.005
    assert np.mean(equal) >= 0.99
    # A place that lies between two steps of `align.settled` is rounded either way, which shows in faces of few pixels.
    assert np.quantile(probabilities, 0.99) < 0.001
    assert max(probabilities) < 0.1
    assert np.max(others, axis=0).max() < 0.02


def _frames(examples: Path) -> list[tuple[float, bytes]]:
    """A face that moves, leaves for a while, and has company at the end; the last frame was wound back to."""
    portraits = [
        Image.open(examples / f"portrait_{name}.jpg").convert("RGB").resize((240, 240))
        for name in ("smiling", "neutral")
    ]
    frames = []
    for step in range(25):
        picture = Image.new("RGB", (640, 360), portraits[0].getpixel((2, 2)))
        if not 8 <= step < 11:
            picture.paste(portraits[0], (10 + 5 * step, 60))
        if step > 14:
            picture.paste(portraits[1], (380, 80 - step))
        content = io.BytesIO()
        picture.save(content, "PNG")
        frames.append((step / 10, content.getvalue()))
    return [*frames, (0.3, frames[-1][1])]


def test_frames_are_followed_as_in_python(browse: Any, python: Pipeline, examples: Path) -> None:
    """The same boxes in every frame, and the detector runs at the same frames."""
    frames = _frames(examples)
    follower = Follower(python)
    expected = [follower(images.read(content), time) for time, content in frames]
    told = [[time, coded(content)] for time, content in frames]
    analyses, sides = browse().page.evaluate(FOLLOW, told)
    searches = " ".join("end" if side is None else str(side) for side in sides).split("end")
    # After a frame without a face the next is searched at the small size, unless a search is due.
    small = str(MienDetector.first)
    before = [(), *(faces for faces, _ in expected)]
    wanted = ["0" if due else "" if seen else small for seen, (_, due) in zip(before, expected, strict=False)]
    assert [one.strip() for one in searches[:-1]] == wanted
    assert {"", "0", small} == set(wanted)
    assert {0, 1, 2} == {len(faces) for faces, _ in expected}
    for (faces, _), found in zip(expected, analyses, strict=True):
        assert len(found["faces"]) == len(faces)
        for ours, theirs in zip(faces, of_browser(found).faces, strict=True):
            assert np.abs(np.subtract(ours.box.corners, theirs.box.corners)).max() < 1.5
            assert ours.detection.score == pytest.approx(theirs.detection.score, abs=0.02)
            assert ours.expression == theirs.expression


def test_a_stream_takes_frames_with_their_time(browse: Any) -> None:
    page = browse().page
    page.evaluate(OPEN, 1)
    found = page.evaluate(
        """async () => {
          const stream = mien.stream();
          const canvas = new OffscreenCanvas(64, 48);
          canvas.getContext("2d").fillRect(0, 0, 64, 48);
          const answers = [await stream.analyse(canvas, { time: 1.5, name: "film" }), await stream.analyse(canvas)];
          await stream.close();
          return answers.map(({ source, time, faces }) => [source, time > 1, faces.length]);
        }"""
    )
    assert found == [["film", True, 0], ["array", True, 0]]


def test_the_rows_are_those_of_predict(browse: Any, examples: Path, python: Pipeline) -> None:
    page = browse().page
    page.evaluate(OPEN, 1)
    assert page.evaluate("mien.columns()") == [column.name for column in columns_of()]
    expected = python(examples / "portrait_smiling.jpg")
    told = page.evaluate("(analysis) => mien.rows(analysis)", expected.to_dict())
    (ours,) = rows(expected)
    (theirs,) = told
    assert theirs.keys() == ours.keys()
    assert {key for key, value in theirs.items() if value is None} == {
        key for key, value in ours.items() if value is None
    }
    for key, value in ours.items():
        assert theirs[key] == (pytest.approx(value) if isinstance(value, float) else value), key
    nobody = Analysis("empty.png", 10, 20)
    assert page.evaluate("(analysis) => mien.rows(analysis)", nobody.to_dict()) == rows(nobody)


def test_priors_and_corrections_work_as_in_python(browse: Any, examples: Path, python: Pipeline) -> None:
    page = browse().page
    page.evaluate(OPEN, 1)
    picture = examples / "portrait_neutral.jpg"
    (face,) = python(picture).faces
    box = {"x": face.box.x, "y": face.box.y, "width": face.box.width, "height": face.box.height}
    crop = python.find(images.read(picture))[0][4]
    (reading,) = python.recogniser(crop[None], embeddings=True)
    width, card = len(reading.embedding), python.recogniser.card  # type: ignore[attr-defined]
    numbers = np.random.default_rng(0)
    eight = np.full(8, 1 / 8)
    corrections = {
        "scale": Adaptation(
            EXPRESSIONS, card.fields["sha256"], eight, numbers.normal(size=8), numbers.uniform(0.5, 1.5, 8)
        ),
        "head": Adaptation(
            ("left", "right", "ahead"), card.fields["sha256"], np.array([0.5, 0.3, 0.2]),
            numbers.normal(size=3), None, numbers.normal(size=(3, width)) / 4, numbers.normal(size=width) / 40,
        ),
    }  # fmt: skip
    from mien.faces.recognise import OnnxRecogniser

    def asked(point: dict[str, Any]) -> dict[str, float]:
        page.evaluate("(point) => mien.operate(point)", point)
        answer = page.evaluate(ANALYSE, [coded(picture.read_bytes()), {"boxes": [box], "embeddings": True}])
        shares: dict[str, float] = answer["faces"][0]["reading"]["probabilities"]
        assert len(answer["faces"][0]["reading"]["embedding"]) == width
        return shares

    for prior in ("trained", "uniform", {"happiness": 0.9, "fear": 0.0}):
        expected = OnnxRecogniser.load(threads=1, prior=prior)(crop[None])[0].probabilities
        assert asked({"prior": prior}) == pytest.approx(expected, abs=0.02)
    for name, correction in corrections.items():
        fields = {"format": 1, "labels": list(correction.labels), "weights": correction.weights}
        for key in ("shares", "bias", "scale", "head", "centre"):
            values = getattr(correction, key)
            fields[key] = None if values is None else values.tolist()
        expected = OnnxRecogniser.load(threads=1, adapt=correction)(crop[None])[0].probabilities
        assert asked({"adaptation": fields}) == pytest.approx(expected, abs=0.02), name
    wrong = page.evaluate(
        "(adaptation) => mien.operate({ adaptation }).catch((problem) => [problem.name, problem.message])",
        {**fields, "weights": "0" * 64},
    )
    assert wrong[0] == "MienError"
    assert "made for other weights" in wrong[1]


def test_it_runs_on_one_thread_without_isolation(chromium: Any, folder: Path, examples: Path) -> None:
    """From a server that sends no headers at all, and from a folder of that server."""
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Plain(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Plain, directory=str(folder.parent))) as plain:
        thread = threading.Thread(target=plain.serve_forever)
        thread.start()
        one = Visit(chromium, f"http://127.0.0.1:{plain.server_address[1]}/site/")
        labels, isolated = one.page.evaluate(OPEN, None)
        assert (len(labels), isolated) == (8, False)
        content = coded((examples / "portrait_smiling.jpg").read_bytes())
        box = {"x": 160, "y": 140, "width": 180, "height": 250}
        first = of_browser(one.page.evaluate(ANALYSE, [content, {"boxes": [box]}]))
        assert len(first.faces) == 1
        # The service worker adds the headers, so the next visit has threads.
        one.page.evaluate("navigator.serviceWorker.ready.then(() => true)")
        one.page.reload()
        one.page.wait_for_selector("html[data-loaded]")
        assert one.page.evaluate("crossOriginIsolated")
        one.context.close()
        plain.shutdown()
        thread.join()
    assert one.complaints == []


def test_a_second_visit_needs_no_server(chromium: Any, folder: Path, examples: Path) -> None:
    running = ServedFolder(folder)
    one = Visit(chromium, running.address)
    one.page.wait_for_selector("html[data-loaded]")
    one.page.locator("#offline", has_text="without a network now").wait_for(state="attached")
    running.stop()
    one.page.reload()
    one.page.wait_for_selector("html[data-loaded]")
    one.read(examples / "portrait_smiling.jpg")
    assert one.page.locator("#read-title").is_visible()
    one.context.close()
    assert one.complaints == []


def test_the_policy_lets_the_page_reach_nobody(browse: Any) -> None:
    page = (one := browse()).page
    tried = page.evaluate(
        """() => Promise.all([
          fetch("https://example.org/").then(() => "fetched", () => "refused"),
          new Promise((resolve) => setTimeout(() => { // not within this call, which a debugger may make
            try {
              resolve(eval("'evaluated'"));
            } catch {
              resolve("refused");
            }
          })),
          new Promise((resolve) => {
            const image = new Image();
            image.onload = () => resolve("loaded");
            image.onerror = () => resolve("refused");
            image.src = "https://example.org/x.png";
          }),
        ])"""
    )
    assert tried == ["refused", "refused", "refused"]
    assert one.page.evaluate("navigator.sendBeacon('https://example.org/', 'x') && document.cookie") == ""
    one.complaints.clear()  # the browser says what the policy refused
    one.asked[:] = [url for url in one.asked if "example.org" not in url]


def test_a_broken_file_is_one_clear_sentence(browse: Any, tmp_path: Path) -> None:
    page = browse().page
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 this is no photograph")
    page.set_input_files("#file-one", str(tmp_path / "broken.jpg"))
    page.locator("#purposes input[value=trial]").check()
    page.locator("#purpose-go").click()
    page.locator("#read-problem", has_text="cannot read the picture").wait_for()


@pytest.fixture
def located() -> str:
    """A script that lets the page find the face of a portrait even with a detector of random weights."""
    return """() => {
      const boxes = [{ x: 160, y: 140, width: 180, height: 250 }];
      const post = Worker.prototype.postMessage;
      Worker.prototype.postMessage = function (message, ...rest) {
        if (message.call === "analyse") message.given.options = { boxes, ...message.given.options };
        return post.call(this, message, ...rest);
      };
    }"""


def test_a_batch_becomes_the_tables_of_predict(
    browse: Any, located: str, examples: Path, tmp_path: Path
) -> None:
    one = browse()
    page = one.page
    page.evaluate(located)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 this is no photograph")
    chosen = [examples / "portrait_smiling.jpg", tmp_path / "broken.jpg", examples / "portrait_neutral.jpg"]
    page.locator("#tab-batch").click()
    page.set_input_files("#file-many", [str(path) for path in chosen])
    one.state_purpose()
    page.locator("#batch-count", has_text="3 of 3").wait_for()
    with page.expect_download() as saved:
        page.locator("#batch-save").click()
    table = list(csv.DictReader(io.StringIO(Path(saved.value.path()).read_text(encoding="utf-8"))))
    assert list(table[0]) == [column.name for column in columns_of()]
    assert [row["input"] for row in table] == [path.name for path in chosen]
    assert [row["faces"] for row in table] == ["1", "0", "1"]
    assert "cannot read the picture" in table[1]["error"]
    assert table[0]["expression"] in EXPRESSIONS
    assert table[0]["uncertain"] in ("True", "False")
    with page.expect_download() as saved:
        page.locator("#batch-lines").click()
    lines = [json.loads(line) for line in Path(saved.value.path()).read_text(encoding="utf-8").splitlines()]
    assert [line["input"] for line in lines] == [path.name for path in chosen]
    assert float(table[0]["valence"]) == lines[0]["valence"]


def test_the_camera_is_read_here(browse: Any, located: str) -> None:
    one = browse(permissions=["camera"])
    page = one.page
    page.evaluate(located)
    page.locator("#tab-live").click()
    page.locator("#live-empty [data-live-camera]").click()
    one.state_purpose()
    page.locator("#live-rate", has_text="frames per second").wait_for()
    page.locator("#live-record").click()
    page.locator("#live-count", has_text="3 rows").wait_for()
    page.locator("#live-record").click()
    with page.expect_download() as saved:
        page.locator("#live-save").click()
    table = list(csv.DictReader(io.StringIO(Path(saved.value.path()).read_text(encoding="utf-8"))))
    assert {row["input"] for row in table} == {"camera"}
    assert [int(row["frame"]) for row in table] == sorted(int(row["frame"]) for row in table)
    page.locator("#live-stop").click()
    assert page.evaluate("document.getElementById('live-video').srcObject") is None


def test_a_frame_that_came_during_an_analysis_is_read_at_once(browse: Any, located: str) -> None:
    """Here frames come only while one is analysed, so a page that waits for the next one reads no second."""
    one = browse(permissions=["camera"])
    page = one.page
    page.evaluate(located)
    page.evaluate(
        """() => {
          const due = [];
          globalThis.frame = () => due.splice(0).forEach((call) => call());
          HTMLVideoElement.prototype.requestVideoFrameCallback = (call) => void due.push(call);
          const post = Worker.prototype.postMessage;
          Worker.prototype.postMessage = function (message, ...rest) {
            if (message.call === "follow") setTimeout(frame);
            return post.call(this, message, ...rest);
          };
        }"""
    )
    page.locator("#tab-live").click()
    page.locator("#live-empty [data-live-camera]").click()
    one.state_purpose()
    page.locator("#live-record").click()
    page.evaluate("frame()")
    page.locator("#live-count", has_text="3 rows").wait_for()


def test_dropped_folders_are_opened_to_the_bottom(browse: Any) -> None:
    found = browse().page.evaluate(
        """async () => {
          const { filesOf } = await import("./drop.js");
          const file = (name) => ({ isFile: true, name, file: (resolve) => resolve(new File([], name)) });
          const folder = (name, entries) => ({
            isDirectory: true,
            name,
            createReader() {
              const parts = [entries.slice(0, 2), entries.slice(2)];
              return { readEntries: (resolve) => resolve(parts.shift() ?? []) };
            },
          });
          const item = (entry) => ({ webkitGetAsEntry: () => entry });
          const inner = folder("b", [file("10.jpg"), file("9.jpg"), file("x.jpg")]);
          const whole = folder("photos", [file("c.jpg"), inner, file("a.jpg")]);
          const names = async (items, files = []) => (await filesOf({ items, files })).map(({ name }) => name);
          const opened = await names([item(whole), item(file("first.jpg"))]);
          return [opened, await names([item(file("1"))], [new File([], "2")])];
        }"""
    )
    assert found == [["first.jpg", "a.jpg", "9.jpg", "10.jpg", "x.jpg", "c.jpg"], ["2"]]


@pytest.fixture
def package_user(
    onnxruntime_web: dict[str, bytes], weights: Path, examples: Path, tmp_path: Path
) -> Iterator[str]:
    """A web site that has the package in node_modules, and a page that is the example of the package's README."""
    package = site.package(onnxruntime_web, weights)
    site.write(tmp_path / "site" / "node_modules" / "mien", package)
    shutil.copy(examples / "portrait_smiling.jpg", tmp_path / "site" / "portrait.jpg")
    example = re.search(
        r"```html\n(.*?)<script[^>]*>(.*?)</script>", package["README.md"].decode(), re.DOTALL
    )
    assert example is not None
    # A file, as the policy of the server allows no script inside the page; and in a box that is known.
    asked = 'analyse(document.getElementById("photo"))'
    assert asked in example[2]
    known = asked.replace("))", "), { boxes: [{ x: 160, y: 140, width: 180, height: 250 }] })")
    end = "window.found = faces; document.documentElement.dataset.ready = '';"
    (tmp_path / "site" / "page.js").write_text(example[2].replace(asked, known) + end)
    html = f'<!doctype html><link rel="icon" href="data:,"><script type="module" src="page.js"></script>{example[1]}'
    (tmp_path / "site" / "index.html").write_text(html)
    running = ServedFolder(tmp_path / "site")
    yield running.address
    running.stop()


def test_the_example_of_the_package_runs(
    browse: Any, package_user: str, python: Pipeline, examples: Path
) -> None:
    visit = browse(package_user)
    (face,) = visit.page.evaluate("window.found")
    shares = face["reading"]["probabilities"]
    assert max(shares, key=shares.get) == python(examples / "portrait_smiling.jpg").faces[0].expression


def test_a_file_of_adapt_can_be_chosen_and_removed(browse: Any, tmp_path: Path) -> None:
    page = browse().page
    (tmp_path / "notes.json").write_text("no JSON")
    page.locator("summary", has_text="correction of your own").click()
    page.set_input_files("#file-adapt", str(tmp_path / "notes.json"))
    page.locator("#adapt-said", has_text="not a file of mien adapt").wait_for()
    card = cards.read(cards.FOLDER / "recogniser.json")
    Adaptation(
        ("left", "right"), card.fields["sha256"], np.array([0.5, 0.5]), np.zeros(2), None,
        np.zeros((2, 3)), np.zeros(3),
    ).save(tmp_path / "desk.json")  # fmt: skip
    page.set_input_files("#file-adapt", str(tmp_path / "desk.json"))
    page.locator("#adapt-said", has_text="desk.json corrects the labels").wait_for()
    page.locator("#adapt-remove").click()
    page.locator("#adapt-said", has_text="of the recogniser again").wait_for()
    assert page.locator("#adapt-remove").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_and_nothing_overflows(browse: Any, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = browse(viewport={"width": width, "height": 844}, color_scheme=scheme).page
    for tab in ("read", "live", "batch"):
        page.locator(f"#tab-{tab}").click()
        for details in page.locator("footer details").all():
            details.evaluate("node => node.open = true")
        problems = axe.Axe().run(page).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in problems] == [], tab
        assert page.evaluate("document.documentElement.scrollWidth") <= width
