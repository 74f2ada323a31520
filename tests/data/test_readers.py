"""Every reader: present in each variant, partial, absent, damaged; and what each alone promises."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.data.readers import READERS, manifest
from mien.data.synthetic import drawings
from mien.errors import ConfigError, DatasetDamaged, DatasetNotFound, MienError
from mien.labels import EXPRESSIONS, NEUTRAL, UNLABELLED, index_of

# reader, variant its make.py writes, variant the reader names, records by split
PRESENT = [
    ("ferplus", "folders", "folders", {"train": 12, "valid": 2, "test": 2}),
    ("ferplus", "label.csv", "label.csv", {"train": 12, "valid": 2, "test": 2}),
    ("ferplus", "csv", "csv", {"train": 12, "valid": 2, "test": 2}),
    ("fer2013", "csv", "csv", {"train": 14, "valid": 7, "test": 7}),
    ("fer2013", "kaggle", "csv", {"train": 14, "valid": 7, "test": 7}),
    ("fer2013", "folders", "folders", {"train": 14, "valid": 7, "test": 7}),
    ("rafdb", "official", "official", {"train": 21, "test": 14}),
    ("rafdb", "nested", "official", {"train": 21, "test": 14}),
    ("rafdb", "numbers", "numbers", {"train": 21, "test": 14}),
    ("rafdb", "tables", "tables", {"train": 21, "test": 14}),
    ("rafdb", "lists", "lists", {"train": 21, "test": 14}),
    ("affectnet", "lists", "lists", {"train": 27, "valid": 16}),
    ("affectnet", "headerless", "lists", {"train": 27, "valid": 16}),
    ("affectnet", "arrays", "arrays", {"train": 24, "valid": 16}),
    ("sfew", "aligned", "aligned", {"train": 21, "valid": 14, "test": 7}),
    ("ckplus", "sequences", "sequences", {"train": 92}),
    ("ckplus", "nested", "sequences", {"train": 92}),
    ("ckplus", "ck48", "ck48", {"train": 72}),
    ("afewva", "clips", "clips", {"train": 48}),
    ("afewva", "parts", "clips", {"train": 48}),
    ("affwild", "videos", "videos", {"train": 60}),
    ("affwild", "uncropped", "videos", {"train": 66}),
    ("affwild2", "va+expr", "va+expr", {"train": 30, "valid": 12}),
    ("affwild2", "expr", "expr", {"train": 30, "valid": 12}),
    ("disfa", "", "videos", {"test": 30}),
    ("bp4d", "", "coding", {"test": 15}),
    ("diffusionfer", "labels.csv", "labels.csv", {"train": 42}),
    ("diffusionfer", "dataset_sheet.csv", "dataset_sheet.csv", {"train": 42}),
    ("rendered", "heads", "heads", {"train": 8, "valid": 5, "test": 7}),
    ("folder", "classes", "classes", {"train": 64, "valid": 8, "test": 8}),
    ("folder", "splits", "splits", {"train": 48, "valid": 16, "test": 16}),
    ("manifest", "csv", "csv", {"train": 24, "valid": 8, "test": 8}),
    ("manifest", "parquet", "parquet", {"train": 24, "valid": 8, "test": 8}),
]

# reader -> (a file to take away, a file to spoil, what to write there); globs below the miniature's default variant
BROKEN = {
    "ferplus": (
        "FER2013Train/fer0000001.png",
        "fer2013new.csv",
        "Usage,Image name,neutral\nTraining,fer0000000.png,10\n",
    ),
    "fer2013": ("fer2013-pictures/00003.png", "fer2013.csv", "emotion,pixels,Usage\n9,1 2 3,Training\n"),
    "rafdb": (
        "Image/aligned/train_00003_aligned.jpg",
        "EmoLabel/list_patition_label.txt",
        "train_00001.jpg 9\n",
    ),
    "affectnet": (
        "Manually_Annotated/Manually_Annotated_Images/1/*0.jpg",
        "Manually_Annotated_file_lists/training.csv",
        "subDirectory_filePath,face_x\n1/a.jpg,3\n",
    ),
    "sfew": (None, "Train_Aligned_Faces/Happy/*.png", None),
    "ckplus": ("cohn-kanade-images/S007/001/*.png", "Emotion/S000/001/*.txt", "eleven"),
    "afewva": (
        "003/00002.png",
        "004/004.json",
        '{"video_id": "004", "frames": {"00000": {"valence": 30, "arousal": 1}}',
    ),
    "affwild": ("videos/train/112.avi", "annotations/train/valence/105.txt", "0.1\nzero\n"),
    "affwild2": (
        "cropped_aligned/1-30",
        "VA_Estimation_Challenge/Train_Set/3-24.txt",
        "valence,arousal\n0.5\n",
    ),
    "disfa": (
        "Videos_LeftCamera/LeftVideoSN002_comp.avi",
        "ActionUnit_Labels/SN001/SN001_au12.txt",
        "1,0\n3,7\n",
    ),
    "bp4d": ("Sequences(2D+3D)/M003/T1/02441.jpg", "AUCoding/AU_OCC/F001_T1.csv", "0,1,2\n2440,1,4\n"),
    "diffusionfer": (
        "images/happy/*.jpg",
        "labels.csv",
        "image,folder,valence,arousal,expression\na/b.jpg,a,7,0,1\n",
    ),
    "rendered": ("pictures/00002/01.png", "rendered.json", "{"),
    "folder": (None, "Happiness", None),
    "manifest": ("faces/00004.png", "manifest.csv", "path,expression\nfaces/00000.png,3\n"),
}


def test_the_table_names_every_reader() -> None:
    assert {row[0] for row in PRESENT} == set(BROKEN) == set(READERS)
    assert all(reader.name == name for name, reader in READERS.items())


@pytest.mark.parametrize(("name", "made", "variant", "counts"), PRESENT, ids=lambda value: str(value)[:24])
def test_present(miniature, name: str, made: str, variant: str, counts: dict[str, int]) -> None:
    root = miniature(name, made)
    reader = READERS[name]
    assert reader.recognise(root) == variant
    records = reader(root)
    assert Counter(record.split for record in records) == counts
    assert len({record.name for record in records}) == len(records), "names identify pictures"
    for record in records:
        assert record.path.is_file()
        assert record.expression == UNLABELLED or 0 <= record.expression < len(EXPRESSIONS)
        for value in (record.valence, record.arousal):
            assert value is None or -1 <= value <= 1
        if record.path.suffix != ".avi":
            with Image.open(record.path) as picture:
                picture.load()
    assert reader(root) == records, "reading twice gives the same records"


@pytest.mark.parametrize("name", [n for n, (gone, _, _) in BROKEN.items() if gone])
def test_a_missing_picture_is_refused_or_left_out(miniature, name: str) -> None:
    root = miniature(name)
    reader = READERS[name]
    whole = reader(root)
    gone = sorted(root.glob(BROKEN[name][0]))
    assert gone
    for path in gone:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DatasetDamaged, match=r"mien data check|unpack") as caught:
        reader(root)
    assert "\n" not in str(caught.value)
    left = reader(root, partial=True)
    assert 0 < len(left) < len(whole)
    assert {record.name for record in left} <= {record.name for record in whole}


@pytest.mark.parametrize("name", READERS)
def test_absent(tmp_path: Path, name: str) -> None:
    reader = READERS[name]
    with pytest.raises(DatasetNotFound, match="does not exist: pass ") as caught:
        reader(tmp_path / "nowhere")
    assert reader.wants in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetNotFound, match="does not hold ") as caught:
        reader(tmp_path / "empty")
    assert reader.wants in str(caught.value)


@pytest.mark.parametrize("name", READERS)
def test_the_folder_above_or_below_is_pointed_out(miniature, name: str) -> None:
    root = miniature(name)
    reader = READERS[name]
    above = root.parent / "above"
    above.mkdir()
    root.rename(above / "basic")
    if reader.variant(above):
        pytest.skip(f"{name} accepts its parts one folder down")
    with pytest.raises(DatasetNotFound, match=r"did you mean .*basic"):
        reader(above)


@pytest.mark.parametrize("name", READERS)
def test_damaged(miniature, name: str) -> None:
    root = miniature(name)
    _, spoiled, text = BROKEN[name]
    path = sorted(root.glob(spoiled))[0]
    if text is None:  # layouts without a label file: a name that the layout does not allow
        path.rename(path.with_name("happpy" + path.suffix))
    else:
        path.write_text(text)
    with pytest.raises(DatasetDamaged) as caught:
        READERS[name](root)
    message = str(caught.value)
    assert "\n" not in message
    assert path.parent.as_posix() in message, "the message names the file"


@pytest.mark.parametrize("name", ["ferplus", "fer2013", "rafdb", "affectnet", "diffusionfer", "manifest"])
def test_a_label_file_that_is_no_text_is_damaged(miniature, name: str) -> None:
    root = miniature(name)
    path = sorted(root.glob(BROKEN[name][1]))[0]
    path.write_bytes(b"\xff\xfe\x00\xd8" * 50)
    with pytest.raises(MienError) as caught:  # without a readable header some sets are not recognised at all
        READERS[name](root)
    assert isinstance(caught.value, DatasetDamaged | DatasetNotFound)


def test_an_unknown_option_is_named(miniature) -> None:
    with pytest.raises(ConfigError, match=r"rafdb: .*croop"):
        READERS["rafdb"](miniature("rafdb"), croop="aligned")


def test_ferplus_joins_on_the_name_and_keeps_one_record_a_name(miniature) -> None:
    records = {record.name: record for record in READERS["ferplus"](miniature("ferplus"))}
    assert records["fer0000001.png"].votes == (1, 6, 2, 0, 0, 0, 0, 0)
    assert records["fer0000001.png"].attributes == {"unknown": 1, "NF": 0, "usage": "Training"}
    assert "fer0000013.png" not in records, "two rows disagree"
    assert records["fer0000012.png"].expression == NEUTRAL
    assert records["fer0000004.png"].expression == UNLABELLED, "no vote for any of the eight"
    older = {record.name: record for record in READERS["ferplus"](miniature("ferplus"), votes="label")}
    assert older["fer0000002.png"].votes[0] == 6
    assert records["fer0000002.png"].votes[0] == 5


def test_ferplus_csv_form_gives_the_pixels_of_the_named_row(miniature, making) -> None:
    root = miniature("ferplus", "csv")
    records = {record.name: record for record in READERS["ferplus"](root)}
    faces = drawings.faces(len(making("ferplus").ROWS), seed=2, size=48, colour=False)
    for row, (_, name, _) in enumerate(making("ferplus").ROWS):
        if name == "fer0000005.png":  # stands on row 4: the number in the name is not the row
            assert row == 4
            with Image.open(records[name].path) as picture:
                assert np.array_equal(np.asarray(picture), faces[row].pixels[..., 0])
    assert READERS["ferplus"].recognise(root) == "folders", "written once, read from folders afterwards"


def test_ferplus_csv_files_of_different_length_are_damaged(miniature) -> None:
    root = miniature("ferplus", "csv")
    text = (root / "fer2013.csv").read_text().splitlines()
    (root / "fer2013.csv").write_text("\n".join(text[:-1]) + "\n")
    with pytest.raises(DatasetDamaged, match="differ in length"):
        READERS["ferplus"](root)
    assert not (root / "FER2013Train").exists(), "nothing half written is taken for the set"


def test_rafdb_codes_and_annotations(miniature) -> None:
    records = READERS["rafdb"](miniature("rafdb"), crop="original")
    first = records[0]
    assert first.name == "train_00001.jpg"
    assert EXPRESSIONS[first.expression] == "neutral"
    assert first.attributes["gender"] == "male"
    assert [r.attributes["age"] for r in records[:5]] == ["0-3", "4-19", "20-39", "40-69", "70+"]
    assert len(first.attributes["points"]) == 5
    assert first.box is not None
    assert first.box[0] < first.attributes["points"][0][0] < first.box[2]
    with pytest.raises(ConfigError, match="aligned"):
        READERS["rafdb"](miniature("rafdb", "numbers"), crop="original")


def test_rafdb_variants_agree(miniature) -> None:
    found = {}
    for made in ("official", "nested", "numbers", "tables", "lists"):
        records = READERS["rafdb"](miniature("rafdb", made))
        found[made] = sorted((record.path.name, record.split, record.expression) for record in records)
    assert all(listed == found["official"] for listed in found.values())


def test_affectnet_forms_agree_and_drop_the_sentinel(miniature) -> None:
    lists = READERS["affectnet"](miniature("affectnet", "lists"))
    headerless = READERS["affectnet"](miniature("affectnet", "headerless"))
    arrays = READERS["affectnet"](miniature("affectnet", "arrays"))
    assert [(r.name, r.expression, r.valence) for r in lists] == [
        (r.name, r.expression, r.valence) for r in headerless
    ]
    unlabelled = [record for record in lists if record.expression == UNLABELLED]
    assert [record.attributes["code"] for record in unlabelled] == [8, 9, 10]
    assert all(record.valence is None and record.arousal is None for record in unlabelled)
    assert lists[0].box == (4, 2, 60, 62)
    labelled = [r for r in lists if r.expression != UNLABELLED]
    assert [(r.split, r.expression) for r in labelled] == [(r.split, r.expression) for r in arrays]
    assert [r.valence for r in labelled] == pytest.approx([r.valence for r in arrays], abs=1e-6)


def test_sfew_films_and_withheld_labels(miniature) -> None:
    root = miniature("sfew")
    records = READERS["sfew"](root)
    assert {record.video for record in records} == {"Airheads", "TheHangover", "Little_Manhattan"}
    assert all((record.expression == UNLABELLED) == (record.split == "test") for record in records)
    frames = READERS["sfew"](root, crop="frames")
    assert [r.expression for r in frames] == [r.expression for r in records]
    with pytest.raises(DatasetNotFound, match="crop='frames'"):
        READERS["sfew"](miniature("sfew", "frames"))


def test_ckplus_takes_the_first_frame_as_neutral(miniature) -> None:
    records = READERS["ckplus"](miniature("ckplus"))
    clip = [record for record in records if record.video == "S007_001"]
    assert [record.frame for record in clip] == [0, 3, 4, 5]
    assert clip[0].expression == NEUTRAL
    assert {record.expression for record in clip[1:]} == {clip[1].expression}
    assert clip[1].expression != NEUTRAL
    assert all(record.subject == record.name[:4] for record in records)
    assert not any(record.video == "S000_002" for record in records), "a sequence without a label"


def test_ckplus_reads_the_action_units_of_peaks(miniature) -> None:
    root = miniature("ckplus", "nested")
    records = {record.name: record for record in READERS["ckplus"](root, units=True)}
    assert len(records) == 48
    peak, first = records["S007_001_00000006.png"], records["S007_001_00000001.png"]
    assert peak.expression == first.expression == UNLABELLED
    assert peak.subject == "S007"
    assert peak.attributes == {  # 12 alone, with 2
        **dict.fromkeys(("AU01", "AU04", "AU06", "AU25"), 0), "AU12": 1,
        **{f"AU{unit:02}_intensity": 0 for unit in (1, 4, 6, 25)}, "AU12_intensity": 2,
    }  # fmt: skip
    assert {first.attributes[name] for name in first.attributes} == {0}
    smile = records["S014_001_00000006.png"].attributes
    assert smile["AU06"] == 1
    assert "AU06_intensity" not in smile, "none was coded"
    (root / "FACS" / "S000" / "001" / "S000_001_00000006_facs.txt").write_text("12 7\n")
    with pytest.raises(DatasetDamaged, match=r"_facs\.txt:1: '12 7' is no action unit"):
        READERS["ckplus"](root, units=True)
    shutil.rmtree(root / "FACS")
    with pytest.raises(DatasetNotFound, match="has no FACS/"):
        READERS["ckplus"](root, units=True)


def test_disfa_gives_levels_to_the_frames_of_either_camera(miniature, making) -> None:
    root, made = miniature("disfa"), making("disfa")
    records = READERS["disfa"](root)
    assert {record.path.parent.name for record in records} == {"Videos_LeftCamera"}
    for record in records:
        levels = {u: made.level(u, int(record.subject[2:]) - 1, record.frame + 1) for u in made.UNITS}
        assert record.attributes == {f"AU{unit:02}": int(level >= 2) for unit, level in levels.items()} | {
            f"AU{unit:02}_intensity": level for unit, level in levels.items()
        }
    both = READERS["disfa"](root, camera="both", every=5)
    assert [record.frame for record in both] == [0, 5] * 6
    assert len({record.name for record in both}) == 12
    with pytest.raises(ConfigError, match="use left, right or both"):
        READERS["disfa"](root, camera="front")


def test_bp4d_leaves_out_what_is_not_known(miniature) -> None:
    records = {record.name: record for record in READERS["bp4d"](miniature("bp4d"))}
    first, last = records["F001_T1/2440"], records["F001_T1/2444"]
    assert (first.subject, first.path.name) == ("F001", "02440.jpg")
    assert first.attributes == {"AU01": 0, "AU06": 1, "AU12": 1, "AU06_intensity": 2, "AU12_intensity": 4}
    assert last.attributes == {"AU01": 0, "AU02": 0, "AU06": 0, "AU12": 1, "AU06_intensity": 0}
    assert "M003_T1/2445" not in records, "a picture that is not coded"


def test_afewva_scales_levels_and_names_actors(miniature) -> None:
    records = READERS["afewva"](miniature("afewva"))
    assert {record.subject for record in records} == {f"actor{number}" for number in range(6)}
    happy = [record for record in records if record.video == "001"]
    assert [record.valence for record in happy] == [0.2, 0.4, 0.6, 0.8]
    assert all(record.box is not None and record.box[2] > record.box[0] for record in records)


def test_affwild_takes_the_shortest_length_and_every_nth_frame(miniature) -> None:
    root = miniature("affwild", "uncropped")
    assert Counter(record.video for record in READERS["affwild"](root))["105"] == 11
    tenth = READERS["affwild"](root, every=5)
    assert sorted({record.frame for record in tenth}) == [0, 5, 10]
    assert all(record.box is None for record in tenth), "no boxes: the whole frame"


def test_affwild_reads_boxes_and_leaves_out_frames_without_one(miniature, making) -> None:
    root = miniature("affwild")
    records = READERS["affwild"](root)
    assert {record.box for record in records} == {making("affwild").BOX}
    assert 3 not in {record.frame for record in records}
    boxes = root / "bboxes" / "train" / "105"
    last = boxes / "11.pts"
    last.write_text(last.read_text().replace("58.000", "40.000"))
    narrow = {record.frame: record.box for record in READERS["affwild"](root) if record.video == "105"}
    assert narrow[10] == (6, 4, 40, 62), "file 11 is frame 10: numbered from 1"
    (boxes / "0.pts").write_text(last.read_text())
    from_zero = {record.frame for record in READERS["affwild"](root) if record.video == "105"}
    assert 4 not in from_zero, "with a file 0, file n is frame n"
    (boxes / "0.pts").unlink()
    last.write_text("version: 1\nn_points: 4\n{\n1 2\n}\n")
    with pytest.raises(DatasetDamaged, match=r"11.pts: 1 points"):
        READERS["affwild"](root)
    last.write_text("version: 1\nn_points: 4\n{\n1 2\n1 5\n4 five\n4 2\n}\n")
    with pytest.raises(DatasetDamaged, match=r"11.pts: 'five' is not a number"):
        READERS["affwild"](root)
    shutil.rmtree(boxes)
    with pytest.raises(DatasetDamaged, match=r"105 is missing.*mien data check"):
        READERS["affwild"](root)
    assert "105" not in {record.video for record in READERS["affwild"](root, partial=True)}


def test_affwild2_persons_and_invalid_frames(miniature) -> None:
    root = miniature("affwild2")
    records = READERS["affwild2"](root)
    assert {r.subject for r in records if r.video == "2-30"} == {"2-30_left", "2-30_right"}
    assert {r.frame for r in records} == {0, 1, 4, 5, 6, 7}, "frame 3 has no picture, frame 4 invalid labels"
    expressions = READERS["affwild2"](root, task="expr")
    assert {r.frame for r in expressions if r.expression == UNLABELLED} == {4}, (
        "Other is no expression of ours"
    )
    assert {r.attributes["code"] for r in expressions if r.frame == 4} == {7}


def test_diffusionfer_uses_the_column_not_the_folder(miniature) -> None:
    records = READERS["diffusionfer"](miniature("diffusionfer"))
    differing = [r for r in records if index_of(r.attributes["prompt"]) != r.expression]
    assert len(differing) == 7


def test_manifest_round_trip(miniature, tmp_path: Path) -> None:
    for name in ("ferplus", "rafdb", "affectnet", "afewva"):
        records = READERS[name](miniature(name))
        for ending in ("parquet", "csv"):
            if ending == "csv" and name == "rafdb":
                continue  # its five points are a list, which CSV cannot hold
            table = tmp_path / f"{name}.{ending}"
            manifest.write(records, table)
            back = READERS["manifest"](table)
            assert [
                (r.name, r.split, r.expression, r.votes, r.valence, r.subject, r.video, r.frame, r.box)
                for r in back
            ] == [
                (r.name, r.split, r.expression, r.votes, r.valence, r.subject, r.video, r.frame, r.box)
                for r in records
            ]
            assert [r.path.resolve() for r in back] == [r.path.resolve() for r in records]
    assert back[0].attributes == {}


def test_manifest_refuses_bare_numbers_and_out_of_range_affect(tmp_path: Path) -> None:
    drawings.records(tmp_path / "faces", count=1)
    table = tmp_path / "my.csv"
    table.write_text("image,emotion,valence\nfaces/00000.png,Happy,0.5\n")
    (record,) = READERS["manifest"](table)
    assert (record.expression, record.valence, record.split) == (index_of("happiness"), 0.5, "train")
    table.write_text("image,emotion,valence\nfaces/00000.png,1,0.5\n")
    with pytest.raises(DatasetDamaged, match=r"my.csv:2: '1' is not an expression"):
        READERS["manifest"](table)
    table.write_text("image,emotion,valence\nfaces/00000.png,happy,-5\n")
    with pytest.raises(DatasetDamaged, match="from -1 to 1"):
        READERS["manifest"](table)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_manifest_is_read_as_other_programs_write_it(tmp_path: Path, separator: str, encoding: str) -> None:
    drawings.records(tmp_path / "faces", count=2)
    point = "." if separator == "," else ","
    rows = [
        ["Path", "Expression", "Valence", "Subject", "frame", "note"],
        ["faces\\00000.png", "Happy", f"0{point}5", "NA", "NaN", "N/A"],
        ["faces/00001.png", "n/a", "#N/A", "anna", "<NA>", "grün"],
    ]
    table = tmp_path / "manifest.csv"
    table.write_bytes("\r\n".join(separator.join(cells) for cells in rows).encode(encoding))
    for given in (table, tmp_path):
        first, second = READERS["manifest"](given)
        assert (first.expression, first.valence, first.subject) == (index_of("happiness"), 0.5, None)
        assert (first.frame, first.attributes, first.name) == (None, {}, "faces/00000.png")
        assert (second.expression, second.valence, second.subject) == (UNLABELLED, None, "anna")
        assert second.attributes == {"note": "grün"}
        assert first.path.is_file()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"path,valence\nC:\\faces\\1.png,0\n", "Windows drive"),
        (b"path,valence\nNaN,0\n", "'path' is empty"),
        ("path,note\nfaces/00000.png,gr\u00fcn\n".encode("latin-1"), "not UTF-8 text"),
        (b"path,valence\nfaces/00000.png,0,5\n", "3 cells where the first line has 2"),
        (b"path;valence\nfaces/00000.png;much\n", "'much' is not a number"),
    ],
)
def test_a_manifest_is_refused_for_the_right_reason(tmp_path: Path, text: bytes, words: str) -> None:
    drawings.records(tmp_path / "faces", count=1)
    table = tmp_path / "my.csv"
    table.write_bytes(text)
    with pytest.raises(DatasetDamaged, match=words):
        READERS["manifest"](table)


@pytest.mark.parametrize("cell", ["inf", "-inf", "ten"])
def test_a_frame_that_is_no_number_is_damaged(tmp_path: Path, cell: str) -> None:
    drawings.records(tmp_path / "faces", count=1)
    table = tmp_path / "my.csv"
    table.write_text(f"path,frame,left\nfaces/00000.png,{cell},nan\n")
    with pytest.raises(DatasetDamaged, match=r"my.csv:2: .*is not a number"):
        READERS["manifest"](table)
    table.write_text("path,frame,left\nfaces/00000.png,nan,nan\n")
    (record,) = READERS["manifest"](table)
    assert (record.frame, record.box) == (None, None)


def test_a_parquet_file_that_is_none_is_damaged(tmp_path: Path) -> None:
    table = tmp_path / "manifest.parquet"
    table.write_bytes(b"PAR1 but not really")
    with pytest.raises(DatasetDamaged, match=r"manifest.parquet is not a Parquet file"):
        READERS["manifest"](table)


def test_folder_holds_out_the_same_pictures_whatever_their_order(miniature) -> None:
    root = miniature("folder")
    records = READERS["folder"](root)
    per_class = Counter((record.split, record.expression) for record in records)
    assert set(per_class.values()) == {1, 8}, "a tenth of each class to valid and to test"
    moved = root.parent / "moved"
    root.rename(moved)
    assert [(r.name, r.split) for r in READERS["folder"](moved)] == [(r.name, r.split) for r in records]
