"""Write a `Comparison` as Markdown, LaTeX and HTML: one table, and the reproduction ledger.

Every table is generated from the runs' predictions and the ledger's data files. Published numbers are in a separate
column, marked "not comparable".
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from mien.data.predictions import RunInfo
from mien.evaluation import published_results
from mien.evaluation.compare import RARE, RARE_SHARE, Comparison, Pair, Row, Score
from mien.evaluation.intervals import Interval
from mien.evaluation.subgroups import SMALLEST_GROUP
from mien.io import atomic, pages
from mien.reports.evaluation_report import NAMES, WORDING, number, spread
from mien.wording import several, signed

LABELS: dict[str, str] = {
    "accuracy": "accuracy %",
    "macro_accuracy": "macro accuracy %",
    "macro_f1": "macro F1 %",
    "ccc_valence": "CCC valence",
    "ccc_arousal": "CCC arousal",
}
"""Column headings."""

TEMPLATES: Final = Path(__file__).parent / "templates"

PUBLISHED = "published (not comparable)"


Cells = tuple[list[str], list[list[str]]]
"""Headings and rows of a table, as plain text."""


def _percent(key: str) -> bool:
    return not key.startswith("ccc")


def _keys(comparison: Comparison) -> list[str]:
    return [key for key in LABELS if any(key in row.figures for row in comparison.rows)]


def _figure(found: Score | None, percent: bool) -> str:
    """Mean ± deviation over seeds, then the interval."""
    if found is None or not found.mean.known:
        return "–"
    scale, digits = (100, 1) if percent else (1, 3)
    mean = number(found.mean.value * scale, digits)
    if math.isfinite(found.seed_sd):
        mean += f" ± {number(found.seed_sd * scale, digits)}"
    return f"{mean} ({number(found.mean.low * scale, digits)} to {number(found.mean.high * scale, digits)})"


def _interval(found: Interval, percent: bool) -> str:
    scale, digits = (100, 1) if percent else (1, 3)
    low, high = found.low * scale, found.high * scale
    return f"{signed(found.value * scale, digits)} ({signed(low, digits)} to {signed(high, digits)})"


def _p(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _against(pair: Pair | None, main: str) -> tuple[str, str]:
    """The difference to the reference in the main figure, and p; the reference itself has neither."""
    if pair is None:
        return "reference", ""
    known = main in pair.differences
    return _interval(pair.differences[main], _percent(main)) if known else "–", _p(pair.largest_p)


def _published(row: Row) -> str:
    """Published accuracy of the row's method on the same set, with its conditions."""
    what = row.provenance
    found = published_results.figures(what.method, what.dataset)
    parts = [
        f"{entry.paper:.2f} ({entry.setting or paper.method}; {paper.pretraining}; {paper.selection})"
        for paper, entry in found
        if entry.paper is not None
    ]
    return "; ".join(parts) or "none read"


def cells(comparison: Comparison) -> Cells:
    """(headings, rows) of the main table, as plain text; the last column is the published one."""
    keys = _keys(comparison)
    base = comparison.pairs[0].reference if comparison.pairs else ""
    pairs = {pair.name: pair for pair in comparison.pairs}
    main = "accuracy" if "accuracy" in keys else keys[0]
    heading = ["method", "seeds", *(LABELS[key] for key in keys)]
    heading += [f"{LABELS[main]} - {base}", "p"] if base else []
    heading += ["parameters", "MB", "images/s", PUBLISHED]
    rows = []
    for row in comparison.rows:
        what, pair = row.provenance, pairs.get(row.name)
        rows.append(
            [
                row.name,
                str(len(row.seeds)),
                *(_figure(row.figures.get(key), _percent(key)) for key in keys),
                *(_against(pair, main) if base else ()),
                f"{what.parameters / 1e6:.2f} M" if what.parameters else "–",
                f"{what.bytes / 1e6:.1f}" if what.bytes else "–",
                f"{what.images_per_second:.0f}" if what.images_per_second else "–",
                _published(row),
            ]
        )
    return heading, rows


