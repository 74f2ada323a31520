"""The confusion matrix as a picture: rows are the true classes and sum to 100 %, the diagonal is correct."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mien.figures import palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike


NUMBERED = 24
"""Largest number of classes for which every cell shows its numbers."""

WIDEST = 14.0
"""Side of the largest matrix in inches."""


def draw(matrix: ArrayLike, classes: Sequence[str], title: str = "") -> Figure:
    """Draw counts [k, k] or [k, k + 1] (last column "no face", shown if it is not empty).

    A cell's shade and upper number are the share of its true class in per cent, its lower number is the count. Rows of
    a class without images stay blank. With more than `NUMBERED` classes, cells are smaller and only shaded, and the
    figure is at most `WIDEST` inches wide.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    names = palette.readable(classes)
    columns = list(names)
    if counts.shape[1] > len(classes):
        if counts[:, -1].any():
            columns.append("no face")
        counts = counts[:, : len(columns)]
    total = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
    numbered = len(classes) <= NUMBERED
    cell = 0.62 if numbered else min(0.2, WIDEST / len(classes))
    side = cell * len(classes)
    figure, (axis,) = palette.canvas(side + 1.5 + cell * (len(columns) - len(classes)), side + 1.0)
    axis.imshow(shares, cmap=palette.DENSITY, vmin=0, vmax=1, aspect="equal")
    for row in range(len(classes) if numbered else 0):
        for column in range(len(columns)):
            if not total[row]:
                continue
            share, count = shares[row, column], counts[row, column]
            # Above 55 % the map is so dark that white text has more contrast.
            tint = "white" if share > 0.55 else "#1A1A1A"
            text = f"{100 * share:.0f}" if count == 0 or share >= 0.005 else "<1"
            weight = "bold" if row == column else "normal"
            axis.text(
                column, row - 0.12, text, ha="center", va="center", color=tint, fontsize=9, fontweight=weight
            )
            axis.text(
                column, row + 0.25, f"{count}", ha="center", va="center", color=tint, fontsize=6, alpha=0.8
            )
    axis.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(classes)), names)
    if not numbered:
        # Letters as high as a cell, in points; beyond that the table names the classes.
        axis.tick_params(labelsize=max(2.0, min(8.0, 0.8 * 72 * cell)))
        axis.tick_params(axis="x", labelrotation=90)
        for label in axis.get_xticklabels():
            label.set(ha="center", rotation_mode="default", va="top")
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.tick_params(length=0)
    axis.set_title(title, fontsize=9.5)
    return figure
