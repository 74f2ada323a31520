"""The numbering of expressions in each dataset.

Tests: tests/test_labels.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from mien.labels import EXPRESSIONS, UNLABELLED, UnknownExpression, canonical


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
        """Translate a dataset's code to an index in `EXPRESSIONS`; `UNLABELLED` for a code that is not an expression.

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
