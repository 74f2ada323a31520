"""Everything that comes with `mien` has terms that are known, and none of them forbids to pass the package on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mien.cli.licences import NOTICE
from mien.data.readers import READERS
from mien.io import cards

ROOT = Path(__file__).parent.parent.parent
COPYLEFT = ("GPL-3", "GPL-2", "AGPL", "GNU General Public License", "GNU Affero")


def installed(root: str = "mien") -> dict[str, metadata.Distribution]:
    """The installed distributions that `root` needs, directly or not, without its development tools."""
    found: dict[str, metadata.Distribution] = {}
    todo = [(root, extra) for extra in ("", "all")]
    seen = set(todo)
    while todo:
        name, extra = todo.pop()
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # of an extra that is not installed, or for another system
        for line in found[name].requires or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                new = {(needed.name, wanted) for wanted in ("", *needed.extras)} - seen
                seen |= new
                todo += new
    return found


def licence(package: metadata.Distribution) -> str:
    """What a distribution's metadata states: an SPDX expression, classifiers, or words; "" for nothing."""
    stated = package.metadata
    classes = [line for line in stated.get_all("Classifier") or [] if line.startswith("License :: ")]
    words = [stated.get("License-Expression"), *classes, *(stated.get("License") or "").splitlines()[:1]]
    return " ".join(word for word in words if word)


def test_every_package_states_its_licence_and_none_is_copyleft() -> None:
    packages = installed()
    assert {
        "numpy",
        "pydantic-core",
        "starlette",
    } <= packages.keys()  # direct, through pydantic, through fastapi
    assert not {"pytest", "ruff", "hypothesis"} & packages.keys()
    for name, package in packages.items():
        if name.startswith(("cuda-", "nvidia-")):  # NVIDIA's terms; torch brings them, on Linux
            continue
        stated = licence(package)
        assert stated, name
        # An LGPL library may be linked; a GPL one would bind this package too.
        assert not any(word in stated.replace("LGPL", "") for word in COPYLEFT), f"{name}: {stated}"


def test_every_shipped_weight_and_every_reader_has_its_terms() -> None:
    shipped = {held.file: held.terms for held in cards.terms()}
    assert {
        path.relative_to(cards.FOLDER).as_posix() for path in cards.FOLDER.rglob("*.json")
    } <= shipped.keys()
    assert {"texts/minilm-photo.safetensors", "server/static/examples"} <= shipped.keys()
    assert all(shipped.values())
    assert all(reader.terms for reader in READERS.values())


def test_what_the_weights_learnt_from_stands_where_a_buyer_looks() -> None:
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
    held = next(one.terms for one in cards.terms() if one.file == "recogniser.json")
    for text in (*pages, summary[1], NOTICE, held):
        assert all(word in text for word in ("FER2013", "research", "MS-Celeb-1M"))
    for text in (*pages, NOTICE):
        assert "commercially is not settled" in " ".join(text.split())


@pytest.mark.parametrize("word", ["recogniser.json", "diffusionfer", "cyclonedx-py environment", NOTICE])
def test_the_command_prints_tables(word: str, command: Callable) -> None:
    ran = command("licences")
    assert ran.code == 0
    assert word in " ".join(ran.out.split())


def test_the_command_prints_json(command: Callable) -> None:
    told = json.loads(command("licences", "--json").out)
    assert told["notice"] == NOTICE
    assert told["datasets"]["diffusionfer"].startswith("CC0")
    assert [entry["file"] for entry in told["shipped"]] == [held.file for held in cards.terms()]
