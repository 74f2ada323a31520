"""Distillation: mix the mean prediction of trained models (teachers) into the annotators' votes of training pictures.

Teachers are files of predictions, written by `mien evaluate RUN DATA --split train --out FOLDER`. A student therefore
costs no more to train than any run, and teachers of any size or method can be combined (our choice: fixed predictions
for the unaugmented crop, after Hinton et al. 2015, arXiv 1503.02531; the student sees augmented crops).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.data.cropping import Samples
from mien.data.predictions import Predictions
from mien.errors import ConfigError
from mien.labels import EXPRESSIONS, UNLABELLED, difference


def taught(
    samples: Sequence[Samples],
    teachers: Sequence[Path],
    weight: float,
    labels: tuple[str, ...] = EXPRESSIONS,
) -> list[Samples]:
    """The samples, with the teachers' predictions mixed into the votes of each picture.

    Args:
        samples: the training sets.
        teachers: predictions of models on these pictures; the mean is taken where several predict a picture.
        weight: the weight of the teachers' shares, in 0..1; the votes, or the label where there are none, have the
            rest. A picture without a prediction keeps its votes; one without votes or label gets only the teachers'
            shares.
        labels: the classes that the samples' votes refer to.

    Raises:
        ConfigError: a file has other labels, or predictions for none of these pictures.
        PredictionsError: a file does not hold predictions.
    """
    rows = {name: (part, row) for part, one in enumerate(samples) for row, name in enumerate(one.names)}
    totals = [np.zeros_like(one.votes) for one in samples]
    teacher_counts = [np.zeros((len(one), 1), dtype=np.float32) for one in samples]
    for path in teachers:
        teacher = Predictions.load(path)
        if teacher.classes != labels:
            raise ConfigError(
                f"teachers: {path} {difference(labels, teacher.classes)}: a teacher has the student's labels in its "
                "order"
            )
        matched = 0
        for name, shares in zip(teacher.names, teacher.probabilities, strict=True):
            if name in rows:
                part, row = rows[name]
                totals[part][row] += shares.astype(np.float32)
                teacher_counts[part][row] += 1
                matched += 1
        if not matched:
            raise ConfigError(f"teachers: {path} names no training picture: evaluate with --split train")
    return [
        replace(one, votes=_mix(one, total / np.maximum(count, 1), count > 0, weight))
        for one, total, count in zip(samples, totals, teacher_counts, strict=True)
    ]


def _mix(
    samples: Samples, predicted: NDArray[np.floating], seen: NDArray[np.bool_], weight: float
) -> NDArray[np.float32]:
    label = np.eye(samples.votes.shape[1], dtype=np.float32)[np.maximum(samples.expression, 0)]
    label[samples.expression == UNLABELLED] = np.nan
    own = np.where(np.isfinite(samples.votes), samples.votes, label)
    mixed = np.where(np.isfinite(own), (1 - weight) * own + weight * predicted, predicted)
    return np.where(seen, mixed, samples.votes).astype(np.float32)
