"""The detector's network: what it takes over from YuNet, its shapes, and its exported file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mien.errors import WeightsError
from mien.faces.detector_network import CHANNELS, STRIDES
from mien.io.onnx import session
from mien.training.detector.network import (
    LARGE,
    SMALL,
    STRICTER,
    DetectorNet,
    Refinement,
    Separable,
    ShippedDetector,
    _renamed,
    export,
    start,
)

HEADS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}


def yunet() -> dict[str, torch.Tensor]:
    """Weights of YuNet's names and shapes."""
    found: dict[str, torch.Tensor] = {}

    def separable(name: str, inputs: int, outputs: int, norm: bool = True) -> None:
        found[f"{name}.conv1.weight"] = torch.randn(outputs, inputs, 1, 1) / inputs**0.5
        found[f"{name}.conv1.bias"] = torch.randn(outputs)
        found[f"{name}.conv2.weight"] = torch.randn(outputs, 1, 3, 3) / 3
        found[f"{name}.conv2.bias"] = torch.randn(outputs)
        if norm:
            normalised(f"{name}.bn", outputs)

    def normalised(name: str, width: int) -> None:
        for part in ("weight", "bias", "running_mean"):
            found[f"{name}.{part}"] = torch.randn(width)
        found[f"{name}.running_var"] = torch.rand(width) + 0.5
        found[f"{name}.num_batches_tracked"] = torch.tensor(7)

    found["backbone.model0.conv1.weight"] = torch.randn(16, 3, 3, 3) / 100
    found["backbone.model0.conv1.bias"] = torch.randn(16)
    normalised("backbone.model0.bn1", 16)
    separable("backbone.model0.conv2", 16, 16)
    for model in range(1, 6):
        first = 16 if model == 1 else 64
        separable(f"backbone.model{model}.conv1", first, first)
        separable(f"backbone.model{model}.conv2", first, 64)
    for level in range(3):
        separable(f"neck.lateral_convs.{level}", 64, 64)
        separable(f"bbox_head.multi_level_share_convs.{level}.0", 64, 64)
        for head, width in HEADS.items():
            separable(f"bbox_head.multi_level_{head}.{level}", 64, width, norm=False)
    return found


def test_every_weight_of_yunet_has_a_place_except_its_outputs() -> None:
    weights, network = yunet(), DetectorNet()
    taken = _renamed(weights)
    own = network.state_dict()
    assert taken.keys() <= own.keys()
    assert all(own[name].shape == value.shape for name, value in taken.items())
    outputs = sum(
        name.startswith(tuple(f"bbox_head.multi_level_{head}." for head in HEADS)) for name in weights
    )
    assert len(taken) == len(weights) - outputs
    # What is new: the refinements and the outputs.
    new = {name.split(".")[0] for name in own.keys() - taken.keys()}
    assert new == {"stages", "heads", "outputs"}
    assert all(".2." in name for name in own.keys() - taken.keys() if name.startswith("stages"))


