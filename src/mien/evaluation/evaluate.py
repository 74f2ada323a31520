"""Evaluate a model on a set of images: every figure with its interval, in a `Report`.

`report` only computes on `Predictions`; `run` makes the predictions from weights and a dataset. A report always names
the rule that selected the images and the hash of their list, because a figure without them cannot be compared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mien.data.predictions import Predictions, RunInfo
from mien.errors import MienError, nearest
from mien.evaluation import intervals, metrics
from mien.evaluation.intervals import DRAWS, Interval, Resampling
from mien.evaluation.subgroups import SMALLEST_GROUP, UNITS, grouped
from mien.faces.recognise import softmax
from mien.labels import UNLABELLED, listed
from mien.types import CountProgress
from mien.wording import several

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mien.data.records import Split
    from mien.faces.operating_point import Prior

Undetected = Literal["keep", "error", "drop"]

UNDETECTED: dict[str, str] = {
    "keep": "evaluated on the whole picture",
    "error": "counted as errors",
    "drop": "left out, which flatters the figures",
}
"""How pictures without a found face are treated."""

COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
"""Coverages (shares of the images that are answered) at which the report prints the error rate."""

SMALL = 30
"""Classes with fewer images are reported as small: single images change their figures."""

DIMENSIONS = ("valence", "arousal")


class EvaluationError(MienError, ValueError):
    """The images or weights do not allow the requested evaluation."""


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class: `support` (number of true images), precision, recall and F1."""

    name: str
    support: int
    precision: float
    recall: Interval
    f1: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How well probabilities match frequencies, over the images with a found or whole-picture prediction.

    `error` is the debiased root mean square gap, see `intervals.calibration_interval`; `ece` is the figure in papers,
    biased upwards on few images and therefore without an interval. `temperature` is fitted on the validation split, and
    `ece_scaled` is the ECE after dividing the logits by it; both are None when no validation predictions were given.
    """

    error: Interval
    ece: float
    brier: float
    log_loss: float
    bins: tuple[metrics.ReliabilityBin, ...]
    temperature: float | None = None
    ece_scaled: float | None = None


@dataclass(frozen=True, slots=True)
class Selective:
    """Error rate if only the most confident share of images is answered: (coverage, risk) pairs, and their mean
    AURC."""

    aurc: float
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Slice:
    """The figures of one group of images, as in `Report`.

    `scores` is empty for a group with fewer expression labels than the minimum, `affect` for one with fewer ratings;
    `people` is None where subjects are not known.
    """

    by: str
    group: str
    images: int
    scores: dict[str, Interval]
    affect: dict[str, dict[str, Interval]] = field(default_factory=dict)
    people: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The evaluation of one model on one set. `mien evaluate --json` prints `to_json`.

    Attributes:
        provenance: model, weights, protocol, file list, commit and machine.
        classes: the expression words, in the order of `confusion`.
        images, labelled, not_found, people: counts; `people` is None where subjects are not known.
        undetected: how pictures without a found face were treated.
        scores: accuracy, macro_accuracy, macro_f1, weighted_f1, each with its 95 % interval.
        per_class: one row for each class.
        confusion: counts [k, k + 1], rows are the truth; the last column is "no face".
        calibration, selective: None when no image has an expression label.
        affect: for valence and arousal: ccc, pcc, rmse, sagr; empty without labels.
        separation: silhouette, nmi, recall_at_1 of the embedding; empty without one.
        annotators: agreement with the votes that the protocol's rule kept; empty for sets without votes.
        slices: the groups requested with `by`.
        notes: remarks needed to interpret the figures.
    """

    provenance: RunInfo
    classes: tuple[str, ...]
    images: int
    labelled: int
    not_found: int
    people: int | None
    undetected: str
    scores: dict[str, Interval]
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    calibration: Calibration | None
    selective: Selective | None
    affect: dict[str, dict[str, Interval]]
    separation: dict[str, float]
    annotators: dict[str, float]
    slices: tuple[Slice, ...]
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """A plain nested dict of JSON types; a figure that is not defined is None."""
        return dict(plain(asdict(self)))

    def to_json(self, indent: int | None = None) -> str:
        """JSON text; numbers keep full precision."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=indent)


def plain(value: Any) -> Any:
    """The same value in JSON types: undefined numbers as None, tuples as lists."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def report(
    predictions: Predictions,
    *,
    by: Sequence[str] = (),
    undetected: Undetected = "keep",
    validation: Predictions | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    smallest_group: int = SMALLEST_GROUP,
) -> Report:
    """Evaluate predictions.

    Args:
        predictions: the model's predictions, with the labels.
        by: keys of `predictions.attributes`; numbers are cut at their quartiles.
        undetected: see `UNDETECTED`.
        validation: predictions on validation images, on which the temperature is fitted.
        draws: number of bootstrap resamples for each interval.
        seed: the seed of the resamples.
        smallest_group: labelled images below which a group is not scored.

    Raises:
        EvaluationError: no image has a label, or `by` names an attribute that the set does not have.
    """
    if undetected not in UNDETECTED:
        raise EvaluationError(f"undetected is '{undetected}': use one of {', '.join(UNDETECTED)}")
    for key in by:
        if key not in predictions.attributes:
            known = list(predictions.attributes)
            hint = nearest(key, known) if known else "this set has none"
            raise EvaluationError(f"no attribute '{key}' to group by: {hint}")
    missing = int((~predictions.found).sum())
    whole = predictions.rows(predictions.found) if undetected == "drop" else predictions
    labelled = whole.rows(np.flatnonzero(whole.truth != UNLABELLED))
    with_affect = rated_of(whole, undetected)
    if not len(labelled) and not len(with_affect):
        raise EvaluationError("no image has an expression or affect label, so there is nothing to evaluate")
    predicted = predicted_classes(labelled, undetected)
    people = count_subjects(whole)
    matrix = metrics.confusion(labelled.truth, predicted, len(labelled.classes))
    notes = _notes(whole, missing, undetected, people, draws)
    answered = labelled.rows(np.flatnonzero(predicted != metrics.NOT_DETECTED))
    return Report(
        provenance=predictions.provenance,
        classes=whole.classes,
        images=len(predictions),
        labelled=len(labelled),
        not_found=missing,
        people=people,
        undetected=undetected,
        scores=_scores(labelled, predicted, draws, seed) if len(labelled) else {},
        per_class=_classes(labelled, predicted, matrix, draws, seed) if len(labelled) else (),
        confusion=tuple(tuple(int(count) for count in row) for row in matrix) if len(labelled) else (),
        calibration=_calibration(answered, validation, draws, seed) if len(answered) else None,
        selective=_selective(answered) if len(answered) else None,
        affect=_affect(with_affect, draws, seed),
        separation=metrics.separation(labelled.embedding, labelled.truth)
        if labelled.embedding.shape[1]
        else {},
        annotators=_annotators(answered),
        slices=tuple(
            part for key in by for part in _slices(whole, key, undetected, draws, seed, smallest_group)
        ),
        notes=notes,
    )


