"""Names, mirroring and action units: each unit is what its actions say, and nothing where one of them is unknown."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mien.actions import ACTIONS, GAZE, MIRROR, SIDES, UNIT_NAMES, UNITS, WORDS, named, other_side, units
from mien.errors import ConfigError


def actions(**values: float) -> dict[str, float | None]:
    return {**dict.fromkeys(ACTIONS, 0.0), **values}


def test_there_are_52_and_mirroring_twice_changes_nothing() -> None:
    assert len(ACTIONS) == len(set(ACTIONS)) == 52
    assert (MIRROR[MIRROR] == np.arange(52)).all()
    for name in ("mouthSmileLeft", "jawLeft", "eyeLookInRight", "mouthLeft"):
        assert ACTIONS[MIRROR[ACTIONS.index(name)]] == other_side(name) != name
    assert {name for name in ACTIONS if other_side(name) == name} >= {"jawOpen", "browInnerUp", "mouthPucker"}


def test_a_unit_with_sides_is_the_stronger_side() -> None:
    said = units(actions(mouthSmileLeft=0.2, mouthSmileRight=0.7))
    assert (said["AU12_L"], said["AU12_R"], said["AU12"]) == (0.2, 0.7, 0.7)
    assert said["AU06"] == 0


def test_a_mirrored_face_has_mirrored_units() -> None:
    values = np.random.default_rng(0).random(52)
    plain = units(dict(zip(ACTIONS, values.tolist(), strict=True)))
    other = units(dict(zip(ACTIONS, values[MIRROR].tolist(), strict=True)))
    for code, unit in UNITS.items():
        if unit.left:
            assert (plain[f"{code}_L"], plain[code]) == (other[f"{code}_R"], other[code])
        elif code not in ("AU61", "AU62"):
            assert plain[code] == pytest.approx(other[code])
    assert plain["AU61"] == pytest.approx(other["AU62"])


@pytest.mark.parametrize(
    ("face", "parted"),
    [
        ({"jawOpen": 0.6}, 0.6),
        ({"jawOpen": 0.6, "mouthClose": 0.6}, 0.0),
        ({"mouthLowerDownLeft": 0.4, "mouthLowerDownRight": 0.2}, 0.3),
        ({}, 0.0),
    ],
)
def test_lips_part_where_the_jaw_or_a_lip_opens_them(face: dict[str, float], parted: float) -> None:
    assert units(actions(**face))["AU25"] == pytest.approx(parted)


def test_what_is_not_known_makes_no_unit() -> None:
    known = {name: (None if name == "cheekSquintLeft" else 0.5) for name in ACTIONS}
    said = units(known)
    assert (said["AU06_L"], said["AU06_R"], said["AU06"]) == (None, 0.5, None)
    assert set(units({}).values()) == {None}
    assert tuple(units({})) == UNIT_NAMES
    assert {action for unit in UNITS.values() for action in (*unit.left, *unit.right, *unit.both)} <= set(
        ACTIONS
    )


def test_sides_hold_each_action_once() -> None:
    assert sorted(name for sides in SIDES.values() for name in sides) == sorted(ACTIONS)
    assert SIDES["mouthSmile"] == ("mouthSmileLeft", "mouthSmileRight")
    assert SIDES["jawLeft"] == ("jawLeft",), "a direction"
    assert all(other_side(sides[0]) == sides[1] for sides in SIDES.values() if len(sides) == 2)


def test_the_words_of_movements_are_those_of_the_page() -> None:
    script = (Path(__file__).parent.parent / "src/mien/server/static/actions.js").read_text(encoding="utf-8")
    groups = script.partition("const GROUPS")[2].partition("const WHOLE")[0]
    assert dict(re.findall(r'(\w+): "([^"]+)"', groups)) == WORDS
    assert {name for name in SIDES if not name.startswith(GAZE)} == set(WORDS)


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("smlie", "smile"),
        ("mouthSmlie", "mouthSmile"),
        ("inerUp", "innerUp"),
        ("jawOpn", "jawOpen"),
    ],
)
def test_a_misspelt_action_is_answered_with_the_nearest(text: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{near}'"):
        named(text)
    assert named(near)


def test_without_a_near_one_every_movement_is_named_once() -> None:
    with pytest.raises(ConfigError, match="action unit such as AU12") as caught:
        named("zzzz")
    assert str(caught.value).count("cheekPuff") == 1
