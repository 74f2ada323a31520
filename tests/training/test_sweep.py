"""The plan of a sweep: what each run is, what is trained once, and what a folder refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mien import methods
from mien.data import protocols
from mien.errors import ConfigError
from mien.methods import ABLATIONS
from mien.training import loop, sweep
from mien.training.sweep import SweepConfig, load_sweep

BASE = {
    "method": {"name": "baseline", "backbone": "tiny", "dropout": 0.1},
    "data": {"reader": "manifest", "root": "nowhere", "size": 32},
    "epochs": 4,
}


def made(out: Path, **changes: Any) -> SweepConfig:
    return SweepConfig(
        **{
            "base": {"name": "base", **BASE},
            "arms": {"plain": None, "fast": {"optim.rate": 0.01}},
            "seeds": [0, 1],
            "out": out,
            **changes,
        }
    )


def test_arms_change_the_base_by_sections_or_by_paths(tmp_path: Path) -> None:
    arms = {"a": {"method": {"dropout": 0.3}, "data.mirror": False}, "b": {"method.name": "cal", "epochs": 2}}
    both = made(tmp_path, arms=arms)
    first, second = both.config("a"), both.config("b", seed=3, fold=2)
    assert first.method == {"name": "baseline", "backbone": "tiny", "dropout": 0.3}
    assert (first.data.mirror, first.epochs, first.seed) == (False, 4, 0)
    assert (second.method["name"], second.epochs, second.seed, second.data.fold) == ("cal", 2, 3, 2)
    assert (second.name, second.runs) == ("b-f2", tmp_path / "runs")


def test_the_plan_goes_seed_by_seed_and_trains_equal_arms_once(tmp_path: Path) -> None:
    arms = {"plain": {}, "fast": {"optim.rate": 0.01}, "same": {"method": {"dropout": 0.1}}}
    config = made(tmp_path, arms=arms)
    jobs = sweep.plan(config)
    assert [job.label for job in jobs] == ["plain-s0", "fast-s0", "plain-s1", "fast-s1"]
    assert all(job.folder == loop.folder_of(job.config) for job in jobs)
    assert sweep.equal_arms(config) == {"plain": "plain", "fast": "fast", "same": "plain"}


def test_folds_are_runs_of_their_own_and_judged_on_their_test_part_alone(tmp_path: Path) -> None:
    config = made(tmp_path, folds=[0, 1], judge={"splits": ["test"]}, seeds=[0], arms={"plain": None})
    assert [(job.label, job.config.data.fold) for job in sweep.plan(config)] == [
        ("plain-f0-s0", 0),
        ("plain-f1-s0", 1),
    ]
    with pytest.raises(ValueError, match=r"judge.splits to \[test\]"):
        made(tmp_path, folds=[0, 1])


def test_a_folder_takes_more_arms_and_seeds_and_refuses_other_options(tmp_path: Path) -> None:
    sweep.admit(made(tmp_path))
    more = {"plain": {}, "fast": {"optim.rate": 0.01}, "third": {"epochs": 2}}
    sweep.admit(made(tmp_path, seeds=[0, 1, 2], arms=more, workers=3, threads=2, keep="weights"))
    sweep.admit(made(tmp_path, arms={"plain": None}))
    assert set(json.loads((tmp_path / "sweep.json").read_text())["arms"]) == set(more)
    before = (tmp_path / "sweep.json").read_bytes()
    for changes, words in (
        ({"arms": {"fast": {"optim.rate": 0.02}}}, r"arms\.fast\.optim\.rate is 0\.01 there, 0\.02 here"),
        ({"base": {"name": "b", **BASE, "epochs": 5}}, r"arms\.plain\.epochs is 4 there, 5 here; \.\.\."),
        ({"judge": {"weights": "best"}}, r'judge\.weights is "last" there, "best" here'),
    ):
        with pytest.raises(ConfigError, match=words) as caught:
            sweep.admit(made(tmp_path, **changes))
        assert "\n" not in str(caught.value)
    assert (tmp_path / "sweep.json").read_bytes() == before


def test_a_file_of_before_is_read_with_todays_defaults_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    sweep.admit(made(tmp_path))
    path = tmp_path / "sweep.json"
    tree = json.loads(path.read_text())
    del tree["arms"]["plain"]["validation"], tree["judge"]["also"]
    path.write_text(json.dumps(tree))
    sweep.admit(made(tmp_path))
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"sweep\.json: damaged"):
        sweep.admit(made(tmp_path))


def test_a_sweep_is_read_with_its_base_and_assignments(tmp_path: Path) -> None:
    base, file = tmp_path / "base.yaml", tmp_path / "sweep.yaml"
    base.write_text(yaml.safe_dump({"name": "base", **BASE}))
    file.write_text(f"base: {base}\narms:\n  plain:\n  long: {{epochs: 9}}\nout: {tmp_path / 'out'}\n")
    config = load_sweep(file, ["base.batch=8", "seeds=[4]", "base.data.limit=3"])
    assert (config.config("plain").batch, config.seeds, config.config("long").epochs) == (8, (4,), 9)
    assert config.config("plain").data.limit == 3


def test_the_rungs_of_a_ladder_are_arms(tmp_path: Path) -> None:
    config = made(tmp_path, ladder="cal", rungs=["regression", "nogame"], arms={"more": {"epochs": 9}})
    assert list(config.arms) == ["regression", "nogame", "more"]
    assert config.config("nogame").method == {**BASE["method"], "critic": False, "correlation": 0.5}
    assert list(made(tmp_path, ladder="meca", arms={}).arms) == [rung.name for rung in ABLATIONS["meca"]]
    with pytest.raises(ValueError, match=r"no rung 'nogme': .*nogame"):
        made(tmp_path, ladder="cal", rungs=["nogme"])


SHIPPED = sorted((Path(__file__).parents[2] / "configs" / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_sweeps_that_ship_can_be_read_and_their_methods_built(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parents[2])
    config = load_sweep(path)
    jobs = sweep.plan(config)
    arms = {job.arm: job.config for job in jobs}
    for run in arms.values():
        methods.build({**run.method, "weights": None}, run.data.size)
        assert (run.data.size, run.norms, run.optim.ema) == (64, "batch", None)
    if path.stem == "ferplus-published":  # what it measures is the selection on test pictures
        assert {arm: run.data.drop_duplicates for arm, run in arms.items()} == {
            "clean": True,
            "copies": False,
        }
        assert {run.validation for run in arms.values()} == {"epochs"}
        assert (config.judge.splits, config.judge.weights) == (("valid",), "best")
        rule = protocols.load(config.config("clean").data.protocol or "")
        assert rule.split == {"train": "train", "test": "valid"}
        return
    assert all(run.data.drop_duplicates and run.validation == "end" for run in arms.values())
    assert (config.judge.splits, config.judge.weights) == (("valid", "test"), "last")
    assert len({json.dumps(run.method, sort_keys=True) for run in arms.values()}) == len(arms)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": {"fast": {"optim.rte": 1}}}, "arm 'fast': no key 'optim.rte': .*rate"),
        ({"arms": {"fast": {"epochs.more": 1}}}, "arm 'fast': 'epochs' is a value, not a section"),
        ({"arms": {"a/b": {}}}, "arms"),
        ({"arms": {}}, "arms"),
        ({"seeds": []}, "seeds"),
        ({"devices": ["gpu"]}, "devices"),
        ({"seed": [0]}, "no key 'seed': .*seeds"),
        ({"judge": {"split": ["test"]}}, "no key 'judge.split': .*splits"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_file_and_key(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    tree = {"base": {"name": "base", **BASE}, "arms": {"plain": None}, "out": "out", **changes}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match=rf"sweep\.yaml.*{words}") as caught:
        load_sweep(tmp_path / "sweep.yaml")
    assert "\n" not in str(caught.value)
