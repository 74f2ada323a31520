"""The learned correction of an edit on a photo and in a film."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mien.data.synthetic.drawings import faces as drawn_faces
from mien.editing.corrector import SIDE, OnnxCorrector, corrected, views
from mien.editing.edit_video import TemporalCorrector
from mien.editing.editor import Editor, asked_plan
from mien.editing.geometry import ACTIVE, Geometry
from mien.editing.photo import Photo, open_photo
from mien.editing.plan import Plan
from mien.editing.render import render
from mien.editing.shading import Shading
from mien.editing.target import Target
from mien.editing.warp import FOLD_LIMIT
from mien.evaluation.editor import editors
from mien.labels import EXPRESSIONS, NEUTRAL
from mien.landmarks import MIRROR
from mien.training.editor import edit_pairs
from mien.training.editor.networks import Change, drawn


@pytest.fixture(scope="module")
def plan() -> tuple[Photo, Plan]:
    """A drawn face and the plan of a smile on it."""
    face = drawn_faces(1, size=256, classes=("neutral",))[0]
    shares = np.eye(len(EXPRESSIONS))[NEUTRAL]
    located = edit_pairs.located(face.pixels, face.landmarks, shares)
    return Photo(face.pixels), asked_plan(Geometry.load(), located, Target.parse("happiness"), 0.8)


def test_a_correction_of_nothing_leaves_the_plan_as_it_is(plan: tuple[Photo, Plan]) -> None:
    photo, asked = plan
    same = corrected(asked, np.zeros((2, 16, 16), np.float32), np.zeros((SIDE, SIDE), np.float32))
    np.testing.assert_allclose(same.target, asked.target, atol=1e-12)
    before, after = (render(photo.rgb, one, None, 1.0)[0].astype(int) for one in (asked, same))
    assert np.abs(before - after).max() <= 1


def test_a_request_for_no_change_asks_no_network(plan: tuple[Photo, Plan]) -> None:
    photo, asked = plan
    still = replace(asked, change=np.zeros(len(ACTIVE)))
    assert OnnxCorrector(network=None)(photo.rgb, still, None, 0.0) is still


def test_a_correction_draws_on_the_photo_what_training_saw(plan: tuple[Photo, Plan]) -> None:
    """The window of the corrected edit is the corrected window of the edit."""
    photo, asked = plan
    columns, rows = np.meshgrid(np.linspace(-1, 1, 16), np.linspace(-1, 1, 16))
    flow = np.stack([1.5 * np.exp(-4 * rows**2), -1.2 * np.exp(-4 * columns**2)]).astype(np.float32)
    gain = (0.3 * np.sin(np.linspace(0, 6, SIDE)))[None, :].repeat(SIDE, axis=0).astype(np.float32)
    shading = Shading.load()
    _, after = views(photo.rgb, asked, shading, 1.0)
    change = Change(torch.from_numpy(flow)[None], torch.from_numpy(gain)[None, None])
    expected = drawn(torch.from_numpy(after).float()[None, None] / 255, change, torch.ones(1))[0, 0].numpy()
    done = corrected(asked, flow, gain)
    assert np.abs(done.target - asked.target).max() > 0.02
    _, seen = views(photo.rgb, done, shading, 1.0)
    error = np.abs(seen / 255 - expected)
    moved = np.abs(after / 255 - expected)
    assert error.mean() < 0.35 * moved.mean()
    assert error.mean() < 0.015


@pytest.mark.parametrize("seed", range(4))
def test_no_correction_folds(plan: tuple[Photo, Plan], seed: int) -> None:
    _, asked = plan
    wild = np.random.default_rng(seed).uniform(-12, 12, (2, 16, 16)).astype(np.float32)
    done = corrected(asked, wild, np.zeros((SIDE, SIDE), np.float32))
    assert done.warp.folding >= FOLD_LIMIT


def test_the_views_are_the_face(plan: tuple[Photo, Plan]) -> None:
    """The eyes lie where `mien.faces.align` puts them, and the window before is the photo's."""
    from mien.faces import align
    from mien.landmarks import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS

    photo, asked = plan
    before, _ = views(photo.rgb, asked, None, 1.0)
    matrix = editors.window_matrix(asked.frame)
    points = asked.frame.to_picture(asked.source)
    eyes = [points[list(corners)].mean(axis=0) for corners in (RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS)]
    np.testing.assert_allclose(align.apply(matrix, eyes), align.TEMPLATE[:2], atol=0.02)
    direct = align.crop(photo.rgb, matrix, SIDE, grey=True)
    assert np.abs(before.astype(int) - direct).mean() < 4


