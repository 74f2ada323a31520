"""Distillation: teachers' shares mix with votes by weight, picture by picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mien.data.cropping import Samples
from mien.data.predictions import Predictions
from mien.errors import ConfigError
from mien.labels import UNLABELLED
from mien.training import distillation


def samples() -> Samples:
    """Four pictures: voted, labelled without votes, without both, and one that no teacher knows."""
    votes = np.full((4, 8), np.nan, dtype=np.float32)
    votes[0] = votes[3] = [0.5, 0.5, 0, 0, 0, 0, 0, 0]
    return Samples(
        np.zeros((4, 8, 8), dtype=np.uint8),
        np.ones(4, dtype=bool),
        np.array([0, 2, UNLABELLED, 1]),
        votes,
        np.full((4, 2), np.nan, dtype=np.float32),
        np.full(4, -1),
        ("voted", "labelled", "bare", "unseen"),
    )


def teacher(
    folder: Path, name: str, shares: list[float], names: tuple[str, ...] = ("bare", "voted", "labelled")
) -> Path:
    """A predictions file that says the same of every picture."""
    said = Predictions(names, np.full(len(names), UNLABELLED), np.tile(shares, (len(names), 1)))
    path = folder / f"{name}.parquet"
    said.save(path)
    return path


def test_votes_labels_and_teachers_mix_by_weight(tmp_path: Path) -> None:
    one = teacher(tmp_path, "one", [1, 0, 0, 0, 0, 0, 0, 0])
    two = teacher(tmp_path, "two", [0, 0, 0, 1, 0, 0, 0, 0])
    votes = distillation.taught([samples()], [one, two], 0.4)[0].votes
    # The teachers' mean is a half each on the first and the fourth class.
    expected = np.zeros((4, 8))
    expected[0, [0, 1, 3]] = 0.6 * 0.5 + 0.4 * 0.5, 0.6 * 0.5, 0.4 * 0.5
    expected[1, [2, 0, 3]] = 0.6, 0.2, 0.2
    expected[2, [0, 3]] = 0.5
    expected[3, [0, 1]] = 0.5
    np.testing.assert_allclose(votes, expected, atol=1e-6)
    np.testing.assert_allclose(votes.sum(axis=1), 1, atol=1e-6)


def test_no_weight_changes_nothing_but_fills_labels(tmp_path: Path) -> None:
    file = teacher(tmp_path, "one", [1, 0, 0, 0, 0, 0, 0, 0])
    before = samples()
    after = distillation.taught([before], [file], 0.0)[0]
    np.testing.assert_array_equal(after.votes[[0, 3]], before.votes[[0, 3]])
    assert after.votes[1, 2] == 1
    assert np.array_equal(after.images, before.images)


def test_a_teacher_of_other_pictures_is_refused(tmp_path: Path) -> None:
    stranger = teacher(tmp_path, "stranger", [1, 0, 0, 0, 0, 0, 0, 0], names=("a", "b"))
    with pytest.raises(ConfigError, match="--split train"):
        distillation.taught([samples()], [stranger], 0.5)
