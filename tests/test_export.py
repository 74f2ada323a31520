"""ONNX says what torch says, and the recogniser reads what was exported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mien import methods
from mien.data.synthetic import drawings
from mien.errors import WeightsError
from mien.faces.recognise import OnnxRecogniser
from mien.io import cards
from mien.release import export


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return np.stack([face.pixels[..., 0] for face in drawings.faces(96, size=48)])


@pytest.fixture(scope="module")
def trained(crops: np.ndarray) -> methods.Method:
    torch.manual_seed(0)
    return methods.build({"name": "baseline", "backbone": "tiny"}, 48)


def test_fp32_agrees_with_torch_for_any_batch(
    trained: methods.Method, crops: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "plain.onnx"
    agreed = export.to_onnx(trained, 48, False, path, crops)
    assert agreed.relative < export.TOLERANCE
    assert agreed.agreement == 1.0
    together, alone = export.run_onnx(path, crops), export.run_onnx(path, crops, batch=1)
    for name in ("logits", "affect", "embedding"):
        assert np.allclose(together[name], alone[name], atol=1e-5)


def test_a_disagreement_is_refused(
    trained: methods.Method, crops: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = export.run_torch
    monkeypatch.setattr(
        export, "run_torch", lambda *given: {name: value + 1 for name, value in honest(*given).items()}
    )
    with pytest.raises(WeightsError, match="differs from the checkpoint"):
        export.to_onnx(trained, 48, False, tmp_path / "plain.onnx", crops[:8])
    assert not (tmp_path / "plain.onnx").exists()


def test_the_recogniser_reads_what_was_exported(
    trained: methods.Method, crops: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "mine.onnx"
    export.to_onnx(trained, 48, False, path, crops[:8])
    from mien.io.cards import REQUIRED
    from mien.training.checkpoint import digest

    card = dict.fromkeys(REQUIRED, "") | {
        "name": "mine",
        "input": {"size": 48, "colour": "grey"},
        "sha256": digest(path),
        "temperature": 1.5,
    }
    path.with_suffix(".json").write_text(json.dumps(card))
    readings = OnnxRecogniser.load(path)(crops[:5], embeddings=True)
    logits = export.run_torch(trained, crops[:5])["logits"] / 1.5
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for reading, row in zip(readings, expected, strict=True):
        assert list(reading.probabilities.values()) == pytest.approx(row.tolist(), abs=1e-4)
        assert len(reading.embedding) == 32


@pytest.mark.parametrize("path", sorted(cards.FOLDER.rglob("*.onnx")), ids=lambda path: path.stem)
def test_networks_that_ship_say_nothing_of_the_machine_they_were_made_on(path: Path) -> None:
    data = path.read_bytes()
    for trace in (b"stack_trace", b"site-packages", b"/home/", b"/root/", b"/tmp/", b'.py"'):
        assert trace not in data
