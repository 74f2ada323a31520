"""Whatever a folder holds, each file becomes a row, each failure one clear line, and the rows before are kept."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mien.io import images, tables


def huge_png(side: int) -> bytes:
    """A valid PNG header of side x side pixels, with next to no data behind it: a decompression bomb."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )


def make(kind: str, folder: Path, photograph: Path) -> Path:
    """One bad file of a kind."""
    path = folder / f"{kind}.jpg"
    match kind:
        case "truncated":
            path.write_bytes(photograph.read_bytes()[:9000])
        case "header_only":
            path.write_bytes(photograph.read_bytes()[:20])
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("Dear Sir or Madam,\n")
        case "folder":
            path.mkdir()
        case "bomb":
            path.write_bytes(huge_png(50_000))
        case "unreadable":
            path.write_bytes(photograph.read_bytes())
            path.chmod(0)
        case "broken_link":
            path.symlink_to(folder / "nowhere.jpg")
        case "link_loop":
            path.symlink_to(path)
        case "video":
            path.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
        case "pipe":
            os.mkfifo(path)
        case "missing":
            pass
    return path


REMEDIES = {
    "truncated": "copy, download or convert it again",
    "header_only": "copy, download or convert it again",
    "empty": "copy or download it again",
    "text": "convert it to JPEG or PNG",
    "folder": "name picture files",
    "bomb": "scale it down",
    "unreadable": "chmod",
    "broken_link": "remove the link",
    "link_loop": "",
    "video": "mien video",
    "pipe": "copy it to one",
    "missing": "check the path",
}


@pytest.mark.parametrize("kind", REMEDIES)
def test_a_bad_file_is_one_row_and_one_line_with_the_remedy(
    kind: str, command: Callable, tmp_path: Path, examples: Path, recogniser_file: Path
) -> None:
    if kind == "unreadable" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    good = examples / "portrait_smiling.jpg"
    bad = make(kind, tmp_path, good)
    other = examples / "portrait_neutral.jpg"
    table = tmp_path / "table.csv"
    ran = command("predict", good, bad, other, "--out", table, "--weights", recogniser_file)
    assert ran.code == 1
    assert ran.out.startswith("3 pictures, 2 faces, 1 not analysed; ")
    assert ran.err.count("\n") == 1
    assert ran.err.startswith("mien: ")
    assert str(bad) in ran.err
    assert REMEDIES[kind] in ran.err
    first, failed, last = tables.load(table)
    assert (first["input"], last["input"]) == (str(good), str(other))
    assert first["error"] is last["error"] is None
    assert first["expression"] is not None
    assert failed["input"] == str(bad)
    assert failed["error"] == ran.err.removeprefix("mien: ").rstrip("\n")
    assert failed["expression"] is None


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_names_with_spaces_newlines_and_foreign_bytes_keep_their_rows(
    suffix: str, command: Callable, tmp_path: Path, examples: Path, recogniser_file: Path
) -> None:
    photograph = (examples / "portrait_smiling.jpg").read_bytes()
    folder = tmp_path / "pictures"
    folder.mkdir()
    names = [
        "smile ü 笑.jpg",
        "two\nlines.jpg",
        'comma, and "quote".jpg',
        " space.jpg",
        "[1].jpg",
        "-o.jpg",
        "@a.jpg",
    ]
    for name in names:
        (folder / name).write_bytes(photograph)
    (folder / "broken\nname.jpg").write_bytes(b"x")
    odd = os.fsencode(folder) + b"/latin\xe9.jpg"
    with open(odd, "wb") as file:  # noqa: PTH123  a name that is no UTF-8
        file.write(photograph)
    table = tmp_path / f"table{suffix}"
    ran = command("predict", folder, "--out", table, "--weights", recogniser_file)
    assert ran.code == 1
    assert ran.err.count("\n") == 1  # the newline in the name is escaped
    found = {row["input"]: row["error"] for row in tables.load(table)}
    expected = [*names, "broken\nname.jpg", "latin\\udce9.jpg"]
    assert set(found) == {str(folder / name) for name in expected}
    assert [name for name, error in found.items() if error] == [str(folder / "broken\nname.jpg")]
    again = command("predict", folder, "--out", table, "--weights", recogniser_file, "--resume")
    assert again.code == 1  # what failed is tried again; everything else is done, also the odd names
    assert f"{len(names) + 1} done before" in again.out
    assert sum(1 for _ in tables.load(table)) == len(expected)


def test_odd_names_can_be_printed(
    command: Callable, tmp_path: Path, examples: Path, recogniser_file: Path
) -> None:
    (tmp_path / "two\nlines.jpg").write_bytes((examples / "portrait_smiling.jpg").read_bytes())
    ran = command("predict", tmp_path, "--weights", recogniser_file)
    assert ran.code == 0
    assert ran.out.count("\n") == 2
    assert "wo\\nlines.jpg" in ran.out


