"""The editor's parts by themselves: geometry, flow and its fold guard, mouth, targets, files."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from mien.editing import mouth_interior
from mien.editing.geometry import ACTIVE, FaceFrame, Geometry, lip_gap
from mien.editing.photo import encode, open_photo
from mien.editing.plan import plan
from mien.editing.render import _remove_highlights, _skin, _tint, render, skin_statistics
from mien.editing.shading import Shading
from mien.editing.target import Target, change_for, lips_for, smile_leaves, strength_of
from mien.editing.warp import (
    FOLD_LIMIT,
    GRID,
    Region,
    _jacobian,
    above_mouth,
    grid_points,
    look_up,
    mouth_line,
    pixel_map,
    pull,
    thin_plate,
    warp_between,
)
from mien.errors import ConfigError, ImageError, MienError, WeightsError
from mien.io.images import LUMA
from mien.landmarks import (
    INNER_LIP_PAIRS,
    INNER_LIPS,
    JAW,
    LEFT_BROW,
    LEFT_EYE,
    LEFT_IRIS,
    LEFT_MOUTH_CORNER,
    MIRROR,
    NOSE_BOTTOM,
    NOSE_TIP,
    POINTS,
    RIGHT_BROW,
    RIGHT_EYE,
    RIGHT_IRIS,
    RIGHT_MOUTH_CORNER,
)
from mien.training.editor.fit_blendshapes import level


@pytest.fixture(scope="module")
def geometry() -> Geometry:
    return Geometry.load()


@pytest.fixture(scope="module")
def neutral(geometry: Geometry) -> np.ndarray:
    """The mean neutral face, canonical."""
    return geometry.mean + geometry.neutral_gap * geometry.opening


def one(name: str, strength: float = 1.0) -> np.ndarray:
    change = np.zeros(len(ACTIVE))
    change[ACTIVE.index(name)] = strength
    return change


# Geometry


def test_frame_undoes_any_similarity(neutral: np.ndarray) -> None:
    angle, scale, shift = 0.3, 57.0, np.array([400.0, 300.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    frame = FaceFrame.of(neutral @ turn.T + shift)
    level = FaceFrame.of(neutral)
    seen = frame.to_canonical(neutral @ turn.T + shift)
    np.testing.assert_allclose(seen, level.to_canonical(neutral), atol=1e-9)
    np.testing.assert_allclose(frame.to_picture(seen), neutral @ turn.T + shift, atol=1e-9)
    assert frame.unit == pytest.approx(scale * level.unit)


def test_each_expression_moves_what_it_is_known_by(geometry: Geometry) -> None:
    """Signs of the basis against the action units, y downwards: a wrong label or mirrored axis would show here."""
    move = {name: geometry.displacement(one(name), 0.0) for name in ACTIVE}
    corners = [RIGHT_MOUTH_CORNER, LEFT_MOUTH_CORNER]
    inner_brows = [RIGHT_BROW.start + 4, LEFT_BROW.start + 4]
    assert (move["happiness"][corners, 1] < -0.03).all()
    widened = move["happiness"][LEFT_MOUTH_CORNER, 0] - move["happiness"][RIGHT_MOUTH_CORNER, 0]
    assert widened > 0.1
    assert (move["sadness"][corners, 1] > 0.02).all()
    assert (move["sadness"][inner_brows, 1] < -0.02).all()
    assert (move["anger"][inner_brows, 1] > 0.05).all()
    assert (move["surprise"][inner_brows, 1] < -0.05).all()
    for name in ACTIVE:
        assert (move[name][[RIGHT_IRIS, LEFT_IRIS]] == 0).all(), "eyeballs do not move with expressions"
        if name != "contempt":
            np.testing.assert_allclose(move[name][MIRROR] * [-1, 1], move[name], atol=1e-6)


def test_moving_by_nothing_changes_nothing(geometry: Geometry, neutral: np.ndarray) -> None:
    moved = geometry.move(neutral, np.zeros(len(ACTIVE)), lip_gap(neutral))
    np.testing.assert_allclose(moved, neutral, atol=1e-6)


@pytest.mark.parametrize("name", ["happiness", "sadness", "anger"])
def test_closing_makes_the_lips_meet(geometry: Geometry, name: str) -> None:
    open_face = geometry.mean + 0.15 * geometry.opening
    closed = geometry.move(open_face, one(name, 0.8), 0.0)
    for upper, lower in INNER_LIP_PAIRS:
        np.testing.assert_allclose(closed[upper], closed[lower], atol=1e-9)


def test_strengths_read_back_what_was_added(geometry: Geometry, neutral: np.ndarray) -> None:
    assert (geometry.strengths(neutral) == 0).all()
    smiling = geometry.move(neutral, one("happiness"), lip_gap(neutral))
    read = geometry.strengths(smiling)
    assert read.argmax() == ACTIVE.index("happiness")
    assert read.max() > 0.5
    # A recogniser that sees no happiness overrules the shape.
    assert (geometry.strengths(smiling, np.zeros(len(ACTIVE))) == 0).all()


def test_levelling_takes_out_a_tilt_and_nothing_else(geometry: Geometry, neutral: np.ndarray) -> None:
    """A face shortened from the eyes down is restored; brows and a raised corner of the mouth are left alone."""
    tilt = np.zeros_like(neutral)
    tilt[:, 1] = -0.1 * neutral[:, 1].clip(0)
    np.testing.assert_allclose(level(tilt, neutral), 0, atol=1e-12)
    smile = np.zeros_like(neutral)
    smile[[RIGHT_MOUTH_CORNER, LEFT_MOUTH_CORNER], 1] = -0.2
    np.testing.assert_array_equal(level(smile, neutral), smile)
    both = np.stack([tilt + smile, smile])
    np.testing.assert_allclose(level(both, neutral), np.stack([smile, smile]), atol=1e-12)
    brows = [*range(RIGHT_BROW.start, RIGHT_BROW.stop), *range(LEFT_BROW.start, LEFT_BROW.stop)]
    frown = tilt.copy()
    frown[brows, 1] = 0.1
    np.testing.assert_array_equal(level(frown, neutral)[brows, 1], frown[brows, 1])
    # What ships is level: anger leaves the face as long as it is.
    assert np.abs(geometry.basis[ACTIVE.index("anger")][JAW, 1].mean()) < 0.02


def test_damaged_geometry_is_named(geometry: Geometry) -> None:
    with pytest.raises(WeightsError, match="basis"):
        Geometry.from_arrays({"mean": geometry.mean})


# Flow


def test_thin_plate_spline_meets_its_points_and_keeps_affine_maps() -> None:
    random = np.random.default_rng(0)
    places, queries = random.normal(size=(30, 2)), random.normal(size=(50, 2))
    values = random.normal(size=(30, 2))
    np.testing.assert_allclose(thin_plate(places, values, places, 0.0), values, atol=1e-6)
    matrix, shift = random.normal(size=(2, 2)), random.normal(size=2)
    np.testing.assert_allclose(
        thin_plate(places, places @ matrix + shift, queries, 0.5), queries @ matrix + shift, atol=1e-6
    )


def test_warp_between_equal_shapes_is_nothing(neutral: np.ndarray) -> None:
    warp = warp_between(neutral, neutral)
    assert np.abs(warp.upper).max() < 1e-9
    assert np.abs(warp.lower).max() < 1e-9
    assert warp.folding == pytest.approx(1.0)


def test_warp_is_zero_on_the_rim(geometry: Geometry, neutral: np.ndarray) -> None:
    warp = warp_between(neutral, geometry.move(neutral, one("surprise"), 0.2))
    for flow in (warp.upper, warp.lower):
        for rim in (flow[0], flow[-1], flow[:, 0], flow[:, -1]):
            assert np.abs(rim).max() == 0


def test_the_lips_part_as_a_cut_and_agree_beyond_the_corners(geometry: Geometry, neutral: np.ndarray) -> None:
    target = geometry.move(neutral, one("surprise"), 0.2)
    upper, lower = target[list(INNER_LIP_PAIRS[4])]
    probes = np.array([(3 * upper + lower) / 4, (upper + 3 * lower) / 4])
    np.testing.assert_allclose(above_mouth(target, probes), [1, 0])
    far = np.array([[1.2, target[LEFT_MOUTH_CORNER, 1]]])
    assert above_mouth(target, far)[0] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("case", ["crossed brows", "eye on chin", "random", "inside out"])
def test_adversarial_targets_are_reported_as_folding(neutral: np.ndarray, case: str) -> None:
    target = neutral.copy()
    if case == "crossed brows":
        target[[RIGHT_BROW.start, LEFT_BROW.start]] = target[[LEFT_BROW.start, RIGHT_BROW.start]]
    elif case == "eye on chin":
        target[RIGHT_IRIS] = [0.0, 1.7]
    elif case == "random":
        target = neutral + np.random.default_rng(0).normal(0, 0.25, neutral.shape)
    else:
        target = neutral * [-1, 1]
    assert warp_between(neutral, target).folding < FOLD_LIMIT


def test_folding_is_the_smallest_jacobian_of_the_map(neutral: np.ndarray) -> None:
    """Against finite differences of the map itself, away from the mouth, for a shape that is squeezed sideways."""
    target = neutral.copy()
    target[LEFT_BROW] += [-0.25, 0.0]
    warp = warp_between(neutral, target)
    places = grid_points().reshape(*warp.upper.shape) + warp.upper
    dx, dy = np.gradient(places, places[0, 1, 0] * 0 + 4 / 80, axis=(1, 0))
    area = dx[..., 0] * dy[..., 1] - dx[..., 1] * dy[..., 0]
    above = grid_points().reshape(*warp.upper.shape)[..., 1] < 0.5
    assert warp.folding == pytest.approx(area[above].min(), rel=1e-6)
    assert 0 < warp.folding < 0.9


def test_the_plan_weakens_until_nothing_folds(geometry: Geometry, neutral: np.ndarray) -> None:
    points = neutral * 100 + 300
    mild = plan(geometry, points, one("happiness", 0.5), lip_gap(neutral))
    assert mild.share == 1
    wild = plan(geometry, points, one("surprise", 6.0), 1.2)
    assert 0 < wild.share < 1
    assert wild.warp.folding >= FOLD_LIMIT
    hopeless = plan(geometry, points * [1, 0.05], one("fear", 40.0), 3.0)
    assert hopeless.share < 0.2


def test_lips_that_part_too_far_are_weakened_alone(geometry: Geometry, neutral: np.ndarray) -> None:
    """Of ever wider mouths some fold; before the brows lose strength, the lips part less."""
    points, now = neutral * 100 + 300, lip_gap(neutral)
    plans = {gap: plan(geometry, points, one("surprise"), gap) for gap in np.linspace(0.2, 1.0, 17)}
    alone = {gap: done for gap, done in plans.items() if done.share == 1 and done.gap < gap - 1e-6}
    assert alone
    for gap, done in alone.items():
        assert done.warp.folding >= FOLD_LIMIT
        assert done.gap - now >= 0.6 * (gap - now) - 1e-9
        np.testing.assert_allclose(done.change, one("surprise"))


def test_contempt_has_one_side(geometry: Geometry, neutral: np.ndarray) -> None:
    """Its folds and the learned light below the nose are beside the raised corner, the subject's left."""
    done = plan(geometry, neutral * 60 + 150, one("contempt"), lip_gap(neutral))
    grey = np.full((360, 300, 3), 150, np.uint8)
    drawn, _ = render(grey, done, Shading.load(), 0.0)
    changed = np.abs(drawn.astype(int) - grey).sum(axis=2)
    lower = changed[150 + 36 :]
    assert lower[:, 156:].sum() > 5 * lower[:, :144].sum()
    assert lower[:, 156:].sum() > 0


