"""The reproduction ledger: figures of the paper, of the authors' code and of ours, and why they differ.

Published figures are in `mien/evaluation/published/<method>.yaml`, each with its source. Ours come from the runs that
are compared. A published figure is never shown as directly comparable with ours: its pretraining, its input and the
selection of its epoch are shown beside it.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Literal

import yaml
from pydantic import ValidationError

from mien.config import Frozen
from mien.data.predictions import RunInfo
from mien.errors import ConfigError
from mien.evaluation.intervals import Interval


class Entry(Frozen):
    """One figure of a paper.

    Attributes:
        dataset: a reader's name (see `mien.data.readers.READERS`), or the paper's name of a set without a reader.
        metric: "accuracy" in per cent, or "ccc_valence", "ccc_arousal" and similar ones on their own scale.
        paper: the published value; None if no text with the number could be read.
        code: the value that others measured with the authors' released code or weights; None if not reported.
        setting: backbone and size of the model.
        source: the source of `paper`.
        code_source: the source of `code`.
    """

    dataset: str
    metric: str = "accuracy"
    classes: int | None = None
    paper: float | None = None
    code: float | None = None
    setting: str = ""
    source: str = ""
    code_source: str = ""


class Paper(Frozen):
    """One method as published.

    Attributes:
        method: a key of `mien.methods.METHODS`, or the name of a peer.
        kind: "seed" for a paper that is implemented here, "peer" for another system.
        pretraining, input, selection: the conditions of the published numbers.
        why: the reasons why ours differ, in sentences.
        reconstruction: True if the paper's text could not be read, so that parts of the method are ours.
    """

    method: str
    kind: Literal["seed", "peer"] = "seed"
    title: str
    venue: str
    doi: str = ""
    code: str = ""
    pretraining: str
    input: str
    selection: str
    why: tuple[str, ...]
    reconstruction: bool = False
    entries: tuple[Entry, ...] = ()


@cache
def papers() -> tuple[Paper, ...]:
    """Every ledger file, seeds before peers, by method.

    Raises:
        ConfigError: a file is wrong.
    """
    found = []
    folder = resources.files("mien") / "evaluation" / "published"
    for path in sorted(folder.iterdir(), key=lambda one: one.name):
        if path.name.endswith(".yaml"):
            try:
                found.append(Paper(**yaml.safe_load(path.read_text(encoding="utf-8"))))
            except (ValidationError, TypeError) as problem:
                raise ConfigError(
                    f"evaluation/published/{path.name}: {str(problem).splitlines()[0]}"
                ) from None
    return tuple(sorted(found, key=lambda paper: (paper.kind != "seed", paper.method)))


def figures(method: str, dataset: str, metric: str = "accuracy") -> list[tuple[Paper, Entry]]:
    """The published entries of a method on a dataset."""
    return [
        (paper, entry)
        for paper in papers()
        for entry in paper.entries
        if (paper.method, entry.dataset, entry.metric) == (method, dataset, metric)
    ]


class Line(Frozen):
    """One line of the ledger, as text."""

    method: str
    dataset: str
    metric: str
    paper: str
    code: str
    ours: str
    rests_on: str
    ours_rests_on: str
    why: str
    source: str


Ours = dict[tuple[str, str, str], tuple[Interval, RunInfo]]
"""Our figures by (method, dataset, metric)."""


def lines(ours: Ours, kind: Literal["seed", "peer"] | None = None) -> list[Line]:
    """The ledger of all papers; `ours` fills the lines of its methods, datasets and metrics.

    Our figures on sets for which a paper reports nothing get separate lines.
    """
    made: list[Line] = []
    used: set[tuple[str, str, str]] = set()
    for paper in papers():
        if kind is not None and paper.kind != kind:
            continue
        for entry in paper.entries:
            key = (paper.method, entry.dataset, entry.metric)
            used.add(key)
            made.append(_line(paper, entry, ours.get(key)))
        if not paper.entries and not any(key[0] == paper.method for key in ours):
            made.append(_line(paper, Entry(dataset="–", metric="–"), None))
        for key, found in ours.items():
            if key[0] == paper.method and key not in used:
                made.append(_line(paper, Entry(dataset=key[1], metric=key[2]), found))
    return made


def _line(paper: Paper, entry: Entry, found: tuple[Interval, RunInfo] | None) -> Line:
    shape = f" ({entry.classes} classes)" if entry.classes else ""
    name = f"{paper.method}, {entry.setting}" if entry.setting else paper.method
    rests = "; ".join(dict.fromkeys((paper.pretraining, paper.input, paper.selection)))
    own = ""
    if found is not None:
        what = found[1]
        parts = [
            f"initialised from {what.pretraining}" if what.pretraining else "",
            f"{what.size} px" if what.size else "",
        ]
        own = "; ".join(part for part in (*parts, what.selection) if part)
    return Line(
        method=name,
        dataset=entry.dataset + shape,
        metric=entry.metric.replace("_", " "),
        paper=_text(entry.paper),
        code=_text(entry.code),
        ours=_ours(found, entry.metric),
        rests_on=rests if entry.paper is not None or entry.code is not None else "no number could be read",
        ours_rests_on=own or "–",
        why=" ".join(paper.why),
        source="; ".join(part for part in (entry.source, entry.code_source) if part) or "–",
    )


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _ours(found: tuple[Interval, RunInfo] | None, metric: str) -> str:
    if found is None:
        return "not run"
    value, _ = found
    scale, digits = (100, 1) if metric == "accuracy" else (1, 3)
    return f"{value.value * scale:.{digits}f} ({value.low * scale:.{digits}f} to {value.high * scale:.{digits}f})"
