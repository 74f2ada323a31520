"""The 52 facial actions: names, sides, mirroring, and the action units that follow from them.

An **action** is one movement of a face in 0..1, under ARKit's name, which others have adopted: 0 is a face at rest, 1
the movement at its maximum. `Left` and `Right` are the subject's own. **Action units** are those of the Facial Action
Coding System (Ekman, Friesen and Hager 2002), derived from the actions by `UNITS`, a fixed and numbered map: `AU12` is
both sides together, `AU12_L` and `AU12_R` are the subject's left and right.

An action that cannot be measured has the value None, and so has every unit that needs it; the card of the weights and
`docs/actions.md` state how accurately each action is measured.

Tests: tests/test_actions.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError, similar


def _sided(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}{side}" for name in names for side in ("Left", "Right"))


ACTIONS: Final[tuple[str, ...]] = (
    *_sided("browDown"), "browInnerUp", *_sided("browOuterUp"), "cheekPuff", *_sided("cheekSquint"),
    *_sided("eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide"),
    "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", *_sided("mouthDimple", "mouthFrown"),
    "mouthFunnel", "mouthLeft", *_sided("mouthLowerDown", "mouthPress"), "mouthPucker", "mouthRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    *_sided("mouthSmile", "mouthStretch", "mouthUpperUp", "noseSneer"), "tongueOut",
)  # fmt: skip
"""ARKit's names in alphabetical order."""


def other_side(name: str) -> str:
    """The action that this one becomes in a mirrored picture; the same action if it has no side.

    >>> other_side("mouthSmileLeft"), other_side("jawRight"), other_side("jawOpen")
    ('mouthSmileRight', 'jawLeft', 'jawOpen')
    """
    if name.endswith("Left"):
        return name.removesuffix("Left") + "Right"
    return name.removesuffix("Right") + "Left" if name.endswith("Right") else name


MIRROR: Final[NDArray[np.intp]] = np.array([ACTIONS.index(other_side(name)) for name in ACTIONS])
"""Mirroring a picture turns action ``i`` into action ``MIRROR[i]``."""

_DIRECTIONS: Final = ("jawLeft", "jawRight", "mouthLeft", "mouthRight")

SIDES: Final[Mapping[str, tuple[str, ...]]] = {
    **{
        name.removesuffix("Left"): (name, other_side(name))
        for name in ACTIONS
        if name.endswith("Left") and name not in _DIRECTIONS
    },
    **{name: (name,) for name in ACTIONS if name in _DIRECTIONS or not name.endswith(("Left", "Right"))},
}
"""Each movement by its name without a side: its actions, left first; "jawLeft" names a direction, not a side."""

GAZE: Final = "eyeLook"
"""How the actions begin that say where a face looks."""

WORDS: Final[Mapping[str, str]] = {
    "browInnerUp": "inner brows raised",
    "browDown": "brows lowered",
    "browOuterUp": "outer brows raised",
    "eyeBlink": "eyes closed",
    "eyeWide": "eyes wide",
    "eyeSquint": "eyes narrowed",
    "cheekSquint": "cheeks raised",
    "noseSneer": "nose wrinkled",
    "cheekPuff": "cheeks puffed",
    "jawOpen": "mouth open",
    "jawForward": "jaw forward",
    "jawLeft": "jaw to the left",
    "jawRight": "jaw to the right",
    "mouthSmile": "smile",
    "mouthFrown": "mouth corners down",
    "mouthPucker": "lips puckered",
    "mouthPress": "lips pressed",
    "mouthUpperUp": "upper lip raised",
    "mouthLowerDown": "lower lip down",
    "mouthStretch": "lips stretched",
    "mouthDimple": "dimples",
    "mouthFunnel": "lips rounded",
    "mouthClose": "lips together",
    "mouthRollUpper": "upper lip in",
    "mouthRollLower": "lower lip in",
    "mouthShrugUpper": "upper lip pushed up",
    "mouthShrugLower": "chin raised",
    "mouthLeft": "mouth to the left",
    "mouthRight": "mouth to the right",
    "tongueOut": "tongue out",
}
"""Each movement of `SIDES` in words for people, but where a face looks; as in the page of the server (our choice)."""

LIDS: Final = [ACTIONS.index(name) for name in _sided("eyeBlink")]
"""The actions that close the eyes, as indices of `ACTIONS`."""

SHUT: Final = 0.6
"""Mean of eyeBlinkLeft and eyeBlinkRight above which the eyes count as shut, and have no gaze. Our choice."""


def named(text: str) -> tuple[str, ...]:
    """The actions that a name stands for.

    >>> named("browInnerUp"), named("mouthSmileLeft")
    (('browInnerUp',), ('mouthSmileLeft',))
    >>> named("mouthSmile"), named("smile"), named("AU12_R")
    (('mouthSmileLeft', 'mouthSmileRight'), ('mouthSmileLeft', 'mouthSmileRight'), ('mouthSmileRight',))

    Args:
        text: an action; a movement without its side, for both; the end of such a name, if only one movement ends so; or
            a unit of `UNITS` that stands for actions. Case does not matter.

    Raises:
        ConfigError: it is none of these.
    """
    word = text.strip().casefold()
    exact = {name.casefold(): (name,) for name in ACTIONS} | {
        name.casefold(): sides for name, sides in SIDES.items()
    }
    if word in exact:
        return exact[word]
    movements = {sides for name, sides in SIDES.items() if word and name.casefold().endswith(word)}
    if len(movements) == 1:
        return movements.pop()
    code, _, side = text.strip().upper().partition("_")
    if code in UNITS and code != PARTED:
        needed = UNITS[code]
        sides = {"": (*needed.both, *needed.left, *needed.right), "L": needed.left, "R": needed.right}
        if sides.get(side):
            return sides[side]
    ends = [name.lstrip(ascii_lowercase) for name in SIDES]
    alone = [end[0].lower() + end[1:] for end in ends if end and ends.count(end) == 1]
    close = similar(text, [*SIDES, *ACTIONS, *UNITS, *alone])
    hint = f"did you mean '{close}'?" if close else f"use an action unit such as AU12, or {', '.join(SIDES)}"
    raise ConfigError(f"'{text}' is no facial action: {hint}")


