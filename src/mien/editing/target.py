"""Targets of edits: strengths of expressions and facial actions, from words, blends, valence and arousal, or another
face."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from mien.actions import ACTIONS, GAZE, named
from mien.editing.geometry import ACTIVE
from mien.errors import ConfigError
from mien.labels import CIRCUMPLEX, canonical

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mien.types import Reading

Mouth = Literal["auto", "keep", "open", "close"]
MAX_INTENSITY: Final = 1.25
"""Highest intensity of an edit: 1 is a full expression. Our choice."""
OPENS_ABOVE: Final = {"happiness": 0.5, "surprise": 0.7, "fear": 0.7}
"""Strength above which closed lips part by themselves, for expressions with parted lips in their full form."""
OPEN_GAP: Final = {
    "happiness": 0.13,
    "surprise": 0.17,
    "sadness": 0.05,
    "anger": 0.08,
    "disgust": 0.07,
    "fear": 0.12,
    "contempt": 0.0,
}
"""Lip gap of the open-mouthed form of each expression at intensity 1, in eye distances."""
SHOWN: Final = 0.9
"""How much of an expression that reads as full is removed, as full strength of an edit is more than most faces show."""
ASKED: Final = (0.0, 0.3, 0.5, 0.7, 1.0)
"""Intensities at which `STRENGTHS` gives the strength."""
STRENGTHS: Final[dict[str, tuple[float, ...]]] = {
    "happiness": (0.00, 0.60, 0.67, 0.75, 1.00),
    "surprise": (0.00, 0.71, 0.77, 0.86, 1.00),
    "sadness": (0.00, 0.30, 0.41, 0.53, 1.00),
    "anger": (0.00, 0.52, 0.60, 0.70, 1.00),
    "disgust": (0.00, 0.46, 0.55, 0.63, 1.00),
    "fear": (0.00, 0.72, 0.82, 0.89, 1.00),
    "contempt": (0.00, 0.58, 0.70, 0.80, 1.00),
}
"""Strength of the displacement that reads as each of `ASKED`, as a share of the reading at 1; linear between them.
Readings rise late and steeply: half the displacement of the lips does not read as half a smile. Fitted on
neutral DiffusionFER faces with the shipped recogniser (`python -m mien.training.editor.fit_strengths`): 20 that are
read as neutral with 0.92 or more; happiness on 24 with 0.7 or more, as with 0.72 at 0.7 a test clip flickers."""
BARES: Final = ("happiness", "fear", "anger", "disgust")
"""Expressions that show the teeth when the lips part; the others show the mouth's cavity."""


