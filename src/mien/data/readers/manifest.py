"""A manifest: a table with one row for each picture, as CSV or Parquet, written by `mien data check` or by hand.

    path,split,expression,valence,arousal,subject,video,frame,left,top,right,bottom,name,gender,...
    faces/001.jpg,train,happiness,0.6,0.3,anna,,,,,,,,female

Only `path` is needed (relative to the table, or absolute). `image` and `file` are accepted for `path`; `emotion`,
`label` and `class` for `expression`; `identity` for `subject`; case does not matter. A CSV may be separated by commas,
semicolons or tabs (then 0,6 is a number too), in UTF-8 or UTF-16. "NA", "NaN", "null" and similar words are empty
cells. Paths may be written with backslashes. An expression is a word in any case ("Happy"), empty or "unknown" for
none; a number is refused, because datasets number their classes differently. Votes are in the columns `vote_neutral`
... `vote_contempt`. If the run configuration has `labels`, an expression is one of those names, which may be numbers,
and votes are in `vote_<label>`. `split` is "train" (also when empty or missing), "valid" or "test". Every other column
becomes an attribute of its name.
"""

from __future__ import annotations

import codecs
import csv
import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

from mien.data.readers.base import SPLITS, Reader, affect, on_disk
from mien.data.records import Record
from mien.errors import ConfigError, DatasetDamaged, DatasetNotFound
from mien.io import atomic
from mien.io.inputs import PATH_COLUMNS
from mien.labels import EXPRESSIONS, HOW_TO_OWN, UNLABELLED, UnknownExpression, finder

NAMES = ("manifest.parquet", "manifest.csv", "labels.csv")
"""Names of the tables searched for in a folder, in this order."""
LABEL_COLUMNS = ("expression", "emotion", "label", "class")
SUBJECT_COLUMNS = ("subject", "identity", "person")
BOX_COLUMNS = ("left", "top", "right", "bottom")
PLAIN_COLUMNS = ("split", "valence", "arousal", "video", "frame", "name")
VOTE_COLUMNS = tuple(f"vote_{name}" for name in EXPRESSIONS)
NUMBERS = ("valence", "arousal", "frame", *BOX_COLUMNS, *VOTE_COLUMNS)
KNOWN = frozenset(
    (*PATH_COLUMNS, *LABEL_COLUMNS, *SUBJECT_COLUMNS, *BOX_COLUMNS, *PLAIN_COLUMNS, *VOTE_COLUMNS)
)
NOTE = b"mien.options"
UNKNOWN = ("unknown", "unlabelled")
EMPTY = ("", "na", "n/a", "<na>", "#n/a", "nan", "null", "none", "nil")
"""What other programs write into an empty cell."""
SEPARATORS = ",;\t"
READER_KEY = "reader"
"""The key in the note of options for the dataset's reader."""


def table_of(root: Path) -> Path | None:
    """The manifest at a path: the file itself, or the one in the folder."""
    if root.is_file():
        return root if root.suffix.lower() in (".csv", ".parquet") else None
    return next((root / name for name in NAMES if (root / name).is_file()), None)


def variant(root: Path, labels: tuple[str, ...] = EXPRESSIONS) -> str | None:
    """ "csv" or "parquet", or None; a labels.csv counts if it has a picture and a label column."""
    path = table_of(root)
    if path is None:
        return None
    if path.suffix.lower() == ".parquet":
        return "parquet"
    with path.open(encoding=_encoding(path), errors="replace") as file:
        first = file.readline()
    header = {cell.strip(' "\r\n').lower() for cell in first.split(_separator(first))}
    return "csv" if header & set(PATH_COLUMNS) else None


def label_names(root: Path) -> list[str]:
    """The words in the table's expression column, without those for "no label".

    Raises:
        DatasetNotFound: there is no table.
        DatasetDamaged: it cannot be read, or has no such column.
    """
    kind, path = variant(root), table_of(root)
    if kind is None or path is None:
        raise DatasetNotFound(f"{root}: no manifest: pass {READER.wants}")
    words: dict[str, None] = {}
    for line, row in _table(path, kind):
        label = _Columns.of(row, f"{path}:{line}").label
        if label is None:
            raise DatasetDamaged(f"{path}: no column 'expression' names the labels")
        words[_word(row[label])] = None
    return [word for word in words if word.lower() not in (*UNKNOWN, *EMPTY)]


