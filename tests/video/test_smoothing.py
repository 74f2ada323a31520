"""The filter delays by exactly what it says, however frames are spaced, and makes nothing up."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from mien.errors import ConfigError
from mien.labels import EXPRESSIONS
from mien.types import Reading
from mien.video.smoothing import GAP, Smoother, step


def reading(valence: float, happiness: float = 0.5) -> Reading:
    shares = dict.fromkeys(EXPRESSIONS, (1 - happiness) / 7) | {"happiness": happiness}
    return Reading(shares, valence, 0.0, 0.0, False)


def run(times: np.ndarray, values: np.ndarray, lag: float) -> np.ndarray:
    smoother = Smoother(lag)
    return np.array(
        [smoother(t, [0], [reading(v)])[0].valence for t, v in zip(times, values, strict=True)], dtype=float
    )


def uneven(count: int, seed: int = 0) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).uniform(0.005, 0.2, count))


@pytest.mark.parametrize("lag", [0.1, 0.25, 1.0])
def test_a_ramp_is_delayed_by_the_lag_at_any_spacing(lag: float) -> None:
    times = uneven(400)
    slope = 0.02
    found = run(times, slope * times, lag)
    late = times > times[0] + 12 * lag  # what was before the beginning is forgotten
    assert found[late] == pytest.approx(slope * (times[late] - lag), abs=slope * lag * 1e-4)


def test_one_step_is_the_integral_it_stands_for() -> None:
    before, now, smooth, seconds, lag = 0.3, -0.8, 0.1, 0.37, 0.25
    pieces = 200_000
    value, each = smooth, seconds / pieces
    for number in range(pieces):  # y' = (x - y) / lag with x on a line, by Euler's rule
        line = before + (now - before) * (number + 0.5) / pieces
        value += each * (line - value) / lag
    found = step(np.array([smooth]), np.array([before]), np.array([now]), seconds, lag)
    assert found[0] == pytest.approx(value, abs=1e-5)


def test_frames_left_out_of_a_line_change_nothing() -> None:
    times = uneven(200)
    values = np.interp(times, [times[0], times[90], times[150], times[-1]], [0, 0.9, -0.5, 0.2])
    kept = np.unique([*range(0, 200, 3), 90, 150, 199])
    whole, thinned = run(times, values, 0.25), run(times[kept], values[kept], 0.25)
    assert thinned == pytest.approx(whole[kept], abs=1e-12)


def test_probabilities_stay_probabilities() -> None:
    smoother = Smoother(0.25)
    draw = np.random.default_rng(1)
    for time in uneven(50):
        smooth = smoother(time, [3], [reading(0.0, draw.uniform())])[0]
        assert sum(smooth.probabilities.values()) == pytest.approx(1)
        assert min(smooth.probabilities.values()) >= 0


def test_intensity_is_smoothed_like_the_rest_and_may_be_unknown() -> None:
    smoother, values = Smoother(0.25), []
    for time in uneven(50):
        given = dataclasses.replace(reading(math.sin(time), 0.5), intensity=math.sin(time))
        (smooth,) = smoother(time, [0], [given])
        values.append((smooth.intensity, smooth.valence))
    assert all(one == pytest.approx(other) for one, other in values)
    unknown = dataclasses.replace(reading(0.0, 0.5), intensity=None)
    assert Smoother()(0.0, [0], [unknown])[0].intensity is None


def test_noise_is_reduced_and_no_lag_changes_nothing() -> None:
    times = np.arange(300) / 30
    values = np.random.default_rng(2).normal(0, 0.2, 300)
    assert run(times, values, 0.25)[30:].std() < 0.4 * values.std()
    assert run(times, values, 0.0) == pytest.approx(values)


def test_a_gap_begins_anew_and_persons_do_not_mix() -> None:
    smoother = Smoother(10.0)
    smoother(0.0, [0, 1], [reading(1.0), reading(-1.0)])
    first, second = smoother(0.1, [1, 0], [reading(-1.0), reading(1.0)])
    assert (first.valence, second.valence) == pytest.approx((-1.0, 1.0))
    kept = smoother(0.1 + GAP, [0], [reading(0.0)])[0].valence
    assert kept > 0.5
    assert smoother(0.2 + 2 * GAP + 0.01, [0], [reading(-0.3)])[0].valence == pytest.approx(-0.3)
    assert smoother._states.keys() == {0}


def test_time_that_stands_still_is_survived() -> None:
    smoother = Smoother()
    first = smoother(1.0, [0], [reading(0.5)])
    assert smoother(1.0, [0], [reading(-0.5)]) == first


@pytest.mark.parametrize("lag", [-0.1, float("nan"), float("inf")])
def test_a_lag_that_is_none_is_refused(lag: float) -> None:
    with pytest.raises(ConfigError, match="lag"):
        Smoother(lag)
