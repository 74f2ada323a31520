"""Tables: what a row holds, that three formats give it back, and that a killed run loses and repeats nothing."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from mien import landmarks
from mien.errors import ConfigError, NoFace, OutputExists
from mien.io import tables
from mien.labels import EXPRESSIONS
from mien.types import Analysis, Box, Detection, Face, Landmarks, Pose, Reading

FORMATS = ("csv", "jsonl", "parquet")


def face(number: int = 0, points: int = tables.POINTS) -> Face:
    shares = [1 + (k * 7 + number) % 5 for k in range(8)]
    return Face(
        Detection(Box(10.25 + number, 20.5, 30.125, 40.0), 0.9),
        Landmarks(tuple((k + 0.1, k / 3) for k in range(points)), 0.99),
        Pose(yaw=-10.0, pitch=180 / 7, roll=3.0),
        Reading(
            {n: s / sum(shares) for n, s in zip(EXPRESSIONS, shares, strict=True)},
            0.3,
            -0.2,
            0.7,
            number % 2 == 1,
        ),
        quality=1 / 3,
    )


def analysis(source: str = "a.jpg", faces: int = 1, error: str | None = None) -> Analysis:
    return Analysis(source, 640, 480, tuple(face(k) for k in range(faces)), error)


PICTURES = [
    analysis("one.jpg", 1),
    analysis("três, 'quoted' \"twice\"\nand a newline.png", 3),
    analysis("none.jpg", 0),
    analysis("broken.jpg", 0, "broken.jpg: damaged JPEG file: copy it again"),
]


def written(path: Path, pictures: list[Analysis] = PICTURES, **options: object) -> list[tables.Row]:
    with tables.Writer(path, **options) as table:  # type: ignore[arg-type]
        for picture in pictures:
            table.write(picture)
    return list(tables.load(path))


def test_points_are_those_of_the_landmark_scheme() -> None:
    from mien.landmarks import POINTS

    assert len(POINTS) == tables.POINTS


def test_a_row_says_what_the_face_says() -> None:
    row, *others = tables.rows(PICTURES[1])
    assert len(others) == 2
    one = PICTURES[1].faces[0]
    assert (row["FaceRectX"], row["FaceRectWidth"]) == (10.25, 30.125)
    assert (row["Pitch"], row["Roll"], row["Yaw"]) == (180 / 7, 3.0, -10.0)
    assert row["expression"] == one.expression
    assert sum(row[name] for name in EXPRESSIONS) == pytest.approx(1)
    assert (row["x_5"], row["y_6"]) == (5.1, 2.0)
    assert [each["face"] for each in (row, *others)] == [0, 1, 2]
    assert {each["faces"] for each in (row, *others)} == {3}


def test_openface_angles_are_radians_and_deepface_shares_are_percent() -> None:
    openface = tables.rows(PICTURES[0], "openface")[0]
    assert openface["pose_Rx"] == pytest.approx(3.141592653589793 / 7)
    assert openface["success"] == 1
    assert tables.rows(PICTURES[2], "openface")[0]["success"] == 0
    deepface = tables.rows(PICTURES[0], "deepface", landmarks=False)[0]
    shares = {name: value for name, value in deepface.items() if name.startswith("emotion.")}
    assert sum(shares.values()) == pytest.approx(100)
    assert shares[f"emotion.{deepface['dominant_emotion']}"] == max(shares.values())


@pytest.mark.parametrize("layout", tables.COLUMNS)
def test_every_column_is_documented_and_every_row_has_exactly_these(layout: str) -> None:
    columns = tables.columns_of(layout)
    names = [column.name for column in columns]
    assert len(set(names)) == len(names)
    assert all(column.meaning for column in columns)
    for picture in PICTURES:
        for row in tables.rows(picture, layout):
            assert list(row) == names
            for column in columns:
                assert row[column.name] is None or type(row[column.name]) is column.kind


def test_a_picture_without_a_face_is_a_row_nothing_or_an_error() -> None:
    (row,) = tables.rows(PICTURES[2])
    assert row["input"] == "none.jpg"
    assert row["faces"] == 0
    assert row["FaceRectX"] is row["expression"] is row["error"] is None
    assert tables.rows(PICTURES[2], on_no_face="skip") == []
    with pytest.raises(NoFace, match=r"none\.jpg"):
        tables.rows(PICTURES[2], on_no_face="error")
    (failed,) = tables.rows(PICTURES[3], on_no_face="skip")
    assert "damaged" in failed["error"]


def test_wrong_layout_and_wrong_points_fail_at_the_door() -> None:
    with pytest.raises(ConfigError, match="did you mean 'pyfeat'"):
        tables.rows(PICTURES[0], "py-feat")
    few = Analysis("a.jpg", 9, 9, (face(points=5),))
    with pytest.raises(tables.TableError, match="5 points, not 112"):
        tables.rows(few)
    assert len(tables.rows(few, landmarks=False)) == 1


def test_numbers_that_are_none_are_empty() -> None:
    odd = Analysis(
        "a.jpg", 9, 9, (Face(face().detection, face().landmarks, face().pose, face().reading, float("nan")),)
    )
    assert tables.rows(odd)[0]["quality"] is None


@pytest.mark.parametrize("layout", tables.COLUMNS)
@pytest.mark.parametrize("form", FORMATS)
def test_formats_give_rows_back_unchanged(tmp_path: Path, form: str, layout: str) -> None:
    wanted = [row for picture in PICTURES for row in tables.rows(picture, layout)]
    assert written(tmp_path / f"t.{form}", columns=layout) == wanted
    assert [path.name for path in tmp_path.iterdir()] == [f"t.{form}"]


def test_pandas_reads_the_same(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = tables.to_frame(PICTURES)
    assert list(frame.columns) == [column.name for column in tables.columns_of()]
    assert len(frame) == 6
    kinds = {column.name: column.kind for column in tables.columns_of()}
    types = {str: "string", int: "Int64", float: "float64", bool: "boolean"}
    assert {name: str(frame[name].dtype) for name in frame} == {name: types[kinds[name]] for name in frame}
    written(tmp_path / "t.csv")
    written(tmp_path / "t.parquet")
    from_csv = pandas.read_csv(tmp_path / "t.csv")
    assert from_csv["valence"].tolist()[:4] == frame["valence"].tolist()[:4]
    assert list(pandas.read_parquet(tmp_path / "t.parquet").columns) == list(frame.columns)


def test_parquet_carries_units_and_is_written_in_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(tables, "ROW_GROUP", 4)
    written(tmp_path / "t.parquet")
    file = parquet.ParquetFile(tmp_path / "t.parquet")
    assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == [4, 2]
    assert file.schema_arrow.field("Yaw").metadata[b"unit"] == b"degrees"


def test_an_empty_run_leaves_a_table_with_its_header(tmp_path: Path) -> None:
    assert written(tmp_path / "t.csv", []) == []
    assert (tmp_path / "t.csv").read_text().startswith("input,frame,approx_time,face,")
    assert written(tmp_path / "t.parquet", []) == []


@pytest.mark.parametrize("form", FORMATS)
def test_an_interrupted_run_resumes_without_loss_or_repetition(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"t.{form}"

    def stopped() -> None:
        with tables.Writer(path) as table:
            table.write(PICTURES[0])
            table.write(PICTURES[1])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not path.exists()
    assert tables.done(path) == {"one.jpg", tables.key(PICTURES[1].source)}
    with tables.Writer(path, resume=True) as table:
        assert table.done == tables.done(path)
        for picture in PICTURES:
            if table.wants(picture.source):
                table.write(picture)
    assert list(tables.load(path)) == [row for picture in PICTURES for row in tables.rows(picture)]


@pytest.mark.parametrize("cut", [1, 40, 4000])
def test_a_torn_last_line_is_cut_off_and_done_again(tmp_path: Path, cut: int) -> None:
    """Torn anywhere, also inside the second of three faces: the picture is not done until all its rows are there."""
    path = tmp_path / "t.csv"
    table = tables.Writer(path)
    table.write(PICTURES[0])
    table.write(PICTURES[1])
    table.close()
    data = table.part.read_bytes()
    table.part.write_bytes(data[:-cut])
    assert tables.done(path) == {"one.jpg"}
    with tables.Writer(path, resume=True) as again:
        assert again.done == {"one.jpg"}
        again.write(PICTURES[1])
    assert list(tables.load(path)) == [row for picture in PICTURES[:2] for row in tables.rows(picture)]


def test_a_part_file_torn_in_its_first_line_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.with_name("t.csv.part").write_bytes(b'{"columns": ["inp')
    assert len(written(path, resume=True)) == 6


def test_kill_9_at_any_moment_then_resume_gives_the_undisturbed_table(tmp_path: Path) -> None:
    """A real process, really killed, three times, at whatever point it has reached."""
    program = tmp_path / "run.py"
    program.write_text(
        textwrap.dedent(
            """
            import sys, time
            from mien.io import tables
            from mien.types import Analysis
            with tables.Writer(sys.argv[1], resume=True) as table:
                for number in range(400):
                    if table.wants(f"{number}.jpg"):
                        table.write(Analysis(f"{number}.jpg", 640, 480, (), None))
                        print(number, flush=True)
                        time.sleep(0.001)
            """
        )
    )
    path = tmp_path / "t.csv"
    command = [sys.executable, str(program), str(path)]
    reached = -1
    for stop in (20, 90, 150):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                assert int(line) > reached  # never one that was done before
                reached = int(line)
                if reached >= stop:
                    os.kill(process.pid, signal.SIGKILL)
                    break
            # What was written between our last look and the kill is done as well.
            process.wait()
        reached = max(int(source.split(".")[0]) for source in tables.done(path))
        assert not path.exists()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert [row["input"] for row in tables.load(path)] == [f"{number}.jpg" for number in range(400)]


def test_killed_between_table_in_place_and_part_removed(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    table = tables.Writer(path)
    table.write(PICTURES[0])
    table.close()
    left = table.part.read_bytes()
    with tables.Writer(path, resume=True):
        pass
    table.part.write_bytes(left)  # as if `finish` had not come to remove it
    assert [row["input"] for row in written(path, PICTURES[2:3], resume=True)] == ["one.jpg", "none.jpg"]


@pytest.mark.parametrize("form", FORMATS)
def test_a_finished_table_can_be_added_to(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"t.{form}"
    written(path, PICTURES[:2])
    table = tables.Writer(path, resume=True)
    assert not table.wants("one.jpg")
    assert table.wants("none.jpg")
    table.write(PICTURES[2])
    table.close()  # and this run is stopped in turn
    assert len(written(path, PICTURES[3:], resume=True)) == 6


def test_a_table_is_replaced_only_if_asked_and_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    written(path, PICTURES[:2])
    before = path.read_bytes()
    with pytest.raises(OutputExists, match="--overwrite"):
        tables.Writer(path)
    table = tables.Writer(path, overwrite=True)
    table.write(PICTURES[2])
    assert path.read_bytes() == before
    table.close()
    assert [row["input"] for row in written(path, [], resume=True)] == ["none.jpg"]


def test_an_unfinished_run_is_not_overwritten_and_other_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    tables.Writer(path).close()
    assert not list(tmp_path.iterdir())  # nothing was begun
    begun = tables.Writer(path)
    begun.write(PICTURES[0])
    begun.close()
    with pytest.raises(OutputExists, match="--resume, or start again with --overwrite"):
        tables.Writer(path)
    with pytest.raises(tables.TableError, match="other columns"):
        tables.Writer(path, columns="openface", resume=True)
    tables.Writer(path, resume=True).finish()
    with pytest.raises(tables.TableError, match="other columns"):
        tables.Writer(path, landmarks=False, resume=True)


def test_skipped_pictures_are_not_done_again(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    table = tables.Writer(path, on_no_face="skip")
    table.write(PICTURES[2])
    table.close()
    again = tables.Writer(path, resume=True)
    assert not again.wants("none.jpg")
    again.finish()
    assert list(tables.load(path)) == []


def test_video_frames_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    table = tables.Writer(path)
    for frame in range(3):
        table.write(Analysis("clip.mp4", 64, 64, (face(),), frame=frame, time=frame / 25))
    table.close()
    again = tables.Writer(path, resume=True)
    assert again.frames == {"clip.mp4": 2}
    again.finish()
    assert [row["approx_time"] for row in tables.load(path)] == [0.0, 0.04, 0.08]


@pytest.mark.parametrize(
    ("name", "remedy"), [("t.xlsx", ".parquet"), ("t", ".csv"), ("no/such/t.csv", "no such")]
)
def test_a_path_that_cannot_be_written_fails_at_the_door(tmp_path: Path, name: str, remedy: str) -> None:
    with pytest.raises(tables.TableError, match=remedy) as caught:
        tables.Writer(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    path = tmp_path / "t.csv"
    table = tables.Writer(path)
    table.write(PICTURES[0])
    table._file.close()
    table._file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115, PTH123
    with pytest.raises(tables.TableError, match="rows already written are kept"):
        table.write(PICTURES[1])
    table.close()
    assert tables.done(path) == {"one.jpg"}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.parquet", b"no parquet"),
        ("a.jsonl", b"{torn"),
        ("a.csv", b"\xff\xfe\x00"),
        ("a.txt", b""),
        ("b.csv", None),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, name: str, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(tables.TableError, match=name):
        list(tables.load(tmp_path / name))


def test_tables_of_other_tools_can_be_read(tmp_path: Path) -> None:
    """OpenFace puts spaces after commas and has columns that mien does not know."""
    path = tmp_path / "openface.csv"
    path.write_text(
        "frame, face_id, timestamp, confidence, success, AU01_r, note\n1, 0, 0.04, 0.98, 1, 2.5, ok\n"
    )
    (row,) = tables.load(path)
    assert row == {
        "frame": 1, "face_id": 0, "timestamp": 0.04, "confidence": 0.98, "success": 1, "AU01_r": 2.5, "note": "ok",
    }  # fmt: skip


KINDS = {column.name: column.kind for column in tables.columns_of()}
"""The type of each column of the default layout."""


@pytest.mark.parametrize("form", FORMATS)
def test_polars_reads_the_types(tmp_path: Path, form: str) -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed: pip install 'mien[dev]'")
    path = tmp_path / f"t.{form}"
    wanted = written(path)
    read = {"csv": polars.read_csv, "jsonl": polars.read_ndjson, "parquet": polars.read_parquet}[form]
    frame = read(path)
    types = {str: polars.String, int: polars.Int64, float: polars.Float64, bool: polars.Boolean}
    for name, kind in KINDS.items():
        if form == "parquet" or any(row[name] is not None for row in wanted):
            assert frame.schema[name] == types[kind], name
        assert frame[name].to_list() == [row[name] for row in wanted], name


@pytest.mark.parametrize("form", FORMATS)
def test_duckdb_reads_the_types(tmp_path: Path, form: str) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed: pip install 'mien[dev]'")
    path = tmp_path / f"t.{form}"
    wanted = written(path)
    table = duckdb.connect().sql(f"SELECT * FROM '{path}'")
    types = {str: "VARCHAR", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN"}
    for name, kind in zip(table.columns, table.types, strict=True):
        if form == "parquet" or any(row[name] is not None for row in wanted):
            assert str(kind) == types[KINDS[name]], name
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.fetchall()]
    assert rows == wanted


def test_pandas_reads_the_types(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    wanted = written(tmp_path / "t.parquet")
    frame = pandas.read_parquet(tmp_path / "t.parquet", dtype_backend="numpy_nullable")
    types = {str: "string", int: "Int64", float: "Float64", bool: "boolean"}
    for name, kind in KINDS.items():
        assert str(frame[name].dtype) == types[kind], name
        assert [None if value is pandas.NA else value for value in frame[name]] == [
            row[name] for row in wanted
        ]


def test_csv_is_read_alike_by_the_standard_library(tmp_path: Path) -> None:
    written(tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        names = [row["input"] for row in csv.DictReader(file)]
    assert names[1] == PICTURES[1].source


def test_names_that_are_not_unicode_are_escaped_and_still_recognised(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.jpg")
    path = tmp_path / "t.parquet"
    table = tables.Writer(path)
    table.write(analysis(odd))
    assert not table.wants(odd)
    table.finish()
    assert next(tables.load(path))["input"] == "caf\\udce9.jpg"


def test_the_documentation_prints() -> None:
    lines = [str(column) for column in tables.columns("mien")]
    assert any("degrees" in line and line.startswith("Yaw") for line in lines)
    assert json.dumps(lines)


MADE = {"version": "1", "weights": "aa", "detector": "haar", "min_face": None}


@pytest.mark.parametrize("form", FORMATS)
def test_a_table_says_what_made_it_and_goes_on_with_nothing_else(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"t.{form}"
    with tables.Writer(path, made_with=MADE) as table:
        table.write(PICTURES[0], "c0-s0")
    made = tables.made_of(path)
    assert (made["made_with"], made["pictures"]) == (MADE, {"one.jpg": "c0-s0"})
    assert list(tables.load(path)) == tables.rows(PICTURES[0])
    for key, value in (("weights", "bb"), ("detector", "yunet"), ("min_face", 40)):
        with pytest.raises(tables.TableError, match=f"begun with {key} .*, not "):
            tables.Writer(path, resume=True, made_with={**MADE, key: value})
    kept = sorted(file.name for file in tmp_path.iterdir())
    assert kept == ([f"t.{form}"] if form == "parquet" else [f"t.{form}", f"t.{form}.mien.json"])
    with tables.Writer(path, resume=True, made_with=MADE) as table:
        assert table.contents == {"one.jpg": "c0-s0"}
        table.write(PICTURES[2], "c2-s2")
    assert set(tables.made_of(path)["pictures"]) == {"one.jpg", "none.jpg"}
    written(path, PICTURES[:1], overwrite=True)  # by a program that does not say
    assert tables.made_of(path) == {}
    with pytest.raises(tables.TableError, match="does not record how it was made"):
        tables.Writer(path, resume=True, made_with=MADE)


def test_an_unfinished_table_goes_on_with_nothing_else_either(tmp_path: Path) -> None:
    table = tables.Writer(tmp_path / "t.csv", made_with=MADE)
    table.write(PICTURES[0], "c0-s0")
    table.close()
    with pytest.raises(tables.TableError, match="begun with detector"):
        tables.Writer(tmp_path / "t.csv", resume=True, made_with={**MADE, "detector": "whole"})
    again = tables.Writer(tmp_path / "t.csv", resume=True, made_with=MADE)
    assert again.contents == {"one.jpg": "c0-s0"}
    again.close()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("finished", [False, True])
def test_errors_and_replaced_pictures_get_new_rows_in_the_old_place(
    tmp_path: Path, form: str, finished: bool
) -> None:
    path = tmp_path / f"t.{form}"
    table = tables.Writer(path)
    for picture in (PICTURES[3], *PICTURES[:3]):
        table.write(picture)
    table.finish() if finished else table.close()
    assert tables.done(path) == {tables.key(picture.source) for picture in PICTURES[:3]}
    mended, replaced = analysis("broken.jpg", 2), analysis(PICTURES[1].source, 1)
    table = tables.Writer(path, resume=True)
    assert table.wants("broken.jpg")
    table.write(mended)
    table.write(PICTURES[3])  # and fails again
    table.close()
    with tables.Writer(path, resume=True) as table:
        assert table.wants("broken.jpg")
        table.write(mended)
        table.write(replaced)
    expected = [mended, PICTURES[0], replaced, PICTURES[2]]
    assert list(tables.load(path)) == [row for picture in expected for row in tables.rows(picture)]


def test_a_csv_file_that_went_through_a_spreadsheet_is_continued_rightly(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    unsure = analysis(" leading space.jpg", 2)
    written(path, [unsure])
    text = path.read_text().replace("True", "TRUE").replace("False", "FALSE")
    path.write_text("\ufeff" + text.replace("\n", "\r\n"), newline="")
    with tables.Writer(path, resume=True) as table:
        assert not table.wants(" leading space.jpg")
    assert [row["uncertain"] for row in tables.load(path)] == [False, True]
    assert {row["input"] for row in tables.load(path)} == {" leading space.jpg"}


def test_parquet_is_on_the_disk_before_its_part_file_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    fsync = os.fsync
    part = tmp_path / "t.parquet.part"
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(part.exists()), fsync(file))[1])
    written(tmp_path / "t.parquet")
    assert synced == [True]


# As py-feat reads them


FEX = {
    "emotions": ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"],
    "faceboxes": ["FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight", "FaceScore"],
    "poses": ["Pitch", "Roll", "Yaw", "X", "Y", "Z"],
}
"""What `read_feat` of py-feat 2.1.5 selects by name, of a table that is not one of its second version."""
DLIB = [f"{axis}_{number}" for axis in "xy" for number in range(68)]


def drawn(layout: str, **actions: float | None) -> list[tables.Row]:
    """Rows of a face whose point n lies at (n, 1000 + n)."""
    numbered = replace(
        face(),
        landmarks=Landmarks(tuple((float(n), 1000.0 + n) for n in range(112)), 0.9),
        reading=replace(face().reading, actions=actions),
    )
    return tables.rows(Analysis("a.jpg", 640, 480, (numbered,)), layout)


def test_pyfeats_reader_finds_its_columns() -> None:
    (row,) = drawn("pyfeat")
    second = {"valence", "arousal"} <= row.keys() or any(name.startswith("mesh_x_") for name in row)
    assert not second, (
        "it would be taken for a table of py-feat's second version, whose labels are Happy, Sad, ..."
    )
    units = (1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 17, 20, 23, 24, 25, 26, 28, 43)
    assert [name for name in row if "AU" in name] == [f"AU{number:02}" for number in units]
    assert all(row[f"AU{number:02}"] is None for number in units)  # this face has no actions
    for names in FEX.values():
        assert set(names) <= row.keys()
    assert sum(row[name] for name in FEX["emotions"]) + row["contempt"] == pytest.approx(1)
    assert [row[name] for name in FEX["poses"]][3:] == [None] * 3
    assert [row[name] for name in FEX["poses"]][:3] == [face().pose.pitch, face().pose.roll, face().pose.yaw]
    assert (row["apparent_valence"], row["apparent_arousal"]) == (face().valence, face().arousal)
    assert [name for name in row if re.fullmatch(r"[xy]_\d+", name)] == DLIB


def test_openfaces_reader_finds_its_columns() -> None:
    (row,) = drawn("openface")
    units = [1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45]
    names = [f"AU{n:02}_r" for n in units] + [f"AU{n:02}_c" for n in sorted([*units, 28])]
    assert [name for name in row if name.startswith("AU")] == names
    assert all(row[name] is None for name in names)
    poses = [f"pose_{kind}{axis}" for kind in "TR" for axis in "xyz"]
    assert [name for name in row if name.startswith("pose_")] == poses
    assert [row[name] is None for name in poses] == [True] * 3 + [False] * 3
    assert [name for name in row if re.fullmatch(r"[xy]_\d+", name)] == DLIB


def test_action_units_stand_in_each_layout_in_its_range() -> None:
    smile = {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.5, "eyeBlinkLeft": 0.2, "eyeBlinkRight": 0.2}
    own, feat, face_ = (drawn(layout, **smile)[0] for layout in ("mien", "pyfeat", "openface"))
    assert (own["AU12_L"], own["AU12_R"], own["AU12"], own["AU06"]) == (0.8, 0.5, 0.8, None)
    assert {name: own[name] for name in smile} == smile
    assert own["tongueOut"] is None
    assert (feat["AU12"], feat["AU43"], feat["AU11"], feat["AU23"]) == (0.8, 0.2, None, None)
    assert (face_["AU12_r"], face_["AU45_r"], face_["AU23_r"]) == (4.0, 1.0, None)
    assert face_["AU12_c"] is None


def test_the_68_points_are_dlibs() -> None:
    """Each of dlib's groups, in its order, comes from ours of that name; contours run its way round."""
    groups = {
        "jaw": (0, 17), "right_brow": (17, 22), "left_brow": (22, 27), "nose_bridge": (27, 31), "nose_base": (31, 36),
        "right_eye": (36, 42), "left_eye": (42, 48), "outer_lips": (48, 60), "inner_lips": (60, 68),
    }  # fmt: skip
    for row in (*drawn("pyfeat"), *drawn("openface")):
        points = [int(row[f"x_{n}"]) for n in range(68)]
        assert [row[f"y_{n}"] - 1000 for n in range(68)] == points
        for name, (first, last) in groups.items():
            inside = range(*landmarks.GROUPS[name].indices(112))
            assert set(points[first:last]) <= set(inside)
            assert len(set(points[first:last])) == last - first
        # dlib numbers a mirrored face's points by this exchange, and so must the chosen ones.
        mirrored = [
            *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46,
            39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1),
        ]  # fmt: skip
        assert [int(landmarks.MIRROR[point]) for point in points] == [points[n] for n in mirrored]
        assert points[8] == landmarks.CHIN
        assert points[30] == landmarks.NOSE_TIP
        assert points[33] == landmarks.NOSE_BOTTOM
        assert (points[36], points[39]) == landmarks.RIGHT_EYE_CORNERS
        assert (points[48], points[54]) == (landmarks.RIGHT_MOUTH_CORNER, landmarks.LEFT_MOUTH_CORNER)


