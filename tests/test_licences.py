"""Everything that comes with `mien` has terms that are known, and none of them forbids to pass the package on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from email.message import Message
from pathlib import Path

import pytest

from mien.data.readers import READERS
from mien.io import cards
from mien.release import licences

ROOT = Path(__file__).parent.parent
COPYLEFT = ("GPL-3", "GPL-2", "AGPL", "GNU General Public License", "GNU Affero")


@pytest.fixture(scope="module")
def report() -> licences.Report:
    return licences.report()


def test_the_core_and_what_it_needs_in_turn_are_listed(report: licences.Report) -> None:
    by_name = {package.name.lower(): package for package in report.packages}
    for direct in ("numpy", "pillow", "onnxruntime", "opencv-python-headless", "pydantic", "typer"):
        assert "core" in by_name[direct].wanted_by
    assert "core" in by_name["pydantic_core"].wanted_by  # through pydantic
    assert "serve" in by_name["starlette"].wanted_by  # through fastapi
    assert not {"pytest", "ruff", "hypothesis"} & by_name.keys()  # development tools are not passed on


def test_every_package_states_its_licence_and_none_is_copyleft(report: licences.Report) -> None:
    for package in report.packages:
        if package.name.startswith(("cuda-", "nvidia-")):  # NVIDIA's terms; torch brings them, on Linux
            continue
        assert package.licence != licences.NOT_STATED, package.name
        # An LGPL library may be linked; a GPL one would bind this package too.
        plain = package.licence.replace("LGPL", "")
        assert not any(word in plain for word in COPYLEFT), f"{package.name}: {package.licence}"


def test_every_shipped_weight_and_every_reader_has_its_line(report: licences.Report) -> None:
    files = {held.file for held in report.shipped}
    assert {path.relative_to(cards.FOLDER).as_posix() for path in cards.FOLDER.rglob("*.json")} <= files
    assert {"texts/minilm-photo.safetensors", "server/static/examples"} <= files
    assert all(held.terms and held.terms != licences.NOT_STATED for held in report.shipped)
    assert report.datasets.keys() == READERS.keys()


@pytest.mark.parametrize(
    ("headers", "licence"),
    [
        ([("License-Expression", "Apache-2.0"), ("License", "other")], "Apache-2.0"),
        ([("License", "BSD 3-Clause")], "BSD 3-Clause"),
        ([("License", "UNKNOWN"), ("Classifier", "License :: OSI Approved :: MIT License")], "MIT License"),
        ([("License", "MIT License\n\nPermission is hereby granted, ...")], "MIT License"),
        ([("License", "./LISENCE"), ("Classifier", "License :: OSI Approved :: BSD License")], "BSD License"),
        ([("Classifier", "Programming Language :: Python")], licences.NOT_STATED),
    ],
)
def test_a_licence_is_found_wherever_metadata_states_it(headers: list[tuple[str, str]], licence: str) -> None:
    message = Message()
    for name, value in headers:
        message[name] = value
    assert licences.licence_of(message) == licence


def test_what_the_weights_learnt_from_stands_where_a_buyer_looks(report: licences.Report) -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    summary, files = (
        re.search(rf"^{key} = (.*)$", project, re.MULTILINE) for key in ("description", "license-files")
    )
    assert summary is not None
    assert files is not None
    assert "WEIGHTS-TERMS.md" in files[1]
    pages = [
        (ROOT / name).read_text(encoding="utf-8")
        for name in ("README.md", "docs/ethics.md", "WEIGHTS-TERMS.md")
    ]
    held = next(one.terms for one in report.shipped if one.file == "recogniser.json")
    for text in (*pages, summary[1], report.notice, held):
        assert all(word in text for word in ("FER2013", "research", "MS-Celeb-1M"))
    for text in (*pages, report.notice):
        assert "commercially is not settled" in " ".join(text.split())


def test_the_command_prints_tables_and_json(command: Callable) -> None:
    ran = command("licences")
    assert ran.code == 0
    assert "numpy" in ran.out
    assert "recogniser.json" in ran.out
    assert "diffusionfer" in ran.out
    assert licences.WEIGHTS_NOTICE in " ".join(ran.out.split())
    told = json.loads(command("licences", "--json").out)
    assert told["packages"]
    assert told["notice"] == licences.WEIGHTS_NOTICE
    assert told["datasets"]["diffusionfer"].startswith("CC0")
