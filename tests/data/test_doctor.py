"""The doctor finds what is planted: copies, near copies, contradictions, damage, unofficial crops, missing faces."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mien.cli.data import app
from mien.data import cropping, protocols
from mien.data.checking import Diagnosis, Finding, examine, identify
from mien.data.config import SourceConfig
from mien.data.contact_sheet import contact_sheet, rows_of
from mien.data.duplicates import hash_of, near_pairs, perceptual_hash, pixel_copies, without_copies
from mien.data.readers import READERS, manifest
from mien.data.synthetic import drawings
from mien.errors import ConfigError, DatasetDamaged, DatasetNotFound, OutputExists
from mien.io import images

ALIGNED = "Image/aligned"


def found(diagnosis: Diagnosis) -> dict[str, Finding]:
    return {finding.kind: finding for finding in diagnosis.findings}


@pytest.mark.parametrize("name", READERS)
def test_every_dataset_is_recognised(miniature, name: str) -> None:
    assert identify(miniature(name)).name == name


def test_an_unknown_folder_or_reader_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match="mien data list"):
        identify(tmp_path)
    with pytest.raises(DatasetNotFound, match="does not exist"):
        identify(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="did you mean 'rafdb'"):
        identify(tmp_path, "rafbd")


def test_planted_faults_are_found(miniature) -> None:
    root = miniature("ferplus")
    train, test = root / "FER2013Train", root / "FER2013Test"
    shutil.copy(test / "fer0032219.png", train / "fer0000000.png")  # a leak, and contempt against neutral
    shutil.copy(train / "fer0000001.png", train / "fer0000002.png")  # a copy within training
    pixels = images.read(test / "fer0032220.png").astype(int)
    Image.fromarray(np.clip(pixels + 6, 0, 255).astype(np.uint8)).save(
        train / "fer0000012.png"
    )  # lighter: a near copy
    (train / "fer0000007.png").write_bytes((train / "fer0000007.png").read_bytes()[:60])  # cut off
    with Image.open(train / "fer0000009.png") as picture:
        picture.resize((96, 96)).save(train / "fer0000009.png")
    (train / "fer0000010.png").unlink()
    diagnosis, usable = examine(root)
    kinds = found(diagnosis)
    assert kinds["missing"].grave
    assert "1 of 16" in kinds["missing"].message
    assert kinds["unreadable"].grave
    assert "fer0000007.png" in kinds["unreadable"].examples[0]
    assert kinds["copies across splits"].examples == ("train/fer0000000.png = test/fer0032219.png",)
    assert kinds["copies within a split"].count == 1
    assert kinds["near copies"].examples == ("test/fer0032220.png ~ train/fer0000012.png",)
    assert kinds["labels disagree"].count == 2
    assert kinds["crop"].examples == ("fer0000009.png",)
    assert "96x96" in kinds["crop"].message
    counts = [finding.message for finding in diagnosis.findings if finding.kind == "count"]
    assert counts[0] == "train has 10 records, officially 28,558"
    assert diagnosis.grave
    marked = {record.name: record.attributes.get("copy_in") for record in usable}
    assert marked["fer0000000.png"] == marked["fer0000012.png"] == "test"
    assert marked["fer0000001.png"] is None
    assert {"fer0000007.png", "fer0000010.png"}.isdisjoint(marked)
    assert sum(diagnosis.counts.values()) == len(usable) == 14


def test_an_undamaged_set_has_no_damage(miniature) -> None:
    diagnosis, usable = examine(miniature("ferplus"))
    assert not diagnosis.grave
    assert set(found(diagnosis)) == {"count"}, "a miniature is only too small"
    assert len(usable) == 16


def test_faces_are_looked_for(miniature) -> None:
    root = miniature("folder")
    blank = np.full((48, 48, 3), 128, np.uint8)
    Image.fromarray(blank).save(root / "Neutral" / "blank.png")
    diagnosis, _ = examine(root, faces=True)
    assert "Neutral/blank.png" in found(diagnosis)["no face"].examples


def test_copies_are_dropped_from_training_alone(tmp_path: Path) -> None:
    records = drawings.records(tmp_path, count=40, size=48, subjects=5)
    held = [record for record in records if record.split != "train"]
    train = [record for record in records if record.split == "train"]
    shutil.copy(held[0].path, train[0].path)
    with Image.open(held[1].path) as picture:  # the same pixels in another file format
        picture.save(train[1].path.with_suffix(".bmp"))
    train[1].path.unlink()
    train[1].path.with_suffix(".bmp").rename(train[1].path)
    assert len(pixel_copies(records)) == 2
    kept, dropped = without_copies(records)
    assert dropped == 2
    assert [record for record in records if record not in kept] == train[:2]


def test_an_unreadable_picture_is_damage(tmp_path: Path) -> None:
    records = drawings.records(tmp_path, count=2, size=48)
    records[0].path.write_bytes(b"not a picture")
    with pytest.raises(DatasetDamaged, match="mien data check"):
        pixel_copies(records)


def test_near_pairs_against_a_slow_count() -> None:
    random = np.random.default_rng(0)
    train = random.integers(0, 1 << 63, 200, dtype=np.uint64)
    held = train[:20] ^ (np.uint64(1) << np.arange(20, dtype=np.uint64)) ^ np.uint64(0b1011 << 40)
    slow = [
        (i, j)
        for i, a in enumerate(held)
        for j, b in enumerate(train)
        if bin(int(a) ^ int(b)).count("1") <= 4
    ]
    assert near_pairs(held, train, 4) == slow
    assert len(slow) >= 20
    assert near_pairs(held, train, 3) == []


def test_hashes() -> None:
    face = drawings.draw("happiness", subject=1, size=96).pixels
    other = drawings.draw("anger", subject=4, size=96).pixels
    assert hash_of(face) == hash_of(face.copy()) != hash_of(other)
    assert hash_of(face.reshape(48, 192, 3)) != hash_of(face), "the shape counts"
    lighter = np.clip(face.astype(int) + 5, 0, 255).astype(np.uint8)
    apart = bin(perceptual_hash(face) ^ perceptual_hash(other)).count("1")
    assert bin(perceptual_hash(face) ^ perceptual_hash(lighter)).count("1") <= 4 < apart


def test_check_writes_nothing_but_the_table_that_was_asked_for(miniature, tmp_path: Path) -> None:
    root = miniature("rafdb")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    told = CliRunner().invoke(app, ["check", str(root)])
    assert told.exit_code == 0
    assert "35 usable records; write them as a table with --manifest FILE" in told.stdout
    assert json.loads(CliRunner().invoke(app, ["check", str(root), "--json"]).stdout)["manifest"] is None
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    named = ["check", str(root), "--manifest", str(tmp_path / "named.parquet")]
    assert CliRunner().invoke(app, named).exit_code == 0
    assert isinstance(CliRunner().invoke(app, named).exception, OutputExists)
    assert CliRunner().invoke(app, [*named, "--overwrite"]).exit_code == 0


def test_check_command_writes_a_manifest_that_reads_back(miniature) -> None:
    root = miniature("rafdb")
    result = CliRunner().invoke(
        app, ["check", str(root), "--json", "--manifest", str(root / "manifest.parquet")]
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["reader"], report["variant"]) == ("rafdb", "official")
    assert report["counts"] == {"train": 21, "test": 14}
    records = READERS["rafdb"](root)
    back = READERS["manifest"](report["manifest"])
    assert [(r.name, r.split, r.expression, r.path.resolve()) for r in back] == [
        (r.name, r.split, r.expression, r.path.resolve()) for r in records
    ]
    assert back[0].attributes["race"] == records[0].attributes["race"]
    assert identify(root).name == "rafdb", "the manifest beside the data does not hide the dataset"


def test_check_command_reports_damage_with_exit_code_1(miniature) -> None:
    root = miniature("manifest")
    (root / "faces" / "00003.png").write_bytes(b"")
    table = root / "manifest-checked.parquet"
    result = CliRunner().invoke(app, ["check", str(root), "--manifest", str(table)])
    assert result.exit_code == 1
    assert "DAMAGE: 1 pictures cannot be decoded" in result.stdout
    assert len(READERS["manifest"](table)) == 39


def test_a_manifest_remembers_the_options_it_was_made_with(miniature) -> None:
    root = miniature("affwild2")
    asked = ["--protocol", "affwild2-expr", "--manifest", str(root / "manifest.parquet"), "--json"]
    result = CliRunner().invoke(app, ["check", str(root), *asked])
    assert result.exit_code == 0, result.output
    table = json.loads(result.stdout)["manifest"]
    protocol = protocols.load("affwild2-expr")
    whole = protocol.apply(READERS["affwild2"](root, **protocol.options))
    assert protocol.digest(protocol.apply(READERS["manifest"](table, **protocol.options))) == protocol.digest(
        whole
    )
    with pytest.raises(ConfigError, match="was not made with task=va"):
        READERS["manifest"](table, **protocols.load("affwild2-va").options)
    assert manifest.made_of(Path(table)) == "affwild2"
    source = SourceConfig(reader="manifest", root=Path(table), protocol="affwild2-expr")
    assert len(cropping.source_records(source)) == len(whole)
    for reader, where in (("manifest", table), ("folder", root)):
        other = SourceConfig(reader=reader, root=Path(where), protocol="rafdb-basic")
        with pytest.raises(ConfigError, match="rafdb-basic belongs to 'rafdb'"):
            cropping.source_records(other)


def test_list_command_names_every_reader_and_protocol() -> None:
    result = CliRunner().invoke(app, ["list", "--json"])
    table = json.loads(result.stdout)
    assert set(table) == set(READERS)
    assert "ferplus-majority" in table["ferplus"]["protocols"]
    assert "list_patition_label" in CliRunner().invoke(app, ["list"]).stdout


def test_ratings_are_counted_and_splits_stand_in_their_order(miniature) -> None:
    root = miniature("afewva")
    diagnosis, _ = examine(root)
    assert diagnosis.rated == {"train": 48}
    result = CliRunner().invoke(app, ["check", str(root)])
    assert "  train: 48: 48 with valence and arousal\n" in result.stdout
    split, _ = examine(miniature("folder", "splits"))
    assert list(split.counts) == ["train", "valid", "test"]
    assert split.rated == {}


def test_contact_sheet_of_videos_shows_their_faces(miniature) -> None:
    root = miniature("affwild")
    records = READERS["affwild"](root)
    sheet = contact_sheet(records, columns=4, side=40)
    rows = rows_of(records)
    assert sheet.shape == (len(rows) * 48 + 8, 150 + 4 * 48 + 8, 3)
    assert sheet[8:48, 150:190].std() > 10, "a face, not paper"
    for path in {record.path for record in records}:
        path.unlink()
    crossed = contact_sheet(records, columns=4, side=40)
    assert len(np.unique(crossed[8:48, 150:190].reshape(-1, 3), axis=0)) == 2, "paper and the cross"


def test_contact_sheet_shows_each_class_once_a_row(miniature, tmp_path: Path) -> None:
    records = READERS["folder"](miniature("folder"))
    sheet = contact_sheet(records, columns=5, side=40)
    assert sheet.shape == (8 * 48 + 8, 150 + 5 * 48 + 8, 3)
    chosen = {tuple(sheet[8 + 48 * row : 48 + 48 * row, 150:190].reshape(-1).tolist()) for row in range(8)}
    assert len(chosen) == 8, "eight different faces in the first column"
    assert rows_of(READERS["afewva"](miniature("afewva"))).keys() <= {
        "active negative",
        "active positive",
        "calm negative",
        "calm positive",
    }
    out = tmp_path / "sheet.png"
    root = tmp_path / "ferplus-default"
    result = CliRunner().invoke(
        app, ["show", str(miniature("ferplus")), "--out", str(out), "--protocol", "ferplus-majority"]
    )
    assert result.exit_code == 0, result.output
    with Image.open(out) as picture:
        assert picture.height == 7 * 80 + 8, "the rule leaves no sadness"
    result = CliRunner().invoke(app, ["show", str(root), "--out", str(out)])
    assert isinstance(result.exception, OutputExists)
    arguments = ["show", str(root), "--out", str(out), "--overwrite", "--split", "dev"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "'dev' is not one of" in result.output
