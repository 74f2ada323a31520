"""The reliability diagram, and the risk-coverage curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mien.colours import SERIES
from mien.figures import palette
from mien.io import pages

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter
    from numpy.typing import ArrayLike

    from mien.evaluation.metrics import ReliabilityBin


def draw(bins: Sequence[ReliabilityBin], error: float | None = None, title: str = "") -> Figure:
    """The reliability diagram: accuracy against mean confidence, with a bar for each bin.

    Bars below the diagonal are over-confident. The strip below shows the number of images in each bin.
    """
    figure, (axis, strip) = _tall()
    low = np.array([part.low for part in bins])
    width = np.array([part.high - part.low for part in bins])
    right = np.array([part.accuracy for part in bins])
    sure = np.array([part.confidence for part in bins])
    counts = np.array([part.count for part in bins])
    blue, red = SERIES[0], SERIES[1]
    axis.bar(
        low,
        right,
        width,
        align="edge",
        color=blue,
        alpha=0.85,
        edgecolor=palette.PAPER,
        linewidth=0.6,
        label="share right",
    )
    axis.bar(
        low, sure - right, width, bottom=right, align="edge", fill=False, edgecolor=red, hatch="////", linewidth=0,
        label="gap to mean confidence",
    )  # fmt: skip
    axis.plot([0, 1], [0, 1], color=pages.FAINT, linestyle=(0, (4, 3)), linewidth=1, label="perfect")
    axis.set(xlim=(0, 1), ylim=(0, 1), ylabel="share right")
    axis.tick_params(labelbottom=False)
    lines = [
        text for text in (title, "" if error is None else f"expected calibration error {error:.3f}") if text
    ]
    axis.set_title("\n".join(lines), pad=26, fontsize=9.5)
    palette.legend(
        axis, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, columnspacing=1.0, fontsize=7.5
    )
    strip.bar(
        low,
        counts / max(counts.sum(), 1),
        width,
        align="edge",
        color=pages.FAINT,
        edgecolor=palette.PAPER,
        linewidth=0.6,
    )
    strip.set(xlim=(0, 1), xlabel="confidence of the answer", ylabel="images")
    strip.yaxis.set_major_formatter(_percent())
    return figure


def risk_coverage(curves: Mapping[str, tuple[ArrayLike, ArrayLike]], title: str = "") -> Figure:
    """Error rate among the most confident share of images, one line for each name; each curve is (coverage, risk)."""
    from matplotlib.ticker import MaxNLocator

    figure, (axis,) = palette.canvas(4.2, 3.4)
    for index, (name, (coverage, risk)) in enumerate(curves.items()):
        axis.plot(np.asarray(coverage), np.asarray(risk), linewidth=1.6, label=name, **palette.series(index))
    axis.set(
        xlim=(0, 1),
        xlabel="share of images answered, surest first",
        ylabel="error rate among them",
        title=title,
    )
    axis.set_ylim(bottom=0)
    axis.xaxis.set_major_formatter(_percent())
    axis.yaxis.set_major_formatter(_percent())
    axis.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))  # integer percentages
    axis.grid(color=pages.FAINT, alpha=0.25, linewidth=0.6)
    if len(curves) > 1:
        palette.legend(axis, loc="upper left")
    return figure


def _tall() -> tuple[Figure, tuple[Axes, Axes]]:
    """A figure with a large panel above a strip."""
    figure, (axis,) = palette.canvas(4.2, 4.4)
    axis.remove()
    inner = figure.add_gridspec(2, 1, height_ratios=[4, 1])
    tall, strip = figure.add_subplot(inner[0]), figure.add_subplot(inner[1])
    palette.dress(tall)
    palette.dress(strip)
    return figure, (tall, strip)


def _percent() -> PercentFormatter:
    from matplotlib.ticker import PercentFormatter

    return PercentFormatter(1.0, decimals=0)
