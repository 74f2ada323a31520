"""The same picture gives the same answer by every way in, and what cannot be analysed is said, once and clearly."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import mien
from mien.errors import ConfigError, ImageError, LoadError, MienError, NoFace, WeightsError
from mien.faces import detect
from mien.faces.landmarker import Landmarker
from mien.faces.pipeline import ColourOrderWarning, Pipeline, load, needed_presence, quality, whole
from mien.faces.recognise import SHIPPED
from mien.io import images
from mien.types import Analysis, Box, Face


@pytest.fixture(scope="module")
def pipeline(recogniser_file: Path) -> Pipeline:
    return load(weights=recogniser_file)


@pytest.fixture(scope="module")
def photographs(examples: Path) -> list[Path]:
    found = sorted(path for path in examples.iterdir() if path.suffix in (".jpg", ".png"))
    assert len(found) == 5
    return found


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("blank") / "blank.png"
    images.write(path, np.full((200, 300, 3), 128, np.uint8))
    return path


def iou(one: Box, other: Box) -> float:
    width = min(one.right, other.right) - max(one.x, other.x)
    height = min(one.bottom, other.bottom) - max(one.y, other.y)
    common = max(0, width) * max(0, height)
    return common / (one.area + other.area - common)


def drift(one: Face, other: Face) -> float:
    """The largest change of any probability."""
    return max(abs(one.probabilities[name] - other.probabilities[name]) for name in mien.EXPRESSIONS)


def test_every_bundled_face_is_found(pipeline: Pipeline, photographs: list[Path]) -> None:
    counts = {path.stem: len(pipeline(path).faces) for path in photographs}
    assert counts == {
        "astronaut": 1, "group_1": 6, "group_2": 7, "portrait_neutral": 1, "portrait_smiling": 1,
    }  # fmt: skip


def test_a_pipeline_prints_as_its_detector_and_labels(pipeline: Pipeline) -> None:
    assert repr(pipeline) == f"Pipeline(MienDetector, labels {', '.join(pipeline.labels)})"


def test_a_batch_equals_singles_exactly(pipeline: Pipeline, photographs: list[Path]) -> None:
    assert pipeline(photographs) == [pipeline(path) for path in photographs]


def test_any_order_gives_the_same_analyses(pipeline: Pipeline, photographs: list[Path]) -> None:
    assert pipeline(photographs[::-1]) == pipeline(photographs)[::-1]


def test_path_bytes_open_file_and_array_agree(pipeline: Pipeline, astronaut: Path) -> None:
    expected = pipeline(astronaut)
    with astronaut.open("rb") as file:
        ways: list[Any] = [str(astronaut), astronaut.read_bytes(), file, images.read(astronaut)]
        analyses = [pipeline(way) for way in ways]
    assert [one.faces for one in analyses] == [expected.faces] * 4
    assert [one.source for one in analyses] == [str(astronaut), "bytes", str(astronaut), "array"]
    assert (expected.width, expected.height) == (512, 512)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_equals_upright(
    pipeline: Pipeline, examples: Path, tmp_path: Path, orientation: int
) -> None:
    from PIL import Image

    upright = images.read(examples / "portrait_smiling.jpg")[
        :500
    ]  # not square: a missed rotation changes the size
    # What a camera stores for each orientation: the inverse of what a viewer must do.
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright), 7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "photo.png", exif=exif)
    turned = pipeline(tmp_path / "photo.png")
    assert (turned.width, turned.height) == (512, 500)
    assert turned.faces == pipeline(upright).faces


def test_a_mirrored_picture_gives_mirrored_boxes_and_the_same_probabilities(
    pipeline: Pipeline, photographs: list[Path]
) -> None:
    for path in photographs:
        picture = images.read(path)
        width = picture.shape[1]
        plain, mirrored = pipeline(picture), pipeline(picture[:, ::-1])
        assert len(plain.faces) == len(mirrored.faces)
        for face in plain.faces:
            turned = Box(width - face.box.right, face.box.y, face.box.width, face.box.height)
            other = max(mirrored.faces, key=lambda one: iou(turned, one.box))
            assert iou(turned, other.box) > 0.8  # the detector rounds to its own grid
            assert drift(face, other) < 0.15
            assert other.pose.yaw == pytest.approx(-face.pose.yaw, abs=8)


def test_png_and_good_jpeg_agree(pipeline: Pipeline, astronaut: Path, tmp_path: Path) -> None:
    images.write(tmp_path / "photo.jpg", images.read(astronaut), quality=97)
    (png,), (jpeg,) = pipeline(astronaut).faces, pipeline(tmp_path / "photo.jpg").faces
    assert iou(png.box, jpeg.box) > 0.95
    assert drift(png, jpeg) < 0.05
    assert np.abs(np.subtract(png.landmarks.points, jpeg.landmarks.points)).max() < 2


def test_analyses_survive_json(pipeline: Pipeline, photographs: list[Path]) -> None:
    for analysis in pipeline([*photographs, "missing.jpg"]):
        assert Analysis.from_json(analysis.to_json()) == analysis
        assert json.loads(analysis.to_json())["source"] == analysis.source


def test_a_picture_without_a_face_is_an_analysis_without_faces(pipeline: Pipeline, blank: Path) -> None:
    assert pipeline(blank) == Analysis(str(blank), 300, 200)


def test_on_no_face_skip_and_error(recogniser_file: Path, blank: Path, astronaut: Path) -> None:
    skipping = load(weights=recogniser_file, on_no_face="skip")
    assert [one.source for one in skipping([blank, astronaut, blank])] == [str(astronaut)]
    assert skipping([blank, "missing.jpg"])[0].source == "missing.jpg"  # an error is never skipped
    strict = load(weights=recogniser_file, on_no_face="error")
    with pytest.raises(NoFace, match=r"no face found.*tiled"):
        strict(blank)
    failed, fine = strict([blank, astronaut])
    assert failed.error is not None
    assert "no face found" in failed.error
    assert len(fine.faces) == 1


def test_one_bad_picture_raises_alone_and_is_a_row_among_others(
    pipeline: Pipeline, astronaut: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"hello")
    with pytest.raises(ImageError, match="not a picture"):
        pipeline(broken)
    before, failed, after = pipeline([astronaut, broken, astronaut])
    assert failed.error is not None
    assert str(broken) in failed.error
    assert failed.faces == ()
    assert before == after == pipeline(astronaut)


def test_a_stream_reads_only_as_far_as_needed(pipeline: Pipeline, blank: Path) -> None:
    pulled = 0

    def endless() -> Iterator[Path]:
        nonlocal pulled
        for path in cycle([blank]):
            pulled += 1
            yield path

    assert len(list(islice(pipeline.stream(endless(), ahead=4), 6))) == 6
    assert pulled == 8
    pulled = 0
    assert next(iter(pipeline.stream(endless(), ahead=1))).faces == ()
    assert pulled == 1
    with pytest.raises(ConfigError, match="ahead"):
        next(iter(pipeline.stream([], ahead=0)))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((10, 10, 5), np.uint8),
        np.zeros((3, 10, 10), np.uint8),
        np.full((10, 10, 3), 200, np.float32),
        np.zeros((10, 10, 3), np.uint16),
        np.zeros((2, 10, 10, 3), np.uint8),
    ],
)
def test_arrays_of_another_form_are_refused(pipeline: Pipeline, array: np.ndarray) -> None:
    with pytest.raises(ImageError, match="array"):
        pipeline(array)


def test_pillow_paths_and_tensors_are_what_the_file_is(
    pipeline: Pipeline, astronaut: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Own(os.PathLike[str]):
        def __fspath__(self) -> str:
            return str(astronaut)

    expected = pipeline(astronaut)
    rgb = images.read(astronaut)
    same: list[Any] = [
        Own(),
        Image.open(astronaut),
        Image.fromarray(rgb),
        np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]),
        rgb / 255,
        (rgb / 255).astype(np.float32),
    ]
    if find_spec("torch"):
        import torch

        tensor = torch.from_numpy(rgb)
        same += [tensor, tensor.permute(2, 0, 1), tensor.permute(2, 0, 1) / 255]
    for number, picture in enumerate(same):
        found = pipeline(picture)
        assert found.faces == expected.faces, number
    assert pipeline(Image.open(astronaut)).source == str(astronaut)
    assert [found.faces for found in pipeline(same)] == [expected.faces] * len(same)


def test_collections_that_are_no_list_are_told_what_to_do(pipeline: Pipeline, blank: Path) -> None:
    pandas = pytest.importorskip("pandas")
    for several in ({blank}, (path for path in [blank]), pandas.Series([str(blank)]), {"a": blank}):
        with pytest.raises(
            ImageError, match=r"of pictures: pass list\(...\) of it, or iterate over pipeline.stream"
        ):
            pipeline(several)  # type: ignore[call-overload]
    assert [one.source for one in pipeline(list(pandas.Series([str(blank)])))] == [str(blank)]
    with pytest.raises(ImageError, match="an array of object is not a picture: pass uint8 pixels, or paths"):
        pipeline(np.array([str(blank)], dtype=object))


def test_base64_is_neither_taken_for_a_path_nor_echoed(pipeline: Pipeline, astronaut: Path) -> None:
    text = base64.b64encode(astronaut.read_bytes()).decode()
    for given in (text, text[:300], f"data:image/png;base64,{text}", f"{text[:76]}\n{text[76:3000]}"):
        with pytest.raises(ImageError, match="base64") as caught:
            pipeline(given)
        assert len(str(caught.value)) < 200
        row = pipeline([given])[0]
        assert row.error == str(caught.value)
        assert len(row.source) < 4200


def test_bgr_passed_as_rgb_is_noticed(pipeline: Pipeline, photographs: list[Path]) -> None:
    for path in photographs:
        picture = images.read(path)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pipeline(picture)
        with pytest.warns(ColourOrderWarning, match="is it BGR"):
            pipeline(picture[..., ::-1])


def test_a_face_of_low_presence_is_no_face(recogniser_file: Path, astronaut: Path) -> None:
    assert load(weights=recogniser_file, presence=1.0)(astronaut).faces == ()


def test_embeddings_come_only_when_asked_for(
    recogniser_file: Path, astronaut: Path, pipeline: Pipeline
) -> None:
    assert pipeline(astronaut).faces[0].reading.embedding == ()
    assert len(load(weights=recogniser_file, embeddings=True)(astronaut).faces[0].reading.embedding) == 16


def test_extreme_pictures_are_analysed(pipeline: Pipeline) -> None:
    for shape in ((1, 1, 3), (1, 4000, 3), (4000, 1, 3), (20, 20, 3), (19, 2000, 3)):
        noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        analysis = pipeline(noise)
        assert (analysis.height, analysis.width) == shape[:2]


def test_a_face_cut_by_the_edge_is_read(pipeline: Pipeline, astronaut: Path) -> None:
    picture = images.read(astronaut)
    (face,) = pipeline(picture).faces
    middle = round(face.box.x + 0.35 * face.box.width)
    for analysis in (pipeline(picture[:, middle:]), pipeline(picture[round(face.box.y + 30) :])):
        for one in analysis.faces:
            assert sum(one.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"presence": 2}, "presence is 2"),
        ({"on_no_face": "perhaps"}, "on_no_face"),
        ({"detector": "hair"}, "haar"),
        ({"detector": "yunet"}, "model_path"),
        ({"min_confidence": 3.0}, "confidence"),
    ],
)
def test_wrong_options_fail_at_the_door(
    recogniser_file: Path, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load(weights=recogniser_file, **options)


def test_weights_that_are_missing_fail_at_the_door(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.onnx: no such file"):
        load(weights=tmp_path / "none.onnx")


def test_quality_falls_with_blur_size_angle_and_presence() -> None:
    crop = np.random.default_rng(0).integers(0, 256, (80, 80), dtype=np.uint8)
    blurred = np.asarray(cv2.GaussianBlur(crop, (0, 0), 3), dtype=np.uint8)
    best = quality(crop, side=200, yaw=0, pitch=0, presence=1).value
    assert best == pytest.approx(1, abs=0.01)
    assert quality(blurred, 200, 0, 0, 1).value < 0.6 * best
    assert quality(crop, 5, 0, 0, 1).value == pytest.approx(best * (5 / 80) ** 0.25)
    assert quality(crop, 200, 60, 0, 1).value == pytest.approx(best * 0.5**0.25)
    assert quality(crop, 200, 0, -60, 1).value == pytest.approx(best * 0.5**0.25)
    assert quality(crop, 200, 0, 0, 0.0625).value == pytest.approx(best * 0.5)
    assert quality(crop, 200, 120, 0, 1).value == 0
    assert quality(np.zeros((80, 80), np.uint8), 200, 0, 0, 1).value == 0


def test_quality_says_what_lowers_it_most() -> None:
    crop = np.random.default_rng(0).integers(0, 256, (80, 80), dtype=np.uint8)
    blurred = np.asarray(cv2.GaussianBlur(crop, (0, 0), 3), dtype=np.uint8)
    assert quality(blurred, 200, 0, 0, 1).weakest == "blurred"
    assert quality(crop, 5, 0, 0, 1).weakest == "small"
    assert quality(crop, 200, 80, 0, 1).weakest == "turned"
    assert quality(crop, 200, 0, 0, 0.06).weakest == "hardly a face"
    assert quality(crop, 200, 0, 0, 1, 0.2).weakest == "covered"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks on this system")
def test_threads_follow_the_affinity_mask(recogniser_file: Path) -> None:
    script = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from mien.io.onnx import available, session
network = session(open(sys.argv[1], "rb").read())
print(available(), network.get_session_options().intra_op_num_threads)
"""
    output = subprocess.run(
        [sys.executable, "-c", script, str(recogniser_file)], capture_output=True, text=True, check=True
    ).stdout
    assert output.split() == ["1", "1"]


