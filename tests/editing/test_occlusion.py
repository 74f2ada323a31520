"""Covered eyes and mouths are noticed, visible ones are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.editing.editor import Editor
from mien.editing.geometry import FaceFrame
from mien.editing.occlusion import covered
from mien.editing.photo import Photo, open_photo
from mien.editing.results import EditRefused, Located
from mien.landmarks import JAW, LEFT_EYE, NOSE_TIP, OUTER_LIPS, RIGHT_EYE


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor.load(threads=1, measure=False)


@pytest.fixture(scope="module", params=["portrait_neutral", "portrait_smiling"])
def face(request: pytest.FixtureRequest, editor: Editor, examples: Path) -> tuple[Photo, Located]:
    photo = open_photo(examples / f"{request.param}.jpg")
    return photo, editor.locate(photo)[0]


def sunglasses(rgb: np.ndarray, points: np.ndarray) -> np.ndarray:
    shown, frame = rgb.copy(), FaceFrame.of(points)
    axes = int(0.38 * frame.unit), int(0.3 * frame.unit)
    for eye in (RIGHT_EYE, LEFT_EYE):
        x, y = frame.to_picture(frame.to_canonical(points)[eye].mean(axis=0) + np.array([0, 0.06])).astype(
            int
        )
        cv2.ellipse(shown, (int(x), int(y)), axes, 0, 0, 360, (12, 11, 12), -1, cv2.LINE_AA)
    return shown


def mask(rgb: np.ndarray, points: np.ndarray) -> np.ndarray:
    shown, frame = rgb.copy(), FaceFrame.of(points)
    shape = frame.to_canonical(points)
    nose = shape[NOSE_TIP]
    top = nose + np.array([[0.35, 0], [0, -0.1], [-0.35, 0]])
    outline = frame.to_picture(np.concatenate([shape[JAW][3:18], top]))
    cv2.fillPoly(shown, [outline.astype(int)], (170, 200, 215), cv2.LINE_AA)
    return shown


def hand(rgb: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A palm of the forehead's colour over the mouth."""
    shown, frame = rgb.copy(), FaceFrame.of(points)
    x, y = frame.to_picture(np.array([0.0, -0.5])).astype(int)
    colour = np.median(rgb[y - 4 : y + 5, x - 4 : x + 5].reshape(-1, 3), axis=0)
    middle = points[OUTER_LIPS].mean(axis=0).astype(int)
    axes = int(0.9 * frame.unit), int(0.45 * frame.unit)
    cv2.ellipse(shown, (int(middle[0]), int(middle[1])), axes, 0, 0, 360, colour.tolist(), -1, cv2.LINE_AA)
    return shown


def fingers(rgb: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Fingers of the forehead's colour over the left eye, with grain and their own shading."""
    shown, frame = rgb.astype(float), FaceFrame.of(points)
    x, y = frame.to_picture(np.array([0.0, -0.5])).astype(int)
    colour = np.median(rgb[y - 4 : y + 5, x - 4 : x + 5].reshape(-1, 3), axis=0)
    eye = frame.to_canonical(points)[LEFT_EYE].mean(axis=0)
    for row in (-0.2, -0.06, 0.08, 0.22):
        ends = frame.to_picture(eye + np.array([[-0.3, row], [1.0, row + 0.1]])).astype(int)
        for width, light in ((0.16, 0.85), (0.1, 1.0)):
            over = cv2.line(
                np.zeros(rgb.shape[:2], np.uint8), *map(tuple, ends.tolist()), 1, int(width * frame.unit)
            )
            shown[over > 0] = light * colour
    grain = np.random.default_rng(0).normal(scale=3, size=rgb.shape[:2])[..., None]
    return np.clip(shown + (shown != rgb) * grain, 0, 255).astype(np.uint8)


def test_an_open_face_is_edited(face: tuple[Photo, Located]) -> None:
    photo, located = face
    assert covered(photo.rgb, located.points) == []
    dim = (photo.rgb * 0.35).astype(np.uint8)
    assert covered(dim, located.points) == []


@pytest.mark.parametrize(
    ("draw", "part"),
    [(sunglasses, "the eyes"), (fingers, "an eye"), (mask, "the mouth"), (hand, "the mouth")],
    ids=["glasses", "fingers", "mask", "hand"],
)
def test_a_covered_face_is_refused(
    editor: Editor, face: tuple[Photo, Located], draw: object, part: str
) -> None:
    photo, located = face
    assert callable(draw)
    hidden = replace(photo, colour=draw(photo.rgb, located.points))
    with pytest.raises(EditRefused, match=f"{part} seem.* covered"):
        editor.apply(hidden, [located], "anger", 0.5)
    forced = editor.apply(hidden, [located], "anger", 0.5, force=True)
    assert any(f"{part} seem" in flag for flag in forced.flags)


def test_small_faces_are_judged_by_their_eyes_alone(face: tuple[Photo, Located]) -> None:
    photo, located = face
    scale = 30 / FaceFrame.of(located.points).unit
    small = cv2.resize(
        mask(photo.rgb, located.points), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA
    )
    assert covered(np.asarray(small, np.uint8), located.points * scale) == []
