"""`mien adapt`, and its file in `mien predict`."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mien.cli.main import app
from mien.errors import MienError
from mien.faces.operating_point import Adaptation


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=True)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> Path:
    """One photograph several times over, under labels of one's own, and a file that is no picture."""
    root = tmp_path_factory.mktemp("labelled")
    for name in ("left desk", "right desk"):
        (root / name).mkdir()
        for number in range(3):
            shutil.copy(examples / "astronaut.png", root / name / f"{number}.png")
    (root / "left desk" / "broken.png").write_bytes(b"no picture")
    return root


def test_labels_of_ones_own_go_from_folders_to_a_table(
    labelled: Path, recogniser_file: Path, astronaut: Path, tmp_path: Path
) -> None:
    out, table = tmp_path / "desk.json", tmp_path / "faces.csv"
    made = run("adapt", str(labelled), "--out", str(out), "--weights", str(recogniser_file))
    assert made.exit_code == 0, made.output
    assert "6 faces of 6 people: left desk 3, right desk 3" in made.output
    assert "broken.png" in made.output
    adaptation = Adaptation.load(out)
    assert adaptation.labels == ("left desk", "right desk")
    again = run("adapt", str(labelled), "--out", str(out), "--weights", str(recogniser_file))
    assert isinstance(again.exception, MienError)
    read = run(
        "predict", str(astronaut), "--out", str(table), "--weights", str(recogniser_file), "--adapt", str(out)
    )
    assert read.exit_code == 0, read.output
    with table.open(newline="") as file:
        row = next(csv.DictReader(file))
    assert row["expression"] in adaptation.labels
    assert float(row["p_left desk"]) + float(row["p_right desk"]) == pytest.approx(1, abs=1e-3)


def test_a_correction_of_other_weights_is_refused(
    labelled: Path, recogniser_file: Path, astronaut: Path, tmp_path: Path
) -> None:
    out = tmp_path / "desk.json"
    run("adapt", str(labelled), "--out", str(out), "--weights", str(recogniser_file))
    refused = run("predict", str(astronaut), "--adapt", str(out))
    assert isinstance(refused.exception, MienError)
    assert "made for other weights" in str(refused.exception)


def test_a_prior_changes_probabilities_by_bayes_rule_and_is_refused_where_unknown(
    recogniser_file: Path, astronaut: Path
) -> None:
    refused = run("predict", str(astronaut), "--weights", str(recogniser_file), "--prior", "uniform")
    assert isinstance(refused.exception, MienError)
    assert "does not state the shares" in str(refused.exception)
    wrong = run("predict", str(astronaut), "--prior", "glee=.3")
    assert isinstance(wrong.exception, MienError)
