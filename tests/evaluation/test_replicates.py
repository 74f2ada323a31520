"""Means and differences of repeated runs, on simulated runs whose seeds, images and chance are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mien.evaluation import intervals, replicates
from mien.evaluation.intervals import Interval, Resampling
from mien.evaluation.replicates import Replicates

RUNS, IMAGES, DRAWS = 8, 300, 400
SEED_SD, IMAGE_SD, CHANCE_SD = 0.02, 0.25, 0.6
"""Deviations of a method's seeds and, for each image, of its difficulty and of what a single run gets right on it."""


def counts(seed: int) -> np.ndarray:
    return np.concatenate(list(Resampling(DRAWS, seed).blocks(IMAGES)))


def method(random: np.random.Generator, times: np.ndarray, images: np.ndarray, name: int) -> Replicates:
    """Runs with seeds of their own on images that are as hard for every method."""
    seeds = random.normal(0, SEED_SD, (RUNS, 1))
    own = random.normal(0, IMAGE_SD, IMAGES)  # images that suit this method
    scores = 0.7 + seeds + images + own + random.normal(0, CHANCE_SD, (RUNS, IMAGES))
    return Replicates(tuple(range(RUNS)), scores.mean(axis=1), scores @ times.T / IMAGES, (name,))


def simulated(times: int, methods: int) -> list[dict[str, tuple[float, np.ndarray]]]:
    """Differences of methods that do not differ, by simulation and method."""
    found = []
    for time in range(times):
        random, drawn = np.random.default_rng([9, time]), counts(time)
        images = random.normal(0, 0.3, IMAGES)
        base, *others = (method(random, drawn, images, name) for name in range(methods + 1))
        found.append({str(place): replicates.difference(one, base, time) for place, one in enumerate(others)})
    return found


TRUE_VARIANCE = 2 * (SEED_SD**2 / RUNS + IMAGE_SD**2 / IMAGES + CHANCE_SD**2 / RUNS / IMAGES)


@pytest.mark.parametrize("paired", [True, False])
def test_the_variance_of_a_difference_is_that_of_new_seeds_and_images_and_counts_chance_once(
    paired: bool,
) -> None:
    widths = []
    for time in range(150):
        random, drawn = np.random.default_rng([8, time]), counts(time)
        images = random.normal(0, 0.3, IMAGES)
        base, new = (method(random, drawn, images, name) for name in range(2))
        if not paired:
            new = Replicates((None,) * RUNS, new.values, new.samples, new.stream)
        _, draws = replicates.difference(new, base, time)
        # Student's t of 7 degrees of freedom has 7/5 of the variance of the normal, in the part of the seeds alone.
        spread = new.values - base.values if paired else np.array([*new.values, *base.values])
        seeds = (
            spread.var(ddof=1) / RUNS if paired else (new.values.var(ddof=1) + base.values.var(ddof=1)) / RUNS
        )
        widths.append(draws.var() - 0.4 * seeds)
    assert np.mean(widths) == pytest.approx(TRUE_VARIANCE, rel=0.08)


def test_intervals_hold_as_often_as_they_say_and_power_is_what_it_says() -> None:
    """Three methods that do not differ: 95 % of all three intervals together; and at `visible` 80 % are seen."""
    every, single, halves, seen = [], [], [], []
    for drawn in simulated(300, 3):
        corrected, visible = replicates.joint(drawn)
        every.append(all(one.low <= 0 <= one.high for one in corrected.values()))
        alone = intervals.interval(*drawn["0"])
        single.append(alone.low <= 0 <= alone.high)
        halves.append((visible["0"], (corrected["0"].high - corrected["0"].low) / 2, drawn["0"][0]))
    effect = float(np.mean([visible for visible, _, _ in halves]))
    seen = [value + effect > half for _, half, value in halves]
    assert 0.92 <= np.mean(single) <= 0.98, np.mean(single)
    assert 0.92 <= np.mean(every) <= 0.99, np.mean(every)
    assert 0.74 <= np.mean(seen) <= 0.87, np.mean(seen)


def test_methods_are_compared_seed_by_seed_where_they_share_seeds() -> None:
    """A disturbance of both methods by the seed cancels out."""
    random, times = np.random.default_rng(3), counts(0)
    shared = random.normal(0, 0.1, (RUNS, 1)) + random.normal(0, 0.1, IMAGES)
    base, new = (
        Replicates(tuple(range(RUNS)), scores.mean(axis=1), scores @ times.T / IMAGES, (name,))
        for name, scores in ((0, shared), (1, shared + 0.01 + random.normal(0, 0.01, shared.shape)))
    )
    value, draws = replicates.difference(new, base)
    assert value == pytest.approx(0.01, abs=1e-3)
    assert draws.std() < 1e-3
    turned = Replicates(base.seeds[::-1], base.values[::-1], base.samples[::-1], base.stream)
    np.testing.assert_allclose(replicates.difference(new, turned)[1], draws, atol=1e-12)
    twice, also = (Replicates((0, *base.seeds[:-1]), base.values, base.samples, (name,)) for name in range(2))
    assert replicates.difference(twice, also)[1].std() > 0.02, "a seed that is there twice cannot be matched"
    others = Replicates(tuple(range(RUNS, 2 * RUNS)), new.values, new.samples, new.stream)
    assert replicates.difference(others, base)[1].std() > 0.02