def test_surprise_opens_the_mouth() -> None:
    assert lips_for(Target.parse("surprise"), 1.0, "auto", 0.0) == pytest.approx(0.17)


def test_pixels_go_where_the_points_go(geometry: Geometry, neutral: np.ndarray) -> None:
    """Dots drawn at the landmarks are found at the asked places in the warped picture, also when the face is tilted."""
    angle = 0.25
    turn = 90 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = neutral @ turn.T + [300, 260]
    done = plan(geometry, points, one("happiness", 0.8), lip_gap(neutral))
    wanted = done.frame.to_picture(done.target)
    for index in (RIGHT_BROW.start + 2, LEFT_MOUTH_CORNER, 10):
        dot = np.zeros((600, 600, 3), np.float32)
        cv2.circle(
            dot, tuple(np.rint(points[index] * 16).astype(int)), 3 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4
        )
        region = Region.of(done.frame, 600, 600)
        where, _ = pixel_map(done.warp, region)
        drawn = pull(dot, where)[..., 0].clip(0)
        y, x = np.mgrid[: region.height, : region.width]
        found = np.array([(drawn * x).sum(), (drawn * y).sum()]) / drawn.sum() + [region.left, region.top]
        # The spline smooths by a little; far less than the ten pixels these points move.
        assert np.linalg.norm(found - wanted[index]) < 1.6


