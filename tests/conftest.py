"""What several tests share: the bundled photographs, and a small recogniser with random weights.

Random weights make no sense of a face, and need not: the tests of the analysis path ask whether the same picture gives
the same answer by every way in, not which answer. Figures of the shipped weights are tested where they are trained.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import numpy as np
import pytest

# The same cases in every run, so that a change is judged by what it changed; `tests.fuzz.campaign` tries others.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.load_profile("repeatable")

ROOT = Path(__file__).parent.parent


def pytest_configure() -> None:
    # A shell's background job ignores Ctrl-C, and so would every process that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def load_script() -> Callable[[Path], ModuleType]:
    """A function that imports a file which is in no package."""

    def load(path: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"script_{path.parent.name}_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Last comes what disturbs others: the wheel's environment, then the browser, whose driver keeps an event loop."""
    items.sort(
        key=lambda item: (
            2 if item.get_closest_marker("browser") else int(item.get_closest_marker("wheel") is not None)
        )
    )


@pytest.fixture(scope="session")
def examples() -> Path:
    """The folder of bundled photographs."""
    return ROOT / "examples"


@pytest.fixture(scope="session")
def astronaut(examples: Path) -> Path:
    """A 512 x 512 photograph with one face."""
    return examples / "astronaut.png"


@pytest.fixture(scope="session")
def write_recogniser() -> Callable[..., Path]:
    """A function that writes a recogniser of the contract in `mien.faces.recognise`, random weights, with its card."""
    return _write_recogniser


@pytest.fixture(scope="session")
def recogniser_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One such recogniser for all tests."""
    return _write_recogniser(tmp_path_factory.mktemp("recogniser"))


@pytest.fixture(scope="session")
def overfit() -> Callable[..., tuple[float, float]]:
    """`overfit(loss, parameters, steps, rate)`: the loss of one fixed batch before, and the lowest after `steps` steps.

    What is random inside `loss` is drawn alike each time, so that it is one function of the parameters; and the lowest
    is taken, so that no single step decides. Rounding, order and processor shift it by far less than learning does.
    """
    import torch

    def run(
        loss: Callable[[], Any], parameters: Iterable[Any], steps: int = 30, rate: float = 1e-3
    ) -> tuple[float, float]:
        kept = list(parameters)
        optimiser = torch.optim.Adam(kept, rate)
        seen = []
        for step in range(steps + 1):
            torch.manual_seed(0)
            now = loss()
            seen.append(float(now.detach()))
            if step < steps:
                for parameter, gradient in zip(
                    kept, torch.autograd.grad(now, kept, allow_unused=True), strict=True
                ):
                    parameter.grad = gradient
                optimiser.step()
        return seen[0], min(seen[1:])

    return run


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs the `mien` command in this process, as the script would."""
    from mien.cli.main import main

    def run(*arguments: str | Path) -> Ran:
        monkeypatch.setattr(sys, "argv", ["mien", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Ran(code, *capfd.readouterr())

    return run


def _write_recogniser(folder: Path, size: int = 65, seed: int = 0, **fields: Any) -> Path:
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    draw = np.random.default_rng(seed)

    def weight(name: str, *shape: int, scale: float = 1.0) -> Any:
        values = draw.normal(0, scale / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        values = (values + values[..., ::-1]) / 2  # a mirrored crop gives the same answer, for an odd size
        return onnx.numpy_helper.from_array(values, name)

    constants = [
        onnx.numpy_helper.from_array(np.array(1 / 255, np.float32), "unit"),
        onnx.numpy_helper.from_array(np.array([1], np.int64), "axis"),
        weight("first", 8, 1, 5, 5, scale=3.0),
        weight("second", 16, 8, 4, 4, scale=3.0),
        weight("expressions", 8, 16, 1, 1, scale=3.0),
        weight("circumplex", 2, 16, 1, 1, scale=0.5),
    ]
    steps = [
        ("Cast", ["crops"], ["floats"], {"to": kind}),
        ("Mul", ["floats", "unit"], ["scaled"], {}),
        ("Unsqueeze", ["scaled", "axis"], ["planes"], {}),
        ("Conv", ["planes", "first"], ["a"], {"strides": [4, 4]}),
        ("Relu", ["a"], ["b"], {}),
        ("Conv", ["b", "second"], ["c"], {"strides": [2, 2]}),
        ("Relu", ["c"], ["d"], {}),
        ("GlobalAveragePool", ["d"], ["pooled"], {}),
        ("Conv", ["pooled", "expressions"], ["e"], {}),
        ("Conv", ["pooled", "circumplex"], ["f"], {}),
        ("Tanh", ["f"], ["g"], {}),
        ("Flatten", ["e"], ["logits"], {}),
        ("Flatten", ["g"], ["affect"], {}),
        ("Flatten", ["pooled"], ["embedding"], {}),
    ]
    graph = helper.make_graph(
        [helper.make_node(op, taken, given, **attributes) for op, taken, given, attributes in steps],
        "recogniser",
        [helper.make_tensor_value_info("crops", onnx.TensorProto.UINT8, ["n", size, size])],
        [
            helper.make_tensor_value_info(name, kind, ["n", width])
            for name, width in (("logits", 8), ("affect", 2), ("embedding", 16))
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "random.onnx"
    path.write_bytes(model.SerializeToString())
    from mien.labels import EXPRESSIONS

    card = {
        "name": "random",
        "task": "expression labels of random weights, for tests",
        "classes": list(EXPRESSIONS),
        "input": {"size": size, "colour": "grey"},
        "temperature": 1.0,
        "uncertain_below": 0.3,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "data": "none",
        "terms": "none",
        "recipe": "tests/conftest.py",
        "commit": "",
        "metrics": {},
        "intended_use": "tests",
        "limits": "knows nothing",
        "must_not": "be used for anything else",
    }
    path.with_suffix(".json").write_text(json.dumps({**card, **fields}))
    return path
