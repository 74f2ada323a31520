"""Batches: every picture with its own targets, in an order that depends on the seed and the step alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from mien.data.cropping import Samples
from mien.errors import ConfigError
from mien.training.batches import BatchLoader


def samples(count: int, offset: int = 0) -> Samples:
    """Crops whose every pixel is the row's number, so that a mix-up shows."""
    number = np.arange(offset, offset + count)
    return Samples(
        np.broadcast_to(number[:, None, None], (count, 4, 4)).astype(np.uint8),
        np.ones(count, dtype=bool),
        number % 8,
        np.full((count, 8), np.nan, dtype=np.float32),
        np.stack([number, -number], axis=1).astype(np.float32),
        np.full(count, -1),
        tuple(str(one) for one in number),
    )


def test_an_epoch_draws_every_picture_once_with_its_own_targets() -> None:
    feed = BatchLoader([samples(20), samples(12, offset=20)], batch=8, balance=0.0, seed=3)
    seen = []
    for batch in feed.epoch(0):
        numbers = batch.affect[:, 0].long()
        assert (batch.image[:, 0, 0].long() == numbers).all()
        assert (batch.expression == numbers % 8).all()
        seen += numbers.tolist()
    assert sorted(seen) == list(range(32))
    assert not np.array_equal(feed.order(0), feed.order(1))
    assert np.array_equal(
        feed.order(1), BatchLoader([samples(20), samples(12, offset=20)], 8, 0.0, 3).order(1)
    )


def test_a_set_is_drawn_as_often_as_it_asks_with_its_weight_and_prior() -> None:
    often = replace(samples(20), repeat=2.5, weight=0.5)
    seldom = replace(samples(40, 100), repeat=0.5)
    feed = BatchLoader([often, seldom], 7, 0.0, 0)
    assert feed.steps == (50 + 20) // 7
    rows = np.concatenate([feed.order(epoch) for epoch in range(40)])
    assert len(rows) == 40 * 70
    counts = np.bincount(rows, minlength=60) / 40
    assert np.allclose(counts[:20].mean(), 2.5, atol=0.15)
    assert np.allclose(counts[20:].mean(), 0.5, atol=0.1)
    targets = next(feed.epoch(0))
    assert set(targets.extra) == {"weight", "log_prior"}
    assert targets.extra["log_prior"].shape == (7, 8)
    owners = (targets.image[:, 0, 0].numpy() >= 100).astype(int)
    assert targets.extra["weight"].tolist() == [0.5 if owner == 0 else 1.0 for owner in owners]
    assert len(targets.expression) == 7


def test_an_epoch_can_start_in_its_middle() -> None:
    feed = BatchLoader([samples(32)], batch=8, balance=0.0, seed=3)
    whole = [batch.affect[:, 0].tolist() for batch in feed.epoch(5)]
    assert [batch.affect[:, 0].tolist() for batch in feed.epoch(5, start=2)] == whole[2:]


def test_balance_draws_rare_classes_more_often() -> None:
    rare = samples(400)
    label = np.zeros(400, dtype=np.int64)
    label[:20] = 1
    rare = Samples(rare.images, rare.found, label, rare.votes, rare.affect, rare.subject, rare.names)
    assert (label[BatchLoader([rare], 8, 0.0, 0).order(0)] == 1).mean() == pytest.approx(0.05)
    assert (label[BatchLoader([rare], 8, 1.0, 0).order(0)] == 1).mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("step", [0, 3, 4, 9])
def test_batches_go_on_from_any_step_over_the_ends_of_epochs(step: int) -> None:
    feed = BatchLoader([samples(32)], batch=8, balance=0.0, seed=3)
    whole = [batch.affect[:, 0].tolist() for epoch in range(4) for batch in feed.epoch(epoch)]
    assert [batch.affect[:, 0].tolist() for batch in islice(feed.batches(step), 6)] == whole[step : step + 6]


def test_a_batch_larger_than_the_set_is_refused() -> None:
    with pytest.raises(ConfigError, match="lower it"):
        BatchLoader([samples(4)], batch=8, balance=0.0, seed=0)
