"""What a run starts from: another run's weights, a backbone's, and norms estimated once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mien import methods
from mien.data import cropping
from mien.errors import ConfigError
from mien.training import checkpoint, initialise
from mien.training.batches import BatchLoader
from mien.training.config import RunConfig

from .drawn import events, trained, tree


def test_a_run_can_start_from_another_runs_weights(undisturbed: Path, faces: Path, tmp_path: Path) -> None:
    start = str(undisturbed / "weights.safetensors")
    still = {"rate": 1e-12, "ema": None}
    fresh = trained(RunConfig(**tree(faces, tmp_path, name="fresh", epochs=1, optim=still)))
    onward = trained(RunConfig(**tree(faces, tmp_path, name="onward", epochs=1, optim=still, start=start)))
    kept = checkpoint.load(undisturbed / "weights.safetensors").card["valid"]
    assert events(onward)[0]["cross_entropy"] == pytest.approx(kept["cross_entropy"], rel=1e-4)
    assert events(fresh)[0]["cross_entropy"] != pytest.approx(kept["cross_entropy"], rel=1e-2)
    with pytest.raises(ConfigError, match="another method's or size's"):
        trained(
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
    folder = trained(RunConfig(**tree(faces, tmp_path, name="second", method=other, **rest)))
    theirs = checkpoint.load(undisturbed / "weights.safetensors").tensors
    ours = checkpoint.load(folder / "weights.safetensors").tensors
    shared = [name for name in theirs if name.startswith("backbone.")]
    assert shared
    for name in shared:
        torch.testing.assert_close(ours[name], theirs[name])
    with pytest.raises(ConfigError, match="another backbone's or size's"):
        trained(
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
    folder = trained(config)
    tensors = checkpoint.load(folder / "last.safetensors").tensors
    torch.manual_seed(config.seed)
    fresh = methods.build(config.method, config.data.size)
    feed = BatchLoader(cropping.load_split(config.data, ("train",))["train"], config.batch, 0.0, config.seed)
    initialise.adapt_norms(fresh, feed, config)
    for name, value in fresh.state_dict().items():
        if name.startswith("backbone.") and name.endswith(("running_mean", "running_var")):
            torch.testing.assert_close(tensors[name], value, rtol=1e-3, atol=1e-3)
    assert not torch.equal(
        tensors["backbone.stem.0.0.weight"], fresh.state_dict()["backbone.stem.0.0.weight"]
    )
    means = [value for name, value in tensors.items() if name.endswith("running_mean")]
    assert all(mean.abs().sum() > 0 for mean in means)


def test_a_methods_own_norms_stay_live_where_the_backbones_are_frozen() -> None:
    method = methods.build({"name": "cclls", "backbone": "mobilefacenet"}, 64).train()
    initialise.freeze_norms(method)
    norms = {name: one for name, one in method.named_modules() if isinstance(one, torch.nn.BatchNorm2d)}
    frozen = {name for name, one in norms.items() if not one.training}
    assert frozen == {name for name in norms if name.startswith("backbone.")}
    assert set(norms) - frozen  # the method has norms of its own
