"""The metrics, with their exact definitions: functions of numpy arrays that return floats.

Three rules keep the numbers comparable between runs and papers:

- a metric is computed once over the whole set, never averaged over batches;
- a metric that is not defined for its input (a constant, an absent class) is `nan`, or the value its docstring names,
  without a warning;
- a face that was not found can be counted as an error: its predicted class is `NOT_DETECTED`, which is never correct.

scikit-learn and scipy are used where they have the definition. They belong to the `train` extra and are imported inside
the functions, so that this module itself needs only numpy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mien.errors import ExtraMissing, MienError
from mien.faces.recognise import softmax

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

NOT_DETECTED = -1
"""The predicted class of a face that was not found: always wrong."""

BINS = 15
"""Equal-width confidence bins of the expected calibration error."""


class MetricError(MienError, ValueError):
    """The inputs of a metric contradict each other; the message names which."""


def _module(name: str) -> Any:
    """Import a module of the `train` extra, with an error that tells how to install it."""
    from importlib import import_module

    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise ExtraMissing("train", name.partition(".")[0]) from None


def cells(truth: ArrayLike, predicted: ArrayLike, classes: int) -> Ints:
    """The flat index [n] of each image's cell in a confusion matrix [classes, classes + 1]; see `confusion`.

    Raises:
        MetricError: the lengths differ, or a class is out of range.
    """
    true, guess = np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if true.shape != guess.shape:
        raise MetricError(
            f"{true.size} true classes but {guess.size} predictions: pass one prediction for each image"
        )
    if true.size and (
        true.min() < 0 or true.max() >= classes or guess.min() < NOT_DETECTED or guess.max() >= classes
    ):
        raise MetricError(f"a class is outside 0..{classes - 1}: leave unlabelled images out before counting")
    return true * (classes + 1) + np.where(guess == NOT_DETECTED, classes, guess)


def confusion(truth: ArrayLike, predicted: ArrayLike, classes: int) -> Ints:
    """Counts [classes, classes + 1]: rows are the truth, columns the prediction, the last column is `NOT_DETECTED`."""
    counts = np.bincount(cells(truth, predicted, classes), minlength=classes * (classes + 1))
    return counts.reshape(classes, classes + 1).astype(np.int64)


def _ratio(top: Floats, bottom: Floats, empty: float) -> Floats:
    """top / bottom, and `empty` where bottom is zero."""
    whole = np.full(np.broadcast(top, bottom).shape, empty)
    np.divide(top, bottom, out=whole, where=bottom > 0)
    return whole


def per_class(matrix: ArrayLike) -> dict[str, Floats]:
    """Precision, recall, F1 and support, each [..., k], of confusion counts [..., k, k + 1].

    A class that is neither true nor predicted has precision, recall and F1 zero, as scikit-learn's `zero_division=0`.
    """
    counts = np.asarray(matrix, dtype=np.float64)
    k = counts.shape[-2]
    hits = np.diagonal(counts[..., :k], axis1=-2, axis2=-1)
    support, called = counts.sum(axis=-1), counts[..., :k].sum(axis=-2)
    return {
        "precision": _ratio(hits, called, 0.0),
        "recall": _ratio(hits, support, 0.0),
        "f1": _ratio(2 * hits, support + called, 0.0),
        "support": support,
    }


def classification(matrix: ArrayLike) -> dict[str, Floats]:
    """The four headline figures, each [...], of confusion counts [..., k, k + 1] (a stack of matrices is one call).

    - `accuracy`: share of images with a correct prediction; also called weighted average recall (WAR).
    - `macro_accuracy`: mean recall over the classes that occur in the truth; also UAR or balanced accuracy.
    - `macro_f1`: mean F1 over all k classes; a class without any true or predicted image counts as 0.
    - `weighted_f1`: F1 weighted by the number of true images.
    """
    counts = np.asarray(matrix, dtype=np.float64)
    each, total = per_class(counts), counts.sum(axis=(-2, -1))
    present = each["support"] > 0
    hits = each["recall"] * each["support"]
    return {
        "accuracy": _ratio(hits.sum(axis=-1), total, math.nan),
        "macro_accuracy": _ratio(
            (each["recall"] * present).sum(axis=-1), present.sum(axis=-1).astype(float), math.nan
        ),
        "macro_f1": np.where(total > 0, each["f1"].mean(axis=-1), math.nan),
        "weighted_f1": _ratio((each["f1"] * each["support"]).sum(axis=-1), total, math.nan),
    }


# Calibration ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One bin of a reliability diagram: confidences in [low, high), their number and mean, and the share of correct
    ones."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Equal-width bins over [0, 1], empty ones left out; the last bin includes confidence 1."""
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.searchsorted(edges, sure, side="right") - 1, 0, bins - 1)
    found = []
    for index in np.unique(place):
        inside = place == index
        low, high = float(edges[index]), float(edges[index + 1])
        mean, share = float(sure[inside].mean()), float(right[inside].mean())
        found.append(ReliabilityBin(low, high, int(inside.sum()), mean, share))
    return tuple(found)


