"""Names, order, colours and dataset codes of expressions.

Inside `mien` an expression is an index into `EXPRESSIONS` (the FERPlus order). Every dataset's own numbering is
translated by a `LabelSchema` when it is read.

A network can be trained on any other label set instead (`label_set`): own labels, in any language. What depends on the
eight (vote-derived affect, the circumplex, neutral, the editor) is then omitted or refused.

An expression label describes what a face shows to an observer. It does not say what the person feels.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from colorsys import hls_to_rgb
from dataclasses import dataclass
from typing import Final

from mien.errors import ConfigError, MienError

EXPRESSIONS: tuple[str, ...] = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
)
"""The eight classes in `mien`'s order: that of the FERPlus vote columns."""

NEUTRAL = EXPRESSIONS.index("neutral")

BASIC: tuple[str, ...] = EXPRESSIONS[:7]
"""The seven classes shared by RAF-DB, FER2013, SFEW and AffectNet-7: `EXPRESSIONS` without contempt."""

UNLABELLED = -1
"""The expression index of an image without a known expression."""

CIRCUMPLEX: dict[str, tuple[float, float]] = {
    "neutral": (0.0, 0.0),
    "happiness": (0.8, 0.4),
    "surprise": (0.3, 0.8),
    "sadness": (-0.7, -0.35),
    "anger": (-0.6, 0.65),
    "disgust": (-0.65, 0.35),
    "fear": (-0.6, 0.75),
    "contempt": (-0.5, 0.2),
}
"""Approximate (valence, arousal) of each expression at full intensity, after Russell's circumplex (1980).

Our choice of round values: they are used for vote-derived and rendered affect, never as ground truth of real data.
"""

_SYNONYMS: dict[str, str] = {
    "happy": "happiness",
    "joy": "happiness",
    "sad": "sadness",
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "surprised": "surprise",
    "contemptuous": "contempt",
}


class UnknownExpression(MienError, ValueError):
    """A word or code that names no expression in this vocabulary."""


def canonical(word: str) -> str:
    """Return `mien`'s name of an expression word, whatever its case or common variant.

    >>> canonical("Happy")
    'happiness'

    Raises:
        UnknownExpression: the word names none of the eight classes.
    """
    name = word.strip().lower()
    name = _SYNONYMS.get(name, name)
    if name not in EXPRESSIONS:
        import difflib

        close = difflib.get_close_matches(name, (*EXPRESSIONS, *_SYNONYMS), n=1)
        hint = (
            f"did you mean '{_SYNONYMS.get(close[0], close[0])}'? The labels are" if close else "use one of"
        )
        raise UnknownExpression(f"'{word}' is not an expression label: {hint} {', '.join(EXPRESSIONS)}")
    return name


OWN: Final = "own"
"""Value of `labels` in a configuration that takes the label names from the data."""

LONGEST: Final = 200
"""Longest label, letters: enough for a sentence, and less than file systems accept as a folder's name."""


def label_set(names: Iterable[object], where: str) -> tuple[str, ...]:
    """Check the names of a label set and return them stripped and in Unicode normal form C, in the order given.

    `EXPRESSIONS` is the default set; any other is a set of own labels. Numbers are taken as they are written.

    Raises:
        ConfigError: fewer than two names, an empty one, one with control characters or of more than `LONGEST` letters,
            or two that differ in nothing but case, spaces or Unicode form. The message begins with `where`.
    """
    by_form: dict[str, str] = {}
    for given in names:
        if given is None or isinstance(given, list | dict | tuple | set):
            raise ConfigError(
                f"{where}: {given!r} is not a name: write labels as text, in quotes where needed"
            )
        name = unicodedata.normalize("NFC", _text(given))
        if not form(name):
            raise ConfigError(f"{where}: a label is empty: give every label a name")
        if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name):
            raise ConfigError(
                f"{where}: {name!r} holds a control character: write it as one line of plain text"
            )
        if len(name) > LONGEST:
            raise ConfigError(f"{where}: '{name[:40]}…' has {len(name)} letters: use at most {LONGEST}")
        if form(name) in by_form:
            raise ConfigError(
                f"{where}: '{by_form[form(name)]}' and '{name}' are the same label (case, spaces and Unicode form do "
                "not tell labels apart): keep one"
            )
        by_form[form(name)] = name
    if len(by_form) < 2:
        only = f"only '{next(iter(by_form.values()))}'" if by_form else "no name"
        raise ConfigError(f"{where}: {only}: a label set has two labels or more")
    return tuple(by_form.values())


def _text(given: object) -> str:
    if isinstance(given, bool):
        return str(given).lower()
    return str(int(given) if isinstance(given, float) and given.is_integer() else given).strip()


def form(name: str) -> str:
    """The key by which labels are compared: without case, spaces, invisible characters and Unicode form."""
    seen = unicodedata.normalize("NFKC", name).lower()
    kept = "".join(c for c in seen if unicodedata.category(c) != "Cf" and c not in "\ufe0e\ufe0f")
    return " ".join(unicodedata.normalize("NFKC", kept).split())


def in_order(names: Iterable[str]) -> list[str]:
    """Names in alphabetical order, numbers in them by size: "pain 2" before "pain 10"."""

    def parts(name: str) -> list[tuple[str, int, str]]:
        parts = re.findall(r"(\D*)(\d*)", name)
        return [(text, len(digits.lstrip("0")), digits.lstrip("0")) for text, digits in parts]

    return sorted(names, key=lambda name: (parts(name), name))


