"""Exported networks are small, answer as their network does, and cost ONNX Runtime nothing but the opening."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mien.io import cards
from mien.io.onnx import session
from mien.training.onnx_export import LARGE, STORED, compress, export, quantised


class Network(nn.Module):
    """A large and a small layer of either kind, and a matrix that is no layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wide = nn.Conv2d(3, 64, 3)
        self.deep = nn.Conv2d(64, 64, 3)
        self.small, self.linear = nn.Linear(64, 48), nn.Linear(48, 720)
        self.modes = nn.Parameter(torch.randn(720, 60) / 27)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        maps = self.deep(self.wide(pictures).relu()).relu().mean(dim=(2, 3))
        answers: torch.Tensor = self.linear(self.small(maps).relu()) @ self.modes
        return answers


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    path = tmp_path / "network.onnx"
    export(Network(), (torch.zeros(2, 3, 9, 9),), path, ["pictures"], ["answers"])
    return path


def kinds(path: Path) -> dict[int, set[int]]:
    """The sizes of the stored tensors by their type."""
    found: dict[int, set[int]] = {}
    for tensor in onnx.load(str(path)).graph.initializer:
        found.setdefault(tensor.data_type, set()).add(int(np.prod(tensor.dims)))
    return found


def tensors(path: Path) -> dict[str, bytes]:
    """What is stored, by name."""
    return {tensor.name: tensor.SerializeToString() for tensor in onnx.load(str(path)).graph.initializer}


def test_large_layers_are_int8_and_what_else_is_large_half_precision(exported: Path) -> None:
    stored = kinds(exported)
    assert stored[TensorProto.INT8] == {64 * 64 * 9, 48 * 720}
    assert stored[TensorProto.FLOAT16] == {3 * 64 * 9, 64 * 48, 720 * 60, 720}
    assert min(stored[TensorProto.INT8]) >= LARGE > 64 * 48


def test_answers_are_those_of_the_network(exported: Path) -> None:
    pictures = torch.rand(4, 3, 9, 9)
    with torch.no_grad():
        expected = Network()(pictures).numpy()
    (found,) = session(str(exported), 1).run(None, {"pictures": pictures.numpy()})
    assert np.ptp(expected) > 0.1
    assert abs(found - expected).max() < 0.01 * np.ptp(expected)


def test_a_weight_is_off_by_half_a_step_of_its_channel_at_most() -> None:
    random = np.random.default_rng(0)
    weights = (random.normal(size=(6, 5, 3)) * 10.0 ** np.arange(-3, 3)[:, None, None]).astype(np.float32)
    weights[2] = 0
    whole, scale = quantised(weights)
    assert scale.shape == (6, 1, 1)
    assert (abs(whole).max(axis=(1, 2)) == [127, 127, 0, 127, 127, 127]).all()
    assert (abs(whole * scale - weights) <= 0.5001 * scale).all()


def test_onnx_runtime_turns_the_weights_into_floats_when_it_opens_the_file(
    exported: Path, tmp_path: Path
) -> None:
    """Nothing is left to compute from constants in each run."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "opened.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(exported), options, providers=["CPUExecutionProvider"])
    opened = onnx.load(options.optimized_model_filepath)
    constant = {tensor.name for tensor in opened.graph.initializer}
    assert all(set(node.input) - constant for node in opened.graph.node)
    assert {"Cast", "Mul"}.isdisjoint(node.op_type for node in opened.graph.node)


def test_a_second_time_changes_nothing(exported: Path) -> None:
    once = tensors(exported)
    compress(exported)
    assert tensors(exported) == once


def test_a_file_in_half_precision_is_stored_anew_with_its_card(exported: Path, tmp_path: Path) -> None:
    """As files of earlier versions are: all of their weights in half precision."""
    older = tmp_path / "older.onnx"
    model = onnx.load(str(exported))
    for node in list(model.graph.node):
        if node.op_type == "Mul":  # of an int8 weight and its scale
            stored = {tensor.name: tensor for tensor in model.graph.initializer}
            whole, scale = stored[f"{node.output[0]}_int8"], stored[f"{node.output[0]}_scale"]
            half = (numpy_helper.to_array(whole) * numpy_helper.to_array(scale)).astype(np.float16)
            model.graph.initializer.remove(whole)
            model.graph.initializer.remove(scale)
            model.graph.initializer.append(numpy_helper.from_array(half, "h" + node.output[0]))
            (cast,) = (each for each in model.graph.node if each.output[0] == node.input[0])
            model.graph.node.remove(cast)
            model.graph.node.remove(node)
            undone = helper.make_node("Cast", ["h" + node.output[0]], node.output, to=TensorProto.FLOAT)
            model.graph.node.insert(0, undone)
    onnx.save(model, str(older))
    assert TensorProto.INT8 not in kinds(older)
    shutil.copy(cards.FOLDER / "landmarks.json", older.with_suffix(".json"))
    compress(older)
    assert kinds(older) == kinds(exported)
    fields = json.loads(older.with_suffix(".json").read_text(encoding="utf-8"))
    content = older.read_bytes()
    assert fields["sha256"] == hashlib.sha256(content).hexdigest()
    assert (fields["bytes"], fields["storage"]) == (len(content), STORED)
    assert fields["task"] == cards.read(cards.FOLDER / "landmarks.json").task
    pictures = np.random.default_rng(0).random((2, 3, 9, 9), np.float32)
    first, second = (session(str(path), 1).run(None, {"pictures": pictures})[0] for path in (exported, older))
    np.testing.assert_allclose(first, second, atol=0.01 * np.ptp(first))
