"""The rules that turn ten crowd votes into one class, or into a share of each class, or drop the picture.

All take the counts for the eight `EXPRESSIONS` followed by "unknown" and "not a face" and return a `Verdict`.
"majority" and "crossentropy" are FERPlus's own (github.com/microsoft/FERPlus, src/ferplus.py, MIT: read for its
behaviour); the two "argmax" rules are used by papers with other picture counts. Papers rarely state the rule; a
protocol does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

CLASSES = 8


class Verdict(NamedTuple):
    """The class and the share of each of the eight classes (summing to 1, or () where nobody voted for any)."""

    expression: int
    shares: tuple[float, ...]


def shares_of(votes: Sequence[float]) -> tuple[float, ...]:
    """Scale counts to sum to 1; () when all are zero.

    >>> shares_of([3, 1])
    (0.75, 0.25)
    """
    total = sum(votes)
    return tuple(vote / total for vote in votes) if total > 0 else ()


def without_single(votes: Sequence[float]) -> list[float]:
    """Set counts of one to zero: a single vote among ten is treated as a mistake."""
    return [vote if vote > 1 else 0.0 for vote in votes]


def majority(votes: Sequence[float]) -> Verdict | None:
    """FERPlus "majority": drop single votes, then the top entry needs more than half of the rest.

    None when no entry has that, or when the entry is unknown or not a face.

    >>> majority([0, 6, 2, 1, 0, 0, 0, 0, 1, 0]).expression
    1
    >>> majority([5, 0, 0, 5, 0, 0, 0, 0, 0, 0]) is None
    True
    """
    kept = without_single(votes)
    top = max(kept)
    winner = kept.index(top)
    if top <= 0.5 * sum(kept) or winner >= CLASSES:
        return None
    return Verdict(winner, shares_of(kept[:CLASSES]))


def crossentropy(votes: Sequence[float]) -> Verdict | None:
    """FERPlus "probability" and "crossentropy": the fewest top entries that together hold three quarters of the votes.

    Entries are taken from the largest down, equal ones together, until 75 % is reached, or three are taken, or one is
    unknown / not a face; that one only counts when it comes first. None when what was taken is at most half of the
    votes or, through equal ones, more than three entries, or when its largest entry is unknown or not a face.
    """
    left = without_single(votes)
    total = sum(left)
    taken = [0.0] * len(left)
    count, gathered, real = 0, 0.0, True
    while gathered < 0.75 * total and count < 3 and real:
        top = max(left)
        for index, vote in enumerate(left):
            if vote != top:
                continue
            taken[index], left[index] = top, 0.0
            gathered += top
            count += 1
            if index >= CLASSES:
                real = False
                if sum(taken) > top:
                    taken[index] = 0.0
                    count -= 1
                break
    if sum(taken) <= 0.5 * total or count > 3:
        return None
    winner = taken.index(max(taken))
    return None if winner >= CLASSES else Verdict(winner, shares_of(taken[:CLASSES]))


def argmax8(votes: Sequence[float]) -> Verdict | None:
    """The most voted of the eight classes, the first on a tie; drops nothing.

    A picture without a vote for any of the eight becomes class 0, as in code that uses this rule (3 pictures in
    FERPlus).
    """
    eight = list(votes[:CLASSES])
    return Verdict(eight.index(max(eight)), shares_of(eight))


def argmax10(votes: Sequence[float]) -> Verdict | None:
    """The most voted of all ten entries, the first on a tie; None when that is unknown or not a face."""
    winner = list(votes).index(max(votes))
    return None if winner >= CLASSES else Verdict(winner, shares_of(votes[:CLASSES]))


def shares8(votes: Sequence[float]) -> Verdict | None:
    """The most voted of the eight classes with the shares of all their votes, single ones too.

    None if unknown and not-a-face together have more than half. Our choice, for training: the single votes and the
    pictures without a majority contain much of the information about rare classes.
    """
    if sum(votes[:CLASSES]) <= 0.5 * sum(votes):
        return None
    return argmax8(votes)


RULES: dict[str, Callable[[Sequence[float]], Verdict | None]] = {
    "majority": majority,
    "crossentropy": crossentropy,
    "argmax8": argmax8,
    "argmax10": argmax10,
    "shares8": shares8,
}
