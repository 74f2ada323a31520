"""Confidence intervals of figures: percentile intervals from resampled images, or from resampled people.

A resample is a vector with the number of times each image was drawn. Drawing *subjects* with all their images widens
the interval to cover a new sample of people, so it is used if the set identifies subjects. The same resamples are used
for two models on the same images, so their difference is a paired comparison.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mien.evaluation.metrics import affect, cells, classification, equal_mass

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

DRAWS = 1000
"""Default number of resamples for an interval."""

_CHUNK = 4_000_000
"""Largest number of counts held at once, so that a set of a million frames does not need draws x images numbers."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its 95 % bootstrap interval; `low` and `high` are `nan` where it could not be resampled."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def known(self) -> bool:
        """Whether the figure itself is defined."""
        return math.isfinite(self.value)


@dataclass(frozen=True)
class Resampling:
    """What is drawn behind an interval, the same for the same seed.

    With `subjects`, whole subjects are drawn; images of an unknown subject (None) count as separate subjects.

    Attributes:
        draws: number of resamples.
        seed: the seed of the draws.
        subjects: the subject of each image, to draw whole subjects; None draws images.
    """

    draws: int = DRAWS
    seed: int = 0
    subjects: Sequence[str | None] | None = None

    def blocks(self, count: int) -> Iterator[NDArray[np.int32]]:
        """Yield blocks [some, count] of how often each of `count` images was drawn, `draws` rows in all."""
        generator = np.random.default_rng(self.seed)
        cluster = np.arange(count)
        if self.subjects is not None:
            numbers: dict[str, int] = {}
            alone = 0
            for index, subject in enumerate(self.subjects):
                if subject is None:
                    cluster[index] = alone + len(numbers)
                    alone += 1
                elif subject in numbers:
                    cluster[index] = numbers[subject]
                else:
                    cluster[index] = numbers[subject] = alone + len(numbers)
        clusters = int(cluster.max()) + 1 if count else 0
        left, step = self.draws, max(1, _CHUNK // max(count, 1))
        while left > 0 and clusters:
            rows = min(step, left)
            drawn = generator.integers(0, clusters, size=(rows, clusters))
            flat = drawn + np.arange(rows)[:, None] * clusters
            times = np.bincount(flat.ravel(), minlength=rows * clusters).reshape(rows, clusters)
            yield times[:, cluster].astype(np.int32)
            left -= rows

    def means(self, values: ArrayLike) -> Floats:
        """The mean [draws] of values [n] over each resample."""
        known = np.asarray(values)
        blocks = [counts @ known / counts.sum(axis=1) for counts in self.blocks(len(known))]
        return np.concatenate(blocks) if blocks else np.empty(0)


PLAIN = Resampling()
"""`DRAWS` resamples of images."""


def interval(value: float, sample: ArrayLike) -> Interval:
    """A figure with the 2.5 and 97.5 percentiles of its resampled values; undefined resamples are left out."""
    values = np.asarray(sample, dtype=np.float64)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return Interval(float(value))
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(value), float(low), float(high))


