"""The base of dataset readers: a reader turns a folder into records, and checks its layout first.

A reader recognises which variant of a dataset a folder holds, reads its label files, and returns one `Record` for each
labelled picture. It opens no picture. The selection from the records (which are kept, how votes become a class, which
are test images) is a protocol: see `mien.data.protocols`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mien.data.label_codes import LabelSchema
from mien.data.records import Record, Split
from mien.errors import ConfigError, DatasetDamaged, DatasetNotFound
from mien.labels import EXPRESSIONS, HOW_TO_OWN, UnknownExpression, in_order, listed

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
"""Suffixes of picture files, in lower case."""


@dataclass(frozen=True, slots=True)
class Reader:
    """One dataset's reader; call it with the dataset's folder.

    Attributes:
        name: its key in `mien.data.readers.READERS`.
        title: the dataset's name as its authors write it.
        schema: how the dataset numbers its expressions; None for a set without expression codes of its own.
        description: one line: what it is and who made it.
        wants: the folder to pass, as the end of a sentence "pass ...".
        terms: the owner's terms in one line; the owner's own text is binding.
        variant: names the variant that a folder holds, or None if it is not this dataset.
        read: (root, variant, partial, **options) -> records, in the label files' order.
        official: published number of records by split, before any filter; empty if none is published.
        sizes: (width, height) of the official crops; empty where the set has no fixed crop.
        takes_file: whether `root` may be a single file.
        label_names: the label names found in the data, for sets that can have any labels; None for sets of the eight.
            The `variant` and `read` of a reader with it take `labels`.
    """

    name: str
    title: str
    schema: LabelSchema | None
    description: str
    wants: str
    terms: str
    variant: Callable[[Path], str | None]
    read: Callable[..., list[Record]]
    official: dict[str, int] = field(default_factory=dict)
    sizes: tuple[tuple[int, int], ...] = ()
    takes_file: bool = False
    label_names: Callable[[Path], list[str]] | None = None

    def __call__(
        self,
        root: Path | str,
        *,
        partial: bool = False,
        labels: tuple[str, ...] = EXPRESSIONS,
        **options: Any,
    ) -> list[Record]:
        """Read the dataset under `root`; no picture is opened.

        Args:
            root: the folder that `wants` describes.
            partial: leave out records without a picture on disk, instead of raising an error.
            labels: the labels that the records' `expression` and `votes` refer to; own labels need `label_names`.
            options: options of this dataset; see its module.

        Raises:
            DatasetNotFound: `root` is missing or holds something else; the message names the folder to pass.
            DatasetDamaged: the files contradict the published layout, or labelled pictures are missing.
            ConfigError: an option that this reader does not have.
        """
        root = Path(root)
        variant = self.recognise(root, labels)
        if labels != EXPRESSIONS:
            options["labels"] = labels
        try:
            records = self.read(root, variant, partial, **options)
        except TypeError as problem:
            if "unexpected keyword argument" in str(problem):
                raise ConfigError(f"{self.name}: {str(problem).split(' ', 1)[1]}") from None
            raise
        if not records:
            raise DatasetDamaged(
                f"{root} has the layout of {self.title} but no labelled picture: pass {self.wants}"
            )
        return records

    def holds(self, root: Path, labels: tuple[str, ...] = EXPRESSIONS) -> str | None:
        """The variant of this dataset under `root`, None when it is another."""
        if labels == EXPRESSIONS or self.label_names is None:
            return self.variant(root)
        return self.variant(root, labels)  # type: ignore[call-arg]  # see `label_names`

    def recognise(self, root: Path, labels: tuple[str, ...] = EXPRESSIONS) -> str:
        """Name the variant of this dataset under `root`.

        Raises:
            DatasetNotFound: it holds none; if a neighbouring folder does, the message names that one.
        """
        if not root.is_dir() and not (self.takes_file and root.is_file()):
            what = "is a file, not a folder" if root.exists() else "does not exist"
            raise DatasetNotFound(f"{root} {what}: pass {self.wants}")
        variant = self.holds(root, labels)
        if variant is None:
            if root.is_file():
                raise DatasetNotFound(f"{root} is not {self.title}: pass {self.wants}")
            near = self._neighbour(root)
            # A manifest's labels are in its cells and do not tell whether it is one.
            if not near and self.label_names is not None and not self.takes_file:
                self._say_own(dict.fromkeys(self.label_names(root)), root, labels)
            raise DatasetNotFound(f"{root} does not hold {self.title}: pass {self.wants}{near}")
        return variant

    def _say_own(self, names: Iterable[str], root: Path, labels: tuple[str, ...]) -> None:
        """Raise an error for a folder with sub-folders if none of them has the name of a label."""
        if len(listing := in_order(names)) > 1:
            found = f"{root}: its folders are called {listed(listing)}"
            if labels == EXPRESSIONS:
                raise DatasetNotFound(
                    f"{found}, which are not expression labels: rename them, or {HOW_TO_OWN}"
                )
            raise DatasetNotFound(f"{found}, none of the labels {listed(labels)}: pass {self.wants}")

    def _neighbour(self, root: Path) -> str:
        """A hint if the right folder is one level up or down."""
        for folder in [*sorted(child for child in root.iterdir() if child.is_dir()), root.absolute().parent]:
            if self.variant(folder):
                return f" (did you mean {folder}?)"
        return ""


def rows(path: Path, columns: tuple[str, ...] | None = None) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, row by column name) of a CSV file.

    `columns` names the columns of a file without a header; with a header it names the required ones.
    A first line that begins with the cell `columns[0]` is taken as the header.

    Raises:
        DatasetDamaged: not UTF-8 text, an empty file, a column missing, or a row of another length.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file)
            first = next(lines, None)
            if first is None:
                raise DatasetDamaged(f"{path} is empty: download it again")
            header = [cell.strip() for cell in first]
            if columns is not None and columns[0] not in header:
                if len(first) != len(columns):
                    raise DatasetDamaged(
                        f"{path}: {len(first)} columns and no '{columns[0]}', expected {', '.join(columns)}"
                    )
                header = list(columns)
                yield 1, dict(zip(header, first, strict=True))
            missing = [column for column in columns or () if column not in header]
            if missing:
                raise DatasetDamaged(
                    f"{path} has no column '{missing[0]}': expected {', '.join(columns or ())}"
                )
            for cells in lines:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(header):
                    raise DatasetDamaged(
                        f"{path}:{lines.line_num}: {len(cells)} cells instead of {len(header)}: download it again"
                    )
                yield lines.line_num, dict(zip(header, cells, strict=True))
    except (UnicodeDecodeError, csv.Error) as problem:
        raise DatasetDamaged(f"{path} is not a CSV file: {problem}") from None


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, stripped text) of the lines of a text file that are not blank.

    Raises:
        DatasetDamaged: the file is not UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DatasetDamaged(f"{path} is not a text file: download it again") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line.strip()


def whole(text: str, where: str) -> int:
    """Read an integer of a label file; `where` is its file and line for the message."""
    try:
        return int(text.strip())
    except ValueError:
        raise DatasetDamaged(f"{where}: '{text}' is not a whole number") from None


def decimal(text: str, where: str) -> float:
    """Read a number of a label file; `where` is its file and line for the message."""
    try:
        return float(text.strip())
    except ValueError:
        raise DatasetDamaged(f"{where}: '{text}' is not a number") from None


def class_of(schema: LabelSchema, code: int, where: str) -> int:
    """Translate a code of a label file; `where` is its file and line for the message."""
    try:
        return schema.index_of(code)
    except UnknownExpression as problem:
        raise DatasetDamaged(f"{where}: {problem}") from None


def affect(value: float, bound: float = 1.0) -> float | None:
    """Scale a valence or arousal by `bound` to [-1, 1]; None for values outside it, which mean "no label"."""
    return value / bound if -bound <= value <= bound else None


def pictures(folder: Path) -> list[Path]:
    """The picture files directly in a folder, sorted by name; none if the folder is missing."""
    if not folder.is_dir():
        return []
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in PICTURES and not path.name.startswith(".")
    )


def on_disk(records: Iterable[Record], root: Path, partial: bool) -> list[Record]:
    """Check that every record's picture exists, by listing each folder once.

    Raises:
        DatasetDamaged: some are missing and `partial` is False.
    """
    listed: dict[Path, frozenset[str]] = {}
    kept: list[Record] = []
    missing: list[Path] = []
    for record in records:
        folder = record.path.parent
        if folder not in listed:
            listed[folder] = frozenset(p.name for p in folder.iterdir()) if folder.is_dir() else frozenset()
        if record.path.name in listed[folder]:
            kept.append(record)
        else:
            missing.append(record.path)
    if missing and not partial:
        first = missing[0].relative_to(root) if missing[0].is_relative_to(root) else missing[0]
        raise DatasetDamaged(
            f"{root}: {len(missing)} of {len(missing) + len(kept)} labelled pictures are missing, first {first}: "
            "restore them, or run 'mien data check --manifest FILE' and train on that table"
        )
    return kept


SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "train_set": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "val_set": "valid",
    "test": "test",
    "testing": "test",
    "test_set": "test",
}
"""Folder names, in lower case, that datasets and their copies use for the three splits."""


def split_folders(root: Path) -> dict[Path, Split]:
    """The sub-folders of `root` that have the name of a split, sorted by name."""
    if not root.is_dir():
        return {}
    return {
        child: SPLITS[child.name.lower()]
        for child in sorted(root.iterdir())
        if child.is_dir() and child.name.lower() in SPLITS
    }