def run(
    weights: str | Path,
    root: Path | str,
    protocol: str | None = None,
    *,
    reader: str | None = None,
    split: Split = "test",
    fold: int = 0,
    points: Path | None = None,
    cache: Path = Path("cache"),
    by: Sequence[str] = (),
    undetected: Undetected = "keep",
    calibrate: bool = False,
    draws: int = DRAWS,
    limit: int | None = None,
    mirror: bool = False,
    threads: int | None = None,
    prior: Prior | None = None,
    adapt: Path | None = None,
    progress: CountProgress | None = None,
) -> tuple[Report, Predictions]:
    """Evaluate weights on a dataset; see `mien.evaluation.inference` for what `weights`, `root` and `points` may be.

    Args:
        weights: a checkpoint, an ONNX file, a run folder, or "shipped".
        root: the dataset's folder.
        protocol: a name in `mien/data/protocol_files`; None takes every record of the reader.
        reader: the reader of the folder, if no protocol names it.
        split: the split to evaluate.
        fold: the tested fold of a protocol with folds.
        points: stored landmarks (.npz) instead of the shipped network.
        cache: folder for aligned crops.
        by: attributes to group by.
        undetected: see `UNDETECTED`.
        calibrate: also run the validation split, and fit a temperature on it.
        draws: number of bootstrap resamples for each interval.
        limit: evaluate only this many images.
        mirror: average each face's outputs with those of its mirror image.
        threads: processor threads of the network.
        prior: the label shares to expect, see `mien.faces.operating_point`; `adapt` a correction of `mien adapt`.
        progress: called with (done, total) while crops are aligned.

    Raises:
        WeightsError, ConfigError, DatasetNotFound, DatasetDamaged: see `mien.evaluation.inference`.
        EvaluationError: see `report`; or the temperature would be fitted on the evaluated images.
    """
    from mien.evaluation import inference

    if calibrate and split == "valid":
        raise EvaluationError(
            "a temperature fitted on the validation images cannot be evaluated on them: use another split, or drop "
            "--calibrate"
        )
    model = inference.open_weights(weights, threads, prior, adapt)
    source = inference.source_of(root, protocol, reader, fold, points, model.source, model.classes)
    predictions = inference.predict(
        model, source, split, cache=cache, by=by, limit=limit, mirror=mirror, progress=progress
    )
    held = (
        inference.predict(model, source, "valid", cache=cache, mirror=mirror, progress=progress)
        if calibrate
        else None
    )
    return report(predictions, by=by, undetected=undetected, validation=held, draws=draws), predictions