def read(
    root: Path,
    variant: str,
    partial: bool,
    images: str = "",
    labels: tuple[str, ...] = EXPRESSIONS,
    **options: Any,
) -> list[Record]:
    """Read every row; `images` is the folder of the pictures if it is not the table's.

    Other `options` are those that a protocol sets for the dataset from which the table was made: they must be the ones
    it was made with.
    """
    path = table_of(root)
    if path is None:
        raise DatasetNotFound(f"{root}: no manifest: pass {READER.wants}")
    made = _options(path) if variant == "parquet" else {}
    for key, value in options.items():
        if made.get(key) != value:
            raise ConfigError(
                f"manifest: {path} was not made with {key}={value}: run 'mien data check --manifest FILE' with the "
                "same --protocol"
            )
    folder = Path(images) if images else path.parent
    return on_disk(_records(_table(path, variant, labels), folder, path, labels), root, partial)


def _encoding(path: Path) -> str:
    """UTF-16 if a byte order mark or zero bytes between letters show it, else UTF-8."""
    with path.open("rb") as file:
        begin = file.read(4)
    if begin[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    if b"\0" in begin:
        return "utf-16-be" if begin[:1] == b"\0" else "utf-16-le"
    return "utf-8-sig"


def _separator(header: str) -> str:
    """The separator of a header's cells: the most frequent of comma, semicolon and tab."""
    return max(SEPARATORS, key=header.count)


def _table(
    path: Path, variant: str, labels: tuple[str, ...] = EXPRESSIONS
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with known columns renamed to the names in this module, ignoring case; others unchanged."""
    votes = _votes(labels)
    numbers = {*NUMBERS, *map(str.lower, votes)}
    known = {name: name for name in KNOWN} | {name.lower(): name for name in votes}
    names: dict[str, str] = {}
    for line, cells in _parquet(path) if variant == "parquet" else _csv(path, numbers):
        names = names or {name: known.get(name.strip().lower(), name) for name in cells}
        yield line, {names[name]: value for name, value in cells.items()}


def _votes(labels: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"vote_{name}" for name in labels)


def _csv(path: Path, numbers: Collection[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open(newline="", encoding=_encoding(path)) as file:
            header = file.readline()
            separator = _separator(header)
            file.seek(0)
            lines = csv.reader(file, delimiter=separator)
            names = [cell.strip() for cell in next(lines, [])]
            if not names:
                raise DatasetDamaged(f"{path} is empty: give it a line of column names, path among them")
            decimal_commas = [name for name in names if separator != "," and name.lower() in numbers]
            for cells in lines:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(names):
                    raise DatasetDamaged(
                        f"{path}:{lines.line_num}: {len(cells)} cells where the first line has {len(names)} columns: "
                        "put cells that hold the separator in quotes"
                    )
                row: dict[str, Any] = dict(zip(names, cells, strict=True))
                for name in decimal_commas:
                    row[name] = row[name].replace(",", ".")
                yield lines.line_num, row
    except UnicodeError as problem:
        raise DatasetDamaged(f"{path} is not UTF-8 text ({problem}): save it as CSV UTF-8") from None
    except csv.Error as problem:
        raise DatasetDamaged(f"{path} is not a CSV file ({problem}): save it as CSV UTF-8") from None


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    from pyarrow import parquet

    line = 1
    chunks = _whole(path, lambda: parquet.ParquetFile(path).iter_batches())
    while (chunk := _whole(path, lambda: next(chunks, None))) is not None:
        named = chunk.rename_columns([name.strip() for name in chunk.schema.names])
        for row in _whole(path, named.to_pylist):
            yield line, row
            line += 1


def _whole(path: Path, step: Callable[[], Any]) -> Any:
    """Run a step of reading a Parquet file; any of them may fail on a damaged file."""
    import pyarrow as pa

    try:
        return step()
    except (pa.ArrowException, OSError, ValueError) as problem:
        raise DatasetDamaged(f"{path} is not a Parquet file, or damaged: {problem}") from None


def _options(path: Path) -> dict[str, Any]:
    """The reader's options that `write` stored in a Parquet table; empty for other tables."""
    from pyarrow import parquet

    noted = (_whole(path, lambda: parquet.read_schema(path)).metadata or {}).get(NOTE)
    try:
        return dict(json.loads(noted)) if noted else {}
    except (ValueError, TypeError, RecursionError):
        raise DatasetDamaged(f"{path}: its note of reader options is damaged: make it again") from None


def _text(value: Any) -> str:
    """A cell as text, "" if it is empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = value.strip() if type(value) is str else str(value).strip()
    return "" if text.lower() in EMPTY else text


def _word(value: Any) -> str:
    """A label's cell as text; integers that a table stores as floats, because some cells are empty, are written as
    integers."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


def _records(
    table: Iterable[tuple[int, dict[str, Any]]],
    folder: Path,
    table_path: Path,
    labels: tuple[str, ...] = EXPRESSIONS,
) -> Iterator[Record]:
    """A record for each row; the meaning of the columns is determined once."""
    columns: _Columns | None = None
    find = finder(labels)
    for line, row in table:
        columns = columns or _Columns.of(row, f"{table_path}:{line}", labels)
        yield _record(row, columns, folder, f"{table_path}:{line}", find)


class _Columns(NamedTuple):
    """The table's columns with the picture, the class and the person, and those that are attributes."""

    path: str
    label: str | None
    subject: str | None
    box: bool
    votes: tuple[str, ...]
    attributes: tuple[str, ...]

    @classmethod
    def of(cls, row: dict[str, Any], where: str, labels: tuple[str, ...] = EXPRESSIONS) -> _Columns:
        """Find the columns by name in a row.

        Raises:
            DatasetDamaged: no column names the picture.
        """
        path = next((name for name in PATH_COLUMNS if name in row), None)
        if path is None:
            shown = ", ".join(list(row)[:8])
            raise DatasetDamaged(
                f"{where}: no column 'path' names the picture: rename the one that does; the columns are {shown}"
            )
        label = next((name for name in LABEL_COLUMNS if name in row), None)
        subject = next((name for name in SUBJECT_COLUMNS if name in row), None)
        votes = _votes(labels)
        taken = {path, label, subject, *PLAIN_COLUMNS, *BOX_COLUMNS, *votes}
        box, voted = (all(name in row for name in group) for group in (BOX_COLUMNS, votes))
        rest = tuple(name for name in row if name not in taken)
        return cls(path, label, subject, box, votes if voted else (), rest)


def _record(
    row: dict[str, Any], columns: _Columns, folder: Path, where: str, find: Callable[[str], int]
) -> Record:
    path = str(row[columns.path] if row[columns.path] is not None else "").strip()
    if not path or path.lower() == "nan":
        raise DatasetDamaged(f"{where}: '{columns.path}' is empty")
    path = _local(path, folder, where)
    split = _text(row.get("split")).lower() or "train"
    if split not in SPLITS:
        raise DatasetDamaged(f"{where}: split '{split}': use train, valid or test")
    frame = _number(row.get("frame"), where)
    return Record(
        path=folder / path,
        split=SPLITS[split],
        expression=_expression(_word(row[columns.label]) if columns.label else "", where, find),
        valence=_affect(row.get("valence"), where),
        arousal=_affect(row.get("arousal"), where),
        votes=_numbers(row, columns.votes, where),
        subject=(_text(row[columns.subject]) or None) if columns.subject else None,
        video=_text(row.get("video")) or None,
        frame=None if frame is None else int(frame),
        box=(_numbers(row, BOX_COLUMNS, where) or None) if columns.box else None,  # type: ignore[arg-type]
        name=_text(row.get("name")) or Path(path).as_posix(),
        attributes={key: row[key] for key in columns.attributes if _text(row[key])},
    )


def _local(path: str, folder: Path, where: str) -> str:
    """A path with this system's separators; one of another system's drives is refused.

    Raises:
        DatasetDamaged: it begins with a drive's letter, and this system has none.
    """
    if os.sep == "\\" or "\\" not in path or (folder / path).exists():
        return path
    if PureWindowsPath(path).drive:
        raise DatasetDamaged(f"{where}: '{path}' is on a Windows drive: write paths relative to the table")
    return PureWindowsPath(path).as_posix()


def _numbers(row: dict[str, Any], names: tuple[str, ...], where: str) -> tuple[float, ...]:
    """The numbers in these columns; () if one is empty."""
    found = tuple(number for name in names if (number := _number(row[name], where)) is not None)
    return found if len(found) == len(names) else ()


def _expression(word: str, where: str, find: Callable[[str], int]) -> int:
    if not word:
        return UNLABELLED
    try:
        return find(word)
    except UnknownExpression as problem:
        if word.lower() in (*UNKNOWN, *EMPTY):  # an own label may have such a name
            return UNLABELLED
        hint = f"; {HOW_TO_OWN}" if find is finder(EXPRESSIONS) else ""
        raise DatasetDamaged(f"{where}: {problem}{hint}") from None


def _number(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if type(value) is float and not math.isinf(value):
        return None if math.isnan(value) else value
    text = _text(value)
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.inf
    if math.isinf(number):
        raise DatasetDamaged(f"{where}: '{text}' is not a number")
    return None if math.isnan(number) else number


def _affect(value: Any, where: str) -> float | None:
    number = _number(value, where)
    if number is not None and affect(number) is None:
        raise DatasetDamaged(
            f"{where}: {number}: valence and arousal are from -1 to 1; leave unknown ones empty"
        )
    return number


def made_of(root: Path) -> str | None:
    """The reader of the dataset from which `mien data check` made a Parquet table; None if that is not recorded."""
    path = table_of(root)
    if path is None or path.suffix.lower() != ".parquet":
        return None
    found = _options(path).get(READER_KEY)
    return found if isinstance(found, str) else None


def write(
    records: Iterable[Record],
    path: Path,
    options: dict[str, Any] | None = None,
    labels: tuple[str, ...] = EXPRESSIONS,
) -> None:
    """Write records as a table from which `READER` reads equal ones; Parquet or CSV by the suffix.

    `options` are those that the dataset's reader was called with, and under "reader" its name; Parquet keeps them for
    `read` and `made_of`. `labels` are the labels that the records' expressions and votes refer to.
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
        "expression": [None if r.expression == UNLABELLED else labels[r.expression] for r in listed],
        "valence": [record.valence for record in listed],
        "arousal": [record.arousal for record in listed],
        "subject": [record.subject for record in listed],
        "video": [record.video for record in listed],
        "frame": [record.frame for record in listed],
        **{name: [r.box[i] if r.box else None for r in listed] for i, name in enumerate(BOX_COLUMNS)},
        **{
            f"vote_{name}": [r.votes[i] if r.votes else None for r in listed] for i, name in enumerate(labels)
        },
        "name": [record.name for record in listed],
        **{key: [record.attributes.get(key) for record in listed] for key in extra},
    }
    table = pa.table(
        {key: values for key, values in columns.items() if any(value is not None for value in values)}
    )
    table = table.replace_schema_metadata({NOTE: json.dumps(options or {})})
    with atomic.writing(path) as temporary:
        if path.suffix.lower() == ".csv":
            csv.write_csv(table, temporary)
        else:
            parquet.write_table(table, temporary)


def _relative(path: Path, base: Path) -> str:
    absolute = path.absolute()
    return (absolute.relative_to(base) if absolute.is_relative_to(base) else absolute).as_posix()


READER = Reader(
    name="manifest",
    title="a manifest",
    schema=None,
    description="a CSV or Parquet table with one row for each picture",
    wants="a .csv or .parquet table with a column 'path', or the folder that holds manifest.parquet or manifest.csv",
    terms="yours",
    variant=variant,
    read=read,
    takes_file=True,
    label_names=label_names,
)
