"""Labelled pictures of one's own: class folders and tables, the recogniser's labels and others."""

from __future__ import annotations

from pathlib import Path

import pytest

from mien.data.labelled import examples
from mien.errors import DatasetNotFound
from mien.labels import EXPRESSIONS


def _folders(root: Path, names: dict[str, int]) -> Path:
    for name, count in names.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / f"{number}.png").write_bytes(b"")
    return root


def test_class_folders_refer_to_the_recognisers_labels_by_any_name(tmp_path: Path) -> None:
    labels, found = examples(_folders(tmp_path, {"Happy": 2, "neutral": 1}), EXPRESSIONS)
    assert labels == EXPRESSIONS
    assert sorted(EXPRESSIONS[one.label] for one in found) == ["happiness", "happiness", "neutral"]
    assert len({one.person for one in found}) == 3


def test_other_names_are_labels_of_ones_own(tmp_path: Path) -> None:
    labels, found = examples(_folders(tmp_path, {"müde": 1, "wach": 2}), EXPRESSIONS)
    assert labels == ("müde", "wach")
    assert [one.label for one in found] == [0, 1, 1]


def test_a_table_says_who_a_picture_shows_and_where_the_face_is(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(b"")
    table = tmp_path / "labels.csv"
    table.write_text(
        "path,expression,subject,left,top,right,bottom\n"
        "a.png,happy,ann,1,2,30,40\nb.png,sad,ann,,,,\nc.png,unknown,bob,,,,\n"
    )
    labels, found = examples(table, EXPRESSIONS)
    assert labels == EXPRESSIONS
    assert [(one.label, one.person, one.box) for one in found] == [
        (EXPRESSIONS.index("happiness"), "ann", (1.0, 2.0, 30.0, 40.0)),
        (EXPRESSIONS.index("sadness"), "ann", None),
    ]


def test_what_is_no_labelled_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match="does not exist: pass a folder with a sub-folder"):
        examples(tmp_path / "none", EXPRESSIONS)
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(DatasetNotFound, match="is not a table"):
        examples(tmp_path / "photo.jpg", EXPRESSIONS)
