"""How well action units are measured on sets that people have coded: CK+, DISFA and BP4D.

For each unit that is coded, as papers report them:

- ICC(3,1), two-way mixed, consistency, single rater (Shrout and Fleiss 1979), and Pearson's correlation, of the
  measured unit times 5 with the coded intensity 0 to 5;
- F1 of "present": coded by the set's own rule (CK+: in its list of units; DISFA: intensity from 2 on; BP4D: its
  occurrence code), measured where the unit times 5 reaches `THRESHOLDS`;
- AUC, the area under the ROC curve of the measured unit against "present".

ICC depends on the scale of the measured values and F1 on a threshold that was fixed beforehand, not fitted to the set;
AUC and Pearson depend on neither. A mean is over the units of the set that are measured and where the figure is
defined. The largest face of a picture is judged; pictures without a face are left out and counted. Intervals:
bootstrap over people, the same resamples for all units.

Tests: tests/evaluation/test_action_units.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mien.actions import ACTIONS, UNITS, unit
from mien.data.cropping import is_frame
from mien.data.readers import READERS
from mien.data.records import Record
from mien.errors import ConfigError
from mien.evaluation.evaluate import plain
from mien.evaluation.intervals import DRAWS, Interval, Resampling, interval
from mien.faces import pipeline
from mien.faces.action_reader import SHIPPED, ActionReader
from mien.io import atomic, cards, images
from mien.io.video import Frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FILES: Final = ("action-units.md", "action-units.json")
"""What `write` writes."""

THRESHOLDS: Final = {"ckplus": 1.0, "disfa": 2.0, "bp4d": 1.0}
"""The measured unit times 5 from which it counts as present: the least intensity that the set calls present."""

FIGURES: Final = ("icc", "pearson", "f1", "auc")
SCALE: Final = 5.0
"""FACS codes intensities from A to E, 1 to 5."""

_LEVELS: Final = 2048
"""Steps of the measured values behind the intervals of AUC, at most; the figure itself is exact."""


@dataclass(frozen=True, slots=True)
class UnitFigures:
    """One action unit on one set.

    Attributes:
        unit: its FACS code, "AU12"; "mean" over all measured units.
        name: in words.
        images: pictures with a code of it. present: the share of these in which it is present.
        measured: whether the network measures it; if not, there are no figures.
        icc, pearson, f1, auc: with 95 % intervals; NaN where not defined, as ICC without coded intensities.
    """

    unit: str
    name: str
    images: int
    present: float
    measured: bool
    icc: Interval
    pearson: Interval
    f1: Interval
    auc: Interval


@dataclass(frozen=True, slots=True)
class UnitReport:
    """The figures of all coded units of a set.

    Attributes:
        set: the reader's name. weights: SHA-256 of the network. threshold: see `THRESHOLDS`.
        images: pictures judged. no_face: pictures left out. people: None where the set does not say who is who.
        units: by number, the mean last. unknown: coded units that `mien` has no name for.
    """

    set: str
    weights: str
    threshold: float
    images: int
    no_face: int
    people: int | None
    units: tuple[UnitFigures, ...]
    unknown: tuple[str, ...]


def run(
    weights: str,
    root: Path,
    *,
    reader: str | None = None,
    draws: int = DRAWS,
    limit: int | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> UnitReport:
    """Measure the action units of a coded set and judge them.

    Args:
        weights: "shipped", or an .onnx file of `mien train configs/actions.yaml`.
        root: the set's folder.
        reader: one of `THRESHOLDS`; found out when left out.
        draws: bootstrap resamples.
        limit: judge only so many pictures, evenly spaced.
        threads: of the networks.
        progress: told (pictures done, all).

    Raises:
        DatasetNotFound, DatasetDamaged: it is no such set, or is not sound.
        ConfigError: another reader, or no picture has a face.
        WeightsError: the weights are not those of actions.
    """
    name, records = _records(root, reader)
    if limit is not None and limit < len(records):
        records = [records[place * len(records) // limit] for place in range(limit)]
    path = SHIPPED if weights == "shipped" else Path(weights)
    said = measure(records, ActionReader.load(path, threads), threads, progress)
    found = np.asarray(np.isfinite(said).any(axis=1))
    if not found.any():
        raise ConfigError(f"{root}: no face was found in any picture: check that they show faces")
    kept = [record for record, there in zip(records, found.tolist(), strict=True) if there]
    report = judge(kept, said[found], THRESHOLDS[name], draws)
    digest = str(cards.read(path.with_suffix(".json")).fields["sha256"])
    return replace(report, set=name, weights=digest, no_face=int((~found).sum()))


def _records(root: Path, reader: str | None) -> tuple[str, list[Record]]:
    if reader is None:
        reader = next((name for name in THRESHOLDS if root.is_dir() and READERS[name].holds(root)), None)
    if reader not in THRESHOLDS:
        raise ConfigError(
            f"{root}: no set with coded action units: pass the folder of one of {', '.join(THRESHOLDS)}, or --reader"
        )
    options: dict[str, Any] = {"units": True} if reader == "ckplus" else {}
    return reader, READERS[reader](root, **options)


def measure(
    records: Sequence[Record],
    reader: Callable[[Any, Any], tuple[Floats, ...]],
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Floats:
    """The actions [n, 52] of the largest face of each picture or video frame; a row of NaN where there is none."""
    find = pipeline.load(actions=False, threads=threads).find
    values = np.full((len(records), len(ACTIONS)), np.nan)
    frames = Frames()
    for place, record in enumerate(records):
        of_video = is_frame(record)
        picture = frames.read(record.path, record.frame or 0) if of_video else images.read(record.path)
        faces = find(picture)
        if faces:
            values[place] = reader(faces[0][4][None], np.array(faces[0][1].points)[None])[0][0]
        if progress is not None:
            progress(place + 1, len(records))
    return values


def judge(records: Sequence[Record], said: Floats, threshold: float, draws: int = DRAWS) -> UnitReport:
    """The figures of each coded unit.

    Args:
        records: n pictures with units in their attributes, see `mien.data.readers`.
        said: [n, 52] what was measured.
        threshold: see `THRESHOLDS`.
        draws: bootstrap resamples.
    """
    names = [
        dict(zip(ACTIONS, (None if math.isnan(v) else v for v in row), strict=True)) for row in said.tolist()
    ]
    coded = sorted(
        {key.partition("_")[0] for record in records for key in record.attributes if key[:2] == "AU"}
    )
    subjects = [record.subject for record in records]
    codes, people = _people(subjects)
    drawn = [block.astype(float) for block in Resampling(draws).blocks(people)]
    rows, samples = [], []
    for code in (code for code in coded if code in UNITS):
        values = np.array([unit(actions, code) for actions in names], dtype=float) * SCALE  # NaN for None
        row, sample = _unit(code, records, values, threshold, codes, drawn)
        rows.append(row)
        samples.append(sample)
    return UnitReport(
        set="",
        weights="",
        threshold=threshold,
        images=len(records),
        no_face=0,
        people=people if any(subjects) else None,
        units=(*rows, _mean(rows, samples)),
        unknown=tuple(code for code in coded if code not in UNITS),
    )


def _people(subjects: Sequence[str | None]) -> tuple[NDArray[np.int64], int]:
    """The number of each picture's person, and how many there are; a picture of nobody known is a person of its own."""
    names = [subject or f"\0{place}" for place, subject in enumerate(subjects)]
    distinct, codes = np.unique(names, return_inverse=True)
    return codes, len(distinct)


