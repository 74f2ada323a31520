"""Int8 networks: as good as float ones, and the same answers from every kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from mien import methods
from mien.data.synthetic import drawings
from mien.io import cards
from mien.io.onnx import session
from mien.release import export
from mien.release.quantise import FIRST, LARGEST_PAIR, dequantised, quantise

RECOGNISER = cards.FOLDER / "recogniser.onnx"


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    return np.stack([face.pixels[..., 0] for face in drawings.faces(96, size=48)])


@pytest.fixture(scope="module")
def made(crops: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A MobileFaceNet of random weights, float and int8."""
    torch.manual_seed(0)
    network = methods.build({"name": "baseline", "backbone": "mobilefacenet"}, 48)
    plain, small = (tmp_path_factory.mktemp("int8") / name for name in ("plain.onnx", "int8.onnx"))
    export.to_onnx(network, 48, False, plain, crops[:8])
    quantise(plain, small, crops)
    return plain, small


def _logits(path: Path, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    return export.run_onnx(path, crops)["logits"]


def _dense(content: bytes) -> list[NDArray[np.int8]]:
    """The weights of int8 convolutions that mix channels."""
    graph = onnx.load_from_string(content).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    nodes = [node for node in convolutions if made[node.input[0]].op_type == "DequantizeLinear"]
    weights = [stored[made[node.input[1]].input[0]] for node in nodes]
    return [values for values in weights if values.shape[1] > 1]


def _kinds(content: bytes) -> dict[str, list[Any]]:
    kinds: dict[str, list[Any]] = {}
    for node in onnx.load_from_string(content).graph.node:
        kinds.setdefault(node.op_type, []).append(node)
    return kinds


def test_int8_is_smaller_and_close(made: tuple[Path, Path], crops: NDArray[np.uint8]) -> None:
    plain, small = made
    assert small.stat().st_size < plain.stat().st_size / 2
    assert np.corrcoef(_logits(plain, crops).ravel(), _logits(small, crops).ravel())[0, 1] > 0.98


@pytest.mark.parametrize("shipped", [False, True])
def test_no_two_products_exceed_sixteen_bits(made: tuple[Path, Path], shipped: bool) -> None:
    """A pair is two consecutive input channels, or any two weights of a larger kernel."""
    layers = _dense((RECOGNISER if shipped else made[1]).read_bytes())
    assert len(layers) > 20
    for weights in layers:
        sizes = np.abs(weights.astype(int)).reshape(len(weights), -1)
        narrow = weights[0, 0].size == 1
        pairs = sizes.reshape(len(weights), -1, 2).sum(axis=2) if narrow else 2 * sizes
        assert pairs.max() <= LARGEST_PAIR
        assert 255 * pairs.max() < 2**15
        assert pairs.max() >= 0.9 * LARGEST_PAIR  # no finer step is given away


@pytest.mark.parametrize("shipped", [False, True])
def test_activations_are_part_of_the_convolutions(made: tuple[Path, Path], shipped: bool) -> None:
    """Only the layers that stay in float have activation functions of their own."""
    kinds = _kinds((RECOGNISER if shipped else made[1]).read_bytes())
    assert len(kinds["Conv"]) == 50
    assert len(kinds["Clip"]) + len(kinds["Relu"]) == 4


@pytest.mark.parametrize("shipped", [False, True])
def test_sums_are_not_rounded_to_codes_between_blocks(made: tuple[Path, Path], shipped: bool) -> None:
    kinds = _kinds((RECOGNISER if shipped else made[1]).read_bytes())
    sums = {node.output[0] for node in kinds["Add"]}
    assert sum(name in sums for node in kinds["Add"] for name in node.input) == len(sums) - 3  # one a group


@pytest.mark.parametrize("shipped", [False, True])
def test_between_the_first_and_the_last_convolutions_all_are_integers(
    made: tuple[Path, Path], shipped: bool
) -> None:
    kinds = _kinds((RECOGNISER if shipped else made[1]).read_bytes())
    restored = {node.output[0] for node in kinds["DequantizeLinear"]}
    rounded = {node.input[0] for node in kinds["QuantizeLinear"]}
    integers = [node.input[0] in restored and node.output[0] in rounded for node in kinds["Conv"]]
    assert integers == [False] * 3 + [True] * 45 + [False] * 2


@pytest.mark.parametrize("shipped", [False, True])
def test_the_first_sums_are_exact_in_any_order(made: tuple[Path, Path], shipped: bool) -> None:
    """All terms are multiples of one unit, and their magnitudes add up to fewer units than a 32-bit float can count."""
    content = (RECOGNISER if shipped else made[1]).read_bytes()
    model = onnx.load_from_string(content)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type == "Conv"][:FIRST]
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, None) for node in layers
    )
    seen = np.stack([face.pixels[..., 0] for face in drawings.faces(24, size=80 if shipped else 48)])
    inputs = session(model.SerializeToString()).run([node.input[0] for node in layers], {"crops": seen})
    for node, values in zip(layers, inputs, strict=True):
        assert np.array_equal(values, np.round(values))
        weights, *offsets = (stored[name].astype(np.float64) for name in node.input[1:])
        for channel, filters in enumerate(weights):
            added = [values[channel] for values in offsets]
            unit = _unit(np.append(filters, added))
            most = np.abs(filters).sum() * np.abs(values).max() + sum(map(abs, added))
            assert most / unit < 2**24


def _unit(values: NDArray[np.float64]) -> float:
    """The largest power of two that all values are multiples of."""
    unit = 1.0
    while (values % unit).any():
        unit /= 2
    return unit


def test_quantised_twice_is_quantised_once(
    made: tuple[Path, Path], crops: NDArray[np.uint8], tmp_path: Path
) -> None:
    """Weights move by one code at most, and the activation functions that became codes come back."""
    _, small = made
    again, twice = tmp_path / "float.onnx", tmp_path / "twice.onnx"
    again.write_bytes(dequantised(small.read_bytes()))
    assert np.corrcoef(_logits(again, crops).ravel(), _logits(small, crops).ravel())[0, 1] > 0.98
    quantise(again, twice, crops)
    for first, second in zip(_dense(small.read_bytes()), _dense(twice.read_bytes()), strict=True):
        assert np.abs(first.astype(int) - second).max() <= 1
    kinds = [_kinds(path.read_bytes()) for path in (small, twice)]
    assert len(kinds[0]["Clip"]) == len(kinds[1]["Clip"])
