"""The names that programs may rely on, wherever the modules behind them stand."""

from __future__ import annotations

import mien
from mien.cli.main import COMMANDS


def test_public_names_stay() -> None:
    assert set(mien.__all__) == {
        "EXPRESSIONS", "Analysis", "Box", "Client", "Editor", "Face", "MienError", "Pipeline", "__version__", "load",
    }  # fmt: skip
    for name in mien.__all__:
        assert getattr(mien, name) is not None


def test_commands_stay() -> None:
    assert set(COMMANDS) >= {
        "ablate", "batch", "columns", "compare", "data", "edit", "evaluate", "evaluate-edits", "figures", "licences",
        "live", "methods", "predict", "release", "runs", "serve", "train", "verify", "video",
    }  # fmt: skip
