"""Pictures in rows and columns with a line of text under each: faces with their labels, edits beside their sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mien.colours import SERIES
from mien.errors import MienError
from mien.figures import palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


def draw(
    images: Sequence[NDArray[Any]],
    captions: Sequence[str] = (),
    *,
    columns: int = 8,
    row_names: Sequence[str] = (),
    column_names: Sequence[str] = (),
    marks: Sequence[bool] = (),
    cell: float = 0.95,
    title: str = "",
) -> Figure:
    """Draw uint8 images ([h, w] grey or [h, w, 3] RGB) in reading order.

    Args:
        images: the pictures; any sizes.
        captions: a line under each, or none.
        columns: pictures per row.
        row_names, column_names: headings at the left and on top.
        marks: True draws a frame around the picture (the caption states it too, so colour is not the only cue).
        cell: side of a picture in inches.
        title: title of the figure.

    Raises:
        MienError: no image, or another number of captions.
    """
    if not len(images):
        raise MienError("a grid needs a picture: the selection is empty")
    for name, given in (("captions", captions), ("marks", marks)):
        if given and len(given) != len(images):
            raise MienError(f"{len(given)} {name} for {len(images)} pictures: pass one for each")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    below = 0.17 * (max(caption.count("\n") for caption in captions) + 1) if captions else 0.0
    figure, axes = palette.canvas(
        columns * cell + (0.9 if row_names else 0.15),
        rows * (cell + below) + (0.35 if title else 0.1),
        rows,
        columns,
    )
    for axis in axes:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for axis, image in zip(axes, images, strict=False):
        axis.imshow(np.asarray(image), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    for axis, caption in zip(axes, captions, strict=False):
        axis.set_xlabel(caption, fontsize=6.5, labelpad=2)
    for axis, marked in zip(axes, marks, strict=False):
        if marked:
            axis.spines[:].set(visible=True, color=SERIES[1], linewidth=2)
    for axis, name in zip(axes, column_names[:columns], strict=False):
        axis.set_title(name, fontsize=7.5)
    for axis, name in zip(axes[::columns], row_names, strict=False):
        axis.set_ylabel(name, fontsize=7.5, rotation=0, ha="right", va="center")
    if title:
        figure.suptitle(title, fontsize=9.5, color=palette.INK)
    return figure
