"""Which cells answer for which face, and that a right answer costs nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mien.faces.detector_network import CHANNELS, STRIDES
from mien.training.detector.losses import answers, assign, losses, overlaps
from mien.training.detector.scenes import MOST, SceneBatch

SIDE = 128
BOXES = [(20.0, 24.0, 44.0, 56.0), (60.0, 30.0, 120.0, 110.0)]


def batch_of(boxes: list[tuple[float, ...]], ignored: list[tuple[float, ...]] | None = None) -> SceneBatch:
    """One scene: each face is turned by a quarter more than the one before, its points lie on its box's middle line."""
    box = torch.full((1, MOST, 4), math.nan)
    points, turns = torch.full((1, MOST, 5, 2), math.nan), torch.full((1, MOST), -1)
    dull = torch.full((1, MOST, 4), math.nan)
    for number, one in enumerate(boxes):
        box[0, number] = torch.tensor(one)
        centre = torch.tensor([(one[0] + one[2]) / 2, (one[1] + one[3]) / 2])
        points[0, number] = centre + torch.arange(5)[:, None]
        turns[0, number] = number % 4
    for number, one in enumerate(ignored or []):
        dull[0, number] = torch.tensor(one)
    return SceneBatch(torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8), box, points, turns, dull)


def right_maps(batch: SceneBatch, score: float = 9.0) -> list[torch.Tensor]:
    """Maps that answer for the nearest face at every cell inside it, and for none elsewhere."""
    maps = []
    for stride in STRIDES:
        side = SIDE // stride
        values = torch.zeros(1, CHANNELS, side, side)
        values[:, 0] = -12
        for row in range(side):
            for column in range(side):
                centre = torch.tensor([(column + 0.5) * stride, (row + 0.5) * stride])
                for number, box in enumerate(batch.boxes[0]):
                    if torch.isfinite(box).all() and (centre > box[:2]).all() and (centre < box[2:]).all():
                        cell = values[0, :, row, column]
                        cell[0] = score
                        cell[1:5] = (torch.cat([centre - box[:2], box[2:] - centre]) / stride).log()
                        cell[5:15] = ((batch.points[0, number] - centre) / stride).flatten()
                        cell[15 + int(batch.turns[0, number])] = 20
        maps.append(values)
    return maps


def test_overlaps_are_those_of_geometry() -> None:
    first = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 1, 1]])
    second = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2], [3, 0, 4, 1]])
    share, generalised = overlaps(first, second)
    assert share.tolist() == pytest.approx([1, 1 / 3, 0])
    assert generalised.tolist() == pytest.approx([1, 1 / 3, -0.5])


def test_answers_are_decoded_as_the_detector_decodes_them() -> None:
    from mien.faces.detector_network import decode

    batch = batch_of(BOXES)
    maps = right_maps(batch)
    given = answers(maps)
    best = given.scores[0] > 0
    found = decode([one[0].numpy() for one in maps], 0.5)
    assert sorted(map(tuple, np.round(found.boxes, 3).tolist())) == sorted(BOXES)
    assert {tuple(box) for box in given.boxes[0][best].round(decimals=3).tolist()} == set(BOXES)
    assert np.abs(found.points - batch.points[0, :2].numpy()).max() < 1e-3 or len(found.points) == 2


def test_a_cell_answers_for_the_face_it_lies_in_and_each_face_has_one() -> None:
    batch = batch_of([*BOXES, (100.0, 4.0, 112.0, 20.0)])
    given = answers([torch.zeros(1, CHANNELS, SIDE // stride, SIDE // stride) for stride in STRIDES])
    owner = assign(given, batch.boxes)[0]
    assert set(owner.tolist()) == {-1, 0, 1, 2}
    for cell in (owner >= 0).nonzero()[:, 0].tolist():
        box, centre = batch.boxes[0, owner[cell]], given.centres[cell]
        assert (centre > box[:2]).all()
        assert (centre < box[2:]).all()


def test_better_answers_are_chosen_and_more_of_them() -> None:
    batch = batch_of(BOXES[1:])
    poor = [torch.zeros(1, CHANNELS, SIDE // stride, SIDE // stride) for stride in STRIDES]
    few, many = ((assign(answers(maps), batch.boxes) >= 0).sum() for maps in (poor, right_maps(batch)))
    assert 1 <= few < many <= 10


def confident_maps(batch: SceneBatch) -> list[torch.Tensor]:
    """`right_maps`, sure of the cells that are chosen to answer and of no other."""
    maps = right_maps(batch)
    chosen = assign(answers(maps), batch.boxes) >= 0
    start = 0
    for values in maps:
        count = values[0, 0].numel()
        values[:, 0] = torch.where(chosen[:, start : start + count].view_as(values[:, 0]), 12.0, -12.0)
        start += count
    return maps


def test_right_answers_cost_nothing_and_wrong_ones_much() -> None:
    batch = batch_of(BOXES)
    right = losses(confident_maps(batch), batch)
    assert {name: float(value) for name, value in right.items()} == pytest.approx(
        {"score": 0, "box": 0, "points": 0, "roll": 0}, abs=1e-3
    )
    for channels in (slice(0, 1), slice(1, 5), slice(5, 15), slice(15, 19)):
        maps = confident_maps(batch)
        for values in maps:
            values[:, channels] = values[:, channels].flip(1) + 1 if channels.start else -values[:, channels]
        assert sum(losses(maps, batch).values()) > 0.05


def test_unknown_points_and_turns_and_ignored_places_teach_nothing() -> None:
    batch = batch_of(BOXES[:1], ignored=[(64.0, 64.0, 128.0, 128.0)])
    batch = batch._replace(
        points=torch.full_like(batch.points, math.nan), turns=torch.full_like(batch.turns, -1)
    )
    maps = [values.requires_grad_() for values in right_maps(batch_of(BOXES[:1]), 0.0)]
    terms = losses(maps, batch)
    assert terms["points"].item() == terms["roll"].item() == 0
    sum(terms.values()).backward()
    for stride, values in zip(STRIDES, maps, strict=True):
        gradient, half = values.grad, SIDE // 2 // stride
        assert gradient is not None
        assert not gradient[:, :, half:, half:].any()
        assert gradient[:, 0, :half, :half].any()


def test_a_scene_without_faces_has_finite_losses() -> None:
    maps = [torch.zeros(1, CHANNELS, SIDE // stride, SIDE // stride) for stride in STRIDES]
    terms = losses(maps, batch_of([]))
    assert float(terms["score"]) > 1
    assert float(terms["box"]) == float(terms["points"]) == float(terms["roll"]) == 0
