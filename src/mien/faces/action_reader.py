"""Measure the 52 facial actions of `mien.actions` from the aligned crop and the landmarks.

The network returns the mean over the crop and its mirror image, so a mirrored picture gives the mirrored answer.
`mien train configs/actions.yaml` trains it; its card states how accurately each action is measured, and those that are
not measured have no value.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.actions import ACTIONS
from mien.errors import WeightsError
from mien.faces import align
from mien.io import cards
from mien.io.onnx import Network, ThreadedBatches

SHIPPED: Final = cards.FOLDER / "actions.onnx"

SIZE: Final = 80
"""Side of the network's input, pixels."""

_BATCH: Final = 8
"""Faces per run of the network on one thread; the same as for the recogniser, which has feature maps of the same
size."""


class ActionReader:
    """The network on ONNX Runtime. Make one with `load`; calling it is thread-safe."""

    def __init__(self, network: Any, measured: NDArray[np.bool_], threads: int | None = 1) -> None:
        """`network`: a `Network`, or anything with its `run`; `measured` [52]: mask of its outputs that are valid."""
        self._network, self.measured = network, measured
        self._team = ThreadedBatches(threads, most=_BATCH)

    @classmethod
    def load(cls, path: Path | str | None = None, threads: int | None = None) -> ActionReader:
        """Open the shipped weights, or those at `path`, for `threads` threads (None: all this process may use).

        Raises:
            WeightsError: the weights or their card are missing or do not belong together, or the card does not say
                which actions are measured.
        """
        network, card = Network.open(Path(path or SHIPPED))
        stated = card.fields.get("actions")
        if not isinstance(stated, dict) or set(stated) != set(ACTIONS):
            raise WeightsError(
                f"{card.path}: 'actions' does not tell of each action: train the weights again"
            )
        return cls(network, np.array([bool(stated[name]["measured"]) for name in ACTIONS]), threads)

    def __call__(self, crops: NDArray[np.uint8], points: NDArray[Any]) -> NDArray[np.float64]:
        """The actions [n, 52] in 0..1 of aligned faces, NaN for those that are not measured; n may be 0.

        Args:
            crops: uint8 luma [n, s, s] of any s, aligned by `mien.faces.align`.
            points: their landmarks [n, 112, 2] in pixels of the picture.
        """
        values = np.full((len(crops), len(ACTIONS)), np.nan)
        if not len(crops):
            return values
        matrices = align.fit(align.face_anchors(points))
        unit = np.einsum("nij,npj->npi", matrices[:, :, :2], points) + matrices[:, None, :, 2]
        unit = unit.astype(np.float32)

        def read(rows: slice) -> None:
            values[rows] = self._network.run(None, {"crops": _sized(crops[rows]), "points": unit[rows]})[0]

        self._team.map(read, len(crops))
        values[:, ~self.measured] = np.nan
        return values

    def named(self, crops: NDArray[np.uint8], points: NDArray[Any]) -> list[dict[str, float | None]]:
        """The same as one dictionary per face, with None for actions that are not measured."""
        rows = self(crops, points).tolist()
        return [
            {name: None if math.isnan(value) else value for name, value in zip(ACTIONS, row, strict=True)}
            for row in rows
        ]


def _sized(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if crops.shape[1] == SIZE:
        return crops
    way = cv2.INTER_AREA if crops.shape[1] > SIZE else cv2.INTER_LINEAR
    return np.stack([cv2.resize(crop, (SIZE, SIZE), interpolation=way) for crop in crops]).astype(np.uint8)
