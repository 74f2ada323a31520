"""The landmark network learns, says nothing of what is not labelled, and comes out of ONNX as it went in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mien.faces.landmarker import SIDE
from mien.landmarks import POINTS
from mien.training.landmarks.network import LandmarkNet, export, point_loss, point_weights, pose_loss


def network_of(seed: int = 0) -> LandmarkNet:
    """A small network whose modes are as free as they can be."""
    torch.manual_seed(seed)
    network = LandmarkNet((4, 4, 8, 8))
    network.modes.normal_(0, 0.02)
    return network


def crops_of(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 1, SIDE, SIDE), dtype=torch.uint8)


def test_every_parameter_gets_a_gradient_and_a_step_lowers_the_loss() -> None:
    network, images = network_of().train(), crops_of(8).float()
    points, pose, presence = torch.rand(8, len(POINTS), 2), torch.randn(8, 3) * 10, torch.ones(8)
    optimiser = torch.optim.SGD(network.parameters(), 1e-3)

    def loss() -> torch.Tensor:
        found, logit, turned = network(images)
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(logit, presence)
        return point_loss(found, points, point_weights()) + pose_loss(turned, pose) + entropy

    before = loss()
    before.backward()  # type: ignore[no-untyped-call]
    for name, value in network.named_parameters():
        assert value.grad is not None
        assert value.grad.abs().sum() > 0, name
    optimiser.step()
    assert loss() < before


def test_points_and_poses_without_a_label_do_not_count() -> None:
    points, target = torch.rand(3, len(POINTS), 2), torch.rand(3, len(POINTS), 2)
    missing = target.clone()
    missing[1] = torch.nan
    weights = point_weights()
    both = point_loss(points[[0, 2]], target[[0, 2]], weights)
    assert torch.isclose(point_loss(points, missing, weights), both)
    assert point_loss(points, torch.full_like(target, torch.nan), weights) == 0
    pose = torch.tensor([[9.0, 0, 0], [torch.nan] * 3])
    assert pose_loss(torch.zeros(2, 3), pose) == pytest.approx(1 / 3)


def test_the_point_loss_is_the_distance_in_percent_of_the_crop() -> None:
    target = torch.rand(2, len(POINTS), 2)
    moved = target + torch.tensor([0.3, 0.4])
    assert point_loss(moved, target, point_weights()) == pytest.approx(50, abs=0.5)
    assert point_loss(target, target, point_weights()) == pytest.approx(0, abs=1e-4)


def test_exported_weights_answer_as_the_network_does(tmp_path: Path) -> None:
    from mien.io.onnx import session

    network, images = network_of().eval(), crops_of(5)
    with torch.no_grad():
        points, presence, pose = network(images.float())
    export(network, tmp_path / "landmarks.onnx")
    found = session(str(tmp_path / "landmarks.onnx"), 1).run(None, {"images": images.numpy()})
    # Weights are rounded to half precision, 11 bits.
    assert np.allclose(found[0], points, atol=2e-3)
    assert np.allclose(found[1], torch.sigmoid(presence), atol=2e-3)
    assert np.allclose(found[2], pose, atol=0.1)
