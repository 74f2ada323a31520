"""Write a `Report` as Markdown and as one self-contained HTML page.

Both come from Jinja2 templates in `templates/`. The page loads nothing over the network; its pictures need matplotlib
(the `figures` extra).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

import numpy as np

from mien.data.predictions import FILE, Predictions, RunInfo
from mien.evaluation import metrics
from mien.evaluation.evaluate import DIMENSIONS, SMALL, Report, predicted_classes
from mien.evaluation.intervals import Interval
from mien.io import atomic, pages
from mien.labels import UNLABELLED
from mien.wording import fixed, several

NAMES: dict[str, str] = {
    "accuracy": "Accuracy",
    "macro_accuracy": "Macro accuracy",
    "macro_f1": "Macro F1",
    "weighted_f1": "Weighted F1",
    "ccc": "CCC",
    "pcc": "PCC",
    "rmse": "RMSE",
    "sagr": "SAGR",
    "silhouette": "Silhouette (cosine)",
    "nmi": "NMI with k-means",
    "recall_at_1": "Recall@1",
    "votes_for_label": "Share of the votes for the label",
    "votes_for_answer": "Share of the votes for the model's answer",
    "cross_entropy_to_votes": "Cross-entropy to the votes (nats)",
}
"""The display name of each figure."""

MATRIX = 24
"""Largest number of classes for which the confusion matrix is printed as a table."""

TEMPLATES: Final = Path(__file__).parent / "templates"

SHARES = {"accuracy", "macro_accuracy", "macro_f1", "weighted_f1"}
"""Figures printed in per cent."""

WORDING = (
    "An expression label describes what a face shows to an observer, and apparent valence and arousal how it looks; "
    "neither says what the person feels."
)


def number(value: float | None, digits: int = 3) -> str:
    """A figure as text, "–" where it is not defined."""
    return "–" if value is None or not math.isfinite(value) else fixed(value, digits)


def spread(found: Interval, percent: bool = False, digits: int | None = None) -> str:
    """A figure with its interval as text: "88.1 (87.0 to 89.2)"."""
    scale, places = (100.0, 1) if percent else (1.0, 3)
    places = places if digits is None else digits
    if not found.known:
        return "–"
    text = number(found.value * scale, places)
    if not math.isfinite(found.low):
        return text
    return f"{text} ({number(found.low * scale, places)} to {number(found.high * scale, places)})"


def title(report: Report) -> str:
    """The title of the report, in one line."""
    what = report.provenance
    where = what.dataset + (f", {what.split} split" if what.split else "")
    return f"{what.model} on {where}" if what.dataset else what.model


def identity(what: RunInfo) -> list[tuple[str, str]]:
    """Everything that identifies the evaluation, as (name, text) pairs; unknown values are left out."""
    rate = what.images_per_second
    speed = (
        f"{rate:.0f} images/s, {what.threads or '?'} threads, batch {what.batch or '?'}, {what.machine}"
        if rate
        else ""
    )
    pairs = [
        ("Model", what.model),
        ("Method", what.method),
        ("Weights (SHA-256)", what.weights_hash),
        ("Seed", "" if what.seed is None else str(what.seed)),
        ("Initialised from", what.pretraining),
        ("Weights chosen by", what.selection),
        ("Parameters", "" if what.parameters is None else f"{what.parameters:,}"),
        ("File size", "" if what.bytes is None else f"{what.bytes / 1e6:.2f} MB"),
        ("Input", "" if what.size is None else f"{what.size} x {what.size} pixels"),
        ("Dataset", what.dataset),
        ("Protocol", f"{what.protocol}, version {what.protocol_version}" if what.protocol else ""),
        ("Split", what.split),
        ("File list (SHA-256)", what.digest),
        ("Aligned by", what.alignment),
        ("Views", "the crop and its mirror image, averaged" if what.views == 2 else ""),
        ("Prior", what.prior),
        ("Correction", what.adapt),
        ("Network alone", speed),
        ("Commit", what.commit),
        ("Date", what.date),
    ]
    return [(name, text) for name, text in pairs if text]


def counts(report: Report) -> str:
    """The numbers of images, people and missed faces, as a sentence."""
    people = f" of {several(report.people, 'person', 'people')}" if report.people else ""
    labelled = "" if report.labelled == report.images else f", {report.labelled} with an expression label"
    missed = f", no face found in {report.not_found}" if report.not_found else ""
    return f"{several(report.images, 'image')}{people}{labelled}{missed}."


def markdown(report: Report) -> str:
    """The report as Markdown tables.

    Raises:
        ExtraMissing: Jinja2 is not installed.
    """
    return pages.render(TEMPLATES / "evaluation.md", "figures", **_values(report))


def html(report: Report, predictions: Predictions) -> str:
    """The whole page; `predictions` are those that the report was made from.

    Raises:
        ExtraMissing: matplotlib or Jinja2 is not installed.
    """
    values = _values(report) | {"headline": _headline(report), "drawn": {}}
    if report.scores:
        _draw_confusion(report, values)
    if values["confidence"]:
        _draw_confidence(report, predictions, values)
    if report.affect:
        _draw_affect(report, predictions, values)
    return pages.render(TEMPLATES / "evaluation.html", "figures", **values)


def _values(report: Report) -> dict[str, Any]:
    """The texts of both forms of the report; a part that the report does not have is empty."""
    further = (("Embedding", report.separation), ("Votes, after the protocol's rule", report.annotators))
    return {
        "report": report,
        "title": title(report),
        "counts": counts(report),
        "wording": WORDING,
        "identity": identity(report.provenance),
        "scores": [(NAMES[name], spread(found, name in SHARES)) for name, found in report.scores.items()],
        "classes": [
            (
                part.name,
                str(part.support),
                number(100 * part.precision, 1),
                spread(part.recall, True),
                number(100 * part.f1, 1),
            )
            for part in report.per_class
        ],
        **_confusion(report),
        "confidence": _confidence(report),
        "affect": _affect(report),
        "groups": _groups(report),
        "further": [
            (heading, [(NAMES[name], number(value)) for name, value in found.items()])
            for heading, found in further
            if found
        ],
    }


def _headline(report: Report) -> list[tuple[str, str, str]]:
    """(name, value, interval) of the figures that are shown large."""
    shown = [
        (NAMES[name], report.scores[name], True)
        for name in ("accuracy", "macro_accuracy", "macro_f1")
        if name in report.scores
    ]
    if report.calibration:
        shown.append(("Calibration error", report.calibration.error, False))
    shown += [(f"CCC, {dimension}", scores["ccc"], False) for dimension, scores in report.affect.items()]
    items = []
    for name, found, percent in shown:
        scale, digits, unit = (100, 1, " %") if percent else (1, 3, "")
        value, low, high = (number(one * scale, digits) for one in (found.value, found.low, found.high))
        items.append((name, value + unit, f"{low} to {high}"))
    return items


def _confusion(report: Report, most: int = 30) -> dict[str, Any]:
    """The confusion matrix as a table, or the most frequent confusions if it has more than `most` classes.

    The column "no face" is included if a face was missed.
    """
    if not report.scores:
        return {"columns": [], "matrix": (), "confused": ()}
    called = [*report.classes, "no face"]
    if len(report.classes) <= MATRIX:
        columns = called[: len(report.classes) + any(row[-1] for row in report.confusion)]
        matrix = [
            (name, *map(str, row[: len(columns)]))
            for name, row in zip(report.classes, report.confusion, strict=True)
        ]
        return {"columns": columns, "matrix": matrix, "confused": ()}
    counts = np.asarray(report.confusion)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    confused = [
        (report.classes[row], called[column], str(counts[row, column]))
        for row, column in zip(*np.unravel_index(order, counts.shape), strict=True)
        if counts[row, column]
    ]
    return {"columns": [], "matrix": (), "confused": confused}


def _confidence(report: Report) -> list[tuple[str, str]]:
    """(name, value) of the figures of calibration and selective prediction."""
    found, selective = report.calibration, report.selective
    if found is None or selective is None:
        return []
    pairs = [
        ("Calibration error (RMS, debiased)", spread(found.error)),
        ("ECE (15 bins, biased upwards)", number(found.ece)),
        ("Brier", number(found.brier)),
        ("Log loss (nats)", number(found.log_loss)),
    ]
    if found.temperature is not None:
        pairs.append(("Temperature (validation)", number(found.temperature)))
        pairs.append(("ECE after scaling", number(found.ece_scaled)))
    pairs.append(("AURC", number(selective.aurc)))
    return pairs + [(f"Error at {share:.0%} coverage", f"{risk:.1%}") for share, risk in selective.points]


def _affect(report: Report) -> list[tuple[str, ...]]:
    """Headings, then a row for each dimension; empty if valence and arousal are unknown."""
    if not report.affect:
        return []
    header = ("", *(NAMES[name] for name in next(iter(report.affect.values()))))
    return [header, *((name, *map(spread, scores.values())) for name, scores in report.affect.items())]


def _groups(report: Report) -> list[tuple[str, ...]]:
    """Headings, then a row for each group: expression figures if any group has them, then those of affect."""
    if not report.slices:
        return []
    rated = [(dimension, "ccc") for dimension in DIMENSIONS if any(part.affect for part in report.slices)]
    scored = ["accuracy", "macro_accuracy", "macro_f1"]
    if rated and not any(part.scores for part in report.slices):
        scored, rated = [], [*rated, *((dimension, "rmse") for dimension in DIMENSIONS)]
    people = any(part.people for part in report.slices)
    header = ["group", "images", *(["people"] if people else []), *(NAMES[name] for name in scored)]
    header += [f"{NAMES[name]}, {dimension}" for dimension, name in rated]
    rows = [tuple(header)]
    for part in report.slices:
        row = [f"{part.by}: {part.group}", str(part.images), *([str(part.people or "–")] if people else [])]
        row += [spread(part.scores[name], True) if part.scores else "too few" for name in scored]
        row += [spread(part.affect[d][name]) if part.affect else "too few" for d, name in rated]
        rows.append(tuple(row))
    return rows


def _worst(report: Report) -> str:
    """The largest confusion in words, as a share of its class, without small classes."""
    matrix = np.asarray(report.confusion, dtype=np.float64)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros_like(matrix), where=totals >= SMALL)
    np.fill_diagonal(shares, 0)
    row, column = np.unravel_index(int(shares.argmax()), shares.shape)
    if shares[row, column] == 0:
        return f"No class of {SMALL} or more images is confused with another."
    called = [*report.classes, "not found at all"][column]
    count = f"{matrix[row, column]:.0f} of {totals[row, 0]:.0f}"
    return f"The largest confusion: {shares[row, column]:.0%} of {report.classes[row]} ({count}) is called {called}."


def _draw_confusion(report: Report, values: dict[str, Any]) -> None:
    """Add the picture of the confusion matrix, its description, and short names for many classes."""
    from mien.figures import confusion, palette

    worst = _worst(report)
    described = f"Confusion matrix of {len(report.classes)} classes in per cent of the true class. {worst}"
    drawn = confusion.draw(report.confusion, report.classes)
    values |= {"worst": worst, "shown": palette.readable(report.classes)}
    values["drawn"]["confusion"] = palette.markup(drawn, "confusion", described)


def _draw_confidence(report: Report, predictions: Predictions, values: dict[str, Any]) -> None:
    """Add the reliability diagram and the risk-coverage curve, with descriptions."""
    from mien.figures import palette, reliability

    found, selective = report.calibration, report.selective
    assert found is not None  # the caller checked
    assert selective is not None
    judged = predictions.rows(np.flatnonzero(predictions.truth != UNLABELLED))
    judged = judged.rows(np.flatnonzero(judged.found)) if report.undetected == "drop" else judged
    answer = predicted_classes(judged, report.undetected)
    judged = judged.rows(np.flatnonzero(answer != metrics.NOT_DETECTED))
    sure, right = judged.probabilities.max(axis=1), judged.probabilities.argmax(axis=1) == judged.truth
    coverage, risk, _ = metrics.risk_coverage(sure, right)
    share, left = selective.points[-1]
    everything = selective.points[0][1]
    sentence = f"Answering the most confident {share:.0%} leaves {left:.1%} errors, against {everything:.1%} for all."
    gap = float(sure.mean() - right.mean())
    words = f"On average {'over' if gap > 0 else 'under'}-confident by {abs(100 * gap):.1f} points."
    if found.temperature is not None:
        after = number(found.ece_scaled)
        words += f" Dividing the logits by {found.temperature:.2f}, fitted on the validation split, gives ECE {after}."
    diagram = reliability.draw(found.bins, found.ece)
    curve = reliability.risk_coverage({"model": (coverage, risk)})
    values |= {"leaning": words, "coverage": sentence}
    values["drawn"] |= {
        "reliability": palette.markup(diagram, "reliability", f"Reliability diagram. {words}"),
        "risk": palette.markup(curve, "risk", f"Risk-coverage curve. {sentence}"),
    }


def _draw_affect(report: Report, predictions: Predictions, values: dict[str, Any]) -> None:
    """Add the pictures of valence and arousal."""
    from mien.figures import affect_plane, palette

    kept = np.flatnonzero(np.isfinite(predictions.affect_truth + predictions.affect).all(axis=1))
    rated = predictions.rows(kept)
    scores = [f"CCC {number(report.affect[name]['ccc'].value)}" for name in DIMENSIONS]
    labels = [None if index == UNLABELLED else rated.classes[index] for index in rated.truth]
    against = affect_plane.agreement(rated.affect, rated.affect_truth, scores)
    plane = affect_plane.draw(rated.affect, labels)
    description = "Predicted valence and arousal of every image, by true expression label."
    values["drawn"] |= {
        "agreement": palette.markup(
            against, "agreement", f"Predicted against true values: {', '.join(scores)}."
        ),
        "plane": palette.markup(plane, "plane", description),
    }


FILES: Final = ("report.json", "report.md", "report.html", FILE)
"""The files of a report, in the order in which they are written."""


def is_unfinished(folder: Path) -> bool:
    """Whether a run that was killed while writing left a report without its predictions."""
    if (folder / FILE).exists():
        return False
    try:
        return "provenance" in json.loads((folder / FILES[0]).read_bytes())
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def write(report: Report, predictions: Predictions, folder: Path | str, embeddings: bool = False) -> Path:
    """Write report.json, report.md, report.html and predictions.parquet; returns the page's path."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    texts = (report.to_json(indent=1) + "\n", markdown(report), html(report, predictions))
    atomic.write({folder / name: text.encode() for name, text in zip(FILES, texts, strict=False)})
    predictions.save(folder / FILE, embeddings)  # last: it shows that the report is complete
    return folder / "report.html"