VERSION: Final = 1
"""Version of `UNITS`, stated in tables and cards; any change of the map gets a new number."""


@dataclass(frozen=True, slots=True)
class Unit:
    """An action unit: its FACS name, and the actions of which it is the mean.

    `left` and `right` are empty for units that FACS defines only for both sides together; those are the mean of `both`.
    Otherwise the unit is the larger of its sides.
    """

    name: str
    left: tuple[str, ...] = ()
    right: tuple[str, ...] = ()
    both: tuple[str, ...] = ()


def _pair(name: str, action: str) -> Unit:
    return Unit(name, (f"{action}Left",), (f"{action}Right",))


PARTED: Final = "AU25"
""""Lips part", the unit without an action of its own, see `unit`."""

UNITS: Final[Mapping[str, Unit]] = {
    "AU01": Unit("inner brow raiser", both=("browInnerUp",)),
    "AU02": _pair("outer brow raiser", "browOuterUp"),
    "AU04": _pair("brow lowerer", "browDown"),
    "AU05": _pair("upper lid raiser", "eyeWide"),
    "AU06": _pair("cheek raiser", "cheekSquint"),
    "AU07": _pair("lid tightener", "eyeSquint"),
    "AU09": _pair("nose wrinkler", "noseSneer"),
    "AU10": _pair("upper lip raiser", "mouthUpperUp"),
    "AU12": _pair("lip corner puller", "mouthSmile"),
    "AU14": _pair("dimpler", "mouthDimple"),
    "AU15": _pair("lip corner depressor", "mouthFrown"),
    "AU16": _pair("lower lip depressor", "mouthLowerDown"),
    "AU17": Unit("chin raiser", both=("mouthShrugLower",)),
    "AU18": Unit("lip pucker", both=("mouthPucker",)),
    "AU20": _pair("lip stretcher", "mouthStretch"),
    "AU22": Unit("lip funneler", both=("mouthFunnel",)),
    "AU24": _pair("lip presser", "mouthPress"),
    PARTED: Unit("lips part", both=("jawOpen", "mouthClose", *_sided("mouthLowerDown", "mouthUpperUp"))),
    "AU26": Unit("jaw drop", both=("jawOpen",)),
    "AU28": Unit("lips suck", both=("mouthRollLower", "mouthRollUpper")),
    "AU29": Unit("jaw thrust", both=("jawForward",)),
    "AU30": Unit("jaw sideways", ("jawLeft",), ("jawRight",)),
    "AU34": Unit("cheek puff", both=("cheekPuff",)),
    "AU43": _pair("eyes closed", "eyeBlink"),
    "AU45": _pair("blink", "eyeBlink"),
    "AU61": Unit("eyes turn left", both=("eyeLookOutLeft", "eyeLookInRight")),
    "AU62": Unit("eyes turn right", both=("eyeLookInLeft", "eyeLookOutRight")),
    "AU63": Unit("eyes up", both=_sided("eyeLookUp")),
    "AU64": Unit("eyes down", both=_sided("eyeLookDown")),
}
"""Our choice of the actions for each unit, from the descriptions of both; units without a matching action (such as AU11
and AU23) are left out. In a still picture a blink (AU45) and closed eyes (AU43) are the same."""


def units(actions: Mapping[str, float | None]) -> dict[str, float | None]:
    """The action units of a face: `AU01`, `AU02_L`, `AU02_R`, `AU02`, ... by `unit`, in the order of `UNITS`.

    Args:
        actions: values by the names of `ACTIONS`; a name that is absent counts as None.
    """
    return {name: unit(actions, name) for name in UNIT_NAMES}


def unit(actions: Mapping[str, float | None], name: str) -> float | None:
    """One action unit in 0..1, or None if an action that it needs has no value.

    AU25 measures how far the lips are apart: the maximum of jawOpen - mouthClose (mouthClose measures how far the lips
    stay together while the jaw is open), mouthLowerDown and mouthUpperUp, each the mean of its sides.

    Args:
        actions: as for `units`.
        name: of `UNIT_NAMES`; another raises KeyError.
    """
    code, _, side = name.partition("_")
    if code == PARTED:
        return _parted(actions)
    needed = UNITS[code]
    if needed.both:
        return _mean(actions, needed.both)
    if side:
        return _mean(actions, {"L": needed.left, "R": needed.right}[side])
    left, right = _mean(actions, needed.left), _mean(actions, needed.right)
    return None if left is None or right is None else max(left, right)


UNIT_NAMES: Final[tuple[str, ...]] = tuple(
    f"{code}{side}" for code, needed in UNITS.items() for side in (("_L", "_R", "") if needed.left else ("",))
)
"""The names of all units and their sides."""


def _mean(actions: Mapping[str, float | None], names: tuple[str, ...]) -> float | None:
    values = [value for name in names if (value := actions.get(name)) is not None]
    return sum(values) / len(names) if len(values) == len(names) else None


def _parted(actions: Mapping[str, float | None]) -> float | None:
    jaw, closed = actions.get("jawOpen"), actions.get("mouthClose")
    lower, upper = (_mean(actions, _sided(name)) for name in ("mouthLowerDown", "mouthUpperUp"))
    if jaw is None or closed is None or lower is None or upper is None:
        return None
    return max(jaw - closed, lower, upper)
