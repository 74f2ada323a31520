"""A figure of a method's repeated runs, which differ in their seed, and the uncertainty of its mean and differences.

A mean over runs is uncertain for two reasons, the sample of images and the sample of seeds. For m runs on n images its
variance is S/m + I/n + R/(m n): S of seeds, I of images, R of what one seed gets right on one image and another does
not. Resampled images include I/n + R/(m n), and the deviations of the runs from their mean S/m + R/(m n). Their sum
would count R twice, which for the difference of two similar methods is most of the variance. R/(m n) is therefore
estimated from the runs' disagreement over the resamples and taken out of the resampled part (as for crossed random
effects; Owen 2007, "The pigeonhole bootstrap", shows the same excess).

Two methods trained with the same seeds are compared seed by seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mien.evaluation.intervals import Interval, interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

POWER = 0.8416 / 1.96
"""The addition, in half-widths of an interval, for 80 % power: the normal quantile of .8 over that of .975."""


@dataclass(frozen=True, slots=True, eq=False)
class Replicates:
    """One figure of the runs of a method.

    Attributes:
        seeds: the seed of each run, None if unknown.
        values: [runs] the figure of each run.
        samples: [runs, draws] the figure of each run on resampled images, the same images for all runs; NaN where it is
            undefined.
        stream: numbers that identify the method, so that the seeds of each method vary independently.
    """

    seeds: tuple[int | None, ...]
    values: Floats
    samples: Floats
    stream: tuple[int, ...] = ()

    def minus(self, other: Replicates) -> Replicates:
        """The differences run by run, for example between two groups of images."""
        return Replicates(self.seeds, self.values - other.values, self.samples - other.samples, self.stream)

    def draws(self, seed: int = 0) -> Floats:
        """Draws [draws] of the mean over runs, for new images and new seeds."""
        return _resampled(self, None) + _varied(self, [seed, 1, *self.stream])


def difference(first: Replicates, second: Replicates, seed: int = 0) -> tuple[float, Floats]:
    """The difference of two methods' means, and its draws [draws] for new images and new seeds.

    Methods with the same seeds are compared seed by seed. All such pairs share the direction of each draw, as they
    share the reference, but the uncertainty of the spread over seeds is drawn for each pair.
    """
    value = float(first.values.mean() - second.values.mean())
    seeds = set(first.seeds)
    if (
        None not in seeds
        and 1 < len(seeds) == len(first.seeds) == len(second.seeds)
        and seeds == set(second.seeds)
    ):
        order = [second.seeds.index(one) for one in first.seeds]
        pair = first.minus(replace(second, values=second.values[order], samples=second.samples[order]))
        return value, _resampled(pair, None) + _varied(pair, [seed, 2], (*first.stream, *second.stream))
    varied = [_varied(one, [seed, 1, *one.stream]) for one in (first, second)]
    return value, _resampled(first, second) + varied[0] - varied[1]


def _resampled(first: Replicates, second: Replicates | None) -> Floats:
    """The mean over runs, or the difference of two, on resampled images [draws], without what runs do not share."""
    drawn = np.asarray(first.samples.mean(axis=0))
    excess = _disagreement(first)
    if second is not None:
        drawn = np.asarray(drawn - second.samples.mean(axis=0))
        excess += _disagreement(second)
    known = drawn[np.isfinite(drawn)]
    variance = float(known.var()) if len(known) else 0.0
    if not excess or not variance:
        return drawn
    kept = math.sqrt(max(0.0, 1 - excess / variance))
    middle = float(known.mean())
    return np.asarray(middle + kept * (drawn - middle))


def _disagreement(runs: Replicates) -> float:
    """R/(m n): the part of the variance of the resampled mean that comes from differences between the runs."""
    if len(runs.values) < 2:
        return 0.0
    deviations = runs.samples - runs.values[:, None]
    found = deviations.var(axis=0, ddof=1)
    found = found[np.isfinite(found)]
    return float(found.mean()) / len(runs.values) if len(found) else 0.0


def _varied(runs: Replicates, stream: Sequence[int], scale: Sequence[int] | None = None) -> Floats:
    """The deviation of the mean over new seeds [draws]; 0 for a single run, since its spread is unknown."""
    weights = seed_weights(len(runs.values), runs.samples.shape[1], stream, scale)
    return np.asarray(weights @ (runs.values - runs.values.mean()))


def seed_weights(
    runs: int, draws: int, stream: Sequence[int], scale_stream: Sequence[int] | None = None
) -> Floats:
    """Weights [draws, runs] that turn the runs' deviations from their mean into deviations of the mean of new seeds.

    Few seeds drawn with replacement vary much less than new seeds would: three have two thirds of the variance, and the
    uncertainty of the variance itself is ignored. The sum over runs has Student's t distribution with runs - 1 degrees
    of freedom, scaled to the standard error of the mean.

    Args:
        runs: how many.
        draws: how many.
        stream: the stream of the directions.
        scale_stream: the stream of the scales; None takes both from `stream`.
    """
    random = np.random.default_rng(list(stream))
    if runs < 2:
        return np.zeros((draws, runs))
    normal = random.standard_normal((draws, runs))
    if scale_stream is not None:
        random = np.random.default_rng([*stream, 1, *scale_stream])
    scale = np.sqrt(random.chisquare(runs - 1, draws) / (runs - 1))
    return np.asarray(normal / (scale[:, None] * math.sqrt(runs * (runs - 1))))


def joint(drawn: dict[str, tuple[float, Floats]]) -> tuple[dict[str, Interval], dict[str, float]]:
    """For each comparison, the interval that holds for all of them together, and the smallest visible difference.

    Single-step max-t (Romano and Wolf 2005) over shared draws: every half-width is multiplied by the same factor, the
    95 % quantile over draws of the largest deviation in half-widths. Unlike Bonferroni's division of .05, it accounts
    for the correlation of the comparisons, which share the reference and the images. The unit is the half-width, not
    the standard deviation, because the draws of few seeds have the tails of Student's t.

    Args:
        drawn: by comparison, the difference and its draws [draws].
    """
    halves = {}
    for name, found in drawn.items():
        single = interval(*found)
        halves[name] = (single.high - single.low) / 2
    largest = [
        np.abs(drawn[name][1] - drawn[name][0]) / half
        for name, half in halves.items()
        if half > 0  # 0 for identical runs, NaN for an undefined figure
    ]
    stretch = 1.0
    if len(largest) > 1:
        stretch = max(1.0, float(np.nanquantile(np.fmax.reduce(largest), 0.95)))
    corrected = {
        name: Interval(drawn[name][0], drawn[name][0] - stretch * half, drawn[name][0] + stretch * half)
        for name, half in halves.items()
    }
    return corrected, {name: (stretch + POWER) * half for name, half in halves.items()}


def p_value(value: float, draws: Floats) -> float:
    """Two-sided p of a difference: how often the draws deviate from it by as much as it deviates from 0; at least
    1 / (draws + 1), NaN without draws."""
    known = draws[np.isfinite(draws)]
    if len(known) < 2 or not math.isfinite(value):
        return math.nan
    return float((1 + (np.abs(known - value) >= abs(value)).sum()) / (len(known) + 1))


def holm(values: dict[str, float]) -> dict[str, float]:
    """p values corrected for their number (Holm 1979): the smallest is multiplied by it, the next by one less, and so
    on; NaN stays and does not count."""
    order = sorted((name for name, value in values.items() if math.isfinite(value)), key=values.__getitem__)
    corrected, largest = dict(values), 0.0
    for place, name in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - place) * values[name]))
        corrected[name] = largest
    return corrected
