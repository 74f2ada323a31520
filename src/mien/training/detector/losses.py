"""Which cells answer for which face, and the losses of their answers.

*Given*: SimOTA (Ge et al. 2021, "YOLOX", arXiv 2107.08430), with which YuNet was trained too: each face takes the k
cells that answer it best by their present score and box, k being the sum of the ten best overlaps; the quality focal
loss (Li et al. 2020, arXiv 2006.04388); generalised intersection over union (Rezatofighi et al. 2019). *Chosen*, by us,
because training starts from weights that SimOTA made: the same assignment, with a preference for the stride at which a
face is four to eight cells high, so that its answers do not compete.

Tests: tests/training/detector/test_losses.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mien.faces.detector_network import STRIDES
from mien.training.detector.scenes import SceneBatch

_NEAR: Final = 2.5
"""Cells within so many strides of a face's centre, and inside its box, may answer for it."""

_BEST: Final = 10
_FIT: Final = 6.0
"""Height in cells of a face at the stride that fits it best."""
_FAR: Final = 1e6


class CellAnswers(NamedTuple):
    """The network's answers at all a cells of n scenes.

    Attributes:
        scores: logits [n, a].
        boxes: [n, a, 4], (left, top, right, bottom) in pixels.
        points: [n, a, 5, 2] in pixels.
        rolls: logits [n, a, 4].
        centres: of the cells [a, 2] in pixels.
        strides: of the cells [a].
    """

    scores: Tensor
    boxes: Tensor
    points: Tensor
    rolls: Tensor
    centres: Tensor
    strides: Tensor


def answers(maps: Sequence[Tensor]) -> CellAnswers:
    """The answers in the network's output maps [n, 19, h, w]."""
    cells, centres, strides = [], [], []
    for stride, values in zip(STRIDES, maps, strict=True):
        height, width = values.shape[2:]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centres.append((torch.stack([columns, rows], dim=-1).reshape(-1, 2) + 0.5) * stride)
        strides.append(torch.full((height * width,), float(stride)))
        cells.append(values.flatten(2).transpose(1, 2))
    values, where, scale = torch.cat(cells, dim=1).float(), torch.cat(centres), torch.cat(strides)
    distances = scale[:, None] * values[..., 1:5].clamp(max=6).exp()
    boxes = torch.cat([where - distances[..., :2], where + distances[..., 2:]], dim=-1)
    points = where[:, None] + scale[:, None, None] * values[..., 5:15].reshape(*values.shape[:2], 5, 2)
    return CellAnswers(values[..., 0], boxes, points, values[..., 15:], where, scale)


def overlaps(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union of boxes [..., 4], and the generalised one, both [...] by broadcasting."""
    common = _area(
        torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    )
    union = _area(first[..., :2], first[..., 2:]) + _area(second[..., :2], second[..., 2:]) - common
    around = _area(
        torch.minimum(first[..., :2], second[..., :2]), torch.maximum(first[..., 2:], second[..., 2:])
    )
    share = common / union.clamp(min=1e-6)
    return share, share - (around - union) / around.clamp(min=1e-6)


def _area(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp(min=0).prod(dim=-1)


@torch.no_grad()
def assign(given: CellAnswers, boxes: Tensor) -> Tensor:
    """For each cell [n, a] the number of the face of `boxes` [n, k, 4] it answers for, -1 for none."""
    known = torch.isfinite(boxes).all(dim=-1)
    target = torch.nan_to_num(boxes)
    share, _ = overlaps(target[:, :, None], given.boxes[:, None])
    centre, size = (target[..., :2] + target[..., 2:]) / 2, target[..., 2:] - target[..., :2]
    where = given.centres
    inside = ((where > target[:, :, None, :2]) & (where < target[:, :, None, 2:])).all(dim=-1)
    near = ((where - centre[:, :, None]).abs() < _NEAR * given.strides[:, None]).all(dim=-1)
    allowed = inside & near & known[..., None]
    fit = (size.amax(dim=-1).clamp(min=1)[..., None] / (_FIT * given.strides)).log2().abs()
    cost = (
        functional.softplus(-given.scores)[:, None]
        - 3 * share.clamp(min=1e-6).log()
        + (fit - 1).clamp(min=0)
        + _FAR * ~allowed
    )
    share = share * allowed
    several = share.topk(_BEST, dim=-1).values.sum(dim=-1).int().clamp(min=1)
    costs, order = cost.topk(_BEST, dim=-1, largest=False)
    taken = (torch.arange(_BEST) < several[..., None]) & (costs < _FAR / 2)
    chosen = torch.zeros_like(allowed).scatter(-1, order, taken)
    best = torch.where(chosen, cost, torch.full_like(cost, math.inf)).min(dim=1)
    return torch.where(torch.isfinite(best.values), best.indices, torch.full_like(best.indices, -1))


def losses(maps: Sequence[Tensor], batch: SceneBatch) -> dict[str, Tensor]:
    """The terms `score`, `box`, `points` and `roll`, each per face found, of the network's maps for a batch."""
    given = answers(maps)
    owner = assign(given, batch.boxes)
    row, cell = (owner >= 0).nonzero(as_tuple=True)
    face = owner[row, cell]
    count = max(len(row), 1)
    share, generalised = overlaps(given.boxes[row, cell], batch.boxes[row, face])
    # The score says how good the box is; the fourth root, since small faces never have exact boxes.
    quality = torch.zeros_like(given.scores)
    quality[row, cell] = share.detach().clamp(0, 1).pow(0.25)
    weight = (quality - given.scores.sigmoid()).abs().square().detach()
    weight = weight * ~(_within(given.centres, batch.ignored) & (owner < 0))
    score = functional.binary_cross_entropy_with_logits(given.scores, quality, weight, reduction="sum")
    box = batch.boxes[row, face]
    size = (box[:, 2:] - box[:, :2]).mean(dim=1)[:, None, None]
    marks = batch.points[row, face]
    off = (given.points[row, cell] - torch.nan_to_num(marks)) / size
    off = functional.smooth_l1_loss(off, torch.zeros_like(off), reduction="none", beta=0.05)
    points = (off * torch.isfinite(marks)).sum() / 10
    turns = functional.cross_entropy(
        given.rolls[row, cell], batch.turns[row, face], ignore_index=-1, reduction="sum"
    )
    return {
        "score": score / count,
        "box": (1 - generalised).sum() / count,
        "points": points / count,
        "roll": turns / count,
    }


def _within(centres: Tensor, boxes: Tensor) -> Tensor:
    """[n, a]: whether a cell's centre [a, 2] lies in one of the boxes [n, m, 4]; NaN boxes hold none."""
    inside = (centres > boxes[:, :, None, :2]) & (centres < boxes[:, :, None, 2:])
    return inside.all(dim=-1).any(dim=1)