def test_a_table_says_no_home_and_moves_with_its_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project" / "out").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    film = tmp_path / "project" / "film.mp4"
    with tables.Writer("out/t.csv", made_with=MADE, writes=[str(film)]) as table:
        table.write(PICTURES[0])
    assert str(tmp_path) not in Path("out/t.csv.mien.json").read_text()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project").rename(tmp_path / "moved")
    with tables.Writer("moved/out/t.csv", resume=True, made_with=MADE) as table:
        assert table.folder == str(tmp_path / "moved")
        assert table.wrote == {str(tmp_path / "moved" / "film.mp4")}


def test_r_reads_the_types(tmp_path: Path) -> None:
    """The lines of docs/tables.md."""
    r = shutil.which("Rscript")
    if r is None:
        pytest.skip("R is not installed: apt-get install r-base-core")
    text = (Path(__file__).parents[2] / "docs" / "tables.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```r\n.*?(faces <- read\.csv.*?)```", text, re.S)
    rows = written(tmp_path / "faces.csv")
    shown = "cat('\\n', nrow(faces), class(faces$uncertain), class(faces$valence), class(faces$expression))"
    (tmp_path / "read.R").write_text(f"{lines}\n{shown}\n", encoding="utf-8")
    done = subprocess.run(
        [r, "--vanilla", "read.R"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1].split() == [str(len(rows)), "logical", "numeric", "character"]
