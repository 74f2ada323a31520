"""`mien methods` and `mien columns`: cards of the shipped weights, and what tables hold."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from mien.io import cards, tables


def test_every_shipped_card_is_listed_and_told_as_json(command: Callable) -> None:
    names = [card.name for card in cards.shipped()]
    told = command("methods")
    assert told.code == 0
    assert all(name in told.out for name in names)
    lines = command("methods", "--json").out.splitlines()
    assert [json.loads(line)["name"] for line in lines] == names


def test_a_misspelt_name_is_answered_with_the_nearest(command: Callable) -> None:
    name = cards.shipped()[0].name
    told = command("methods", name[:-1])
    assert told.code == 2
    assert name in told.err


@pytest.mark.parametrize("layout", ["mien", "openface"])
def test_every_column_of_a_layout_is_explained(layout: str, command: Callable) -> None:
    told = command("columns", layout, "--video")
    assert told.code == 0
    words = " ".join(told.out.split())
    for column in tables.columns(layout, True):
        assert f"{column.name} " in words
        assert " ".join(column.meaning.split()) in words
