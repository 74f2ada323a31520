"""Fit the smallest correction of a recogniser that a few labelled pictures support.

Three families, each a multinomial logistic regression with a normal prior around "no correction" on its parameters, so
that few pictures change little:

- `bias`: one offset per label and one factor for all (k + 1 numbers): how frequent each label is, and how confident the
  recogniser is;
- `scale`: an offset and a factor per label (2k): vector scaling (Guo et al. 2017);
- `head`: the offsets and factor of `bias`, then a linear head on the embedding at unit length (k (d + 1) more).

The family and the width of its prior are chosen by the log loss of cross-validation over persons; the reported figures
are measured on persons that were not used for that choice either (nested cross-validation). Our choice, because a
correction evaluated on the faces it was fitted to always looks good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError, MienError, NoFace
from mien.faces.operating_point import Adaptation, Shares, unit
from mien.faces.recognise import softmax
from mien.io import images
from mien.types import Box, CountProgress, Detection, LineProgress

if TYPE_CHECKING:
    from mien.faces.pipeline import Pipeline
    from mien.types import Reading

Floats = NDArray[np.float64]
Basis = tuple[Floats, Floats, Floats]
Kind = Literal["none", "bias", "scale", "head"]

CANDIDATES: Final[tuple[tuple[Kind, float], ...]] = (
    ("none", 0.0),
    ("bias", 0.5),
    ("bias", 1.0),
    ("bias", 2.0),
    ("scale", 1.0),
    ("scale", 2.0),
    ("head", 1.0),
    ("head", 3.0),
    ("head", 10.0),
)
"""Families and the standard deviations of their parameters' prior, the smallest correction first."""

_FEWEST: Final[tuple[Kind, float]] = ("bias", 2.0)
"""The candidate used when each label has one person."""

FOLDS: Final = 10
"""Largest number of folds of the persons in a cross-validation."""

DRAWS: Final = 2000
"""Number of bootstrap draws of persons for an interval."""


class LabelledPicture(NamedTuple):
    """A labelled picture: its path, the index of its label, who it shows, and the face's box (None: find the largest).

    The box is (left, top, right, bottom) in pixels.
    """

    path: str
    label: int
    person: str
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Labelled:
    """n labelled faces.

    Attributes:
        logs: [n, k0] the recogniser's log probabilities.
        embeddings: [n, d].
        truth: [n] index of the label.
        persons: [n] the person's name or number.
        labels: the k labels that `truth` refers to.
        own: whether they are own labels instead of the recogniser's.
    """

    logs: Floats
    embeddings: Floats
    truth: NDArray[np.int64]
    persons: NDArray[Any]
    labels: tuple[str, ...]
    own: bool = False

    @cached_property
    def basis(self) -> tuple[Floats, Basis]:
        """Mean [d] of the unit-length embeddings, and the singular value decomposition of the centred embeddings."""
        vectors = unit(self.embeddings)
        centre = vectors.mean(axis=0)
        return centre, np.linalg.svd(vectors - centre, full_matrices=False)

    def part(self, rows: NDArray[Any]) -> Labelled:
        """Some of the faces."""
        return Labelled(
            self.logs[rows],
            self.embeddings[rows],
            self.truth[rows],
            self.persons[rows],
            self.labels,
            self.own,
        )


def read(
    examples: Sequence[LabelledPicture],
    labels: tuple[str, ...],
    pipeline: Pipeline,
    progress: CountProgress | None = None,
    note: LineProgress | None = None,
) -> Labelled:
    """Read the face of each picture; pictures that cannot be used are reported and left out.

    Args:
        examples: n labelled pictures.
        labels: the names that their labels index: those of the pipeline's recogniser, or own labels.
        pipeline: loaded with `embeddings=True` and `prior="trained"`, without an adaptation.
        progress: called with (pictures done, n).
        note: called with one line about each picture that is left out.
    """
    own = labels != pipeline.labels
    logs: list[list[float]] = []
    vectors: list[tuple[float, ...]] = []
    used: list[LabelledPicture] = []
    for number, example in enumerate(examples):
        try:
            reading = _reading(example, pipeline)
        except MienError as problem:
            if note is not None:
                note(str(problem))
        else:
            logs.append([reading.probabilities[name] for name in pipeline.labels])
            vectors.append(reading.embedding)
            used.append(example)
        if progress is not None:
            progress(number + 1, len(examples))
    shape = (len(used), -1 if used else 0)
    return Labelled(
        np.log(np.clip(np.array(logs, dtype=np.float64).reshape(shape), 1e-12, 1)),
        np.array(vectors, dtype=np.float64).reshape(shape if used and vectors[0] else (len(used), 0)),
        np.array([example.label for example in used], dtype=np.int64),
        np.array([example.person for example in used], dtype=str),
        labels,
        own,
    )


