"""The loop: it learns, it repeats itself exactly, and nothing that interrupts it loses more than a step."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from mien.cli.main import app
from mien.data import cropping
from mien.data.readers import manifest
from mien.data.synthetic import drawings
from mien.errors import ConfigError, MienError, OutputExists, TrainingError
from mien.evaluation import evaluate, inference
from mien.labels import UNLABELLED
from mien.training import checkpoint, initialise
from mien.training import loop as train
from mien.training.config import RunConfig, load_config
from mien.training.run_log import read

STEPS_PER_EPOCH = 6


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 drawn faces as a manifest, with their exact landmarks."""
    folder = tmp_path_factory.mktemp("faces")
    records = drawings.records(folder, 160, size=48)
    drawn = drawings.faces(160, size=48)
    np.savez(
        folder / "points.npz",
        names=np.array([record.name for record in records]),
        points=np.stack([face.landmarks for face in drawn]).astype(np.float32),
    )
    manifest.write(records, folder / "manifest.csv")
    return folder


def tree(faces: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """A configuration that trains in seconds."""
    return {
        "name": "test",
        "method": {"name": "baseline", "backbone": "tiny", "dropout": 0.1},
        "data": {
            "reader": "manifest",
            "root": str(faces),
            "size": 32,
            "cache": str(faces / "cache"),
            "points": str(faces / "points.npz"),
            "rotate": 5,
            "scale": 0.05,
            "shift": 0.02,
            "erase": 0.0,
            "light": 0.1,
            "mirror": False,
        },
        "optim": {"rate": 0.03, "ema": 0.8},
        "epochs": 4,
        "batch": 16,
        "threads": 1,
        "runs": str(out),
        **changes,
    }


def events(folder: Path) -> list[dict[str, Any]]:
    """Everything the run measured, without its clock."""
    return [{k: v for k, v in event.items() if k != "seconds"} for event in read(folder / "metrics.jsonl")]


@pytest.fixture(scope="module")
def undisturbed(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train.run(RunConfig(**tree(faces, tmp_path_factory.mktemp("undisturbed"))))


def test_learns_and_leaves_a_complete_run_folder(undisturbed: Path, faces: Path) -> None:
    lines = events(undisturbed)
    assert [line["step"] for line in lines] == [STEPS_PER_EPOCH * epoch for epoch in (1, 2, 3, 4)]
    stored = checkpoint.load(undisturbed / "weights.safetensors")
    best = max(lines, key=lambda line: line["accuracy"])
    assert stored.card["valid"]["accuracy"] == best["accuracy"]
    config = RunConfig(**stored.card["config"])
    samples = train.load_split(config.data, ("valid",))["valid"]
    again = train.validate(stored.restore(), samples, 16)  # type: ignore[arg-type]
    assert again["accuracy"] == pytest.approx(best["accuracy"])
    assert again["ccc_valence"] == pytest.approx(best["ccc_valence"], abs=1e-5)


def test_the_loop_fits_a_fixed_batch(faces: Path, tmp_path: Path) -> None:
    plain = tree(faces, tmp_path, epochs=12, name="fit", optim={"rate": 0.01, "ema": None})
    plain["method"]["dropout"] = 0.0
    plain["data"] |= {"limit": 16, "rotate": 0, "scale": 0, "shift": 0, "light": 0, "soften": 0}
    losses = [line["train_expression"] for line in events(train.run(RunConfig(**plain)))]
    assert min(losses[1:]) < losses[0]


def test_same_seed_same_run_and_other_seed_another(undisturbed: Path, faces: Path, tmp_path: Path) -> None:
    again = train.run(RunConfig(**tree(faces, tmp_path / "a", epochs=1)))
    other = train.run(RunConfig(**tree(faces, tmp_path / "b", epochs=1, seed=1)))
    same = train.run(RunConfig(**tree(faces, tmp_path / "c", epochs=1)))
    assert events(again) == events(same)
    assert events(again) != events(other)


def test_ctrl_c_saves_and_the_resumed_run_is_bit_for_bit_the_undisturbed_one(
    undisturbed: Path, faces: Path, tmp_path: Path
) -> None:
    config = RunConfig(**tree(faces, tmp_path))

    def interrupt(kind: str, values: dict[str, Any]) -> None:
        if kind == "step" and values["step"] == STEPS_PER_EPOCH + 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train.run(config, report=interrupt)
    folder = train.folder_of(config)
    assert not (folder / "finished").exists()
    train.run(config, resume=True)
    assert events(folder) == events(undisturbed)
    first = checkpoint.load(folder / "weights.safetensors").tensors
    second = checkpoint.load(undisturbed / "weights.safetensors").tensors
    assert all(torch.equal(first[name], second[name]) for name in second)


def test_a_killed_process_resumes_to_the_same_losses(undisturbed: Path, faces: Path, tmp_path: Path) -> None:
    settings = tmp_path / "config.yaml"
    settings.write_text(yaml.safe_dump(tree(faces, tmp_path / "runs")), encoding="utf-8")
    command = [sys.executable, "-m", "mien", "train", str(settings)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder = tmp_path / "runs" / "test-s0"
    deadline = time.monotonic() + 120
    while not (folder / "state.pt").exists():  # the first epoch has been saved
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        process.poll()
    process.kill()
    process.wait()
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(folder)
    assert events(folder) == events(undisturbed)


def test_nan_loss_is_one_clear_error_and_keeps_the_last_weights(faces: Path, tmp_path: Path) -> None:
    config = RunConfig(**tree(faces, tmp_path))

    class Poison(Exception):
        pass

    train.run(RunConfig(**tree(faces, tmp_path, epochs=1, name="before")))
    broken = RunConfig(**tree(faces, tmp_path, optim={"rate": 1e30, "clip": None, "ema": None}))
    with pytest.raises(TrainingError, match=r"lower optim\.rate"):
        train.run(broken)
    assert (tmp_path / "before-s0" / "weights.safetensors").is_file()
    assert config.name == "test"


def test_disk_full_is_one_clear_error_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(b"good")

    def full(part: Path) -> None:
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(TrainingError, match="free some space"):
        train._write(full, path)
    assert path.read_bytes() == b"good"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_never_overwritten_by_another_run(undisturbed: Path, faces: Path) -> None:
    same = RunConfig(**tree(faces, undisturbed.parent))
    with pytest.raises(ConfigError, match="add --resume"):
        train.run(same)
    with pytest.raises(ConfigError, match=r"another configuration .epochs is 4 there, 9 here"):
        train.run(RunConfig(**tree(faces, undisturbed.parent, epochs=9)), resume=True)
    assert train.run(same, resume=True) == undisturbed


def test_a_run_that_stopped_early_is_finished(faces: Path, tmp_path: Path) -> None:
    config = RunConfig(**tree(faces, tmp_path, epochs=20, patience=1, optim={"rate": 1e-12, "ema": None}))
    folder = train.run(config)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert checkpoint.load(folder / "last.safetensors").card["epoch"] == len(events(folder)) - 1 < 19
    assert train.run(config, resume=True) == folder
    (folder / "finished").unlink()  # killed between the last epoch and the end
    assert train.run(config, resume=True) == folder
    again = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for name in ("weights.safetensors", "metrics.jsonl", "state.pt"):
        assert again[name] == files[name], name


def test_the_lowest_cross_entropy_is_kept(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter((3.0, float("nan"), 1.0, 2.0))
    monkeypatch.setattr(train, "validate", lambda *_: {"cross_entropy": next(told)})
    folder = train.run(RunConfig(**tree(faces, tmp_path, select="cross_entropy")))
    assert checkpoint.load(folder / "weights.safetensors").card["epoch"] == 2
    listed = CliRunner().invoke(app, ["runs", str(tmp_path), "--json"])
    assert json.loads(listed.stdout)[0]["best epoch"] == 3


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"select": "acuracy"}, "did you mean 'accuracy'"),
        ({"data": {"root": "nowhere"}}, "nowhere"),
        ({"data": {"protocol": "rafdb-basic"}}, "rafdb"),
        ({"method": {"name": "baselin"}}, "baseline"),
        ({"batch": 100_000}, "lower it"),
        ({"start": "nowhere.safetensors"}, "nowhere"),
    ],
)
def test_a_refused_start_leaves_nothing_in_the_way(
    faces: Path, tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    wrong = tree(faces, tmp_path)
    for key, value in change.items():
        wrong[key] = {**wrong[key], **value} if isinstance(value, dict) else value
    with pytest.raises(MienError, match=complaint):
        train.run(RunConfig(**wrong))
    assert list(tmp_path.iterdir()) == []


def test_a_run_can_start_from_another_runs_weights(undisturbed: Path, faces: Path, tmp_path: Path) -> None:
    start = str(undisturbed / "weights.safetensors")
    still = {"rate": 1e-12, "ema": None}
    fresh = train.run(RunConfig(**tree(faces, tmp_path, name="fresh", epochs=1, optim=still)))
    onward = train.run(RunConfig(**tree(faces, tmp_path, name="onward", epochs=1, optim=still, start=start)))
    kept = checkpoint.load(undisturbed / "weights.safetensors").card["valid"]
    assert events(onward)[0]["cross_entropy"] == pytest.approx(kept["cross_entropy"], rel=1e-4)
    assert events(fresh)[0]["cross_entropy"] != pytest.approx(kept["cross_entropy"], rel=1e-2)
    with pytest.raises(ConfigError, match="another method's or size's"):
        train.run(
            RunConfig(
                **tree(
                    faces, tmp_path, name="wrong", start=start, method={"name": "jadfer", "backbone": "tiny"}
                )
            )
        )


def test_a_run_can_start_from_the_backbone_of_another_method(
    undisturbed: Path, faces: Path, tmp_path: Path
) -> None:
    start = str(undisturbed / "weights.safetensors")
    other = {"name": "ke2nt", "backbone": "tiny"}
    rest = {"start": start, "start_part": "backbone", "epochs": 1, "optim": {"rate": 1e-12, "ema": None}}
    folder = train.run(RunConfig(**tree(faces, tmp_path, name="second", method=other, **rest)))
    theirs = checkpoint.load(undisturbed / "weights.safetensors").tensors
    ours = checkpoint.load(folder / "weights.safetensors").tensors
    shared = [name for name in theirs if name.startswith("backbone.")]
    assert shared
    for name in shared:
        torch.testing.assert_close(ours[name], theirs[name])
    with pytest.raises(ConfigError, match="another backbone's or size's"):
        train.run(
            RunConfig(
                **tree(
                    faces,
                    tmp_path,
                    name="wrong",
                    **{**rest, "method": {"name": "baseline", "backbone": "mobilefacenet"}},
                )
            )
        )


def test_frozen_norms_keep_the_statistics_that_were_estimated_at_the_start(
    faces: Path, tmp_path: Path
) -> None:
    method = {"name": "baseline", "backbone": "mobilefacenet"}
    config = RunConfig(**tree(faces, tmp_path, method=method, norms="frozen", epochs=1, optim={"ema": None}))
    folder = train.run(config)
    tensors = checkpoint.load(folder / "last.safetensors").tensors
    torch.manual_seed(config.seed)
    fresh = train.methods.build(config.method, config.data.size)
    feed = train.Feed(train.load_split(config.data, ("train",))["train"], config.batch, 0.0, config.seed)
    initialise.adapt_norms(fresh, feed, config)
    for name, value in fresh.state_dict().items():
        if name.startswith("backbone.") and name.endswith(("running_mean", "running_var")):
            torch.testing.assert_close(tensors[name], value, rtol=1e-3, atol=1e-3)
    assert not torch.equal(
        tensors["backbone.stem.0.0.weight"], fresh.state_dict()["backbone.stem.0.0.weight"]
    )
    means = [value for name, value in tensors.items() if name.endswith("running_mean")]
    assert all(mean.abs().sum() > 0 for mean in means)


def test_a_training_leaves_torch_as_it_was(faces: Path, tmp_path: Path) -> None:
    threads, tiny = torch.get_num_threads(), torch.tensor([1e-40])
    train.run(RunConfig(**tree(faces, tmp_path, name="left", epochs=1, threads=1)))
    assert torch.get_num_threads() == threads
    assert float(tiny * 1.0) > 0  # denormal numbers are numbers again


def test_a_methods_own_norms_stay_live_where_the_backbones_are_frozen() -> None:
    method = train.methods.build({"name": "cclls", "backbone": "mobilefacenet"}, 64).train()
    initialise.freeze_norms(method)
    norms = {name: one for name, one in method.named_modules() if isinstance(one, torch.nn.BatchNorm2d)}
    frozen = {name for name, one in norms.items() if not one.training}
    assert frozen == {name for name in norms if name.startswith("backbone.")}
    assert set(norms) - frozen  # the method has norms of its own


def test_heads_without_labels_say_nothing(faces: Path, tmp_path: Path) -> None:
    listed = cropping.source_records(RunConfig(**tree(faces, tmp_path)).data)
    for name, left in (
        ("labels", {"valence": None, "arousal": None}),
        ("affect", {"expression": UNLABELLED, "votes": ()}),
    ):
        (tmp_path / name).mkdir()
        manifest.write([replace(one, **left) for one in listed], tmp_path / name / "manifest.csv")
        plain = tree(faces, tmp_path, epochs=1, name=name, select="accuracy" if name == "labels" else "ccc")
        plain["data"] |= {"root": str(tmp_path / name), "vote_affect": False}
        folder = train.run(RunConfig(**plain))
        labels = name == "labels"
        opened = checkpoint.load(folder / "weights.safetensors")
        assert opened.heads == {"expression": labels, "affect": not labels}
        model = inference.open_weights(folder, 1)
        whole = inference.source_of(faces, reader="manifest", points=faces / "points.npz")
        found = inference.predict(model, whole, cache=faces / "cache")
        assert np.isnan(found.affect).all() == labels
        assert (found.truth == UNLABELLED).all() == (not labels)
        report = evaluate.report(found, draws=5)
        assert bool(report.affect) == (not labels)
        assert bool(report.scores) == labels
        with pytest.raises(
            ConfigError, match=r"select: '.*' is of a head that these training pictures do not"
        ):
            train.run(RunConfig(**{**plain, "name": "wrong", "select": "ccc" if labels else "accuracy"}))


def test_a_wrong_key_names_the_nearest_right_one(tmp_path: Path, faces: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(tree(faces, tmp_path)), encoding="utf-8")
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        load_config(path, ["epoch=3"])
    with pytest.raises(ConfigError, match="did you mean 'weight_decay'"):
        load_config(path, ["optim.weight_deacy=3"])
    with pytest.raises(ConfigError, match="did you mean 'baseline'"):
        train.run(load_config(path, ["method.name=baselin", "name=wrong"]))


def test_mixup_smoothing_and_votes_keep_shares_that_sum_to_one(faces: Path, tmp_path: Path) -> None:
    config = RunConfig(**tree(faces, tmp_path, mixup=0.4, smoothing=0.1))
    samples = train.load_split(config.data, ("train",))["train"]
    feed = train.Feed(samples, 16, 0.0, 0)
    _, targets, crops = next(feed.epoch(0))
    batch = train._prepare(config, targets, crops, 0, 0, 1)
    assert torch.allclose(batch.votes.sum(dim=1), torch.ones(16), atol=1e-5)
    assert float(batch.votes.min()) >= 0.1 / 8 - 1e-6


@pytest.mark.parametrize("processes", [2])
def test_two_processes_give_the_single_process_result(faces: Path, tmp_path: Path, processes: int) -> None:
    settings = tmp_path / "config.yaml"
    changes = {
        "epochs": 2,
        "method": {"name": "baseline", "backbone": "tiny", "dropout": 0.0, "affect_weight": 0.0},
    }
    single = train.run(RunConfig(**tree(faces, tmp_path / "single", **changes)))
    settings.write_text(yaml.safe_dump(tree(faces, tmp_path / "double", **changes)), encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            f"--nproc-per-node={processes}",
            "--master-port=29611",
            *("-m", "mien", "train", str(settings)),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    double = tmp_path / "double" / "test-s0"
    for one, two in zip(events(single), events(double), strict=True):
        assert two["cross_entropy"] == pytest.approx(one["cross_entropy"], rel=2e-3)
    card = json.loads((double / "environment.json").read_text())
    assert card["packages"]["torch"] == torch.__version__.split("+")[0] or card["packages"]["torch"]


def test_runs_are_listed_and_drawn(undisturbed: Path, tmp_path: Path) -> None:
    shell = CliRunner()
    listed = shell.invoke(
        app, ["runs", str(undisturbed.parent), "--curves", str(tmp_path / "all.png"), "--json"]
    )
    assert listed.exit_code == 0, listed.output
    (row,) = (row for row in json.loads(listed.stdout) if row["run"] == undisturbed.name)
    best = max(events(undisturbed), key=lambda event: event["accuracy"])
    assert (row["epochs"], row["finished"], row["accuracy"]) == ("4/4", True, round(best["accuracy"], 4))
    assert {path.name for path in tmp_path.iterdir()} == {"all.png", "all.svg"}
    again = ["runs", str(undisturbed.parent), "--curves", str(tmp_path / "all.png")]
    assert isinstance(shell.invoke(app, again).exception, OutputExists)
    assert shell.invoke(app, [*again, "--overwrite"]).exit_code == 0
    shown = shell.invoke(app, ["runs", str(undisturbed.parent)])
    assert undisturbed.name in shown.stdout
    assert "no runs" in shell.invoke(app, ["runs", str(tmp_path)]).stdout
