"""The reader of glasses: what it is fitted on, and that it tells drawn frames on people it has not seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mien.editing.editor import Editor
from mien.editing.foreground import FEATURES, STRIP, features, strip
from mien.editing.geometry import FaceFrame
from mien.editing.photo import open_photo
from mien.training.editor import fit_glasses
from mien.training.editor.fit_glasses import SEEN, fit, looks, with_frame, with_hair

Face = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def faces(examples: Path) -> list[Face]:
    """Small copies of the example faces in other lights, and their mirror images."""
    editor, found = Editor.load(threads=1, measure=False), []
    for name in ("portrait_neutral", "portrait_smiling"):
        photo = open_photo(examples / f"{name}.jpg")
        points = editor.locate(photo)[0].points
        found += [((light * photo.rgb).astype(np.uint8), points) for light in np.linspace(0.4, 1, 8)]
    return found


def test_a_frame_lies_around_both_eyes_and_over_the_nose(faces: list[Face]) -> None:
    rgb, points = faces[-1]
    worn, share = with_frame(rgb, points, 0)
    frame = FaceFrame.of(points)
    assert worn.shape == rgb.shape
    np.testing.assert_array_equal(worn[share == 0], rgb[share == 0])
    x, y = np.rint(frame.to_picture(np.array([0.0, 0.0]))).astype(int)
    assert share[y - 20 : y + 20, x].max() > 0.9, "the bridge"
    hair, over = with_hair(rgb, points, 1)
    assert (hair != rgb).any()
    side = frame.to_canonical(np.argwhere(over > 0.5)[:, ::-1].astype(float))[:, 0]
    assert (side > 0).all(), "over the left eye"


def test_the_strip_is_the_same_at_every_size(faces: list[Face]) -> None:
    rgb, points = faces[-1]
    small = strip(np.ascontiguousarray(rgb[::2, ::2]), points / 2)
    assert small.shape == STRIP[::-1]
    assert np.abs(small.astype(int) - strip(rgb, points)).mean() < 6
    assert features(small).shape == (FEATURES,)
    assert looks(rgb, points, 3, np.random.default_rng(0)).shape == (3, FEATURES)


def test_frames_are_told_on_people_that_were_not_in_the_fit(
    faces: list[Face], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_glasses, "FOLDS", 2)
    people, worn = {}, []
    for number, (rgb, points) in enumerate(faces):
        name = f"Person{number}_0001.jpg"
        if number % 2:
            worn.append(name)
            rgb = with_frame(rgb, points, number)[0]
        people[name] = (rgb, points)
    generated = {f"neutral/{number}.jpg": face for number, face in enumerate(faces[:6])}
    seen = {"glasses": worn, "unsure": [], "generated": []}
    found = fit(people, generated, seen)
    assert found["metrics"]["with glasses"] == found["metrics"]["without glasses"] == 8
    assert found["weights"].shape == (FEATURES,)
    told = [
        features(strip(*people[name])) @ found["weights"] + found["bias"] > 0
        for name in (*worn, *set(people) - set(worn))
    ]
    assert np.mean(told[:8]) > 0.7
    assert np.mean(told[8:]) < 0.3


def test_the_photographs_that_were_looked_at_are_named_once() -> None:
    seen = json.loads(SEEN.read_text(encoding="utf-8"))
    assert not set(seen["glasses"]) & set(seen["unsure"])
    assert len(seen["glasses"]) > 80