# Mouth


def test_opening_locates_and_places_inversely() -> None:
    opening = mouth_interior.Opening.of(_lens(height=0.2))
    random = np.random.default_rng(0)
    t, depth = random.uniform(0.1, 0.9, 40), random.uniform(0, 0.1, 40)
    found = opening.locate(opening.at(t, depth))
    np.testing.assert_allclose(found[0], t, atol=1e-9)
    np.testing.assert_allclose(found[1], depth, atol=1e-9)


def test_mask_is_inside_the_lips_only() -> None:
    contour = _lens(height=0.3) * 100 + 50
    opening = mouth_interior.Opening.of(contour)
    y, x = np.mgrid[0:140, 0:200]
    mask = mouth_interior.mask_of(opening, np.stack([x, y], axis=-1).astype(float), 0.02)
    drawn = cv2.fillPoly(np.zeros((140, 200), np.uint8), [np.rint(contour).astype(np.int32)], 1)
    far_out = cv2.dilate(drawn, np.ones((7, 7))) == 0
    deep = cv2.erode(drawn, np.ones((9, 9))) > 0
    assert mask[far_out].max() == 0
    assert mask[deep].min() == 1


def test_a_closed_mouth_has_no_mask() -> None:
    opening = mouth_interior.Opening.of(_lens(height=0.0) * 100 + 50)
    y, x = np.mgrid[0:140, 0:200]
    assert mouth_interior.mask_of(opening, np.stack([x, y], axis=-1).astype(float), 0.02).max() == 0


