"""A recogniser's training: its batches, its heads, and which epoch it keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mien.cli.main import app
from mien.data import cropping
from mien.data.readers import manifest
from mien.errors import ConfigError
from mien.evaluation import evaluate, inference
from mien.evaluation.validation import validate
from mien.labels import UNLABELLED
from mien.training import checkpoint, loop, recognition
from mien.training.batches import BatchLoader
from mien.training.config import RunConfig

from .drawn import events, trained, tree


def feed_of(config: RunConfig) -> BatchLoader:
    return BatchLoader(cropping.load_split(config.data, ("train",))["train"], config.batch, 0.0, config.seed)


def test_mixup_smoothing_and_votes_keep_shares_that_sum_to_one(faces: Path, tmp_path: Path) -> None:
    config = RunConfig(**tree(faces, tmp_path, mixup=0.4, smoothing=0.1))
    batch = recognition.prepare(config, next(feed_of(config).epoch(0)), 0)
    assert torch.allclose(batch.votes.sum(dim=1), torch.ones(16), atol=1e-5)
    assert float(batch.votes.min()) >= 0.1 / 8 - 1e-6


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_the_rows_that_one_would_have(faces: Path, tmp_path: Path, world: int) -> None:
    config = RunConfig(**tree(faces, tmp_path))
    batch = next(feed_of(config).epoch(0))
    whole = recognition.prepare(config, batch, 3)
    parts = [recognition.prepare(config, batch, 3, rank, world) for rank in range(world)]
    for name in ("image", "expression", "affect", "votes", "subject"):
        torch.testing.assert_close(
            torch.cat([getattr(part, name) for part in parts]), getattr(whole, name), equal_nan=True
        )
    for name, values in whole.extra.items():
        assert torch.equal(torch.cat([part.extra[name] for part in parts]), values)


def test_a_batch_that_does_not_divide_is_refused(faces: Path, tmp_path: Path) -> None:
    config = RunConfig(**tree(faces, tmp_path))
    with pytest.raises(ConfigError, match="does not divide over 3"):
        recognition.RecogniserTask(config, tmp_path, validate, lambda kind, values: None, world=3)


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
        folder = trained(RunConfig(**plain))
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
            trained(RunConfig(**{**plain, "name": "wrong", "select": "ccc" if labels else "accuracy"}))


def test_the_lowest_cross_entropy_is_kept(faces: Path, tmp_path: Path) -> None:
    told = iter((3.0, float("nan"), 1.0, 2.0))
    config = RunConfig(**tree(faces, tmp_path, select="cross_entropy"))
    folder = loop.run(config, lambda *given: {"cross_entropy": next(told)})
    assert checkpoint.load(folder / "weights.safetensors").card["epoch"] == 2
    listed = CliRunner().invoke(app, ["runs", str(tmp_path), "--json"])
    assert json.loads(listed.stdout)[0]["best epoch"] == 3


def test_a_run_that_stopped_early_is_finished(faces: Path, tmp_path: Path) -> None:
    config = RunConfig(**tree(faces, tmp_path, epochs=20, patience=1, optim={"rate": 1e-12, "ema": None}))
    folder = trained(config)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert checkpoint.load(folder / "last.safetensors").card["epoch"] == len(events(folder)) - 1 < 19
    assert trained(config, resume=True) == folder
    (folder / "finished").unlink()  # killed between the last epoch and the end
    assert trained(config, resume=True) == folder
    again = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for name in ("weights.safetensors", "metrics.jsonl", "state.pt"):
        assert again[name] == files[name], name
