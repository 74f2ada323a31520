"""From records to batches: cropped once, targets stay with their pictures, and nothing is read twice."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.data import cropping
from mien.data.config import DataConfig, SourceConfig
from mien.data.cropping import Samples
from mien.data.readers import manifest
from mien.data.records import Record
from mien.data.synthetic import drawings
from mien.errors import ConfigError, DatasetDamaged
from mien.io import images
from mien.labels import CIRCUMPLEX, EXPRESSIONS


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record], Path]:
    folder = tmp_path_factory.mktemp("drawn")
    records = drawings.records(folder, 40, size=64)
    points = folder / "points.npz"
    marks = np.stack([face.landmarks for face in drawings.faces(40, size=64)])
    np.savez(points, names=np.array([one.name for one in records]), points=marks)
    return folder, records, points


def samples(count: int, offset: int = 0) -> Samples:
    """Crops whose every pixel is the row's number, so that a mix-up shows."""
    number = np.arange(offset, offset + count)
    return Samples(
        np.broadcast_to(number[:, None, None], (count, 4, 4)).astype(np.uint8),
        np.ones(count, dtype=bool),
        number % 8,
        np.full((count, 8), np.nan, dtype=np.float32),
        np.stack([number, -number], axis=1).astype(np.float32),
        np.full(count, -1),
        tuple(str(one) for one in number),
    )


def test_crops_are_aligned_by_the_landmarks(drawn: tuple[Path, list[Record], Path], tmp_path: Path) -> None:
    _, records, points = drawn
    crops = cropping.load_crops(records, 32, colour=True, cache=tmp_path, points=points)
    assert crops.images.shape == (40, 32, 32, 3)
    assert crops.found.all()
    # Aligned by the eyes, drawn heads of any roll and zoom agree better than the pictures they came from.
    raw = np.stack([face.pixels[::2, ::2] for face in drawings.faces(40, size=64)]).astype(float)
    eyes = slice(9, 15)
    assert crops.images[:, eyes].astype(float).std(axis=0).mean() < raw[:, eyes].std(axis=0).mean() * 1.05


