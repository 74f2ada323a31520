"""Options that commands share are one declaration: the same words, limits and defaults wherever they are taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from mien.cli import options
from mien.cli.main import COMMANDS, app
from mien.errors import ConfigError

SHARED = ("--detector", "--model", "--min-face", "--min-confidence", "--tiled", "--overwrite", "--threads")


def declarations(option: str) -> dict[str, tuple[Any, ...]]:
    """By command that has the option: its help, type and default."""
    group: Any = typer.main.get_command(app)
    found = {}
    for name in COMMANDS:
        command = group.get_command(None, name)
        parts = getattr(command, "commands", None)
        for part in parts.values() if isinstance(parts, dict) else [command]:
            for parameter in part.params:
                if option in parameter.opts:
                    kind = parameter.type
                    limits = getattr(kind, "min", None), getattr(kind, "max", None)
                    said = (parameter.help, kind.name, limits, parameter.default)
                    found[f"{name} {part.name}"] = said
    return found


@pytest.mark.parametrize("option", SHARED)
def test_a_shared_option_is_the_same_in_every_command(option: str) -> None:
    found = declarations(option)
    assert len(found) >= 4
    assert len(set(found.values())) == 1, found


def test_the_options_of_finding_faces_are_those_of_load() -> None:
    given = options.pipeline_options("yunet", Path("y.onnx"), None, 12.0, 0.5, True)
    assert given == {
        "detector": "yunet",
        "detector_model": Path("y.onnx"),
        "weights": None,
        "min_face": 12.0,
        "min_confidence": 0.5,
        "tiled": True,
        "prior": None,
        "adapt": None,
    }


def test_resume_and_overwrite_exclude_each_other() -> None:
    options.check_resume(True, False)
    options.check_resume(False, True)
    with pytest.raises(ConfigError, match="pass one of them"):
        options.check_resume(True, True)


def test_words_are_parted_by_commas_without_empty_ones() -> None:
    assert options.words(" a, b,,c ,") == ["a", "b", "c"]
    assert options.words("") == []