def test_it_starts_with_yunet_s_scores_and_points(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = yunet()
    torch.save({"state_dict": weights, "meta": {}}, tmp_path / "yunet_n.pth")
    network = DetectorNet()
    start(network, tmp_path / "yunet_n.pth")
    network.eval()
    image = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    with torch.no_grad():
        maps = network(image)
        expected = as_yunet(weights, image.flip(-1))
    for found, (score, points) in zip(maps, expected, strict=True):
        assert torch.allclose(found[:, :1], score, rtol=1e-3, atol=1e-3)
        # YuNet counts from the corner of a cell.
        assert torch.allclose(found[:, 5:15] + 0.5, points, rtol=1e-3, atol=1e-3)


def as_yunet(weights: dict[str, torch.Tensor], bgr: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """YuNet's objectness logits and points of each level, written out after its authors' description."""
    from torch.nn import functional

    def normalised(maps: torch.Tensor, name: str) -> torch.Tensor:
        mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        return functional.batch_norm(
            maps, mean, variance, weights[f"{name}.weight"], weights[f"{name}.bias"]
        ).relu()

    def separable(maps: torch.Tensor, name: str, norm: bool = True) -> torch.Tensor:
        maps = functional.conv2d(maps, weights[f"{name}.conv1.weight"], weights[f"{name}.conv1.bias"])
        spread = weights[f"{name}.conv2.weight"]
        maps = functional.conv2d(maps, spread, weights[f"{name}.conv2.bias"], padding=1, groups=len(spread))
        return normalised(maps, f"{name}.bn") if norm else maps

    maps = bgr.permute(0, 3, 1, 2).float()
    first = "backbone.model0.conv1"
    maps = functional.conv2d(maps, weights[f"{first}.weight"], weights[f"{first}.bias"], stride=2, padding=1)
    maps = separable(normalised(maps, "backbone.model0.bn1"), "backbone.model0.conv2")
    levels = []
    for model in range(1, 6):
        if model != 2:  # models 1 and 2 share a stride
            maps = functional.max_pool2d(maps, 2)
        maps = separable(separable(maps, f"backbone.model{model}.conv1"), f"backbone.model{model}.conv2")
        levels.append(maps)
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    above = None
    for level in (2, 1, 0):
        here = levels[2 + level]
        if above is not None:
            here = here + functional.interpolate(above, scale_factor=2.0)
        above = separable(here, f"neck.lateral_convs.{level}")
        shared = separable(above, f"bbox_head.multi_level_share_convs.{level}.0")
        pair = [
            separable(shared, f"bbox_head.multi_level_{head}.{level}", norm=False) for head in ("obj", "kps")
        ]
        found.insert(0, (pair[0], pair[1]))
    return found


@pytest.mark.parametrize(
    "content", [{"state_dict": {}}, {"other": 1}, {"state_dict": {"stem.weight": torch.ones(1)}}]
)
def test_other_weights_are_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"is not YuNet's yunet_n\.pth"):
        start(DetectorNet(), tmp_path / "other.pth")


def test_a_new_refinement_changes_nothing() -> None:
    maps = torch.rand(2, 8, 5, 5)
    assert torch.equal(Refinement(8)(maps), maps)
    assert not torch.equal(Separable(8, 8)(maps), maps)


def test_large_faces_need_a_higher_score() -> None:
    class Answers(torch.nn.Module):
        """At every cell a face of the same height with a logit of 1."""

        def __init__(self, height: float) -> None:
            super().__init__()
            self.height = height

        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
            maps = [torch.ones(1, CHANNELS, 2, 2) for _ in STRIDES]
            for stride, values in zip(STRIDES, maps, strict=True):
                values[:, [2, 4]] = float(np.log(self.height / 2 / stride))
            return maps

    for height, lower in (
        (5, 0),
        (SMALL, 0),
        (np.sqrt(SMALL * LARGE), STRICTER / 2),
        (LARGE, STRICTER),
        (300, STRICTER),
    ):
        for maps in ShippedDetector(Answers(float(height)))(torch.zeros(1)):  # type: ignore[arg-type]
            assert maps[:, 0].numpy() == pytest.approx(1 - lower, abs=1e-4)
            assert (maps[:, 5:] == 1).all()


def test_the_exported_network_takes_any_picture_and_answers_as_the_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = DetectorNet().eval()
    export(network, tmp_path / "detector.onnx")
    assert (tmp_path / "detector.onnx").stat().st_size < 400_000
    opened = session(str(tmp_path / "detector.onnx"), 1)
    for height, width in ((64, 64), (96, 160)):
        image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
        maps = opened.run(None, {"image": image})
        with torch.no_grad():
            expected = ShippedDetector(network)(torch.from_numpy(image))
        for stride, found, known in zip(STRIDES, maps, expected, strict=True):
            assert found.shape == (1, CHANNELS, height // stride, width // stride)
            assert np.abs(found - known.numpy()).max() < 0.01
