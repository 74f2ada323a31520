"""What a user names becomes one list of pictures, each once, in an order that is the same on every machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mien.errors import ConfigError, ImageError
from mien.io import inputs


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "b.JPG",
        "a.png",
        "notes.txt",
        ".hidden.png",
        "z/c.webp",
        "z/deep/d.jpeg",
        ".cache/e.png",
        "f.md",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return tmp_path


def names(root: Path, *paths: str | Path, recursive: bool = True) -> list[str]:
    found = inputs.find([root / path for path in paths], recursive)
    return [path.relative_to(root).as_posix() for path in found]


def test_a_folder_gives_its_pictures_sorted(tree: Path) -> None:
    assert names(tree, "") == ["a.png", "b.JPG", "z/c.webp", "z/deep/d.jpeg"]
    assert names(tree, "", recursive=False) == ["a.png", "b.JPG"]


def test_a_named_file_is_taken_whatever_its_name_and_once(tree: Path) -> None:
    assert names(tree, "f.md", "a.png", "f.md", "") == ["f.md", "a.png", "b.JPG", "z/c.webp", "z/deep/d.jpeg"]
    assert names(tree, "missing.jpg") == ["missing.jpg"]
    assert names(tree, "x" * 300) == ["x" * 300]


def test_patterns_and_those_that_match_nothing(tree: Path) -> None:
    assert names(tree, "*.png") == ["a.png"]
    assert names(tree, "**/*.webp") == ["z/c.webp"]
    assert names(tree, "*.gif") == ["*.gif"]
    (tree / "odd[1].png").write_text("x")
    assert names(tree, "odd[1].png") == ["odd[1].png"]


def test_a_list_file_is_read_line_by_line(tree: Path) -> None:
    (tree / "list.txt").write_text("z/c.webp\n\n  b.JPG  \nmissing.png\n")
    assert names(tree, "list.txt") == ["z/c.webp", "b.JPG", "missing.png"]


def test_folders_without_pictures_do_not_vanish(tree: Path) -> None:
    (tree / "none").mkdir()
    (tree / "z" / "trap.jpg").mkdir()
    assert names(tree, "none") == ["none"]
    assert "z/trap.jpg" in names(tree, "")
    (tree / "z" / "loop").symlink_to(tree)
    assert "z/loop" not in names(tree, "")


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["list.txt", "@list.txt"])
def test_lists_of_any_coding_with_a_mark(tree: Path, coding: str, name: str) -> None:
    (tree / "list.txt").write_bytes("a.png\r\nz/é 中.png\r\n".encode(coding))
    given = f"@{tree}/list.txt" if name.startswith("@") else str(tree / name)
    assert inputs.gather([given]) == [str(tree / "a.png"), str(tree / "z/é 中.png")]


@pytest.mark.parametrize("coding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_a_list_of_single_characters_is_refused_by_name(tree: Path, coding: str) -> None:
    (tree / "list.txt").write_bytes("/a.png\n/中.png\n".encode(coding))
    for given in (str(tree / "list.txt"), f"@{tree / 'list.txt'}"):
        with pytest.raises(ImageError, match=r"list\.txt.*UTF-16"):
            inputs.gather([given])
    with pytest.raises(ImageError, match=r"list\.txt.*UTF-16"):
        inputs.gather([], str(tree / "list.txt"))


@pytest.mark.parametrize("data", [b"\xff\xfea", b"\xff\xfea\0\0\0"])
def test_a_damaged_list_is_refused_by_name(tree: Path, data: bytes) -> None:
    (tree / "list.txt").write_bytes(data)
    with pytest.raises(ImageError, match=r"list\.txt"):
        list(inputs.find([tree / "list.txt"]))


def test_null_separated_names_and_blanks(tree: Path) -> None:
    (tree / " lead.png").write_text("x")
    (tree / "list.txt").write_bytes(b" lead.png\0a.png\0")
    assert names(tree, "list.txt") == [" lead.png", "a.png"]
    (tree / "list.txt").write_bytes(b" lead.png\n  a.png \n")
    assert names(tree, "list.txt") == [" lead.png", "a.png"]


def test_empty_names_and_empty_lists_are_refused(tree: Path) -> None:
    for given in ([""], [str(tree), ""]):
        with pytest.raises(ConfigError, match="empty"):
            inputs.gather(given)
    (tree / "list.txt").write_text("\n\n")
    with pytest.raises(ConfigError, match="names no picture"):
        inputs.gather([f"@{tree}/list.txt"])


def test_a_picture_is_taken_once_however_it_is_written(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    (tree / "link").symlink_to("z")
    assert inputs.gather(["z/c.webp", str(tree / "z/c.webp"), "z/deep/../c.webp", "link/c.webp"]) == [
        "z/c.webp"
    ]
    (tree / "again.png").symlink_to("a.png")  # another entry of the folder
    assert inputs.gather(["a.png", "again.png"]) == ["a.png", "again.png"]


def test_linked_folders_are_told(tree: Path) -> None:
    (tree / "z" / "loop").symlink_to(tree)
    told: list[Path] = []
    assert len(inputs.gather([str(tree)], note=told.append)) == 4
    assert told == [tree / "z" / "loop"]


def test_identity_is_of_the_content(tree: Path) -> None:
    known = inputs.identity(tree / "a.png")
    assert inputs.unchanged(tree / "a.png", known)
    (tree / "a.png").rename(tree / "moved.png")
    assert inputs.unchanged(tree / "moved.png", known)
    (tree / "moved.png").write_text("y")
    assert not inputs.unchanged(tree / "moved.png", known)
    assert not inputs.unchanged(tree / "none.png", known)
    assert inputs.identity(tree / "none.png") is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_plain_file_has_no_identity_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert inputs.identity(tmp_path / "pipe.jpg") is None
    assert inputs.identity(tmp_path) is None