def test_the_analysis_path_imports_neither_torch_nor_what_it_does_not_need(
    recogniser_file: Path, examples: Path
) -> None:
    script = """
import sys, mien
mien.load(weights=sys.argv[1])(sys.argv[2])
heavy = {"torch", "pandas", "pyarrow", "matplotlib", "rich", "typer", "pydantic", "PIL", "yaml"}
print(sorted(heavy & set(sys.modules)))
"""
    output = subprocess.run(
        [sys.executable, "-c", script, str(recogniser_file), str(examples / "portrait_smiling.jpg")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output.strip() == "[]"


@pytest.mark.skipif(not SHIPPED.exists(), reason="this checkout has no recogniser weights yet")
def test_the_shipped_weights_read_the_bundled_portraits_alone_and_together(photographs: list[Path]) -> None:
    pipeline = load()
    together = pipeline(photographs)
    for path, analysis in zip(photographs, together, strict=True):
        alone = pipeline(path)
        assert len(alone.faces) == len(analysis.faces)
        for one, other in zip(alone.faces, analysis.faces, strict=True):
            assert drift(one, other) < 1e-4
            assert (one.valence, one.arousal) == pytest.approx((other.valence, other.arousal), abs=1e-4)
    by_name = {Path(analysis.source).stem: analysis.faces[0] for analysis in together}
    assert by_name["portrait_smiling"].expression == by_name["astronaut"].expression == "happiness"
    assert by_name["portrait_smiling"].valence > by_name["portrait_neutral"].valence
    assert by_name["portrait_smiling"].intensity > by_name["portrait_neutral"].intensity


@pytest.mark.skipif(not SHIPPED.exists(), reason="this checkout has no recogniser weights yet")
def test_the_shipped_weights_hardly_see_mirroring(photographs: list[Path]) -> None:
    pipeline = load()
    drifts = []
    for path in photographs:
        picture = images.read(path)
        plain, mirrored = pipeline(picture), pipeline(picture[:, ::-1])
        for face in plain.faces:
            turned = Box(picture.shape[1] - face.box.right, face.box.y, face.box.width, face.box.height)
            drifts.append(drift(face, max(mirrored.faces, key=lambda one: iou(turned, one.box))))
    assert sum(drifts) / len(drifts) < 0.1
    assert max(drifts) < 0.45  # the worst of the bundled faces was at 0.35


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_portrait_is_read_as_the_upright_one(quarters: int, photographs: list[Path]) -> None:
    pipeline = load(threads=1)
    for name, count in (("portrait_neutral.jpg", 1), ("portrait_smiling.jpg", 1), ("group_2.jpg", 7)):
        picture = images.read(next(path for path in photographs if path.name == name))
        upright = pipeline(picture).faces
        turned = pipeline(np.ascontiguousarray(np.rot90(picture, -quarters))).faces
        assert len(upright) == len(turned) == count
        if count == 1:
            assert turned[0].expression == upright[0].expression
        for face in turned:
            assert abs((face.pose.roll - 90 * quarters + 180) % 360 - 180) < 45


def test_mien_errors_are_what_callers_can_catch() -> None:
    assert issubclass(NoFace, MienError)
    assert issubclass(ImageError, MienError)


@pytest.mark.parametrize("editor", [False, True])
@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (ImportError("libgomp.so.1: cannot open shared object file", name="onnxruntime"), "libgomp.so.1"),
        (ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime"), "onnxruntime"),
        (MemoryError(), "out of memory"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, editor: bool, failure: BaseException, words: str
) -> None:
    import mien
    from mien.io import onnx as threads

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(threads, "_session", fail)
    with pytest.raises(LoadError, match=words) as caught:
        mien.Editor.load() if editor else load()
    assert "\n" not in str(caught.value)


def test_without_a_further_thread_a_pipeline_is_loaded_all_the_same(
    monkeypatch: pytest.MonkeyPatch, recogniser_file: Path
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert load(weights=recogniser_file, threads=1).recogniser.name == "random"


def test_faces_are_numbered_by_size_whatever_the_detector_says(recogniser_file: Path, examples: Path) -> None:
    wanted = load(weights=recogniser_file, threads=1)
    backwards = load(detector=lambda rgb: wanted.detector(rgb)[::-1], weights=recogniser_file, threads=1)
    assert backwards(examples / "group_1.jpg") == wanted(examples / "group_1.jpg")


def test_an_unsure_detection_needs_a_higher_presence() -> None:
    assert needed_presence(0.9, 0.5) == 0.5
    assert needed_presence(0.6, 0.5) == pytest.approx(0.995)
    assert needed_presence(0.6, 0.0) == 0.0  # 0 keeps every detection
    assert needed_presence(0.6, 1.0) == 1.0


def test_an_unsure_detection_is_kept_only_if_the_landmark_network_is_sure(
    recogniser_file: Path, astronaut: Path
) -> None:
    class Presence:
        """A landmark network that gives every face the same presence."""

        def __init__(self, presence: float) -> None:
            self.inner, self.presence = Landmarker.load(threads=1), presence

        def __call__(self, image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, ...]:
            points, presence, pose = self.inner(image, boxes)
            return points, np.full_like(presence, self.presence), pose

    loaded = load(weights=recogniser_file, threads=1)
    (face,) = loaded(astronaut).faces
    for score, presence, kept in ((0.9, 0.6, 1), (0.6, 0.6, 0), (0.6, 0.999, 1)):
        found = [replace(face.detection, score=score)]
        pipeline = Pipeline(lambda rgb, found=found: found, Presence(presence), loaded.recogniser)  # type: ignore[misc, arg-type]
        assert len(pipeline(astronaut).faces) == kept


def test_a_face_cut_short_by_the_border_is_not_whole() -> None:
    assert whole(Box(100, 100, 80, 110), (300, 400), 0) == 1
    assert whole(Box(100, 0, 80, 110), (300, 400), 0) == 1
    assert whole(Box(100, 230, 80, 70), (300, 400), 0) == 0
    assert whole(Box(100, 100, 80, 70), (300, 400), 0) == 1  # an odd shape, but nothing is cut
    assert whole(Box(0, 100, 110, 80), (300, 400), -90) == 1  # a face that lies on its side
    assert whole(Box(0, 100, 70, 80), (300, 400), 90) == 0


def test_an_error_of_one_part_waits_for_the_threads_that_open_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a process that ends with the error would be aborted in the middle of one."""
    from mien.faces.landmarker import Landmarker

    going, ended = threading.Event(), threading.Event()

    def slow(**options: Any) -> None:
        going.wait(10)
        ended.set()

    monkeypatch.setattr(Landmarker, "load", slow)
    monkeypatch.setattr(detect, "build", lambda *names, **options: _failing(going))
    with pytest.raises(ConfigError, match="no detector"):
        load(detector="none")
    assert ended.is_set()


def _failing(going: threading.Event) -> None:
    threading.Timer(0.2, going.set).start()
    raise ConfigError("no detector")
