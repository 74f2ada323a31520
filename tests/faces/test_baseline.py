"""A face is compared with its person's own neutral face; a baseline that cannot be used is an error with its name."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mien
from mien.actions import unit
from mien.errors import ConfigError, NoFace
from mien.faces.baseline import NeutralPictures
from mien.faces.pipeline import Pipeline
from mien.io import images, tables
from mien.types import Analysis, NeutralFace, Reading


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return mien.load(threads=1)


@pytest.fixture
def pictures(tmp_path: Path, examples: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A neutral and a smiling face, a group and a wall, in the working folder."""
    for name in ("portrait_neutral.jpg", "portrait_smiling.jpg", "group_1.jpg"):
        (tmp_path / name.removeprefix("portrait_")).write_bytes((examples / name).read_bytes())
    images.write(tmp_path / "wall.png", np.full((200, 200, 3), 90, dtype=np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(path: Path, *rows: tuple[str, ...]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_a_change_is_each_value_less_that_of_the_baseline(pipeline: Pipeline, pictures: Path) -> None:
    neutral, smiling = (pipeline(pictures / f"{name}.jpg").faces[0] for name in ("neutral", "smiling"))
    baseline = pipeline.baseline(pictures / "neutral.jpg")
    change = pipeline("smiling.jpg").relative_to(baseline).faces[0].change
    assert change is not None
    assert change.baseline == "neutral.jpg"
    assert smiling.valence is not None
    assert neutral.valence is not None
    assert change.valence == smiling.valence - neutral.valence
    assert change.probabilities["happiness"] == (
        smiling.probabilities["happiness"] - neutral.probabilities["happiness"]
    )
    for name in ("mouthSmileLeft", "jawOpen"):
        now, before = smiling.actions[name], neutral.actions[name]
        assert now is not None
        assert before is not None
        assert change.actions[name] == now - before
    assert change.units["AU12"] == smiling.units["AU12"] - neutral.units["AU12"]  # type: ignore[operator]
    assert change.units["AU12"] > 0.3  # type: ignore[operator]
    assert change.actions["tongueOut"] is None
    assert sum(change.probabilities.values()) == pytest.approx(0, abs=1e-9)


def test_the_baseline_differs_in_nothing_from_itself(pipeline: Pipeline, pictures: Path) -> None:
    baseline = pipeline.baseline("neutral.jpg")
    change = pipeline("neutral.jpg").relative_to(baseline).faces[0].change
    assert change is not None
    values = [
        *change.probabilities.values(),
        *change.actions.values(),
        *change.units.values(),
        change.valence,
    ]
    assert {value for value in values if value is not None} == {0.0}


def test_several_pictures_are_averaged(pipeline: Pipeline, pictures: Path) -> None:
    both = pipeline.baseline(["neutral.jpg", "smiling.jpg"])
    first, second = (pipeline(f"{name}.jpg").faces[0] for name in ("neutral", "smiling"))
    assert both.name == "neutral.jpg and 1 more"
    assert both.arousal == pytest.approx((first.arousal + second.arousal) / 2)  # type: ignore[operator]
    smile = (first.actions["mouthSmileLeft"] + second.actions["mouthSmileLeft"]) / 2  # type: ignore[operator]
    assert both.actions["mouthSmileLeft"] == pytest.approx(smile)
    assert both.units["AU12_L"] == unit(both.actions, "AU12_L")


def test_a_value_that_one_reading_lacks_has_no_mean() -> None:
    reading = Reading({"neutral": 1.0}, None, 0.5, None, False, actions={"jawOpen": 0.2, "tongueOut": None})
    baseline = NeutralFace.of([reading, replace(reading, arousal=0.1)], "two")
    assert (baseline.valence, baseline.arousal) == (None, pytest.approx(0.3))
    assert baseline.actions == {"jawOpen": 0.2, "tongueOut": None}
    with pytest.raises(ConfigError, match="'two' was read with other labels"):
        baseline.change(replace(reading, probabilities={"calm": 1.0}))


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("wall.png", NoFace, r"wall\.png: no face found: a baseline needs a picture of the person's neutral"),
        ("group_1.jpg", ConfigError, r"group_1\.jpg: 6 faces found: a baseline .*cut it to that face"),
        ("gone.jpg", mien.MienError, r"gone\.jpg"),
    ],
)
def test_a_picture_that_is_no_baseline_is_named(
    name: str, kind: type[Exception], message: str, pictures: Path, command: Callable[..., Any]
) -> None:
    with pytest.raises(kind, match=message):
        mien.load(baseline=name, threads=1)
    ran = command("predict", "smiling.jpg", "--baseline", name, "--out", "faces.csv")
    assert ran.code == 2
    assert name in ran.err
    assert not (pictures / "faces.csv").exists()


def test_nothing_changes_without_a_baseline(
    pipeline: Pipeline, pictures: Path, command: Callable[..., Any]
) -> None:
    plain = pipeline("smiling.jpg")
    assert plain.faces[0].change is None
    assert "change" not in plain.to_json()
    ran = command("predict", "smiling.jpg", "--out", "faces.csv")
    assert ran.code == 0
    assert not any("change" in name or name == "baseline" for name in next(tables.load("faces.csv")))
    assert "baseline" not in tables.made_of("faces.csv")["made_with"]
    compared = plain.relative_to(pipeline.baseline("neutral.jpg"))
    assert Analysis.from_json(compared.to_json()) == compared != plain


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_table_has_the_changes_and_says_from_what(
    suffix: str, pipeline: Pipeline, pictures: Path, command: Callable[..., Any]
) -> None:
    table = f"faces{suffix}"
    ran = command("predict", "smiling.jpg", "wall.png", "--baseline", "neutral.jpg", "--out", table)
    assert ran.code == 0, ran.err
    compared, empty = tables.load(table)
    expected = pipeline("smiling.jpg").relative_to(pipeline.baseline("neutral.jpg"))
    change = expected.faces[0].change
    assert change is not None
    assert compared["baseline"] == "neutral.jpg"
    assert compared["valence_change"] == change.valence
    assert compared["happiness_change"] == change.probabilities["happiness"]
    assert compared["mouthSmileLeft_change"] == change.actions["mouthSmileLeft"]
    assert compared["AU12_change"] == change.units["AU12"]
    assert compared["tongueOut_change"] is compared["AU06_change"] is None
    assert empty["AU12_change"] is empty["baseline"] is None
    made = tables.made_of(table)["made_with"]["baseline"]
    assert (made["method"], made["pictures"]) == ("pictures", ["neutral.jpg"])
    assert list(tables.to_frame([expected])["AU12_change"]) == [change.units["AU12"]]


def test_resume_refuses_another_baseline(pictures: Path, command: Callable[..., Any]) -> None:
    asked = ("predict", "smiling.jpg", "--out", "faces.csv")
    assert command(*asked, "--baseline", "neutral.jpg").code == 0
    assert command(*asked, "--baseline", "neutral.jpg", "--resume").code == 0
    for other in (
        (),
        ("--baseline", "smiling.jpg"),
        ("--baseline", "neutral.jpg", "--baseline", "smiling.jpg"),
    ):
        ran = command(*asked, *other, "--resume")
        assert ran.code == 2
        assert "baseline" in ran.err
    picture = images.read(pictures / "neutral.jpg")
    images.write(pictures / "neutral.jpg", picture[:, ::-1])  # the same name, another picture
    ran = command(*asked, "--baseline", "neutral.jpg", "--resume")
    assert ran.code == 2
    assert "was begun with baseline" in ran.err


def test_other_tools_columns_have_no_changes(pictures: Path, command: Callable[..., Any]) -> None:
    ran = command(
        "predict", "smiling.jpg", "--baseline", "neutral.jpg", "--columns", "pyfeat", "--out", "faces.csv"
    )
    assert ran.code == 2
    assert "use --columns mien" in ran.err


def test_a_table_says_whose_neutral_face_each_is_compared_with(
    pipeline: Pipeline, pictures: Path, command: Callable[..., Any]
) -> None:
    images.write(pictures / "other.png", images.read(pictures / "smiling.jpg")[:, ::-1])
    written(
        pictures / "people.csv",
        ("path", "Person", "neutral"),
        ("neutral.jpg", "anna", "TRUE"),
        ("smiling.jpg", "anna", "false"),
        ("other.png", "7", "yes"),
        ("group_1.jpg", "", ""),
        ("wall.png", "berta", "no"),
    )
    ran = command("predict", "--baseline", "people.csv", "--out", "faces.csv", "--workers", "2")
    assert ran.code == 0, ran.err
    assert "people.csv: no neutral picture of berta" in ran.err
    rows = {row["input"]: row for row in tables.load("faces.csv")}
    assert list(rows) == ["neutral.jpg", "smiling.jpg", "other.png", "group_1.jpg", "wall.png"]
    assert {name: row["baseline"] for name, row in rows.items()} == {
        "neutral.jpg": "anna", "smiling.jpg": "anna", "other.png": "7", "group_1.jpg": None, "wall.png": None,
    }  # fmt: skip
    change = pipeline("smiling.jpg").relative_to(pipeline.baseline("neutral.jpg")).faces[0].change
    assert change is not None
    assert rows["smiling.jpg"]["AU12_change"] == change.units["AU12"]
    assert rows["other.png"]["AU12_change"] == 0
    assert tables.made_of("faces.csv")["made_with"]["baseline"]["persons"] == 2
    written(pictures / "people.csv", ("path", "person", "neutral"), ("neutral.jpg", "berta", "true"))
    assert (
        "was begun with baseline"
        in command("predict", "--baseline", "people.csv", "--out", "faces.csv", "--resume").err
    )


def test_a_person_whose_neutral_picture_is_bad_has_an_error_in_each_row(
    pictures: Path, command: Callable[..., Any]
) -> None:
    written(
        pictures / "people.csv",
        ("path", "subject", "neutral"),
        ("wall.png", "anna", "true"),
        ("smiling.jpg", "anna", "false"),
    )
    ran = command("predict", "smiling.jpg", "--baseline", "people.csv", "--json")
    assert ran.code == 1
    analysis = Analysis.from_dict(json.loads(ran.out))
    assert analysis.error == (
        "smiling.jpg: not compared: wall.png: no face found: a baseline needs a picture of the person's neutral face"
    )
    assert analysis.faces  # what was read of them stays
    assert analysis.faces[0].change is None
    with pytest.raises(NoFace, match=r"wall\.png"):
        mien.load(baseline="people.csv", threads=1)("smiling.jpg")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("path", "person"), ("a.jpg", "anna")], "no column neutral, it has path, person"),
        ([("name",), ("a.jpg",)], "no column path, person, neutral"),
        (
            [("path", "person", "neutral"), ("a.jpg", "anna", "calm")],
            "row 2: neutral is 'calm': write true or",
        ),
        ([("path", "person", "neutral"), ("", "anna", "true")], "row 2 names no picture"),
        ([("path", "person", "neutral"), ("a.jpg", "anna", "no")], "no row of a person is marked neutral"),
        ([("path", "person", "neutral"), ("a.jpg", "", "yes")], "no row of a person is marked neutral"),
    ],
)
def test_a_table_that_is_no_baseline_is_refused(
    rows: list[tuple[str, ...]], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "people.csv", *rows)
    with pytest.raises(ConfigError, match=message):
        NeutralPictures.read(path)


def test_a_table_is_a_baseline_alone_and_must_be_there(tmp_path: Path) -> None:
    for pixels in (np.zeros((4, 4, 3), np.uint8), b"data", 3, ["a.jpg", np.zeros((4, 4, 3), np.uint8)]):
        with pytest.raises(
            ConfigError, match=r"given as paths: of pixels or bytes make one with pipeline\.baseline"
        ):
            NeutralPictures.read(pixels)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a table is a baseline alone"):
        NeutralPictures.read(["a.jpg", "people.csv"])
    with pytest.raises(ConfigError, match=r"people\.csv: this table cannot be read: no such file"):
        NeutralPictures.read(tmp_path / "people.csv")
    with pytest.raises(ConfigError, match="names no picture"):
        NeutralPictures.read([])
