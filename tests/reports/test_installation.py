"""What `mien doctor` examines: extras from the metadata, the hashes of weights, and the speed by threads."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mien.io import cards
from mien.reports import installation

METADATA = (
    "numpy>=1.26",
    "av>=14.2; extra == 'video'",
    "no-such-package>=1; extra == 'video'",
    'pyarrow[x]>=16; extra == "parquet"',
    "mkdocs>=1.6; extra == 'docs'",
    "av>=14.2; (python_version < '4') and extra == 'serve'",
)


def test_extras_are_those_of_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"av": "15.0", "pyarrow": "20.0"}
    monkeypatch.setattr(installation, "version", lambda package: versions.get(package, ""))
    found = {extra.name: extra for extra in installation.extras(METADATA)}
    assert list(found) == ["parquet", "serve", "video"]
    assert found["parquet"].missing == ()
    assert found["video"].installed == {"av": "15.0"}
    assert found["video"].missing == ("no-such-package",)
    assert found["video"].remedy == "pip install 'mien[video]'"


def test_every_extra_of_this_package_is_explained() -> None:
    text = (Path(__file__).parent.parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    section = text.partition("[project.optional-dependencies]")[2].partition("[project.scripts]")[0]
    named = {line.split(" = ")[0] for line in section.splitlines() if " = [" in line}
    assert named - {"docs", "dev", "all"} == set(installation.SERVES)


def test_damaged_weights_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(cards.FOLDER, tmp_path / "weights")
    monkeypatch.setattr(cards, "FOLDER", tmp_path / "weights")
    found = [installation.check_weights(card) for card in cards.shipped()]
    assert len(found) >= 8
    assert [check.problem for check in found] == [""] * len(found)
    with (tmp_path / "weights" / "editor" / "shading.npz").open("ab") as file:
        file.write(b"more")
    wrong = [check for card in cards.shipped() if (check := installation.check_weights(card)).problem]
    assert [check.file for check in wrong] == ["editor/shading.npz"]
    assert "not the weights of the card" in wrong[0].problem


@pytest.mark.parametrize(
    ("processors", "counts"), [(1, [1]), (2, [1, 2]), (4, [1, 2, 4]), (6, [1, 2, 4, 6]), (64, [1, 2, 4, 64])]
)
def test_threads_are_doubled_up_to_all_processors(processors: int, counts: list[int]) -> None:
    assert installation.thread_counts(processors) == counts


def test_the_speed_is_measured_with_each_number_of_threads() -> None:
    speed = installation.measure([1, 2], seconds=0)
    assert list(speed.rates) == [1, 2]
    assert all(rate > 0 for rate in speed.rates.values())
    assert speed.ratio >= 1
    assert speed.fastest in (1, 2)


def test_torch_is_named_but_not_imported() -> None:
    script = (
        "import sys; from mien.reports import installation; installation.SECONDS = 0; installation.examine(); "
        "print(sorted({'torch', 'fastapi', 'ray', 'matplotlib'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
