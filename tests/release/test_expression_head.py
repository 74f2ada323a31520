"""A new head for weights that exist: the fit against oracles, the exchange in the network, and the whole recipe."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mien.data.readers import manifest
from mien.data.synthetic import drawings
from mien.errors import ConfigError, WeightsError
from mien.evaluation.validation import validate
from mien.faces.recognise import OnnxRecogniser
from mien.io import cards
from mien.labels import EXPRESSIONS
from mien.release import build as building
from mien.release import expression_head
from mien.release.expression_head import Embedded
from mien.training import loop
from mien.training.config import RunConfig


def _set(name: str, counts, seed: int = 0, distance: float = 2.0, share: float = 1.0) -> Embedded:
    """Normal embeddings of unit variance around a corner of a simplex for each label."""
    generator = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(counts)), counts)
    centres = distance * np.eye(len(counts))
    vectors = (generator.normal(size=(len(truth), len(counts))) + centres[truth]).astype(np.float32)
    targets = np.eye(len(counts), dtype=np.float32)[truth]
    return Embedded(name, vectors, vectors, np.zeros_like(targets), targets, truth, share)


def test_the_logits_follow_uniform_shares_however_unequal_the_set() -> None:
    """Of two labels with normal densities of variance 1 the log likelihood ratio is known."""
    weights, offsets = expression_head.fit([_set("a", [9000, 1000])], 0.0)
    points = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0], [0.0, 2.0]], dtype=np.float32)
    logits = points @ weights.T + offsets
    ratio = logits[:, 0] - logits[:, 1]
    assert ratio == pytest.approx(2.0 * (points[:, 0] - points[:, 1]), abs=0.3)


def test_shares_and_not_counts_say_what_a_set_weighs() -> None:
    one, other = _set("a", [400, 400], seed=1), _set("b", [400, 400], seed=2)
    turned = Embedded(
        "b", -other.embeddings, -other.mirrored, other.logits, other.targets, other.truth, share=1e-6
    )
    alone, _ = expression_head.fit([one], 1e-3)
    both, _ = expression_head.fit([one, turned], 1e-3)
    assert both == pytest.approx(alone, abs=0.02)


def test_a_set_is_judged_by_a_head_that_did_not_learn_from_it() -> None:
    """The left-out set's labels are exchanged: learnt from, they would be answered; left out, they are not."""
    first, second = _set("a", [300, 300], seed=1), _set("b", [300, 300], seed=2)
    wrong = Embedded(
        "b",
        second.embeddings,
        second.mirrored,
        second.logits,
        second.targets[:, ::-1].copy(),
        1 - second.truth,
        50.0,
    )
    found = expression_head.left_out([first, wrong], 1e-3, np.log(first.prior), True, lambda text: None)
    assert set(found) == {"b"}
    assert found["b"]["uniform"]["accuracy"] < 0.2
    assert found["b"]["uniform"]["images"] == 600
    assert set(found["b"]) == {"before", "default", "uniform"}


def test_a_head_that_learnt_from_the_sets_is_not_compared_with() -> None:
    sets = [_set("a", [300, 300], seed=1), _set("b", [300, 300], seed=2)]
    found = expression_head.left_out(sets, 1e-3, np.log(sets[0].prior), False, lambda text: None)
    assert set(found["b"]) == {"default", "uniform"}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small recogniser as `mien release` writes it, and the drawn faces that it learnt from."""
    folder = tmp_path_factory.mktemp("released")
    faces = folder / "faces"
    manifest.write(drawings.records(faces, 160, size=48), faces / "manifest.csv")
    run = RunConfig(
        name="drawn",
        method={"name": "baseline", "backbone": "tiny"},
        data={"reader": "manifest", "root": str(faces), "size": 48, "cache": str(folder / "cache")},
        epochs=1,
        batch=16,
        threads=1,
        runs=folder / "runs",
    )
    card = dict.fromkeys(cards.REQUIRED, "stated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "INT8_LOSS", 1.0)
        config = building.ReleaseConfig(name="drawn", run=loop.run(run, validate), card=card)
        return building.build(config, folder / "out", lambda text: None), faces


def _config(network: Path, faces: Path, **changes) -> expression_head.HeadConfig:
    source = {"reader": "manifest", "root": str(faces)}
    tree = {"name": "again", "network": str(network), "main": source, "sources": [source], "prior": 0.5}
    return expression_head.load({**tree, **changes}, "head.yaml")


def test_the_whole_recipe_ends_in_weights_with_another_head(
    released: tuple[Path, Path], tmp_path: Path
) -> None:
    network, faces = released
    config = _config(network, faces, elsewhere=[{"reader": "manifest", "root": str(faces)}])
    made = expression_head.build(config, tmp_path / "out", lambda text: None)
    assert sorted(path.name for path in made.parent.iterdir()) == ["again.json", "again.onnx"]
    card = json.loads(made.with_suffix(".json").read_text(encoding="utf-8"))
    assert sum(card["prior"]["default"].values()) == pytest.approx(1, abs=1e-4)
    assert set(card["prior"]["logits"].values()) == {1 / 8}
    assert card["recipe"]["head"]["prior"] == 0.5
    assert card["metrics"]["elsewhere"]["faces"]["images"] == 160
    crops = np.random.default_rng(0).integers(0, 255, (20, 48, 48), dtype=np.uint8)
    before, after = (OnnxRecogniser.load(path)(crops, embeddings=True) for path in (network, made))
    assert [one.embedding for one in before] == [one.embedding for one in after]
    assert [one.valence for one in before] == [one.valence for one in after]
    assert [one.probabilities for one in before] != [one.probabilities for one in after]
    uniform = OnnxRecogniser.load(made, prior="uniform")(crops)
    shares = np.array([card["prior"]["default"][name] for name in EXPRESSIONS])
    for default, flat in zip(after, uniform, strict=True):
        expected = np.array(list(flat.probabilities.values())) * shares
        assert list(default.probabilities.values()) == pytest.approx(expected / expected.sum(), abs=1e-4)


def test_the_network_is_quantised_again_if_asked(released: tuple[Path, Path], tmp_path: Path) -> None:
    """The embedding stays as it was but for its codes."""
    network, faces = released
    said: list[str] = []
    made = expression_head.build(_config(network, faces, quantise=True), tmp_path / "out", said.append)
    assert any(line.startswith("int8: ") for line in said)
    card = json.loads(made.with_suffix(".json").read_text(encoding="utf-8"))
    assert card["recipe"]["head"]["quantise"] is True
    crops = np.stack([face.pixels[..., 0] for face in drawings.faces(40, size=48)])
    before, after = (
        np.array([one.embedding for one in OnnxRecogniser.load(path)(crops, embeddings=True)])
        for path in (network, made)
    )
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.98


def test_a_network_without_a_linear_head_is_refused(released: tuple[Path, Path]) -> None:
    content = released[0].read_bytes()
    with pytest.raises(WeightsError, match="the new one"):
        expression_head.replaced(content, np.zeros((8, 3), np.float32), np.zeros(8, np.float32))
    landmarks = (cards.FOLDER / "landmarks.onnx").read_bytes()
    with pytest.raises(WeightsError, match="no head can be replaced"):
        expression_head.replaced(landmarks, np.zeros((8, 512), np.float32), np.zeros(8, np.float32))


def test_a_wrong_key_is_named(released: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="penalty"):
        _config(*released, penalty=-1.0)
    with pytest.raises(ConfigError, match="sources"):
        _config(*released, sources=[])
