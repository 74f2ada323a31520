"""The recogniser reads crops as its network and card say, and refuses weights that are not those of the card."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.errors import WeightsError
from mien.faces.recognise import BATCH, OnnxRecogniser, softmax
from mien.io import cards, tables
from mien.labels import EXPRESSIONS
from mien.types import Analysis


@pytest.fixture(scope="module")
def recogniser(recogniser_file: Path) -> OnnxRecogniser:
    return OnnxRecogniser.load(recogniser_file, threads=1)


def crops_of(count: int, size: int = 65, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size), dtype=np.uint8)


def test_probabilities_are_the_softmax_of_the_logits_over_the_temperature(
    tmp_path: Path, write_recogniser: Callable[..., Path]
) -> None:
    import onnxruntime

    path = write_recogniser(tmp_path, temperature=2.5)
    crops = crops_of(3)
    logits, affect, embedding = onnxruntime.InferenceSession(str(path)).run(None, {"crops": crops})
    readings = OnnxRecogniser.load(path)(crops, embeddings=True)
    for number, reading in enumerate(readings):
        weights = np.exp(logits[number].astype(float) / 2.5)
        expected = dict(zip(EXPRESSIONS, weights / weights.sum(), strict=True))
        assert reading.probabilities == pytest.approx(expected, abs=1e-6)
        assert reading.expression == EXPRESSIONS[int(logits[number].argmax())]
        assert (reading.valence, reading.arousal) == pytest.approx(tuple(affect[number]), abs=1e-5)
        assert reading.embedding == pytest.approx(tuple(embedding[number]), abs=1e-5)


def test_probabilities_sum_to_one_and_the_intensity_comes_from_elsewhere(recogniser: OnnxRecogniser) -> None:
    for reading in recogniser(crops_of(5)):
        assert sum(reading.probabilities.values()) == pytest.approx(1, abs=1e-12)
        assert reading.intensity is None, "the actions give it"


def test_uncertain_is_a_threshold_on_the_probability(
    tmp_path: Path, write_recogniser: Callable[..., Path]
) -> None:
    readings = OnnxRecogniser.load(write_recogniser(tmp_path, uncertain_below=0.0))(crops_of(40))
    chances = sorted(reading.probability for reading in readings)
    middle = (chances[19] + chances[20]) / 2
    again = OnnxRecogniser.load(write_recogniser(tmp_path, uncertain_below=middle))(crops_of(40))
    assert sum(reading.uncertain for reading in again) == 20
    assert not any(reading.uncertain for reading in readings)
    for reading in again:
        first, second = sorted(reading.probabilities, key=lambda name: -reading.probabilities[name])[:2]
        assert reading.doubts == ((f"between {first} and {second}",) if reading.uncertain else ())


def test_a_batch_larger_than_one_run_equals_singles_exactly(recogniser: OnnxRecogniser) -> None:
    crops = crops_of(2 * BATCH + 3)
    together = recogniser(crops, embeddings=True)
    assert together == [recogniser(crop[None], embeddings=True)[0] for crop in crops]


def test_threads_that_share_a_batch_read_what_one_reads(
    recogniser: OnnxRecogniser, recogniser_file: Path
) -> None:
    several = OnnxRecogniser.load(recogniser_file, threads=3)
    for count in (1, 2, 3, 7, 2 * BATCH, 5 * BATCH + 3):
        crops = crops_of(count, seed=count)
        assert several(crops, embeddings=True) == recogniser(crops, embeddings=True)


def test_the_random_network_of_the_tests_does_not_see_mirroring(recogniser: OnnxRecogniser) -> None:
    crops = crops_of(4)
    for reading, mirrored in zip(recogniser(crops), recogniser(crops[:, :, ::-1]), strict=True):
        assert reading.probabilities == pytest.approx(mirrored.probabilities, abs=1e-5)


def test_no_crops_give_no_readings(recogniser: OnnxRecogniser) -> None:
    assert recogniser(crops_of(0)) == []


def test_embeddings_come_only_when_asked_for(recogniser: OnnxRecogniser) -> None:
    assert recogniser(crops_of(1))[0].embedding == ()
    assert len(recogniser(crops_of(1), embeddings=True)[0].embedding) == 16


@pytest.mark.parametrize(
    "crops", [crops_of(1, size=32), crops_of(1).astype(np.float32), crops_of(1)[..., None]]
)
def test_crops_of_another_form_are_refused(recogniser: OnnxRecogniser, crops: np.ndarray) -> None:
    with pytest.raises(ValueError, match="crops are uint8"):
        recogniser(crops)


def test_temperature_changes_confidence_and_never_the_order() -> None:
    logits = np.random.default_rng(1).normal(0, 3, (50, 8)).astype(np.float32)
    cold, hot = softmax(logits, 0.5), softmax(logits, 4.0)
    assert (cold.argsort(axis=1) == hot.argsort(axis=1)).all()
    assert (cold.max(axis=1) > hot.max(axis=1)).all()
    assert softmax(np.array([[1e4, 0, 0, 0, 0, 0, 0, 0]], np.float32), 1.0)[0, 0] == 1  # no overflow


def test_one_changed_byte_is_noticed(tmp_path: Path, write_recogniser: Callable[..., Path]) -> None:
    path = write_recogniser(tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not the weights of the card"):
        OnnxRecogniser.load(path)


def test_truncated_weights_are_noticed(tmp_path: Path, write_recogniser: Callable[..., Path]) -> None:
    path = write_recogniser(tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="not the weights of the card"):
        OnnxRecogniser.load(path)


@pytest.mark.parametrize("missing", [".onnx", ".json"])
def test_missing_weights_or_card_name_the_file_and_the_remedy(
    tmp_path: Path, write_recogniser: Callable[..., Path], missing: str
) -> None:
    path = write_recogniser(tmp_path)
    path.with_suffix(missing).unlink()
    with pytest.raises(WeightsError, match=rf"random\{missing}: no such .*reinstall"):
        OnnxRecogniser.load(path)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"classes": ["anger", "joy"]}, "classes"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"input": {"size": 80, "colour": "grey"}}, "80 px"),
        ({"input": {"size": 65, "colour": "rgb"}}, "rgb"),
        ({"input": 65}, "input"),
    ],
)
def test_a_card_that_contradicts_the_network_is_refused(
    tmp_path: Path, write_recogniser: Callable[..., Path], fields: dict[str, object], complaint: str
) -> None:
    path = write_recogniser(tmp_path, **fields)
    with pytest.raises(WeightsError, match=complaint):
        OnnxRecogniser.load(path)


def test_a_network_for_something_else_is_refused(
    tmp_path: Path, write_recogniser: Callable[..., Path]
) -> None:
    import hashlib

    import onnx

    path = write_recogniser(tmp_path)
    model = onnx.load(path)
    del model.graph.output[0]
    path.write_bytes(model.SerializeToString())
    card = json.loads(path.with_suffix(".json").read_text())
    card["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match="logits"):
        OnnxRecogniser.load(path)


def test_a_card_must_be_complete_json(tmp_path: Path) -> None:
    for text, complaint in (
        ("{", "not a readable card"),
        ("[]", "JSON object"),
        ('{"name": "x"}', "does not state"),
    ):
        (tmp_path / "card.json").write_text(text)
        with pytest.raises(WeightsError, match=complaint):
            cards.read(tmp_path / "card.json")


def test_the_text_of_a_card_holds_every_value(recogniser_file: Path) -> None:
    card = cards.read(recogniser_file.with_suffix(".json"))
    text = card.text()
    assert "size: 65" in text
    assert card.fields["sha256"] in text
    assert "- contempt" in text


def test_every_weight_inside_the_package_has_its_card_listed() -> None:
    weights = [path for path in cards.FOLDER.rglob("*") if path.suffix in (".onnx", ".npz")]
    assert len(weights) >= 5
    assert {path.with_suffix(".json") for path in weights} == {card.path for card in cards.shipped()}
    for path in weights:
        cards.verified(path)


def test_what_was_not_trained_is_empty_everywhere(
    tmp_path: Path, write_recogniser: Callable[..., Path], astronaut: Path, command: Callable[..., Any]
) -> None:
    """A network without valence and arousal labels: None in Python and JSON, an empty cell, a dash, no dial."""
    weights = write_recogniser(tmp_path, heads={"expression": True, "affect": False})
    reading = OnnxRecogniser.load(weights)(crops_of(1))[0]
    assert (reading.valence, reading.arousal) == (None, None)
    shown = command("predict", astronaut, "--weights", weights, "--annotate", tmp_path / "marked")
    assert shown.code == 0, shown.err
    assert re.search(r"\d\.\d\d +- +- +\d\.\d\d", shown.out)
    told = command("predict", astronaut, "--weights", weights, "--json")
    analysis = Analysis.from_json(told.out.strip())
    assert analysis.faces[0].valence is None
    assert "NaN" not in told.out
    table = tmp_path / "faces.csv"
    assert command("predict", astronaut, "--weights", weights, "--out", table).code == 0
    (row,) = tables.load(table)
    assert (row["valence"], row["arousal"]) == (None, None)
    assert row["expression"] is not None
