"""The vocabulary: orders as the datasets publish them, and translation both ways."""

from __future__ import annotations

import doctest

import pytest

from mien import labels
from mien.data.label_codes import SCHEMAS
from mien.labels import BASIC, CIRCUMPLEX, EXPRESSIONS, UNLABELLED, UnknownExpression

PUBLISHED = {
    "ferplus": (0, "neutral happiness surprise sadness anger disgust fear contempt"),
    "rafdb": (1, "surprise fear disgust happiness sadness anger neutral"),
    "fer2013": (0, "anger disgust fear happiness sadness surprise neutral"),
    "affectnet": (0, "neutral happiness sadness surprise fear disgust anger contempt"),
    "sfew": (0, "anger disgust fear happiness neutral sadness surprise"),
    "ckplus": (0, "neutral anger contempt disgust fear happiness sadness surprise"),
    "affwild2": (0, "neutral anger disgust fear happiness sadness surprise"),
}
"""First code and order, typed from the datasets' documentation, not from the module."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_orders_are_those_of_the_datasets(name: str) -> None:
    first, words = PUBLISHED[name]
    schema = SCHEMAS[name]
    for code, word in enumerate(words.split(), start=first):
        assert schema.index_of(code) == EXPRESSIONS.index(word)
        assert schema.code_of(word) == code
    assert schema.classes == tuple(word for word in EXPRESSIONS if word in words.split())


def test_every_schema_is_covered_here() -> None:
    assert set(PUBLISHED) == set(SCHEMAS)


@pytest.mark.parametrize(
    ("name", "codes"), [("ferplus", (8, 9)), ("affectnet", (8, 9, 10)), ("affwild2", (7, -1)), ("rafdb", ())]
)
def test_codes_that_are_no_expression_are_unlabelled(name: str, codes: tuple[int, ...]) -> None:
    schema = SCHEMAS[name]
    assert {code for code in schema.codes if schema.index_of(code) == UNLABELLED} == set(codes)


def test_a_code_or_class_that_the_set_lacks_is_an_error_that_lists_what_it_has() -> None:
    with pytest.raises(
        UnknownExpression, match="0 is not a code of RAF-DB basic: its codes are 1, 2, 3, 4, 5, 6, 7"
    ):
        SCHEMAS["rafdb"].index_of(0)
    with pytest.raises(UnknownExpression, match="no class 'contempt': its classes are neutral, happiness"):
        SCHEMAS["rafdb"].code_of("contempt")


@pytest.mark.parametrize(
    ("word", "name"),
    [("Happy", "happiness"), (" ANGRY ", "anger"), ("joy", "happiness"), ("Sad", "sadness"), ("fear", "fear"),
     ("Surprised", "surprise"), ("afraid", "fear"), ("contemptuous", "contempt"), ("disgusted", "disgust")],
)  # fmt: skip
def test_variants_of_a_word_are_one_label(word: str, name: str) -> None:
    assert labels.canonical(word) == name
    assert labels.index_of(word) == EXPRESSIONS.index(name)


def test_an_unknown_word_lists_the_labels() -> None:
    with pytest.raises(
        UnknownExpression, match="'bored' is not an expression label: use one of neutral, happiness"
    ):
        labels.canonical("bored")


def test_the_basic_view_leaves_out_contempt_only() -> None:
    assert (*BASIC, "contempt") == EXPRESSIONS
    assert EXPRESSIONS[labels.NEUTRAL] == "neutral"


def test_the_circumplex_has_the_known_signs() -> None:
    assert set(CIRCUMPLEX) == set(EXPRESSIONS)
    assert all(-1 <= value <= 1 for pair in CIRCUMPLEX.values() for value in pair)
    assert CIRCUMPLEX["neutral"] == (0, 0)
    assert {name for name, (valence, _) in CIRCUMPLEX.items() if valence > 0} == {"happiness", "surprise"}
    assert {name for name, (_, arousal) in CIRCUMPLEX.items() if arousal < 0} == {"sadness"}


def test_examples_in_the_documentation_hold() -> None:
    assert doctest.testmod(labels).failed == 0


@pytest.mark.parametrize(
    ("word", "meant"), [("happyness", "happiness"), ("Angre", "anger"), ("suprised", "surprise")]
)
def test_a_misspelt_word_is_suggested(word: str, meant: str) -> None:
    with pytest.raises(UnknownExpression, match=f"did you mean '{meant}'"):
        labels.canonical(word)


def test_a_word_like_none_gets_the_list_alone() -> None:
    with pytest.raises(UnknownExpression, match="label: use one of neutral"):
        labels.canonical("zzz")
