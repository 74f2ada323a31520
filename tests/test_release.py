"""From a run to weights that load, and what the card says of other sets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien.data.readers import manifest
from mien.data.synthetic import drawings
from mien.evaluation.validation import validate
from mien.faces.recognise import OnnxRecogniser
from mien.io import cards
from mien.labels import EXPRESSIONS
from mien.release import build as release
from mien.training import checkpoint, loop
from mien.training.config import RunConfig

NEUTRAL, HAPPY, SAD = (EXPRESSIONS.index(name) for name in ("neutral", "happiness", "sadness"))


def test_pairs_count_people_whose_smile_looks_happier() -> None:
    people = ["a", "a", "b", "b", "c", "c", "c", "d"]
    labels = np.array([NEUTRAL, HAPPY, HAPPY, NEUTRAL, NEUTRAL, HAPPY, SAD, HAPPY])
    happiness = np.array([0.1, 0.9, 0.4, 0.5, 0.2, 0.3, 0.9, 0.9])
    # a and c smile more than they did; b less; c's sadness and the lone smile of d do not count.
    found = release.happier(happiness, labels, people)
    assert found.value == pytest.approx(2 / 3)
    assert 0 < found.low < found.value < found.high < 1


def test_a_person_with_many_pairs_counts_once() -> None:
    people = ["a"] * 20 + ["b", "b", "c", "c"]
    labels = np.array([NEUTRAL] * 10 + [HAPPY] * 10 + [NEUTRAL, HAPPY] * 2)
    happiness = np.array([0.1] * 10 + [0.9] * 10 + [0.5, 0.2] * 2)
    found = release.happier(happiness, labels, people)
    assert found.value == pytest.approx(1 / 3)  # not 100 of 102 pairs
    assert (found.low, found.high) == (0, 1)


def test_equal_probabilities_are_no_success() -> None:
    found = release.happier(np.array([0.5, 0.5]), np.array([NEUTRAL, HAPPY]), ["a", "a"])
    assert found.value == 0


def test_a_whole_release_ends_in_weights_that_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "INT8_LOSS", 1.0)  # the few validation pictures here say nothing of it
    faces = tmp_path / "faces"
    records = [
        replace(one, attributes={**one.attributes, "half": "first" if n < 80 else "second"})
        for n, one in enumerate(drawings.records(faces, 160, size=48))
    ]
    manifest.write(records, faces / "manifest.csv")
    source = {"reader": "manifest", "root": str(faces)}
    run = RunConfig(
        name="drawn",
        method={"name": "baseline", "backbone": "tiny"},
        data={**source, "size": 48, "cache": str(tmp_path / "cache")},
        epochs=1,
        batch=16,
        threads=1,
        runs=tmp_path / "runs",
    )
    card = dict.fromkeys(cards.REQUIRED, "stated")
    config = release.ReleaseConfig(
        name="drawn",
        run=loop.run(run, validate),
        elsewhere=[{**source, "root": faces, "by": ["half"]}],
        card=card,
    )
    said: list[str] = []
    network = release.build(config, tmp_path / "out", said.append)
    written = json.loads(network.with_suffix(".json").read_text(encoding="utf-8"))
    tested = [one for one in records if one.split == "test"]
    assert written["metrics"]["images"] == len(tested)
    assert written["metrics"]["elsewhere"]["faces"]["images"] == len(records)
    halves = written["metrics"]["elsewhere"]["faces"]["by half"]
    assert [halves[name]["images"] for name in ("first", "second")] == [80, 80]
    assert sorted(path.name for path in network.parent.iterdir()) == [
        "drawn.fp32.onnx",
        "drawn.json",
        "drawn.onnx",
    ]
    assert written["sha256"] == checkpoint.digest(network)
    assert set(written["metrics"]["affect"]) == {"decay", "vote-derived affect of the test split"}
    readings = OnnxRecogniser.load(network)(np.zeros((2, 48, 48), dtype=np.uint8))
    assert sum(readings[0].probabilities.values()) == pytest.approx(1, abs=1e-4)
    assert any("int8" in line for line in said)


@pytest.mark.parametrize(
    ("confident", "threshold"),
    [(1.0, 0.75), (0.75, 0.75), (0.7, 0.65), (0.0, 0.5)],
    ids=["all sure", "a quarter is not", "more than a quarter is not", "none is"],
)
def test_a_threshold_marks_at_most_a_quarter_of_the_validation_pictures(
    confident: float, threshold: float
) -> None:
    sure = np.where(np.arange(100) < 100 * confident, 0.9, 0.49 if confident == 0 else 0.66)
    rest = (1 - sure) / 2
    temperature = 2.0
    logits = temperature * np.log(np.stack([sure, rest, rest], axis=1)).astype(np.float32)
    found = release.Certainty.of(logits, temperature)
    assert (found.temperature, found.uncertain_below) == (temperature, threshold)
