"""The one place where expressions are named, ordered and mapped between datasets' codes.

Inside `mien` an expression is an index into `EXPRESSIONS` (the FERPlus order). Every dataset's own numbering is a
`LabelSchema` that translates at the door, so that a bare integer never crosses a module boundary unexplained.

An expression label describes what a face shows to an observer. It does not say what the person feels.
"""

from __future__ import annotations

from dataclasses import dataclass

from mien.errors import MienError

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
"""The expression index of an image whose expression is not known."""

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