def _reading(example: LabelledPicture, pipeline: Pipeline) -> Reading:
    rgb = images.read(example.path, max_pixels=pipeline.max_pixels)
    if example.box is None:
        located = pipeline.find(rgb)
    else:
        left, top, right, bottom = example.box
        located = pipeline.locate(rgb, [Detection(Box(left, top, right - left, bottom - top), 1.0)])
    if not located:
        raise NoFace(f"{images.describe(example.path)}: no face found: left out")
    return pipeline.read(located[:1])[0]


@dataclass(frozen=True)
class FittedCorrection:
    """An adaptation with its cross-validated figures.

    Attributes:
        adaptation: the correction to save; None if none improves on the uncorrected recogniser.
        kind: the family that was chosen.
        figures: name -> (before, after, low, high): the figure without and with a correction, on persons that it was
            not fitted to, and the 95 % interval of the difference. Before is NaN with own labels.
        half: accuracy after fitting on half of the persons; NaN where there are too few.
    """

    adaptation: Adaptation | None
    kind: Kind
    figures: dict[str, tuple[float, float, float, float]]
    half: float


def fit(
    faces: Labelled, weights: str, seed: int = 0, progress: CountProgress | None = None
) -> FittedCorrection:
    """Choose, fit and evaluate a correction.

    Args:
        faces: the labelled faces.
        weights: SHA-256 of the recogniser.
        seed: the seed of the folds and intervals.
        progress: called with (folds done, folds).

    Raises:
        ConfigError: there is only one person or one label, or own labels are used without an embedding.
    """
    present = np.unique(faces.truth)
    if len(present) < 2:
        only = f"only '{faces.labels[present[0]]}'" if len(present) else "no label"
        raise ConfigError(f"the pictures have {only}: label pictures of at least two expressions")
    if len(np.unique(faces.persons)) < 2:
        raise ConfigError(
            "all pictures show one person, so the result cannot be tested on others: label at least two people"
        )
    if faces.own and not faces.embeddings.shape[1]:
        raise ConfigError("the recogniser has no embedding, which own labels need: pass other weights")
    candidates = [
        one
        for one in CANDIDATES
        if (one[0] == "head" and faces.embeddings.shape[1]) or (one[0] != "head" and not faces.own)
    ]
    generator = np.random.default_rng(seed)
    folds = _folds(faces.persons, generator)
    after, half = np.zeros((len(faces.truth), len(faces.labels))), np.full(len(faces.truth), np.nan)
    for number, (learn, judge) in enumerate(folds):
        part = faces.part(learn)
        after[judge] = fitted(part, choose(part, candidates, generator)).scores(faces, judge)
        if (few := _half(part, generator)) is not None:
            answer = fitted(few, choose(few, candidates, generator)).scores(faces, judge)
            half[judge] = answer.argmax(axis=1) == faces.truth[judge]
        if progress is not None:
            progress(number + 1, len(folds))
    chosen = choose(faces, candidates, generator)
    before = np.full_like(after, np.nan) if faces.own else faces.logs
    figures = _figures(faces, before, after, generator)
    adaptation = fitted(faces, chosen).adaptation(faces, weights) if chosen[0] != "none" else None
    return FittedCorrection(
        adaptation, chosen[0], figures, float(np.nanmean(half)) if np.isfinite(half).any() else np.nan
    )


def _folds(persons: NDArray[Any], generator: np.random.Generator, most: int = FOLDS) -> list[tuple[Any, Any]]:
    """(training rows, test rows) of each fold; all rows of a person are in the same part."""
    names, codes = np.unique(persons, return_inverse=True)
    count = min(most, len(names))
    # Persons with many pictures first, each into the smallest part.
    sizes = np.bincount(codes)
    order = generator.permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    totals, place = np.zeros(count), np.zeros(len(names), dtype=np.int64)
    for person in order:
        place[person] = int(totals.argmin())
        totals[place[person]] += sizes[person]
    parts = place[codes]
    return [(np.flatnonzero(parts != number), np.flatnonzero(parts == number)) for number in range(count)]


