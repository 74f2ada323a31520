"""What scenes are composed of: faces that two networks agree on, and photographs in which they see none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.errors import ConfigError, DatasetDamaged
from mien.faces.landmarker import Landmarker, box_of_points
from mien.io import images
from mien.training.detector import sources
from mien.training.detector.sources import (
    bounds,
    ellipse_of,
    five_points,
    gather,
    label,
    read_backgrounds,
    read_faces,
)
from mien.types import Box, Detection

from .drawn import sources_folder


class Sees:
    """A detector that gives the same boxes for every picture."""

    def __init__(self, *boxes: Box) -> None:
        self.boxes = boxes

    def __call__(self, image: np.ndarray) -> list[Detection]:
        return [Detection(box, 0.9) for box in self.boxes]


@pytest.fixture(scope="module")
def portrait(examples: Path) -> np.ndarray:
    return cv2.resize(images.read(examples / "portrait_neutral.jpg")[100:400, 110:410], (128, 128))


def test_a_face_is_sure_if_the_detector_agrees(portrait: np.ndarray) -> None:
    landmarker = Landmarker.load(threads=1)
    edge = 128 // 4
    points = landmarker(portrait, np.array([[0, 0, 127, 127]]))[0][0]
    left, top, right, bottom = (float(value) + edge for value in box_of_points(points))
    there, elsewhere = Box(left, top, right - left, bottom - top), Box(0, 0, 20, 20)
    for boxes, sure in (((there,), True), ((elsewhere,), False), ((), False), ((there, elsewhere), False)):
        assert label([("one", portrait)], landmarker, Sees(*boxes))["sure"].tolist() == [sure]
    # No detector is asked about 48 px, but without a face nothing is sure.
    small = cv2.resize(portrait, (48, 48), interpolation=cv2.INTER_AREA)
    found = label([("small", small), ("grey", np.full((48, 48, 3), 90, np.uint8))], landmarker, Sees())
    assert found["sure"].tolist() == [True, False]


def test_the_ellipse_is_the_box_of_the_points_turned_with_the_head(portrait: np.ndarray) -> None:
    points = Landmarker.load(threads=1)(portrait, np.array([[0, 0, 127, 127]]))[0][0].astype(np.float64)
    upright = ellipse_of(points, 0.0)
    known = box_of_points(points)
    box = bounds(upright[None])[0]
    assert box[2] - box[0] == pytest.approx((known[2] - known[0]) * sources.WIDER, rel=1e-4)
    assert box[3] - box[1] == pytest.approx((known[3] - known[1]) * sources.HIGHER, rel=1e-4)
    turned = (points - 64) @ np.array([[0, 1], [-1, 0]]) + 64  # a quarter clockwise
    other = ellipse_of(turned, 90.0)
    assert other[2:] == pytest.approx([upright[2], upright[3], 90])
    assert ellipse_of(turned)[4] == pytest.approx(ellipse_of(points)[4] + 90, abs=0.01)
    left, right, tip, first, last = five_points(points)
    assert left[0] < tip[0] < right[0]
    assert first[0] < tip[0] < last[0]
    assert left[1] < tip[1] < first[1]


def test_pictures_with_a_face_are_no_backgrounds_and_false_alarms_are_kept(
    examples: Path, tmp_path: Path
) -> None:
    place = tmp_path / "some-photos"
    place.mkdir()
    random = np.random.default_rng(0)
    images.write(place / "noise.png", random.integers(0, 256, (1200, 900, 3), dtype=np.uint8))
    images.write(place / "small.png", np.zeros((40, 40, 3), np.uint8))
    (place / "broken.jpg").write_bytes(b"no picture")
    (place / "notes.txt").write_text("no picture")
    images.write(place / "portrait.png", images.read(examples / "portrait_neutral.jpg"))
    landmarker = Landmarker.load(threads=1)
    found = gather([place], 10, landmarker, Sees(Box(150, 120, 210, 250)))
    assert found["names"].tolist() == ["noise.png"]
    assert found["places"].tolist() == ["some-photos"]
    assert found["shapes"].tolist() == [[800, 600]]
    assert found["pixels"].shape == (800 * 600 * 3,)
    assert found["alarms"].tolist() == [[0, 150, 120, 360, 370]]
    with pytest.raises(ConfigError, match="no picture without a face"):
        gather([place / "portrait.png"], 10, landmarker, Sees(Box(150, 120, 210, 250)))


def test_people_and_photographs_are_held_out(tmp_path: Path) -> None:
    keys = sources_folder(tmp_path, faces=60)
    roots = {"muxspace": Path(str(keys["muxspace"]))}
    sets = read_faces(tmp_path / "sources", roots, rendered=False)
    train, held = sets["train"]["muxspace"], sets["held"]["muxspace"]
    assert len(train) + len(held) == 59  # one is not sure
    assert 1 <= len(held) < 15
    assert train.points.shape == (len(train), 5, 2)
    assert train.images[0].shape[:2] == (128, 128)
    backgrounds = read_backgrounds(tmp_path / "sources")
    assert sum(map(len, backgrounds.values())) == 8
    assert len(backgrounds["held"]) >= 1
    alarmed = [one for some in backgrounds.values() for one in some if len(one.alarms)]
    assert [one.alarms.tolist() for one in alarmed] == [[[10, 10, 60, 70]]]
    np.savez(
        tmp_path / "sources" / "muxspace.npz", names=[], points=np.empty((0, 112, 2)), sure=np.empty(0, bool)
    )
    with pytest.raises(DatasetDamaged, match="no face"):
        read_faces(tmp_path / "sources", roots, rendered=False)


def test_what_is_missing_needs_the_teacher(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name YuNet's"):
        sources.complete(tmp_path / "new", {}, None, 1, (), 10, None, print)
