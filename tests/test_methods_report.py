"""scripts/methods_report.py: figures of made sweeps, sections that appear with their sweeps, covered pictures, and that
the page is what its template and its files state."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml

from mien import methods
from mien.data.config import SourceConfig
from mien.data.predictions import FILE, Predictions, RunInfo
from mien.data.readers import manifest
from mien.data.synthetic import drawings
from mien.training import checkpoint
from mien.training.ablation import occlude

ROOT = Path(__file__).parent.parent
COUNT = 800
ARMS = {"baseline": 0.70, "linear": 0.70, "ke2nt": 0.70, "jadfer": 0.80, "cclls": 0.70}
TRUTH = np.random.default_rng(0).choice(8, COUNT, p=[0.34, 0.28, 0.12, 0.1, 0.06, 0.03, 0.035, 0.035])


@pytest.fixture
def report(
    load_script: Callable[[Path], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    """The script with a repository of its own, and pictures whose split and yaw are known."""
    module = load_script(ROOT / "scripts" / "methods_report.py")
    monkeypatch.setattr(module.figures, "ROOT", tmp_path)
    monkeypatch.setattr(module, "OUT", tmp_path / "docs" / "reports" / "methods-ferplus")
    monkeypatch.setattr(module, "DRAWS", 200)
    known = {f"i{place}": ("valid" if place % 2 else "test", float(place % 40)) for place in range(COUNT)}
    monkeypatch.setattr(module, "facts", lambda config: known)
    module.figures.stated.cache_clear()
    return module


def predicted(arm: str, seed: int, share: float) -> Predictions:
    luck = np.random.default_rng([seed, *arm.encode()]).random(COUNT)
    hard = np.random.default_rng(1).random(COUNT)
    score = 0.8 * hard + 0.2 * luck
    right = score < np.quantile(score, share)
    best = np.where(right, TRUTH, (TRUTH + 1) % 8)
    return Predictions(
        tuple(f"i{place}" for place in range(COUNT)),
        TRUTH,
        0.04 + 0.68 * np.eye(8)[best],
        provenance=RunInfo(
            f"{arm}-s{seed}", weights_hash=f"{arm}{seed}", group=f"old {arm}", seed=seed, commit="c0"
        ),
    )


def swept(root: Path, sweep: str, arms: dict[str, float], seeds: range, **files: dict[str, float]) -> Path:
    """A sweep's folder with finished runs; `files` are further sets with the share that each arm has right."""
    folder = root / f"sweep-{sweep}"
    config = {
        "name": "x",
        "method": {"name": "baseline"},
        "data": {"reader": "ferplus", "root": "x"},
        "epochs": 7,
    }
    for arm, share in arms.items():
        for seed in seeds:
            run = folder / "runs" / f"{arm}-s{seed}"
            predicted(arm, seed, share).save(run / FILE)
            for name, shares in files.items():
                predicted(arm, seed, shares[arm]).save(run / f"{name}.parquet")
            (run / "config.yaml").write_text(yaml.safe_dump(config))
            (run / "finished").write_text(json.dumps({"seconds": 120.0}))
    (folder / "sweep.json").write_text(json.dumps({"arms": {arm: {} for arm in arms}, "judge": {}}))
    return folder