def test_filled_interior_follows_the_light_on_eyes_and_seed() -> None:
    opening = mouth_interior.Opening.of(_lens(height=0.2) * 100 + 50)
    y, x = np.mgrid[40:60, 60:140]
    places = np.stack([x, y], axis=-1).astype(float)
    light = mouth_interior.SkinStatistics(np.array([200.0, 150.0, 128.0]), 0.0, 180.0)
    look = mouth_interior.choose(opening, 1.0, 0.9, 0.0, light)

    def drawn(white: float, skin: float = 1.0, grain: float = 0.0, seed: int = 0) -> np.ndarray:
        around = mouth_interior.SkinStatistics(light.skin * skin, grain, white)
        return mouth_interior.filled(look, opening, places, around, seed)

    bright, dim = drawn(180.0), drawn(50.0)
    assert dim.mean() < 0.7 * bright.mean()
    assert (dim @ LUMA).max() < 1.7 * 50  # no teeth glow in the dark
    assert drawn(180.0, skin=0.4).max() > 0.9 * bright.max()  # dark skin has no darker teeth
    noisy = [drawn(150.0, grain=3.0, seed=seed) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert np.abs(noisy[0] - noisy[2]).mean() > 0.5


def test_the_bank_has_mouths_of_many_shapes_with_and_without_teeth() -> None:
    mouths = mouth_interior.examples()[::2]
    assert len(mouths) >= 40
    assert len({mouth.name for mouth in mouths}) == len(mouths)
    assert min(np.linalg.norm(mouth.opening.left - mouth.opening.right) for mouth in mouths) >= 96
    for bares, least in ((True, 25), (False, 8)):
        ratios = [mouth.opening.ratio for mouth in mouths if mouth.bares == bares]
        assert len(ratios) >= least
        assert max(ratios) > 2 * min(ratios)


def test_no_lips_remain_around_the_mouths_of_the_bank() -> None:
    """Their rims are no redder than what they hold, so that no fair lip shows on dark skin."""
    for mouth in mouth_interior.examples()[::2]:
        if mouth.bares and mouth.row > 0.8:
            t = np.linspace(0.2, 0.8, 40)
            shares = np.array([[-0.15], [0.5], [1.15]])
            places = mouth.opening.at(np.tile(t, (3, 1)), shares * mouth.opening.height_at(t))
            above, inside, below = look_up(mouth.picture.astype(np.float32), places.astype(np.float32))
            red = [float((part[:, 0] - part[:, 1]).mean()) for part in (above, inside, below)]
            assert max(red[0], red[2]) < red[1] + 35, mouth.name


def test_the_nearest_mouth_is_chosen() -> None:
    for number in (0, 7, 31, -1):
        mouth = mouth_interior.examples()[number]
        found = mouth_interior.choose(mouth.opening, float(mouth.bares), mouth.width, mouth.yaw, mouth.light)
        assert found.bares == mouth.bares
        if not mouth.bares or mouth.row > 0.9:
            assert found is mouth
        other = mouth.mirrored()
        back = mouth_interior.choose(other.opening, float(other.bares), other.width, other.yaw, other.light)
        assert back.name.split()[0] == found.name.split()[0]
        assert back is not found
    wide = mouth_interior.Opening.of(_lens(height=0.35) * 100)
    light = mouth_interior.examples()[0].light
    assert mouth_interior.choose(wide, 0.0, 0.8, 0.0, light).opening.ratio > 0.15
    smile = mouth_interior.choose(mouth_interior.Opening.of(_lens(height=0.15) * 100), 1.0, 1.0, 0.0, light)
    assert smile.row > 0.7, "the lower lip of a smile lies at the teeth"


def test_a_mirrored_mouth_is_drawn_as_the_mirror_image() -> None:
    mouth = next(mouth for mouth in mouth_interior.examples() if mouth.bares)
    opening = mouth_interior.Opening.of(_lens(height=0.2) * 100 + 50)
    y, x = np.mgrid[40:60, 60:141]
    places = np.stack([x, y], axis=-1).astype(float)
    around = mouth_interior.SkinStatistics(mouth.light.skin, 0.0, 150.0)
    one, two = (mouth_interior.filled(look, opening, places, around, 0) for look in (mouth, mouth.mirrored()))
    np.testing.assert_allclose(one, two[:, ::-1], atol=2)


def test_teeth_are_never_bluish_on_skin_of_any_tone() -> None:
    opening = mouth_interior.Opening.of(_lens(height=0.15) * 100 + 50)
    t, share = np.meshgrid(np.linspace(0.3, 0.7, 20), np.linspace(0.3, 0.7, 8))
    places = opening.at(t, share * opening.height_at(t))
    for skin in ([235.0, 200.0, 190.0], [190.0, 140.0, 110.0], [80.0, 60.0, 52.0]):
        around = mouth_interior.SkinStatistics(np.array(skin), 0.0, 160.0)
        for mouth in mouth_interior.examples()[::2]:
            if mouth.bares:
                drawn = mouth_interior.filled(mouth, opening, places, around, 0).reshape(-1, 3)
                light = drawn[drawn @ LUMA > np.percentile(drawn @ LUMA, 70)].mean(axis=0)
                assert light[2] < light[0], (mouth.name, skin)
    blue = mouth_interior.SkinStatistics(np.array([60.0, 80.0, 200.0]), 0.0, 160.0)
    drawn = mouth_interior.filled(mouth_interior.examples()[0], opening, places, blue, 0).mean(axis=(0, 1))
    assert drawn[2] > 1.5 * drawn[0], "blue light is on the teeth too"


def test_whites_of_the_eyes_are_read_where_they_are_large_enough() -> None:
    points = np.zeros((len(POINTS), 2))
    circle = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)
    points[RIGHT_EYE], points[LEFT_EYE] = 8 * circle + [30, 30], 8 * circle + [70, 30]
    picture = np.full((100, 100, 3), 90, np.uint8)
    for eye in (30, 70):
        cv2.circle(picture, (eye, 30), 8, (200, 200, 200), -1)
        cv2.circle(picture, (eye, 30), 4, (40, 30, 20), -1)
    assert mouth_interior.white_of(picture, points) == pytest.approx(200)
    assert mouth_interior.white_of(picture.astype(np.uint16) * 257, points) == pytest.approx(200)
    assert mouth_interior.white_of(picture, points / 20) is None
    assert mouth_interior.white_of(picture[:, 50:], points - [50, 0]) == pytest.approx(
        200
    )  # one eye lies outside
    assert mouth_interior.white_of(picture, points - [200, 0]) is None
    closed = points * [1, 0.05] + [0, 28.5]
    assert mouth_interior.white_of(picture, closed) is None


