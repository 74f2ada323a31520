"""Estimate how much of a face is visible in its crop: it may be covered, cut off, faded, or not a photograph of a face.

A recogniser answers for every crop, and is as certain that a masked face is neutral as for an uncovered one. This small
network estimates the visible share of the face, in [0, 1], from the same crops. It was fitted by
`scripts/fit_visibility.py` to photographs degraded on purpose; `docs/evaluation.md` states its accuracy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.io import cards
from mien.io.onnx import Network

SHIPPED: Final = cards.FOLDER / "visibility.onnx"

SIZE: Final = 48
"""Side of the network's input, pixels."""


class Visibility:
    """The network on ONNX Runtime. Make one with `load`; calling it is thread-safe."""

    def __init__(self, network: Any) -> None:
        """`network`: a `Network`, or anything with its `run`."""
        self._network = network

    @classmethod
    def load(cls, path: Path | str | None = None) -> Visibility:
        """Open the shipped weights, or those at `path`.

        Raises:
            WeightsError: the weights or their card are missing or do not belong together.
        """
        network, _ = Network.open(Path(path or SHIPPED))
        return cls(network)

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The visible share [n] in 0..1 of aligned faces, uint8 luma [n, s, s] of any s; n may be 0."""
        if not len(crops):
            return np.zeros(0)
        small = np.stack([cv2.resize(crop, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for crop in crops])
        return np.asarray(self._network.run(None, {"crops": small})[0], np.float64)
