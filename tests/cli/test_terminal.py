"""Messages beside a progress bar, and a table that fits the terminal it is printed on."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from mien.cli.terminal import shortened

pty = pytest.importorskip("pty")


def on_a_terminal(arguments: list[str | Path], columns: int, stdout: Path | None = None) -> str:
    """What `mien` with these arguments shows on a terminal so wide; standard output may be a file instead."""
    import fcntl
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    with (stdout or Path(os.devnull)).open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "mien", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=theirs if stdout is None else file,
            stderr=theirs,
            env={**environment, "TERM": "xterm"},
        )
        os.close(theirs)
        shown = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            shown += data
        process.wait()
    os.close(ours)
    return shown.decode()


@pytest.fixture
def folder(tmp_path: Path, examples: Path) -> Path:
    """Two portraits and a damaged picture, one with a long name in brackets."""
    shutil.copy(examples / "portrait_smiling.jpg", tmp_path / "a.jpg")
    shutil.copy(examples / "portrait_neutral.jpg", tmp_path / f"{'long' * 12}.jpg")
    (tmp_path / "damaged [bold] :smile:.jpg").write_bytes(b"damaged")
    return tmp_path


def test_errors_stand_above_the_bar_and_json_in_its_file(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, recogniser_file: Path
) -> None:
    out = tmp_path_factory.mktemp("out") / "lines.jsonl"
    shown = on_a_terminal(["predict", folder, "--json", "--weights", recogniser_file], 80, out)
    assert out.read_bytes().count(b"\n") == 3
    assert "pictures" in shown  # the bar
    (error,) = (line for line in shown.splitlines() if "mien: " in line)
    # The bar's line is erased before the message begins, which begins its own and is whole.
    assert error.rpartition("\x1b[2K")[2].startswith("mien: ")
    assert "damaged [bold] :smile:.jpg: is not a picture" in error
    assert error.endswith("convert it to JPEG or PNG")


def test_what_libraries_write_does_not_break_the_bar(
    examples: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, recogniser_file: Path
) -> None:
    """OpenCV's decoder complains on standard error without asking anybody."""
    whole = (examples / "portrait_smiling.jpg").read_bytes()
    middle = len(whole) // 2
    for name in "ab":
        (tmp_path / f"{name}.jpg").write_bytes(whole[:middle] + b"\xff\xd8\x00\x12" * 5 + whole[middle:])
    out = tmp_path_factory.mktemp("out") / "lines.jsonl"
    shown = on_a_terminal(["predict", tmp_path, "--json", "--weights", recogniser_file], 80, out)
    assert "faces/s" in shown
    *bar, end = shown.splitlines()
    assert "Corrupt JPEG data" in end
    assert end.endswith("(2 times)")
    assert "Corrupt" not in "".join(bar)


@pytest.mark.parametrize("columns", [120, 80, 60, 40])
def test_the_table_fits_the_terminal(columns: int, folder: Path, recogniser_file: Path) -> None:
    (folder / "damaged [bold] :smile:.jpg").unlink()
    lines = on_a_terminal(["predict", folder, "--weights", recogniser_file], columns).splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= columns
    assert "label" in lines[0]
    assert ("box" in lines[0]) == (columns == 120)
    assert lines[2].split("  ")[0].endswith("longlong.jpg"[-6:])


def test_names_are_shortened_in_the_middle() -> None:
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefg", 6) == "ab…efg"
    assert len(shortened("a" * 99, 24)) == 24
