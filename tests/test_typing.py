"""A stranger's typed program: the public names are complete for `mypy --strict`, and their mistakes are found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mien

SOURCE = Path(mien.__file__).parent.parent

RIGHT = """
from pathlib import Path

import numpy as np
import pandas
from numpy.typing import NDArray

import mien
from PIL import Image


class Named:
    def __fspath__(self) -> str:
        return "photo.jpg"


def expressions(folder: Path, array: NDArray[np.uint8]) -> dict[str, float]:
    pipeline: mien.Pipeline = mien.load(detector="auto", min_face=24, on_no_face="row")
    analysis: mien.Analysis = pipeline("photo.jpg")
    for picture in (folder / "a.jpg", Named(), b"data", array, Image.open("photo.jpg")):
        analysis = pipeline(picture)
    with open("photo.jpg", "rb") as file:
        analysis = pipeline(file)
    many: list[mien.Analysis] = pipeline(["a.jpg", "b.jpg"])
    paths: list[Path] = sorted(folder.glob("*.jpg"))
    many = pipeline(paths)
    for analysis in pipeline.stream(paths):
        line: str = analysis.to_json()
        analysis = mien.Analysis.from_json(line)
        analysis.show()
    table: pandas.DataFrame = pipeline(paths).to_frame(landmarks=False)
    table = analysis.to_frame()
    face: mien.Face = analysis.faces[0]
    box: mien.Box = face.box
    width: float = box.width
    valence: float | None = face.valence
    units: dict[str, float | None] = face.units
    label: str = face.expression
    assert label in mien.EXPRESSIONS and width > 0 and units and valence and len(table) == len(many)
    return face.probabilities


def smiling(path: str) -> NDArray[np.uint8]:
    editor: mien.Editor = mien.Editor.load(mien.load())
    try:
        edit = editor(path, "happiness", 0.7)
    except mien.MienError as problem:
        raise SystemExit(str(problem)) from None
    applied: float = edit.faces[0].applied
    assert applied
    return edit.image


def remote(path: Path) -> str:
    with mien.Client("http://127.0.0.1:8000", api_key="secret") as client:
        analysis: mien.Analysis = client.analyse(path)
        client.edit(path, None, actions={"smile": 0.5})
    return analysis.faces[0].expression
"""

WRONG = """
import mien

pipeline = mien.load(detecter="auto")
pipeline(3)
pipeline("photo.jpg").faces[0].valence + 1
mien.Editor.load()("photo.jpg", 3)
mien.analyse("photo.jpg")
"""


def checked(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(program)
    (folder / "mypy.ini").write_text(
        # mypy takes the package for installed, and reads of it only what the program needs.
        "[mypy]\nstrict = true\n[mypy-mien.*]\nfollow_imports = silent\n"
    )
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(folder / "cache"), "program.py"],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(autouse=True)
def _needs_mypy() -> None:
    pytest.importorskip("mypy", reason="mypy is not installed: pip install 'mien[dev]'")


def test_the_package_says_that_it_is_typed() -> None:
    assert (SOURCE / "mien" / "py.typed").is_file()


def test_a_typed_program_that_uses_the_public_names_is_accepted(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    answer = checked(tmp_path, RIGHT)
    assert answer.returncode == 0, answer.stdout


def test_every_public_name_is_in_that_program() -> None:
    assert {name for name in mien.__all__ if f"mien.{name}" not in RIGHT} == {"__version__"}


def test_its_mistakes_are_found(tmp_path: Path) -> None:
    answer = checked(tmp_path, WRONG)
    lines = {int(line.split(":")[1]) for line in answer.stdout.splitlines() if ": error:" in line}
    assert lines == {4, 5, 6, 7, 8}, answer.stdout
