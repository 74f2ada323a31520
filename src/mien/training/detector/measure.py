"""Recall, precision and quarter turns of a detector on composed scenes of people and photographs held out.

Tests: tests/training/detector/test_measure.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.faces.detector_network import NetworkFaces
from mien.training.detector.scenes import MOST, Composer, Truth
from mien.training.detector.sources import Background

Floats = NDArray[Any]  # float32 or float64
Pixels = NDArray[Any]  # uint8

OVERLAP: Final = 0.5
"""Intersection over union from which an answer is a face's."""

DOUBT: Final = 0.2
"""Score from which an answer on a photograph without a face is a false alarm to learn from."""

SIDES: Final = (192, 384, 640)
"""Longest sides at which false alarms are looked for."""

SCORE: Final = 0.5
"""Score from which answers count for recall and precision."""


def scenes(composer: Composer, number: int) -> list[tuple[Pixels, Truth]]:
    """Scenes that are the same each time."""
    random = np.random.default_rng(20_231)
    return [composer(random) for _ in range(number)]


def figures(
    find: Callable[[Pixels], NetworkFaces], shown: Sequence[tuple[Pixels, Truth]]
) -> dict[str, float]:
    """`recall` and `precision` at `SCORE`, `average_precision` over all scores, `turns`: the share of found faces with
    the right quarter turn, `points`: the mean distance of the five points in per cent of the box's mean side.

    Answers that lie on ignored places do not count.
    """
    scores, hits, right, off = [], [], [], []
    faces = 0
    for image, truth in shown:
        found = find(image)
        faces += len(truth.boxes)
        matched = match(found.boxes, truth.boxes)
        for row, face in enumerate(matched):
            if face < 0 and len(truth.ignored) and _covered(found.boxes[row], truth.ignored).max() > 0.5:
                continue
            scores.append(float(found.scores[row]))
            hits.append(face >= 0)
            if face < 0 or found.scores[row] < SCORE:
                continue
            if truth.turns[face] >= 0:
                right.append(found.rolls[row] == 90 * truth.turns[face])
            side = (truth.boxes[face, 2:] - truth.boxes[face, :2]).mean()
            off.append(np.linalg.norm(found.points[row] - truth.points[face], axis=1).mean() / side)
    order = np.argsort(-np.array(scores), kind="stable")
    hit, above = np.array(hits, bool)[order], np.array(scores)[order] >= SCORE
    true = np.cumsum(hit)
    precision = true / np.arange(1, len(true) + 1)
    # The area under the curve of precision over recall, precision made to fall (as PASCAL VOC 2010 has it).
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return {
        "recall": float(hit[above].sum() / max(faces, 1)),
        "precision": float(hit[above].mean()) if above.any() else 1.0,
        "average_precision": float(falling[hit].sum() / max(faces, 1)),
        "turns": float(np.mean(right)) if right else float("nan"),
        "points": 100 * float(np.mean(off)) if off else float("nan"),
    }


def alarms(find: Callable[[Pixels], NetworkFaces], backgrounds: Sequence[Background]) -> list[list[float]]:
    """The places of photographs without a face that a detector takes for one with a score of `DOUBT` or more, searched
    at the sizes at which `mien.faces.detect` searches: lists of (number of the photograph, left, top, right, bottom).
    """
    found = []
    for number, background in enumerate(backgrounds):
        height, width = background.image.shape[:2]
        for side in SIDES:
            scale = side / max(height, width)
            size = max(1, round(width * scale)), max(1, round(height * scale))
            faces = find(
                np.asarray(cv2.resize(background.image, size, interpolation=cv2.INTER_AREA), np.uint8)
            )
            boxes = faces.boxes[faces.scores >= DOUBT][:MOST] / scale
            found += [[float(number), *box] for box in boxes.tolist()]
    return found


def match(found: Floats, known: Floats) -> list[int]:
    """For each box of `found` [n, 4], best first, the number of the free box of `known` [m, 4] that it overlaps most,
    if by `OVERLAP` or more; else -1."""
    free = np.ones(len(known), bool)
    taken = []
    for box in found:
        low, high = np.maximum(known[:, :2], box[:2]), np.minimum(known[:, 2:], box[2:])
        common = np.clip(high - low, 0, None).prod(axis=1)
        union = (known[:, 2:] - known[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod() - common
        share = np.where(free, common / union, 0.0)
        best = int(share.argmax()) if len(share) else -1
        if best >= 0 and share[best] >= OVERLAP:
            free[best] = False
            taken.append(best)
        else:
            taken.append(-1)
    return taken


def _covered(box: Floats, places: Floats) -> Floats:
    """The share of a box [4] that lies in each of the places [m, 4]."""
    common = np.clip(np.minimum(places[:, 2:], box[2:]) - np.maximum(places[:, :2], box[:2]), 0, None).prod(
        axis=1
    )
    return np.asarray(common / max(float((box[2:] - box[:2]).prod()), 1e-6))
