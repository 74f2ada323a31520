"""A detector with random weights and the shape of the one that ships: it finds something, and the same everywhere."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from mien.faces.detector_network import CHANNELS
from mien.io import cards


def write(folder: Path, score: float = -1.0, seed: int = 0) -> None:
    """Write `detector.onnx` and its card. `score`: mean of the scores' logits."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install onnx")
    helper, arrays, kinds = onnx.helper, onnx.numpy_helper, onnx.TensorProto
    numbers = np.random.default_rng(seed)
    constants, nodes, outputs = [], [], []

    def constant(name: str, values: np.ndarray) -> str:
        constants.append(arrays.from_array(values.astype(np.float32), name))
        return name

    nodes.append(helper.make_node("Cast", ["image"], ["floats"], to=kinds.FLOAT))
    nodes.append(helper.make_node("Transpose", ["floats"], ["bands"], perm=[0, 3, 1, 2]))
    nodes.append(helper.make_node("Div", ["bands", constant("white", np.array(255.0))], ["x0"]))
    channels = 3
    for level, width in enumerate((8, 16, 16, 16, 16), start=1):
        kernel = numbers.standard_normal((width, channels, 3, 3)) / np.sqrt(channels * 9 / 2)
        inside = [f"x{level - 1}", constant(f"kernel{level}", kernel)]
        nodes.append(helper.make_node("Conv", inside, [f"c{level}"], strides=[2, 2], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{level}"], [f"x{level}"]))
        channels = width
        if level > 2:
            head = numbers.standard_normal((CHANNELS, channels, 1, 1)) / np.sqrt(channels)
            head[0] *= 4  # scores that differ from place to place
            shift = np.concatenate([[score], np.ones(CHANNELS - 1)])  # and boxes of some pixels
            inside = [f"x{level}", constant(f"head{level}", head), constant(f"shift{level}", shift)]
            nodes.append(helper.make_node("Conv", inside, [f"stride{2**level}"]))
            shape = [1, CHANNELS, None, None]
            outputs.append(helper.make_tensor_value_info(f"stride{2**level}", kinds.FLOAT, shape))
    image = helper.make_tensor_value_info("image", kinds.UINT8, [1, "height", "width", 3])
    graph = helper.make_graph(nodes, "detector", [image], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content = model.SerializeToString()
    (folder / "detector.onnx").write_bytes(content)
    card = dict.fromkeys(cards.REQUIRED, "-") | {
        "name": "detector",
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    (folder / "detector.json").write_text(json.dumps(card))
