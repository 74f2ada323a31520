"""`mien sweep` from drawn faces to a table: killed, continued, with an arm that fails, and never twice the same."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from mien.cli.main import app
from mien.data.predictions import Predictions
from mien.data.readers import manifest
from mien.data.synthetic import drawings
from mien.errors import ConfigError
from mien.evaluation import compare
from mien.training import run_log
from mien.training.sweep import load_sweep


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 drawn faces as a manifest, with their exact landmarks."""
    folder = tmp_path_factory.mktemp("faces")
    records = drawings.records(folder, 160, size=48)
    marks = np.stack([face.landmarks for face in drawings.faces(160, size=48)]).astype(np.float32)
    np.savez(folder / "points.npz", names=np.array([record.name for record in records]), points=marks)
    manifest.write(records, folder / "manifest.csv")
    return folder


def written(faces: Path, folder: Path, **changes: Any) -> Path:
    """A sweep's file."""
    source = {"reader": "manifest", "root": str(faces), "points": str(faces / "points.npz")}
    tree = {
        "base": {
            "name": "base",
            "method": {"name": "baseline", "backbone": "tiny"},
            "data": {**source, "size": 32, "cache": str(faces / "cache")},
            "epochs": 2,
            "batch": 16,
            "validation": "end",
        },
        "arms": {"plain": None, "fast": {"optim.rate": 0.02}},
        "seeds": [0, 1],
        "workers": 2,
        "out": str(folder / "out"),
        **changes,
    }
    folder.mkdir(exist_ok=True)
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def call(*given: Any) -> Any:
    return CliRunner().invoke(app, ["sweep", *map(str, given)], catch_exceptions=False)


def rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / "runs.csv").open() as file:
        return {row["run"]: row for row in csv.DictReader(file)}


def test_a_sweep_trains_judges_compares_and_does_nothing_twice(faces: Path, tmp_path: Path) -> None:
    arms = {"plain": None, "fast": {"optim.rate": 0.02}, "same": {"optim.rate": 0.001}}
    path, out = written(faces, tmp_path, arms=arms), tmp_path / "out"
    planned = call(path, "--plan")
    assert planned.stdout.count(str(out)) == 4
    assert "same: the same as plain" in planned.stdout
    assert not out.exists(), "a plan writes nothing"
    first = call(path, "--draws", "50", "--json")
    assert first.exit_code == 0, first.output
    table = json.loads(first.stdout)
    assert [row["name"] for row in table["rows"]] == ["plain", "fast", "same"]
    assert [len(row["seeds"]) for row in table["rows"]] == [2, 2, 2]
    assert table["provenance"]["split"] == "valid+test"
    assert table["provenance"]["selection"] == "none: the last step"
    assert table["pairs"][1]["differences"]["accuracy"]["value"] == 0
    assert any("same setting as plain" in note for note in table["notes"])
    assert {path.name for path in out.glob("comparison.*")} == {
        f"comparison.{form}" for form in ("json", "md", "tex", "html")
    }
    kept = sorted(path.name for path in (out / "runs" / "fast-s0").iterdir() if path.is_file())
    assert kept == ["config.yaml", "environment.json", "finished", "metrics.jsonl", "predictions.parquet"]
    found = Predictions.load(out / "runs" / "fast-s0" / "predictions.parquet")
    judged = [record.name for record in manifest.READER(faces) if record.split != "train"]
    assert sorted(found.names) == sorted(judged)
    written_at = {path: path.stat().st_mtime_ns for path in out.rglob("predictions.parquet")}
    again = call(path, "--draws", "50", "--json")
    assert json.loads(again.stdout) == table
    assert "4 of 4 runs were done before" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in written_at} == written_at
    # The table is that of `mien compare` on the same predictions.
    own = compare.compare(
        [Predictions.load(out / "runs" / f"{arm}-s{seed}" / "predictions.parquet")
         for arm in ("plain", "fast") for seed in (0, 1)], draws=50,
    )  # fmt: skip
    assert own.pairs[0].differences["accuracy"].value == table["pairs"][0]["differences"]["accuracy"]["value"]
    with pytest.raises(ConfigError, match=r"arms\.plain\.epochs is 2 there, 3 here"):
        call(path, "--set", "base.epochs=3")


def test_progress_counts_runs_that_were_done_before(faces: Path, tmp_path: Path) -> None:
    from mien.evaluation import sweep

    path = written(faces, tmp_path, arms={"plain": None}, seeds=[0])
    assert call(path, "--draws", "20").exit_code == 0
    seen: list[tuple[int, int]] = []
    more = load_sweep(path, ["seeds=[0, 1]", "workers=1"])
    sweep.run(more, 20, lambda status: seen.append((status.done, status.total)))
    assert seen[0] == (1, 2)
    assert seen[-1] == (2, 2)


