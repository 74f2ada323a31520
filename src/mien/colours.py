"""Colours of labels and lines, the same in every figure and on every page.

Tests: tests/test_labels.py and tests/figures/test_palette.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from colorsys import hls_to_rgb

from mien.labels import EXPRESSIONS

COLOURS: dict[str, str] = {
    "neutral": "#666666",
    "happiness": "#E69F00",
    "surprise": "#F0E442",
    "sadness": "#0072B2",
    "anger": "#D55E00",
    "disgust": "#009E73",
    "fear": "#CC79A7",
    "contempt": "#56B4E9",
}
"""A colour for each expression: Okabe-Ito, and grey for neutral."""

GOLDEN = 0.618034
"""Step on the colour circle between further labels, the golden ratio: the hues of any number of labels are well
apart."""

SERIES: tuple[str, ...] = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#CC79A7",
    "#56B4E9",
    "#666666",
    "#F0E442",
)
"""Colours of lines other than expressions (runs, layers), in order of use."""


def colour(name: str, labels: Iterable[str] = EXPRESSIONS) -> str:
    """The colour of a label among `labels`: from `COLOURS` if all are of the eight, else by its index."""
    if (known := COLOURS.get(name)) is not None and (labels is EXPRESSIONS or set(labels) <= COLOURS.keys()):
        return known
    place = list(labels).index(name)
    if place < len(SERIES):
        return SERIES[place]
    rgb = hls_to_rgb(place * GOLDEN % 1, (0.42, 0.58, 0.32)[place % 3], 0.65)
    return "#" + "".join(f"{round(255 * part):02X}" for part in rgb)
