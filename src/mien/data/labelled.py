"""Your own labelled pictures, as examples for `mien adapt`: class folders or a manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mien.data.readers.folder import READER as FOLDER
from mien.data.readers.manifest import READER as MANIFEST
from mien.errors import DatasetNotFound, MienError
from mien.faces.adapt import LabelledPicture
from mien.labels import UNLABELLED, finder, in_order, label_set

WANTS = (
    "a folder with a sub-folder of pictures for each label, or a table (.csv, .parquet) with the columns path, "
    "expression and, if several pictures show one person, subject"
)


def examples(root: Path | str, known: Sequence[str]) -> tuple[tuple[str, ...], list[LabelledPicture]]:
    """List labelled pictures, without opening them.

    Args:
        root: see `WANTS`.
        known: the recogniser's labels. If every name is one of them, or a synonym, the examples refer to these; else
            the names are own labels.

    Returns:
        The labels, and an example for each labelled picture. A picture without a subject counts as a separate person.

    Raises:
        DatasetNotFound, DatasetDamaged: there are no such pictures, or the table cannot be read.
        ConfigError: the names are not a valid label set.
    """
    root = Path(root)
    reader = MANIFEST if MANIFEST.variant(root) else FOLDER
    assert reader.label_names is not None
    if not root.exists() or (reader is FOLDER and not root.is_dir()):
        raise DatasetNotFound(
            f"{root} {'is not a table' if root.exists() else 'does not exist'}: pass {WANTS}"
        )
    names = reader.label_names(root)
    find = finder(known)
    try:
        for name in names:
            find(name)
        labels = tuple(known)
    except MienError:
        labels = label_set(in_order(dict.fromkeys(names)), f"labels of {root}")
    options: dict[str, Any] = {"valid": 0.0, "test": 0.0} if reader is FOLDER else {}
    return labels, [
        LabelledPicture(
            str(record.path), record.expression, record.subject or record.name or str(record.path), record.box
        )
        for record in reader(root, labels=labels, **options)
        if record.expression != UNLABELLED
    ]