def _unit(
    code: str,
    records: Sequence[Record],
    values: Floats,
    threshold: float,
    codes: NDArray[np.int64],
    drawn: Sequence[Floats],
) -> tuple[UnitFigures, dict[str, Floats]]:
    """The figures of one unit, and each figure's resampled values [draws]."""
    truth = np.array([record.attributes.get(code, np.nan) for record in records], dtype=float)
    level = np.array([record.attributes.get(f"{code}_intensity", np.nan) for record in records], dtype=float)
    known = np.isfinite(truth)
    share = float(truth[known].mean()) if known.any() else math.nan
    measured = bool(np.isfinite(values).any())
    people = drawn[0].shape[1] if drawn else int(codes.max()) + 1
    once = np.ones((1, people))
    figures: dict[str, Interval] = {}
    samples: dict[str, Floats] = {}
    for name, rows, judged in (
        ("icc", np.isfinite(level), _agreement(level, values, codes, people, icc)),
        ("pearson", np.isfinite(level), _agreement(level, values, codes, people, pearson)),
        ("f1", known, _f1(truth, values >= threshold, codes, people)),
        ("auc", known, _auc(truth, values, codes, people)),
    ):
        if not measured or not rows.any():
            figures[name] = Interval(math.nan)
            continue
        samples[name] = np.concatenate([judged(block) for block in drawn]) if drawn else np.empty(0)
        exact = auc(truth[known], values[known]) if name == "auc" else float(judged(once)[0])
        figures[name] = interval(exact, samples[name])
    row = UnitFigures(
        code, UNITS[code].name, int((known | np.isfinite(level)).sum()), share, measured, **figures
    )
    return row, samples


def _agreement(
    truth: Floats,
    values: Floats,
    codes: NDArray[np.int64],
    people: int,
    figure: Callable[[Floats, Floats, Floats], Floats],
) -> Callable[[Floats], Floats]:
    """A figure of the two variances and the covariance, from each person's sums."""
    rows = np.isfinite(truth) & np.isfinite(values)
    x, y = truth[rows], values[rows]
    x, y = x - x.mean() if len(x) else x, y - y.mean() if len(y) else y
    sums = np.zeros((people, 6))
    np.add.at(sums, codes[rows], np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1))

    def judge(counts: Floats) -> Floats:
        n, sx, sy, sxx, syy, sxy = (counts @ sums).T
        with np.errstate(invalid="ignore", divide="ignore"):
            return figure(
                (sxx - sx * sx / n) / (n - 1), (syy - sy * sy / n) / (n - 1), (sxy - sx * sy / n) / (n - 1)
            )

    return judge