def heading_of(comparison: Comparison) -> str:
    """A description of the comparison in one line."""
    what = comparison.provenance
    rule = f", protocol {what.protocol} version {what.protocol_version}" if what.protocol else ""
    rows = comparison.rows
    methods = (
        several(len(rows), "method")
        if len(rows) > 1
        else f"{rows[0].name}, {several(len(rows[0].seeds), 'seed')}"
    )
    return f"{methods} on {what.dataset or 'one set'}, {what.split or 'all'} split{rule}"


def ours(comparison: Comparison) -> published_results.Ours:
    """Our figures for the ledger, by (method, dataset, metric)."""
    found: published_results.Ours = {}
    for row in comparison.rows:
        for key, value in row.figures.items():
            if key in ("accuracy", "ccc_valence", "ccc_arousal"):
                found.setdefault(
                    (row.provenance.method, row.provenance.dataset, key), (value.mean, row.provenance)
                )
    return found


def _ledger(comparison: Comparison) -> list[published_results.Line]:
    """The ledger over the five papers and the baseline."""
    return published_results.lines(ours(comparison), kind="seed")


def _under(comparison: Comparison) -> str:
    what = comparison.provenance
    people = f" of {several(comparison.people, 'person', 'people')}" if comparison.people else ""
    listed = what.digest[:12] or "not hashed"
    return f"{several(comparison.images, 'image')}{people}, file list {listed}, {comparison.draws} resamples."


def _speed(what: RunInfo) -> str:
    return (
        f"{what.machine}, {what.threads or '?'} threads, batches of {what.batch or '?'}"
        if what.machine
        else "not measured"
    )


def markdown(comparison: Comparison) -> str:
    """The table, the other differences and the ledger as Markdown.

    Raises:
        ExtraMissing: Jinja2 is not installed.
    """
    return pages.render(TEMPLATES / "comparison.md", "figures", **_values(comparison))


def _values(comparison: Comparison) -> dict[str, Any]:
    """The texts of the page and the Markdown; a part that the comparison does not have is empty."""
    return {
        "title": heading_of(comparison),
        "under": _under(comparison),
        "runs": cells(comparison),
        "differences": _differences(comparison) if comparison.pairs else (),
        "corrected": _corrected(comparison) if comparison.pairs else (),
        "groups": [*_class_tables(comparison), *_group_tables(comparison)],
        "ledger": ledger_cells(_ledger(comparison)),
        "notes": comparison.notes,
        "speed": _speed(comparison.rows[0].provenance),
        "wording": WORDING,
    }


def _differences(comparison: Comparison) -> Cells:
    keys = _keys(comparison)
    heading = [
        "method - reference",
        *(LABELS[key] for key in keys),
        "only it right / only the reference right",
    ]
    rows = [
        [
            f"{pair.name} - {pair.reference}",
            *(
                _interval(pair.differences[key], _percent(key)) if key in pair.differences else "–"
                for key in keys
            ),
            ", ".join(f"{test.first_only} / {test.second_only} (p {_p(test.p_mid)})" for test in pair.tests)
            or "–",
        ]
        for pair in comparison.pairs
    ]
    return heading, rows


def _corrected(comparison: Comparison) -> Cells:
    """The differences with intervals corrected for their number, and the smallest detectable ones."""
    keys = [key for key in _keys(comparison) if key != "macro_f1"]  # macro accuracy says nearly the same
    heading = ["method - reference"]
    for key in keys:
        heading += [f"{LABELS[key]}, corrected", "p (Holm)", "seen from"]
    rows = []
    for pair in comparison.pairs:
        row = [f"{pair.name} - {pair.reference}"]
        for key in keys:
            scale, digits = (100, 1) if _percent(key) else (1, 3)
            known = key in pair.corrected
            row.append(_interval(pair.corrected[key], _percent(key)) if known else "–")
            row.append(_p(pair.p[key]) if known else "–")
            row.append(number(pair.visible[key] * scale, digits) if known else "–")
        rows.append(row)
    return heading, rows