class Alternating:
    """A network whose light is now one, now the other."""

    def __init__(self) -> None:
        self.calls = 0

    def run(self, names: list[str], feeds: dict[str, Any]) -> list[Any]:
        self.calls += 1
        sign = 1 if self.calls % 2 else -1
        count = len(feeds["pictures"])
        flow = np.zeros((count, 2, 16, 16), np.float32)
        return [flow, np.full((count, 1, SIDE, SIDE), 0.2 * sign, np.float32)]


@pytest.mark.parametrize("target", ["anger", "sadness", "surprise"])
def test_the_mirrored_face_gets_the_mirrored_correction(examples: Path, target: str) -> None:
    photo = open_photo(examples / "portrait_neutral.jpg")
    editor = Editor.load(threads=1, measure=False)
    face = editor.locate(photo)[0]
    last = photo.colour.shape[1] - 1
    mirrored = np.ascontiguousarray(photo.colour[:, ::-1])

    def flipped(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return points[MIRROR] * [-1, 1] + [last, 0]

    other = replace(face, points=flipped(face.points), network_points=flipped(face.network_points))
    wanted = Target.parse(target)
    answers = []
    for colour, located in ((photo.colour, face), (mirrored, other)):
        # The lips stay closed, as the same mouth is drawn for both faces, and that is not symmetric.
        asked = asked_plan(editor.geometry, located, wanted, 1.0, "keep")
        assert editor.corrector is not None
        answers.append(editor.corrector.answer(colour, asked, editor.shading, wanted.teeth))
    (flow, gain), (flow_there, gain_there) = answers
    back = flow_there[:, :, ::-1] * np.array([-1, 1])[:, None, None]
    assert np.linalg.norm(flow) > 0
    assert np.linalg.norm(back - flow) < 0.02 * np.linalg.norm(flow)
    assert np.linalg.norm(gain_there[:, ::-1] - gain) < 0.02 * np.linalg.norm(gain)


def test_light_is_deeper_on_dark_skin(plan: tuple[Photo, Plan]) -> None:
    photo, asked = plan
    strengths = []
    for brightness in (1.0, 0.5, 0.2):
        dim = (photo.rgb * brightness).astype(np.uint8)
        flow, gain = OnnxCorrector(Alternating()).answer(dim, asked, None, 1.0)
        assert not flow.any()
        strengths.append(abs(float(gain[0, 0])) / 0.2)
    assert 1 <= strengths[0] < 1.2
    assert strengths[0] < strengths[1] < 2.001
    assert strengths[2] == pytest.approx(2)


def test_a_film_holds_what_the_corrector_says_of_a_shot(plan: tuple[Photo, Plan]) -> None:
    photo, asked = plan
    held = TemporalCorrector(OnnxCorrector(Alternating()), frames=8)

    def light(shot: int) -> float:
        drawn = held(shot, photo.rgb, asked, None, 1.0)
        assert drawn.gain is not None
        return float(drawn.gain.ravel()[np.abs(drawn.gain).argmax()])

    first = [light(0) for _ in range(20)]
    alone = [float(OnnxCorrector(Alternating())(photo.rgb, asked, None, 1.0).gain.max())]  # type: ignore[union-attr]
    assert first[0] == pytest.approx(alone[0])
    assert abs(first[1]) < 1e-6  # the mean of the two so far
    assert np.abs(np.diff(first[10:])).max() < 0.3 * abs(alone[0])
    assert abs(light(1)) == pytest.approx(alone[0])  # another shot begins anew
    still = replace(asked, change=np.zeros_like(asked.change))
    assert held(1, photo.rgb, still, None, 1.0) is still
