"""A checkpoint says what it is, and refuses to be anything else."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mien import methods
from mien.errors import WeightsError
from mien.training import checkpoint

OPTIONS = {"name": "baseline", "backbone": "tiny"}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "weights.safetensors"
    checkpoint.save(path, methods.build(OPTIONS, 32), {"method": OPTIONS, "size": 32, "note": "ä"})
    return path


def test_round_trip(kept: Path) -> None:
    torch.manual_seed(0)
    expected = methods.build(OPTIONS, 32).state_dict()
    stored = checkpoint.load(kept)
    assert stored.card["note"] == "ä"
    restored = stored.restore()
    assert not restored.training
    assert all(torch.equal(value, expected[name]) for name, value in restored.state_dict().items())
    assert list(kept.parent.iterdir()) == [kept]


def test_tensors_of_another_method_do_not_load(kept: Path) -> None:
    stored = checkpoint.load(kept)
    stored.tensors.popitem()
    with pytest.raises(WeightsError, match="do not fit"):
        stored.restore()


def test_what_is_no_checkpoint_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'sprung')!r}, 'w')",))

    (tmp_path / "pickle.safetensors").write_bytes(pickle.dumps(Trap()))
    save_file({"x": torch.zeros(1)}, tmp_path / "stranger.safetensors")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    for name, words in (
        ("pickle", "damaged"),
        ("stranger", "not a mien checkpoint"),
        ("empty", "damaged"),
        ("no", "no such"),
    ):
        with pytest.raises(WeightsError, match=words):
            checkpoint.load(tmp_path / f"{name}.safetensors")
    assert not (tmp_path / "sprung").exists()


def test_a_truncated_checkpoint_is_damaged(kept: Path) -> None:
    kept.write_bytes(kept.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="damaged"):
        checkpoint.load(kept)
