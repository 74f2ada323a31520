"""A table of pictures: one row for each, as CSV or Parquet, written by `mien data check` or by hand.

    path,split,expression,valence,arousal,subject,video,frame,left,top,right,bottom,name,gender,...
    faces/001.jpg,train,happiness,0.6,0.3,anna,,,,,,,,female

Only `path` is needed (relative to the table, or absolute). `image` and `file` are understood for `path`; `emotion`,
`label` and `class` for `expression`; `identity` for `subject`. An expression is a word in any case ("Happy"), empty
or "unknown" for none; a number is refused, because every dataset numbers its classes otherwise. Votes stand in
columns `vote_neutral` ... `vote_contempt`. `split` is "train" (also when empty or missing), "valid" or "test". Every
other column becomes an attribute of its name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from mien.data.reader import SPLITS, Reader, affect, on_disk, rows
from mien.data.records import Record
from mien.errors import ConfigError, DatasetDamaged, DatasetNotFound
from mien.labels import EXPRESSIONS, UNLABELLED, UnknownExpression, index_of

NAMES = ("manifest.parquet", "manifest.csv", "labels.csv")
"""Tables looked for in a folder, in this order."""
PATH_COLUMNS = ("path", "image", "file", "filename")
LABEL_COLUMNS = ("expression", "emotion", "label", "class")
SUBJECT_COLUMNS = ("subject", "identity", "person")
BOX_COLUMNS = ("left", "top", "right", "bottom")
VOTE_COLUMNS = tuple(f"vote_{name}" for name in EXPRESSIONS)
NOTE = b"mien.options"
UNKNOWN = ("", "unknown", "none", "nan", "unlabelled")


def table_of(root: Path) -> Path | None:
    """The manifest that a path means: itself, or the one in the folder."""
    if root.is_file():
        return root if root.suffix.lower() in (".csv", ".parquet") else None
    return next((root / name for name in NAMES if (root / name).is_file()), None)


def variant(root: Path) -> str | None:
    """ "csv" or "parquet", or None; a labels.csv counts when it has a picture and a label column."""
    path = table_of(root)
    if path is None:
        return None
    if path.suffix.lower() == ".parquet":
        return "parquet"
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = {cell.strip(' "\r\n').lower() for cell in file.readline().split(",")}
    return "csv" if header & set(PATH_COLUMNS) else None


def read(root: Path, variant: str, partial: bool, images: str = "", **options: Any) -> list[Record]:
    """Read every row; `images` is the folder of the pictures, when it is not the table's own.

    Other `options` are those of the dataset that the table was made of, as a protocol asks for them: they must be the
    ones it was made with.
    """
    path = table_of(root)
    if path is None:
        raise DatasetNotFound(f"{root}: no manifest: pass {READER.wants}")
    made = _options(path) if variant == "parquet" else {}
    for key, value in options.items():
        if made.get(key) != value:
            raise ConfigError(
                f"manifest: {path} was not made with {key}={value}: run 'mien data check' with the same --protocol"
            )
    folder = Path(images) if images else path.parent
    table = _parquet(path) if variant == "parquet" else rows(path)
    return on_disk((_record(row, folder, f"{path}:{line}") for line, row in table), root, partial)


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    from pyarrow import parquet

    line = 1
    chunks = _whole(path, lambda: parquet.ParquetFile(path).iter_batches())
    while (chunk := _whole(path, lambda: next(chunks, None))) is not None:
        for row in _whole(path, chunk.to_pylist):
            yield line, row
            line += 1


def _whole(path: Path, step: Callable[[], Any]) -> Any:
    """What a step of reading a Parquet file gives; a damaged file can show itself at each."""
    import pyarrow as pa

    try:
        return step()
    except (pa.ArrowException, OSError, ValueError) as problem:
        raise DatasetDamaged(f"{path} is not a Parquet file, or damaged: {problem}") from None


def _options(path: Path) -> dict[str, Any]:
    """The reader's options that `write` noted in a Parquet table; none in another's table."""
    from pyarrow import parquet

    noted = (_whole(path, lambda: parquet.read_schema(path)).metadata or {}).get(NOTE)
    try:
        return dict(json.loads(noted)) if noted else {}
    except (ValueError, TypeError, RecursionError):
        raise DatasetDamaged(f"{path}: its note of reader options is damaged: make it anew") from None


def _text(value: Any) -> str:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value).strip()


def _record(raw: dict[str, Any], folder: Path, where: str) -> Record:
    row = {key.strip(): value for key, value in raw.items()}
    path_column = next((name for name in PATH_COLUMNS if name in row), None)
    if path_column is None:
        raise DatasetDamaged(f"{where}: no column 'path' names the picture")
    label_column = next((name for name in LABEL_COLUMNS if name in row), None)
    path = _text(row[path_column])
    if not path:
        raise DatasetDamaged(f"{where}: '{path_column}' is empty")
    split = _text(row.get("split")).lower() or "train"
    if split not in SPLITS:
        raise DatasetDamaged(f"{where}: split '{split}': use train, valid or test")
    subject_column = next((name for name in SUBJECT_COLUMNS if name in row), "subject")
    taken = {
        path_column,
        label_column,
        subject_column,
        "split",
        "valence",
        "arousal",
        "video",
        "frame",
        "name",
    }
    taken.update(BOX_COLUMNS, VOTE_COLUMNS)
    votes = [_number(row.get(column), where) for column in VOTE_COLUMNS]
    box = [_number(row.get(column), where) for column in BOX_COLUMNS]
    frame = _number(row.get("frame"), where)
    return Record(
        path=folder / path,
        split=SPLITS[split],
        expression=_expression(_text(row[label_column]) if label_column else "", where),
        valence=_affect(row.get("valence"), where),
        arousal=_affect(row.get("arousal"), where),
        votes=tuple(vote for vote in votes if vote is not None) if None not in votes else (),
        subject=_text(row.get(subject_column)) or None,
        video=_text(row.get("video")) or None,
        frame=None if frame is None else int(frame),
        box=None if None in box else tuple(box),  # type: ignore[arg-type]
        name=_text(row.get("name")) or Path(path).as_posix(),
        attributes={key: value for key, value in row.items() if key not in taken and _text(value)},
    )


def _expression(word: str, where: str) -> int:
    if word.lower() in UNKNOWN:
        return UNLABELLED
    try:
        return index_of(word)
    except UnknownExpression as problem:
        raise DatasetDamaged(f"{where}: {problem}") from None


def _number(value: Any, where: str) -> float | None:
    text = _text(value)
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise DatasetDamaged(f"{where}: '{text}' is not a number") from None


def _affect(value: Any, where: str) -> float | None:
    number = _number(value, where)
    if number is not None and affect(number) is None:
        raise DatasetDamaged(
            f"{where}: {number}: valence and arousal are from -1 to 1; leave unknown ones empty"
        )
    return number


def write(records: Iterable[Record], path: Path, options: dict[str, Any] | None = None) -> None:
    """Write records as the table that `READER` reads back equal; Parquet or CSV by the ending.

    `options` are those that the dataset's reader was called with; Parquet keeps them for `read` to compare.
    Paths under the table's folder are written relative to it, so that the folder can move.
    """
    import pyarrow as pa
    from pyarrow import csv, parquet

    base = path.absolute().parent
    listed = list(records)
    extra = sorted({key for record in listed for key in record.attributes})
    columns: dict[str, list[Any]] = {
        "path": [_relative(record.path, base) for record in listed],
        "split": [record.split for record in listed],
        "expression": [None if r.expression == UNLABELLED else EXPRESSIONS[r.expression] for r in listed],
        "valence": [record.valence for record in listed],
        "arousal": [record.arousal for record in listed],
        "subject": [record.subject for record in listed],
        "video": [record.video for record in listed],
        "frame": [record.frame for record in listed],
        **{name: [r.box[i] if r.box else None for r in listed] for i, name in enumerate(BOX_COLUMNS)},
        **{name: [r.votes[i] if r.votes else None for r in listed] for i, name in enumerate(VOTE_COLUMNS)},
        "name": [record.name for record in listed],
        **{key: [record.attributes.get(key) for record in listed] for key in extra},
    }
    table = pa.table(
        {key: values for key, values in columns.items() if any(value is not None for value in values)}
    )
    table = table.replace_schema_metadata({NOTE: json.dumps(options or {})})
    unfinished = path.with_name(path.name + ".part")
    if path.suffix.lower() == ".csv":
        csv.write_csv(table, unfinished)
    else:
        parquet.write_table(table, unfinished)
    unfinished.replace(path)


def _relative(path: Path, base: Path) -> str:
    absolute = path.absolute()
    return (absolute.relative_to(base) if absolute.is_relative_to(base) else absolute).as_posix()


READER = Reader(
    name="manifest",
    title="a manifest",
    schema=None,
    description="a CSV or Parquet table with one row for each picture",
    wants="a .csv or .parquet table with a column 'path', or the folder that holds manifest.parquet or manifest.csv",
    variant=variant,
    read=read,
    takes_file=True,
)
