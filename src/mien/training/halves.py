"""Write a network as ONNX with its weights in half precision.

Tests: tests/training/landmarks/test_network.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn


def export(
    network: nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    axes: Mapping[str, Mapping[int, str]] | None = None,
) -> None:
    """Write a network in evaluation mode to `path`; `axes` names the dynamic dimensions of inputs and outputs, by
    default the first of all.

    ONNX Runtime turns the weights into float32 when it opens the file, so only their rounding is lost.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

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
    model = onnx.load(str(path))
    casts = []
    for weight in list(model.graph.initializer):
        if weight.data_type == TensorProto.FLOAT and np.prod(weight.dims) > 256:
            half = numpy_helper.from_array(
                numpy_helper.to_array(weight).astype(np.float16), f"{weight.name}_half"
            )
            casts.append(helper.make_node("Cast", [half.name], [weight.name], to=TensorProto.FLOAT))
            model.graph.initializer.remove(weight)
            model.graph.initializer.append(half)
    for node in casts:
        model.graph.node.insert(0, node)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
