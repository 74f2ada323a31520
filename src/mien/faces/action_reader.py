"""Measure the 52 facial actions of `mien.actions`, the intensity of the expression, and where the eyes look, from the
aligned crop and the landmarks.

The network returns the mean over the crop and its mirror image, so a mirrored picture gives the mirrored answer. It
states the gaze of the face turned upright; here it is turned back into the camera's frame.
`mien train configs/actions.yaml` trains it; its card states how accurately each action is measured, and those that are
not measured have no value.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.actions import ACTIONS, LIDS, SHUT
from mien.errors import WeightsError
from mien.faces import align
from mien.io import cards
from mien.io.onnx import Network, ThreadedBatches
from mien.types import Gaze

SHIPPED: Final = cards.FOLDER / "actions.onnx"

SIZE: Final = 80
"""Side of the network's input, pixels."""

_BATCH: Final = 8
"""Faces per run of the network on one thread; the same as for the recogniser, which has feature maps of the same
size."""


class Movement(NamedTuple):
    """What a face does: `actions` by name in 0..1, `gaze`, and `intensity` in 0..1; None where not measured."""

    actions: dict[str, float | None]
    gaze: Gaze | None
    intensity: float | None


class ActionReader:
    """The network on ONNX Runtime. Make one with `load`; calling it is thread-safe."""

    def __init__(
        self,
        network: Any,
        measured: NDArray[np.bool_],
        threads: int | None = 1,
        strength: NDArray[np.float64] | None = None,
    ) -> None:
        """`network`: a `Network`, or anything with its `run`; `measured` [52]: mask of its outputs that are valid;
        `strength` [2, 52]: weight and value at rest of each action in the intensity (None: no intensity)."""
        self._network, self.measured, self._strength = network, measured, strength
        self._team = ThreadedBatches(threads, most=_BATCH)

    @classmethod
    def load(cls, path: Path | str | None = None, threads: int | None = None) -> ActionReader:
        """Open the shipped weights, or those at `path`, for `threads` threads (None: all this process may use).

        Raises:
            WeightsError: the weights or their card are missing or do not belong together, or the card does not say
                which actions are measured.
        """
        network, card = Network.open(Path(path or SHIPPED))
        if {entry.name for entry in network.get_outputs()} != {"actions", "gaze"}:
            raise WeightsError(
                f"{card.path}: the network does not answer actions and gaze: train the weights again"
            )
        stated = card.fields.get("actions")
        if not isinstance(stated, dict) or set(stated) != set(ACTIONS):
            raise WeightsError(
                f"{card.path}: 'actions' does not tell of each action: train the weights again"
            )
        measured = np.array([bool(stated[name]["measured"]) for name in ACTIONS])
        return cls(network, measured, threads, _strength(card))

    def __call__(
        self, crops: NDArray[np.uint8], points: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """The actions [n, 52] in 0..1 of aligned faces, NaN for those that are not measured; their gaze [n, 2] as
        (yaw, pitch) in degrees in the camera's frame, NaN where the eyes are shut; and the intensity [n] in 0..1, NaN
        where the card has no weights for it. n may be 0.

        Args:
            crops: uint8 luma [n, s, s] of any s, aligned by `mien.faces.align`.
            points: their landmarks [n, 112, 2] in pixels of the picture.
        """
        values, gaze = np.full((len(crops), len(ACTIONS)), np.nan), np.full((len(crops), 2), np.nan)
        if not len(crops):
            return values, gaze, np.empty(0)
        matrices = align.fit(align.face_anchors(points))
        unit = np.einsum("nij,npj->npi", matrices[:, :, :2], points) + matrices[:, None, :, 2]
        unit = unit.astype(np.float32)

        def read(rows: slice) -> None:
            values[rows], gaze[rows] = self._network.run(
                ["actions", "gaze"], {"crops": _sized(crops[rows]), "points": unit[rows]}
            )

        self._team.map(read, len(crops))
        gaze = upright(gaze, matrices, back=True)
        gaze[values[:, LIDS].mean(axis=1) > SHUT] = np.nan
        intensity = np.full(len(values), np.nan)
        if self._strength is not None:
            weights, rest = self._strength
            # Summed row by row: the rounding of a matrix product depends on the number of faces.
            intensity = -np.expm1(-(np.maximum(values - rest, 0) * weights).sum(axis=1))
        values[:, ~self.measured] = np.nan
        return values, gaze, intensity

    def named(self, crops: NDArray[np.uint8], points: NDArray[Any]) -> list[Movement]:
        """The same per face, with None for what is not measured."""
        return [
            Movement(
                {
                    name: None if math.isnan(value) else value
                    for name, value in zip(ACTIONS, row, strict=True)
                },
                None if math.isnan(yaw) else Gaze(yaw, pitch),
                None if math.isnan(strength) else strength,
            )
            for row, (yaw, pitch), strength in zip(
                *(part.tolist() for part in self(crops, points)), strict=True
            )
        ]


def _strength(card: cards.Card) -> NDArray[np.float64] | None:
    stated = card.fields.get("intensity")
    if stated is None:
        return None
    try:
        return np.array([[float(stated[key][name]) for name in ACTIONS] for key in ("weights", "rest")])
    except (KeyError, TypeError, ValueError) as problem:
        raise WeightsError(
            f"{card.path}: 'intensity' does not weigh each action ({problem}): train the weights again"
        ) from None


def upright(
    gaze: NDArray[np.floating[Any]], matrices: NDArray[np.floating[Any]], back: bool = False
) -> NDArray[np.float64]:
    """Gaze [n, 2] as (yaw, pitch) in degrees, turned in the picture's plane as the face is when it is aligned.

    Args:
        gaze: in the camera's frame; with `back`, of the face turned upright.
        matrices: [n, 2, 3] of `mien.faces.align`, from the picture to the upright square.
        back: turn from the upright face into the camera's frame.
    """
    yaw, pitch = np.radians(np.asarray(gaze, np.float64)).T
    cosine, sine = matrices[:, 0, 0], matrices[:, 1, 0] * (-1 if back else 1)
    size = np.hypot(cosine, sine)
    across, down = np.sin(yaw) * np.cos(pitch), -np.sin(pitch)  # x to the right, y down
    x, y = (cosine * across - sine * down) / size, (sine * across + cosine * down) / size
    ahead = np.cos(yaw) * np.cos(pitch)
    result: NDArray[np.float64] = np.degrees(
        np.stack([np.arctan2(x, ahead), np.arcsin(np.clip(-y, -1, 1))], axis=1)
    )
    return result


def _sized(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if crops.shape[1] == SIZE:
        return crops
    way = cv2.INTER_AREA if crops.shape[1] > SIZE else cv2.INTER_LINEAR
    return np.stack([cv2.resize(crop, (SIZE, SIZE), interpolation=way) for crop in crops]).astype(np.uint8)