def equal_mass(confidence: ArrayLike, bins: int = BINS) -> Ints:
    """The bin [n] of each confidence, from 0, in bins of equal counts; equal confidences share a bin."""
    sure = np.asarray(confidence, dtype=np.float64)
    edges = np.unique(np.quantile(sure, np.linspace(0, 1, bins + 1)))[1:-1]
    _, place = np.unique(np.searchsorted(edges, sure, side="right"), return_inverse=True)
    return place.astype(np.int64)


def calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error (ECE): mean over images of |accuracy - mean confidence| of their bin.

    15 equal-width bins by default; `nan` for no image, or where a confidence is not finite. Guo et al. 2017, "On
    calibration of modern neural networks". It is biased upwards, more so for fewer images: 0.03 for a calibrated model
    on 300. `mien.evaluation.intervals.calibration_interval` is not.
    """
    if not np.isfinite(np.asarray(confidence, dtype=np.float64)).all():
        return math.nan
    filled = reliability(confidence, correct, bins)
    total = sum(part.count for part in filled)
    if not total:
        return math.nan
    return sum(part.count * abs(part.accuracy - part.confidence) for part in filled) / total


def brier(probabilities: ArrayLike, truth: ArrayLike) -> float:
    """Mean squared distance between the probability vector and the one-hot truth, in [0, 2] (Brier 1950)."""
    shares, true = np.asarray(probabilities, dtype=np.float64), np.asarray(truth, dtype=np.int64)
    if not len(true):
        return math.nan
    return float(((shares - np.eye(shares.shape[1])[true]) ** 2).sum(axis=1).mean())


def log_loss(probabilities: ArrayLike, truth: ArrayLike) -> float:
    """Mean of -log p(true class) in nats; p is clipped at 1e-12, so that the mean stays finite."""
    shares, true = np.asarray(probabilities, dtype=np.float64), np.asarray(truth, dtype=np.int64)
    if not len(true):
        return math.nan
    return float(-np.log(np.clip(shares[np.arange(len(true)), true], 1e-12, 1.0)).mean())


def risk_coverage(confidence: ArrayLike, correct: ArrayLike) -> tuple[Floats, Floats, float]:
    """Coverage [n], risk [n] and AURC if only the most confident images are answered.

    `risk[i]` is the error rate among the i + 1 most confident images and AURC its mean (Geifman & El-Yaniv 2017).
    Images of equal confidence share their mean error, so that the order of the images does not matter.
    """
    sure, wrong = np.asarray(confidence, dtype=np.float64), 1.0 - np.asarray(correct, dtype=np.float64)
    count = len(sure)
    if not count:
        return np.empty(0), np.empty(0), math.nan
    _, tie, size = np.unique(-sure, return_inverse=True, return_counts=True)
    shared = np.bincount(tie, weights=wrong) / size
    rank = np.arange(1, count + 1)
    risk = np.cumsum(np.repeat(shared, size)) / rank
    return rank / count, risk, float(risk.mean())


def fit_temperature(logits: ArrayLike, truth: ArrayLike) -> float:
    """The T > 0 that minimises the log loss of softmax(logits / T), searched in [0.05, 20].

    Fit it on validation images and apply it to test images. Log-probabilities serve as logits.

    Raises:
        MetricError: there is no image to fit on.
    """
    values, true = np.asarray(logits, dtype=np.float64), np.asarray(truth, dtype=np.int64)
    if not len(true):
        raise MetricError("no labelled validation image to fit a temperature on: pass a validation split")
    search = _module("scipy.optimize").minimize_scalar
    bounds = (math.log(0.05), math.log(20.0))
    found = search(
        lambda log_t: log_loss(softmax(values / math.exp(log_t)), true),
        bounds=bounds,
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(math.exp(found.x))


# Paired classifiers --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class McNemar:
    """Numbers of images that only the first or only the second classifier gets right, and two-sided p-values."""

    first_only: int
    second_only: int
    p_exact: float
    p_mid: float


def mcnemar(first_correct: ArrayLike, second_correct: ArrayLike) -> McNemar:
    """McNemar's test on the discordant images by the exact binomial, and its less conservative mid-p variant.

    Raises:
        MetricError: the two have different numbers of images.
    """
    first, second = np.asarray(first_correct, dtype=bool), np.asarray(second_correct, dtype=bool)
    if first.shape != second.shape:
        raise MetricError(
            f"{first.size} images against {second.size}: compare two classifiers on the same images"
        )
    ahead, behind = int((first & ~second).sum()), int((~first & second).sum())
    if ahead + behind == 0:
        return McNemar(0, 0, 1.0, 1.0)
    binomial = _module("scipy.stats").binom
    less, total = min(ahead, behind), ahead + behind
    exact = min(1.0, 2 * float(binomial.cdf(less, total, 0.5)))
    middle = (
        1.0
        if ahead == behind
        else 2 * float(binomial.cdf(less, total, 0.5)) - float(binomial.pmf(less, total, 0.5))
    )
    return McNemar(ahead, behind, exact, min(1.0, middle))


# Valence and arousal -------------------------------------------------------------------------------------------------


def affect(predicted: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None) -> dict[str, float]:
    """CCC, PCC, RMSE and SAGR of one dimension (valence or arousal), both [n], over the whole set at once.

    With population moments throughout:

    - CCC = 2 cov / (var_y + var_p + (mean_y - mean_p)^2), `nan` if both are the same constant;
    - PCC = cov / (sd_y sd_p), `nan` if either is constant;
    - RMSE = sqrt(mean (p - y)^2);
    - SAGR = share of images with sign(y) = sign(p), where the sign of zero is zero: a true zero agrees only with a
      predicted zero.

    `weights` [n] counts an image that many times, as a bootstrap resample does. All four are `nan` without an image of
    positive weight, or where a value of such an image is not finite.

    Raises:
        MetricError: the lengths differ, or a weight is negative or not finite.
    """
    p, y = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    each = np.ones_like(y) if weights is None else np.asarray(weights, dtype=np.float64)
    if p.shape != y.shape or each.shape != y.shape:
        raise MetricError(
            f"{p.size} predictions and {each.size} weights but {y.size} true values: pass one for each image"
        )
    if not (np.isfinite(each) & (each >= 0)).all():
        raise MetricError("a weight is negative or not finite: pass counts of images")
    if (each == 0).any():
        p, y, each = p[each > 0], y[each > 0], each[each > 0]
    if not p.size or not np.isfinite(p + y).all():
        return {"ccc": math.nan, "pcc": math.nan, "rmse": math.nan, "sagr": math.nan}
    each = each / each.sum()
    # Constancy is tested on the values themselves: their rounded mean would leave a variance.
    off_p, off_y = (value - (value[0] if (value == value[0]).all() else each @ value) for value in (p, y))
    var_p, var_y, cov = each @ off_p**2, each @ off_y**2, each @ (off_p * off_y)
    gap = var_p + var_y + (each @ (p - y)) ** 2
    spread = math.sqrt(var_p) * math.sqrt(var_y)
    return {
        "ccc": float(2 * cov / gap) if gap > 0 else math.nan,
        "pcc": float(np.clip(cov / spread, -1, 1)) if spread > 0 else math.nan,
        "rmse": float(math.sqrt(each @ (p - y) ** 2)),
        "sagr": float(each @ (np.sign(p) == np.sign(y))),
    }


# Distances between sets of features ----------------------------------------------------------------------------------


def _pair(first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise MetricError(
            f"features of shapes {a.shape} and {b.shape}: pass two arrays [n, d] with the same d"
        )
    if min(len(a), len(b)) < 2:
        raise MetricError(
            f"{len(a)} and {len(b)} samples: a distance of distributions needs two or more of each"
        )
    return a, b


def _root(matrix: Floats) -> Floats:
    """The symmetric square root by eigen-decomposition, negative eigenvalues (rounding) clipped to zero."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return np.asarray((vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T)


