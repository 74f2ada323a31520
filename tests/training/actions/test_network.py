"""The network of actions: a loss that leaves out what is unknown, and an export that is fair to both sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mien.actions import ACTIONS, MIRROR
from mien.faces.action_reader import SIZE
from mien.io.onnx import session
from mien.landmarks import MIRROR as MIRRORED_POINTS
from mien.landmarks import POINTS
from mien.training.actions.network import ActionNet, _at, action_loss, export, point_loss, spreads


def test_the_loss_counts_every_action_alike_and_only_what_is_known() -> None:
    target = torch.tensor([[0.0, 1.0], [0.2, torch.nan]])
    spread = torch.tensor([0.01, 1.0])
    said = torch.tensor([[0.1, 0.0], [0.2, 5.0]])
    assert torch.isclose(action_loss(said, target, spread), torch.tensor((1.0 + 1.0 + 0.0) / 3))
    assert action_loss(said, torch.full((2, 2), torch.nan), spread) == 0


def test_spreads_are_variances_of_what_is_known() -> None:
    values = torch.tensor([[0.0, torch.nan, 0.5], [1.0, 0.3, 0.5], [0.5, 0.7, 0.5]])
    assert torch.allclose(spreads(values), torch.tensor([1 / 6, 0.04, 0.004]))


def test_the_loss_of_points_is_their_mean_distance_in_pixels_where_they_are_known() -> None:
    target = torch.full((2, 3, 2), 0.5)
    target[1] = torch.nan
    said = torch.full((2, 3, 2), 0.5)
    assert point_loss(said, target) == 0
    said[:, :, 0] += 8 / SIZE
    assert torch.isclose(
        point_loss(said, target), torch.tensor(7.7), atol=0.01
    )  # less .3, below which it is smooth
    assert point_loss(said, torch.full_like(target, torch.nan)) == 0


def test_the_network_looks_at_the_crop_around_each_point() -> None:
    torch.manual_seed(0)
    network = ActionNet((4, 4, 8, 8), 16).eval()
    crops = torch.zeros(1, 1, SIZE, SIZE)
    crops[0, 0, 10, 60] = 255
    points = torch.full((1, len(POINTS), 2), 0.5)
    points[0, 0] = torch.tensor([60.5, 10.5]) / SIZE
    points[0, 1] = torch.tensor([10.5, 60.5]) / SIZE
    dots = _at(crops, points)
    assert dots[0, 0, 0] == 255
    assert dots[0, 0, 1] == 0
    _, corrected = network(crops, points)
    assert corrected.shape == (2, *points.shape)
    assert 0 < (corrected - points).abs().max() < 0.2


def test_the_export_answers_a_mirrored_face_with_the_mirrored_actions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ActionNet((4, 4, 8, 8), 16)
    with torch.no_grad():
        network.head[-1].bias.fill_(0.5)  # inside 0..1, where nothing is clipped
    path = tmp_path / "actions.onnx"
    export(network, path)
    random = np.random.default_rng(0)
    crops = random.integers(0, 256, (3, SIZE, SIZE), np.uint8)
    points = random.random((3, len(POINTS), 2), np.float32)
    run = session(str(path), 1).run
    plain, gaze = run(None, {"crops": crops, "points": points})
    mirrored = (points * [-1, 1] + [1, 0])[:, MIRRORED_POINTS].astype(np.float32)
    other, mirrored_gaze = run(None, {"crops": np.ascontiguousarray(crops[:, :, ::-1]), "points": mirrored})
    assert gaze.shape == (3, 2)
    np.testing.assert_allclose(mirrored_gaze, gaze * [-1, 1], atol=1e-4)
    assert plain.shape == (3, len(ACTIONS))
    assert ((plain > 0) & (plain < 1)).all()
    assert np.ptp(plain) > 0.01
    np.testing.assert_allclose(other[:, MIRROR], plain, atol=1e-5)
    alone = run(None, {"crops": crops[1:2], "points": points[1:2]})[0]
    np.testing.assert_allclose(alone, plain[1:2], atol=1e-5)
