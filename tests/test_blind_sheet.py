"""`scripts/blind_sheet.py`: the key is right about every face on the sheet, and consent is asked for."""

from __future__ import annotations

import csv
import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mien.editing import provenance
from mien.editing.editor import Editor
from mien.editing.grids import face_crop
from mien.editing.mark import Mark
from mien.editing.photo import open_photo
from mien.errors import ConfigError, OutputExists
from mien.io import images

pytest.importorskip("c2pa")
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("blind_sheet", ROOT / "scripts" / "blind_sheet.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "photos"
    folder.mkdir()
    names = ("portrait_neutral.jpg", "portrait_smiling.jpg", "astronaut.png")
    return [Path(shutil.copy(ROOT / "examples" / name, folder)) for name in names]


def test_the_key_says_what_each_face_is(
    script: ModuleType, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    crops, answers, _ = script.drawn(Editor.load(), photos, np.random.default_rng(2))
    assert {answer["answer"] for answer in answers} == {"photo", "edited"}
    editor = Editor.load()
    for crop, answer in zip(crops, answers, strict=True):
        photo = open_photo(answer["file"])
        located = editor.locate(photo)
        plain = face_crop(photo.rgb, located[0], script.WIDTH)
        assert (answer["answer"] == "photo") == bool((crop == plain).all())

    out, key = tmp_path / "sheet.png", tmp_path / "key.csv"
    assert script.draw(photos, out, key, consent=True, seed=2) == len(photos)
    with key.open(newline="") as file:
        assert [row["answer"] for row in csv.DictReader(file)] == [answer["answer"] for answer in answers]
    assert images.read(out).shape[1] == script.COLUMNS * script.WIDTH
    told = provenance.verify(out)
    assert told.holds
    assert told.facts["consent_stated"] is True
    assert told.mark == Mark(kind="sheet")
    with pytest.raises(OutputExists):
        script.draw(photos, out, key, consent=True)


def test_consent_is_asked_for(script: ModuleType, photos: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--i-have-consent"):
        script.draw(photos, tmp_path / "sheet.png", tmp_path / "key.csv", consent=False)
    assert list(tmp_path.glob("*.*")) == []