def frechet(first: ArrayLike, second: ArrayLike) -> float:
    """Frechet distance of two feature sets [n, d] and [m, d], each summarised as a Gaussian, in float64.

    ||mean_a - mean_b||^2 + tr(S_a + S_b - 2 (S_a^1/2 S_b S_a^1/2)^1/2), S with divisor n - 1.

    It is the Frechet *Emotion* Distance (FED) when the features are the penultimate layer of an expression classifier
    trained on real training images only, taken per target class over real test images of that class against edits
    towards it, and averaged over classes. State the network with the number: there is no standard one.

    The estimate is biased upwards, strongly for few samples (64-d Gaussians of one distribution: 44 at n = 50, 1.1 at
    n = 2000). So use equal n of at least 10 d everywhere, and print two references beside it: the *floor* between two
    halves of the real images and the *ceiling* between the real images and the unedited sources.
    """
    a, b = _pair(first, second)
    spread_a, spread_b = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    root = _root(spread_a)
    overlap = np.linalg.eigvalsh(root @ spread_b @ root)
    mixed = np.sqrt(np.clip(overlap, 0.0, None)).sum()
    apart = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    return float(max(apart + np.trace(spread_a) + np.trace(spread_b) - 2 * mixed, 0.0))


# Embeddings ----------------------------------------------------------------------------------------------------------


