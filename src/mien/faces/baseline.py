"""A person's own neutral face: which pictures show it, and what each picture is compared with.

Faces at rest differ: some look sad or smile when nothing moves. What changed from the same person's neutral face is
free of that. A baseline is given as

- one or more pictures of one person's neutral face, averaged: every face is compared with it;
- or a table (.csv, .parquet) of pictures of several people with the columns `path`, `person` and `neutral`: the faces
  of a picture are compared with the mean of the neutral pictures of its person. `subject` and `identity` are
  understood for `person`. A picture that the table does not name, and a person without a neutral picture, have no
  change.

A neutral picture must show one face: with several, nothing tells which is the person's.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mien.errors import ConfigError, MienError
from mien.io import inputs
from mien.io.images import describe
from mien.io.manifests import MANIFESTS, Manifest
from mien.labels import listed
from mien.types import NeutralFace
from mien.urls import without_secrets

if TYPE_CHECKING:
    from mien.faces.pipeline import Picture, Pipeline

Given = str | os.PathLike[str] | Sequence["str | os.PathLike[str]"]
"""One or more pictures of a neutral face, or one table."""

PERSON_COLUMNS: Final = ("person", "subject", "identity")
NEUTRAL_COLUMN: Final = "neutral"

_FLAGS: Final = {
    **dict.fromkeys(("true", "yes", "1"), True),
    **dict.fromkeys(("false", "no", "0", ""), False),
}


@dataclass(frozen=True)
class NeutralPictures:
    """Which pictures show the neutral face of each person.

    Attributes:
        neutral: paths by person; "" is the only person where no table says who is where.
        persons: the person of each picture by its place (see `mien.io.inputs.place`); None where every picture is of
            one person.
        pictures: all paths of the table, in its order; empty where there is none.
        table: its path, or None.
    """

    neutral: dict[str, tuple[str, ...]]
    persons: dict[str, str] | None = None
    pictures: tuple[str, ...] = ()
    table: Path | None = None

    @classmethod
    def read(cls, given: Given) -> NeutralPictures:
        """Read the table, or take the pictures as they are; no picture is opened.

        Raises:
            ConfigError: pixels or bytes instead of paths; a table among pictures, without the three columns, or
                without a neutral picture; or a cell says neither yes nor no.
        """
        paths: Sequence[object] = given if isinstance(given, list | tuple) else [given]
        names = [os.fspath(path) for path in paths if isinstance(path, str | os.PathLike)]
        if len(names) < len(paths):
            raise ConfigError(
                "a baseline is given as paths: of pixels or bytes make one with pipeline.baseline(...), and compare "
                "with analysis.relative_to(...)"
            )
        tables = [Path(name) for name in names if Path(name).suffix.lower() in MANIFESTS]
        if not names:
            raise ConfigError("the baseline names no picture: name one of the person's neutral face")
        if not tables:
            return cls({"": tuple(names)})
        if len(names) > 1:
            raise ConfigError(
                f"{describe(tables[0])}: a table is a baseline alone: give one table, or pictures"
            )
        return cls._of_table(tables[0])

    @classmethod
    def _of_table(cls, path: Path) -> NeutralPictures:
        try:
            table = Manifest(path.read_bytes(), path.suffix.lower())
            columns = [
                table.column(names) for names in (inputs.PATH_COLUMNS, PERSON_COLUMNS, [NEUTRAL_COLUMN])
            ]
            picture, person, neutral = columns
            if picture is None or person is None or neutral is None:
                absent = [
                    name
                    for name, column in zip(("path", "person", "neutral"), columns, strict=True)
                    if column is None
                ]
                raise ConfigError(
                    f"{describe(path)}: no column {listed(absent)}, it has {', '.join(table.names) or 'none'}: a "
                    "baseline needs path, person and neutral (true or false)"
                )
            rows = list(table.rows(picture, person, neutral))
        except (OSError, ValueError, csv.Error) as problem:
            reason = getattr(problem, "strerror", None) or str(problem)
            raise ConfigError(f"{describe(path)}: this table cannot be read: {reason.lower()}") from None
        return cls._of_rows(path, rows)

    @classmethod
    def _of_rows(cls, path: Path, rows: Iterable[tuple[int, tuple[str, ...]]]) -> NeutralPictures:
        shown: dict[str, tuple[str, ...]] = {}
        persons: dict[str, str] = {}
        pictures = []
        for line, (name, person, flag) in rows:
            if not name:
                raise ConfigError(
                    f"{describe(path)}: row {line} names no picture: fill it in, or take it out"
                )
            if flag.lower() not in _FLAGS:
                raise ConfigError(f"{describe(path)}: row {line}: neutral is '{flag}': write true or false")
            picture = name if "://" in name else str(path.parent / name)
            pictures.append(picture)
            if not person:
                continue
            persons[_place(picture)] = person
            if _FLAGS[flag.lower()]:
                shown[person] = (*shown.get(person, ()), picture)
        if not shown:
            raise ConfigError(
                f"{describe(path)}: no row of a person is marked neutral: write true in the column neutral"
            )
        return cls(shown, persons, tuple(pictures), path)

    def person_of(self, picture: Picture) -> str | None:
        """Who a picture shows; None where the table does not say."""
        if self.persons is None:
            return ""
        name = picture if isinstance(picture, str | os.PathLike) else getattr(picture, "name", None)
        return self.persons.get(_place(os.fspath(name))) if isinstance(name, str | os.PathLike) else None

    @property
    def without_neutral(self) -> list[str]:
        """People in the table who have no neutral picture, in alphabetical order."""
        return sorted({*(self.persons or {}).values()} - self.neutral.keys())

    def settings(self) -> dict[str, Any]:
        """What identifies the baseline, for the record of a table: the method, its files' names, and a hash of their
        contents and of who is in each picture."""
        files = [path for paths in self.neutral.values() for path in paths]
        digest = hashlib.sha256()
        for path in ([] if self.table is None else [str(self.table)]) + files:
            digest.update((inputs.identity(path) or "").partition("-")[0].encode() + b"\n")
        if self.table is None:
            named: dict[str, Any] = {"method": "pictures", "pictures": [Path(path).name for path in files]}
        else:
            named = {"method": "table", "table": self.table.name, "persons": len(self.neutral)}
        return {**named, "sha256": digest.hexdigest()}


def _place(picture: str | os.PathLike[str]) -> str:
    name = os.fspath(picture)
    return without_secrets(name) if "://" in name else inputs.place(name)


class Baselines:
    """The baseline of each picture, read by a pipeline when it is first needed."""

    def __init__(self, pictures: NeutralPictures) -> None:
        self.pictures = pictures
        self._known: dict[str, NeutralFace | MienError] = {}

    @classmethod
    def of_face(cls, neutral: NeutralFace) -> Baselines:
        """Baselines that compare every picture with one neutral face."""
        baselines = cls(NeutralPictures({"": ()}))
        baselines._known[""] = neutral
        return baselines

    def of(self, person: str | None, pipeline: Pipeline) -> NeutralFace | None:
        """The baseline of a person (see `NeutralPictures.person_of`); None where there is none.

        Raises:
            MienError: as `Pipeline.baseline`, each time.
        """
        if person is None or person not in self.pictures.neutral:
            return None
        if person not in self._known:
            try:
                self._known[person] = pipeline.baseline(self.pictures.neutral[person], person)
            except MienError as problem:
                self._known[person] = problem
        known = self._known[person]
        if isinstance(known, MienError):
            raise known
        return known
