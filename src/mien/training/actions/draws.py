"""Training batches for the network of actions: faces shifted, relit, blurred and mirrored, with their actions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.actions import MIRROR
from mien.faces.action_reader import SIZE
from mien.landmarks import MIRROR as MIRRORED_POINTS
from mien.training.actions.faces import STORED, ActionFaces
from mien.training.actions.network import GLANCE
from mien.training.actions.teacher import TAUGHT
from mien.training.landmarks.crops import as_jpeg

Floats = NDArray[Any]  # float32 or float64
Pixels = NDArray[Any]  # uint8


_NOISE = 0.003
"""Standard deviation of the noise on the points, in sides of the crop."""


class ActionCrops(NamedTuple):
    """A batch.

    Attributes:
        crops: uint8 [n, 1, 80, 80] luma.
        points: float32 [n, P, 2] in unit coordinates of the crop.
        taught: float32 [n, 54], the teachers' answers: 52 actions, NaN for renderings and for actions that the teacher
            does not see, and the gaze in units of `mien.training.actions.network.GLANCE`.
        exact: float32 [n, 54], the exact values of renderings likewise, NaN for photographs.
        places: float32 [n, P, 2], the exact points of renderings, NaN for photographs.
    """

    crops: Tensor
    points: Tensor
    taught: Tensor
    exact: Tensor
    places: Tensor


class ActionDraws(torch.utils.data.IterableDataset[ActionCrops]):
    """Endless augmented batches; each depends only on the seed and its step.

    Args:
        photographs: faces with the teacher's answers.
        renderings: faces with exact values; either may have none.
        batch: faces per batch.
        share: the share of renderings in a batch.
        seed: the seed of everything random.
        step: the step of the first batch.
    """

    def __init__(
        self,
        photographs: ActionFaces,
        renderings: ActionFaces,
        batch: int,
        share: float,
        seed: int,
        step: int = 0,
    ) -> None:
        self.photographs, self.renderings, self.batch = photographs, renderings, batch
        self.share = share if len(photographs) and len(renderings) else float(len(renderings) > 0)
        self._seed, self._step = seed, step

    def __iter__(self) -> Iterator[ActionCrops]:
        cv2.setNumThreads(1)
        for step in count(self._step):
            random = np.random.default_rng((self._seed, step))
            rows = [self._face(random) for _ in range(self.batch)]
            crops, *others = (torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True))
            yield ActionCrops(crops[:, None], *others)

    def _face(self, random: np.random.Generator) -> tuple[Pixels, Floats, Floats, Floats, Floats]:
        rendered = random.random() < self.share
        faces = self.renderings if rendered else self.photographs
        number = int(random.integers(len(faces)))
        actions, gaze = faces.actions[number], faces.gaze[number] / GLANCE
        both = np.stack([faces.points[number], faces.places[number]])
        crop, both = moved(faces.crops[number], both, random)
        if random.random() < 0.5:
            crop, both, actions = mirrored(crop, both, actions)
            gaze = gaze * [-1, 1]
        points, places = both
        points = points + random.normal(0, _NOISE, points.shape).astype(np.float32)
        taught = np.append(np.where(TAUGHT, actions, np.nan), gaze)
        exact = np.append(actions, gaze)
        nothing = np.full(len(exact), np.nan)
        known = (nothing, exact) if rendered else (taught, nothing)
        taught, exact = (part.astype(np.float32) for part in known)
        return spoilt(crop, random), points, taught, exact, places


def moved(crop: Pixels, points: Floats, random: np.random.Generator) -> tuple[Pixels, Floats]:
    """A stored crop with alignment noise: shifted by up to 3 %, scaled by up to 6 %, turned by up to 4 degrees, and
    points [..., 2] in it."""
    turn, scale = np.radians(random.uniform(-4, 4)), float(np.exp(random.uniform(-0.06, 0.06)))
    cosine, sine = scale * np.cos(turn), scale * np.sin(turn)
    linear = np.array([[cosine, -sine], [sine, cosine]])
    shift = 0.5 + random.uniform(-0.03, 0.03, 2) - linear @ [0.5, 0.5]
    # From stored pixels to unit coordinates, moved, to pixels of the network's input.
    unit = (0.5 - STORED / 2) / SIZE + 0.5
    warp = np.concatenate([linear, (SIZE * (linear @ [unit, unit] + shift) - 0.5)[:, None]], axis=1)
    image = cv2.warpAffine(crop, warp, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(image, np.uint8), (points @ linear.T + shift).astype(np.float32)


def middle(crops: Pixels) -> Pixels:
    """The aligned crops [n, 80, 80] inside stored ones, unmoved."""
    edge = (STORED - SIZE) // 2
    return np.ascontiguousarray(crops[:, edge : edge + SIZE, edge : edge + SIZE])


def mirrored(crop: Pixels, points: Floats, actions: Floats) -> tuple[Pixels, Floats, Floats]:
    """The mirror image, with points [..., P, 2] in unit coordinates and its actions."""
    there = (points * [-1, 1] + [1, 0])[..., MIRRORED_POINTS, :]
    return crop[:, ::-1], there.astype(np.float32), actions[MIRROR]


def spoilt(crop: Pixels, random: np.random.Generator) -> Pixels:
    """A crop with other lighting, and degraded as by poor cameras and codecs."""
    if random.random() < 0.4:
        small = int(np.exp(random.uniform(np.log(24), np.log(64))))
        crop = cv2.resize(
            cv2.resize(np.ascontiguousarray(crop), (small, small), interpolation=cv2.INTER_AREA), (SIZE, SIZE)
        )
    if random.random() < 0.2:
        crop = cv2.GaussianBlur(np.ascontiguousarray(crop), (0, 0), float(random.uniform(0.5, 1.5)))
    contrast, light = float(np.exp(random.normal(0, 0.3))), float(random.normal(0, 25))
    image: Floats = (crop.astype(np.float32) - crop.mean()) * np.float32(contrast)
    image += np.float32(crop.mean() + light)
    if random.random() < 0.3:  # light from one side
        ramp = np.linspace(-1, 1, SIZE, dtype=np.float32) * np.float32(random.normal(0, 30))
        image += ramp[None] if random.random() < 0.5 else ramp[:, None]
    if random.random() < 0.4:
        image += random.standard_normal((SIZE, SIZE), np.float32) * np.float32(random.uniform(0, 10))
    crop = np.clip(image, 0, 255).astype(np.uint8)
    if random.random() < 0.2:
        crop = as_jpeg(crop, int(random.integers(20, 90)))
    return crop
