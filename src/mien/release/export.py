"""Export a checkpoint to ONNX, checked against the checkpoint; `mien.release.quantise` makes it int8.

The exported network takes uint8 crops and includes the scaling of pixel values, so that no preprocessing is needed. See
`mien.faces.recognise` for its contract.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mien.data.transforms import normalise, to_float
from mien.errors import WeightsError
from mien.io.onnx import session
from mien.methods.base import Recognition

TOLERANCE = 1e-3
"""Largest difference of a logit between torch and fp32 ONNX, relative to the largest logit."""


class _PixelsToOutputs(nn.Module):
    """Pixels to outputs, as one graph."""

    def __init__(self, method: Recognition) -> None:
        super().__init__()
        self.method = method

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        prediction = self.method.predict(normalise(to_float(crops)))
        return prediction.logits, prediction.affect, prediction.embedding


@dataclass(frozen=True, slots=True)
class Parity:
    """The agreement of two networks on the same crops.

    Attributes:
        crops: number of crops.
        largest: largest absolute difference of a logit.
        relative: `largest` over the largest absolute logit.
        agreement: share of crops with the same first class.
    """

    crops: int
    largest: float
    relative: float
    agreement: float


def run_onnx(path: Path, crops: NDArray[np.uint8], batch: int = 64) -> dict[str, NDArray[np.float32]]:
    """All outputs of an exported network for [n, ...] crops, by name."""
    network = session(path.read_bytes())
    names = [output.name for output in network.get_outputs()]
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    for start in range(0, len(crops), batch):
        for name, value in zip(
            names,
            network.run(None, {"crops": np.ascontiguousarray(crops[start : start + batch])}),
            strict=True,
        ):
            parts[name].append(value)
    return {name: np.concatenate(values) for name, values in parts.items()}


def run_torch(
    method: Recognition, crops: NDArray[np.uint8], batch: int = 64
) -> dict[str, NDArray[np.float32]]:
    """The same outputs from the method itself, in evaluation mode."""
    method.eval()
    parts: dict[str, list[NDArray[np.float32]]] = {"logits": [], "affect": [], "embedding": []}
    with torch.inference_mode():
        for start in range(0, len(crops), batch):
            images = normalise(to_float(torch.from_numpy(np.array(crops[start : start + batch]))))
            prediction = method.predict(images)
            for name in parts:
                parts[name].append(getattr(prediction, name).float().numpy())
    return {name: np.concatenate(values) for name, values in parts.items()}


def compare(first: NDArray[np.float32], second: NDArray[np.float32]) -> Parity:
    """Parity of two sets of logits [n, k]."""
    gap = float(np.abs(first - second).max())
    return Parity(
        len(first),
        gap,
        gap / max(float(np.abs(first).max()), 1e-9),
        float((first.argmax(axis=1) == second.argmax(axis=1)).mean()),
    )


def to_onnx(method: Recognition, size: int, colour: bool, path: Path, check: NDArray[np.uint8]) -> Parity:
    """Write the fp32 network and compare it with torch on `check` crops.

    Raises:
        WeightsError: the exported network gives other outputs; no file is left at `path`.
    """
    method = method.to(memory_format=torch.contiguous_format).eval()
    shape = (2, size, size, 3) if colour else (2, size, size)
    sample = torch.zeros(shape, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        with torch.no_grad():
            program = torch.onnx.export(
                _PixelsToOutputs(method),
                (sample,),
                input_names=["crops"],
                output_names=["logits", "affect", "embedding"],
                dynamic_shapes=({0: torch.export.Dim("n", min=1, max=4096)},),
                dynamo=True,
                verbose=False,
            )
    assert program is not None
    program.save(str(path), external_data=False)
    without_traces(path)
    agreed = compare(run_torch(method, check)["logits"], run_onnx(path, check)["logits"])
    if agreed.relative > TOLERANCE:
        path.unlink()
        raise WeightsError(
            f"{path}: the exported network differs from the checkpoint by {agreed.relative:.2%}"
        )
    return agreed


def without_traces(path: Path) -> None:
    """Remove the exporter's traces of this machine from a network's file: paths of source files, and stacks."""
    import onnx

    model = onnx.load(str(path))
    graphs = [model.graph, *model.functions]
    for holder in (model, *graphs, *(node for graph in graphs for node in graph.node)):
        del holder.metadata_props[:]
        holder.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    onnx.save(model, str(path))
