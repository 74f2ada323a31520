"""The wheel holds everything, and the core alone, without torch, analyses a photograph."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from mien.io import cards

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("mien-*.whl")
    return path


@pytest.fixture(scope="module")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment with the wheel, what it requires, and nothing else."""
    folder = tmp_path_factory.mktemp("core")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert installed.returncode == 0, installed.stderr
    return python


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", env=clean)


def test_the_wheel_holds_weights_and_cards_and_is_small(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "recogniser.onnx",
        "recogniser.json",
        "landmarks.onnx",
        "landmarks.json",
        "actions.onnx",
        "actions.json",
        "visibility.onnx",
        "visibility.json",
    ):
        assert f"mien/weights/{name}" in names
    assert "mien/py.typed" in names
    templates = [path for path in (ROOT / "src" / "mien").rglob("templates/*") if path.is_file()]
    assert {path.relative_to(ROOT / "src").as_posix() for path in templates} <= set(names)
    assert {path.suffix for path in templates} >= {".html", ".md", ".tex", ".css"}
    assert any(name.endswith("/licenses/WEIGHTS-TERMS.md") for name in names)
    metadata = zipfile.ZipFile(wheel).read(
        next(name for name in names if name.endswith(".dist-info/METADATA"))
    )
    assert b"License-File: WEIGHTS-TERMS.md" in metadata
    assert re.search(rb"^Summary: .*FER2013.*MS-Celeb-1M", metadata, re.MULTILINE)
    assert wheel.stat().st_size <= 40 * 2**20
    weights = [one for one in zipfile.ZipFile(wheel).infolist() if one.filename.endswith(".onnx")]
    assert all(one.file_size <= 12 * 2**20 for one in weights)


def test_every_shipped_weight_is_the_one_on_its_card() -> None:
    shipped = cards.shipped()
    assert {card.path.stem for card in shipped} >= {"recogniser", "landmarks"}
    for card in shipped:
        (weights,) = (path for path in card.path.parent.glob(f"{card.path.stem}.*") if path.suffix != ".json")
        cards.verified(weights)


def test_the_core_has_no_torch_and_fits_its_size(core: Path) -> None:
    assert "No module named 'torch'" in run(core, "-c", "import torch").stderr
    ran = run(core, "-c", "import numpy; print(numpy.__file__)")
    packages = Path(ran.stdout.strip()).parent.parent
    # What any environment holds is not counted.
    parts = [part for part in packages.iterdir() if part.name not in ("pip", "setuptools")]
    files = [path for part in parts for path in (part, *part.rglob("*")) if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 450 * 10**6


def test_the_core_analyses_a_photograph(core: Path) -> None:
    photograph = ROOT / "examples" / "portrait_smiling.jpg"
    ran = run(core.with_name("mien"), "predict", photograph, "--json")
    assert ran.returncode == 0, ran.stderr
    (face,) = json.loads(ran.stdout)["faces"]
    assert max(face["reading"]["probabilities"], key=face["reading"]["probabilities"].get) == "happiness"


def test_the_core_writes_every_table_and_annotated_pictures(core: Path, tmp_path: Path) -> None:
    for suffix in ("csv", "jsonl"):
        ran = run(
            core.with_name("mien"), "predict", ROOT / "examples", "--out", tmp_path / f"table.{suffix}",
            "--annotate", tmp_path / suffix,
        )  # fmt: skip
        assert (ran.returncode, ran.stderr) == (0, "")
        assert (tmp_path / f"table.{suffix}").stat().st_size > 1000
        assert len([path for path in (tmp_path / suffix).iterdir() if not path.name.startswith(".")]) == 5


def test_commands_that_need_more_say_which_extra(core: Path) -> None:
    ran = run(core.with_name("mien"), "train", ROOT / "configs" / "baseline-ferplus.yaml")
    assert ran.returncode == 2
    assert "pip install 'mien[train]'" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "pip install 'mien[train]'" in run(core.with_name("mien"), "methods").stdout


def test_the_core_says_which_extra_writes_parquet(core: Path, tmp_path: Path) -> None:
    photograph = ROOT / "examples" / "portrait_smiling.jpg"
    ran = run(core.with_name("mien"), "predict", photograph, "--out", tmp_path / "table.parquet")
    assert ran.returncode == 2
    assert ran.stderr.strip().splitlines() == [
        "mien: this needs 'pyarrow': install it with  pip install 'mien[parquet]'"
    ]