def _half(faces: Labelled, generator: np.random.Generator) -> Labelled | None:
    """Half of the persons, if that leaves two persons and two labels."""
    names = np.unique(faces.persons)
    if len(names) < 4:
        return None
    few = faces.part(np.flatnonzero(np.isin(faces.persons, generator.permutation(names)[: len(names) // 2])))
    return few if len(np.unique(few.truth)) > 1 else None


def choose(
    faces: Labelled, candidates: Sequence[tuple[Kind, float]], generator: np.random.Generator
) -> tuple[Kind, float]:
    """The candidate to use, by the log loss on left-out persons.

    Offsets are used where they are better than none. A larger family must be better than the smaller one by more than a
    standard error of their paired difference (our choice: a dozen pictures then never get a head). With one person per
    label every fold of a cross-validation leaves a label out, so it always counts against offsets; these are then used
    with a prior of width 2 (our choice by `benchmarks/adapt.py`).
    """
    pairs = np.unique(np.stack((faces.truth.astype(str), faces.persons.astype(str))), axis=1)
    if len(pairs[0]) == len(np.unique(faces.truth)):
        return candidates[0] if faces.own else _FEWEST
    losses = np.zeros((len(candidates), len(faces.truth)))
    for learn, judge in _folds(faces.persons, generator, 5):
        part = faces.part(learn)
        for place, candidate in enumerate(candidates):
            losses[place, judge] = _losses(fitted(part, candidate).scores(faces, judge), faces.truth[judge])
    means = losses.mean(axis=1)
    best = -1
    for kind in dict.fromkeys(kind for kind, _ in candidates):
        member = min((i for i, one in enumerate(candidates) if one[0] == kind), key=lambda i: float(means[i]))
        gain = losses[best] - losses[member]
        doubt = gain.std() / np.sqrt(len(gain)) if kind in ("scale", "head") else 0.0
        if best < 0 or gain.mean() > doubt:
            best = member
    return candidates[best]


def _losses(scores: Floats, truth: NDArray[np.int64]) -> Floats:
    """Log loss [n] of scores [n, k]."""
    top = scores.max(axis=1)
    total = top + np.log(np.exp(scores - top[:, None]).sum(axis=1))
    return np.asarray(total - scores[np.arange(len(truth)), truth])


@dataclass(frozen=True)
class Fitted:
    """What `fitted` found: the parameters of an `Adaptation`."""

    bias: Floats
    scale: Floats | None
    head: Floats | None
    centre: Floats | None

    def scores(self, faces: Labelled, rows: NDArray[Any]) -> Floats:
        """Corrected scores [n, k] of some of the faces."""
        made = Adaptation(faces.labels, "", self.bias, self.bias, self.scale, self.head, self.centre)
        return made.scores(faces.logs[rows], faces.embeddings[rows])

    def adaptation(self, faces: Labelled, weights: str) -> Adaptation:
        """The correction to save; `weights` is the SHA-256 of the recogniser."""
        return Adaptation(
            faces.labels, weights, _shares(faces), self.bias, self.scale, self.head, self.centre
        )


def _shares(faces: Labelled) -> Shares:
    """Shares of the labels among the faces, with one face added per label so that no share is 0."""
    counts = np.bincount(faces.truth, minlength=len(faces.labels)) + 1.0
    return np.asarray(counts / counts.sum())


def fitted(faces: Labelled, candidate: tuple[Kind, float]) -> Fitted:
    """Fit one of `CANDIDATES` to all faces."""
    kind, width = candidate
    count = len(faces.labels)
    scale = None if faces.own else np.ones(count)
    if kind == "none":
        return Fitted(np.zeros(count), scale, None, None)
    offsets = np.zeros(count)
    if not faces.own:
        wide = _HEAD_OFFSETS if kind == "head" else width
        offsets, scale = _scaled(faces.logs, faces.truth, wide, shared=kind != "scale")
    if kind != "head":
        return Fitted(offsets, scale, None, None)
    base = np.zeros((len(faces.truth), count)) if scale is None else offsets + scale * faces.logs
    centre, basis = faces.basis
    bias, head = _linear(base, basis, faces.truth, width)
    return Fitted(offsets + bias, scale, head, centre)


_HEAD_OFFSETS: Final = 2.0
"""Width of the prior of the offsets that are fitted before a head."""


def _scaled(logs: Floats, truth: NDArray[np.int64], width: float, shared: bool) -> tuple[Floats, Floats]:
    """Offsets [k] and factors [k] of highest posterior density by Newton's method; `shared`: one factor for all labels.

    The prior of an offset is normal around 0 with standard deviation `width`, of a factor around 1 with one of 0.5.
    """
    count = logs.shape[1]
    logs = np.maximum(logs, -30.0)  # limits the influence of a probability of 0
    # Each parameter's effect on the scores: an offset adds to its own, a factor multiplies its own log probabilities.
    factors = np.ones((1, count)) if shared else np.eye(count)
    precision = np.append(np.full(count, width**-2), np.full(len(factors), 0.5**-2))
    values, centre = (np.append(np.zeros(count), np.ones(len(factors))) for _ in range(2))
    target = np.eye(count)[truth]

    def scores_of(values: Floats) -> Floats:
        return np.asarray(values[:count] + (values[count:] @ factors) * logs)

    def loss_of(values: Floats) -> float:
        return float(
            _losses(scores_of(values), truth).sum() + 0.5 * (precision * (values - centre) ** 2).sum()
        )

    loss = loss_of(values)
    for _ in range(50):
        scores = scores_of(values)
        shares = softmax(scores)
        slopes = np.concatenate((shares - target, ((shares - target) * logs) @ factors.T), axis=1).sum(axis=0)
        weighted = shares * logs
        mixed = (np.diag(weighted.sum(axis=0)) - shares.T @ weighted) @ factors.T
        both = factors @ (np.diag((weighted * logs).sum(axis=0)) - weighted.T @ weighted) @ factors.T
        curve = np.block([[np.diag(shares.sum(axis=0)) - shares.T @ shares, mixed], [mixed.T, both]])
        step = np.linalg.solve(curve + np.diag(precision), slopes + precision * (values - centre))
        size = 1.0
        while (new := loss_of(values - size * step)) > loss and size > 1e-3:
            size /= 2
        if not new < loss - 1e-9:
            break
        values, loss = values - size * step, new
    return values[:count], np.asarray(values[count:] @ factors)


def _linear(base: Floats, basis: Basis, truth: NDArray[np.int64], width: float) -> tuple[Floats, Floats]:
    """Offsets [k] and head [k, d] of highest posterior density for scores base + bias + vectors @ head.T.

    `basis` is the vectors' singular value decomposition. Böhning's bound (1992): the curvature of
    the log loss is nowhere above half of that of a least-squares fit. In the singular directions it is diagonal, so
    each step divides by one number per direction. Nesterov's momentum (1983) reduces the number of steps.
    """
    left, sizes, right = basis
    directions = np.concatenate((left * sizes, np.ones((len(left), 1))), axis=1)
    count = base.shape[1]
    precision = np.append(np.full(len(sizes), width**-2), 0.5**-2 if not base.any() else 1.0)
    bound = 0.5 * np.append(sizes**2, len(left)) + precision
    target = np.eye(count)[truth]
    values = ahead = np.zeros((directions.shape[1], count))
    momentum = 1.0
    for _ in range(300):
        scores = base + directions @ ahead
        slope = directions.T @ (softmax(scores) - target) + precision[:, None] * ahead
        new = ahead - slope / bound[:, None]
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / following * (new - values)
        done = np.abs(new - values).max() < 1e-3 * width
        values, momentum = new, following
        if done:
            break
    return values[-1], values[:-1].T @ right


def _figures(
    faces: Labelled, before: Floats, after: Floats, generator: np.random.Generator
) -> dict[str, tuple[float, float, float, float]]:
    """Accuracy and macro recall before and after, with the interval of the difference over persons."""
    names, codes = np.unique(faces.persons, return_inverse=True)
    right = np.stack([scores.argmax(axis=1) == faces.truth for scores in (before, after)], axis=1).astype(
        float
    )
    onehot = np.eye(len(faces.labels))[faces.truth]
    # Sums over each person's faces, so that a bootstrap draw of persons is a matrix product.
    hits = np.zeros((len(names), len(faces.labels), 2))
    np.add.at(hits, codes, onehot[:, :, None] * right[:, None, :])
    totals = np.zeros((len(names), len(faces.labels)))
    np.add.at(totals, codes, onehot)
    draws = np.stack(
        [
            np.bincount(generator.integers(0, len(names), len(names)), minlength=len(names))
            for _ in range(DRAWS)
        ]
    )
    drawn_hits, drawn_totals = np.tensordot(draws, hits, 1), draws @ totals
    measures: dict[str, Callable[[Floats, Floats], Floats]] = {
        "accuracy": lambda hit, total: hit.sum(axis=-2) / np.maximum(total.sum(axis=-1), 1)[..., None],
        "macro recall": _macro,
    }
    figures = {}
    for name, measure in measures.items():
        first, second = measure(hits.sum(axis=0), totals.sum(axis=0)).tolist()
        values = measure(drawn_hits, drawn_totals)
        low, high = np.nanquantile(values[:, 1] - values[:, 0], [0.025, 0.975]).tolist()
        figures[name] = (np.nan if faces.own else first, second, low, high)
    return figures


def _macro(hits: Floats, totals: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(
            np.nanmean(np.where(totals[..., None] > 0, hits / totals[..., None], np.nan), axis=-2)
        )
