"""A run's configuration; `tests/test_config.py` has what all configurations share."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mien.errors import ConfigError
from mien.training.config import RunConfig, load_config

from .drawn import trained, tree


def test_a_wrong_key_names_the_nearest_right_one(tmp_path: Path, faces: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(tree(faces, tmp_path)), encoding="utf-8")
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        load_config(path, ["epoch=3"])
    with pytest.raises(ConfigError, match="did you mean 'weight_decay'"):
        load_config(path, ["optim.weight_deacy=3"])
    with pytest.raises(ConfigError, match="did you mean 'baseline'"):
        trained(load_config(path, ["method.name=baselin", "name=wrong"]))


@pytest.mark.parametrize("labels", ["happy", [], ["a", "a"]])
def test_labels_are_a_list_of_different_names_or_own(faces: Path, tmp_path: Path, labels: object) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(tree(faces, tmp_path, labels=labels)), encoding="utf-8")
    with pytest.raises(ConfigError, match="labels"):
        load_config(path)
    assert RunConfig(**tree(faces, tmp_path, labels="own")).labels == ("own",)
