"""Write a network as ONNX with small weights: large layers as int8, the others in half precision.

It is weight-only quantisation (*Chosen*, by us): nodes that ONNX Runtime computes once, when it opens the file, turn
the weights back into float32, and the network then computes in float32. So a file is a quarter to a half of its size,
runs at the same speed, and only the rounding of the weights is lost.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mien.io import cards
from mien.training import checkpoint

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

LARGE: Final = 2**15
"""Number of weights from which a layer is stored as int8. With the smaller layers in int8 too, the landmark network's
points would move by three times as much, and one action's correlation with the float32 network would fall to .996."""

SMALL: Final = 2**8
"""Number of weights up to which a tensor stays in float32."""

STORED: Final = (
    "large layers as int8 with a scale for each output channel, others in half precision; computed in float32"
)
"""The form, in words for a card."""


def export(
    network: nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    axes: Mapping[str, Mapping[int, str]] | None = None,
) -> None:
    """Write a network in evaluation mode to `path`, with its weights as `compress` stores them.

    `axes` names the dynamic dimensions of inputs and outputs, by default the first of all.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a warning that this exporter is the older one
        torch.onnx.export(
            network.eval(),
            example,
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes or {name: {0: "n"} for name in (*inputs, *outputs)},
            opset_version=17,
            dynamo=False,
        )
    compress(path)


def compress(path: Path) -> None:
    """Store the weights of an ONNX file in this form, in place; its card, if it has one, states form, SHA-256 and size.

    Weights in float32, or in half precision as files of earlier versions have them, become int8 with a scale for each
    output channel where they are those of a convolution or linear layer with `LARGE` or more, and half precision
    where they are more than `SMALL`. Int8 stays as it is, so a second call changes nothing.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(path))
    _restore_halves(model)
    layers = {name for name, uses in _uses(model).items() if all(_is_layer(*use) for use in uses)}
    scales = {f"{each.name.removesuffix('_int8')}_scale" for each in model.graph.initializer}
    nodes = []
    for weight in list(model.graph.initializer):
        count, name = int(np.prod(weight.dims)), weight.name
        if weight.data_type != TensorProto.FLOAT or count <= SMALL or name in scales:
            continue
        values = numpy_helper.to_array(weight)
        if name in layers and count >= LARGE:
            whole, scale = quantised(values)
            stored: dict[str, NDArray[Any]] = {f"{name}_int8": whole, f"{name}_scale": scale}
            nodes.append(helper.make_node("Cast", [f"{name}_int8"], [f"{name}_whole"], to=TensorProto.FLOAT))
            nodes.append(helper.make_node("Mul", [f"{name}_whole", f"{name}_scale"], [name]))
        else:
            stored = {f"{name}_half": values.astype(np.float16)}
            nodes.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
        model.graph.initializer.remove(weight)
        model.graph.initializer.extend(numpy_helper.from_array(each, name) for name, each in stored.items())
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    if path.with_suffix(".json").is_file():
        fields = cards.read(path.with_suffix(".json")).fields
        stated = {"sha256": checkpoint.digest(path), "bytes": path.stat().st_size, "storage": STORED}
        cards.write(path, {**fields, **stated})


def quantised(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights [channels, ...] as whole numbers from -127 to 127, and what they are to be multiplied by, one for each
    output channel [channels, 1, ...]: the largest weight of a channel becomes 127."""
    largest = abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True)
    scale = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
    return np.rint(weights / scale).astype(np.int8), scale


def _restore_halves(model: ModelProto) -> None:
    """Make float32 tensors of those in half precision that a node turns into float32."""
    from onnx import TensorProto, numpy_helper

    halves = {each.name: each for each in model.graph.initializer if each.data_type == TensorProto.FLOAT16}
    for node in list(model.graph.node):
        if node.op_type == "Cast" and node.input[0] in halves:
            half = halves[node.input[0]]
            values = numpy_helper.to_array(half).astype(np.float32)
            model.graph.initializer.remove(half)
            model.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
            model.graph.node.remove(node)


def _uses(model: ModelProto) -> dict[str, list[tuple[NodeProto, int]]]:
    """The nodes that take each tensor, with the place of it among their inputs."""
    uses: dict[str, list[tuple[NodeProto, int]]] = {}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            uses.setdefault(name, []).append((node, place))
    return uses


def _is_layer(node: NodeProto, place: int) -> bool:
    """Whether a node's input at `place` is the weights of a convolution or linear layer, output channels first."""
    first = {"Conv": True, "Gemm": any(each.name == "transB" and each.i for each in node.attribute)}
    return place == 1 and first.get(node.op_type, False)
