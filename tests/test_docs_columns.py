"""The columns of other tools in the documentation are those of the tables that `mien` writes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from mien.io import tables

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def script(load_script: Callable[[Path], ModuleType]) -> ModuleType:
    return load_script(ROOT / "scripts" / "column_table.py")


def test_the_table_is_that_of_the_layouts(script: ModuleType) -> None:
    text = script.PAGE.read_text(encoding="utf-8")
    assert script.filled(text) == text, "docs/coming-from.md is stale: run  python scripts/column_table.py"


def test_a_quantity_is_found_by_its_value_and_with_its_unit(script: ModuleType) -> None:
    found = {quantity.column: quantity for quantity in script.QUANTITIES}
    assert script.named(found["Pitch"], "openface") == "`pose_Rx` (radians)"
    assert script.named(found["Yaw"], "openface") == "`pose_Ry` (radians)"
    assert script.named(found["AU12"], "openface") == "`AU12_r` (0 to 5)"
    assert script.named(found["happiness"], "deepface") == "`emotion.happy` (per cent)"
    assert script.named(found["valence"], "pyfeat") == "`apparent_valence`"
    assert script.named(found["AU12"], "deepface") == ""


def test_the_python_of_each_row_gives_the_value_of_its_column(script: ModuleType) -> None:
    row = tables.rows(script.ANALYSIS)[0]
    for quantity in script.QUANTITIES:
        value = eval(quantity.python, {"analysis": script.ANALYSIS, "face": script.FACE})
        assert value == row[quantity.column], quantity.python


@pytest.mark.parametrize(("layout", "least"), [("pyfeat", 10), ("openface", 10)])
def test_columns_that_the_page_calls_the_same_exist(script: ModuleType, layout: str, least: int) -> None:
    names = {column.name for column in tables.columns_of(layout, video=True)}
    head = rf"^\| [^|]+ \| `mien[^|]*--columns {layout}`[^|]*\|.*\n\|[-|]+\n((?:\|.*\n)+)"
    (table,) = re.findall(head, script.PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    lines = [line.split("|") for line in table.splitlines()]
    said = [
        name
        for line in lines
        if line[2].strip().startswith("the same") and "`" not in line[2]
        for name in re.findall("`(.+?)`", line[1])
    ]
    assert [name for name in said if name not in names] == []
    assert len(said) >= least