def finder(labels: Sequence[str]) -> Callable[[str], int]:
    """A function from a word to its index in `labels`; synonyms are understood where these are `EXPRESSIONS`.

    The function raises UnknownExpression for a word that is none of them, with what to do about it.
    """
    if tuple(labels) == EXPRESSIONS:
        return index_of
    places = {form(name): place for place, name in enumerate(labels)}

    def find(word: str) -> int:
        if form(word) not in places:
            raise UnknownExpression(
                f"'{word}' is none of the labels {listed(labels)}: add it to `labels`, or correct it"
            )
        return places[form(word)]

    return find


def listed(labels: Sequence[str], most: int = 8) -> str:
    """Labels for a message: the first of many, and how many more."""
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return ", ".join(name if len(name) <= 40 else name[:39] + "…" for name in labels[:most]) + more


def difference(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """The difference of two label sets, for a message; "" if they are equal, in the same order."""
    only_ours, only_theirs = [n for n in ours if n not in theirs], [n for n in theirs if n not in ours]
    parts = [f"does not have {listed(only_ours)}"] if only_ours else []
    parts += [f"has {listed(only_theirs)} in addition"] if only_theirs else []
    if not parts and tuple(ours) != tuple(theirs):
        return f"has the same labels in another order ({listed(theirs)})"
    return " and ".join(parts)


HOW_TO_OWN: Final = (
    f"to train labels of your own, set `labels: {OWN}` (or a list of names) in the run configuration"
)


def index_of(word: str) -> int:
    """Return the index of an expression word in `EXPRESSIONS`.

    >>> index_of("surprise")
    2
    """
    return EXPRESSIONS.index(canonical(word))


@dataclass(frozen=True, slots=True)
class LabelSchema:
    """How one dataset numbers its expressions.

    `codes` maps the dataset's own code (as written in its files) to a name in `EXPRESSIONS`, or to None for a code that
    the dataset defines but that is not an expression (unknown, not a face, other).
    """

    name: str
    codes: dict[int, str | None]

    @property
    def classes(self) -> tuple[str, ...]:
        """The expression names of this schema in `mien`'s order."""
        present = set(self.codes.values())
        return tuple(name for name in EXPRESSIONS if name in present)

    def index_of(self, code: int) -> int:
        """Translate a dataset's code to an index in `EXPRESSIONS`; `UNLABELLED` for a code that is no expression.

        >>> RAFDB.index_of(4) == index_of("happiness")
        True

        Raises:
            UnknownExpression: the dataset does not define this code.
        """
        if code not in self.codes:
            known = ", ".join(str(known) for known in sorted(self.codes))
            raise UnknownExpression(f"{code} is not a code of {self.name}: its codes are {known}")
        name = self.codes[code]
        return UNLABELLED if name is None else EXPRESSIONS.index(name)

    def code_of(self, word: str) -> int:
        """Translate an expression word to this dataset's code.

        Raises:
            UnknownExpression: this dataset has no such class.
        """
        name = canonical(word)
        for code, candidate in self.codes.items():
            if candidate == name:
                return code
        raise UnknownExpression(
            f"{self.name} has no class '{name}': its classes are {', '.join(self.classes)}"
        )


FERPLUS = LabelSchema("FERPlus", {**dict(enumerate(EXPRESSIONS)), 8: None, 9: None})
RAFDB = LabelSchema(
    "RAF-DB basic",
    dict(enumerate(("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"), start=1)),
)
FER2013 = LabelSchema(
    "FER2013", dict(enumerate(("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")))
)
AFFECTNET = LabelSchema(
    "AffectNet",
    {
        **dict(
            enumerate(("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt"))
        ),
        8: None,
        9: None,
        10: None,
    },
)
SFEW = LabelSchema(
    "SFEW 2.0", dict(enumerate(("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")))
)
CKPLUS = LabelSchema(
    "CK+",
    dict(enumerate(("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise"))),
)
AFFWILD2 = LabelSchema(
    "Aff-Wild2 EXPR",
    {
        **dict(enumerate(("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise"))),
        7: None,
        -1: None,
    },
)

SCHEMAS: dict[str, LabelSchema] = {
    "ferplus": FERPLUS,
    "rafdb": RAFDB,
    "fer2013": FER2013,
    "affectnet": AFFECTNET,
    "sfew": SFEW,
    "ckplus": CKPLUS,
    "affwild2": AFFWILD2,
}

COLOURS: dict[str, str] = {
    "neutral": "#666666",
    "happiness": "#E69F00",
    "surprise": "#F0E442",
    "sadness": "#0072B2",
    "anger": "#D55E00",
    "disgust": "#009E73",
    "fear": "#CC79A7",
    "contempt": "#56B4E9",
}
"""A colour for each expression: Okabe-Ito, and grey for neutral."""

GOLDEN = 0.618034
"""Step around the hue circle between further labels, which separates any number of them well."""

SERIES: tuple[str, ...] = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#CC79A7",
    "#56B4E9",
    "#666666",
    "#F0E442",
)
"""Colours of other lines (runs, layers), in order of use."""


def colour(name: str, labels: Iterable[str] = EXPRESSIONS) -> str:
    """The colour of a label among `labels`: that of `COLOURS` among the eight, else by its place."""
    if (known := COLOURS.get(name)) is not None and (labels is EXPRESSIONS or set(labels) <= COLOURS.keys()):
        return known
    place = list(labels).index(name)
    if place < len(SERIES):
        return SERIES[place]
    rgb = hls_to_rgb(place * GOLDEN % 1, (0.42, 0.58, 0.32)[place % 3], 0.65)
    return "#" + "".join(f"{round(255 * part):02X}" for part in rgb)
