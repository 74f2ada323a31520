"""Where a face ends, and what beside it an edit leaves as it is."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.data.synthetic.drawings import faces as drawn_faces
from mien.editing.editor import Editor, asked_plan
from mien.editing.face_mask import FaceMask
from mien.editing.geometry import FaceFrame, Geometry
from mien.editing.photo import Photo, open_photo
from mien.editing.render import render
from mien.editing.shading import Shading
from mien.editing.target import Target
from mien.editing.warp import GRID, Region, filled, flow_reach, grid_points, outline
from mien.labels import EXPRESSIONS, NEUTRAL
from mien.landmarks import JAW, LEFT_BROW, RIGHT_BROW
from mien.training.editor import edit_pairs


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor.load(threads=1, measure=False)


def wall(rgb: np.ndarray) -> np.ndarray:
    """The plain wall behind a person: what hangs together with the upper corners by colour, without its rim and what
    lies behind strands of hair."""
    mask = np.zeros((rgb.shape[0] + 2, rgb.shape[1] + 2), np.uint8)
    smooth = np.ascontiguousarray(cv2.GaussianBlur(rgb, (0, 0), 1))
    for corner in ((0, 0), (rgb.shape[1] - 1, 0)):
        cv2.floodFill(smooth, mask, corner, 0, (3, 3, 3), (3, 3, 3), 4 | (255 << 8) | cv2.FLOODFILL_MASK_ONLY)
    _, parts = cv2.connectedComponents(cv2.erode(mask[1:-1, 1:-1], np.ones((9, 9))))
    return np.isin(parts, (parts[4, 4], parts[4, -5]))


@pytest.mark.parametrize("name", ["portrait_neutral", "portrait_smiling"])
@pytest.mark.parametrize("target", ["surprise", "fear", "happiness"])
def test_the_wall_behind_a_person_stays_as_it_is(
    editor: Editor, examples: Path, name: str, target: str
) -> None:
    photo = open_photo(examples / f"{name}.jpg")
    edit = editor(photo, target, 1.0)
    background = wall(photo.rgb)
    changed = (edit.image != photo.rgb).any(axis=2)
    face = edit.faces[0].box
    around = np.zeros_like(background)
    around[
        int(face.y) : int(face.y + face.height),
        int(face.x - face.width / 2) : int(face.x + 1.5 * face.width),
    ] = True
    assert (background & around).sum() > 3000  # the wall comes close to the face
    assert changed.sum() > 5000
    assert not changed[background].any()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_patterned_background_stays_as_it_is(seed: int) -> None:
    face = drawn_faces(1, size=256, classes=("neutral",), seed=seed)[0]
    rgb = face.pixels.copy()
    plain = np.abs(rgb.astype(int) - rgb[-2, 2]).max(axis=2) < 40
    _, parts = cv2.connectedComponents(plain.astype(np.uint8))
    background = parts == parts[-2, 2]
    noise = np.random.default_rng(seed).integers(0, 2, (32, 32, 1)).repeat(8, 0).repeat(8, 1)
    rgb[background] = (noise * np.array([90, 130, 60]) + np.array([20, 60, 120]))[background]
    located = edit_pairs.located(rgb, face.landmarks, np.eye(len(EXPRESSIONS))[NEUTRAL])
    plan = asked_plan(Geometry.load(), located, Target.parse("surprise"), 1.0)
    drawn, _ = render(rgb, plan, Shading.load(), 0.0)
    changed = (drawn != rgb).any(axis=2)
    away = cv2.erode(background.astype(np.uint8), np.ones((11, 11))) > 0
    assert changed[~background].sum() > 5000
    # The chin comes down over the background.
    covered = filled(plan.frame.to_picture(outline(plan.target)), background.shape)
    assert not changed[away & (cv2.dilate(covered, np.ones((7, 7))) == 0)].any()
    moved, _ = render(rgb, plan, Shading.load(), 0.0, masked=False)
    assert (moved != rgb).any(axis=2)[away].mean() > 0.02


def test_the_flow_is_whole_on_the_face_and_ends_beside_it(editor: Editor) -> None:
    shape = editor.geometry.mean
    reach = flow_reach(shape, shape)
    assert reach.shape == (GRID, GRID)
    places = grid_points().reshape(GRID, GRID, 2)
    for point in [*shape[JAW][3:18] * 0.97, *shape[RIGHT_BROW], *shape[LEFT_BROW]]:
        nearest = np.unravel_index(np.linalg.norm(places - point, axis=2).argmin(), (GRID, GRID))
        assert reach[nearest] > 0.9
    beside = np.abs(places[..., 0]) > shape[JAW][-1, 0] + 0.25
    assert not reach[beside & (places[..., 1] > 0) & (places[..., 1] < 1)].any()


def test_hair_and_background_get_no_light(editor: Editor, examples: Path) -> None:
    photo = open_photo(examples / "portrait_smiling.jpg")
    points = editor.locate(photo)[0].points
    frame = FaceFrame.of(points)
    region = Region.of(frame, photo.rgb.shape[1], photo.rgb.shape[0])
    mask = FaceMask.of(photo.colour, frame.to_canonical(points), region)
    skin, face = region.enlarge(mask.skin), region.enlarge(mask.face)

    def at(values: np.ndarray, place: list[float]) -> float:
        column, row = np.rint(frame.to_picture(np.array(place))).astype(int) - [region.left, region.top]
        return float(values[row, column])

    for cheek in ([-0.6, 0.6], [0.6, 0.6], [0.0, -0.5]):
        assert at(skin, cheek) > 0.9
        assert at(face, cheek) == 1
    part = photo.rgb[region.top : region.top + region.height, region.left : region.left + region.width]
    places = region.canonical((slice(0, region.height), slice(0, region.width)))
    hair = (places[..., 1] < -0.6) & (part.max(axis=2) < 60)
    assert hair.sum() > 500
    assert skin[hair].mean() < 0.05


def test_the_wall_is_not_the_face(editor: Editor, examples: Path) -> None:
    photo = open_photo(examples / "portrait_neutral.jpg")
    points = editor.locate(photo)[0].points
    frame = FaceFrame.of(points)
    region = Region.of(frame, photo.rgb.shape[1], photo.rgb.shape[0])
    mask = FaceMask.of(photo.colour, frame.to_canonical(points), region)
    rows, columns = slice(0, region.height), slice(0, region.width)
    behind = wall(photo.rgb)[
        region.top : region.top + region.height, region.left : region.left + region.width
    ]
    places = region.canonical((rows, columns))
    near = behind & (np.abs(places[..., 0]) < 1.5) & (np.abs(places[..., 1] - 0.3) < 0.6)
    assert near.sum() > 500
    assert region.enlarge(mask.face)[near].max() == 0


def test_deep_pictures_have_the_same_mask(editor: Editor, examples: Path) -> None:
    photo = open_photo(examples / "portrait_neutral.jpg")
    points = editor.locate(photo)[0].points
    frame = FaceFrame.of(points)
    region = Region.of(frame, photo.rgb.shape[1], photo.rgb.shape[0])
    deep = photo.colour.astype(np.uint16) * 257
    first, second = (
        FaceMask.of(colour, frame.to_canonical(points), region) for colour in (photo.colour, deep)
    )
    assert np.abs(first.face - second.face).mean() < 0.01
    assert np.abs(first.skin - second.skin).mean() < 0.01


def test_a_picture_without_background_is_all_face() -> None:
    """A photo that ends at the cheeks shows nothing beside them."""
    face = drawn_faces(1, size=256, classes=("neutral",))[0]
    frame = FaceFrame.of(face.landmarks)
    corners = frame.to_picture(np.array([[-0.9, -0.5], [0.9, 1.7]]))
    low, high = np.rint(corners.min(axis=0)).astype(int), np.rint(corners.max(axis=0)).astype(int)
    part = np.ascontiguousarray(face.pixels[low[1] : high[1], low[0] : high[0]])
    moved = FaceFrame.of(face.landmarks - low)
    region = Region.of(moved, part.shape[1], part.shape[0])
    mask = FaceMask.of(Photo(part).colour, moved.to_canonical(face.landmarks - low), region)
    assert mask.face.min() == 1
