"""What every method must do, whatever its paper: learn, reach all its parameters, keep, export and predict."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mien.data.synthetic.drawings import arrays, draw
from mien.errors import ConfigError
from mien.labels import EXPRESSIONS
from mien.methods import METHODS, build
from mien.methods.base import Batch, Method, Recognition
from mien.release import export
from mien.training import checkpoint

SIZE = 64
Overfit = Callable[..., tuple[float, float]]
RECOGNITION = [name for name, kind in METHODS.items() if issubclass(kind, Recognition)]

# Options under which a method owns no parameter that its objective leaves alone.
EVERYTHING: dict[str, dict[str, Any]] = {
    "cclls": {"pooled": True, "layer_weights": [0.1, 0.1, 0.1]},
    "ke2nt": {"projection": "double"},
}


def make(name: str, **options: Any) -> Method:
    torch.manual_seed(0)
    return build({"name": name, "backbone": "tiny", **options}, SIZE)


@pytest.fixture(scope="module")
def batch() -> Batch:
    drawn = arrays([draw(n % 8, subject=n // 8, size=SIZE) for n in range(32)])
    return Batch(
        image=torch.from_numpy(drawn.images).permute(0, 3, 1, 2).float() / 64 - 2,
        expression=torch.from_numpy(drawn.expression),
        affect=torch.from_numpy(drawn.affect),
        votes=torch.from_numpy(drawn.votes),
        subject=torch.from_numpy(drawn.subject),
        extra={},
    )


def total(method: Method, batch: Batch, turn: str) -> torch.Tensor:
    return torch.stack(list(method(batch, turn).values())).sum()


@pytest.mark.parametrize("name", METHODS)
def test_each_turn_learns_a_fixed_batch(name: str, batch: Batch, overfit: Overfit) -> None:
    method = make(name).train()
    for turn in method.turns:
        before, lowest = overfit(lambda turn=turn: total(method, batch, turn), method.parameters_for(turn))
        assert lowest < before, turn


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_of_every_turn_gets_a_gradient(name: str, batch: Batch) -> None:
    method = make(name, **EVERYTHING.get(name, {})).train()
    names = {parameter: key for key, parameter in method.named_parameters()}
    for turn in method.turns:
        method.zero_grad(set_to_none=True)
        total(method, batch, turn).backward()
        unreached = [
            names[parameter]
            for parameter in method.parameters_for(turn)
            if parameter.requires_grad and (parameter.grad is None or not parameter.grad.abs().sum() > 0)
        ]
        assert not unreached


@pytest.mark.parametrize("name", METHODS)
def test_an_unlabelled_batch_gives_finite_terms_and_gradients(name: str, batch: Batch) -> None:
    nothing = batch._replace(
        expression=torch.full_like(batch.expression, -1),
        affect=torch.full_like(batch.affect, math.nan),
        votes=torch.full_like(batch.votes, math.nan),
    )
    method = make(name).train()
    for turn in method.turns:
        terms = method(nothing, turn)
        assert all(torch.isfinite(term) for term in terms.values())
        torch.stack(list(terms.values())).sum().backward()
        assert all(
            torch.isfinite(parameter.grad).all()
            for parameter in method.parameters()
            if parameter.grad is not None
        )


@pytest.mark.parametrize("name", METHODS)
def test_an_unknown_option_is_named_with_its_neighbour(name: str) -> None:
    with pytest.raises(ConfigError, match="backbone"):
        build({"name": name, "backbon": "tiny"}, SIZE)


@pytest.mark.parametrize("name", RECOGNITION)
@pytest.mark.parametrize("classes", [7, 8])
def test_prediction_has_the_promised_shapes_and_ranges(name: str, classes: int, batch: Batch) -> None:
    method = make(name, classes=classes).eval()
    assert isinstance(method, Recognition)
    prediction = method.predict(batch.image)
    assert prediction.logits.shape == (32, classes)
    assert prediction.affect.shape == (32, 2)
    assert prediction.affect.abs().max() <= 1
    assert prediction.embedding.shape[0] == 32
    assert torch.isfinite(prediction.embedding).all()
    assert not prediction.logits.requires_grad


@pytest.mark.parametrize("name", RECOGNITION)
def test_a_face_is_read_the_same_alone_and_in_company(name: str, batch: Batch) -> None:
    method = make(name).train()
    for turn in method.turns:
        method(batch, turn)  # moves running statistics away from their start
    method.eval()
    assert isinstance(method, Recognition)
    together = method.predict(batch.image)
    for row in (0, 17):
        alone = method.predict(batch.image[row : row + 1])
        torch.testing.assert_close(alone.logits[0], together.logits[row], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.affect[0], together.affect[row], rtol=1e-4, atol=1e-5)
    assert together.logits.std(dim=0).min() > 0, "faces differ, so must their logits"


@pytest.mark.parametrize("name", RECOGNITION)
def test_a_checkpoint_gives_equal_output(name: str, batch: Batch, tmp_path) -> None:
    method = make(name).train()
    method(batch, method.turns[0])
    checkpoint.save(tmp_path / "weights.safetensors", method, {"method": {"name": name}})
    torch.manual_seed(99)
    other = build({"name": name, "backbone": "tiny"}, SIZE)
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert isinstance(method, Recognition)
    assert isinstance(other, Recognition)
    expected, got = method.eval().predict(batch.image), other.eval().predict(batch.image)
    torch.testing.assert_close(got.logits, expected.logits, rtol=0, atol=0)
    torch.testing.assert_close(got.affect, expected.affect, rtol=0, atol=0)


@pytest.mark.parametrize("name", RECOGNITION)
def test_exported_network_says_the_same(name: str, batch: Batch, tmp_path) -> None:
    """`export.to_onnx` compares fp32 with torch itself and refuses a difference; here also alone and in company."""
    method = make(name).train()
    method(batch, method.turns[0])
    assert isinstance(method, Recognition)
    crops = ((batch.image[:6, 0] + 2) * 64).to(torch.uint8).numpy()
    parity = export.to_onnx(method, SIZE, False, tmp_path / "network.onnx", crops)
    assert parity.agreement == 1
    together = export.run_onnx(tmp_path / "network.onnx", crops)
    alone = export.run_onnx(tmp_path / "network.onnx", crops, batch=1)
    np.testing.assert_allclose(together["logits"], alone["logits"], rtol=1e-4, atol=1e-4)


def test_every_expression_has_a_logit_by_default() -> None:
    for name in RECOGNITION:
        assert make(name).config.classes == len(EXPRESSIONS)