def test_one_failing_arm_is_a_row_and_the_others_go_on(faces: Path, tmp_path: Path) -> None:
    arms = {
        "plain": None,
        "lost": {"data.root": str(tmp_path / "nowhere")},
        "wrong": {"method.droput": 0.1},
        "huge": {"batch": 4096},
    }
    path = written(faces, tmp_path, arms=arms, keep="weights")
    ran = call(path, "--draws", "20")
    assert ran.exit_code == 1
    found = rows(tmp_path / "out")
    assert {name: row["state"] for name, row in found.items()} == {
        f"{arm}-s{seed}": "done" if arm == "plain" else "failed" for arm in arms for seed in (0, 1)
    }
    assert "nowhere" in found["lost-s0"]["error"]
    assert "dropout" in found["wrong-s1"]["error"]
    assert "batch 4096 is larger" in found["huge-s0"]["error"]
    assert "2 runs done, 6 failed" in ran.stderr
    assert "FAILED, and left out: wrong-s0" in (tmp_path / "out" / "comparison.md").read_text()
    assert (tmp_path / "out" / "runs" / "plain-s0" / "last.safetensors").is_file()
    assert not (tmp_path / "out" / "runs" / "plain-s0" / "state.pt").exists()


def test_crops_are_cut_before_workers_start(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mien.evaluation import sweep as sweeping
    from mien.training import job_queue

    there: list[set[str]] = []

    def run(jobs: Any, *rest: Any) -> Any:
        there.append({path.name for path in (tmp_path / "crops").glob("*.npy")})
        return (one for one in ())

    monkeypatch.setattr(job_queue, "run", run)
    path = written(faces, tmp_path)
    config = sweeping.sweep.load_sweep(path, [f"base.data.cache={tmp_path / 'crops'}"])
    sweeping.run(config)
    assert len(there[0]) == 3, "train, valid and test"


def test_a_further_set_has_a_table_of_its_own_and_attributes_part_the_first(
    faces: Path, tmp_path: Path
) -> None:
    other = {
        "reader": "manifest",
        "root": str(faces),
        "points": str(faces / "points.npz"),
        "splits": ["train"],
    }
    judge = {"splits": ["test"], "also": {"seen": other}, "weights": "best"}
    path = written(faces, tmp_path, judge=judge, seeds=[0])
    assert call(path, "--draws", "20").exit_code == 0
    seen = json.loads((tmp_path / "out" / "seen" / "comparison.json").read_text())
    assert seen["provenance"]["split"] == "train"
    assert any("LEARNT FROM" in note for note in seen["notes"])
    own = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert (own["provenance"]["split"], own["provenance"]["learnt"]) == ("test", 0)


@pytest.mark.parametrize(
    "how", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)], ids=["Ctrl-C", "kill"]
)
def test_a_stopped_sweep_goes_on_within_its_runs_and_ends_as_an_undisturbed_one(
    faces: Path, tmp_path: Path, how: int
) -> None:
    sets = ["--set", "base.epochs=30", "--set", "seeds=[0]", "--set", "workers=2"]  # on one processor, too
    undisturbed = written(faces, tmp_path / "whole")
    path = written(faces, tmp_path / "parts")
    command = [sys.executable, "-m", "mien", "sweep", *sets, "--draws", "20"]
    process = subprocess.Popen(
        [*command, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    runs = tmp_path / "parts" / "out" / "runs"
    until = time.monotonic() + 180
    while not all((runs / f"{arm}-s0" / "state.pt").is_file() for arm in ("plain", "fast")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
    os.killpg(process.pid, how)
    _, told = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert told.rstrip().endswith("continue with the same command")
        assert "Traceback" not in told
    steps = {arm: len(run_log.read(runs / f"{arm}-s0" / "metrics.jsonl")) for arm in ("plain", "fast")}
    assert all(0 < count < 30 for count in steps.values()), "both were stopped in the middle"
    time.sleep(1)  # a killed parent's workers end with it
    for one in (path, undisturbed):
        ran = subprocess.run([*command, str(one)], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
    for arm in ("plain", "fast"):
        first, second = (
            Predictions.load(tmp_path / part / "out" / "runs" / f"{arm}-s0" / "predictions.parquet")
            for part in ("parts", "whole")
        )
        assert np.array_equal(first.probabilities, second.probabilities), "bit for bit"
        assert first.names == second.names
        events = run_log.read(runs / f"{arm}-s0" / "metrics.jsonl")
        assert [event["epoch"] for event in events] == list(range(30)), "no epoch is trained anew"


def test_the_log_has_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mien.cli import sweep as command
    from mien.training.job_queue import QueueStatus

    now = [1000.0]
    monkeypatch.setattr(command.time, "monotonic", lambda: now[0])
    told = command._lines()
    for second in range(300):
        now[0] += 1.0
        told("runs", QueueStatus(1, 1, 4, ((type("Job", (), {"label": "plain-s0"}), 0.4 + second / 1000),)))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert lines[0] == "1 of 4 runs, 1 failed, plain-s0 46%"
    # A share of .06 a minute of one run of four; 2.34 runs are left. What was done at the first line tells nothing.
    assert lines[-1] == "1 of 4 runs, 1 failed, plain-s0 70%, about 38 min left"


def test_a_terminal_has_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], faces: Path, tmp_path: Path
) -> None:
    """Crops and runs share it, whatever else is told above it."""
    from mien.cli import sweep as command
    from mien.training.job_queue import QueueStatus

    monkeypatch.setattr(command.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with command._watched() as progress:
        progress("crops", 5, 10)
        progress("crops", 10, 10)
        command.tell("plain-s0: 7 s")
        progress("runs", QueueStatus(1, 0, 4, ((type("Job", (), {"label": "fast-s0"}), 0.5),)))
    drawn = capsys.readouterr().err
    assert "plain-s0: 7 s" in drawn
    assert "1 of 4 runs, fast-s0 50%" in drawn.split("aligned")[-1]
