"""Lids move over an eyeball that does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.editing import eyes
from mien.editing.editor import Editor
from mien.editing.geometry import FaceFrame
from mien.editing.head_turn import HeadTurn
from mien.editing.photo import open_photo
from mien.editing.provenance import facts
from mien.editing.render import render
from mien.editing.results import EditRefused
from mien.editing.target import Target
from mien.errors import ConfigError
from mien.evaluation.editor.irises import iris_ratios
from mien.landmarks import LEFT_EYE, LEFT_IRIS, MIRROR, RIGHT_EYE, RIGHT_IRIS


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor.load(threads=1, measure=False)


@pytest.mark.parametrize(
    ("target", "pictures", "eyes"), [("surprise", "portrait_*.jpg", 2), ("happiness", "*.jpg", 15)]
)
def test_irises_stay_round(editor: Editor, examples: Path, target: str, pictures: str, eyes: int) -> None:
    """The measure sees that the flow of a surprise stretches them, so it could see it here. It measures one eye within
    0.1, and few that a smile half closes, so smiles need many faces."""
    ratios = []
    for path in sorted(examples.glob(pictures)):
        photo = open_photo(path)
        for face in editor.locate(photo):
            edit = editor.apply(photo, [face], target, 1.0).image
            plan = editor.plan(face, Target.parse(target), 1.0)
            flow, _ = render(photo.colour, plan, None, 0.0, masked=False)
            after = plan.frame.to_picture(plan.target)
            ratios.append([iris_ratios(photo.rgb, shown, face.points, after) for shown in (edit, flow)])
    assert np.isfinite(ratios).sum(axis=(0, 2)).min() >= eyes
    drawn, moved = np.nanmedian(ratios, axis=(0, 2))
    assert drawn == pytest.approx(1, abs=0.08)
    if target == "surprise":
        assert moved > 1.1


@pytest.mark.parametrize("stretch", [0.85, 1.2, 1.4])
def test_the_measure_finds_a_known_stretch(editor: Editor, examples: Path, stretch: float) -> None:
    found = []
    for name in ("portrait_neutral", "portrait_smiling"):
        photo = open_photo(examples / f"{name}.jpg")
        points = editor.locate(photo)[0].points
        middle = points[[RIGHT_IRIS, LEFT_IRIS]].mean(axis=0)
        matrix = np.array([[1, 0, 0], [0, stretch, middle[1] * (1 - stretch)]])
        shown = cv2.warpAffine(photo.rgb, matrix, photo.rgb.shape[1::-1], flags=cv2.INTER_CUBIC)
        there = points @ matrix[:, :2].T + matrix[:, 2]
        found += iris_ratios(photo.rgb, np.asarray(shown), points, there)
        assert iris_ratios(photo.rgb, photo.rgb, points, points) == pytest.approx([1, 1], abs=0.01)
    assert np.nanmedian(found) == pytest.approx(stretch, rel=0.08), found


def painted(iris: tuple[int, int, int], lids: float = 11.0) -> tuple[np.ndarray, np.ndarray]:
    """An eye of known shape, 60 pixels wide: white, an iris of radius 9, skin above and below; and its lids [8, 2]."""
    picture = np.full((80, 120, 3), (190, 150, 130), np.uint8)
    x = np.linspace(30, 90, 61)
    height = lids * (1 - ((x - 60) / 30) ** 2)
    outline = np.concatenate([np.stack([x, 40 - height], axis=1), np.stack([x, 40 + height], axis=1)[::-1]])
    inside = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(inside, [np.rint(outline * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    ball = np.full_like(picture, (225, 220, 215))
    cv2.circle(ball, (60, 38), 9, iris, -1, cv2.LINE_AA)
    picture[inside > 0] = ball[inside > 0]
    at = [0, 15, 30, 45, 60]
    upper = [[30 + k, 40 - lids * (1 - ((k - 30) / 30) ** 2)] for k in at]
    lower = [[30 + k, 40 + lids * (1 - ((k - 30) / 30) ** 2)] for k in at[3:0:-1]]
    return picture, np.array(upper + lower, float)


@pytest.mark.parametrize("iris", [(30, 20, 15), (90, 110, 120)], ids=["dark", "grey"])
def test_the_disc_is_found(iris: tuple[int, int, int]) -> None:
    picture, lids = painted(iris)
    eye = eyes.Eye.of(picture, eyes.opening_of(lids), np.array([59.0, 40.0]), 100.0)
    assert eye.measured
    assert eye.radius == pytest.approx(9, abs=0.8)
    np.testing.assert_allclose(eye.centre, [60, 38], atol=1.2)
    np.testing.assert_allclose(eye.rings[3], iris, atol=12)
    np.testing.assert_allclose(eye.rings[-1], (225, 220, 215), atol=12)


def test_what_lids_uncover_is_iris_and_white() -> None:
    """Above the lid of a half closed eye the disc goes on, round, and beside it is white."""
    picture, lids = painted((40, 30, 25), lids=7.0)
    eye = eyes.Eye.of(picture, eyes.opening_of(lids), np.array([60.0, 38.0]), 100.0)
    places = np.array([[[60.0, 31.0], [60.0, 33.0], [40.0, 36.0], [80.0, 36.0]]])
    ball = eye.ball(picture, places)[0]
    np.testing.assert_allclose(ball[1], (40, 30, 25), atol=25)
    np.testing.assert_allclose(ball[2:], np.tile((225, 220, 215), (2, 1)), atol=25)


def test_closed_eyes_are_left_to_the_flow() -> None:
    _, lids = painted((40, 30, 25), lids=1.5)
    assert eyes.opening_of(lids).ratio < 0.12


@pytest.mark.parametrize("shift", [0.09, 0.1])
def test_eyes_that_the_network_missed_are_found(editor: Editor, examples: Path, shift: float) -> None:
    photo = open_photo(examples / "portrait_neutral.jpg")
    right = editor.locate(photo)[0].points
    parts = [
        *range(RIGHT_EYE.start, RIGHT_EYE.stop),
        *range(LEFT_EYE.start, LEFT_EYE.stop),
        RIGHT_IRIS,
        LEFT_IRIS,
    ]
    wrong = right.copy()
    down = FaceFrame.of(right).turn[:, 1]
    wrong[parts] += shift * down
    found = eyes.settled(photo.rgb, wrong)
    unit = FaceFrame.of(right).unit
    before, after = (
        np.linalg.norm((points - right)[[RIGHT_IRIS, LEFT_IRIS]], axis=1).mean() / unit
        for points in (wrong, found)
    )
    assert before > 0.06
    assert after < 0.04
    np.testing.assert_array_equal(
        eyes.settled(photo.rgb, right)[[RIGHT_IRIS, LEFT_IRIS]], right[[RIGHT_IRIS, LEFT_IRIS]]
    )


@pytest.mark.parametrize("gaze", [(1.0, 0.0), (-1.0, 0.0), (0.5, 0.0)])
@pytest.mark.parametrize("expression", ["", "sadness"])
def test_a_gaze_moves_the_irises_as_far_as_it_says(
    editor: Editor, examples: Path, gaze: tuple[float, float], expression: str
) -> None:
    photo = open_photo(examples / "portrait_neutral.jpg")
    face = editor.locate(photo)[0]
    unit = FaceFrame.of(face.points).unit
    target = Target.of_gaze(*gaze)
    edit = editor.apply(photo, [face], Target.parse(expression) & target if expression else target)
    assert edit.faces[0].gaze == pytest.approx(gaze)
    recorded = facts(edit, consent=True)
    assert recorded["faces"][0]["gaze"] == pytest.approx({"across": gaze[0], "up": gaze[1]})
    assert f"gaze {gaze[0]:g},{gaze[1]:g}" in recorded["target"]
    missed = []
    for lids, iris in ((RIGHT_EYE, RIGHT_IRIS), (LEFT_EYE, LEFT_IRIS)):
        opening = eyes.opening_of(face.points[lids])
        before = eyes.Eye.of(photo.rgb, opening, face.points[iris], unit).centre
        wanted = before + 0.0418 * unit * np.array([gaze[0], -gaze[1]])
        missed.append(eyes.Eye.of(edit.image, opening, wanted, unit).centre - wanted)
    # One iris is measured to 0.03; lids hide the edge above and below.
    assert np.mean(missed, axis=0)[0] == pytest.approx(0, abs=0.014 * unit)


def test_a_glance_aside_changes_only_the_eyes(editor: Editor, examples: Path) -> None:
    photo = open_photo(examples / "portrait_neutral.jpg")
    face = editor.locate(photo)[0]
    edit = editor.apply(photo, [face], Target.of_gaze(0.8, 0.0))
    eyeballs = np.zeros(photo.rgb.shape[:2], np.uint8)
    for lids in (RIGHT_EYE, LEFT_EYE):
        cv2.fillPoly(eyeballs, [np.rint(face.points[lids]).astype(np.int32)], 1)
    beside = cv2.dilate(eyeballs, np.ones((7, 7), np.uint8)) == 0
    np.testing.assert_array_equal(edit.image[beside], photo.rgb[beside])
    assert (edit.image != photo.rgb)[eyeballs > 0].mean() > 0.3
    assert edit.faces[0].flags == ()


def test_a_mirrored_face_looks_the_mirrored_way(editor: Editor, examples: Path) -> None:
    photo = open_photo(examples / "portrait_neutral.jpg")
    face = editor.locate(photo)[0]
    width = photo.rgb.shape[1]
    mirrored = replace(face, points=face.points[MIRROR] * [-1, 1] + [width - 1, 0])
    edit = editor.apply(photo, [face], Target.of_gaze(0.7, 0.4)).image.astype(int)
    other = open_photo(np.ascontiguousarray(photo.rgb[:, ::-1]))
    back = editor.apply(other, [mirrored], Target.of_gaze(-0.7, 0.4)).image[:, ::-1].astype(int)
    assert np.abs(edit - back).max() <= 12
    assert np.abs(edit - back).mean() < 0.01


def test_irises_stay_between_the_corners(editor: Editor, examples: Path) -> None:
    photo = open_photo(examples / "portrait_neutral.jpg")
    face = editor.locate(photo)[0]
    points = face.points.copy()
    frame = FaceFrame.of(points)
    points[[RIGHT_IRIS, LEFT_IRIS]] += 0.11 * frame.turn[:, 0]
    shape = frame.to_canonical(points)
    pose = HeadTurn.load().pose(shape)
    across, up = eyes.reachable((1.0, 0.0), shape, pose)
    assert 0 <= across < 0.8
    assert up == 0
    assert eyes.reachable((-1.0, 0.0), shape, pose) == (-1.0, 0.0)
    edit = editor.apply(photo, [replace(face, points=points)], Target.of_gaze(1.0, 0.0))
    assert edit.faces[0].gaze[0] == pytest.approx(across)
    assert any("irises stay" in flag for flag in edit.flags)


def test_closed_eyes_are_not_turned(editor: Editor, examples: Path) -> None:
    photo = open_photo(examples / "portrait_neutral.jpg")
    face = editor.locate(photo)[0]
    points = face.points.copy()
    points[RIGHT_EYE][5:8] = points[RIGHT_EYE][3:0:-1] + np.array([0, 1])
    with pytest.raises(EditRefused, match="an eye is closed"):
        editor.apply(photo, [replace(face, points=points)], Target.of_gaze(0.5, 0.0), force=True)
    flat = open_photo(np.full_like(photo.rgb, 128))
    with pytest.raises(EditRefused, match="an iris is not seen"):
        editor.apply(flat, [face], Target.of_gaze(0.5, 0.0), force=True)


def test_gaze_in_words() -> None:
    assert Target.parse_gaze("0.5, -0.25").gaze == (0.5, -0.25)
    alone = Target.of_gaze(0.5, 0.0)
    assert not alone.is_neutral, "the expression stays"
    assert (Target.parse("neutral") & alone).is_neutral
    assert str(Target.parse("anger") & alone) == "anger and gaze 0.5,0"
    for text in ("0.5", "a,b", "0,0,0", "nan,0", "1.2,0", "0,-1.01"):
        with pytest.raises(ConfigError, match="gaze"):
            Target.parse_gaze(text)
