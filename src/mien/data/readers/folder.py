"""Class folders: pictures in folders named by a label, with or without split folders above.

    root/happy/001.jpg              root/train/happiness/001.jpg     root/valid/...     root/test/...

Folder names are expression words in any case and common variant ("Happy", "joy", but not "3_sadness"), or the names of
own labels if the run configuration has `labels`. Without split folders, or with only some, the missing splits are held
out by a hash of the file names: the same files give the same split on every machine. Other folders are an error, so
that a misspelt class is not silently lost.
"""

from __future__ import annotations

from pathlib import Path

from mien.data.readers.base import Reader, pictures, split_folders
from mien.data.records import Record, Split
from mien.errors import DatasetDamaged, DatasetNotFound
from mien.labels import EXPRESSIONS, HOW_TO_OWN, UnknownExpression, finder


def variant(root: Path, labels: tuple[str, ...] = EXPRESSIONS) -> str | None:
    """ "splits" (train/happy/...) or "classes" (happy/...), or None."""
    if any(_classes(folder, labels) for folder in split_folders(root)):
        return "splits"
    return "classes" if len(_classes(root, labels)) >= (2 if labels == EXPRESSIONS else 1) else None


def label_names(root: Path) -> list[str]:
    """The names of the class folders, of all splits together.

    Raises:
        DatasetNotFound: there is no such folder.
    """
    if not root.is_dir():
        raise DatasetNotFound(
            f"{root} {'is a file' if root.exists() else 'does not exist'}: pass {READER.wants}"
        )
    splits = list(split_folders(root))
    return [child.name for folder in splits or [root] for child in _folders(folder)]


def _folders(folder: Path) -> list[Path]:
    return [child for child in sorted(folder.iterdir()) if child.is_dir() and not child.name.startswith(".")]


def _classes(folder: Path, labels: tuple[str, ...]) -> dict[Path, int]:
    """The sub-folders named by a label, with its index."""
    found: dict[Path, int] = {}
    find = finder(labels)
    for child in _folders(folder):
        try:
            place = find(child.name)
        except UnknownExpression:
            continue
        if labels != EXPRESSIONS and place in found.values():
            raise DatasetDamaged(
                f"{child} and another folder are both '{labels[place]}', as case, spaces and Unicode form do not tell "
                "labels apart: put their pictures into one"
            )
        found[child] = place
    return found


def read(
    root: Path,
    variant: str,
    partial: bool,
    valid: float = 0.1,
    test: float = 0.1,
    labels: tuple[str, ...] = EXPRESSIONS,
) -> list[Record]:
    """Read every picture; `valid` and `test` are the shares to hold out if the tree has no such split folder."""
    from mien.data.protocols import held_out

    folders: dict[Path, Split] = split_folders(root) if variant == "splits" else {root: "train"}
    records: list[Record] = []
    for folder, split in folders.items():
        classes = _classes(folder, labels)
        for child in _folders(folder):
            if child not in classes:
                hint = (
                    f"rename it (e.g. happiness) or move it away; {HOW_TO_OWN}"
                    if labels == EXPRESSIONS
                    else "add its name to `labels`, or move it away"
                )
                raise DatasetDamaged(f"{child} is not named by an expression label: {hint}")
        for child, expression in classes.items():
            records += [
                Record(path, split, expression, name=path.relative_to(root).as_posix())
                for path in pictures(child)
            ]
    present = set(folders.values())
    for split, share in (("test", test), ("valid", valid)):
        if split not in present and share > 0:
            records = held_out(records, share=share, target=split)
    return records


READER = Reader(
    name="folder",
    title="a folder of class folders",
    schema=None,
    description="any pictures in folders named by a label, with or without train/valid/test above",
    wants="a folder with sub-folders such as happiness/ and sadness/, or train/ and test/ with those inside",
    terms="yours",
    variant=variant,
    read=read,
    label_names=label_names,
)
