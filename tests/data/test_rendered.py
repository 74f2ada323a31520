"""Rendered faces: the truth that comes with a picture is the truth of the picture."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.actions import ACTIONS
from mien.data.synthetic.head import EYE, MOVEMENTS, SKIN, Head, Renderer, Rendering, arkit, pose_of, rotation
from mien.labels import CIRCUMPLEX, EXPRESSIONS, UNLABELLED
from mien.landmarks import LEFT_EYE_CORNERS, LEFT_IRIS, NOSE_TIP, POINTS, RIGHT_EYE_CORNERS, RIGHT_IRIS


def ball(
    rows: int, centre: tuple[float, float, float], radius: float
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """A sphere as vertices and quads that face outwards; one meridian looks straight ahead."""
    columns = 2 * rows + 1
    latitude, longitude = np.meshgrid(
        np.linspace(-1.5, 1.5, rows), np.linspace(-np.pi, np.pi, columns), indexing="ij"
    )
    east, north = np.cos(latitude) * np.sin(longitude), np.sin(latitude)
    around = np.stack([east, north, np.cos(latitude) * np.cos(longitude)], axis=-1).reshape(-1, 3)
    grid = np.arange(rows * columns).reshape(rows, columns)
    quads = np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]], axis=-1).reshape(-1, 4)
    return (around * radius + centre).astype(np.float32), quads


@pytest.fixture(scope="module")
def head() -> Head:
    """A ball with two eyes that can grow wider (identity) and smile (one blendshape a side)."""
    skin, quads = ball(24, (0, 0, 3), 9.0)
    eyes = [ball(8, (x, 2, 11.2), 1.2) for x in (-3.0, 3.0)]
    vertices = np.concatenate([skin, *(eye for eye, _ in eyes)])
    quads = np.concatenate([quads, eyes[0][1] + len(skin), eyes[1][1] + len(skin) + len(eyes[0][0])])
    part = np.where(np.arange(len(vertices)) < len(skin), SKIN, EYE)
    wider = vertices * np.array([0.05, 0, 0], np.float32)
    smile = np.zeros((2, *vertices.shape), np.float32)
    for side, sign in enumerate((1, -1)):
        corner = (part == SKIN) & (vertices[:, 0] * sign > 1) & (vertices[:, 1] < -2)
        smile[side, corner, 1] = 1.5
    points = np.full(len(POINTS), -1, np.intp)
    for point, place in (
        (NOSE_TIP, (0, 0, 12)),
        (RIGHT_EYE_CORNERS[0], (-4.5, 2, 10.5)),
        (LEFT_EYE_CORNERS[0], (4.5, 2, 10.5)),
    ):
        points[point] = np.linalg.norm(skin - place, axis=1).argmin()
    count = len(eyes[0][0])
    numbers, front = np.arange(len(part)), vertices[:, 2] > 12.2
    first, second = len(skin), len(skin) + count
    irises = (
        np.flatnonzero(front & (numbers >= first) & (numbers < second)),
        np.flatnonzero(front & (numbers >= second)),
    )
    none = np.zeros(len(vertices), np.float32)
    return Head(
        vertices,
        wider[None],
        smile,
        ("mouthSmile_L", "mouthSmile_R"),
        quads,
        part,
        points,
        irises,
        none,
        none,
        none,
        none,
        (np.arange(len(skin), second), np.arange(second, len(vertices))),
    )


def draw(head: Head, count: int, **options: object) -> list[Rendering]:
    renderer = Renderer(head, size=64, **options)  # type: ignore[arg-type]
    return list(renderer.identities(range(count), 4, seed=3))


def test_rotation_and_pose_are_inverse() -> None:
    poses = np.random.default_rng(0).uniform(-70, 70, (50, 3)).astype(np.float32)
    assert np.allclose(pose_of(np.stack([rotation(pose) for pose in poses])), poses, atol=1e-3)


def test_signs_of_the_pose() -> None:
    nose, eye = np.array([0, 0, 1.0]), np.array([1.0, 0, 0])  # eye: the subject's left
    assert (rotation(np.array([20, 0, 0], np.float32)) @ nose)[0] > 0.3
    assert (rotation(np.array([0, 20, 0], np.float32)) @ nose)[1] > 0.3
    assert (rotation(np.array([0, 0, 20], np.float32)) @ eye)[1] < -0.3


def test_a_seed_gives_the_same_pictures_however_they_are_split(head: Head) -> None:
    first = draw(head, 3)
    again = draw(head, 3)
    assert all(np.array_equal(one.image, two.image) for one, two in zip(first, again, strict=True))
    alone = list(Renderer(head, size=64).identities([2], 4, seed=3))
    assert all(np.array_equal(one.image, two.image) for one, two in zip(first[8:], alone, strict=True))
    assert not np.array_equal(first[0].image, first[1].image)


def test_points_follow_the_pose(head: Head) -> None:
    for rendering in draw(head, 6, turn=(40.0, 0.0, 0.0)):
        middle = (rendering.points[RIGHT_EYE_CORNERS[0]] + rendering.points[LEFT_EYE_CORNERS[0]]) / 2
        yaw, pitch, roll = rendering.pose
        assert (pitch, roll) == (0, 0)
        if abs(yaw) > 8:
            assert np.sign(rendering.points[NOSE_TIP, 0] - middle[0]) == np.sign(yaw)


def test_irises_lie_on_dark_pixels_and_the_rest_is_unknown(head: Head) -> None:
    known = np.zeros(len(POINTS), bool)
    known[[NOSE_TIP, RIGHT_EYE_CORNERS[0], LEFT_EYE_CORNERS[0], RIGHT_IRIS, LEFT_IRIS]] = True
    darker = []
    for rendering in draw(head, 8, turn=(10.0, 10.0, 10.0)):
        assert np.array_equal(np.isfinite(rendering.points).all(axis=1), known)
        grey = rendering.image.mean(axis=2)
        for iris in (RIGHT_IRIS, LEFT_IRIS):
            x, y = np.round(rendering.points[iris]).astype(int)
            if 4 <= x < 60 and 4 <= y < 60:
                darker.append(grey[y, x] < np.percentile(grey[y - 4 : y + 5, x - 4 : x + 5], 70))
    assert np.mean(darker) > 0.8


def test_affect_is_the_circumplex_times_the_intensity(head: Head) -> None:
    for rendering in draw(head, 10):
        expected = np.array(CIRCUMPLEX[EXPRESSIONS[rendering.expression]]) * rendering.intensity
        assert np.allclose(rendering.affect, expected, atol=1e-6)
        assert 0 <= rendering.intensity <= 1
        assert (rendering.coefficients >= 0).all()
        assert (rendering.coefficients <= 1).all()


def test_smiles_use_the_smile_blendshapes(head: Head) -> None:
    drawn = draw(head, 30, play=0.0)
    happy = [r for r in drawn if EXPRESSIONS[r.expression] == "happiness"]
    neutral = [r for r in drawn if EXPRESSIONS[r.expression] == "neutral"]
    assert happy
    assert neutral
    assert all(r.coefficients.max() == 0 for r in neutral)
    assert np.corrcoef([r.coefficients.mean() for r in happy], [r.intensity for r in happy])[0, 1] > 0.7


ALONE = ("jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthLeft", "mouthRight")


def test_single_movements_are_sparse_and_never_opposed() -> None:
    names = tuple(
        side
        for movement in MOVEMENTS
        for side in ((movement,) if movement in ALONE else (f"{movement}_L", f"{movement}_R"))
    ) + tuple(f"eyeLook{way}_{side}" for way in ("In", "Out", "Up", "Down") for side in "LR")
    none = np.zeros((1, 3), np.float32)
    flat = Head(
        none, none[None], np.zeros((len(names), 1, 3), np.float32), names, np.zeros((1, 4), np.intp),
        np.array([SKIN]), np.full(len(POINTS), -1), (np.zeros(1, np.intp),) * 2, *(np.zeros(1, np.float32),) * 4,
        (np.zeros(0, np.intp),) * 2,
    )  # fmt: skip
    renderer, random = Renderer(flat, size=64, movements=True), np.random.default_rng(0)
    drawn = np.stack([renderer.move(random) for _ in range(400)])
    value = {name: drawn[:, number] for number, name in enumerate(names)}
    assert ((drawn >= 0) & (drawn <= 1)).all()
    assert 0.05 < (drawn > 0).mean() < 0.3
    assert not ((value["jawLeft"] > 0) & (value["jawRight"] > 0)).any()
    assert not ((value["eyeBlink_L"] > 0) & (value["eyeWide_L"] > 0)).any()
    assert (value["mouthClose"] <= value["jawOpen"]).all()
    assert (value["eyeLookIn_L"] == value["eyeLookOut_R"]).all()  # both eyes to the subject's right
    assert (value["browInnerUp_L"] == value["browInnerUp_R"]).mean() > 0.6
    smiling = (value["mouthSmile_L"] > 0) | (value["mouthSmile_R"] > 0)
    one_sided = (value["mouthSmile_L"] > 0) != (value["mouthSmile_R"] > 0)
    assert 0.02 < one_sided.sum() / smiling.sum() < 0.5


def test_movements_are_no_expression_and_have_arkit_names(head: Head) -> None:
    for picture in draw(head, 2, movements=True):
        assert picture.expression == UNLABELLED
        assert np.isnan(picture.affect).all()
        values = dict(zip(ACTIONS, arkit(head.names, picture.coefficients).tolist(), strict=True))
        assert values["mouthSmileLeft"] == pytest.approx(picture.coefficients[0])
        assert values["mouthSmileRight"] == pytest.approx(picture.coefficients[1])
        assert np.isnan(values["jawOpen"])  # this head has no such movement


def test_arkit_takes_the_mean_of_sides_that_it_does_not_tell_apart() -> None:
    values = arkit(("browInnerUp_L", "browInnerUp_R"), np.array([[0.2, 0.6]]))
    assert values[0, ACTIONS.index("browInnerUp")] == pytest.approx(0.4)


LOOKS = tuple(f"eyeLook{way}_{side}" for way in ("In", "Out", "Up", "Down") for side in "LR")


def looking(head: Head, **amounts: float) -> Rendering:
    """The head without a turn, with the named blendshapes; they move no vertex themselves."""
    names = (*head.names, *LOOKS, "eyeBlink_L", "eyeBlink_R")
    expression = np.concatenate(
        [head.expression, np.zeros((len(names) - 2, *head.neutral.shape), np.float32)]
    )
    able = dataclasses.replace(head, names=names, expression=expression)

    class Posed(Renderer):
        def move(self, random: np.random.Generator) -> NDArray[np.float32]:
            return np.array([amounts.get(name, 0) for name in names], np.float32)

    renderer = Posed(able, size=128, turn=(0.0, 0.0, 0.0), movements=True)
    return next(renderer.identities([0], 1, seed=3))


def test_the_irises_follow_a_glance_and_the_gaze_states_it(head: Head) -> None:
    ahead = looking(head)
    assert ahead.gaze == pytest.approx([0, 0], abs=1e-4)
    left = looking(head, eyeLookOut_L=0.5, eyeLookIn_R=0.5)
    assert left.gaze == pytest.approx([15, 0], abs=1e-3)
    up = looking(head, eyeLookUp_L=1, eyeLookUp_R=1)
    assert up.gaze == pytest.approx([0, 25], abs=1e-3)
    for iris in (RIGHT_IRIS, LEFT_IRIS):
        assert left.points[iris, 0] > ahead.points[iris, 0] + 2
        assert left.points[iris, 1] == pytest.approx(ahead.points[iris, 1], abs=0.5)
        assert up.points[iris, 1] < ahead.points[iris, 1] - 2


def test_the_gaze_is_in_the_frame_of_the_camera(head: Head) -> None:
    for drawn in draw(head, 6, turn=(30.0, 20.0, 0.0)):
        assert drawn.gaze == pytest.approx(drawn.pose[:2], abs=1e-3), "this head's eyes look straight ahead"


def test_a_blendshape_that_stretches_the_skin_leaves_no_holes(head: Head) -> None:
    skin, quads = ball(48, (0, 0, 3), 9.0)
    none = np.zeros(len(skin), np.float32)
    stretch = (skin * [0, 1.2, 0]).astype(np.float32)
    plain = dataclasses.replace(
        head, neutral=skin, identity=stretch[None], expression=stretch[None], names=("jawOpen",), quads=quads,
        part=np.full(len(skin), SKIN), points=np.full(len(POINTS), -1), irises=(np.arange(1),) * 2,
        brow=none, lip=none, hair=none, beard=none, eyeballs=(np.zeros(0, np.intp),) * 2,
    )  # fmt: skip
    renderer, stretched = Renderer(plain, size=96), skin + stretch
    canvas = renderer._rasterise(
        stretched[:, :2] * [10, -10] + 72, stretched[:, 2], np.ones((len(skin), 4), np.float32)
    )
    assert canvas[42:102, 42:102, 3].min() == 1
