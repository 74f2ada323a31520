"""The report against hand-made answers; the file of predictions; and the whole way from weights to a page."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mien import methods
from mien.cli.main import app
from mien.data.predictions import Predictions, PredictionsError, RunInfo, pooled
from mien.data.readers import manifest
from mien.data.synthetic import drawings
from mien.errors import ConfigError, DatasetNotFound, OutputExists, WeightsError
from mien.evaluation import evaluate, inference, metrics
from mien.evaluation.evaluate import EvaluationError
from mien.evaluation.subgroups import grouped
from mien.faces.recognise import softmax
from mien.labels import BASIC, EXPRESSIONS
from mien.reports import evaluation_report
from mien.training import checkpoint


def made(n: int = 240, seed: int = 0, k: int = 8, skill: float = 2.0, **rest) -> Predictions:
    """Predictions of a model with some skill on n images with affect, votes, subjects and attributes."""
    generator = np.random.default_rng(seed)
    truth = np.arange(n) % k
    affect = generator.uniform(-1, 1, (n, 2))
    values = {
        "affect_truth": affect,
        "affect": np.clip(affect + 0.3 * generator.normal(size=(n, 2)), -1, 1),
        "votes": 0.1 / k + 0.9 * np.eye(k)[truth],
        "embedding": (np.eye(k)[truth] + 0.3 * generator.normal(size=(n, k))).astype(np.float32),
        "subjects": tuple(f"s{i // 12}" for i in range(n)),
        "attributes": {
            "gender": np.array(["female", "male"])[np.arange(n) // k % 2],
            "brightness": generator.uniform(0, 255, n),
        },
        "provenance": RunInfo("made", protocol="test", digest="0" * 64, weights_hash="1" * 64),
    } | rest
    logits = generator.normal(size=(n, k)) + skill * np.eye(k)[truth]
    return Predictions.of_logits(
        [f"image{i}" for i in range(n)], truth, logits, classes=EXPRESSIONS[:k], **values
    )


def test_figures_are_those_of_the_metrics() -> None:
    given = made()
    found = evaluate.report(given, draws=50)
    best = given.probabilities.argmax(axis=1)
    matrix = metrics.confusion(given.truth, best, 8)
    for name, value in metrics.classification(matrix).items():
        assert found.scores[name].value == pytest.approx(float(value)), name
        assert found.scores[name].low <= found.scores[name].value <= found.scores[name].high
    assert np.array_equal(found.confusion, matrix)
    assert [row.support for row in found.per_class] == matrix.sum(axis=1).tolist()
    assert found.per_class[1].recall.value == pytest.approx(matrix[1, 1] / matrix[1].sum())
    assert found.affect["valence"]["ccc"].value == pytest.approx(
        metrics.affect(given.affect[:, 0], given.affect_truth[:, 0])["ccc"]
    )
    assert found.selective is not None
    assert found.selective.points[0] == (1.0, pytest.approx(1 - found.scores["accuracy"].value))
    assert found.people == 20
    assert found.annotators["votes_for_label"] == pytest.approx(0.9 + 0.1 / 8)
    assert found.separation["recall_at_1"] > 0.8


def test_order_of_the_images_changes_no_figure() -> None:
    given = made()
    order = np.random.default_rng(1).permutation(len(given))
    one, other = (evaluate.report(p, draws=20) for p in (given, given.rows(order)))
    for name in one.scores:
        assert one.scores[name].value == pytest.approx(other.scores[name].value, abs=1e-12)
    assert one.confusion == other.confusion
    assert one.calibration is not None
    assert other.calibration is not None
    assert one.calibration.ece == pytest.approx(other.calibration.ece, abs=1e-12)


def test_undetected_faces_are_kept_counted_or_dropped_as_asked() -> None:
    found = np.arange(240) % 10 != 0
    given = made(skill=20.0, found=found)
    kept, error, dropped = (
        evaluate.report(given, undetected=how, draws=20) for how in ("keep", "error", "drop")
    )
    assert kept.scores["accuracy"].value == 1
    assert error.scores["accuracy"].value == pytest.approx(0.9)
    assert sum(row[-1] for row in error.confusion) == 24
    assert dropped.scores["accuracy"].value == 1
    assert (kept.labelled, error.labelled, dropped.labelled) == (240, 240, 216)
    assert all(report.not_found == 24 for report in (kept, error, dropped))
    assert any("counted as errors" in note for note in error.notes)
    with pytest.raises(EvaluationError, match="keep, error, drop"):
        evaluate.report(given, undetected="ignore")  # type: ignore[arg-type]


def test_a_validation_split_mends_overconfidence() -> None:
    generator = np.random.default_rng(2)
    logits = generator.normal(size=(4000, 8)) * 1.5
    truth = (softmax(logits).cumsum(axis=1) < generator.random((4000, 1))).sum(axis=1)
    whole = Predictions.of_logits([str(i) for i in range(4000)], truth, 3 * logits)
    found = evaluate.report(
        whole.rows(np.arange(2000)), validation=whole.rows(np.arange(2000, 4000)), draws=20
    )
    assert found.calibration is not None
    assert found.calibration.temperature == pytest.approx(3, rel=0.1)
    assert found.calibration.ece_scaled is not None
    assert found.calibration.ece_scaled < 0.05 < 0.15 < found.calibration.ece


def test_slices_partition_the_images() -> None:
    found = evaluate.report(made(), by=["gender", "brightness"], draws=20)
    gender = [part for part in found.slices if part.by == "gender"]
    bright = [part for part in found.slices if part.by == "brightness"]
    assert [part.group for part in gender] == ["female", "male"]
    assert sum(part.images for part in gender) == 240
    assert [part.images for part in bright] == [60, 60, 60, 60]
    mean = sum(part.images * part.scores["accuracy"].value for part in gender) / 240
    assert mean == pytest.approx(found.scores["accuracy"].value)
    with pytest.raises(EvaluationError, match="did you mean 'gender'"):
        evaluate.report(made(), by=["gendr"])


def test_affect_is_judged_in_each_group_too() -> None:
    given = made()
    person = np.where(np.arange(240) // 12 < 15, "seen", "unseen").astype(object)
    given = dataclasses.replace(given, attributes={"person": person})
    found = evaluate.report(given, by=["person"], draws=20)
    assert [(part.group, part.images, part.people) for part in found.slices] == [
        ("seen", 180, 15),
        ("unseen", 60, 5),
    ]
    for part in found.slices:
        inside = person == part.group
        for index, dimension in enumerate(("valence", "arousal")):
            alone = metrics.affect(given.affect[inside, index], given.affect_truth[inside, index])
            for name, value in alone.items():
                assert part.affect[dimension][name].value == pytest.approx(value), (part.group, name)
    rated = dataclasses.replace(given, truth=np.full(240, -1))
    only = evaluate.report(rated, by=["person"], draws=20)
    assert [part.images for part in only.slices] == [180, 60]
    assert all(part.affect and not part.scores for part in only.slices)
    for text in (evaluation_report.markdown(only), evaluation_report.html(only, rated)):
        assert "CCC, valence" in text
        assert "RMSE, arousal" in text
        assert "macro F1" not in text.split("Groups")[1].split("Notes")[0].split("How to read")[0]


def test_group_names_have_units_and_few_digits() -> None:
    spread = np.random.default_rng(0).uniform(0, 55, 400)
    names = list(grouped(spread, "degrees"))
    assert names[0].startswith("0.")
    assert all(re.fullmatch(r"\d+\.\d to \d+\.\d degrees", name) for name in names)
    assert list(grouped(np.full(9, 48.0), "pixels")) == ["48 pixels"]
    close = np.array([0.0, 1e-5, 2e-5, 3e-5, 4e-5, 5e-5, 6e-5, 100.0])
    assert len(grouped(close)) == 4, "edges that would read the same get more digits"


def test_small_groups_are_named_and_not_scored() -> None:
    words = np.array(["many"] * 235 + ["few"] * 5)
    found = evaluate.report(made(attributes={"age": words}), by=["age"], draws=20)
    assert {part.group: bool(part.scores) for part in found.slices} == {"few": False, "many": True}


def test_unknown_attribute_values_stand_last() -> None:
    values = np.array([0.1 * i for i in range(20)] + [math.nan])
    assert list(grouped(values))[-1] == "unknown"
    assert list(grouped(np.array(["b", None, "a"], dtype=object))) == ["a", "b", "unknown"]
    ages = np.array(["70+", "4-19", None, "20-39", "0-3"], dtype=object)
    assert list(grouped(ages)) == ["0-3", "4-19", "20-39", "70+", "unknown"]
    masks = np.stack(list(grouped(values).values()))
    assert (masks.sum(axis=0) == 1).all()


def test_an_affect_only_set_has_no_class_figures() -> None:
    found = evaluate.report(made(attributes={}).rows(np.arange(50)), draws=20)
    bare = made()
    bare = Predictions(**{f: getattr(bare, f) for f in bare.__slots__} | {"truth": np.full(240, -1)})
    only = evaluate.report(bare, draws=20)
    assert found.scores
    assert (only.scores, only.per_class, only.confusion, only.calibration) == ({}, (), (), None)
    assert set(only.affect) == {"valence", "arousal"}
    nothing = Predictions(("a",), np.array([-1]), np.full((1, 8), 0.125))
    with pytest.raises(EvaluationError, match="no image has an expression"):
        evaluate.report(nothing)


def test_json_is_strict_and_whole() -> None:
    found = evaluate.report(made(n=40), by=["gender"], draws=20)
    tree = json.loads(found.to_json(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert tree["scores"]["accuracy"]["value"] == found.scores["accuracy"].value
    assert tree["provenance"]["weights_hash"] == "1" * 64
    assert len(tree["confusion"]) == 8


def test_predictions_survive_the_file(tmp_path) -> None:
    given = made()
    path = given.save(tmp_path / "predictions.parquet", embeddings=True)
    again = Predictions.load(path)
    assert again.names == given.names
    assert again.subjects == given.subjects
    assert again.classes == given.classes
    assert again.provenance == given.provenance
    for name in ("truth", "probabilities", "affect", "affect_truth", "votes", "embedding", "found"):
        np.testing.assert_array_equal(getattr(again, name), getattr(given, name), err_msg=name)
    for key, values in given.attributes.items():
        np.testing.assert_array_equal(again.attributes[key], values)
    assert evaluate.report(again, draws=20).to_json() == evaluate.report(given, draws=20).to_json()
    small = Predictions.load(given.save(tmp_path / "without.parquet"))
    assert small.embedding.shape == (240, 0)


def test_a_wrong_file_says_what_to_do(tmp_path) -> None:
    with pytest.raises(PredictionsError, match="mien evaluate"):
        Predictions.load(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("not parquet")
    with pytest.raises(PredictionsError, match="not a Parquet file"):
        Predictions.load(tmp_path / "text.parquet")


def test_contradicting_predictions_are_refused_at_the_door() -> None:
    with pytest.raises(PredictionsError, match=r"truth has shape"):
        Predictions(("a", "b"), np.array([0]), np.full((2, 8), 0.125))
    with pytest.raises(PredictionsError, match="not probabilities, first 'b'"):
        Predictions(("a", "b"), np.array([0, 1]), np.array([[0.125] * 8, [3.0] * 8]))
    with pytest.raises(PredictionsError, match="outside"):
        Predictions(("a",), np.array([8]), np.full((1, 8), 0.125))


def test_the_seven_class_view_renormalises_and_refuses_to_lose_labels() -> None:
    shares = np.array([[0.4, 0.1, 0, 0, 0, 0, 0, 0.5], [0, 0, 0, 0, 0, 0, 0, 1.0]])
    given = Predictions(("a", "b"), np.array([0, 1]), shares)
    seven = given.over(BASIC)
    np.testing.assert_allclose(seven.probabilities[0, :2], [0.8, 0.2])
    np.testing.assert_allclose(seven.probabilities[1], 1 / 7)
    with pytest.raises(PredictionsError, match="'contempt', the label of 1 image"):
        Predictions(("a",), np.array([7]), shares[:1]).over(BASIC)
    with pytest.raises(PredictionsError, match="has no class 'joy'"):
        given.over(("joy",))


def test_folds_pool_to_the_figures_of_the_whole() -> None:
    whole = made()
    folds = [whole.rows(np.flatnonzero(np.arange(240) % 3 == k)) for k in range(3)]
    one, other = evaluate.report(whole, draws=10), evaluate.report(pooled(folds), draws=10)
    assert one.confusion == other.confusion
    assert one.affect["arousal"]["ccc"].value == pytest.approx(other.affect["arousal"]["ccc"].value)
    assert other.provenance.digest != one.provenance.digest
    assert pooled(folds).provenance.digest == pooled(folds[::-1]).provenance.digest
    with pytest.raises(PredictionsError, match="in two folds"):
        pooled([folds[0], folds[0]])
    with pytest.raises(PredictionsError, match="differ in classes"):
        pooled([folds[0], made(k=7)])


# From weights to a page --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    """80 drawn faces as a manifest, with their exact landmarks for all but one test picture."""
    folder = tmp_path_factory.mktemp("faces")
    records = drawings.records(folder, 80, size=48)
    drawn = drawings.faces(80, size=48)
    missing = next(i for i, one in enumerate(records) if one.split == "test")
    kept = [i for i in range(80) if i != missing]
    np.savez(
        folder / "points.npz",
        names=np.array([records[i].name for i in kept]),
        points=np.stack([drawn[i].landmarks for i in kept]).astype(np.float32),
    )
    manifest.write(records, folder / "manifest.csv")
    return folder


@pytest.fixture(scope="module")
def run_folder(faces: Path, tmp_path_factory) -> Path:
    """A run folder with random weights."""
    torch.manual_seed(0)
    method = methods.build({"name": "baseline", "backbone": "tiny"}, 32)
    folder = tmp_path_factory.mktemp("runs") / "tiny-s3"
    folder.mkdir()
    config = {
        "name": "tiny",
        "method": {"name": "baseline", "backbone": "tiny"},
        "data": {"reader": "manifest", "root": str(faces), "points": str(faces / "points.npz")},
        "select": "accuracy",
        "seed": 3,
    }
    card = {"method": config["method"], "size": 32, "colour": False, "epoch": 1, "seed": 3, "config": config}
    checkpoint.save(folder / "weights.safetensors", method, card)
    events = [
        {"kind": "epoch", "step": i, "epoch": i, "train_expression": 2 - i, "accuracy": i / 3}
        for i in range(3)
    ]
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps(event) + "\n" for event in events), encoding="utf-8"
    )
    return folder


def test_a_run_is_judged_on_its_own_crops(faces, run_folder, tmp_path) -> None:
    found, predictions = evaluate.run(
        run_folder,
        faces,
        reader="manifest",
        cache=tmp_path,
        by=["brightness", "size"],
        calibrate=True,
        draws=20,
        threads=1,
    )
    assert (found.images, found.not_found, found.people) == (16, 1, 2)
    assert found.calibration is not None
    assert found.calibration.temperature is not None
    assert {part.by for part in found.slices} == {"brightness", "size"}
    what = found.provenance
    assert (what.model, what.method, what.seed, what.split) == ("tiny-s3", "baseline", 3, "test")
    assert what.alignment == "stored landmarks"
    assert what.weights_hash == checkpoint.digest(run_folder / "weights.safetensors")
    assert what.parameters
    method = checkpoint.load(run_folder / "weights.safetensors").restore()
    crops = np.load(next(tmp_path.glob("*.npy")), mmap_mode="r")
    assert crops.shape[1:] == (32, 32)
    assert len(predictions) == 16
    assert not method.training


def test_mirrored_views_are_averaged_and_named(run_folder: Path, faces: Path, tmp_path: Path) -> None:
    model = inference.open_weights(run_folder)
    source = inference.source_of(faces, None, "manifest", 0, faces / "points.npz", model.source)
    plain = inference.predict(model, source, cache=tmp_path)
    both = inference.predict(model, source, cache=tmp_path, mirror=True)
    turned = dataclasses.replace(
        model, read=lambda crops: model.read(np.ascontiguousarray(crops[:, :, ::-1]))
    )
    other = inference.predict(turned, source, cache=tmp_path)
    np.testing.assert_allclose(both.affect, (plain.affect + other.affect) / 2, atol=1e-6)
    np.testing.assert_allclose(both.embedding, (plain.embedding + other.embedding) / 2, atol=1e-5)
    assert (both.provenance.views, plain.provenance.views) == (2, 1)


def test_single_images_get_the_answers_of_the_batch(faces, run_folder, tmp_path) -> None:
    model = inference.open_weights(run_folder)
    source = inference.source_of(faces, reader="manifest", like=model.source)
    whole = inference.predict(model, source, cache=tmp_path)
    single = inference.predict(model, source, cache=tmp_path, batch=1)
    np.testing.assert_allclose(whole.probabilities, single.probabilities, atol=1e-5)
    assert whole.names == single.names


def test_an_exported_recogniser_is_judged_alike(faces, recogniser_file, tmp_path) -> None:
    found, predictions = evaluate.run(
        recogniser_file, faces, reader="manifest", points=faces / "points.npz", cache=tmp_path, draws=20
    )
    assert found.labelled == 16
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "face.pt"),
        ({"start": "runs/other-s1/weights.safetensors"}, "other-s1"),
        (
            {"start": "runs/other-s1/weights.safetensors", "start_part": "backbone"},
            "the backbone of other-s1",
        ),
        ({"start": "masters/first.safetensors"}, "first"),
        ({"start": "model/mine.onnx"}, "mine"),
        ({"start": "shipped", "start_part": "backbone"}, "the backbone of the recogniser inside the package"),
    ],
)
def test_a_report_names_what_the_weights_started_from(tmp_path: Path, config: dict, words: str) -> None:
    method = methods.build({"name": "baseline", "backbone": "tiny"}, 32)
    section = {"name": "baseline", "backbone": "tiny", "weights": "cache/face.pt"}
    config = {"name": "tiny", "method": section, "select": "accuracy", **config}
    checkpoint.save(
        tmp_path / "w.safetensors", method, {"method": section, "size": 32, "epoch": 0, "config": config}
    )
    assert inference.open_weights(tmp_path / "w.safetensors").provenance.pretraining == words


def test_groups_join_seeds_and_part_settings() -> None:
    base = {"name": "a", "optim": {"rate": 1.0}, "data": {"root": "x", "size": 80}, "seed": 0, "runs": "here"}
    assert inference.group_of(base) == inference.group_of({**base, "seed": 5, "runs": "there"})
    assert inference.group_of(base) == inference.group_of({**base, "data": {"root": "y", "size": 80}})
    assert inference.group_of(base) != inference.group_of({**base, "data": {"root": "x", "size": 64}})
    own = [{**base, "seed": n, "start": f"runs/first-s{n}/weights.safetensors"} for n in (0, 1)]
    assert inference.group_of(own[0]) == inference.group_of(own[1])
    assert inference.group_of(own[0]) != inference.group_of({**own[0], "seed": 1})  # another seed's start
    assert inference.group_of(own[0]) != inference.group_of(
        {**own[0], "start": "runs/second-s0/weights.safetensors"}
    )


def test_a_report_says_when_weights_learnt_from_its_images(faces, run_folder, tmp_path) -> None:
    for split in ("train", "test"):
        arguments = [str(run_folder), str(faces), "--reader", "manifest", "--split", split, "--draws", "5"]
        more = [
            "--cache",
            str(faces / "cache"),
            "--points",
            str(faces / "points.npz"),
            "--out",
            str(tmp_path / split),
        ]
        done = CliRunner().invoke(app, ["evaluate", *arguments, *more])
        assert done.exit_code == 0, done.output
        said = "LEARNT FROM" in (tmp_path / split / "report.md").read_text()
        assert said == (split == "train")
        assert ("WARNING" in done.stderr) == (split == "train")


def test_another_fold_of_the_same_set_is_known_to_be_learnt_from() -> None:
    from mien.data.config import SourceConfig
    from mien.data.records import Record

    taught = SourceConfig(reader="manifest", root=Path("here"))
    model = inference.Model(lambda crops: None, 48, False, RunInfo("x"), learnt=(taught,))  # type: ignore[arg-type,return-value]
    records = [Record(Path(f"{n}.png"), "test", name=f"{n}.png") for n in range(4)]
    seen = [dataclasses.replace(one, split="train") for one in records[:3]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mien.data.cropping.source_records", lambda source, labels: seen)
        assert inference.learnt_from(model, taught, records) == 3
        assert inference.learnt_from(model, SourceConfig(reader="manifest", root=Path("there")), records) == 0
        assert inference.learnt_from(model, SourceConfig(reader="ferplus", root=Path("here")), records) == 0
        patch.setattr("mien.data.cropping.source_records", lambda source, labels: records)
        assert inference.learnt_from(model, taught, records) == 0
        every = dataclasses.replace(model, whole=(taught,))
        assert inference.learnt_from(every, taught, records) == 4


def test_released_weights_are_judged_at_the_prior_asked_for(run_folder) -> None:
    random = np.random.default_rng(0)
    crops = random.integers(0, 256, (6, 80, 80), dtype=np.uint8)
    plain = inference.open_weights("shipped", 1)
    rare = inference.open_weights("shipped", 1, {"fear": 0.9})
    assert plain.provenance.prior == ""
    assert rare.provenance.prior == '{"fear": 0.9}'
    fear = EXPRESSIONS.index("fear")
    assert (rare.read(crops)[0][:, fear] > plain.read(crops)[0][:, fear]).all()
    with pytest.raises(ConfigError, match="mien release"):
        inference.open_weights(run_folder, 1, "uniform")


def test_the_shipped_weights_name_what_they_learnt_from() -> None:
    model = inference.open_weights("shipped", 1)
    assert {source.reader for source in model.learnt} == {"ferplus", "diffusionfer", "manifest", "rendered"}
    # The expression head was fitted to every picture of these, whatever their own split says.
    assert {source.root.name for source in model.whole} == {"muxspace", "diffusionfer", "rendered"}


def test_a_temperature_is_not_judged_on_the_images_it_was_fitted_on(faces, run_folder) -> None:
    with pytest.raises(EvaluationError, match="another split"):
        evaluate.run(run_folder, faces, reader="manifest", split="valid", calibrate=True)


def test_wrong_weights_sets_and_splits_say_what_to_do(faces, run_folder, tmp_path) -> None:
    with pytest.raises(WeightsError, match="pass a checkpoint, an"):
        inference.open_weights(tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match=r"holds no weights\.safetensors"):
        inference.open_weights(tmp_path)
    with pytest.raises(ConfigError, match="leave out the reader"):
        inference.source_of(faces, "ferplus-majority", "manifest")
    with pytest.raises(DatasetNotFound, match="does not exist"):
        inference.source_of(tmp_path / "nothing")
    with pytest.raises(DatasetNotFound, match="pass --reader"):
        inference.source_of(tmp_path)
    with pytest.raises(ConfigError, match="yaw is not known"):
        evaluate.run(run_folder, faces, reader="manifest", by=["yaw"], cache=tmp_path)
    with pytest.raises(ConfigError, match="no such attribute"):
        evaluate.run(run_folder, faces, reader="manifest", by=["race"], cache=tmp_path)


def test_the_page_stands_alone_and_is_accessible() -> None:
    given = made(found=np.arange(240) % 30 != 0)
    found = evaluate.report(given, by=["gender"], undetected="error", draws=20)
    text = evaluation_report.html(found, given)
    links = re.findall(r'(?:src|href)="([^"#][^"]*)"', text)
    assert all(link.startswith("data:") for link in links), "a page asks for nothing over the network"
    assert "@import" not in text
    assert "<script" not in text
    figures = re.findall(r"<svg [^>]*>", text)
    assert len(figures) == 5
    assert all(
        'role="img"' in tag and len(re.search(r'aria-label="([^"]*)"', tag)[1]) > 20 for tag in figures
    )
    tables = re.findall(r"<table>.*?</table>", text, re.DOTALL)
    assert all("<caption>" in table and 'scope="col"' in table and 'scope="row"' in table for table in tables)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)), "figures on one page must not share ids"
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert 'lang="en-GB"' in text


def test_names_on_the_page_are_escaped() -> None:
    given = made(n=40, provenance=RunInfo("<b>x</b>", dataset="a&b"))
    text = evaluation_report.html(evaluate.report(given, draws=5), given)
    assert "<b>x</b>" not in text
    assert "&lt;b&gt;x&lt;/b&gt; on a&amp;b" in text


def test_markdown_holds_the_figures_of_the_report() -> None:
    found = evaluate.report(made(), by=["gender"], draws=20)
    text = evaluation_report.markdown(found)
    assert f"{100 * found.scores['accuracy'].value:.1f} (" in text
    assert "| gender: female | 120 |" in text
    assert found.provenance.digest in text
    assert "what the person feels" in text


def test_the_command_writes_the_report_into_the_run(faces, run_folder, tmp_path) -> None:
    options = ["--reader", "manifest", "--cache", str(tmp_path), "--draws", "10"]
    done = CliRunner().invoke(app, ["evaluate", str(run_folder), str(faces), *options, "--json"])
    assert done.exit_code == 0, done.output
    tree = json.loads(done.stdout)
    assert tree["images"] == 16
    folder = run_folder / "evaluation"
    assert {path.name for path in folder.iterdir()} == {
        "report.html",
        "report.json",
        "report.md",
        "predictions.parquet",
    }
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["scores"] == tree["scores"]
    asked = ["evaluate", str(run_folder), str(faces), *options]
    refused = CliRunner().invoke(app, asked)
    assert isinstance(refused.exception, OutputExists)
    (folder / "predictions.parquet").unlink()  # as a run leaves it that was killed while it wrote
    assert CliRunner().invoke(app, asked).exit_code == 0
    assert CliRunner().invoke(app, [*asked, "--overwrite"]).exit_code == 0
    (folder / "report.json").write_text("mine", encoding="utf-8")
    (folder / "predictions.parquet").unlink()
    assert isinstance(CliRunner().invoke(app, asked).exception, OutputExists)
    assert CliRunner().invoke(app, [*asked, "--overwrite"]).exit_code == 0


def test_a_report_is_written_whole_or_not_at_all(tmp_path, monkeypatch) -> None:
    found = evaluate.report(made(), draws=20)
    monkeypatch.setattr(evaluation_report, "html", lambda *_: "\ud800")  # cannot be encoded
    with pytest.raises(UnicodeEncodeError):
        evaluation_report.write(found, made(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_figures_come_in_both_forms(faces, run_folder, tmp_path) -> None:
    options = [
        "--reader",
        "manifest",
        "--cache",
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
        "--faces",
        "4",
    ]
    done = CliRunner().invoke(app, ["figures", str(run_folder), str(faces), *options])
    assert done.exit_code == 0, done.output
    written = {path.name for path in (tmp_path / "out").iterdir()}
    names = ("confusion", "reliability", "risk", "plane", "embedding", "saliency", "grid", "curves")
    assert written == {f"{name}.{form}" for name in names for form in ("png", "svg")}
    wrong = CliRunner().invoke(app, ["figures", str(run_folder), str(faces), *options, "--only", "confusoin"])
    assert isinstance(wrong.exception, ConfigError)
    assert "did you mean 'confusion'" in str(wrong.exception)
