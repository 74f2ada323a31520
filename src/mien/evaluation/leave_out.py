"""Leave-one-set-out evaluation: a table of a recogniser's figures on sets it was not trained on, with simulated shifts.

Figures on the training set say little about other pictures. Here each set is evaluated with weights that were not
trained on it: a configuration may name separate weights for a set, and each row states how many of its pictures the
weights were trained on. Three shifts are simulated on the aligned crops (our choice): a face of 48 px, and low and high
contrast. Crops are luma, so removing colour would change nothing and is not included.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np
from pydantic import Field

from mien.config import Frozen, checked, read_tree
from mien.data import cropping
from mien.data.config import SourceConfig
from mien.data.records import Split
from mien.errors import ConfigError
from mien.evaluation import inference, intervals, metrics
from mien.evaluation.evaluate import plain
from mien.evaluation.intervals import DRAWS, Interval, Resampling
from mien.faces.recognise import softmax
from mien.io import atomic
from mien.labels import UNLABELLED
from mien.types import CountProgress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mien.faces.operating_point import Prior

FILES: Final = ("leave-out.md", "leave-out.json")
"""The files that `write` writes."""

SMALL_FACE: Final = 48
"""Side of a crop in the shift `48 px`, pixels."""


def _small(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side, changed = crops.shape[1], np.empty_like(crops)
    for place, crop in enumerate(crops):
        small = cv2.resize(crop, (SMALL_FACE, SMALL_FACE), interpolation=cv2.INTER_AREA)
        changed[place] = cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR)
    return changed


def _contrast(gain: float) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """A function that multiplies differences from each crop's mean by `gain`."""

    def change(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        mean = crops.mean(axis=(1, 2), keepdims=True)
        changed: NDArray[np.uint8] = np.clip(np.rint(mean + gain * (crops - mean)), 0, 255).astype(np.uint8)
        return changed

    return change


SHIFTS: Final[dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]]] = {
    "as it is": lambda crops: crops,
    "48 px": _small,
    "low contrast": _contrast(0.4),
    "high contrast": _contrast(1.8),
}
"""The shifts: functions applied to the crops, uint8 luma [n, s, s], of each set."""


class LeftOutSet(SourceConfig):
    """A set to evaluate; `name` is its name in the table."""

    name: str
    split: Split | None = Field(None, description="the split to evaluate; None takes every labelled picture")
    weights: str | None = Field(None, description="weights not trained on it, instead of the command's")


