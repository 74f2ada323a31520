"""Any folder of class folders: pictures in folders called by an expression word, with or without split folders above.

    root/happy/001.jpg              root/train/happiness/001.jpg     root/valid/...     root/test/...

Folder names are expression words in any case and common variant ("Happy", "joy"; "3_sadness" is none). Without split
folders, or with only some, the missing splits are held out by a hash of the file names: the same files give the same
split on every machine. Other folders are refused, not ignored, so that a misspelt class is not silently lost.
"""

from __future__ import annotations

from pathlib import Path

from mien.data.reader import Reader, pictures, split_folders
from mien.data.records import Record, Split
from mien.errors import DatasetDamaged
from mien.labels import UnknownExpression, index_of


def variant(root: Path) -> str | None:
    """ "splits" (train/happy/...) or "classes" (happy/...), or None."""
    if any(_classes(folder) for folder in split_folders(root)):
        return "splits"
    return "classes" if len(_classes(root)) >= 2 else None


def _classes(folder: Path) -> dict[Path, int]:
    """The sub-folders named by an expression, with its index."""
    found: dict[Path, int] = {}
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.name.startswith("."):
            try:
                found[child] = index_of(child.name)
            except UnknownExpression:
                continue
    return found


def read(root: Path, variant: str, partial: bool, valid: float = 0.1, test: float = 0.1) -> list[Record]:
    """Read every picture; `valid` and `test` are the shares to hold out when the tree has no such split folder."""
    from mien.data.protocols import held_out

    folders: dict[Path, Split] = split_folders(root) if variant == "splits" else {root: "train"}
    records: list[Record] = []
    for folder, split in folders.items():
        classes = _classes(folder)
        for child in sorted(folder.iterdir()):
            if child.is_dir() and child not in classes and not child.name.startswith("."):
                raise DatasetDamaged(
                    f"{child} is not named by an expression: rename it (e.g. happiness) or move it away"
                )
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
    description="any pictures in folders called by an expression word, with or without train/valid/test above",
    wants="a folder with sub-folders such as happiness/ and sadness/, or train/ and test/ with those inside",
    variant=variant,
    read=read,
)
