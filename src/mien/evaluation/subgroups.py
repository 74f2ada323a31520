"""Groups of images that are evaluated separately: by the words of an attribute, or by a number cut at its quartiles."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALLEST_GROUP = 20
"""Groups with fewer labelled images are listed but not scored: their intervals would span most of the scale."""

UNITS: dict[str, str] = {"brightness": "of 255", "yaw": "degrees", "size": "pixels"}
"""Units of the numbers of an attribute, if known."""

FEW = 6
"""Numbers with at most this many different values are used as groups, not cut."""

UNKNOWN = "unknown"


def grouped(values: NDArray[Any], unit: str = "") -> dict[str, NDArray[np.bool_]]:
    """Masks by group name: words as they are, numbers cut at their quartiles; unknown (None, NaN) is last."""
    if values.dtype.kind in "fiu" and len(np.unique(values[np.isfinite(values)])) > FEW:
        finite = np.isfinite(values)
        edges = np.unique(np.quantile(values[finite], [0, 0.25, 0.5, 0.75, 1]))
        place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
        names = _ranges(edges, unit)
        groups = {name: finite & (place == i) for i, name in enumerate(names)}
        return {**groups, UNKNOWN: ~finite} if (~finite).any() else groups
    words = np.array([_word(value, unit) for value in values.tolist()])
    order = sorted(set(words.tolist()), key=lambda word: (word == UNKNOWN, _natural(word)))
    return {word: words == word for word in order}


def _natural(word: str) -> list[tuple[int, str]]:
    """A sorting key that compares digits as numbers: "4-19" comes before "20-39"."""
    parts = re.split(r"(\d+)", word)
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts]


def _ranges(edges: NDArray[np.float64], unit: str) -> list[str]:
    """ "low to high unit" for neighbouring edges: three digits of their span, more if two would otherwise be equal."""
    digits = max(0, 2 - math.floor(math.log10(edges[-1] - edges[0])))
    while True:
        names = [f"{low:.{digits}f} to {high:.{digits}f} {unit}".strip() for low, high in pairwise(edges)]
        if len(set(names)) == len(names):
            return names
        digits += 1


def _word(value: Any, unit: str) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return UNKNOWN
    return f"{value:g} {unit}".strip() if isinstance(value, int | float) else str(value)