def test_dark_glasses_do_not_darken_teeth() -> None:
    picture = np.full((200, 200, 3), 140, np.uint8)
    points = np.zeros((len(POINTS), 2))
    circle = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)
    points[RIGHT_EYE], points[LEFT_EYE] = 10 * circle + [70, 60], 10 * circle + [130, 60]
    points[NOSE_BOTTOM] = [100, 100]
    frame = FaceFrame.of(points)
    assert skin_statistics(picture, frame, points).white == pytest.approx(140)
    picture[45:75] = 20
    assert skin_statistics(picture, frame, points).white == pytest.approx(140)
    black = skin_statistics(np.zeros_like(picture), frame, points)
    assert np.all(np.isfinite(_tint(black.skin)))


def test_openings_run_to_a_point() -> None:
    box = np.array([[0, 0], *[[x, -0.1] for x in np.linspace(0, 1, 9)], [1, 0]])
    blunt = np.concatenate([box, box[9:0:-1] * [1, -1]])
    opening = mouth_interior.Opening.of(blunt * 100 + 50)
    y, x = np.mgrid[30:70, 50:150]
    high = mouth_interior.mask_of(opening, np.stack([x, y], axis=-1).astype(float), 0.02).sum(axis=0)
    assert high[3] < 0.5 * high[50]
    assert np.all(np.diff(high[:15]) >= 0)


