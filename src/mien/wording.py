"""Format numbers in sentences, the same wherever `mien` prints them."""

from __future__ import annotations


def several(number: int, word: str, plural: str | None = None) -> str:
    """A count with its noun, in the plural if necessary.

    >>> several(1, "frame"), several(1200, "frame"), several(0, "person", "people")
    ('1 frame', '1,200 frames', '0 people')
    """
    return f"{number:,} {word if number == 1 else plural or word + 's'}"


def fixed(value: float, digits: int = 2) -> str:
    """A number with `digits` decimal places, without a negative zero.

    >>> fixed(-0.004), fixed(-0.006)
    ('0.00', '-0.01')
    """
    return f"{round(value, digits) + 0.0:.{digits}f}"


def signed(value: float | None, digits: int = 2) -> str:
    """`fixed` with its sign; "-" for a missing value (None or NaN).

    >>> signed(0.714), signed(-0.004), signed(None)
    ('+0.71', '+0.00', '-')
    """
    return "-" if value is None or value != value else f"{round(value, digits) + 0.0:+.{digits}f}"