def _class_tables(comparison: Comparison) -> list[tuple[str, str, list[str], list[list[str]]]]:
    """(title, caption, headings, rows) of the table by class; none without differences or expression labels."""
    if not comparison.pairs or not comparison.classes:
        return []
    base = comparison.pairs[0].reference
    heading = ["class", "images", "method", "recall %", f"recall - {base}", "corrected", "p (Holm)"]
    rows = [
        [
            row.label,
            str(row.images),
            row.name,
            _figure(row.recall, True),
            _between(row.difference, True),
            _between(row.corrected, True),
            _p(row.p),
        ]
        for row in comparison.classes
    ]
    caption = (
        f"Classes with {SMALLEST_GROUP} images or more; `{RARE}` is the mean recall of those with less than "
        f"{RARE_SHARE:.0%} of the images. Corrected for all methods and classes together, `{RARE}` for all methods."
    )
    return [("By class", caption, heading, rows)]


def _group_tables(comparison: Comparison) -> list[tuple[str, str, list[str], list[list[str]]]]:
    """(title, caption, headings, rows) of the tables by group; none without groups."""
    if not comparison.groups:
        return []
    found = [key for key in _keys(comparison) if any(key in part.figures for part in comparison.groups)]
    keys = [key for key in found if key != "macro_f1"]  # macro accuracy says nearly the same
    labels = [LABELS[key] for key in keys]
    base = next(part.name for part in comparison.groups if not part.differences)
    rows = []
    for part in comparison.groups:
        cells = [_figure(part.figures.get(key), _percent(key)) for key in keys]
        gains = [_between(part.differences.get(key), _percent(key)) for key in keys]
        rows.append([part.name, part.group, str(part.images), *cells, *gains])
    heading = ["method", comparison.by, "images", *labels, *(f"difference in {label}" for label in labels)]
    tables = [
        (
            f"By {comparison.by}",
            f"Each group apart, and the difference to {base} in the same group.",
            heading,
            rows,
        )
    ]
    if comparison.gaps:
        first, second = comparison.gaps[0].groups
        rows = [
            [
                gap.name,
                *(_between(gap.figures.get(key), _percent(key)) for key in keys),
                *(_between(gap.changes.get(key), _percent(key)) for key in keys),
            ]
            for gap in comparison.gaps
        ]
        heading = ["method", *labels, *(f"change of {label}" for label in labels)]
        under = f"The figure for {first} minus that for {second}, and how it differs from {base}'s."
        tables.append((f"Gap between {first} and {second}", under, heading, rows))
    return tables


def _between(found: Interval | None, percent: bool) -> str:
    return "–" if found is None else _interval(found, percent)


def ledger_cells(lines: Sequence[published_results.Line]) -> Cells:
    """(headings, rows) of the ledger, as plain text; cells equal to those of the line above are "as above"."""
    heading = ["method", "dataset", "figure", "paper", "authors' code, run by others", "ours"]
    heading += ["paper rests on", "ours rests on", "why different", "read in"]
    rows: list[list[str]] = []
    above = ["", "", ""]
    for line in lines:
        long = [line.rests_on, line.ours_rests_on, line.why]
        cells = [
            "as above" if text == last and len(text) > 12 else text
            for text, last in zip(long, above, strict=True)
        ]
        rows.append(
            [line.method, line.dataset, line.metric, line.paper, line.code, line.ours, *cells, line.source]
        )
        above = long
    return heading, rows


def ledger_markdown() -> str:
    """The whole ledger without our figures, peers included, as Markdown.

    Raises:
        ExtraMissing: Jinja2 is not installed.
    """
    heading, rows = ledger_cells(published_results.lines({}))
    kept = [i for i, name in enumerate(heading) if not name.startswith("ours")]
    header, *lines = ([row[i] for i in kept] for row in [heading, *rows])
    return pages.render(TEMPLATES / "ledger.md", "figures", header=header, rows=lines)


