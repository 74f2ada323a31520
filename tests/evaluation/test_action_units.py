"""Figures of action units against textbook formulas and scikit-learn, and the command from a folder to its table."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.actions import ACTIONS
from mien.data.records import Record
from mien.errors import ConfigError
from mien.evaluation import action_units
from mien.evaluation.action_units import judge

PEOPLE, EACH = 12, 20


@pytest.fixture(scope="module")
def coded() -> tuple[list[Record], NDArray[np.float64]]:
    """Pictures of twelve people with two units, and answers that follow them with noise."""
    random = np.random.default_rng(3)
    records, said = [], np.full((PEOPLE * EACH, len(ACTIONS)), np.nan)
    for place in range(PEOPLE * EACH):
        smile, brow = random.integers(0, 6), random.integers(0, 4)
        attributes = {
            "AU12_intensity": smile,
            "AU12": int(smile >= 2),
            "AU01": int(brow >= 2),
            "AU06": 1,
            "AU27": 0,
        }
        if place % 7:  # BP4D leaves some out
            attributes["AU01_intensity"] = brow
        records.append(Record(Path("a.png"), "test", subject=f"S{place % PEOPLE}", attributes=attributes))
        answers = {
            "mouthSmileLeft": smile / 8 + random.normal(0, 0.1),
            "browInnerUp": brow / 5 + random.normal(0, 0.2),
        }
        answers["mouthSmileRight"] = answers["mouthSmileLeft"] - 0.1
        for name, value in answers.items():
            said[place, ACTIONS.index(name)] = np.clip(np.round(value, 2), 0, 1)  # rounded: there are ties
    return records, said


def anova_icc(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """ICC(3,1) from the mean squares of a two-way analysis of variance, as Shrout and Fleiss write it."""
    table = np.stack([first, second], axis=1)
    n, k = table.shape
    total = ((table - table.mean()) ** 2).sum()
    between = k * ((table.mean(axis=1) - table.mean()) ** 2).sum()
    raters = n * ((table.mean(axis=0) - table.mean()) ** 2).sum()
    bms, ems = between / (n - 1), (total - between - raters) / ((n - 1) * (k - 1))
    return float((bms - ems) / (bms + (k - 1) * ems))


def test_figures_equal_the_textbook_and_scikit_learn(coded: tuple[list[Record], NDArray[np.float64]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    records, said = coded
    report = judge(records, said, 2.0, draws=50)
    assert (report.images, report.people, report.unknown) == (PEOPLE * EACH, PEOPLE, ("AU27",))
    rows = {row.unit: row for row in report.units}
    assert list(rows) == ["AU01", "AU06", "AU12", "mean"]
    for code, action in (("AU12", "mouthSmileLeft"), ("AU01", "browInnerUp")):
        values = 5 * said[:, ACTIONS.index(action)]
        there = np.array([record.attributes[code] for record in records])
        level = np.array([record.attributes.get(f"{code}_intensity", np.nan) for record in records])
        known = np.isfinite(level)
        row = rows[code]
        assert row.icc.value == pytest.approx(anova_icc(level[known], values[known]))
        assert row.pearson.value == pytest.approx(np.corrcoef(level[known], values[known])[0, 1])
        assert row.f1.value == pytest.approx(metrics.f1_score(there, values >= 2))
        assert row.auc.value == pytest.approx(metrics.roc_auc_score(there, values))
        assert row.present == pytest.approx(there.mean())
        for figure in (row.icc, row.pearson, row.f1, row.auc):
            assert figure.low < figure.value < figure.high
    assert not rows["AU06"].measured
    assert not rows["AU06"].auc.known
    for figure in action_units.FIGURES:
        both = (getattr(rows["AU12"], figure).value + getattr(rows["AU01"], figure).value) / 2
        assert getattr(rows["mean"], figure).value == pytest.approx(both)
        assert getattr(rows["mean"], figure).low < both < getattr(rows["mean"], figure).high


def test_intervals_resample_people(coded: tuple[list[Record], NDArray[np.float64]]) -> None:
    """Against a slow loop over draws of people with all their pictures."""
    metrics = pytest.importorskip("sklearn.metrics")
    records, said = coded
    values = 5 * said[:, ACTIONS.index("mouthSmileLeft")]
    there = np.array([record.attributes["AU12"] for record in records])
    level = np.array([record.attributes["AU12_intensity"] for record in records], dtype=float)
    persons = np.array([record.subject for record in records])
    random, slow = np.random.default_rng(1), []
    for _ in range(400):
        drawn = random.choice(np.unique(persons), PEOPLE)
        rows = np.concatenate([np.flatnonzero(persons == person) for person in drawn])
        slow.append((anova_icc(level[rows], values[rows]), metrics.roc_auc_score(there[rows], values[rows])))
    (row,) = (row for row in judge(records, said, 2.0, draws=2000).units if row.unit == "AU12")
    for figure, sample in zip((row.icc, row.auc), np.array(slow).T, strict=True):
        assert (figure.low, figure.high) == pytest.approx(np.percentile(sample, [2.5, 97.5]), abs=0.012)


def test_what_is_not_defined_has_no_figure() -> None:
    said = np.full((6, len(ACTIONS)), 0.5)
    said[:, ACTIONS.index("jawOpen")] = np.linspace(0, 1, 6)
    records = [
        Record(Path("a.png"), "test", attributes={"AU26": 1, "AU12": place % 2, "AU12_intensity": place % 2})
        for place in range(6)
    ]
    smile, jaw, _ = judge(records, said, 1.0, draws=20).units
    assert not jaw.icc.known, "no intensities"
    assert not jaw.auc.known, "always there"
    assert jaw.f1.value == pytest.approx(10 / 11)
    assert not smile.pearson.known, "the answers do not vary"
    assert smile.icc.value == pytest.approx(0)
    assert smile.auc.value == 0.5, "nor order anything"
    text = action_units.to_json(judge(records, said, 1.0, draws=20))
    assert json.loads(text)["units"][1]["icc"]["value"] is None


def test_auc_of_many_values_has_the_exact_figure() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    said = np.full((6000, len(ACTIONS)), np.nan)
    said[:, ACTIONS.index("jawOpen")] = values = random.random(6000)
    there = (values + random.normal(0, 0.5, 6000) > 0.5).astype(int)
    records = [
        Record(Path("a.png"), "test", subject=f"S{place % 30}", attributes={"AU26": flag})
        for place, flag in enumerate(there.tolist())
    ]
    jaw = judge(records, said, 1.0, draws=100).units[0]
    exact = metrics.roc_auc_score(there, values)
    assert jaw.auc.value == pytest.approx(exact, abs=1e-12)
    assert jaw.auc.low < exact < jaw.auc.high
    assert jaw.auc.high - jaw.auc.low < 0.05


@pytest.fixture
def ckplus(tmp_path: Path, examples: Path) -> Path:
    """CK+'s layout with photographs in place of its own: two people, at rest and smiling."""
    root = tmp_path / "CK+"
    for person in ("S001", "S002"):
        clip = root / "cohn-kanade-images" / person / "001"
        clip.mkdir(parents=True)
        for frame, name in ((1, "neutral"), (9, "smiling")):
            shutil.copy(examples / f"portrait_{name}.jpg", clip / f"{person}_001_{frame:08d}.jpg")
        labels = root / "FACS" / person / "001"
        labels.mkdir(parents=True)
        (labels / f"{person}_001_00000009_facs.txt").write_text("  6.0e+00  0.0e+00\n  1.2e+01  5.0e+00\n")
    return root


