"""Glasses and hair in front of the eyes stay where they are, and the face moves behind them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.editing.editor import Editor
from mien.editing.foreground import Foreground, glasses_score
from mien.editing.geometry import FaceFrame
from mien.editing.photo import Photo, open_photo
from mien.editing.results import EditRefused, Located
from mien.editing.target import Target
from mien.landmarks import LEFT_EYE, OUTER_LIPS, RIGHT_EYE
from mien.training.editor.fit_glasses import with_frame, with_hair


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor.load(threads=1, measure=False)


@pytest.fixture(scope="module")
def face(editor: Editor, examples: Path) -> tuple[Photo, Located]:
    photo = open_photo(examples / "portrait_neutral.jpg")
    return photo, editor.locate(photo)[0]


def moved(editor: Editor, photo: Photo, located: Located, share: np.ndarray, target: str) -> float:
    """Mean change of the pixels that are drawn in front, in levels."""
    edit = editor.apply(photo, [located], target, 1.0)
    change = np.abs(edit.image.astype(int) - photo.rgb).mean(axis=2)
    places = np.argwhere(share > 0.8 * share.max())
    near = np.abs(FaceFrame.of(located.points).to_canonical(places[:, ::-1].astype(float)))
    rows, columns = places[(near < [1.0, 0.8]).all(axis=1)].T
    return float(change[rows, columns].mean())


@pytest.mark.parametrize("number", [0, 1, 2, 4])
@pytest.mark.parametrize("target", ["surprise", "anger"])
def test_frames_stay_while_lids_and_brows_move(
    editor: Editor, face: tuple[Photo, Located], monkeypatch: pytest.MonkeyPatch, number: int, target: str
) -> None:
    photo, located = face
    worn, share = with_frame(photo.rgb, located.points, number)
    glasses = replace(photo, colour=worn)
    assert glasses_score(worn, located.points) > 0 > glasses_score(photo.rgb, located.points)
    edit = editor.apply(glasses, [located], target, 1.0)
    assert any("glasses: left where it is" in flag for flag in edit.flags)
    left = moved(editor, glasses, located, share, target)
    monkeypatch.setattr(Foreground, "of", lambda *args, **kwargs: None)
    assert left < 0.35 * moved(editor, glasses, located, share, target)


def test_hair_over_an_eye_stays(
    editor: Editor, face: tuple[Photo, Located], monkeypatch: pytest.MonkeyPatch
) -> None:
    photo, located = face
    covered, share = with_hair(photo.rgb, located.points, 5)
    hidden = replace(photo, colour=covered)
    front = Foreground.of(covered, located.points)
    assert front is not None
    assert front.kinds == ("hair over an eye",)
    left = moved(editor, hidden, located, share, "surprise")
    monkeypatch.setattr(Foreground, "of", lambda *args, **kwargs: None)
    assert left < 0.6 * moved(editor, hidden, located, share, "surprise")


@pytest.mark.parametrize("name", ["portrait_neutral", "portrait_smiling"])
def test_an_open_face_has_nothing_in_front(editor: Editor, examples: Path, name: str) -> None:
    photo = open_photo(examples / f"{name}.jpg")
    points = editor.locate(photo)[0].points
    assert Foreground.of(photo.rgb, points) is None
    assert Foreground.of((0.4 * photo.rgb).astype(np.uint8), points) is None


def test_where_nothing_changes_the_photo_keeps_its_pixels(face: tuple[Photo, Located]) -> None:
    photo, located = face
    worn, _ = with_frame(photo.rgb, located.points, 0)
    for colour in (worn, worn.astype(np.uint16) * 257):
        front = Foreground.of(worn, located.points)
        assert front is not None
        bare = front.removed(colour)
        assert bare.dtype == colour.dtype
        assert (bare != colour).any()
        np.testing.assert_array_equal(front.laid_over(bare.copy(), bare, colour), colour)


def dark(rgb: np.ndarray, points: np.ndarray) -> np.ndarray:
    shown, frame = rgb.copy(), FaceFrame.of(points)
    for eye in (RIGHT_EYE, LEFT_EYE):
        x, y = frame.to_picture(frame.to_canonical(points)[eye].mean(axis=0) + np.array([0, 0.06])).astype(
            int
        )
        axes = int(0.38 * frame.unit), int(0.3 * frame.unit)
        cv2.ellipse(shown, (int(x), int(y)), axes, 0, 0, 360, (12, 11, 12), -1, cv2.LINE_AA)
    return shown


def test_behind_sunglasses_the_mouth_is_edited_alone(editor: Editor, face: tuple[Photo, Located]) -> None:
    photo, located = face
    hidden = replace(photo, colour=dark(photo.rgb, located.points))
    for target in (Target.parse("anger"), Target.of_gaze(0.5, 0), Target.of_actions({"browInnerUp": 0.6})):
        with pytest.raises(EditRefused, match=r"the eyes seem covered.*sunglasses"):
            editor.apply(hidden, [located], target)
    for target in (Target.parse("happiness"), Target.of_actions({"smile": 0.6})):
        edit = editor.apply(hidden, [located], target)
        change = np.abs(edit.image.astype(int) - hidden.rgb).mean(axis=2)
        low, high = (part(located.points[OUTER_LIPS], axis=0).astype(int) for part in (np.min, np.max))
        assert change[low[1] : high[1], low[0] : high[0]].mean() > 3
        for eye in (RIGHT_EYE, LEFT_EYE):
            x, y = located.points[eye].mean(axis=0).astype(int)
            reach = int(0.2 * FaceFrame.of(located.points).unit)
            assert change[y - reach // 2 : y + reach, x - reach : x + reach].max() == 0
