"""What `mien train` says while it trains."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from mien.cli import train


def test_a_log_has_a_line_a_minute_and_one_an_epoch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(train.time, "monotonic", lambda: now)
    progress = train._lines()
    for second in range(1, 301):
        now = float(second)
        if second <= 100:
            progress("crops", {"done": 20 * second, "of": 3000})
        else:
            values = {"step": second, "of": 1000, "seconds": now, "share": second / 1000}
            progress("step", {**values, "losses": {"expression": 2.0}})
        if second == 230:
            progress("epoch", {"epoch": 0, "epochs": 4, "best": True, "accuracy": 0.5})
    assert capsys.readouterr().err.splitlines() == [
        "aligned 1,200 of 3,000",
        "step 120, 12%, 2 min  expression 2.0000",
        "step 180, 18%, 3 min  expression 2.0000",
        "epoch 1/4  accuracy 0.5000",
        "step 290, 29%, 5 min  expression 2.0000",
    ]