def _lens(height: float) -> np.ndarray:
    """An inner-lip contour [20, 2] one unit wide, in the order of `mien.landmarks`."""
    t = np.linspace(0, 1, 11)
    arch = height / 2 * np.sin(np.pi * t)
    return np.concatenate([np.stack([t, -arch], axis=1), np.stack([t, arch], axis=1)[9:0:-1]])


# Targets


def test_targets_are_read_and_refused() -> None:
    assert Target.parse("Happy").strengths == {"happiness": 1.0}
    assert Target.parse("happiness:0.5,surprise:0.5").strengths == {"happiness": 0.5, "surprise": 0.5}
    assert Target.parse("neutral").is_neutral
    for wrong in ("joyful-ish", "happiness:much", "happiness:2"):
        with pytest.raises(MienError, match=wrong.partition(":")[0]):
            Target.parse(wrong)
    with pytest.raises(ConfigError, match=r"1\.25"):
        Target.parse("anger").check(1.5)


@pytest.mark.parametrize(
    ("valence", "arousal", "leading"),
    [(0.8, 0.4, "happiness"), (0.3, 0.8, "surprise"), (-0.7, -0.35, "sadness"), (0.0, 0.0, None)],
)
def test_affect_becomes_the_expression_that_lies_there(
    valence: float, arousal: float, leading: str | None
) -> None:
    strengths = Target.of_affect(valence, arousal).strengths
    if leading is None:
        assert strengths == {}
    else:
        assert max(strengths, key=strengths.__getitem__) == leading


def test_lips_follow_the_mouth_control() -> None:
    joy, rest = Target.parse("happiness"), Target.parse("neutral")
    assert lips_for(joy, 1.0, "keep", 0.02) == 0.02
    assert lips_for(joy, 1.0, "close", 0.1) == 0
    fear, both = Target.parse("fear"), Target.parse("happiness:0.5,anger:0.5")
    assert lips_for(joy, 0.2, "auto", 0.0) == 0, "closed lips stay closed in a slight smile"
    assert 0 < lips_for(joy, 0.6, "auto", 0.0) < lips_for(joy, 0.7, "auto", 0.0)
    assert lips_for(fear, 0.2, "auto", 0.0) == 0 < lips_for(fear, 0.8, "auto", 0.0)
    assert 0 < lips_for(both, 1.0, "auto", 0.0) < lips_for(joy, 1.0, "auto", 0.0)
    assert lips_for(joy, 1.0, "auto", 0.0) > 0.05
    assert lips_for(joy, 0.5, "open", 0.0) > 0.05
    assert lips_for(joy, 0.0, "open", 0.0) == 0
    assert lips_for(rest, 1.0, "auto", 0.12) == 0
    assert lips_for(rest, 0.5, "auto", 0.12) == 0.06


# Photos


def _picture(mode: str) -> Image.Image:
    random = np.random.default_rng(0)
    return Image.fromarray(random.integers(0, 255, (30, 40, 3), np.uint8)).convert(mode)


def _bytes(picture: Image.Image, kind: str, **options) -> bytes:
    stream = BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def test_alpha_survives_and_keeps_the_colours_under_it() -> None:
    picture = _picture("RGBA")
    picture.putalpha(Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40).astype(np.uint8)))
    photo = open_photo(_bytes(picture, "PNG"))
    again = Image.open(BytesIO(encode(photo, ".png")))
    np.testing.assert_array_equal(np.asarray(again), np.asarray(picture))


