"""Drawn faces: the same seed gives the same pixels, what they state is true, and they can be learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mien.data.synthetic import drawings
from mien.data.synthetic.drawings import View, arrays, draw, faces
from mien.labels import CIRCUMPLEX, EXPRESSIONS, NEUTRAL, index_of
from mien.landmarks import GROUPS, LEFT_EYE, LEFT_IRIS, MIRROR, OUTER_LIPS, POINTS, RIGHT_EYE, RIGHT_IRIS


def test_the_seed_decides_every_pixel() -> None:
    first, again, other = faces(8, seed=1, size=48), faces(8, seed=1, size=48), faces(8, seed=2, size=48)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("word", EXPRESSIONS)
def test_affect_and_votes_follow_the_intensity(word: str) -> None:
    face = draw(word, 0.5)
    valence, arousal = CIRCUMPLEX[word]
    assert (face.valence, face.arousal) == pytest.approx((valence * face.intensity, arousal * face.intensity))
    assert sum(face.votes) == pytest.approx(1)
    assert face.intensity == (0 if word == "neutral" else 0.5)
    assert draw(word, 1.0).votes[index_of(word)] == 1


@pytest.mark.parametrize("word", [word for word in EXPRESSIONS if word != "neutral"])
def test_a_stronger_expression_moves_further_from_neutral(word: str) -> None:
    neutral = draw("neutral", subject=2).landmarks
    away = [
        np.abs(draw(word, strength, subject=2).landmarks - neutral).sum() for strength in (0, 0.3, 0.6, 1)
    ]
    assert away[0] == 0
    assert away[0] < away[1] < away[2] < away[3]


def test_landmarks_lie_on_what_is_drawn() -> None:
    size = 384
    for subject in range(6):
        face = draw("surprise", 1, subject, size)
        assert face.landmarks.shape == (len(POINTS), 2)
        assert face.landmarks.min() > 0
        assert face.landmarks.max() < size - 1
        for iris, eye in ((RIGHT_IRIS, RIGHT_EYE), (LEFT_IRIS, LEFT_EYE)):
            x, y = np.rint(face.landmarks[iris]).astype(int)
            assert face.pixels[y, x].max() < 40, "a pupil is dark"
            assert np.allclose(face.landmarks[eye].mean(0), face.landmarks[iris], atol=1)
        corner = face.landmarks[OUTER_LIPS.start]
        inside, outside = (
            np.rint(corner + np.array([6, 1])).astype(int),
            np.rint(corner - np.array([6, 0])).astype(int),
        )
        assert (
            np.abs(face.pixels[inside[1], inside[0]].astype(int) - face.pixels[outside[1], outside[0]]).max()
            > 20
        )


def test_left_is_the_subjects_left_and_faces_are_symmetric() -> None:
    points = draw("happiness", 1, subject=3, size=101).landmarks
    assert points[LEFT_IRIS, 0] > points[RIGHT_IRIS, 0]
    mirrored = points[MIRROR] * [-1, 1] + [100, 0]
    assert np.allclose(mirrored, points, atol=1e-9)
    contempt = draw("contempt", 1, subject=3, size=101).landmarks
    assert not np.allclose(contempt[MIRROR] * [-1, 1] + [100, 0], contempt, atol=0.5), "a one-sided smile"
    assert set(GROUPS) >= {"jaw", "outer_lips"}


def test_a_rolled_view_turns_the_landmarks_about_the_centre() -> None:
    upright, rolled = (draw("fear", 1, size=101, view=View(roll=roll)).landmarks - 50 for roll in (0, 30))
    cosine, sine = np.cos(np.pi / 6), np.sin(np.pi / 6)
    assert np.allclose(rolled, upright @ np.array([[cosine, sine], [-sine, cosine]]), atol=1e-9)


def test_a_grey_drawing_has_equal_channels() -> None:
    grey = draw("anger", colour=False).pixels
    assert np.array_equal(grey[..., 0], grey[..., 1])
    assert np.array_equal(grey[..., 0], grey[..., 2])


def test_records_split_by_sitter(tmp_path: Path) -> None:
    records = drawings.records(tmp_path, count=80, subjects=10, size=48)
    assert {record.split for record in records} == {"train", "valid", "test"}
    seats = {(record.subject, record.split) for record in records}
    assert len(seats) == len({subject for subject, _ in seats}) == 10
    assert all(record.path.is_file() for record in records)
    assert {record.expression for record in records if record.split == "test"} == set(range(8))


def test_expressions_of_new_sitters_can_be_learnt_from_pixels() -> None:
    """A linear classifier on upright, grey faces, tested on three sitters it has not seen; chance is 1/8."""
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(0)
    drawn = [draw(n % 8, random.uniform(0.5, 1), n // 8 % 12, size=32, colour=False) for n in range(480)]
    data = arrays(drawn)
    assert (data.intensity[data.expression == NEUTRAL] == 0).all()
    pixels = data.images[..., 0].reshape(len(drawn), -1).astype(float)
    pixels -= pixels.mean(axis=1, keepdims=True)
    pixels /= pixels.std(axis=1, keepdims=True)
    train = data.subject < 9
    model = LogisticRegression(C=0.001, max_iter=300).fit(pixels[train], data.expression[train])
    assert model.score(pixels[~train], data.expression[~train]) > 0.8
