"""Start a training from a released network: read an .onnx file's tensors under the names of its method's parameters.

In a release each batch norm is folded into the convolution before it, and the weights are int8. Both are undone as far
as possible: weights are scaled back to floats, and each norm gets the folded offset and statistics that change nothing,
so that the method gives the release's outputs up to rounding. `mien.training.initialise.restore_norms` then turns them
into batch norms again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from mien.errors import ConfigError
from mien.faces import recognise
from mien.io import cards
from mien.training.checkpoint import Checkpoint

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mien.methods.base import Method

SHIPPED = "shipped"
"""The value of `start` for the recogniser inside the package."""

_PREFIX = "method."
"""Prefix of the names that `mien.release.export` gives the method's tensors."""


def is_release(start: Path) -> bool:
    """Whether `start` names a released network: an .onnx file, or the word `shipped`."""
    return start.suffix == ".onnx" or str(start) == SHIPPED


def load(start: Path, method: Method) -> Checkpoint:
    """The card of a released network, and its tensors under the names of `method.state_dict()`.

    Raises:
        WeightsError: the file or its card is missing, damaged, or not a recogniser's.
        ConfigError: the network has another method, backbone or size.
    """
    content, card = cards.verified(recognise.SHIPPED if str(start) == SHIPPED else start)
    stated = recognise.check(card)
    stored = _floats(content)
    tensors = {name: value.clone() for name, value in method.state_dict().items()}
    after = _norm_after(method)
    layers = {
        name: module for name, module in method.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)
    }
    absent = [name for name in layers if f"{_PREFIX}{name}.weight" not in stored]
    if absent:
        raise ConfigError(
            f"start: {start} is another method's or backbone's: it has no {absent[0]}: configure the method that its "
            f"card names, '{card.fields['recipe'].get('method', 'unknown')}'"
        )
    for name, module in layers.items():
        found = {"weight": stored[f"{_PREFIX}{name}.weight"]}
        bias = stored.get(f"{_PREFIX}{name}.weight_bias", stored.get(f"{_PREFIX}{name}.bias"))
        if bias is not None and module.bias is not None:
            found["bias"] = bias
        elif bias is not None:
            norm, layer = after[name]
            _put(tensors, norm, {"weight": np.ones_like(bias), "bias": bias}, start)
            tensors[f"{norm}.running_mean"] = torch.zeros(len(bias))
            tensors[f"{norm}.running_var"] = torch.full((len(bias),), 1 - layer.eps)
        _put(tensors, name, found, start)
    # A card may name its heads as a list, or not at all.
    heads = {"expression": True, "affect": stated.affect}
    return Checkpoint({**card.fields, "heads": heads}, tensors)


def _put(
    tensors: dict[str, torch.Tensor], module: str, found: dict[str, NDArray[np.float32]], start: Path
) -> None:
    for part, values in found.items():
        name = f"{module}.{part}"
        if tensors[name].shape != values.shape:
            ours, theirs = tuple(tensors[name].shape), tuple(values.shape)
            raise ConfigError(
                f"start: {start} is another size's: its {name} is {theirs}, this method's {ours}: set data.size to "
                "its card's input size"
            )
        tensors[name] = torch.from_numpy(values.copy())


def _norm_after(method: nn.Module) -> dict[str, tuple[str, nn.BatchNorm2d]]:
    """The norm that follows each convolution, in the order in which modules were made."""
    found: dict[str, tuple[str, nn.BatchNorm2d]] = {}
    last = ""
    for name, module in method.named_modules():
        if isinstance(module, nn.Conv2d):
            last = name
        elif isinstance(module, nn.BatchNorm2d) and last:
            found[last] = (name, module)
            last = ""
    return found


def _floats(content: bytes) -> dict[str, NDArray[np.float32]]:
    """Weights and offsets of every convolution and linear layer by name, int8 scaled back."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(content).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made = {output: node for node in graph.node for output in node.output}
    found: dict[str, NDArray[np.float32]] = {}
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        for name in node.input[1:]:
            if name in stored:
                # Exact sums take whole numbers, see mien.release.quantise; their weights are divided by the steps.
                whole = made.get(node.input[0])
                values = stored[name]
                if whole is not None and whole.op_type == "Round" and name == node.input[1]:
                    values = values * stored[made[whole.input[0]].input[1]]
                found[_plain_name(name)] = values.astype(np.float32)
                continue
            scaled = made[name]
            values, scale = stored[scaled.input[0]], stored[scaled.input[1]]
            zero = stored[scaled.input[2]] if len(scaled.input) > 2 else np.zeros_like(scale)
            wide = (-1, *([1] * (values.ndim - 1)))
            plain = (values.astype(np.float32) - zero.reshape(wide)) * scale.reshape(wide)
            found[_plain_name(scaled.input[0])] = plain.astype(np.float32)
    return found


def _plain_name(name: str) -> str:
    """A quantised tensor's name without what the quantiser added, once or twice."""
    return name.removesuffix("_quantized").replace("_DequantizeLinear_Output", "")
