"""What a user names becomes one list of pictures, each once, in an order that is the same on every machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from mien import sources


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
    found = sources.find([root / path for path in paths], recursive)
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
