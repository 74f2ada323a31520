"""Ladders are configurations that build, and the occlusion test measures what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mien.errors import ConfigError
from mien.methods import ABLATIONS, METHODS, build
from mien.methods.base import Prediction, Recognition
from mien.training import ablation
from mien.training.config import RunConfig, load_config

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*-*.yaml"))
OURS = [path for path in CONFIGS if path.stem.split("-")[0] in ABLATIONS]


def base(method: str) -> RunConfig:
    return RunConfig(
        name=f"{method}-drawn",
        method={"name": method, "backbone": "tiny"},
        data={"reader": "folder", "root": "nowhere"},
    )


@pytest.mark.parametrize("method", ABLATIONS)
def test_every_rung_builds_and_no_two_are_alike(method: str) -> None:
    runs = ablation.runs(base(method), ablation.ladder(method), [0])
    sections = [build(run.method, 64).config for run in runs]
    assert len({str(section) for section in sections}) == len(sections)
    assert METHODS[method].Config(backbone="tiny") in sections, "the full configuration is a rung"
    assert len({run.name for run in runs}) == len(runs)


def test_rungs_keep_all_but_their_change_and_go_seed_by_seed() -> None:
    runs = ablation.runs(base("cclls"), ablation.ladder("cclls", ["full", "msr"]), [0, 3])
    assert [(run.name, run.seed) for run in runs] == [
        ("cclls-drawn-msr", 0),
        ("cclls-drawn-msr", 3),
        ("cclls-drawn-full", 0),
        ("cclls-drawn-full", 3),
    ]
    assert runs[2].method == base("cclls").method
    assert runs[0].data == runs[2].data


def test_unknown_ladders_and_rungs_are_named() -> None:
    with pytest.raises(ConfigError, match="jadfer"):
        ablation.ladder("jadfr")
    with pytest.raises(ConfigError, match="clbs"):
        ablation.ladder("cclls", ["clb"])


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(path: Path) -> None:
    config = load_config(path)
    assert config.name == path.stem
    options = {key: value for key, value in config.method.items() if key != "name"}
    METHODS[config.method["name"]].Config(**options)


class Brightest(Recognition):
    """Calls a picture by its mean brightness: 1 above zero, else 0."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def forward(self, batch, turn):
        raise AssertionError("not trained")

    def predict(self, images: torch.Tensor) -> Prediction:
        bright = images.mean(dim=(1, 2, 3)) - 0.8
        return Prediction(
            torch.stack([-bright, bright], dim=1), torch.zeros(len(images), 2), images.flatten(1)
        )


def test_occlusion_covers_its_share_with_grey() -> None:
    images = torch.ones(40, 3, 80, 80)
    covered = ablation.occlude(images, 0.25)
    assert ((covered == 0).float().mean(dim=(1, 2, 3)) - 0.25).abs().max() < 1e-6
    assert torch.equal(covered, ablation.occlude(images, 0.25))
    assert len({tuple(one.nonzero()[0].tolist()) for one in (covered[:, 0] == 0)}) > 10, "the places differ"
    assert torch.equal(images, torch.ones(40, 3, 80, 80)), "the input is left alone"


def test_occlusion_by_hand() -> None:
    """Covering a quarter takes a uniform 1 to a mean of 0.75: below 0.8, so every call turns wrong; 2 stays right."""
    once, truth = torch.ones(4, 3, 16, 16), torch.ones(4, dtype=torch.long)
    for images, left in ((once, 0.0), (2 * once, 1.0)):
        whole, covered = ablation.occlusion_hits(Brightest(), images, truth)
        assert whole.tolist() == [1.0] * 4
        assert covered.tolist() == [left] * 4
