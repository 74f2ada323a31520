"""A released network as a start of training: int8 and folded norms undone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from mien import methods
from mien.data.transforms import normalise, to_float
from mien.errors import ConfigError, WeightsError
from mien.io import cards
from mien.methods.base import Recognition
from mien.release import export
from mien.training import initialise, released

BASELINE = {"name": "baseline", "backbone": "mobilefacenet"}


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """Pictures [24, 80, 80] with structure at several sizes."""
    random = np.random.default_rng(3)
    coarse = torch.from_numpy(random.normal(size=(24, 3, 10, 10)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=80, mode="bicubic").mean(dim=1)
    return (128 + 60 * smooth).clamp(0, 255).numpy().astype(np.uint8)


def shipped(size: int = 80) -> Recognition:
    method = methods.build(BASELINE, size)
    assert isinstance(method, Recognition)
    initialise.fill(method, Path(released.SHIPPED), "whole")
    return method


def as_floats(network: Path, crops: np.ndarray) -> dict[str, np.ndarray]:
    """What a network says with its int8 convolutions computed in floats: alike on every processor."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    opened = onnxruntime.InferenceSession(str(network), options)
    names = [output.name for output in opened.get_outputs()]
    return dict(zip(names, opened.run(names, {"crops": crops}), strict=True))


def test_a_card_may_list_its_heads_and_must_be_a_recognisers(tmp_path: Path) -> None:
    content, card = cards.verified(cards.FOLDER / "recogniser.onnx")
    (tmp_path / "mine.onnx").write_bytes(content)
    listed = {**card.fields, "heads": ["expression"]}
    (tmp_path / "mine.json").write_text(json.dumps(listed), encoding="utf-8")
    found = released.load(tmp_path / "mine.onnx", methods.build(BASELINE, 80))
    assert found.heads == {"expression": True, "affect": False}
    with pytest.raises(WeightsError, match="size"):
        released.load(cards.FOLDER / "landmarks.onnx", methods.build(BASELINE, 80))


def test_the_shipped_recogniser_answers_as_before(crops: np.ndarray) -> None:
    ours = export.run_torch(shipped(), crops)
    theirs = as_floats(cards.FOLDER / "recogniser.onnx", crops)
    for name in ("logits", "embedding"):
        assert np.corrcoef(ours[name].ravel(), theirs[name].ravel())[0, 1] > 0.99, name


def test_unfolded_norms_change_no_answer_and_have_their_inputs_statistics(crops: np.ndarray) -> None:
    method = shipped()
    before = export.run_torch(method, crops)["logits"]
    assert method.backbone.affine
    images = normalise(to_float(torch.from_numpy(crops)))
    initialise.unfold(method.backbone, [images[:12], images[12:]])
    assert not method.backbone.affine
    after = export.run_torch(method, crops)["logits"]
    np.testing.assert_allclose(after, before, atol=1e-3 * np.abs(before).max())
    seen: list[torch.Tensor] = []
    norm = method.backbone.stem[0][1]
    hook = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    method.backbone(images)
    hook.remove()
    torch.testing.assert_close(norm.running_mean, seen[0].mean(dim=(0, 2, 3)), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        norm.running_var, seen[0].var(dim=(0, 2, 3), unbiased=False), rtol=1e-3, atol=1e-3
    )


def test_another_size_or_method_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match=r"set data\.size"):
        shipped(112)
    with pytest.raises(ConfigError, match=r"configure the method that its card names, 'baseline'"):
        initialise.fill(methods.build({"name": "baseline", "backbone": "tiny"}, 80), Path("shipped"), "whole")


def test_a_missing_release_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="gone"):
        released.load(tmp_path / "gone.onnx", methods.build(BASELINE, 80))
