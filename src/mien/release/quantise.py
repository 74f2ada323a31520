"""Make an exported network int8, with the same answers on every processor.

Integer sums are exact, so two processors agree to the last bit as long as nothing before the last integer layer depends
on how a kernel works. Three things would:

- *Saturation.* x86 processors without VNNI multiply 8-bit activations by 8-bit weights two at a time and add the two
  products in 16 bits, which overflow. Weights are therefore scaled so that no such pair can (`without_saturation`).
- *Sums in floating point.* Their order differs between kernels, and a value that is rounded to the next code changes
  most codes of the later layers. The first layers stay in float, but with values so short that every sum is exact, in
  any order (`with_exact_sums`). After the last layers, which are float too, nothing is rounded to codes any more.
- *Sums of two int8 tensors*, which ONNX Runtime scales in floating point, with or without fused multiply-add. Residual
  sums stay in float: each of their steps is rounded alike everywhere (`with_float_residuals`).

Measured on the shipped recogniser by `scripts/kernel_agreement.py`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.io.onnx import session
from mien.release.export import without_traces

CALIBRATION = 256
"""Number of crops on which int8 ranges are measured."""

PERCENTILE = 99.995
"""Share of the activations, in per cent, that int8 ranges cover. Our choice by measurement on FERPlus validation: the
logits were nearer to fp32 (root mean square difference .113) than with ranges that cover everything (.160)."""

FIRST, LAST = 3, 2
"""Numbers of convolutions that stay in float, at the beginning and at the end. Our choice, by measurement on a
MobileFaceNet at 80 px (FERPlus validation), root mean square difference of the logits from fp32: .06, with the first
ones in int8 .08. The last two are the widening convolution and the learned pooling."""

EXACT_BITS = 23
"""Bits of a sum that is exact: a 32-bit float holds 24, and one is left for activations larger than any measured."""

INPUT_BITS = 10
"""Bits of the activations in an exact sum; the weights have what is left."""

LARGEST_PAIR = 128
"""Largest sum of the magnitudes of two neighbouring weights: 255 * 128 is the most that a pair of products can be, and
16 bits hold 32,767."""


def quantise(source: Path, target: Path, calibration: NDArray[np.uint8]) -> None:
    """Write a static int8 copy: QDQ form, uint8 activations, int8 weights per channel, ranges from `calibration`.

    An activation function that follows a convolution becomes part of it: the codes cover its range alone. The matrix
    products (the heads) and the first and last convolutions stay in floating point.

    Args:
        source: fp32 network from `to_onnx`.
        target: path of the int8 network.
        calibration: representative uint8 crops, from training data.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    batch = min(32, len(calibration))  # the percentile method needs batches of one size

    class CropReader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[dict[str, Any]] = (
                {"crops": np.ascontiguousarray(calibration[start : start + batch])}
                for start in range(0, len(calibration) - batch + 1, batch)
            )

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    quiet = logging.getLogger()
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            prepared = Path(folder) / "prepared.onnx"
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            plain = onnx.load(str(prepared))
            convolutions = [node.name for node in plain.graph.node if node.op_type == "Conv"]
            heads = [node.name for node in plain.graph.node if node.op_type in ("Gemm", "MatMul")]
            with_exact_sums(plain, convolutions[:FIRST], calibration[:batch])
            onnx.save(plain, str(prepared))
            quantize_static(
                str(prepared),
                str(target),
                CropReader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.Percentile,
                extra_options={"CalibPercentile": PERCENTILE},
                op_types_to_quantize=["Conv", "Clip", "Relu"],
                nodes_to_exclude=[*heads, *convolutions[:FIRST], *convolutions[len(convolutions) - LAST :]],
            )
    finally:
        quiet.setLevel(level)
    model = onnx.load(str(target))
    without_saturation(model, plain)
    with_float_residuals(model)
    with_small_weights(model, convolutions[len(convolutions) - LAST :])
    onnx.save(model, str(target))
    without_traces(target)