@dataclass(frozen=True)
class Target:
    """Strengths by expression, each in 0..1, and values of facial actions, each in -1..1; without any it is neutral.
    `text` is the request as given. `gaze` (across, up), each in -1..1, turns the eyes by up to 15 degrees from where
    they look; with `keeps` that is all, and the expression stays.
    """

    strengths: dict[str, float] = field(default_factory=dict)
    text: str = "neutral"
    actions: dict[str, float] = field(default_factory=dict)
    gaze: tuple[float, float] = (0.0, 0.0)
    keeps: bool = False

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read "happiness", "neutral", or a blend such as "happiness:0.5,surprise:0.5".

        Raises:
            ConfigError: a part is not an expression, or its share is not a number in 0..1.
        """
        strengths: dict[str, float] = {}
        for part in text.split(","):
            word, sign, number = part.partition(":")
            try:
                share = float(number) if sign else 1.0
            except ValueError:
                raise ConfigError(
                    f"'{part}' is not expression:share: write for example happiness:0.5"
                ) from None
            if not 0 <= share <= 1:
                raise ConfigError(f"'{part}': a share lies in 0 to 1; raise the intensity instead")
            name = canonical(word)
            if name != "neutral":
                strengths[name] = strengths.get(name, 0.0) + share
        return cls(strengths, text)

    @classmethod
    def of_affect(cls, valence: float, arousal: float) -> Target:
        """The weakest blend with the circumplex position (valence, arousal), both in -1..1.

        The expressions' positions are `mien.labels.CIRCUMPLEX`; if no blend reaches the point, the closest is used.

        Raises:
            ConfigError: a coordinate lies outside -1..1.
        """
        if not (-1 <= valence <= 1 and -1 <= arousal <= 1):
            raise ConfigError(f"valence {valence} and arousal {arousal} must lie in -1 to 1")
        # Contempt and disgust lie in almost the same direction from neutral; the more legible one is used for both.
        names = [name for name in ACTIVE if name not in ("contempt", "disgust")]
        places = np.array([CIRCUMPLEX[name] for name in names]).T
        strengths = _least_strengths(places, np.array([valence, arousal]))
        blend = {name: round(float(s), 3) for name, s in zip(names, strengths, strict=True) if s > 1e-3}
        return cls(blend, f"valence {valence:g}, arousal {arousal:g}")

    @classmethod
    def of_actions(cls, values: Mapping[str, float], text: str = "") -> Target:
        """A value for each named action (`mien.actions.named`), or with `relative` how much to add to it.

        Raises:
            ConfigError: a name is no action or a direction of gaze, or a value lies outside -1..1.
        """
        actions: dict[str, float] = {}
        for name, value in values.items():
            if not -1 <= value <= 1:
                raise ConfigError(
                    f"{name}={value:g}: a facial action lies in 0 to 1, a change of one in -1 to 1"
                )
            for action in named(name):
                if action.startswith(GAZE):
                    raise ConfigError(f"{name}: the direction of the eyes cannot be edited")
                actions[action] = float(value)
        stated = ",".join(f"{name}={value:g}" for name, value in values.items())
        return cls({}, text or stated, actions)

    @classmethod
    def parse_actions(cls, text: str) -> Target:
        """Read "smile=0.6,browInnerUp=0.4".

        Raises:
            ConfigError: a part is not action=value, or as for `of_actions`.
        """
        values: dict[str, float] = {}
        for part in text.split(","):
            name, sign, number = part.partition("=")
            try:
                values[name.strip()] = float(number) if sign else math.nan
            except ValueError:
                values[name.strip()] = math.nan
            if not math.isfinite(values[name.strip()]):
                raise ConfigError(f"'{part}' is not action=value: write for example smile=0.6")
        return cls.of_actions(values, text)

    @classmethod
    def of_gaze(cls, across: float, up: float) -> Target:
        """Eyes turned to the right of the picture (the person's own left) and up, in units of 15 degrees; negative
        values turn them to the left and down. The expression stays, unless it is joined with `&`.

        Raises:
            ConfigError: a value lies outside -1..1.
        """
        if not (-1 <= across <= 1 and -1 <= up <= 1):
            raise ConfigError(f"gaze {across:g},{up:g}: both lie in -1 to 1, 1 is 15 degrees")
        return cls({}, f"gaze {across:g},{up:g}", gaze=(float(across), float(up)), keeps=True)

    @classmethod
    def parse_gaze(cls, text: str) -> Target:
        """Read "0.5,-0.2".

        Raises:
            ConfigError: these are not two numbers, or as for `of_gaze`.
        """
        try:
            across, up = (float(part) for part in text.split(","))
        except ValueError:
            across = up = math.nan
        if not (math.isfinite(across) and math.isfinite(up)):
            raise ConfigError(f"gaze '{text}' is not across,up: write for example 0.5,0")
        return cls.of_gaze(across, up)

    @classmethod
    def of_face(cls, reading: Reading, name: str) -> Target:
        """The measured actions of another face, without gaze; `name` is how the request is called.

        Raises:
            ConfigError: the reading has no actions.
        """
        actions = {
            action: value
            for action, value in reading.actions.items()
            if value is not None and not action.startswith(GAZE)
        }
        if not actions:
            raise ConfigError(f"{name}: its facial actions were not measured: load mien with actions=True")
        return cls({}, f"like {name}", actions)

    def __and__(self, other: Target) -> Target:
        """Both targets together; an action of `other` replaces the same of this one, and so does its gaze."""
        text = " and ".join(target.text for target in (self, other))
        return Target(
            self.strengths | other.strengths,
            text,
            self.actions | other.actions,
            other.gaze if any(other.gaze) else self.gaze,
            self.keeps and other.keeps,
        )

    def __str__(self) -> str:
        return self.text

    @property
    def is_neutral(self) -> bool:
        """Whether the target is neutral."""
        return not any(self.strengths.values()) and not self.actions and not self.keeps

    def action_changes(
        self, measured: Mapping[str, float | None], relative: bool = False
    ) -> NDArray[np.float64]:
        """How much to add to each of `ACTIONS` [52], given the measured values; what is not measured counts as 0."""
        changes = np.zeros(len(ACTIONS))
        for name, value in self.actions.items():
            changes[ACTIONS.index(name)] = value if relative else value - (measured.get(name) or 0.0)
        return changes

    @property
    def teeth(self) -> float:
        """Share of the expressions that show the teeth, which selects the mouth interior."""
        total = sum(self.strengths.values())
        return sum(self.strengths.get(name, 0.0) for name in BARES) / total if total else 0.0

    def check(self, intensity: float) -> None:
        """Refuse an intensity outside 0..1.25.

        Raises:
        ConfigError: it is outside.
        """
        if not 0 <= intensity <= MAX_INTENSITY:
            raise ConfigError(f"intensity is {intensity}: pass 0 to {MAX_INTENSITY}")


def strength_of(name: str, intensity: float) -> float:
    """The strength of displacement for an `intensity` of an expression: 0 at 0, 1 at 1, equal above."""
    return float(np.interp(intensity, ASKED, STRENGTHS[name])) if intensity < 1 else intensity


def change_for(
    target: Target, current: NDArray[np.float64], intensity: float, relative: bool = False
) -> NDArray[np.float64]:
    """Change of the strengths [K] of `ACTIVE`, given the current ones.

    At zero intensity nothing changes; the current expression is replaced as the requested one grows, or kept if
    `relative`.
    """
    if target.is_neutral:
        return -SHOWN * current * min(intensity, 1.0)
    if not target.strengths:  # actions and gaze alone keep the rest of the face
        return np.zeros(len(ACTIVE))
    asked = np.array([target.strengths.get(name, 0.0) * strength_of(name, intensity) for name in ACTIVE])
    if relative:
        return asked
    # The request is compared with the displacement that is read, so that a face that already shows it is not changed.
    return np.asarray(asked - np.where(asked > 0, 1.0, SHOWN) * current * min(1.0, intensity / 0.3))


def smile_leaves(target: Target, current: NDArray[np.float64], intensity: float) -> float:
    """How far, 0 to 1, a smile is replaced by another expression; its parted lips close with it, as they fit no other
    expression."""
    if not target.strengths:
        return 0.0
    smile = float(current[ACTIVE.index("happiness")]) * (1 - target.strengths.get("happiness", 0.0))
    return min(1.0, intensity / 0.3) * float(np.clip((smile - 0.2) / 0.4, 0, 1))


def _least_strengths(places: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Non-negative strengths [K] with `places` [2, K] @ strengths close to `wanted` [2] and a small sum of squares.

    Projected gradient descent on |places s - wanted|^2 + 0.01 |s|^2: with two equations a few hundred steps are exact
    enough.
    """
    strengths = np.zeros(places.shape[1])
    step = 1 / (np.linalg.norm(places, 2) ** 2 + 0.01)
    for _ in range(2000):
        slope = places.T @ (places @ strengths - wanted) + 0.01 * strengths
        strengths = np.clip(strengths - step * slope, 0, 1)
    return np.asarray(strengths)


def lips_for(target: Target, intensity: float, mouth: Mouth, now: float) -> float:
    """The lip gap to aim for, in eye distances, given the current gap `now`."""
    if mouth == "keep":
        return now
    if mouth == "close":
        return 0.0
    total = sum(target.strengths.values())
    opened = sum(s * OPEN_GAP[name] for name, s in target.strengths.items()) / total if total else 0.12
    if mouth == "open":
        # At zero intensity a requested opening has no effect, so that intensity is a smooth control.
        return max(now, opened * min(1.0, intensity / 0.3))
    if target.is_neutral:
        return now * (1 - min(intensity, 1.0))
    asked = intensity * min(total, 1.0)
    grown = sum(
        s
        / total
        * float(
            np.clip(
                (strength_of(name, asked) - OPENS_ABOVE[name]) / (1 - OPENS_ABOVE[name]), 0, MAX_INTENSITY
            )
        )
        for name, s in target.strengths.items()
        if name in OPENS_ABOVE
    )
    return max(now, now + grown * max(opened - now, 0.0))
