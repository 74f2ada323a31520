"""Names and order of expressions.

Inside `mien` an expression is an index into `EXPRESSIONS` (the FERPlus order). Every dataset's own numbering is
translated when it is read (`mien.data.label_codes`).

A network can be trained on any other label set instead (`label_set`): own labels, in any language. Features that need
the eight expressions (vote-derived affect, the circumplex, neutral, the editor) are then omitted or refused.

An expression label describes what a face shows to an observer. It does not say what the person feels.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
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
    """A word or code that is not an expression of this vocabulary."""


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
"""Maximum length of a label in letters: enough for a sentence, and short enough for a folder's name."""


def label_set(names: Iterable[object], where: str) -> tuple[str, ...]:
    """Check the names of a label set and return them stripped and in Unicode normal form C, in the order given.

    `EXPRESSIONS` is the default set; any other is a set of own labels. Numbers are taken as they are written.

    Raises:
        ConfigError: fewer than two names, an empty one, one with control characters or of more than `LONGEST` letters,
            or two that differ only in case, spaces or Unicode form. The message begins with `where`.
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
    """Names in natural order, with numbers by value: "pain 2" before "pain 10"."""

    def parts(name: str) -> list[tuple[str, int, str]]:
        parts = re.findall(r"(\D*)(\d*)", name)
        return [(text, len(digits.lstrip("0")), digits.lstrip("0")) for text, digits in parts]

    return sorted(names, key=lambda name: (parts(name), name))


def finder(labels: Sequence[str]) -> Callable[[str], int]:
    """A function from a word to its index in `labels`; synonyms are accepted if these are `EXPRESSIONS`.

    The function raises UnknownExpression, with the remedy, for a word that is not among them.
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
    """Labels for a message: the first `most`, and the number of further ones."""
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