def separation(features: ArrayLike, labels: ArrayLike, seed: int = 0, most: int = 5000) -> dict[str, float]:
    """How well classes separate in feature space [n, d]: never computed on a t-SNE plot.

    - `silhouette`: mean silhouette with cosine distance, in [-1, 1];
    - `nmi`: normalised mutual information of k-means clusters (as many as classes) and labels, in [0, 1];
    - `recall_at_1`: share of images that have the same label as the nearest other image by cosine.

    More than `most` images are thinned to a seeded random subset, since the cost grows with the square. All are `nan`
    if there are fewer than two classes, or no more images than classes.
    """
    x, y = np.asarray(features, dtype=np.float64), np.asarray(labels)
    if len(y) > most:
        kept = np.sort(np.random.default_rng(seed).permutation(len(y))[:most])
        x, y = x[kept], y[kept]
    classes = len(np.unique(y))
    if classes < 2 or len(y) <= classes:
        return {"silhouette": math.nan, "nmi": math.nan, "recall_at_1": math.nan}
    scores, cluster = _module("sklearn.metrics"), _module("sklearn.cluster")
    unit = x / np.clip(np.linalg.norm(x, axis=1, keepdims=True), 1e-12, None)
    near = unit @ unit.T
    np.fill_diagonal(near, -np.inf)
    groups = cluster.KMeans(classes, n_init=5, random_state=seed).fit_predict(unit)
    return {
        "silhouette": float(scores.silhouette_score(unit, y, metric="cosine")),
        "nmi": float(scores.normalized_mutual_info_score(y, groups)),
        "recall_at_1": float((y[near.argmax(axis=1)] == y).mean()),
    }


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rank correlation of two sequences [n], ties at their mean rank; `nan` if either is constant."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(_module("scipy.stats").spearmanr(a, b).statistic)