class LeaveOutConfig(Frozen):
    """The sets of a table."""

    sets: tuple[LeftOutSet, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class SetFigures:
    """One set under one shift: `images` pictures, evaluated with `weights` (SHA-256), which were trained on `learnt` of
    them.

    `accuracy` and `macro_recall` in [0, 1] with 95 % intervals over pictures, or over people where these are known;
    `calibration_error` (ECE) in [0, 1]; `flagged` is the share of pictures marked uncertain by their probability and
    `caught` the share of all errors among these, both NaN for weights without that threshold.
    """

    set: str
    shift: str
    weights: str
    weights_hash: str
    images: int
    learnt: int
    accuracy: Interval
    macro_recall: Interval
    calibration_error: float
    flagged: float
    caught: float


def load(path: Path) -> LeaveOutConfig:
    """Read a configuration.

    Raises:
        ConfigError: missing, not YAML, or a key or value is wrong.
    """
    return checked(LeaveOutConfig, read_tree(path), str(path))


def run(
    weights: str,
    config: LeaveOutConfig,
    *,
    cache: Path = Path("cache"),
    prior: Prior | None = None,
    draws: int = DRAWS,
    threads: int | None = None,
    progress: CountProgress | None = None,
) -> list[SetFigures]:
    """Evaluate every set under every shift.

    Args:
        weights: used for sets that name none; as for `inference.open_weights`.
        config: the sets.
        cache: folder for aligned crops.
        prior: the label shares to expect; None is the weights' default.
        draws: number of bootstrap resamples for each interval.
        threads: processor threads of the networks.
        progress: called with (done, total) while crops are aligned.

    Raises:
        WeightsError, ConfigError, DatasetNotFound, DatasetDamaged: see `mien.evaluation.inference`.
    """
    rows: list[SetFigures] = []
    models = {
        name: inference.open_weights(name, threads, prior)
        for name in dict.fromkeys(source.weights or weights for source in config.sets)
    }
    for source in config.sets:
        model = models[source.weights or weights]
        records = [
            record
            for record in cropping.source_records(source, model.classes)
            if record.expression != UNLABELLED and source.split in (None, record.split)
        ]
        if not records:
            raise ConfigError(f"sets: {source.name}: {source.root} has no labelled pictures of this split")
        find = cropping.finds_faces(source, model.classes)
        crops = cropping.load_crops(records, model.size, False, cache, source.points, progress, find)
        truth = np.array([record.expression for record in records])
        people = [record.subject for record in records]
        subjects = people if any(person is not None for person in people) else None
        learnt = inference.learnt_from(model, source, records)
        made_of = (model.provenance.model, model.provenance.weights_hash)
        for shift, change in SHIFTS.items():
            answers = inference.read_all(_shifted(model, change), crops.images)[0][0]
            judged = _judged(softmax(answers), truth, subjects, draws, model.uncertain_below)
            rows.append(SetFigures(source.name, shift, *made_of, len(records), learnt, **judged))
    return rows


def _shifted(
    model: inference.Model, change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
) -> inference.Model:
    """The model with a shift applied before it, batch by batch, so that a set's changed crops are never all in
    memory."""
    return replace(model, read=lambda crops: model.read(change(crops)))


def _judged(
    shares: NDArray[np.float64],
    truth: NDArray[np.int64],
    subjects: list[str | None] | None,
    draws: int,
    uncertain_below: float,
) -> dict[str, Any]:
    best, sure = shares.argmax(axis=1), shares.max(axis=1)
    right = best == truth
    found = intervals.classification_intervals(
        truth, best, shares.shape[1], Resampling(draws, subjects=subjects)
    )
    flagged = sure < uncertain_below
    wrong = int((~right).sum())
    return {
        "accuracy": found["accuracy"],
        "macro_recall": found["macro_accuracy"],
        "calibration_error": metrics.calibration_error(sure, right),
        "flagged": float(flagged.mean()) if uncertain_below else float("nan"),
        "caught": float((flagged & ~right).sum() / wrong) if uncertain_below and wrong else float("nan"),
    }


def markdown(rows: list[SetFigures]) -> str:
    """The table; figures of a set that the weights were trained on are marked."""

    def share(value: float) -> str:
        return f"{value:.1%}" if np.isfinite(value) else "-"

    def interval(value: Interval) -> str:
        return f"{value.value:.1%} [{value.low:.1%}, {value.high:.1%}]"

    lines = [
        "| set | shift | weights | images | accuracy | macro recall | calibration error | flagged | errors caught |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.set}{' (learnt from)' if row.learnt else ''} | {row.shift} | {row.weights} | {row.images} | "
        f"{interval(row.accuracy)} | {interval(row.macro_recall)} | {share(row.calibration_error)} | "
        f"{share(row.flagged)} | {share(row.caught)} |"
        for row in rows
    ]
    return "\n".join(lines)


def to_json(rows: list[SetFigures]) -> str:
    """The rows as JSON text; a figure that is not defined is null."""
    return json.dumps([plain(asdict(row)) for row in rows], indent=1, ensure_ascii=False)


def write(rows: list[SetFigures], out: Path) -> None:
    """Write the table into the folder `out`, as `FILES`."""
    out.mkdir(parents=True, exist_ok=True)
    contents = (markdown(rows), to_json(rows))
    atomic.write({out / name: f"{text}\n".encode() for name, text in zip(FILES, contents, strict=True)})