def test_a_picture_of_20_pixels_and_one_without_a_face_are_rows_without_error(
    command: Callable, tmp_path: Path, recogniser_file: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    images.write(tmp_path / "a.png", noise)
    images.write(tmp_path / "b.png", np.full((480, 640, 3), 200, np.uint8))
    table = tmp_path / "table.csv"
    assert command("predict", tmp_path, "--out", table, "--weights", recogniser_file).code == 0
    rows = list(tables.load(table))
    assert [row["faces"] for row in rows] == [0, 0]
    assert [row["error"] for row in rows] == [None, None]


def test_two_hundred_faces_are_two_hundred_rows(
    command: Callable, tmp_path: Path, examples: Path, recogniser_file: Path
) -> None:
    portrait = images.read(examples / "portrait_smiling.jpg")[100:420, 90:410]
    small = images.read(_resized(portrait, 120, tmp_path))
    images.write(tmp_path / "crowd.png", np.tile(small, (10, 20, 1)))
    table = tmp_path / "table.csv"
    ran = command(
        "predict",
        tmp_path / "crowd.png",
        "--out",
        table,
        "--weights",
        recogniser_file,
        "--tiled",
        "--annotate",
        tmp_path / "out",
    )
    assert ran.code == 0
    assert ran.err == ""
    rows = list(tables.load(table))
    assert len(rows) == 200
    assert {row["faces"] for row in rows} == {200}
    assert (tmp_path / "out" / "crowd.png").is_file()


def _resized(picture: np.ndarray, side: int, folder: Path) -> Path:
    import cv2

    images.write(
        folder / "small.png", np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA))
    )
    return folder / "small.png"


def test_standard_input_closed_or_empty_or_no_picture(recogniser_file: Path, examples: Path) -> None:
    base = [sys.executable, "-m", "mien", "predict", "--weights", str(recogniser_file)]

    def shell(redirection: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        script = f'"$@" {redirection}'
        return subprocess.run(
            ["sh", "-c", script, "sh", *base, *arguments], capture_output=True, text=True, check=False
        )

    closed = shell("<&-", "-")
    assert closed.returncode == 2
    assert closed.stderr == "mien: standard input is closed: pipe something into it, or name a file\n"
    empty = shell("</dev/null", "-")
    assert empty.returncode == 1
    assert "<stdin>: is empty" in empty.stderr
    photograph = examples / "portrait_smiling.jpg"
    unaffected = shell("<&-", str(photograph))
    assert unaffected.returncode == 0
    piped = shell(f'<"{photograph}"', "-")
    assert piped.returncode == 0
    assert "<stdin>" in piped.stdout
    assert "Traceback" not in closed.stderr + empty.stderr + unaffected.stderr + piped.stderr


def test_a_full_disk_is_one_line(recogniser_file: Path, examples: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    base = [
        sys.executable,
        "-m",
        "mien",
        "predict",
        examples / "portrait_smiling.jpg",
        "--weights",
        recogniser_file,
    ]
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(base, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr
    assert "No space left on device" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "nothing to analyse"),
        (["x.jpg", "--resume"], "--resume needs --out"),
        (["x.jpg", "--embeddings"], "--embeddings needs --json"),
        (["x.jpg", "--out", "table.xls"], ".csv"),
        (["x.jpg", "--out", "no/such/folder/table.csv"], "no such folder"),
        (["x.jpg", "--detector", "hair"], "haar"),
        (["x.jpg", "--detector", "yunet"], "model_path"),
        (["x.jpg", "--columns", "other"], "pyfeat"),
        (["x.jpg", "--on-no-face", "other"], "skip"),
        (["x.jpg", "--min-confidence", "7"], "7"),
        (["-", "-"], "read once"),
        (["@no-such-list"], "list cannot be read"),
        (["--list", "no-such-list"], "list cannot be read"),
        (["x.jpg", "--weights", "none.onnx"], "none.onnx"),
    ],
)
def test_a_wrong_command_is_exit_2_and_says_what_to_do(
    arguments: list[str], complaint: str, command: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    recogniser_file: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    weights = [] if "--weights" in arguments else ["--weights", str(recogniser_file)]
    ran = command("predict", *arguments, *weights)
    assert ran.code == 2
    assert complaint in ran.err
    assert "Traceback" not in ran.err
    assert ran.out == ""
    assert not list(tmp_path.iterdir()) or list(tmp_path.iterdir()) == [tmp_path / "table.csv.part"]