def test_a_second_call_reads_the_cache(
    drawn: tuple[Path, list[Record], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, records, points = drawn
    first = cropping.load_crops(records, 32, colour=False, cache=tmp_path, points=points)
    monkeypatch.setattr(cropping.images, "read", lambda path: pytest.fail("read again"))
    second = cropping.load_crops(records, 32, colour=False, cache=tmp_path, points=points)
    assert np.array_equal(first.images, second.images)
    assert isinstance(second.images, np.memmap)


def test_equal_names_elsewhere_and_exchanged_pictures_are_cut_anew(tmp_path: Path) -> None:
    first, second = (tmp_path / name / "a.png" for name in ("first", "second"))
    for path, level in ((first, 40), (second, 200)):
        path.parent.mkdir()
        images.write(path, np.full((32, 32, 3), level, np.uint8))
    none = tmp_path / "none.npz"
    np.savez(none, names=np.array(["a.png"]), points=np.full((1, 112, 2), np.nan))

    def cut(path: Path, **more: Any) -> np.ndarray[Any, Any]:
        record = Record(path, "train", name="a.png", **more)
        return np.array(
            cropping.load_crops([record], 32, colour=False, cache=tmp_path / "c", points=none).images
        )

    assert cut(first).mean() == 40
    assert cut(second).mean() == 200
    stamp = first.stat()
    shutil.copyfile(second, first)
    os.utime(first, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert cut(first).mean() == 200
    known = set((tmp_path / "c").iterdir())
    cut(second)
    assert set((tmp_path / "c").iterdir()) == known, "the same picture elsewhere needs no second crop"
    cut(second, box=(4.0, 4.0, 20.0, 20.0))
    assert set((tmp_path / "c").iterdir()) > known


def test_a_limit_takes_rows_of_the_crops_that_are_there(
    drawn: tuple[Path, list[Record], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, records, points = drawn
    manifest.write(records, folder / "manifest.csv")
    config = DataConfig(
        reader="manifest", root=folder, points=points, size=32, cache=tmp_path, drop_duplicates=False
    )
    (whole,) = cropping.load_split(config, ("train",))["train"]
    monkeypatch.setattr(cropping, "_cut", None)  # nothing is cut again
    (few,) = cropping.load_split(config.model_copy(update={"limit": 5}), ("train",))["train"]
    step = len(whole) // 5
    assert few.names == whole.names[::step][:5]
    assert np.array_equal(few.images, whole.images[::step][:5])
    assert np.array_equal(few.expression, whole.expression[::step][:5])
    assert isinstance(few.images, np.memmap), "the pixels stay on disk"
    (all_of_them,) = cropping.load_split(config.model_copy(update={"limit": 500}), ("train",))["train"]
    assert len(all_of_them) == len(whole)


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetDamaged, match=r"gone\.png.*mien data check"):
        cropping.load_crops([Record(tmp_path / "gone.png", "train")], 32, False, tmp_path / "cache")


def test_a_damaged_picture_is_named_and_leaves_no_cache(
    drawn: tuple[Path, list[Record], Path], tmp_path: Path
) -> None:
    _, records, points = drawn
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    bad = [*records[:3], Record(broken, "train", name="broken.png")]
    with pytest.raises(DatasetDamaged, match=r"broken\.png"):
        cropping.load_crops(bad, 32, colour=False, cache=tmp_path / "cache", points=points)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_face_without_landmarks_is_taken_whole_and_marked(
    drawn: tuple[Path, list[Record], Path], tmp_path: Path
) -> None:
    _, records, _ = drawn
    none = tmp_path / "none.npz"
    np.savez(none, names=np.array([records[0].name]), points=np.full((1, 112, 2), np.nan))
    crops = cropping.load_crops(records[:2], 32, colour=False, cache=tmp_path, points=none)
    assert not crops.found.any()
    assert crops.images.std() > 10


def test_vote_affect_is_the_mean_prototype() -> None:
    votes = np.zeros((3, 8), dtype=np.float32)
    votes[0, EXPRESSIONS.index("happiness")] = 10
    votes[1, EXPRESSIONS.index("happiness")] = votes[1, 0] = 5
    derived = cropping.vote_affect(votes)
    assert derived[0] == pytest.approx(CIRCUMPLEX["happiness"])
    assert derived[1] == pytest.approx(np.array(CIRCUMPLEX["happiness"]) / 2)
    assert np.isnan(derived[2]).all()


def test_the_prior_is_the_mean_share() -> None:
    votes = np.tile(np.eye(8, dtype=np.float32)[0], (4, 1))
    votes[0] = [0.5, 0.5, 0, 0, 0, 0, 0, 0]
    prior = np.exp(replace(samples(4), votes=votes).log_prior())
    assert np.allclose(prior[:2], [0.875, 0.125])
    assert np.allclose(prior[2:], 1e-4)


def test_a_rendered_face_of_little_strength_is_mostly_neutral() -> None:
    happy = EXPRESSIONS.index("happiness")
    assert np.allclose(cropping.graded(happy, 0.1)[[0, happy]], [0.8, 0.2])
    assert cropping.graded(happy, 0.5)[happy] == cropping.graded(happy, 1.0)[happy] == 1.0
    assert cropping.graded(0, 0.0)[0] == 1.0


def test_an_unknown_reader_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'manifest'"):
        cropping.source_records(DataConfig(reader="manifst", root=Path()))


def test_a_source_keeps_the_pictures_that_where_describes(tmp_path: Path) -> None:
    rows = [("a.png", "lfw", "old"), ("b.png", "other", "old"), ("c.png", "lfw", "")]
    table = tmp_path / "manifest.csv"
    table.write_text(
        "path,expression,part,age\n" + "".join(f"{name},neutral,{part},{age}\n" for name, part, age in rows)
    )
    for name, *_ in rows:
        images.write(tmp_path / name, np.zeros((8, 8, 3), np.uint8))

    def names(*where: str) -> list[str]:
        source = SourceConfig(reader="manifest", root=tmp_path, where=where)
        return [record.path.name for record in cropping.source_records(source)]

    assert names() == ["a.png", "b.png", "c.png"]
    assert names("part=lfw") == ["a.png", "c.png"]
    assert names("part=lfw", "age=old") == ["a.png"]
    with pytest.raises(ConfigError, match=r"no picture has part 'web': part is lfw(, | and )other"):
        names("part=web")
    with pytest.raises(ConfigError, match=r"no picture has place 'x': its attributes are age(, | and )part"):
        names("place=x")


def test_video_frames_are_decoded_by_number(tmp_path: Path) -> None:
    import cv2

    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64))
    for level in range(0, 200, 20):
        writer.write(np.full((64, 64, 3), level, dtype=np.uint8))
    writer.release()
    none = tmp_path / "none.npz"
    np.savez(none, names=np.array(["-"]), points=np.zeros((1, 112, 2)))
    wanted = [0, 3, 4, 9, 2]
    records = [Record(path, "train", video="clip", frame=number, name=f"clip/{number}") for number in wanted]
    crops = cropping.load_crops(records, 16, colour=False, cache=tmp_path / "cache", points=none)
    assert crops.images.mean(axis=(1, 2)) == pytest.approx([20 * number for number in wanted], abs=4)
    late = [Record(path, "train", video="clip", frame=40, name="clip/40")]
    with pytest.raises(DatasetDamaged, match="no frame 40"):
        cropping.load_crops(late, 16, colour=False, cache=tmp_path / "cache", points=none)
