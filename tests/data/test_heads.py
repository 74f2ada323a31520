"""Rendered sets on disk: persons do not leak, what is written is read back, and other folders are refused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from typer.testing import CliRunner

from mien.cli.main import app
from mien.data.readers import READERS
from mien.data.readers import rendered as heads
from mien.data.synthetic.head import Renderer
from mien.errors import ConfigError, DatasetDamaged
from mien.io import images
from mien.labels import UNLABELLED


@pytest.fixture
def renderer(load_script: Callable[[Path], ModuleType]) -> Renderer:
    return Renderer(load_script(Path(__file__).parent / "rendered" / "make.py").head(), size=32)


def test_no_person_is_learnt_from_and_called_unseen() -> None:
    parts = defaultdict(set)
    for person in range(70):
        for number in range(10):
            split, kind = heads.part_of(person, number, 10)
            parts[split, kind].add(person)
    assert set(parts) == {("train", "seen"), ("test", "seen"), ("test", "unseen"), ("valid", "unseen")}
    assert parts["train", "seen"] == parts["test", "seen"], "every person learnt from is tested too"
    learnt = parts["train", "seen"]
    assert len(learnt) == 50
    assert not learnt & (parts["test", "unseen"] | parts["valid", "unseen"])
    assert not parts["test", "unseen"] & parts["valid", "unseen"]


@pytest.mark.parametrize("each", [2, 3, 5, 9])
def test_every_person_learnt_from_keeps_pictures_for_both(each: int) -> None:
    splits = [heads.part_of(2, number, each)[0] for number in range(each)]
    assert set(splits) == {"train", "test"}


def test_what_is_written_is_read_with_its_truth(renderer: Renderer, tmp_path: Path) -> None:
    written = heads.write(renderer, tmp_path / "set", 4, 3, seed=2, head="ball")
    records = READERS["rendered"](tmp_path / "set")
    assert [record.name for record in records] == [record.name for record in written]
    renderings = list(renderer.identities(range(4), 3, seed=2))
    with np.load(tmp_path / "set" / heads.POINTS) as stored:
        points = dict(zip(stored["names"].tolist(), stored["points"], strict=True))
    for record, rendering in zip(records, renderings, strict=True):
        assert np.array_equal(images.read(record.path), rendering.image)
        assert (record.valence, record.arousal) == pytest.approx(tuple(rendering.affect))
        assert record.expression == rendering.expression
        assert record.subject == f"{rendering.identity:05d}"
        assert record.attributes["intensity"] == pytest.approx(rendering.intensity)
        assert record.attributes["yaw"] == pytest.approx(rendering.pose[0], abs=1e-3)
        assert np.array_equal(points[record.name], rendering.points, equal_nan=True)


def test_a_set_of_single_movements_states_each_action(renderer: Renderer, tmp_path: Path) -> None:
    moving = Renderer(renderer.head, size=32, movements=True)
    heads.write(moving, tmp_path / "set", 3, 4, seed=2)
    records = READERS["rendered"](tmp_path / "set")
    renderings = list(moving.identities(range(3), 4, seed=2))
    for record, rendering in zip(records, renderings, strict=True):
        assert record.expression == UNLABELLED
        assert record.valence is record.arousal is None
        said = [record.attributes[name] for name in ("mouthSmileLeft", "mouthSmileRight")]
        assert said == pytest.approx(rendering.coefficients.tolist(), abs=1e-4)
        assert "jawOpen" not in record.attributes  # the ball has no jaw
        assert "intensity" not in record.attributes
    with pytest.raises(ConfigError, match="other numbers"):
        heads.write(renderer, tmp_path / "set", 3, 4, seed=2)


def test_a_larger_set_contains_the_smaller_one(renderer: Renderer, tmp_path: Path) -> None:
    small = heads.write(renderer, tmp_path / "small", 3, 2, seed=5)
    large = {record.name: record for record in heads.write(renderer, tmp_path / "large", 5, 2, seed=5)}
    for record in small:
        assert record.path.read_bytes() == large[record.name].path.read_bytes()
        assert record.split == large[record.name].split


def test_a_folder_of_other_numbers_is_refused_and_an_unfinished_one_is_no_set(
    renderer: Renderer, tmp_path: Path
) -> None:
    out = tmp_path / "set"

    def stop(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        heads.write(renderer, out, 3, 2, progress=stop)
    assert heads.variant(out) is None
    with pytest.raises(ConfigError, match="other numbers"):
        heads.write(renderer, out, 4, 2)
    assert len(heads.write(renderer, out, 3, 2)) == 6, "the same numbers may be written again"
    assert heads.variant(out) == "heads"
    with pytest.raises(ConfigError, match="other numbers"):
        heads.write(renderer, out, 3, 2, seed=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        heads.write(renderer, tmp_path / "full", 3, 2)
    for numbers in ((2, 2), (3, 1)):
        with pytest.raises(ConfigError, match="or more"):
            heads.write(renderer, tmp_path / "few", *numbers)


def test_a_file_that_is_no_head_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no arrays")
    np.savez(tmp_path / "other.npz", points=np.zeros(3))
    for name in ("absent.npz", "text.npz", "other.npz"):
        with pytest.raises(ConfigError, match=name):
            heads.renderer(tmp_path / name)
    with pytest.raises(ConfigError, match="32"):
        heads.renderer(tmp_path / "other.npz", size=16)


def test_a_table_that_lost_rows_is_damaged(renderer: Renderer, tmp_path: Path) -> None:
    from mien.data.readers import manifest

    records = heads.write(renderer, tmp_path, 3, 2)
    manifest.write(records[:-1], tmp_path / heads.TABLE)
    with pytest.raises(DatasetDamaged, match="disagree"):
        READERS["rendered"](tmp_path)


def test_the_command_renders_and_says_what_is_in_it(
    renderer: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "renderer", lambda path, size, movements: (renderer, "ball"))
    out = tmp_path / "set"
    ran = CliRunner().invoke(
        app, ["data", "render", "ball.npz", str(out), "--identities", "3", "--images", "2", "--seed", "4"]
    )
    assert ran.exit_code == 0, ran.output
    assert "6 pictures of 3 people" in ran.output
    assert "test (seen) 1" in ran.output
    assert len(READERS["rendered"](out)) == 6