def predicted_classes(predictions: Predictions, undetected: str) -> NDArray[np.int64]:
    """The predicted class [n]; `metrics.NOT_DETECTED` where no face was found, if that counts as an error."""
    best = predictions.probabilities.argmax(axis=1).astype(np.int64)
    return np.where(predictions.found, best, metrics.NOT_DETECTED) if undetected == "error" else best


def subjects_of(predictions: Predictions) -> tuple[str | None, ...] | None:
    """The subjects to resample by, or None if no image has one."""
    return predictions.subjects if any(subject is not None for subject in predictions.subjects) else None


def count_subjects(predictions: Predictions) -> int | None:
    known = {subject for subject in predictions.subjects if subject is not None}
    return len(known) if known else None


def _scores(
    labelled: Predictions, predicted: NDArray[np.int64], draws: int, seed: int
) -> dict[str, Interval]:
    return intervals.classification_intervals(
        labelled.truth, predicted, len(labelled.classes), Resampling(draws, seed, subjects_of(labelled))
    )


def _classes(
    labelled: Predictions, predicted: NDArray[np.int64], matrix: NDArray[np.int64], draws: int, seed: int
) -> tuple[ClassScore, ...]:
    each, subjects = metrics.per_class(matrix), subjects_of(labelled)
    rows = []
    for index, name in enumerate(labelled.classes):
        inside = labelled.truth == index
        recall = Interval(math.nan)
        if inside.any():
            hit = (predicted[inside] == index).astype(np.int64)
            recall = intervals.wilson(int(hit.sum()), len(hit))
            if subjects is not None:
                # Recall of one class is the share of its images with a correct prediction.
                group = [subjects[i] for i in np.flatnonzero(inside)]
                ones = np.ones_like(hit)
                by_subject = Resampling(draws, seed, group)
                recall = intervals.classification_intervals(ones, hit, 2, by_subject)["accuracy"]
        support = int(each["support"][index])
        rows.append(
            ClassScore(name, support, float(each["precision"][index]), recall, float(each["f1"][index]))
        )
    return tuple(rows)


def _calibration(answered: Predictions, validation: Predictions | None, draws: int, seed: int) -> Calibration:
    shares, truth = answered.probabilities, answered.truth
    sure, right = shares.max(axis=1), shares.argmax(axis=1) == truth
    temperature = scaled = None
    if validation is not None:
        known = validation.over(answered.classes)
        known = known.rows(np.flatnonzero(known.truth != UNLABELLED))
        temperature = metrics.fit_temperature(np.log(np.clip(known.probabilities, 1e-12, 1)), known.truth)
        softer = softmax(np.log(np.clip(shares, 1e-12, 1)) / temperature)
        scaled = metrics.calibration_error(softer.max(axis=1), right)
    return Calibration(
        error=intervals.calibration_interval(sure, right, Resampling(draws, seed, subjects_of(answered))),
        ece=metrics.calibration_error(sure, right),
        brier=metrics.brier(shares, truth),
        log_loss=metrics.log_loss(shares, truth),
        bins=metrics.reliability(sure, right),
        temperature=temperature,
        ece_scaled=scaled,
    )


