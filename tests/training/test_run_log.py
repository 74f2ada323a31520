"""What a run writes down: whole lines, nothing twice after a resume, and TensorBoard only where it is installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mien.training import run_log

BOARD = "torch.utils.tensorboard"


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A TensorBoard writer that only remembers what it was told."""
    told: list[Any] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int | None = None) -> None:
            told.append((Path(folder).name, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            told.append((name, value, step))

        def close(self) -> None:
            told.append("closed")

    module = ModuleType(BOARD)
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, BOARD, module)
    return told


@pytest.fixture
def no_board(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without TensorBoard."""
    monkeypatch.setitem(sys.modules, BOARD, None)


def test_numbers_go_to_tensorboard_and_words_do_not(board: list[Any], tmp_path: Path) -> None:
    log = run_log.RunLog(tmp_path)
    log.write("epoch", 6, {"epoch": 0, "accuracy": 0.5, "note": "fine"})
    log.close()
    assert board == [("tensorboard", None), ("epoch/epoch", 0, 6), ("epoch/accuracy", 0.5, 6), "closed"]
    assert run_log.read(log.path) == [
        {"kind": "epoch", "step": 6, "epoch": 0, "accuracy": 0.5, "note": "fine"}
    ]


def test_a_resumed_run_writes_nothing_twice(board: list[Any], tmp_path: Path) -> None:
    first = run_log.RunLog(tmp_path)
    for step in (6, 12, 18):
        first.write("epoch", step, {"accuracy": step / 100})
    first.close()
    with first.path.open("a", encoding="utf-8") as file:
        file.write('{"kind": "epoch", "st')  # the line that a killed run was writing
    again = run_log.RunLog(tmp_path, resume_step=12)
    again.write("epoch", 18, {"accuracy": 0.9})
    again.close()
    assert [(one["step"], one["accuracy"]) for one in run_log.read(again.path)] == [
        (6, 0.06),
        (12, 0.12),
        (18, 0.9),
    ]
    assert ("tensorboard", 13) in board, "TensorBoard is told to forget what came after step 12"


def test_without_tensorboard_the_log_is_the_same_and_nothing_is_said(
    no_board: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = run_log.RunLog(tmp_path)
    log.write("step", 1, {"loss": 2.5})
    log.close()
    assert json.loads(log.path.read_text(encoding="utf-8")) == {"kind": "step", "step": 1, "loss": 2.5}
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert capsys.readouterr() == ("", "")


def test_the_environment_names_versions_and_no_place() -> None:
    found = json.dumps(run_log.environment())
    assert '"torch"' in found
    assert "/" not in found.replace("+cpu", "")