def wilson(hits: int, count: int) -> Interval:
    """A share with its 95 % score interval (Wilson 1927), which is valid near 0 and 1, where a bootstrap is not.

    For 0 of 16 the interval is 0 to 0.19, while resampling the same 16 could only give 0 to 0.
    """
    if not count:
        return Interval(math.nan)
    z = 1.959963984540054
    share, scale = hits / count, 1 + z * z / count
    middle = (share + z * z / (2 * count)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    low = 0.0 if hits == 0 else max(0.0, middle - half)
    return Interval(share, low, 1.0 if hits == count else min(1.0, middle + half))


def confusion_draws(
    truth: ArrayLike,
    predicted: ArrayLike,
    classes: int,
    resampling: Resampling = PLAIN,
) -> Floats:
    """Confusion counts [draws, classes, classes + 1] over resampled images or subjects."""
    place = cells(truth, predicted, classes)
    found = [np.empty((0, classes * (classes + 1)))]
    for counts in resampling.blocks(len(place)):
        table = np.zeros((len(counts), classes * (classes + 1)))
        # One weighted count of cells for each row: cheaper than a one-hot product, as most cells are empty.
        for cell in np.unique(place):
            table[:, cell] = counts[:, place == cell].sum(axis=1)
        found.append(table)
    return np.concatenate(found).reshape(-1, classes, classes + 1)


def classification_draws(
    truth: ArrayLike,
    predicted: ArrayLike,
    classes: int,
    resampling: Resampling = PLAIN,
) -> dict[str, Floats]:
    """The four figures of `metrics.classification`, each [draws], over resampled images or subjects."""
    return classification(confusion_draws(truth, predicted, classes, resampling))


def classification_intervals(
    truth: ArrayLike,
    predicted: ArrayLike,
    classes: int,
    resampling: Resampling = PLAIN,
) -> dict[str, Interval]:
    """The four figures of `metrics.classification` with their intervals."""
    matrix = np.bincount(cells(truth, predicted, classes), minlength=classes * (classes + 1))
    values = classification(matrix.reshape(classes, classes + 1))
    sample = classification_draws(truth, predicted, classes, resampling)
    return {name: interval(float(value), sample.get(name, [])) for name, value in values.items()}


def calibration_interval(
    confidence: ArrayLike,
    correct: ArrayLike,
    resampling: Resampling = PLAIN,
) -> Interval:
    """Root mean square calibration error over equally filled bins, debiased, with its interval.

    The gap of a bin has a variance of its own, so squared gaps are too large on average, and the usual ECE, a mean of
    absolute gaps, is never near zero: for a perfectly calibrated model its bootstrap interval never contains the truth.
    Here each bin's squared gap is reduced by its variance over the resamples (Kumar, Liang & Ma 2019, "Verified
    uncertainty calibration", with the bootstrap's variance instead of the binomial's, so that subjects count).

    The interval, our choice, inverts a test: it contains each error at which gaps of these proportions and this noise
    would give an error like the one measured. `tests/test_coverage.py` simulates how often it contains the truth.
    """
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if not len(sure) or not np.isfinite(sure).all():
        return Interval(math.nan)
    place = equal_mass(sure)
    bins = int(place.max()) + 1
    share = np.bincount(place, minlength=bins) / len(sure)
    excess = np.zeros((len(sure), bins))
    excess[np.arange(len(sure)), place] = right - sure
    gap = excess.mean(axis=0)
    blocks = [counts @ excess / counts.sum(axis=1, keepdims=True) for counts in resampling.blocks(len(sure))]
    if resampling.draws < 2:
        return Interval(math.sqrt(float((gap**2 / share).sum())))
    noise = np.concatenate(blocks) - gap
    spread = noise.var(axis=0, ddof=1)
    plain = float((gap**2 / share).sum())
    value = float(((gap**2 - spread) / share).sum())
    linear, squared = (2 * gap * noise / share).sum(axis=1), ((noise**2 - spread) / share).sum(axis=1)

    def limit(percent: float) -> float:
        """The error, as a multiple of the observed gaps, at which this percentile of the figure equals the observed
        one."""

        def off(factor: float) -> float:
            return factor**2 * plain + float(np.percentile(factor * linear + squared, percent)) - value

        if plain == 0 or off(0.0) >= 0:
            return 0.0
        low, high = 0.0, 1.0
        while off(high) < 0:
            low, high = high, 2 * high
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (low, middle) if off(middle) >= 0 else (middle, high)
        return high

    root = math.sqrt(plain)
    return Interval(math.sqrt(max(value, 0.0)), limit(97.5) * root, limit(2.5) * root)


def affect_draws(
    predicted: ArrayLike,
    truth: ArrayLike,
    resampling: Resampling = PLAIN,
) -> dict[str, Floats]:
    """CCC, PCC, RMSE and SAGR, each [draws], of one dimension over resampled images or subjects."""
    p, y = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    rows = [affect(p, y, row) for counts in resampling.blocks(len(p)) for row in counts]
    return {name: np.array([row[name] for row in rows]) for name in ("ccc", "pcc", "rmse", "sagr")}


def affect_intervals(
    predicted: ArrayLike,
    truth: ArrayLike,
    resampling: Resampling = PLAIN,
) -> dict[str, Interval]:
    """CCC, PCC, RMSE and SAGR of one dimension with their intervals."""
    sample = affect_draws(predicted, truth, resampling)
    return {name: interval(value, sample[name]) for name, value in affect(predicted, truth).items()}