def _selective(answered: Predictions) -> Selective:
    right = answered.probabilities.argmax(axis=1) == answered.truth
    coverage, risk, area = metrics.risk_coverage(answered.probabilities.max(axis=1), right)
    last = [max(1, round(share * len(coverage))) - 1 for share in COVERAGES]
    return Selective(area, tuple((share, float(risk[i])) for share, i in zip(COVERAGES, last, strict=True)))


def _affect(with_affect: Predictions, draws: int, seed: int) -> dict[str, dict[str, Interval]]:
    if not len(with_affect):
        return {}
    resampling = Resampling(draws, seed, subjects_of(with_affect))
    return {
        name: intervals.affect_intervals(with_affect.affect[:, i], with_affect.affect_truth[:, i], resampling)
        for i, name in enumerate(DIMENSIONS)
    }


def _annotators(answered: Predictions) -> dict[str, float]:
    """Agreement of the protocol's vote shares with label and model, on the images with votes.

    Rules drop single votes first, so a raw annotator agrees with the label less often than these shares suggest.
    """
    voted = answered.rows(np.flatnonzero(np.isfinite(answered.votes).all(axis=1)))
    if not len(voted):
        return {}
    index = np.arange(len(voted))
    shares = voted.votes / voted.votes.sum(axis=1, keepdims=True)
    best = voted.probabilities.argmax(axis=1)
    cross = -(shares * np.log(np.clip(voted.probabilities, 1e-12, 1))).sum(axis=1)
    return {
        "votes_for_label": float(shares[index, voted.truth].mean()),
        "votes_for_answer": float(shares[index, best].mean()),
        "cross_entropy_to_votes": float(cross.mean()),
    }


def rated_of(predictions: Predictions, undetected: str) -> Predictions:
    """The images with true and predicted affect; if a missed face is an error, those with a found face."""
    known = np.asarray(np.isfinite(predictions.affect_truth + predictions.affect).all(axis=1))
    return predictions.rows(known & predictions.found if undetected == "error" else known)


def _slices(
    whole: Predictions, key: str, undetected: str, draws: int, seed: int, smallest: int
) -> list[Slice]:
    known = (whole.truth != UNLABELLED) | np.isfinite(whole.affect_truth + whole.affect).all(axis=1)
    judged = whole.rows(known)
    slices = []
    for name, inside in grouped(judged.attributes[key], UNITS.get(key, "")).items():
        part = judged.rows(inside)
        labelled, with_affect = part.rows(part.truth != UNLABELLED), rated_of(part, undetected)
        scored, affect_scored = len(labelled) >= smallest, len(with_affect) >= smallest
        slices.append(
            Slice(
                key,
                name,
                len(part),
                _scores(labelled, predicted_classes(labelled, undetected), draws, seed) if scored else {},
                _affect(with_affect, draws, seed) if affect_scored else {},
                count_subjects(part),
            )
        )
    return slices


def _notes(
    whole: Predictions, missing: int, undetected: str, people: int | None, draws: int
) -> tuple[str, ...]:
    unit = f"{people} people" if people else "images"
    single = "" if people else " Those of a class's recall are Wilson's score intervals."
    notes = []
    if learnt := whole.provenance.learnt:
        notes.append(
            f"These weights LEARNT FROM {min(learnt, len(whole))} of these {len(whole)} images: the figures show "
            "how well the images are memorised, not how well new faces are read."
        )
    notes += [f"Intervals are 95 % percentile bootstraps over {unit}, {draws} resamples.{single}"]
    if missing:
        notes.append(
            f"No face was found in {several(missing, 'picture')}; such pictures are {UNDETECTED[undetected]}."
        )
    if undetected == "error" and missing:
        notes.append("Calibration, risk-coverage and affect are computed on the pictures with a found face.")
    absent = [name for i, name in enumerate(whole.classes) if not (whole.truth == i).any()]
    if absent and (whole.truth != UNLABELLED).any():
        notes.append(
            f"No image is labelled {listed(absent)}: macro F1 counts these as 0, macro accuracy leaves them out."
        )
    small = [
        f"{name} ({n})"
        for i, name in enumerate(whole.classes)
        if 0 < (n := int((whole.truth == i).sum())) < SMALL
    ]
    if small:
        notes.append(
            f"Small classes: {listed(small)}. Single images change their figures and the macro figures."
        )
    return tuple(notes)