_TEX = str.maketrans(
    {
        "%": r"\%", "&": r"\&", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "±": r"$\pm$", "–": "--",
        "<": "$<$", ">": "$>$", "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    }
)  # fmt: skip


def latex(comparison: Comparison) -> str:
    """The main table for a paper: `booktabs` and `adjustbox` are needed in the preamble.

    Raises:
        ExtraMissing: Jinja2 is not installed.
    """
    heading, rows = cells(comparison)

    def line(row: Sequence[str]) -> str:
        # A minus, not a hyphen, before a number.
        return " & ".join(re.sub(r"(?<!\w)-(?=\d)", "$-$", cell.translate(_TEX)) for cell in row) + r" \\"

    notes = " ".join(comparison.notes)
    cell = "Mean ± standard deviation over seeds (95 % interval)."
    caption = f"{heading_of(comparison)}. {_under(comparison)} {cell} {notes}"
    return pages.render(
        TEMPLATES / "comparison.tex",
        "figures",
        # A rule before the last column sets the published numbers apart.
        columns="l" + "r" * (len(heading) - 2) + "|p{4.5cm}",
        header=line(heading),
        rows=[line(row) for row in rows],
        caption=caption.translate(_TEX),
    )


def html(comparison: Comparison) -> str:
    """The whole page with embedded pictures.

    Raises:
        ExtraMissing: matplotlib or Jinja2 is not installed.
    """
    keys = _keys(comparison)
    main = "accuracy" if "accuracy" in keys else keys[0]
    drawn = {"scores": _draw_scores(comparison, main), "differences": _draw_differences(comparison, main)}
    values = _values(comparison)
    return pages.render(TEMPLATES / "comparison.html", "figures", **values, main=LABELS[main], drawn=drawn)


def _draw_scores(comparison: Comparison, main: str) -> str:
    """The main figure of each method as a picture."""
    from mien.figures import forest_plot, palette

    shown = [row for row in comparison.rows if main in row.figures]
    drawn = forest_plot.draw(
        [row.name for row in shown],
        [row.figures[main].mean for row in shown],
        LABELS[main],
        each=[row.figures[main].each for row in shown],
        scale=100.0 if _percent(main) else 1.0,
    )
    described = "; ".join(f"{row.name} {spread(row.figures[main].mean, _percent(main))}" for row in shown)
    return palette.markup(
        drawn, "scores", f"{NAMES.get(main, LABELS[main])} with 95 % intervals: {described}."
    )


def _draw_differences(comparison: Comparison, main: str) -> str:
    """The differences to the reference as a picture; "" if there is only one method."""
    from mien.figures import forest_plot, palette

    pairs = [pair for pair in comparison.pairs if main in pair.differences]
    if not pairs:
        return ""
    drawn = forest_plot.draw(
        [pair.name for pair in pairs],
        [pair.differences[main] for pair in pairs],
        f"{LABELS[main]}: difference to {pairs[0].reference}",
        rule=0.0,
        scale=100.0 if _percent(main) else 1.0,
    )
    described = "; ".join(
        f"{pair.name} {_interval(pair.differences[main], _percent(main))}" for pair in pairs
    )
    return palette.markup(drawn, "differences", f"Differences with 95 % intervals: {described}.")


FORMS: Final = ("json", "md", "tex", "html")
"""Suffixes of the files of a comparison."""

FILES: Final = tuple(f"comparison.{form}" for form in FORMS)


def write(comparison: Comparison, folder: Path | str) -> Path:
    """Write comparison.json, .md, .tex and .html; returns the page's path."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "json": comparison.to_json(indent=1) + "\n",
        "md": markdown(comparison),
        "tex": latex(comparison),
        "html": html(comparison),
    }
    atomic.write({folder / f"comparison.{form}": text.encode() for form, text in texts.items()})
    return folder / "comparison.html"
