"""Own labels: any names in any script are trained, judged, compared, released and predicted."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from mien.colours import colour as colour_of
from mien.data import cropping
from mien.data.predictions import Predictions
from mien.data.readers import READERS, manifest
from mien.data.records import Record
from mien.data.synthetic import drawings
from mien.errors import ConfigError, DatasetDamaged, DatasetNotFound, WeightsError
from mien.evaluation import compare, evaluate, inference
from mien.evaluation.validation import validate
from mien.faces.recognise import OnnxRecogniser
from mien.labels import EXPRESSIONS, UNLABELLED, difference, form, in_order, label_set, listed
from mien.release import build as release
from mien.training import loop, recognition
from mien.training.config import RunConfig, load_config

THREE = ("مرتبك 😀", "专注", "无聊")
"""Three labels, as `own` orders them."""

Command = Callable[..., Any]


def configured(root: Path, **changes: Any) -> RunConfig:
    """A run of seconds on the pictures under `root`, whose `data` is a manifest or a folder."""
    data = {"reader": "folder", "root": root / "data", "size": 32, "cache": root / "cache", "erase": 0.0}
    return RunConfig(
        **{
            "name": "own",
            "method": {"name": "baseline", "backbone": "tiny"},
            "labels": "own",
            "data": {**data, **changes.pop("data", {})},
            "epochs": 2,
            "batch": 8,
            "threads": 1,
            "runs": root / "runs",
            **changes,
        }
    )


def pictures(folder: Path, names: tuple[str, ...], count: int, examples: Path) -> None:
    """Portraits of two people, light and dark, in folders called by labels."""
    random = np.random.default_rng(0)
    faces = [Image.open(examples / f"portrait_{name}.jpg").convert("RGB") for name in ("neutral", "smiling")]
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for place in range(count):
            picture = np.asarray(faces[number % 2].resize((160, 160)), float) * random.uniform(0.8, 1.0)
            shade = picture / (1 + number // 2)
            Image.fromarray(shade.astype(np.uint8)).save(folder / name / f"{place:02}.png")


def drawn(root: Path, labels: tuple[str, ...], each: int = 6) -> Path:
    """A manifest of drawn faces, `each` of every label, and their points."""
    faces = root / "data"
    records = drawings.records(faces, each * len(labels), size=32)
    named = [
        Record(one.path, split, place % len(labels), name=one.name)
        for place, one in enumerate(records)
        for split in (
            "test" if place >= (each - 1) * len(labels) else "valid" if place < len(labels) else "train",
        )
    ]
    manifest.write(named, faces / "manifest.csv", labels=labels)
    return faces


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> Path:
    """A folder with pictures (`data`), a run on them (`runs/own-s0`) and its weights (`weights`)."""
    root = tmp_path_factory.mktemp("three")
    pictures(root / "data", THREE, 20, examples)
    folder = loop.run(configured(root, epochs=6, optim={"rate": 0.005, "ema": 0.8}), validate)
    release.own(folder, root / "weights", lambda text: None)
    return root


# Names ---------------------------------------------------------------------------------------------------------------


def test_names_are_kept_as_written_but_for_their_unicode_form() -> None:
    assert label_set([" boredom ", "Engagement", 0, 1.0, "mu\u0308de", "😀"], "x") == (
        "boredom", "Engagement", "0", "1", "müde", "😀",
    )  # fmt: skip
    assert label_set(["a,b", '"', "$x$", "=1+1"], "x") == ("a,b", '"', "$x$", "=1+1")


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["a"], "two labels or more"),
        ([], "no name"),
        (["a", ""], "empty"),
        (["a", " \u200b "], "empty"),
        (["a", "A "], "'a' and 'A' are the same label"),
        (["müde", "mu\u0308de"], "are the same label"),
        (["ｆｕｌｌ", "full"], "are the same label"),
        (["a", "b\nc"], "control character"),
        (["a", "b" * 201], "201 letters"),
        (["a", None], "not a name"),
        (["a", ["b"]], "not a name"),
    ],
)
def test_names_that_make_no_label_set_are_one_clear_line(names: list[object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as problem:
        label_set(names, "labels")
    assert str(problem.value).startswith("labels: ")
    with pytest.raises(ConfigError, match="labels"):
        _ = _loaded(names)


def _loaded(names: list[object]) -> RunConfig:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "name": "x",
                    "labels": names,
                    "method": {"name": "baseline"},
                    "data": {"reader": "folder", "root": "."},
                },
                allow_unicode=True,
            ),
            encoding="utf-8",
        )
        return load_config(path)


def test_labels_keep_the_case_in_which_they_were_written() -> None:
    with pytest.raises(ConfigError, match="'Müde' and 'MÜDE'"):
        _loaded(["Müde", "MÜDE"])


def test_numbers_are_ordered_by_size() -> None:
    assert in_order({"pain 10", "pain 2", "2", "10", "a"}) == ["2", "10", "a", "pain 2", "pain 10"]


def test_a_difference_names_what_is_missing() -> None:
    assert difference(("a", "b"), ("a", "c")) == "does not have b and has c in addition"
    assert "another order" in difference(("a", "b"), ("b", "a"))
    assert difference(("a", "b"), ("a", "b")) == ""
    assert listed([str(n) for n in range(100)]).endswith("7 and 92 more")


# Data ----------------------------------------------------------------------------------------------------------------


def test_unknown_folder_names_say_that_own_labels_can_be_trained(tmp_path: Path, command: Command) -> None:
    for name in ("boredom", "engagement"):
        (tmp_path / "data" / name).mkdir(parents=True)
    with pytest.raises(DatasetNotFound, match=r"boredom, engagement.*labels: own"):
        loop.run(configured(tmp_path, labels=None), validate)
    ran = command("data", "check", tmp_path / "data")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert "--labels own" in ran.err


def test_an_unknown_word_of_a_manifest_says_so_too(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label\na.png,boredom\n")
    with pytest.raises(DatasetDamaged, match=r"labels.csv:2: 'boredom'.*labels: own"):
        READERS["manifest"](tmp_path, partial=True)


def test_a_folder_that_is_none_of_the_labels_is_refused_by_name(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    with pytest.raises(
        DatasetDamaged, match=r"c is not named by an expression label: add its name to `labels`"
    ):
        READERS["folder"](tmp_path, labels=("a", "b"))
    with pytest.raises(DatasetNotFound, match="a, b, c, none of the labels x, y"):
        READERS["folder"](tmp_path, labels=("x", "y"))


def test_two_folders_of_one_name_in_two_unicode_forms_are_refused(tmp_path: Path) -> None:
    for name in ("mu\u0308de", "müde", "wach"):
        (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
    if len(list((tmp_path / "data").iterdir())) < 3:
        pytest.skip("this file system takes both for one")
    with pytest.raises(ConfigError, match="the same label"):
        loop.run(configured(tmp_path), validate)
    with pytest.raises(DatasetDamaged, match="put their pictures into one"):
        READERS["folder"](tmp_path / "data", labels=("müde", "wach"))


def test_a_manifest_keeps_own_labels_and_votes(tmp_path: Path) -> None:
    labels = ("0", "1", "unknown", "😀 x")
    records = [
        Record(tmp_path / f"{place}.png", "train", place, votes=(0.0, 1.0, 2.0, 3.0), name=f"{place}.png")
        for place in (UNLABELLED, 0, 1, 2, 3)
    ]
    for record in records:
        record.path.write_bytes(b"")
    for name in ("table.csv", "table.parquet"):
        manifest.write(records, tmp_path / name, labels=labels)
        assert READERS["manifest"](tmp_path / name, labels=labels) == records


def test_whole_numbers_in_a_column_of_floats_are_labels(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(b"")
    parquet.write_table(
        pa.table({"path": ["a.png", "b.png", "c.png"], "label": [0.0, 5.0, None]}), tmp_path / "m.parquet"
    )
    records = READERS["manifest"](tmp_path / "m.parquet", labels=("0", "5"))
    assert [record.expression for record in records] == [0, 1, UNLABELLED]
    assert manifest.label_names(tmp_path / "m.parquet") == ["0", "5"]


def test_votes_of_own_labels_have_no_place_on_the_circumplex() -> None:
    crops = cropping.Crops(np.zeros((1, 8, 8), np.uint8), np.ones(1, bool), np.zeros((1, 3), np.float32))
    record = [Record(Path("a"), "train", 0, votes=(3.0, 1.0))]
    samples = cropping.to_samples(record, crops, derive_affect=True, labels=("a", "b"))
    assert samples.votes.tolist() == [[0.75, 0.25]]
    assert np.isnan(samples.affect).all()


# Training ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ke2nt", "meca"])
def test_methods_that_rest_on_the_eight_are_refused_with_what_to_use(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        ConfigError, match=f"'{name}' cannot learn own labels.*baseline, cal, cclls, jadfer"
    ) as problem:
        loop.run(configured(tmp_path, method={"name": name}, labels=["a", "b"]), validate)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("name", ["cal", "cclls", "jadfer"])
def test_the_other_methods_have_as_many_outputs_as_labels(name: str) -> None:
    import torch

    from mien import methods

    config = recognition.with_labels(
        configured(Path(), method={"name": name, "backbone": "tiny"}, labels=list("abcde"))
    )
    try:
        method = methods.build(config.method, 48)
    except ConfigError:
        pytest.skip("not on the smallest backbone")
    assert method.eval().predict(torch.zeros(2, 3, 48, 48)).logits.shape == (2, 5)


def test_the_number_of_classes_is_that_of_the_labels(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"method\.classes is 8 and there are 2 labels"):
        loop.run(configured(tmp_path, method={"name": "baseline", "classes": 8}, labels=["a", "b"]), validate)


def test_a_run_is_of_its_labels_by_name(three: Path) -> None:
    written = yaml.safe_load((three / "runs/own-s0/config.yaml").read_text(encoding="utf-8"))
    assert tuple(written["labels"]) == THREE
    model = inference.open_weights(three / "runs/own-s0")
    assert model.classes == THREE
    with pytest.raises(ConfigError, match="another configuration"):
        loop.run(configured(three, labels=[*THREE, "tired"]), validate, resume=True)


def test_a_start_of_other_labels_is_refused_by_their_names(three: Path, tmp_path: Path) -> None:
    start = three / "runs/own-s0/weights.safetensors"
    data = {"root": three / "data", "cache": three / "cache"}
    wanted = [THREE[0], THREE[1], "tired"]
    with pytest.raises(
        ConfigError, match=r"start: .*does not have tired and has 无聊 in addition.*start_part: backbone"
    ):
        loop.run(configured(tmp_path, start=start, labels=wanted, data=data), validate)
    folder = loop.run(
        configured(tmp_path, name="again", start=start, start_part="backbone", data=data, epochs=1), validate
    )
    assert (folder / "weights.safetensors").is_file()


def test_teachers_of_other_labels_are_refused_by_their_names(three: Path, tmp_path: Path) -> None:
    from mien.training import distillation

    _, said = evaluate.run(
        three / "runs/own-s0", three / "data", split="train", cache=three / "cache", draws=0
    )
    path = said.save(tmp_path / "predictions.parquet")
    samples = cropping.load_split(configured(three).data, ("train",), labels=THREE)["train"]
    taught = distillation.taught(samples, [path], 0.5, THREE)
    assert taught[0].votes.shape == samples[0].votes.shape == (len(samples[0]), 3)
    assert taught[0].votes.sum(axis=1) == pytest.approx(1, abs=1e-4)
    with pytest.raises(ConfigError, match="does not have tired and has 无聊 in addition"):
        distillation.taught(samples, [path], 0.5, (*THREE[:2], "tired"))


# Judging -------------------------------------------------------------------------------------------------------------


def test_three_labels_are_learnt_and_judged(three: Path) -> None:
    found, said = evaluate.run(three / "runs/own-s0", three / "data", cache=three / "cache", draws=20)
    assert found.classes == THREE
    assert np.array(found.confusion).shape == (3, 4)
    assert found.scores["accuracy"].value > 0.9
    assert said.votes.shape == (len(said), 3)
    again = Predictions.load(said.save(three / "kept.parquet"))
    assert again.classes == THREE
    assert (again.truth == said.truth).all()


def test_the_report_writes_names_in_any_script(three: Path, tmp_path: Path) -> None:
    from mien.reports import evaluation_report

    found, said = evaluate.run(three / "runs/own-s0", three / "data", cache=three / "cache", draws=20)
    evaluation_report.write(found, said, tmp_path)
    for name in ("report.html", "report.md", "report.json"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert all(label in text for label in THREE), name


def test_models_of_other_labels_are_not_compared(three: Path) -> None:
    _, first = evaluate.run(three / "runs/own-s0", three / "data", cache=three / "cache", draws=0)
    second = Predictions(
        first.names, first.truth, first.probabilities, (*THREE[:2], "tired"), provenance=first.provenance
    )
    with pytest.raises(compare.ComparisonError, match="does not have 无聊 and has tired in addition"):
        compare.compare([first, second])


def test_a_hundred_classes_make_a_figure_that_can_be_read_and_a_short_page() -> None:
    from mien.figures import confusion
    from mien.reports import evaluation_report

    labels = tuple(f"état {n} with a long name $x$ | {'无' * (n % 3)}" for n in range(100))
    random = np.random.default_rng(0)
    truth = random.integers(0, 100, 2000)
    shares = random.dirichlet(np.ones(100) * 0.1, 2000) + 0.3 * np.eye(100)[truth]
    said = Predictions(
        tuple(map(str, range(2000))), truth, shares / shares.sum(axis=1, keepdims=True), labels
    )
    found = evaluate.report(said, draws=10)
    figure = confusion.draw(found.confusion, labels)
    figure.canvas.draw()
    width, height = figure.get_size_inches()
    assert max(width, height) <= confusion.WIDEST + 2
    # No letter lies on its neighbour's.
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(above.y0 >= below.y1 - 1 for below, above in zip(boxes[1:], boxes[:-1], strict=True))
    text = evaluation_report.markdown(found)
    assert max(len(line.split(" | ")) for line in text.splitlines()) < 10
    assert "The most frequent confusions" in evaluation_report.html(found, said)


def test_evaluation_of_two_classes() -> None:
    said = Predictions(
        tuple("abcd"), np.array([0, 0, 1, 1]), np.array([[0.9, 0.1]] * 3 + [[0.2, 0.8]]), ("no", "yes")
    )
    found = evaluate.report(said, draws=50)
    assert found.scores["accuracy"].value == 0.75
    assert found.scores["macro_f1"].value == pytest.approx((0.8 + 2 / 3) / 2)


# Release and prediction ----------------------------------------------------------------------------------------------


def test_the_card_of_a_release_states_labels_and_what_was_trained(three: Path) -> None:
    card = json.loads((three / "weights/recogniser.json").read_text(encoding="utf-8"))
    assert tuple(card["classes"]) == THREE
    assert card["heads"] == {"expression": True, "affect": False}
    assert card["metrics"]["images"] == 6
    assert set(card["metrics"]["recall"]) == set(THREE)
    assert sorted(path.name for path in (three / "weights").iterdir()) == [
        "recogniser.json",
        "recogniser.onnx",
    ]


def test_a_release_overwrites_nothing_and_leaves_nothing_when_it_fails(three: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds .* already"):
        release.own(three / "runs/own-s0", three / "weights", lambda text: None)
    with pytest.raises(DatasetNotFound):
        release.own(three / "runs/own-s0", tmp_path / "w", lambda text: None, data=tmp_path / "gone")
    assert list(tmp_path.iterdir()) == []
    for name in ("recogniser.onnx", "recogniser.json", "notes.txt"):
        (tmp_path / name).write_bytes(b"old")
    with pytest.raises(ConfigError, match="holds something else already"):
        release.own(three / "runs/own-s0", tmp_path, lambda text: None, overwrite=True)
    (tmp_path / "notes.txt").unlink()
    release.own(three / "runs/own-s0", tmp_path, lambda text: None, overwrite=True)
    assert OnnxRecogniser.load(tmp_path).labels == THREE


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_tables_have_a_column_for_each_label_in_order(
    three: Path, tmp_path: Path, command: Command, suffix: str
) -> None:
    from mien.io import tables

    blank = tmp_path / "blank.png"
    Image.new("RGB", (64, 64)).save(blank)
    picture, out = three / "data" / THREE[1] / "00.png", tmp_path / f"faces{suffix}"
    ran = command("predict", picture, blank, "--weights", three / "weights", "--out", out)
    assert ran.code == 0, ran.err
    face, none = tables.load(out)
    names = [name for name in face if name.startswith("p_")]
    assert names == [f"p_{label}" for label in THREE]
    assert sum(face[name] for name in names) == pytest.approx(1, abs=1e-6)
    assert face["expression"] == THREE[1]
    assert not set(EXPRESSIONS) & set(face)
    assert [face[name] for name in ("valence", "arousal")] == [None] * 2
    assert 0 <= face["intensity"] < 1, "it follows from the actions, whatever the labels are"
    assert none["expression"] is None
    assert none[names[0]] is None
    again = command("predict", picture, blank, "--weights", three / "weights", "--out", out, "--resume")
    assert again.code == 0, again.err
    other = command("predict", picture, "--out", out, "--resume")
    assert other.code == 2
    assert "other columns" in other.err


def test_csv_cells_with_any_name_come_back(tmp_path: Path) -> None:
    from mien.io import tables
    from mien.types import Analysis, Box, Detection, Face, Landmarks, Pose, Reading

    labels = ("a,b", 'say "x"', "valence", "error", "=1+1", "x_0")
    shares = dict(zip(labels, (0.1, 0.5, 0.1, 0.1, 0.1, 0.1), strict=True))
    face = Face(
        Detection(Box(0, 0, 9, 9), 1.0),
        Landmarks(((0.0, 0.0),), 1.0),
        Pose(0, 0, 0),
        Reading(shares, None, None, None, False),
        1.0,
    )
    for suffix in tables.FORMATS:
        with tables.Writer(tmp_path / f"t{suffix}", landmarks=False, labels=labels) as table:
            table.write(Analysis("p.jpg", 9, 9, (face,)))
        (row,) = tables.load(tmp_path / f"t{suffix}")
        assert {name.removeprefix("p_"): row[name] for name in row if name.startswith("p_")} == shares
        assert row["expression"] == 'say "x"'
        assert row["valence"] is None
        assert row["error"] is None
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        assert not any(name.startswith(("=", "+", "-", "@")) for name in next(csv.reader(file)))


def test_the_deepface_layout_is_refused_for_own_labels(three: Path, tmp_path: Path, command: Command) -> None:
    ran = command(
        "predict",
        three / "data",
        "--weights",
        three / "weights",
        "--columns",
        "deepface",
        "--out",
        tmp_path / "t.csv",
    )
    assert ran.code == 2
    assert "use --columns mien" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_json_terminal_python_and_annotation(three: Path, tmp_path: Path, command: Command) -> None:
    import mien

    picture = three / "data" / THREE[0] / "00.png"
    ran = command(
        "predict", picture, "--weights", three / "weights", "--json", "--annotate", tmp_path / "marked"
    )
    assert ran.code == 0, ran.err
    (face,) = json.loads(ran.out)["faces"]
    assert list(face["reading"]["probabilities"]) == list(THREE)
    assert face["reading"]["valence"] is None
    assert len(list((tmp_path / "marked").rglob("*.png"))) == 1
    shown = command("predict", picture, "--weights", three / "weights")
    assert shown.out.splitlines()[1].split()[-3:-1] == ["-", "-"]
    pipeline = mien.load(weights=three / "weights", threads=1)
    assert pipeline.labels == THREE
    assert list(pipeline(picture).faces[0].probabilities) == list(THREE)
    assert mien.types.Analysis.from_json(ran.out).faces[0].valence is None


def test_a_run_or_checkpoint_is_no_weights_to_predict_with(three: Path, command: Command) -> None:
    for weights in (three / "runs/own-s0", three / "runs/own-s0/weights.safetensors"):
        ran = command("predict", three / "data", "--weights", weights)
        assert ran.code == 2
        assert f"mien release {three / 'runs/own-s0'} --out my-model" in ran.err


def test_the_server_speaks_own_labels_and_says_why_it_cannot_edit(three: Path) -> None:
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    import mien
    from mien.editing.editor import Editor
    from mien.server.app import create_app

    pipeline = mien.load(weights=three / "weights", threads=1)
    with TestClient(create_app(pipeline)) as client:
        picture = (three / "data" / THREE[2] / "00.png").read_bytes()
        answer = client.post("/v1/analyses", content=picture, headers={"content-type": "image/png"})
        assert answer.status_code == 200
        reading = answer.json()["faces"][0]["reading"]
        assert list(reading["probabilities"]) == list(THREE)
        assert reading["valence"] is None
        assert client.get("/v1/service").json()["expressions"] == list(THREE)
        assert client.get("/v1/models").status_code == 200
        assert client.post("/v1/edits?target=happiness", content=picture).status_code == 501
    with pytest.raises(ConfigError, match="edit with the shipped weights"):
        Editor.load(pipeline)
    assert Editor.load(pipeline, measure=False).recogniser is None
    with TestClient(create_app(options={"weights": str(three / "weights")})) as client:
        assert client.get("/v1/service").json()["expressions"] == list(THREE)
        answer = client.post("/v1/analyses", content=picture, headers={"content-type": "image/png"})
        assert list(answer.json()["faces"][0]["reading"]["probabilities"]) == list(THREE)
        assert "edit with the shipped weights" in client.get("/v1/service").json()["editor_lacking"]


@pytest.mark.parametrize("labels", [("no", "yes"), tuple(f"état {n:03}" for n in range(200))])
def test_two_and_two_hundred_labels_go_all_the_way(
    tmp_path: Path, labels: tuple[str, ...], examples: Path
) -> None:
    import mien
    from mien.io.columns import rows

    drawn(tmp_path, labels, each=12 if len(labels) == 2 else 3)
    config = configured(tmp_path, data={"reader": "manifest", "faces": "whole"}, epochs=1)
    folder = loop.run(config, validate)
    found, _ = evaluate.run(folder, tmp_path / "data", reader="manifest", cache=tmp_path / "cache", draws=5)
    assert found.classes == labels
    assert len(found.per_class) == len(labels)
    release.own(folder, tmp_path / "weights", lambda text: None)
    pipeline = mien.load(weights=tmp_path / "weights", threads=1)
    (row,) = rows(pipeline(examples / "portrait_smiling.jpg"), labels=pipeline.labels)
    assert [name[2:] for name in row if name.startswith("p_")] == list(labels)


def test_ratings_beside_own_labels_are_learnt_and_predicted(tmp_path: Path, examples: Path) -> None:
    import mien

    drawn(tmp_path, ("no", "yes"), each=12)
    table = tmp_path / "data/manifest.csv"
    with table.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*lines[0], "valence", "arousal"])
        writer.writeheader()
        writer.writerows(
            {**line, "valence": n % 7 / 7, "arousal": -(n % 5) / 5} for n, line in enumerate(lines)
        )
    folder = loop.run(configured(tmp_path, data={"reader": "manifest", "faces": "whole"}, epochs=1), validate)
    release.own(folder, tmp_path / "weights", lambda text: None)
    (face,) = mien.load(weights=tmp_path / "weights", threads=1)(examples / "portrait_smiling.jpg").faces
    assert face.valence is not None
    assert face.arousal is not None
    assert face.intensity is not None, "it does not depend on the labels"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"classes": ["a", "a"]}, "same label"),
        ({"classes": ["a", "b"]}, "2 classes, the network 3"),
        ({"classes": "abc"}, "no list of label names"),
        ({"heads": ["affect"]}, "'heads'"),
        ({"heads": {"expression": False, "affect": True}}, "'heads'"),
        ({"temperature": -1}, "temperature"),
    ],
)
def test_a_card_that_is_wrong_is_refused_by_file_and_field(
    three: Path, tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    import mien

    for path in (three / "weights").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    card = tmp_path / "recogniser.json"
    card.write_text(json.dumps({**json.loads(card.read_text(encoding="utf-8")), **changes}), encoding="utf-8")
    with pytest.raises(WeightsError, match=complaint) as problem:
        mien.load(weights=tmp_path, threads=1)
    assert "recogniser.json" in str(problem.value)


def test_a_release_configuration_must_state_what_prediction_asks_of_a_card(
    three: Path, tmp_path: Path
) -> None:
    config = release.ReleaseConfig(name="x", run=three / "runs/own-s0", card={"task": "t", "data": "d"})
    with pytest.raises(ConfigError, match="does not state terms, intended_use, limits, must_not"):
        release.build(config, tmp_path / "out", lambda text: None)
    assert not (tmp_path / "out").exists()


# Drawing -------------------------------------------------------------------------------------------------------------


def test_labels_that_no_font_has_are_drawn_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from mien.io import lettering

    monkeypatch.setattr(lettering, "CANDIDATES", ())
    monkeypatch.setattr(lettering, "_dejavu", list)
    lettering.font_file.cache_clear()
    try:
        assert lettering.shown("专注", THREE) == "#1"
        assert lettering.shown("bored", ("bored", "专注")) == "bored"
        assert set(lettering.numbered(THREE)) == set(THREE)
        assert len(lettering.shown("long " * 20, ["long " * 20])) <= lettering.LONGEST
    finally:
        lettering.font_file.cache_clear()


def test_every_label_of_many_has_a_colour_of_its_own() -> None:
    from mien.colours import COLOURS

    labels = [f"label {n}" for n in range(60)]
    assert len({colour_of(name, labels) for name in labels}) == 60
    assert [colour_of(name, EXPRESSIONS) for name in EXPRESSIONS] == list(COLOURS.values())


def test_the_form_of_a_label() -> None:
    assert form("  Müde ") == form(unicodedata.normalize("NFD", "müde"))
    assert form("❤️") == form("❤")


def test_a_video_and_a_part_of_a_batch_have_the_columns_of_the_labels(
    three: Path, tmp_path: Path, examples: Path, command: Command
) -> None:
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("av")
    from pyarrow import parquet

    from mien.batch.worker import Job, _file
    from mien.faces.pipeline import load
    from mien.io import tables

    clip = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"mp4v"), 10, (256, 256))
    frame = cv2.resize(cv2.imread(str(examples / "portrait_smiling.jpg")), (256, 256))
    for _ in range(4):
        writer.write(frame)
    writer.release()
    weights = three / "weights"
    out, page = tmp_path / "clip.csv", tmp_path / "clip.html"
    ran = command(
        "video", clip, "--weights", weights, "--out", out, "--page", page, "--annotate", tmp_path / "m.mp4"
    )
    assert ran.code == 0, ran.err
    assert "nan" not in ran.out
    whole = list(tables.load(out))
    assert len(whole) == 4
    shares = [[row[f"smoothed_{name}"] for name in THREE] for row in whole]
    assert np.sum(shares, axis=1) == pytest.approx(1, abs=1e-6)
    assert whole[0]["valence_smooth"] is None
    assert whole[0]["expression_smooth"] in THREE
    assert whole[0]["expression_smooth"] in page.read_text(encoding="utf-8")
    # What an earlier run left is read back as it was.
    again = command("video", clip, "--weights", weights, "--out", out, "--resume")
    assert again.code == 0, again.err
    assert list(tables.load(out)) == whole

    job = Job(str(tmp_path), str(tmp_path), {"weights": str(weights)}, "mien", "row")
    analysis = load(weights=weights, threads=1)(frame[..., ::-1].copy())
    (tmp_path / "part.parquet").write_bytes(
        _file([analysis.source], {analysis.source: analysis}, {}, {}, job)
    )
    names = parquet.read_schema(tmp_path / "part.parquet").names
    assert [name for name in names if name.startswith("p_")] == [f"p_{name}" for name in THREE]


def test_figures_of_own_labels(three: Path, tmp_path: Path) -> None:
    from mien.reports import figure_set

    only = ("confusion", "embedding", "grid", "reliability")
    made = figure_set.make(
        three / "runs/own-s0", three / "data", tmp_path, only=only, cache=three / "cache", split="train"
    )
    assert len(made) == 2 * len(only)