def test_a_single_run_has_the_variation_of_images_alone() -> None:
    times = counts(1)
    scores = np.random.default_rng(0).random((1, IMAGES)) < 0.8
    run = Replicates((0,), scores.mean(axis=1), scores @ times.T / IMAGES)
    np.testing.assert_allclose(run.draws(), run.samples[0])


def test_undefined_draws_stay_undefined_and_spoil_no_other() -> None:
    samples = np.random.default_rng(0).normal(0.5, 0.05, (3, DRAWS))
    samples[:, 0] = np.nan
    runs = Replicates((0, 1, 2), np.array([0.4, 0.5, 0.6]), samples)
    assert np.isnan(runs.draws()[0])
    assert np.isfinite(runs.draws()[1:]).all()


@pytest.mark.parametrize("pairs", [2, 5, 12])
def test_corrected_intervals_of_independent_pairs_are_sidaks(pairs: int) -> None:
    random = np.random.default_rng(pairs)
    drawn = {str(number): (0.5, 0.5 + random.normal(0, 0.02, 40_000)) for number in range(pairs)}
    corrected, visible = replicates.joint(drawn)
    together = stats.norm.ppf(0.5 + 0.95 ** (1 / pairs) / 2)
    for name in drawn:
        found = corrected[name]
        assert (found.high - found.low) / 2 == pytest.approx(0.02 * together, rel=0.02)
        # A difference of that size lies so far from 0 that noise hides it in 20 of 100 repeats.
        assert stats.norm.cdf((visible[name] - 0.02 * together) / 0.02) == pytest.approx(0.8, abs=0.01)


def test_pairs_that_move_as_one_need_no_correction_and_twins_have_none() -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, 20_000)
    drawn = dict.fromkeys("abc", (0.1, 0.1 + noise))
    drawn["twin"] = (0.0, np.zeros(20_000))
    corrected, visible = replicates.joint(drawn)
    single = intervals.interval(*drawn["a"])
    assert (corrected["a"].low, corrected["a"].high) == pytest.approx((single.low, single.high), abs=1e-3)
    assert corrected["twin"] == Interval(0, 0, 0)
    assert visible["twin"] == 0


@pytest.mark.parametrize("runs", [2, 3, 10])
@pytest.mark.parametrize("scale", [None, [5]])
def test_seeds_move_the_mean_by_students_t(runs: int, scale: list[int] | None) -> None:
    values = np.random.default_rng(4).normal(0.8, 0.05, runs)
    moved = replicates.seed_weights(runs, 200_000, [0], scale) @ (values - values.mean())
    oracle = stats.t.interval(0.95, runs - 1, scale=stats.sem(values))
    assert np.percentile(moved, [2.5, 97.5]) == pytest.approx(oracle, rel=0.03)
    assert not replicates.seed_weights(1, 10, [0], scale).any()


@pytest.mark.parametrize("value", [0.0, 0.01, -0.03])
def test_p_of_normal_draws_is_the_normal_tail(value: float) -> None:
    draws = value + np.random.default_rng(1).normal(0, 0.02, 200_000)
    expected = 2 * stats.norm.sf(abs(value) / 0.02)
    assert replicates.p_value(value, draws) == pytest.approx(expected, abs=4e-3)
    assert replicates.p_value(0.5, 0.5 + np.random.default_rng(1).normal(0, 0.01, 99)) == 0.01
    assert math.isnan(replicates.p_value(math.nan, draws))


def test_holm_rejects_what_the_step_down_procedure_rejects() -> None:
    random = np.random.default_rng(2)
    for _ in range(50):
        values = {str(place): float(p) for place, p in enumerate(random.beta(0.3, 1, 5))}
        corrected = replicates.holm(values | {"undefined": math.nan})
        assert math.isnan(corrected["undefined"])
        for level in (0.01, 0.05, 0.2):
            rejected: set[str] = set()
            for place, name in enumerate(sorted(values, key=values.__getitem__)):
                if values[name] > level / (len(values) - place):
                    break
                rejected.add(name)
            assert {name for name in values if corrected[name] <= level} == rejected
