"""A `Report` to read: Markdown for a repository, and one HTML page with its pictures inside, to print or attach.

The page asks for nothing over the network. It needs matplotlib for the pictures (the `figures` extra); Markdown needs
nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

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
"""How a page calls each figure."""

MATRIX = 24
"""Classes up to which the confusion matrix is printed as a table."""

SHARES = {"accuracy", "macro_accuracy", "macro_f1", "weighted_f1"}
"""Figures printed in per cent."""

DEFINITIONS: tuple[tuple[str, str], ...] = (
    ("Accuracy", "share of images whose most probable expression label is the true one (WAR)."),
    ("Macro accuracy", "mean over classes of the share of their images that is found (UAR, balanced accuracy)."),
    ("Macro F1, weighted F1", "mean of the classes' F1 = 2PR / (P + R), alike or by number of images; 0 if undefined."),
    ("ECE", "expected calibration error: mean |share right - mean confidence| over 15 equal-width confidence bins."),
    ("AURC", "mean error rate over all coverages when the surest images are answered first."),
    ("CCC, PCC, RMSE, SAGR", "over the whole set at once, population moments; in SAGR zero agrees only with zero."),
    ("Interval", "2.5 to 97.5 percentile of a bootstrap."),
)  # fmt: skip
"""The definitions a reader needs beside the figures."""

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
    """What the report is about, in one line."""
    what = report.provenance
    where = what.dataset + (f", {what.split} split" if what.split else "")
    return f"{what.model} on {where}" if what.dataset else what.model


def identity(what: RunInfo) -> list[tuple[str, str]]:
    """Everything that identifies the evaluation, as (name, text) pairs; unknown things are left out."""
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
        ("Network alone", speed),
        ("Commit", what.commit),
        ("Date", what.date),
    ]
    return [(name, text) for name, text in pairs if text]


def counts(report: Report) -> str:
    """How many images, people and missed faces, as a sentence."""
    people = f" of {several(report.people, 'person', 'people')}" if report.people else ""
    labelled = "" if report.labelled == report.images else f", {report.labelled} with an expression label"
    missed = f", no face found in {report.not_found}" if report.not_found else ""
    return f"{several(report.images, 'image')}{people}{labelled}{missed}."


# Markdown ------------------------------------------------------------------------------------------------------------


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def cells(row: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"

    line = "|" + "---|" + "---:|" * (len(header) - 1)
    return [cells(header), line, *map(cells, rows), ""]


def markdown(report: Report) -> str:
    """The report as Markdown tables."""
    lines = [f"# {title(report)}", "", counts(report), ""]
    if report.scores:
        lines += _rows(
            ("figure", "value, 95 % interval"),
            [(NAMES[name], spread(found, name in SHARES)) for name, found in report.scores.items()],
        )
        lines += ["## Classes", ""]
        lines += _rows(
            ("class", "images", "precision", "recall, 95 % interval", "F1"),
            [
                (
                    c.name,
                    str(c.support),
                    number(100 * c.precision, 1),
                    spread(c.recall, True),
                    number(100 * c.f1, 1),
                )
                for c in report.per_class
            ],
        )
        if len(report.classes) <= MATRIX:
            lines += ["## Confusion (rows: truth)", ""]
            columns = [*report.classes, "no face"][: _columns(report)]
            lines += _rows(
                ("", *columns),
                [
                    (name, *map(str, row[: len(columns)]))
                    for name, row in zip(report.classes, report.confusion, strict=True)
                ],
            )
        else:
            lines += ["## Confusion, the largest counts", "", *_rows(*_confused(report))]
    if report.calibration and report.selective:
        c = report.calibration
        pairs = [
            ("Calibration error (RMS, debiased)", spread(c.error)),
            ("ECE (15 bins, biased upwards)", number(c.ece)),
            ("Brier", number(c.brier)),
            ("Log loss (nats)", number(c.log_loss)),
        ]
        if c.temperature is not None:
            pairs += [
                ("Temperature (validation)", number(c.temperature)),
                ("ECE after scaling", number(c.ece_scaled)),
            ]
        pairs += [("AURC", number(report.selective.aurc))]
        pairs += [
            (f"Error at {share:.0%} coverage", f"{risk:.1%}") for share, risk in report.selective.points
        ]
        lines += ["## Confidence", "", *_rows(("figure", "value"), pairs)]
    if report.affect:
        header = ("", *(NAMES[name] for name in next(iter(report.affect.values()))))
        rows = [
            (dimension, *(spread(v) for v in scores.values())) for dimension, scores in report.affect.items()
        ]
        lines += ["## Apparent valence and arousal", "", *_rows(header, rows)]
    for heading, found in (
        ("Embedding", report.separation),
        ("Votes, after the protocol's rule", report.annotators),
    ):
        if found:
            lines += [f"## {heading}", ""]
            lines += _rows(
                ("figure", "value"), [(NAMES[name], number(value)) for name, value in found.items()]
            )
    if report.slices:
        lines += ["## Groups", "", *_rows(*_slice_table(report))]
    lines += ["## Notes", "", *(f"- {note}" for note in report.notes), f"- {WORDING}", ""]
    lines += ["## Identity", "", *(f"- {name}: {text}" for name, text in identity(report.provenance)), ""]
    return "\n".join(lines)


def _slice_table(report: Report) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """(headings, rows) of the groups: expression figures where any group has them, then those of affect."""
    felt = [(dimension, "ccc") for dimension in DIMENSIONS if any(part.affect for part in report.slices)]
    scored = ["accuracy", "macro_accuracy", "macro_f1"]
    if felt and not any(part.scores for part in report.slices):
        scored, felt = [], [*felt, *((dimension, "rmse") for dimension in DIMENSIONS)]
    people = any(part.people for part in report.slices)
    header = ["group", "images", *(["people"] if people else []), *(NAMES[name] for name in scored)]
    header += [f"{NAMES[name]}, {dimension}" for dimension, name in felt]
    rows = []
    for part in report.slices:
        row = [f"{part.by}: {part.group}", str(part.images), *([str(part.people or "–")] if people else [])]
        row += [spread(part.scores[name], True) if part.scores else "too few" for name in scored]
        row += [spread(part.affect[d][name]) if part.affect else "too few" for d, name in felt]
        rows.append(tuple(row))
    return tuple(header), rows


def _confused(report: Report, most: int = 30) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """(headings, rows) of the most frequent confusions, for more classes than a table has columns."""
    counts = np.asarray(report.confusion)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    called = [*report.classes, "no face"]
    rows: list[tuple[str, ...]] = [
        (report.classes[row], called[column], str(counts[row, column]))
        for row, column in zip(*np.unravel_index(order, counts.shape), strict=True)
        if counts[row, column]
    ]
    return ("true", "called", "images"), rows


def _columns(report: Report) -> int:
    return len(report.classes) + any(row[-1] for row in report.confusion)


# HTML ----------------------------------------------------------------------------------------------------------------


def html(report: Report, predictions: Predictions) -> str:
    """The whole page; `predictions` are those that the report was made from.

    Raises:
        ExtraMissing: matplotlib is not installed.
    """
    heading = title(report)
    body = [
        f"<header><h1>{escape(heading)}</h1>",
        f'<p class="lead">{escape(_lead(report))}</p></header>',
        "<main>",
    ]
    body += [_key(report)]
    if report.scores:
        body += _expression_part(report)
    if report.calibration and report.selective:
        body += _confidence_part(report, predictions)
    if report.affect:
        body += _affect_part(report, predictions)
    if report.slices:
        header, rows = _slice_table(report)
        body += [
            "<h2>Groups</h2>",
            pages.table(
                "Expression figures in per cent, all with 95 % interval. Compare groups by their intervals; groups "
                "differ in their mix of classes, so macro figures are the fairer comparison.",
                header,
                [tuple(pages.interval(cell) for cell in row) for row in rows],
            ),
        ]
    for name, found in (
        ("Embedding", report.separation),
        ("Votes, after the protocol's rule", report.annotators),
    ):
        if found:
            pairs = [(NAMES[key], number(value)) for key, value in found.items()]
            body += [f"<h2>{name}</h2>", pages.facts(pairs)]
    body += [
        "<h2>How to read this</h2>",
        "<ul>",
        *(f"<li>{escape(note)}</li>" for note in report.notes),
        "</ul>",
    ]
    body += [pages.facts([(name, escape(text)) for name, text in DEFINITIONS])]
    pairs = [
        (name, f"<code>{escape(text)}</code>" if "SHA" in name else escape(text))
        for name, text in identity(report.provenance)
    ]
    body += [
        "<h2>Identity</h2>",
        pages.facts(pairs),
        "</main>",
        f"<footer>{escape(WORDING)} Made with mien.</footer>",
    ]
    return pages.document(heading, body)


def _lead(report: Report) -> str:
    what = report.provenance
    rule = f" Protocol {what.protocol}, version {what.protocol_version}." if what.protocol else ""
    return counts(report) + rule


def _key(report: Report) -> str:
    """The headline figures as large numbers."""
    shown: list[tuple[str, str, Interval, float, int]] = []
    for name in ("accuracy", "macro_accuracy", "macro_f1"):
        if name in report.scores:
            shown.append((NAMES[name], " %", report.scores[name], 100.0, 1))
    if report.calibration:
        shown.append(("Calibration error", "", report.calibration.error, 1.0, 3))
    for dimension, scores in report.affect.items():
        shown.append((f"CCC, {dimension}", "", scores["ccc"], 1.0, 3))
    items = []
    for name, unit, found, scale, digits in shown:
        span = f"{number(found.low * scale, digits)} to {number(found.high * scale, digits)}"
        value = number(found.value * scale, digits) + unit
        items.append(f"<div><dt>{escape(name)}</dt><dd>{value}<small>{span}</small></dd></div>")
    return f'<dl class="key" aria-label="Headline figures with 95 % intervals">{"".join(items)}</dl>'


def _expression_part(report: Report) -> list[str]:
    from mien.figures import confusion, palette

    rows = [
        (
            escape(f"{shown} {part.name}" if shown.startswith("#") else part.name),
            str(part.support),
            number(100 * part.precision, 1),
            pages.interval(spread(part.recall, True)),
            number(100 * part.f1, 1) + pages.meter(part.f1),
        )
        for part, shown in zip(report.per_class, palette.readable(report.classes), strict=True)
    ]
    if len(report.classes) <= MATRIX:
        columns = [*report.classes, "no face"][: _columns(report)]
        table = [
            (
                escape(name),
                *(f"<b>{n}</b>" if i == row else str(n) for i, n in enumerate(line[: len(columns)])),
            )
            for row, (name, line) in enumerate(zip(report.classes, report.confusion, strict=True))
        ]
        counts = pages.table(
            "The same confusion matrix as counts; rows are the truth.", ("true", *columns), table
        )
    else:
        header, most = _confused(report)
        counts = pages.table(
            "The most frequent confusions; report.json has them all.",
            header,
            [tuple(map(escape, row)) for row in most],
        )
    worst = _worst(report)
    drawn = confusion.draw(report.confusion, report.classes)
    described = f"Confusion matrix of {len(report.classes)} classes in per cent of the true class. {worst}"
    return [
        "<h2>Expression labels</h2>",
        pages.table(
            "Each class: per cent right among those called so (precision), per cent found (recall, 95 % interval), F1.",
            ("class", "images", "precision", "recall", "F1"),
            rows,
        ),
        pages.figure(
            palette.markup(drawn, "confusion", described),
            f"Rows are the true class: per cent, and number of images below. {worst}",
            wide=True,
        ),
        counts,
    ]


def _worst(report: Report) -> str:
    """The largest confusion in words, by share of a class that is not small."""
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


def _confidence_part(report: Report, predictions: Predictions) -> list[str]:
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
    half = selective.points[-1]
    everything = selective.points[0][1]
    sentence = f"Answering only the surest {half[0]:.0%} leaves {half[1]:.1%} errors, against {everything:.1%} for all."
    scaled = ""
    if found.temperature is not None:
        after = number(found.ece_scaled)
        scaled = f" Dividing the logits by {found.temperature:.2f}, fitted on the validation split, gives ECE {after}."
    mean_gap = float(sure.mean() - right.mean())
    leaning = "over-confident" if mean_gap > 0 else "under-confident"
    words = f"On average {leaning} by {abs(100 * mean_gap):.1f} points.{scaled}"
    pairs = [
        ("Calibration error (RMS, debiased)", spread(found.error)),
        ("ECE (15 bins, biased upwards)", number(found.ece)),
        ("Brier score", number(found.brier)),
        ("Log loss", f"{number(found.log_loss)} nats"),
        ("AURC", number(selective.aurc)),
    ]
    diagram = reliability.draw(found.bins, found.ece)
    curve = reliability.risk_coverage({"model": (coverage, risk)})
    return [
        "<h2>Confidence</h2>",
        '<div class="pair">',
        pages.figure(palette.markup(diagram, "reliability", f"Reliability diagram. {words}"), words),
        pages.figure(palette.markup(curve, "risk", f"Risk-coverage curve. {sentence}"), sentence),
        "</div>",
        pages.facts(pairs),
    ]


def _affect_part(report: Report, predictions: Predictions) -> list[str]:
    from mien.figures import affect_plane, palette

    kept = np.flatnonzero(np.isfinite(predictions.affect_truth + predictions.affect).all(axis=1))
    rated = predictions.rows(kept)
    scores = [f"CCC {number(report.affect[name]['ccc'].value)}" for name in DIMENSIONS]
    words = [None if index == UNLABELLED else rated.classes[index] for index in rated.truth]
    header = ("", *(NAMES[name] for name in next(iter(report.affect.values()))))
    rows = [
        (name, *(pages.interval(spread(v)) for v in found.values())) for name, found in report.affect.items()
    ]
    against = affect_plane.agreement(rated.affect, rated.affect_truth, scores)
    spots = affect_plane.draw(rated.affect, words)
    return [
        "<h2>Apparent valence and arousal</h2>",
        pages.table("With 95 % intervals; RMSE on the scale from -1 to 1.", header, rows),
        pages.figure(
            palette.markup(against, "agreement", f"Predicted against true values: {', '.join(scores)}."),
            "Predicted against true values; the dashed line is perfect agreement.",
            wide=True,
        ),
        pages.figure(
            palette.markup(
                spots, "plane", "Predicted valence and arousal of every image, by true expression label."
            ),
            "Where the model puts the images; colour and marker are the true label, outlined markers the prototypes.",
            wide=True,
        ),
    ]


FILES: Final = ("report.json", "report.md", "report.html", FILE)
"""The files of a report, in the order in which they are written."""


def is_unfinished(folder: Path) -> bool:
    """Whether a run that was killed while it wrote left a report there without its predictions."""
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
    predictions.save(folder / FILE, embeddings)  # last, and whole or not at all: it says that all is there
    return folder / "report.html"