def test_an_effect_is_found_and_unfinished_seeds_do_not_count(report: ModuleType, tmp_path: Path) -> None:
    folder = swept(tmp_path / "runs", "ferplus-tenth", ARMS, range(4))
    (folder / "runs" / "cclls-s3" / FILE).unlink()
    found, tables = report.measured("ferplus-tenth", folder)
    assert (found["seeds"], found["epochs"], found["commit"]) == (3, 7, "c0")
    assert found["minutes"]["ke2nt"] == 2
    whole = found["sets"]["all"]["methods"]
    assert list(whole) == list(ARMS), "the sweep's order, by names, whatever group the files state"
    assert whole["jadfer"]["seeds"] == [0, 1, 2]
    assert whole["jadfer"]["differences"]["accuracy"]["value"] == pytest.approx(0.1, abs=0.01)
    assert report.verdict(whole["jadfer"]) == "higher"
    assert report.verdict(whole["ke2nt"]) == "no difference seen"
    assert report.differing_from(whole, "accuracy") == "`jadfer` is higher than the baseline"
    sizes = {name: part["images"] for name, part in found["sets"].items()}
    assert sizes["valid"] + sizes["test"] == COUNT
    assert (sizes["turned"], sizes["frontal"]) == (24 * COUNT // 40, 16 * COUNT // 40)
    assert list(found["sets"]["control"]["methods"]) == ["linear", "ke2nt"]
    assert found["sets"]["all"]["classes"]["rare"]["images"] == int((np.isin(TRUTH, (5, 6, 7))).sum())
    assert "## By class" in tables


def test_sections_appear_with_their_sweeps(report: ModuleType, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    swept(runs, "ferplus-tenth", ARMS, range(3))
    report.write(runs)
    page = (report.OUT / "README.md").read_text()
    assert "`jadfer` is higher than the baseline" in page
    assert (report.OUT / "forest.png").stat().st_size > 1000
    for words in (
        "With all faces",
        "wrong label on",
        "The ladders",
        "published selection",
        "grey square over a quarter",
    ):
        assert words not in page
    swept(runs, "ferplus-tenth", ARMS, range(3), covered=ARMS, lfw=ARMS)
    swept(runs, "ferplus-all", ARMS, range(2), covered=ARMS)
    swept(runs, "ferplus-flipped", ARMS, range(1))  # one seed so far
    rungs = {"backbone": 0.7, "undropped": 0.7, "full": 0.6}
    swept(runs, "ladder-jadfer", rungs, range(2), covered=rungs | {"full": 0.8})
    swept(runs, "meca", {"bare": 0.6, "full": 0.65}, range(2))
    edits = {
        f"{runs}/correctors/{arm}-s{seed}/editor.onnx": {
            "accuracy/mean": {"value": share + seed / 100},
            "fed": {"value": 5 - share},
            "fed/share": {"value": 1 - share},
        }
        for arm, share in (("bare", 0.5), ("full", 0.6))
        for seed in (0, 1, 2)
    } | {"full": {}}
    (runs / "correctors").mkdir()
    (runs / "correctors" / "table.json").write_text(json.dumps({"figures": edits}))
    report.write(runs)
    page = (report.OUT / "README.md").read_text()
    for words in (
        "With all faces",
        "wrong label on",
        "The ladders",
        "grey square over a quarter",
        "trained to the end",
    ):
        assert words in page
    gain = report.stored()["meca"]["sets"]["all"]["methods"]["full"]["differences"]["accuracy"]["value"]
    assert f"{100 * gain:+.1f}<!-- -->" in page.split("trained to the end")[1]
    dropped = page.split("the same without attention dropping")[1]
    assert re.search(r">-10\.\d \[[^<]*<.* points of accuracy", dropped)
    assert re.search(r">\+10\.\d \[[^<]*<!-- --> of accuracy on covered faces", dropped)
    guided = page.split("Correctors of the editor")[1]
    assert ">51.0 ± 1.0<" in guided
    assert ">+10.0 [+10.0, +10.0]<" in guided
    assert ">-0.100 [-0.100, -0.100]<" in guided
    tables = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    assert len(tables) > 15
    for table in tables:
        lines = table.splitlines()
        assert len(lines) >= 3, table
        assert re.fullmatch(r"\|(---\|)+", lines[1]), table
        assert len({line.count("|") for line in lines}) == 1, table


def test_the_published_selection_is_split_into_choice_and_copies(report: ModuleType, tmp_path: Path) -> None:
    folder = swept(tmp_path, "ferplus-published", {"clean": 0.8, "copies": 0.82}, range(3))
    curves = {"clean": (0.78, 0.81, 0.80), "copies": (0.79, 0.84, 0.82)}
    for arm, curve in curves.items():
        for seed in range(3):
            events = [{"kind": "epoch", "accuracy": value + seed / 1000} for value in curve]
            log = folder / "runs" / f"{arm}-s{seed}" / "metrics.jsonl"
            log.write_text("".join(json.dumps(event) + "\n" for event in events))
    found = report.measured("ferplus-published", folder)[0]["selection"]
    expected = {
        "by choice": 0.01,
        "by copies": 0.02,
        "by both": 0.04,
        "clean last": 0.801,
        "copies best": 0.841,
    }
    for name, value in expected.items():
        assert found[name]["mean"]["value"] == pytest.approx(value)
    assert found["clean last"]["seed_sd"] == pytest.approx(0.001)
    assert found["by both"]["mean"]["low"] == pytest.approx(0.04)


def test_the_grey_square_is_what_networks_see_as_nothing_and_the_same_for_all_arms(
    report: ModuleType,
) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (40, 64, 64), dtype=np.uint8)
    names = [f"{place}.png" for place in range(40)]
    first = report.covered(crops, names, 0)
    assert np.array_equal(first, report.covered(crops, names, 0))
    assert not np.array_equal(first, report.covered(crops, names, 1))
    changed = first != crops
    assert (changed.sum(axis=(1, 2)) <= 32 * 32).all()
    assert (changed.sum(axis=(1, 2)) > 0.95 * 32 * 32).all()
    assert (first[changed] == report.GREY).all()
    corners = {(int(np.argwhere(one)[:, 0].min()), int(np.argwhere(one)[:, 1].min())) for one in changed}
    assert len(corners) > 30, "places vary"
    one = report.covered(crops[3:4], names[3:4], 0)
    assert np.array_equal(one[0], first[3]), "the place is the picture's own"
    grey = occlude(torch.ones(1, 3, 64, 64), report.COVERED)
    assert (grey == 0).sum() == 3 * 32 * 32, "as large as the square of mien.training.ablation"


def test_kept_weights_are_judged_on_further_sets_once(
    report: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = tmp_path / "faces"
    records = drawings.records(faces, 60, size=48)
    marks = np.stack([face.landmarks for face in drawings.faces(60, size=48)]).astype(np.float32)
    np.savez(faces / "points.npz", names=np.array([one.name for one in records]), points=marks)
    manifest.write(records, faces / "manifest.csv")
    source = {"reader": "manifest", "root": str(faces), "points": str(faces / "points.npz")}
    config = {
        "name": "x",
        "method": {"name": "baseline", "backbone": "tiny"},
        "data": {**source, "size": 32, "cache": str(tmp_path / "cache")},
    }
    monkeypatch.setattr(report, "LFW", SourceConfig(**source))
    folder = tmp_path / "runs" / "baseline-s2"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    run = report.Run("baseline", 2, folder)
    assert report.judge(run) == [], "without weights"
    torch.manual_seed(0)
    checkpoint.save(
        folder / "last.safetensors",
        methods.build(config["method"], 32),
        {"method": config["method"], "size": 32},
    )
    assert report.judge(run) == ["covered", "lfw"]
    covered, lfw = (run.predictions(name) for name in ("covered", "lfw"))
    judged = [record.name for record in manifest.READER(faces) if record.split != "train"]
    assert sorted(covered.names) == sorted(judged)
    tested = [record.name for record in manifest.READER(faces) if record.split == "test"]
    assert list(lfw.names) == tested
    same = covered.rows(np.array([covered.names.index(name) for name in tested]))
    assert not np.allclose(same.probabilities, lfw.probabilities), "the square is seen"
    assert report.judge(run) == []


def test_the_page_is_what_its_text_and_its_files_state(load_script: Callable[[Path], ModuleType]) -> None:
    report = load_script(ROOT / "scripts" / "methods_report.py")
    page = (report.OUT / "README.md").read_text(encoding="utf-8")
    assert report.page(report.stored()) == page, "run  python scripts/methods_report.py page"
    begins = re.compile(r"\s*<!-- reports/")
    assert not [line for line in page.splitlines() if begins.match(line)], (
        "Markdown takes such a line for HTML"
    )
