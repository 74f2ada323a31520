"""Encoders: shapes as promised, the published file loads strictly, learned pooling survives another size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mien import backbone
from mien.errors import ConfigError, WeightsError


@pytest.mark.parametrize(
    ("name", "size"), [("mobilefacenet", 80), ("mobilefacenet", 112), ("tiny", 48), ("resnet18", 64)]
)
def test_promised_shapes(name: str, size: int) -> None:
    network = backbone.build(name, size=size).eval()
    with torch.no_grad():
        pooled, maps = network(torch.randn(2, 3, size, size))
    assert pooled.shape == (2, network.width)
    assert [one.shape[1] for one in maps] == network.stages
    sides = [one.shape[-1] for one in maps]
    assert sides == sorted(sides, reverse=True)


def test_fresh_pooling_is_the_mean() -> None:
    network = backbone.MobileFaceNet(80).eval()
    with torch.no_grad():
        pooled, maps = network(torch.randn(2, 3, 80, 80))
    assert torch.allclose(pooled, maps[-1].mean(dim=(2, 3)), atol=1e-4)


def test_a_norm_that_keeps_its_statistics_is_part_of_its_filter() -> None:
    torch.manual_seed(0)
    network = backbone.MobileFaceNet(32).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean = torch.randn_like(module.running_mean)
            module.running_var = 0.5 + torch.rand_like(module.running_var)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    block = next(one for one in network.modules() if isinstance(one, backbone._Bottleneck))
    maps = torch.randn(2, 64, 8, 8)
    filtered = block(maps)
    filtered.square().sum().backward()
    folded = [parameter.grad.clone() for parameter in block.parameters()]
    block.zero_grad()
    plain = maps
    for stage in (block.layers[0], block.layers[1]):
        convolution, norm, activation = stage
        plain = activation(norm(convolution(plain)))
    plain = block.layers[3](block.layers[2](plain))
    plain = maps + plain if block.residual else plain
    torch.testing.assert_close(filtered, plain, rtol=1e-4, atol=1e-4)
    plain.square().sum().backward()
    for one, parameter in zip(folded, block.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=1e-3, atol=1e-2)


def published(network: backbone.MobileFaceNet) -> dict[str, torch.Tensor]:
    """The network's tensors under the names of the published file."""
    names = {"stem.0.": "conv1.", "stem.1.0.": "dw_conv.depthwise.", "stem.1.1.": "dw_conv.bn1.",
             "stem.2.0.": "dw_conv.pointwise.", "stem.2.1.": "dw_conv.bn2.", "widen.": "conv2.",
             "pool.": "gdconv.depthwise.", "pool_norm.": "gdconv.bn."}  # fmt: skip
    offsets = {"shallow": 0, "middle": 5, "deep": 12}
    out = {"conv3.weight": torch.zeros(128, 512, 1, 1), "bn.weight": torch.ones(128)}
    for key, value in network.state_dict().items():
        group, _, rest = key.partition(".")
        if group in offsets:
            number, _, rest = rest.partition(".")
            out[f"features.{int(number) + offsets[group]}.conv.{rest.removeprefix('layers.')}"] = value
        else:
            out[next(new + key[len(old) :] for old, new in names.items() if key.startswith(old))] = value
    return out


def test_the_published_file_loads_strictly_and_gives_the_same_features(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = backbone.MobileFaceNet(112).eval()
    torch.save(published(source), tmp_path / "weights.pt")
    loaded = backbone.build("mobilefacenet", tmp_path / "weights.pt", size=112).eval()
    images = torch.randn(1, 3, 112, 112)
    with torch.no_grad():
        assert torch.equal(source(images)[0], loaded(images)[0])
        smaller = backbone.build("mobilefacenet", tmp_path / "weights.pt", size=80)
    before, after = source.pool.weight, smaller.pool.weight  # type: ignore[union-attr]
    assert after.shape[-1] == 5
    assert torch.allclose(before.sum(dim=(1, 2, 3)), after.sum(dim=(1, 2, 3)), atol=1e-3)


def test_wrong_files_and_names_are_said_plainly(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = published(backbone.MobileFaceNet(112))
    state.pop("features.3.conv.2.weight")
    torch.save(state, tmp_path / "short.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(WeightsError, match="not the published MobileFaceNet"):
        backbone.build("mobilefacenet", tmp_path / "short.pt", size=112)
    with pytest.raises(WeightsError, match="not a tensor file"):
        backbone.build("mobilefacenet", tmp_path / "text.pt")
    with pytest.raises(WeightsError, match="no such file"):
        backbone.build("mobilefacenet", tmp_path / "absent.pt")
    with pytest.raises(ConfigError, match="no backbone"):
        backbone.build("resnet1800")
    with pytest.raises(ConfigError, match="80 px"):
        backbone.build("mobilefacenet", size=80)(torch.zeros(1, 3, 112, 112))
