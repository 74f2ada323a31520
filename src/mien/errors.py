"""Exceptions that a user can fix: every message names the cause and the remedy.

A batch turns a `MienError` into a row with the message in its `error` column; a single call raises it.
Any other exception is a bug.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from mien.urls import without_secrets


def shortened(text: str, word: int = 300, whole: int = 4000) -> str:
    """The text without the middle of each word over `word` characters, and then of the whole if over `whole`."""
    text = re.sub(rf"\S{{{word + 1},}}", lambda match: _without_middle(match[0]), text)
    return text if len(text) <= whole else _without_middle(text)


def _without_middle(text: str) -> str:
    return f"{text[:120]}[... {len(text) - 220:,} characters ...]{text[-100:]}"


class MienError(Exception):
    """Base of every error that a user can fix. The message is one line and says what to do."""

    def __str__(self) -> str:
        # Messages contain file names, keys and values from outside: line breaks are escaped, secrets in URLs removed,
        # and long text pasted in place of a path, such as a picture in base64, shortened.
        return shortened(without_secrets("\\n".join(super().__str__().splitlines())))


class ImageError(MienError):
    """A picture could not be read, or is too large to read safely."""


class TooLarge(ImageError):
    """A picture has more pixels than the limit; it was not decoded."""


class NotAPicture(ImageError):
    """A file is not a picture, or has a format that this installation cannot read."""


class NoFace(MienError):
    """No face was found and the caller asked for that to be an error."""


class OutputExists(MienError):
    """An output exists already, or would replace an input."""


class DatasetNotFound(MienError):
    """A folder does not hold the dataset it was passed as; the message names what is missing."""


class DatasetDamaged(MienError):
    """A dataset's files are there but contradict its published layout."""


class ConfigError(MienError):
    """A configuration key or value is wrong; the message names the nearest right one."""


class WeightsError(MienError):
    """A weight file is missing, damaged, tampered with, or made for something else."""


class LoadError(MienError):
    """A library cannot be imported, or there is not enough memory."""


class ExtraMissing(MienError):
    """A command needs an optional dependency group that is not installed."""

    def __init__(self, extra: str, module: str) -> None:
        super().__init__(f"this needs '{module}': install it with  pip install 'mien[{extra}]'")
        self.extra = extra


class TrainingError(MienError):
    """Training cannot continue (NaN loss, disk full); the last good checkpoint is kept."""


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Turn a failed import or allocation within the block into a LoadError that names `what` and the cause."""
    try:
        yield
    except ImportError as problem:
        package = (problem.name or "").partition(".")[0]
        remedy = f"install '{package}' again" if package else "install the library that it names"
        raise LoadError(f"{what} cannot be loaded: {problem}: {remedy}") from problem
    except MemoryError as problem:
        raise LoadError(f"{what}: out of memory: free some, or raise the limit") from problem


def similar(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most similar, ignoring case; None if none is close."""
    import difflib

    by_case = {name.casefold(): name for name in known}
    return next((by_case[name] for name in difflib.get_close_matches(word.casefold(), by_case, n=1)), None)


def nearest(word: str, known: list[str]) -> str:
    """A hint that names the most similar known word, or lists them all."""
    return (
        f"did you mean '{close}'?"
        if (close := similar(word, known))
        else f"known: {', '.join(sorted({*known}))}"
    )