def with_exact_sums(model: Any, names: list[str], crops: NDArray[np.uint8]) -> None:
    """Shorten inputs and weights of the convolutions `names`, in place, until their sums are exact in 32-bit floats.

    Inputs are rounded to multiples of a power of two (a `Mul` and a `Round` before the convolution), weights and
    offsets to multiples of another one for each output channel. `crops` measure how large the inputs become. A
    convolution that was made so before stays as it is.
    """
    from onnx import helper, numpy_helper

    rounded = {node.output[0] for node in model.graph.node if node.op_type == "Round"}
    names = [node.name for node in model.graph.node if node.name in names and node.input[0] not in rounded]
    if not names:
        return
    largest = _largest_inputs(model, names, crops)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for place, node in reversed(list(enumerate(model.graph.node))):
        if node.name not in names:
            continue
        steps = 2.0 ** (INPUT_BITS - np.ceil(np.log2(largest[node.name])))
        weights, *offsets = (
            numpy_helper.to_array(stored[name]).astype(np.float64) for name in node.input[1:]
        )
        products = np.abs(weights).reshape(len(weights), -1).sum(axis=1) * largest[node.name] * steps
        sums = products + sum(np.abs(one) for one in offsets) * steps
        units = 2.0 ** (np.ceil(np.log2(np.maximum(sums, 1e-12))) - EXACT_BITS)
        column = units.reshape(-1, *[1] * (weights.ndim - 1))
        # The inputs come as whole numbers, so the weights are divided by their steps.
        short = [
            np.round(weights / column) * column,
            *(np.round(one / units * steps) * units for one in offsets),
        ]
        for name, values in zip(node.input[1:], short, strict=True):
            stored[name].CopyFrom(numpy_helper.from_array((values / steps).astype(np.float32), name))
        scale = numpy_helper.from_array(np.array(steps, np.float32), f"{node.name}_steps")
        model.graph.initializer.append(scale)
        scaled, whole = f"{node.name}_scaled", f"{node.name}_whole"
        model.graph.node.insert(place, helper.make_node("Round", [scaled], [whole], name=whole))
        model.graph.node.insert(
            place, helper.make_node("Mul", [node.input[0], scale.name], [scaled], name=scaled)
        )
        node.input[0] = whole


def _largest_inputs(model: Any, names: list[str], crops: NDArray[np.uint8]) -> dict[str, float]:
    """The largest magnitude in the input of each named node."""
    from onnx import ModelProto, TensorProto, helper

    seen = ModelProto()
    seen.CopyFrom(model)
    inputs = {node.name: node.input[0] for node in seen.graph.node if node.name in names}
    seen.graph.output.extend(
        helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None) for tensor in inputs.values()
    )
    values = session(seen.SerializeToString()).run(list(inputs.values()), {"crops": crops})
    return {name: float(np.abs(value).max()) for name, value in zip(inputs, values, strict=True)}


def without_saturation(model: Any, plain: Any) -> None:
    """Scale the int8 weights of `model`, in place, so that no pair of neighbours in a sum exceeds `LARGEST_PAIR`.

    The weights are rounded again from `plain`, the float model. Neighbours are consecutive input channels of a 1x1
    convolution; in larger kernels, where ONNX Runtime may change the order, any two weights of an output channel.
    Depthwise convolutions stay as they are: their kernels add in 32 bits.
    """
    from onnx import numpy_helper

    floats = {tensor.name: numpy_helper.to_array(tensor) for tensor in plain.graph.initializer}
    originals = {node.name: node for node in plain.graph.node}
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    made = {output: node for node in model.graph.node for output in node.output}

    def store(name: str, values: NDArray[Any]) -> None:
        stored[name].CopyFrom(numpy_helper.from_array(values, name))

    for node in model.graph.node:
        if node.op_type != "Conv" or node.input[1] not in made:
            continue
        weights, *offsets = (floats[name] for name in originals[node.name].input[1:])
        if weights.shape[1] == 1:
            continue
        scales = _scales(weights)
        column = scales.reshape(-1, *[1] * (weights.ndim - 1))
        scaled = made[node.input[1]]
        store(scaled.input[0], np.round(weights / column).astype(np.int8))
        store(scaled.input[1], scales)
        for values, name in zip(offsets, node.input[2:], strict=True):
            activation = numpy_helper.to_array(stored[made[node.input[0]].input[1]])
            units = (activation * scales).astype(np.float32)
            store(made[name].input[0], np.round(values / units).astype(np.int32))
            store(made[name].input[1], units)


