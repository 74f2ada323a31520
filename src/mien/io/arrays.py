"""Arrays that ship as weights (.npz): read by their card, with the shapes that the code expects."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from mien.errors import WeightsError
from mien.io import cards

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray


def stored(weights: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an .npz file with a card, by name.

    Raises:
        WeightsError: the file is missing, damaged or does not match its card.
    """
    content, _ = cards.verified(weights)
    with np.load(BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def shaped(
    arrays: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], what: str, maker: str
) -> dict[str, NDArray[np.float64]]:
    """Those of `arrays` that `shapes` names, in double precision.

    Raises:
        WeightsError: one is missing or has another shape; the message calls them `what` and names the `maker`, the
            module that makes them again.
    """
    for name, shape in shapes.items():
        if name not in arrays or np.shape(arrays[name]) != shape:
            raise WeightsError(f"{what}: '{name}' is missing or not {shape}: make them again with {maker}")
    return {name: np.asarray(arrays[name], np.float64) for name in shapes}
