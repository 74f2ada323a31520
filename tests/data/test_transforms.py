"""Augmentation: identity when everything is off, the same for the same generator, parts that fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mien.data.config import DataConfig
from mien.data.transforms import MEAN, STD, augment, normalise, to_float


def settings(**changes: Any) -> DataConfig:
    quiet = {"rotate": 0, "scale": 0, "shift": 0, "light": 0, "erase": 0, "mirror": False}
    return DataConfig(reader="manifest", root=Path(), **{**quiet, **changes})


@pytest.fixture
def crops() -> torch.Tensor:
    ramp = torch.arange(24, dtype=torch.float32)
    one = 4 * ramp[None, :] + 6 * ramp[:, None]
    return one.to(torch.uint8).expand(16, 24, 24).clone()


def drawn(crops: torch.Tensor, config: DataConfig, seed: int = 0, part: slice = slice(None)) -> torch.Tensor:
    return augment(crops, config, torch.Generator().manual_seed(seed), part)


def test_normalisation_inverts() -> None:
    grey = torch.full((1, 2, 2), 255, dtype=torch.uint8)
    expected = [(1 - mean) / std for mean, std in zip(MEAN, STD, strict=True)]
    assert normalise(to_float(grey))[0, :, 0, 0].tolist() == pytest.approx(expected)
    assert to_float(torch.zeros(2, 5, 5, 3, dtype=torch.uint8)).shape == (2, 3, 5, 5)


def test_everything_off_changes_nothing_but_the_resolution_of_some(crops: torch.Tensor) -> None:
    plain = normalise(to_float(crops))
    out = drawn(crops, settings())
    same = (out - plain).abs().amax(dim=(1, 2, 3)) < 1e-4
    assert 4 <= int(same.sum()) < 16  # half of the crops are softened, on average
    assert (out - plain).abs().max() < 0.5  # and a ramp hardly changes when it is


def test_a_quarter_turn_is_exact(crops: torch.Tensor) -> None:
    square = torch.zeros(1, 24, 24, dtype=torch.uint8)
    square[0, 2:6, 10:14] = 200
    turned = {
        tuple(torch.nonzero(one[0] > one[0].mean() + 0.5).float().mean(dim=0).round().tolist())
        for seed in range(12)
        for one in drawn(square, settings(mirror=True), seed)
    }
    assert turned <= {(4.0, 12.0), (4.0, 11.0), (3.0, 12.0), (3.0, 11.0), (4.0, 11.5)}


def test_the_same_generator_gives_the_same_batch_and_parts_join(crops: torch.Tensor) -> None:
    config = settings(rotate=20, scale=0.2, shift=0.1, light=0.3, erase=0.5, mirror=True)
    whole = drawn(crops, config, 7)
    assert torch.equal(whole, drawn(crops, config, 7))
    assert not torch.equal(whole, drawn(crops, config, 8))
    halves = torch.cat([drawn(crops, config, 7, slice(0, 8)), drawn(crops, config, 7, slice(8, 16))])
    assert torch.allclose(whole, halves, atol=1e-6)


def test_erasing_hides_between_one_and_a_quarter_of_the_crop() -> None:
    black = torch.zeros(200, 32, 32, dtype=torch.uint8)
    out = drawn(black, settings(erase=1.0))
    changed = (out - normalise(to_float(black))).abs().amax(dim=1) > 1e-3
    share = changed.float().mean(dim=(1, 2))
    assert 0.01 < float(share.mean()) < 0.2
    assert float(share.max()) < 0.27


def test_light_stays_in_range() -> None:
    white = torch.full((64, 8, 8), 255, dtype=torch.uint8)
    top = normalise(torch.ones(1, 3, 1, 1)).amax()
    assert drawn(white, settings(light=1.0)).max() <= top + 1e-5


@pytest.mark.parametrize("change", [{"gamma": 0.5}, {"shade": 0.5}, {"sharpen": 1.0}, {"noise": 0.1}])
def test_light_and_sharpness_change_pictures_and_repeat(change: dict[str, float]) -> None:
    still = {"mirror": False, "rotate": 0, "scale": 0, "shift": 0, "light": 0, "soften": 0, "erase": 0}
    crops = torch.randint(40, 200, (6, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    plain = augment(
        crops, DataConfig(reader="folder", root=Path(), **still), torch.Generator().manual_seed(0)
    )
    config = DataConfig(reader="folder", root=Path(), **still, **change)
    first, again = (augment(crops, config, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, plain)
    assert torch.isfinite(first).all()


def test_side_light_keeps_the_mean() -> None:
    crops = torch.full((8, 32, 32), 100, dtype=torch.uint8)
    config = DataConfig(
        reader="folder",
        root=Path(),
        mirror=False,
        rotate=0,
        scale=0,
        shift=0,
        light=0,
        soften=0,
        erase=0,
        shade=0.5,
    )
    lit = augment(crops, config, torch.Generator().manual_seed(0))
    level = normalise(to_float(crops)).mean(dim=(1, 2, 3))
    torch.testing.assert_close(lit.mean(dim=(1, 2, 3)), level, atol=1e-3, rtol=0)