def icc(first: Floats, second: Floats, covariance: Floats) -> Floats:
    """ICC(3,1) of two raters from their variances and covariance.

    (BMS - EMS) / (BMS + EMS), Shrout and Fleiss (1979), with BMS = (first + second) / 2 + covariance and
    EMS = (first + second) / 2 - covariance.
    """
    total = first + second
    return np.where(total > 1e-12, 2 * covariance / np.where(total > 1e-12, total, 1), np.nan)


def pearson(first: Floats, second: Floats, covariance: Floats) -> Floats:
    """Pearson's correlation from the variances and the covariance; NaN where one does not vary."""
    varies = (first > 1e-12) & (second > 1e-12)
    return np.where(varies, covariance / np.sqrt(np.where(varies, first * second, 1)), np.nan)


def _f1(
    truth: Floats, said: NDArray[np.bool_], codes: NDArray[np.int64], people: int
) -> Callable[[Floats], Floats]:
    rows = np.isfinite(truth)
    there, answer = truth[rows] > 0, said[rows]
    sums = np.zeros((people, 2))
    np.add.at(sums, codes[rows], np.stack([there & answer, there.astype(int) + answer], axis=1).astype(float))

    def judge(counts: Floats) -> Floats:
        both, either = (counts @ sums).T
        return np.where(either > 0, 2 * both / np.maximum(either, 1), np.nan)

    return judge


def auc(truth: Floats, values: Floats) -> float:
    """The area under the ROC curve of `values` against `truth` above 0; equal values count half. NaN for one class."""
    codes = np.zeros(len(truth), dtype=np.int64)
    return float(_auc(truth, values, codes, 1, levels=len(truth))(np.ones((1, 1)))[0])


def _auc(
    truth: Floats, values: Floats, codes: NDArray[np.int64], people: int, levels: int = _LEVELS
) -> Callable[[Floats], Floats]:
    rows = np.isfinite(truth) & np.isfinite(values)
    distinct, step = np.unique(values[rows], return_inverse=True)
    if len(distinct) > levels:
        step = step * levels // len(distinct)
    count = int(step.max()) + 1 if len(step) else 1
    there = np.zeros((2, people, count))
    np.add.at(there, ((truth[rows] > 0).astype(int), codes[rows], step), 1)

    def judge(counts: Floats) -> Floats:
        absent, present = counts @ there[0], counts @ there[1]
        below = absent.cumsum(axis=1) - absent / 2
        pairs = absent.sum(axis=1) * present.sum(axis=1)
        return np.where(pairs > 0, (present * below).sum(axis=1) / np.maximum(pairs, 1), np.nan)

    return judge


def _mean(rows: Sequence[UnitFigures], samples: Sequence[dict[str, Floats]]) -> UnitFigures:
    """The mean over the measured units of each figure that is defined."""
    figures = {}
    for name in FIGURES:
        known = [getattr(row, name).value for row in rows if getattr(row, name).known]
        drawn = [sample[name] for row, sample in zip(rows, samples, strict=True) if getattr(row, name).known]
        figures[name] = (
            interval(float(np.mean(known)), np.mean(drawn, axis=0)) if known else Interval(math.nan)
        )
    images = max((row.images for row in rows), default=0)
    return UnitFigures("mean", "of the measured units", images, math.nan, True, **figures)


def markdown(report: UnitReport) -> str:
    """The table, and what it was made of."""

    def cell(figure: Interval) -> str:
        if not figure.known:
            return "-"
        return f"{figure.value:.2f}" + (
            f" [{figure.low:.2f}, {figure.high:.2f}]" if math.isfinite(figure.low) else ""
        )

    people = "" if report.people is None else f" of {report.people} people"
    lines = [
        f"{report.set}: {report.images:,} pictures{people}, {report.no_face:,} without a face left out; present from "
        f"{report.threshold:g} of 5 on",
        "",
        "| unit | | pictures | present | ICC(3,1) | Pearson | F1 | AUC |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in report.units:
        share = f"{row.present:.1%}" if math.isfinite(row.present) else "-"
        name = row.name if row.measured else f"{row.name} (not measured)"
        figures = " | ".join(cell(getattr(row, figure)) for figure in FIGURES)
        lines.append(f"| {row.unit} | {name} | {row.images:,} | {share} | {figures} |")
    if report.unknown:
        lines += ["", f"Coded, and not among the units of mien: {', '.join(report.unknown)}."]
    return "\n".join(lines)


def to_json(report: UnitReport) -> str:
    """The report as JSON text; a figure that is not defined is null."""
    return json.dumps(plain(asdict(report)), indent=1, ensure_ascii=False)


def write(report: UnitReport, out: Path) -> None:
    """Keep the report in the folder `out`, as `FILES`."""
    out.mkdir(parents=True, exist_ok=True)
    contents = (markdown(report), to_json(report))
    atomic.write({out / name: f"{text}\n".encode() for name, text in zip(FILES, contents, strict=True)})
