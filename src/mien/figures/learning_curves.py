"""Curves over training: losses and validation metrics by epoch, and the learning intensity of each layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mien.colours import SERIES
from mien.figures import palette
from mien.io import pages
from mien.training.run_log import without_seed

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(
    rows: Sequence[Mapping[str, Any]],
    panels: Sequence[Sequence[str]],
    x: str = "epoch",
    best: float | None = None,
    titles: Sequence[str] = (),
) -> Figure:
    """Draw learning curves from metric rows (one mapping per epoch), one panel for each group of keys.

    Keys that no row has are left out, and so are panels without keys. `best` marks the epoch of the kept weights,
    `titles` say what each panel shows.
    """
    from matplotlib.ticker import MaxNLocator

    present = [[key for key in keys if any(_number(row.get(key)) for row in rows)] for keys in panels]
    headings = [title for title, keys in zip(titles, present, strict=False) if keys]
    present = [keys for keys in present if keys] or [[]]
    figure, axes = palette.canvas(3.4 * len(present) + 0.4, 3.0, 1, len(present))
    for axis, keys in zip(axes, present, strict=True):
        for index, key in enumerate(keys):
            points = [(row[x], row[key]) for row in rows if _number(row.get(key)) and _number(row.get(x))]
            marker = "o" if len(points) <= 20 else None
            across, up = zip(*points, strict=True) if points else ((), ())
            axis.plot(
                across,
                up,
                linewidth=1.6,
                marker=marker,
                markersize=3,
                label=_plain(key),
                **palette.series(index),
            )
        if best is not None:
            axis.axvline(best, color=pages.FAINT, linewidth=1, linestyle=(0, (4, 3)), label="weights kept")
        axis.set_xlabel(x)
        axis.margins(y=0.12)
        axis.grid(color=pages.FAINT, alpha=0.25, linewidth=0.6)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if keys or best is not None:
            palette.legend(axis, loc="best")
    for axis, heading in zip(axes, headings, strict=False):
        axis.set_title(heading, fontsize=9.5)
    return figure


def _plain(key: str) -> str:
    """The name of a metric in words: "train_expression" is "expression", "ccc_valence" is "valence"."""
    return key.removeprefix("train_").removeprefix("ccc_").replace("_", " ")


def learning(events: Sequence[Mapping[str, Any]], path: Path | str) -> None:
    """Write a run's learning curves as one PNG: training terms, validation scores, and affect if there are labels.

    `events` are the lines of a run's `metrics.jsonl`; epochs count from 0.
    """
    figure = of_run(events)
    palette.save(figure, Path(path).with_suffix(""), forms=("png",))


def of_run(events: Sequence[Mapping[str, Any]], kept: int | None = None) -> Figure:
    """The learning curves of a run's events, with the panels of `learning`; epochs count from 1.

    `kept` is the epoch of the kept weights, from 0.
    """
    rows = [{**event, "epoch": event["epoch"] + 1} for event in events if event.get("kind") == "epoch"]
    terms = sorted({key for row in rows for key in row if key.startswith("train_")})
    panels = [terms, ["accuracy", "macro_accuracy"], ["cross_entropy"], ["ccc_valence", "ccc_arousal"]]
    titles = (
        "training losses",
        "accuracy on validation",
        "loss on validation",
        "agreement (CCC) on validation",
    )
    return draw(rows, panels, best=None if kept is None else kept + 1, titles=titles)


def several(runs: Mapping[str, Sequence[Mapping[str, Any]]], key: str = "accuracy") -> Figure:
    """One validation metric over the epochs of several runs; seeds of one name (`NAME-s0`, `NAME-s1`) have the same
    style.

    `runs` gives, for each run's folder name, the lines of its `metrics.jsonl`.
    """
    from matplotlib.ticker import MaxNLocator

    places: dict[str, int] = {}
    figure, (axis,) = palette.canvas(6.4, 3.4)
    for run, events in runs.items():
        name = without_seed(run)
        label = None if name in places else name
        place = places.setdefault(name, len(places))
        rows = [event for event in events if event.get("kind") == "epoch" and _number(event.get(key))]
        axis.plot(
            [row["epoch"] + 1 for row in rows], [row[key] for row in rows], marker="o", markersize=3,
            linewidth=1.4, label=label, **palette.series(place),
        )  # fmt: skip
    axis.set(xlabel="epoch", ylabel=f"{key.replace('_', ' ')} on validation")
    axis.grid(color=pages.FAINT, alpha=0.25, linewidth=0.6)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    palette.legend(axis, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=7)
    return figure


def learning_intensity(runs: Mapping[str, Sequence[Mapping[str, float]]], title: str = "") -> Figure:
    """Draw the gradient size of each layer, and its ratio to the deepest layer's over the epochs of each run.

    `runs` gives, for each run's name, one mapping per recorded epoch from layer name (shallow to deep) to
    g = E ||dL/dx||_2 / sqrt(numel(x)). Left: g by layer at the last epoch, one line for each run, logarithmic. Right:
    g of each layer but the deepest, divided by g of the deepest, over epochs (colour: layer; dashes: run).
    """
    figure, (left, right) = palette.canvas(8.6, 3.1, 1, 2)
    for index, (name, epochs) in enumerate(runs.items()):
        layers = list(epochs[-1])
        values = [epochs[-1][layer] for layer in layers]
        left.plot(
            layers, values, marker="o", markersize=4, linewidth=1.6, label=name, **palette.series(index)
        )
        for depth, layer in enumerate(layers[:-1]):
            share = [epoch[layer] / epoch[layers[-1]] if epoch[layers[-1]] else math.nan for epoch in epochs]
            right.plot(
                range(len(share)), share, linewidth=1.5, color=SERIES[depth % len(SERIES)],
                linestyle=palette.DASHES[index % len(palette.DASHES)], label=f"{layer}, {name}",
            )  # fmt: skip
    left.set_yscale("log")
    left.set(ylabel="learning intensity g", title=title)
    right.set(xlabel="recorded epoch", ylabel="g relative to the deepest layer")
    for axis in (left, right):
        axis.grid(color=pages.FAINT, alpha=0.25, linewidth=0.6)
    palette.legend(left, loc="best", fontsize=7)
    palette.legend(right, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=7)
    return figure


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
