"""Corrections fitted on labelled pictures: oracles, limits and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from mien.errors import ConfigError
from mien.faces import adapt
from mien.faces.adapt import Labelled

K = 4
LABELS = ("calm", "glad", "cross", "sad")


def _faces(count: int, shift=0.0, persons: int | None = None, seed: int = 0, width: int = 6) -> Labelled:
    """Faces whose log probabilities are right up to `shift`, an offset of each label."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, K, count)
    # For z normal, of variance 1, around 2 at the label and around 0 elsewhere, 2 z are the log likelihoods.
    logs = 2 * generator.normal(size=(count, K)) + 4 * np.eye(K)[truth] + shift
    logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
    embeddings = generator.normal(size=(count, width))
    people = np.arange(count) % (persons or count)
    return Labelled(logs, embeddings, truth, people, LABELS)


def test_offsets_agree_with_a_second_implementation() -> None:
    """Against scipy's minimiser on the same posterior."""
    optimize = pytest.importorskip("scipy.optimize")
    faces = _faces(80, np.array([2.0, -1.0, 0.0, 0.5]))

    def loss(values):
        bias, scale = values[:K], values[K:]
        scores = bias + scale * faces.logs
        top = scores.max(axis=1)
        entropy = top + np.log(np.exp(scores - top[:, None]).sum(axis=1)) - scores[np.arange(80), faces.truth]
        return entropy.sum() + 0.5 * (bias**2).sum() + (2.0 * (scale - 1) ** 2).sum()

    for shared in (False, True):
        start = np.append(np.zeros(K), np.ones(1 if shared else K))
        found = optimize.minimize(loss, start, tol=1e-10).x
        bias, scale = adapt._scaled(faces.logs, faces.truth, 1.0, shared)
        assert bias == pytest.approx(found[:K], abs=1e-3)
        assert scale == pytest.approx(np.broadcast_to(found[K:], K), abs=1e-3)


def test_the_head_agrees_with_a_second_implementation() -> None:
    """Against scikit-learn's logistic regression, whose offset has no prior: here it is centred by balanced classes."""
    linear = pytest.importorskip("sklearn.linear_model")
    generator = np.random.default_rng(0)
    truth = np.repeat(np.arange(K), 30)
    vectors = generator.normal(size=(120, 5)) + np.eye(5)[truth]
    vectors -= vectors.mean(axis=0)
    bias, head = adapt._linear(np.zeros((120, K)), np.linalg.svd(vectors, full_matrices=False), truth, 1.0)
    other = linear.LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(vectors, truth)
    ours = vectors @ head.T + bias
    theirs = other.decision_function(vectors)
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() > 0.97
    assert np.corrcoef(head.ravel(), other.coef_.ravel())[0, 1] > 0.99


def test_few_pictures_change_little_and_many_bring_the_offset_back() -> None:
    shift = np.array([2.0, -2.0, 0.0, 0.0])
    few, _ = adapt._scaled(*_pick(_faces(4, shift)), 0.5, True)
    many, _ = adapt._scaled(*_pick(_faces(4000, shift)), 2.0, True)
    assert np.abs(few).max() < 1.0
    assert many[1] - many[0] == pytest.approx(4.0, abs=0.5)


def _pick(faces: Labelled):
    return faces.logs, faces.truth


def test_a_wrong_operating_point_is_corrected_and_the_figures_say_so() -> None:
    outcome = adapt.fit(_faces(120, np.array([4.0, 0.0, 0.0, -2.0])), "ab" * 32)
    before, after, low, high = outcome.figures["accuracy"]
    assert outcome.kind in ("bias", "scale", "head")
    assert after - before > 0.15
    assert 0 < low < after - before < high
    assert outcome.adaptation is not None
    assert outcome.adaptation.weights == "ab" * 32
    fresh = _faces(500, np.array([4.0, 0.0, 0.0, -2.0]), seed=9)
    right = outcome.adaptation.scores(fresh.logs, fresh.embeddings).argmax(axis=1) == fresh.truth
    assert right.mean() - (fresh.logs.argmax(axis=1) == fresh.truth).mean() > 0.15


def test_where_nothing_is_wrong_little_is_changed() -> None:
    """Over five sets: the figures neither promise nor lose anything."""
    changes = []
    for seed in range(5):
        before, after, _, _ = adapt.fit(_faces(40, seed=seed), "").figures["accuracy"]
        changes.append(after - before)
    assert np.mean(changes) > -0.03


def test_a_person_is_never_learnt_from_and_judged() -> None:
    persons = np.array(["a", "b", "a", "c", "b", "d", "e", "a"])
    folds = adapt._folds(persons, np.random.default_rng(0), 3)
    judged = np.concatenate([judge for _, judge in folds])
    assert sorted(judged.tolist()) == list(range(8))
    for learn, judge in folds:
        assert not set(persons[learn]) & set(persons[judge])


def test_labels_of_ones_own_are_learnt_from_the_embedding() -> None:
    generator = np.random.default_rng(3)
    truth = np.arange(60) % 3
    embeddings = generator.normal(size=(60, 16)) + 3 * np.eye(16)[truth]
    faces = Labelled(
        np.zeros((60, 8)), embeddings, truth, np.arange(60), ("gut", "schlecht", "weiß nicht"), own=True
    )
    outcome = adapt.fit(faces, "")
    assert outcome.kind == "head"
    assert outcome.adaptation is not None
    assert outcome.adaptation.scale is None
    before, after, _, _ = outcome.figures["accuracy"]
    assert np.isnan(before)
    assert after > 0.9


def test_what_cannot_be_learnt_from_is_refused() -> None:
    faces = _faces(20)
    one = np.zeros(20, dtype=int)
    with pytest.raises(ConfigError, match="one person"):
        adapt.fit(Labelled(faces.logs, faces.embeddings, faces.truth, one, LABELS), "")
    with pytest.raises(ConfigError, match="only 'calm'"):
        adapt.fit(Labelled(faces.logs, faces.embeddings, one, faces.persons, LABELS), "")
    with pytest.raises(ConfigError, match="no embedding"):
        adapt.fit(Labelled(faces.logs, np.zeros((20, 0)), faces.truth, faces.persons, LABELS, own=True), "")


def test_equal_pictures_give_an_equal_correction() -> None:
    first, second = (adapt.fit(_faces(40, 1.0), "").adaptation for _ in range(2))
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        assert first.bias.tolist() == second.bias.tolist()