def test_sixteen_bits_survive() -> None:
    deep = np.random.default_rng(0).integers(0, 65535, (30, 40, 3), np.uint16)
    data = cv2.imencode(".png", deep)[1].tobytes()
    photo = open_photo(data)
    assert photo.colour.dtype == np.uint16
    again = cv2.imdecode(np.frombuffer(encode(photo, ".png"), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(again, deep)


def test_grey_stays_grey_and_cmyk_becomes_rgb() -> None:
    grey = open_photo(_bytes(_picture("L"), "PNG"))
    assert grey.grey
    changed = grey.with_colour(np.full_like(grey.colour, 90) + np.array([0, 9, 0], np.uint8))
    assert Image.open(BytesIO(encode(changed, ".png"))).mode == "L"
    inks = open_photo(_bytes(_picture("CMYK"), "JPEG"))
    assert inks.colour.shape == (30, 40, 3)
    assert Image.open(BytesIO(encode(inks, ".jpg"))).mode == "RGB"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bits", [8, 16])
def test_orientation_is_applied_once_and_exif_kept(orientation: int, bits: int) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "maker"
    picture = _picture("RGB")
    if bits == 8:
        data = _bytes(picture, "PNG", exif=exif.tobytes())
    else:
        flat = _bytes(picture, "PNG", exif=exif.tobytes())
        chunk = flat[flat.index(b"eXIf") - 4 :]
        chunk = chunk[: 12 + int.from_bytes(chunk[:4], "big")]
        deep = cv2.imencode(".png", np.asarray(picture)[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
        data = deep[:33] + chunk + deep[33:]  # after IHDR
    photo = open_photo(data)
    assert photo.colour.dtype == (np.uint8 if bits == 8 else np.uint16)
    tagged = Image.open(BytesIO(_bytes(picture, "PNG", exif=exif.tobytes())))
    np.testing.assert_array_equal(photo.rgb, np.asarray(ImageOps.exif_transpose(tagged)))
    again = Image.open(BytesIO(encode(photo, ".jpg"))).getexif()
    assert again.get(0x0112, 1) == 1
    assert again.get(0x010F) == "maker"


def test_colour_profile_survives() -> None:
    photo = open_photo(_bytes(_picture("RGB"), "JPEG", icc_profile=b"profile" * 40))
    assert Image.open(BytesIO(encode(photo, ".jpg"))).info["icc_profile"] == b"profile" * 40


def test_unwritable_suffix_is_named() -> None:
    with pytest.raises(ImageError, match=r"\.bmp"):
        encode(open_photo(_bytes(_picture("RGB"), "PNG")), ".bmp")


def test_a_smile_takes_its_parted_lips_along() -> None:
    smile = np.zeros(len(ACTIVE))
    smile[ACTIVE.index("happiness")] = 1.0
    anger, joy, neutral = (Target.parse(word) for word in ("anger", "happiness", "neutral"))
    assert smile_leaves(anger, smile, 1.0) == 1
    assert smile_leaves(anger, smile, 0.0) == 0, "an edit of no strength changes nothing"
    assert smile_leaves(joy, smile, 1.0) == smile_leaves(neutral, smile, 1.0) == 0
    assert smile_leaves(anger, 0 * smile, 1.0) == 0


def test_the_present_expression_is_replaced_or_kept() -> None:
    current = np.zeros(len(ACTIVE))
    current[ACTIVE.index("happiness")] = 0.8
    anger = Target.parse("anger")
    replaced, added = (change_for(anger, current, 1.0, relative) for relative in (False, True))
    assert replaced[ACTIVE.index("anger")] == added[ACTIVE.index("anger")] == 1
    assert replaced[ACTIVE.index("happiness")] < -0.5
    assert added[ACTIVE.index("happiness")] == 0
    assert (change_for(anger, current, 0.0) == 0).all()
    # What shows already is not asked for twice, and neutral asks for nothing.
    current[ACTIVE.index("happiness")] = strength_of("happiness", 0.8)
    assert change_for(Target.parse("happiness"), current, 0.8)[ACTIVE.index("happiness")] == pytest.approx(0)
    assert (change_for(Target.parse("neutral"), current, 1.0) <= 0).all()


def test_lips_that_close_from_a_smile_meet_on_a_line_that_does_not_fold(geometry: Geometry) -> None:
    smile = np.zeros(len(ACTIVE))
    smile[ACTIVE.index("happiness")] = 1.0
    grinning = geometry.move(geometry.mean + geometry.neutral_gap * geometry.opening, smile, 0.15)
    for name in ("sadness", "anger", "disgust"):
        closed = geometry.move(grinning, one(name) - 0.75 * smile, 0.0)
        assert lip_gap(closed) == pytest.approx(0, abs=1e-9)
        line = mouth_line(closed)
        assert (np.diff(line[:, 0]) > 0.005).all(), "no part of the line overtakes its neighbour"
        bends = np.diff(line[:, 1], 2)
        assert np.abs(bends).max() < 0.05, "and it has no kink"
        assert warp_between(grinning, closed).folding > FOLD_LIMIT


def test_a_flow_is_differenced_to_its_own_side() -> None:
    flow = np.zeros((GRID, GRID, 2))
    flow[40:, :, 1] = -0.5  # a step between rows 39 and 40, as across the line between the lips
    assert _jacobian(flow)[40, 5] < 0
    assert _jacobian(flow, 1)[40, 5] == 1
    assert _jacobian(flow, -1)[39, 5] == 1
    assert _jacobian(flow, -1)[40, 5] < 0


@pytest.mark.parametrize("skin", [(150, 150, 150), (220, 165, 140), (90, 55, 40)])
def test_a_corrections_light_has_the_luma_that_was_asked_and_no_colour_on_grey(
    geometry: Geometry, neutral: np.ndarray, skin: tuple[int, int, int]
) -> None:
    frame = FaceFrame(80 * np.eye(2), np.array([160.0, 130.0]))
    picture = np.full((400, 320, 3), skin, np.uint8)
    still = plan(geometry, frame.to_picture(neutral), np.zeros(len(ACTIVE)), lip_gap(neutral))
    lit = replace(still, gain=np.full((GRID, GRID), -0.2))
    drawn, _ = render(picture, lit, None, 1.0)
    row, column = frame.to_picture(np.array([0.0, 0.3])).round().astype(int)[::-1]
    before, after = picture[row, column].astype(float), drawn[row, column].astype(float)
    luma = np.array([0.299, 0.587, 0.114])
    assert after @ luma / (before @ luma) == pytest.approx(np.exp(-0.2), abs=0.015)
    if len(set(skin)) == 1:
        assert len(set(drawn[row, column].tolist())) == 1
    else:  # a fold of skin is redder than skin
        assert after[0] / after[2] > before[0] / before[2] + 0.02


def test_a_gleam_that_comes_to_lie_in_a_fold_takes_on_the_hue_of_the_skin() -> None:
    hue = np.array([200.0, 150.0, 120.0]) * 0.7
    gleam, lip, dark, tooth = (
        hue * [1.1, 1.45, 1.7],
        np.array([150.0, 70.0, 80.0]) * 0.7,
        hue * 0.5,
        np.full(3, 250.0),
    )
    before = np.array([[gleam, hue, lip, dark, tooth]], np.float32)
    light = np.full_like(before, 0.7)
    skin = np.ones((1, 5), bool)
    after = before * light
    _remove_highlights(after, light, hue, skin)
    matt, *others = after[0]
    np.testing.assert_allclose(matt / matt.sum(), hue / hue.sum(), atol=1e-6)
    np.testing.assert_allclose(matt @ LUMA, 0.7 * gleam @ LUMA, rtol=1e-5)  # as dark as it was made
    np.testing.assert_allclose(others, 0.7 * before[0, 1:], rtol=1e-6)
    for where, by in ((skin, np.ones_like(before)), (~skin, light)):
        same = before * by
        _remove_highlights(same, by, hue, where)
        assert np.array_equal(same, before * by)


def test_eyes_and_mouth_are_no_skin(examples: Path) -> None:
    from mien.editing.editor import Editor

    editor = Editor.load(measure=False, threads=1)
    photo = open_photo(examples / "portrait_neutral.jpg")
    face = editor.locate(photo)[0]
    drawn = editor.plan(face, Target.parse("happiness"), 1.0)
    region = Region.of(drawn.frame, photo.rgb.shape[1], photo.rgb.shape[0])
    skin = _skin(drawn, region)
    points = drawn.frame.to_picture(drawn.target) - [region.left, region.top]
    for group in (RIGHT_EYE, LEFT_EYE, INNER_LIPS):
        column, row = np.rint(points[group].mean(axis=0)).astype(int)
        assert not skin[row, column]
    column, row = np.rint(points[NOSE_TIP]).astype(int)
    assert skin[row, column]
    assert skin.mean() > 0.9
