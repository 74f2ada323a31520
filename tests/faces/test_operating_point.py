"""Priors and adaptations: Bayes' rule, the file, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mien.errors import ConfigError
from mien.faces.operating_point import Adaptation, expected_shares, offsets, read_prior
from mien.labels import EXPRESSIONS

LABELS = ("calm", "glad", "cross")


def _softmax(scores):
    top = np.exp(scores - scores.max(axis=1, keepdims=True))
    return top / top.sum(axis=1, keepdims=True)


def test_a_prior_is_read_from_a_command_line() -> None:
    assert read_prior("trained") == "trained"
    assert read_prior("uniform") == "uniform"
    assert read_prior("glad=.3, calm=0.5") == {"glad": 0.3, "calm": 0.5}
    for wrong in ("flat", "glad", "glad=much", "=1", "glad=.1,glad=.2"):
        with pytest.raises(ConfigError, match="prior"):
            read_prior(wrong)


def test_labels_that_are_not_named_share_what_is_left() -> None:
    assert expected_shares({"glad": 0.5}, LABELS) == pytest.approx([0.25, 0.5, 0.25])
    assert expected_shares({"glad": 0.5, "calm": 0.5}, LABELS) == pytest.approx([0.5, 0.5, 0.0])
    eight = expected_shares({"happy": 0.3}, EXPRESSIONS)
    assert eight.sum() == pytest.approx(1)
    assert eight[1] == pytest.approx(0.3)


@pytest.mark.parametrize(
    "prior",
    [
        {"sad": 0.1},
        {"glad": 1.2},
        {"glad": -0.1},
        {"glad": True},
        {"glad": "a lot"},
        {"glad": float("nan")},
        {"glad": 0.8, "calm": 0.5},
        {"glad": 0.2, "calm": 0.2, "cross": 0.2},
        {"glad": 0.0, "calm": 0.0, "cross": 0.0},
    ],
)
def test_shares_that_are_none_are_refused(prior) -> None:
    with pytest.raises(ConfigError, match="prior"):
        expected_shares(prior, LABELS)


def test_changing_the_prior_is_bayes_rule() -> None:
    """Against probabilities computed from densities with either prior."""
    generator = np.random.default_rng(0)
    densities = generator.random((50, 3)) + 0.01
    learnt, wanted = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.2, 0.6])
    before = densities * learnt
    before /= before.sum(axis=1, keepdims=True)
    after = densities * wanted
    after /= after.sum(axis=1, keepdims=True)
    change = offsets(dict(zip(LABELS, wanted.tolist(), strict=True)), LABELS, learnt, None)
    assert _softmax(np.log(before) + change) == pytest.approx(after)
    uniform = offsets("uniform", LABELS, learnt, None)
    flat = densities / densities.sum(axis=1, keepdims=True)
    assert _softmax(np.log(before) + uniform) == pytest.approx(flat)


def test_trained_means_the_shares_that_were_learnt_from() -> None:
    embodied, learnt = np.full(3, 1 / 3), np.array([0.6, 0.3, 0.1])
    assert np.exp(offsets("trained", LABELS, embodied, learnt)) / 3 == pytest.approx(learnt)
    assert offsets("trained", LABELS, embodied, None) is None
    assert offsets("trained", LABELS, None, None) is None
    with pytest.raises(ConfigError, match="does not state"):
        offsets("uniform", LABELS, None, None)
    with pytest.raises(ConfigError, match="trained, uniform"):
        offsets("flat", LABELS, embodied, learnt)


def _adaptation(head: bool = True) -> Adaptation:
    generator = np.random.default_rng(1)
    return Adaptation(
        LABELS,
        "ab" * 32,
        np.array([0.5, 0.25, 0.25]),
        generator.normal(size=3),
        np.array([1.0, 0.9, 1.1]),
        generator.normal(size=(3, 4)) if head else None,
        generator.normal(size=4) if head else None,
        {"persons": 7},
    )


@pytest.mark.parametrize("head", [True, False])
def test_an_adaptation_comes_back_from_its_file(head, tmp_path) -> None:
    made = _adaptation(head)
    made.save(tmp_path / "studio.json")
    again = Adaptation.load(tmp_path / "studio.json")
    logs, embeddings = np.log(np.full((5, 3), 1 / 3)), np.random.default_rng(2).normal(size=(5, 4))
    assert again.scores(logs, embeddings) == pytest.approx(made.scores(logs, embeddings), abs=1e-4)
    assert (again.labels, again.weights, again.facts) == (made.labels, made.weights, made.facts)
    assert again.needs_embedding is head


@pytest.mark.parametrize(
    "damage",
    [
        lambda fields: fields.update(format=99),
        lambda fields: fields.update(bias=[1.0]),
        lambda fields: fields.update(bias=None),
        lambda fields: fields.update(shares=[0.5, 0.5, 0.5]),
        lambda fields: fields.update(scale=None, head=None),
        lambda fields: fields.update(centre=[0.0]),
        lambda fields: fields.update(labels=["calm"]),
        lambda fields: fields.update(bias=[1.0, "a", 2.0]),
        lambda fields: fields.pop("weights"),
        lambda fields: fields.update(bias=[1.0, float("inf"), 2.0]),
    ],
)
def test_a_damaged_file_is_refused_with_the_remedy(damage, tmp_path) -> None:
    path = tmp_path / "studio.json"
    _adaptation().save(path)
    fields = json.loads(path.read_text())
    damage(fields)
    path.write_text(json.dumps(fields))
    with pytest.raises(ConfigError, match=r"studio\.json: not a file of mien adapt .*mien adapt PICTURES"):
        Adaptation.load(path)


def test_a_missing_file_names_the_command(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"no such file: make it with  mien adapt"):
        Adaptation.load(tmp_path / "none.json")


def test_an_adaptation_of_other_weights_is_refused() -> None:
    made = _adaptation()
    made.check_fits("a.json", made.weights, LABELS, 4)
    with pytest.raises(ConfigError, match="other weights"):
        made.check_fits("a.json", "cd" * 32, LABELS, 4)
    with pytest.raises(ConfigError, match="embedding has 5"):
        made.check_fits("a.json", made.weights, LABELS, 5)
    with pytest.raises(ConfigError, match="order"):
        made.check_fits("a.json", made.weights, LABELS[::-1], 4)