def _scales(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scales [n] of weights [n, ...], above 0; one less than `LARGEST_PAIR`, since both weights may be rounded up."""
    sizes = np.abs(weights.reshape(len(weights), -1))
    if weights[0, 0].size == 1:
        even = np.pad(sizes, ((0, 0), (0, sizes.shape[1] % 2)))
        pairs = even.reshape(len(weights), -1, 2).sum(axis=2).max(axis=1)
    else:
        pairs = 2 * sizes.max(axis=1)
    scales = np.maximum(sizes.max(axis=1) / 127, pairs / (LARGEST_PAIR - 1))
    return np.where(scales > 0, scales, 1).astype(np.float32)


def with_float_residuals(model: Any) -> None:
    """Let sums of `model` take earlier sums as they are, in place, instead of as codes."""
    made = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        for place, name in enumerate(node.input if node.op_type == "Add" else ()):
            restored = made.get(name)
            if restored is None or restored.op_type != "DequantizeLinear":
                continue
            total = made[restored.input[0]].input[0]
            if made[total].op_type == "Add":
                node.input[place] = total


def with_small_weights(model: Any, names: list[str]) -> None:
    """Store the weights of those float convolutions `names` that are 1x1 in int8 per channel, in place, for a smaller
    file.

    Measured on the shipped recogniser: the logits move by .005 (root mean square). Not those of the
    learned pooling, which nearly cancel each other: there fp16 moves them by .04, and int8 by 1.1.
    """
    from onnx import helper, numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for place, node in enumerate(list(model.graph.node)):
        if node.name not in names:
            continue
        weights = numpy_helper.to_array(stored[node.input[1]])
        if weights.shape[1] == 1 or weights[0, 0].size > 1:
            continue
        name = node.input[1]
        scales = np.maximum(np.abs(weights).reshape(len(weights), -1).max(axis=1) / 127, 1e-12)
        codes = np.round(weights / scales.reshape(-1, 1, 1, 1)).astype(np.int8)
        model.graph.initializer.remove(stored[name])
        parts = {
            f"{name}_quantized": codes,
            f"{name}_scale": scales.astype(np.float32),
            f"{name}_zero_point": np.zeros(len(weights), np.int8),
        }
        model.graph.initializer.extend(numpy_helper.from_array(part, key) for key, part in parts.items())
        restored = helper.make_node("DequantizeLinear", list(parts), [name], name=f"{name}_restored", axis=0)
        model.graph.node.insert(place, restored)


def dequantised(content: bytes) -> bytes:
    """The fp32 network with the weights of an int8 network, to quantise again: only its activations become finer.

    Codes that start at 0 stand for an activation function that `quantise` made part of a convolution: without one
    before them, they become a `Clip` to their range. Weights are symmetric (zero point 0), as `quantise` makes them.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_from_string(content)
    graph = model.graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made = {output: node for node in graph.node for output in node.output}
    renamed: dict[str, str] = {}
    nodes = []
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            values, scale = (stored[name].astype(np.float32) for name in node.input[:2])
            wide = scale.reshape(-1, *[1] * (values.ndim - 1)) if scale.ndim else scale
            stored[node.output[0]] = (values * wide).astype(np.float32)
        elif node.op_type == "DequantizeLinear":
            renamed[node.output[0]] = renamed[node.input[0]]
        elif node.op_type != "QuantizeLinear":
            node.input[:] = [renamed.get(name, name) for name in node.input]
            nodes.append(node)
        elif stored[node.input[2]] == 0 and made[node.input[0]].op_type == "Conv":
            clip = f"{node.output[0]}_clip"
            stored[f"{clip}_low"] = np.array(0, np.float32)
            stored[f"{clip}_high"] = np.array(255 * stored[node.input[1]], np.float32)
            bounds = [f"{clip}_low", f"{clip}_high"]
            nodes.append(helper.make_node("Clip", [node.input[0], *bounds], [clip], name=clip))
            renamed[node.output[0]] = clip
        else:
            renamed[node.output[0]] = renamed.get(node.input[0], node.input[0])
    used = {name for node in nodes for name in node.input}
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(
        numpy_helper.from_array(values, name) for name, values in stored.items() if name in used
    )
    data: bytes = model.SerializeToString()
    return data
