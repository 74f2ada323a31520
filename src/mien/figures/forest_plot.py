"""A forest plot: values with their intervals as dots on lines, one line for each method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mien.colours import SERIES
from mien.figures import palette
from mien.io import pages

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mien.evaluation.intervals import Interval


def draw(
    names: Sequence[str],
    intervals: Sequence[Interval],
    label: str,
    *,
    each: Sequence[Sequence[float]] = (),
    rule: float | None = None,
    scale: float = 1.0,
) -> Figure:
    """Draw one dot and 95 % line for each name, the first on top.

    Args:
        names: the names of the methods.
        intervals: one for each; an undefined one stays empty.
        label: label of the axis.
        each: values of single seeds, drawn as small ticks.
        rule: position of the vertical reference line, such as 0 for differences.
        scale: multiplies every number (100 for per cent).
    """
    figure, (axis,) = palette.canvas(5.2, 0.75 + 0.42 * max(len(names), 1))
    if rule is not None:
        axis.axvline(rule * scale, color=pages.FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    for row, found in enumerate(intervals):
        axis.plot(
            [found.low * scale, found.high * scale],
            [row, row],
            color=SERIES[0],
            linewidth=2.2,
            zorder=2,
        )
        axis.plot(found.value * scale, row, "o", color=SERIES[0], markersize=6, zorder=3)
        if each:
            seeds = scale * np.asarray(each[row], dtype=np.float64)
            axis.plot(
                seeds,
                np.full(len(seeds), row + 0.24),
                "|",
                color=palette.INK,
                markersize=6,
                alpha=0.8,
                zorder=3,
            )
    axis.set_yticks(range(len(names)), list(names))
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlabel(label)
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color=pages.FAINT, alpha=0.25, linewidth=0.6)
    return figure
