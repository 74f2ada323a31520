"""The reader of actions: the shipped weights, what is not measured, and the sides of mirrored faces."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import mien
from mien.actions import ACTIONS, MIRROR
from mien.errors import WeightsError
from mien.faces.action_reader import SHIPPED, SIZE, ActionReader, upright
from mien.faces.pipeline import Pipeline
from mien.io import cards, images


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return mien.load(threads=1)


@pytest.fixture(scope="module")
def smiling(examples: Path) -> images.Rgb:
    return images.read(examples / "portrait_smiling.jpg")


def test_a_smile_is_read_and_a_neutral_face_is_not_one(pipeline: Pipeline, examples: Path) -> None:
    smile = pipeline(examples / "portrait_smiling.jpg").faces[0]
    rest = pipeline(examples / "portrait_neutral.jpg").faces[0]
    for action in ("mouthSmileLeft", "mouthSmileRight"):
        assert (smile.actions[action] or 0) > 0.4 > (rest.actions[action] or 0) + 0.1
    assert smile.units["AU12"] == max(smile.actions["mouthSmileLeft"], smile.actions["mouthSmileRight"])  # type: ignore[type-var]
    assert tuple(smile.actions) == ACTIONS
    assert all(value is None or 0 <= value <= 1 for value in smile.actions.values())


def test_what_the_card_calls_unmeasured_has_no_value(pipeline: Pipeline, smiling: images.Rgb) -> None:
    stated = cards.read(SHIPPED.with_suffix(".json")).fields["actions"]
    said = pipeline(smiling).faces[0].actions
    assert {name for name, value in said.items() if value is None} == {
        name for name in ACTIONS if not stated[name]["measured"]
    }
    assert said["tongueOut"] is None


def test_a_mirrored_picture_has_mirrored_actions(pipeline: Pipeline, smiling: images.Rgb) -> None:
    plain, other = (
        np.array([value or 0.0 for value in pipeline(picture).faces[0].actions.values()])
        for picture in (smiling, np.ascontiguousarray(smiling[:, ::-1]))
    )
    assert np.abs(other[MIRROR] - plain).mean() < 0.05


def test_crops_of_any_size_and_number_are_read() -> None:
    reader, random = ActionReader.load(threads=2), np.random.default_rng(0)
    points = random.uniform(20, 60, (9, 112, 2))
    from mien.landmarks import LEFT_EYE_CORNERS, NOSE_BOTTOM, RIGHT_EYE_CORNERS

    points[:, list(RIGHT_EYE_CORNERS)], points[:, list(LEFT_EYE_CORNERS)] = (26, 30), (54, 30)
    points[:, NOSE_BOTTOM] = (40, 50)
    crops = random.integers(0, 256, (9, SIZE, SIZE), np.uint8)
    together = np.column_stack(reader(crops, points))
    alone = np.concatenate(
        [np.column_stack(reader(crops[row : row + 1], points[row : row + 1])) for row in range(9)]
    )
    np.testing.assert_allclose(together, alone, atol=1e-4)
    large = np.kron(crops, np.ones((1, 2, 2), np.uint8))
    np.testing.assert_allclose(np.column_stack(reader(large, points)), together, atol=1e-4)
    assert [part.shape for part in reader(crops[:0], points[:0])] == [(0, 52), (0, 2), (0,)]


def test_without_actions_there_are_none(smiling: images.Rgb) -> None:
    face = mien.load(actions=False, threads=1)(smiling).faces[0]
    assert face.actions == {} == face.units


def test_a_card_that_does_not_tell_of_each_action_is_refused(tmp_path: Path) -> None:
    (tmp_path / "actions.onnx").write_bytes(SHIPPED.read_bytes())
    card = json.loads(SHIPPED.with_suffix(".json").read_text(encoding="utf-8"))
    del card["actions"]["jawOpen"]
    (tmp_path / "actions.json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match="'actions' does not tell of each action"):
        ActionReader.load(tmp_path / "actions.onnx")


def test_gaze_is_turned_with_the_face_and_back() -> None:
    quarter = np.array(
        [[[0.0, 2.0, 1.0], [-2.0, 0.0, 5.0]]]
    )  # maps the picture's y axis to the square's x axis
    down = np.array([[0.0, -20.0]])
    np.testing.assert_allclose(upright(down, quarter), [[20.0, 0.0]], atol=1e-9)
    some = np.random.default_rng(0).uniform(-40, 40, (5, 2))
    np.testing.assert_allclose(upright(upright(some, quarter), quarter, back=True), some, atol=1e-9)


def test_a_turned_picture_turns_the_gaze(pipeline: Pipeline, smiling: images.Rgb) -> None:
    plain, turned = (
        pipeline(picture).faces[0].gaze for picture in (smiling, cv2.rotate(smiling, cv2.ROTATE_90_CLOCKWISE))
    )
    assert plain is not None
    assert turned is not None
    assert (turned.yaw, turned.pitch) == pytest.approx((plain.pitch, -plain.yaw), abs=2.5)


def test_shut_eyes_have_no_gaze() -> None:
    class Asleep:
        def run(self, wanted: object, given: dict[str, np.ndarray]) -> list[np.ndarray]:  # type: ignore[type-arg]
            actions = np.zeros((len(given["crops"]), 52))
            actions[0, [ACTIONS.index("eyeBlinkLeft"), ACTIONS.index("eyeBlinkRight")]] = 0.9
            return [actions, np.full((len(actions), 2), 5.0)]

    reader = ActionReader(Asleep(), np.ones(52, bool))
    points = np.random.default_rng(0).uniform(20, 60, (2, 112, 2))
    _, gaze, intensity = reader(np.zeros((2, SIZE, SIZE), np.uint8), points)
    assert np.isnan(gaze[0]).all()
    assert np.isnan(intensity).all(), "no weights for it were given"
    assert np.hypot(*gaze[1]) == pytest.approx(np.hypot(5, 5), abs=0.1)