def test_the_command_judges_a_folder(ckplus: Path, command: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "report"
    ran = command(
        "evaluate", "shipped", ckplus, "--task", "actions", "--draws", "20", "--out", out, "--threads", "1"
    )
    assert ran.code == 0, ran.err
    kept = (out / "action-units.md").read_text()
    assert "ckplus: 4 pictures of 2 people, 0 without a face left out; present from 1 of 5 on" in kept
    assert "| AU06 | cheek raiser (not measured) | 4 | 50.0% | - | - | - | - |" in kept
    assert "unit: AU06, cheek raiser (not measured)\n  pictures  4\n  present   50.0%\n" in ran.out
    found = json.loads((out / "action-units.json").read_text())
    smile = next(row for row in found["units"] if row["unit"] == "AU12")
    assert smile["auc"]["value"] == smile["f1"]["value"] == 1.0
    assert smile["pearson"]["value"] == pytest.approx(1.0)
    assert smile["icc"]["value"] > 0.8
    ran = command(
        "evaluate", "shipped", ckplus, "--task", "actions", "--limit", "2", "--json", "--threads", "1"
    )
    assert json.loads(ran.out)["images"] == 2


def test_frames_of_videos_are_judged_and_pictures_without_a_face_counted(
    examples: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("av")
    root = tmp_path / "DISFA"
    (root / "Videos_LeftCamera").mkdir(parents=True)
    rest, smile = (cv2.imread(str(examples / f"portrait_{name}.jpg")) for name in ("neutral", "smiling"))
    size = (rest.shape[1], rest.shape[0])
    path = root / "Videos_LeftCamera" / "LeftVideoSN001_comp.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, size)
    for frame in (rest, cv2.resize(smile, size), np.zeros_like(rest)):
        video.write(frame)
    video.release()
    labels = root / "ActionUnit_Labels" / "SN001"
    labels.mkdir(parents=True)
    (labels / "SN001_au12.txt").write_text("1,0\n2,4\n3,0\n")
    ran = command(
        "evaluate", "shipped", root, "--task", "actions", "--json", "--draws", "10", "--threads", "1"
    )
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert (found["set"], found["images"], found["no_face"], found["threshold"]) == ("disfa", 2, 1, 2.0)
    assert found["units"][0]["auc"]["value"] == 1.0


def test_options_and_folders_that_make_no_sense_are_refused(
    tmp_path: Path, command: Callable[..., Any]
) -> None:
    ran = command("evaluate", "shipped", tmp_path, "--task", "actions", "--protocol", "ferplus-majority")
    assert ran.code == 2
    assert "leave out --protocol" in ran.err
    with pytest.raises(
        ConfigError, match="no set with coded action units: pass the folder of one of ckplus, disfa"
    ):
        action_units.run("shipped", tmp_path)
