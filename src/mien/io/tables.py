"""Tables with one row for each face, in CSV, JSON lines or Parquet.

`mien.io.columns` defines the columns and turns an analysis into rows.

**A killed run loses nothing.** `Writer` appends one line for each *picture* (with all its rows) to `<table>.part`, in a
single write each. A killed run leaves whole lines and at most one incomplete line at the end, which `resume=True`
removes; pictures with a whole line are complete, however many faces they have. Only `finish` turns the part file into
the table, which therefore appears only when complete. The same holds for all three formats. (The part file is safe from
a killed process; it is not synchronised to disk against loss of power.)

**A table records how it was made**, if the writer gets `made_with`: version, weights, detector and options, in the
Parquet file's metadata under the key `mien`, and for CSV and JSON lines in a JSON file beside the table, such as
`table.csv.mien.json`. It also holds an identifier of each picture's content, so that `resume` notices a picture that
was replaced. Resuming with other options is refused; pictures that were replaced, and those with an error, are analysed
again.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, BinaryIO, Final

from mien.errors import ExtraMissing, OutputExists
from mien.io import atomic, outputs
from mien.io.columns import (
    COLUMNS,
    POINTS,
    Column,
    OnNoFace,
    Row,
    TableError,
    columns_of,
    finite,
    key,
    points_of,
    rows,
    table_of,
    to_frame,
)
from mien.io.images import describe
from mien.io.locks import FileLock
from mien.labels import EXPRESSIONS
from mien.types import Analysis

__all__ = [
    "COLUMNS",
    "FORMATS",
    "Column",
    "OnNoFace",
    "Row",
    "TableError",
    "Writer",
    "columns",
    "columns_of",
    "done",
    "encode",
    "key",
    "load",
    "made_of",
    "rows",
    "to_frame",
    "write_parquet",
]

ROW_GROUP: Final = 4096
"""Largest number of rows held in memory while Parquet is written."""


FORMATS: Final = (".csv", ".jsonl", ".parquet")


class Writer:
    """Writes analyses to a table that survives a killed run; see the module's docstring.

        with Writer("faces.csv", resume=True) as table:
            for path in paths:
                if table.wants(path):
                    table.write(pipeline(path))

    Leaving the block normally finishes the table. Leaving it by an exception keeps the part file for `resume`.

    Args:
        path: the table; .csv, .jsonl or .parquet.
        columns: as for `rows`.
        landmarks: as for `rows`.
        on_no_face: as for `rows`; "skip" records a picture as done without giving it a row.
        resume: continue an unfinished table, or add to a finished one.
        video: `Frame`s are written, with their additional columns.
        labels: those of the recogniser.
        changes: faces are compared with a baseline, and the table has the columns of their change.
        made_with: how the rows are made, plain JSON values; stored with the table and compared by `resume`.
        overwrite: replace a table, finished or not. The old one stays until the new one is finished.
        writes: places (see `mien.io.inputs.place`) of other files that the run writes, stored with the table.

    Attributes:
        known: sources (as `key` gives them) that the table has, with or without an error.
        done: those with all rows, without an error.
        contents: identifier of each source's content (see `mien.io.inputs.identity`), where known.
        folder: where the names of an earlier run start from, or None.
        wrote: places of other files that earlier runs wrote.
        frames: for a video the number of its last frame in the table.

    Raises:
        OutputExists: a table is there, finished or not, and neither `resume` nor `overwrite` was asked for.
        TableError: the table cannot be written, or was made with other columns or otherwise.
    """

    def __init__(
        self,
        path: str | Path,
        columns: str = "mien",
        resume: bool = False,
        landmarks: bool = True,
        on_no_face: OnNoFace = "row",
        video: bool = False,
        labels: tuple[str, ...] = EXPRESSIONS,
        made_with: dict[str, Any] | None = None,
        overwrite: bool = False,
        writes: Sequence[str] = (),
        changes: bool = False,
    ) -> None:
        self.path = Path(path)
        self.part = self.path.with_name(self.path.name + ".part")
        self.done: set[str] = set()
        self.contents: dict[str, str] = {}
        self.folder: str | None = None
        self.frames: dict[str, int] = {}
        self._made_with, self._writes = made_with, writes
        self.wrote: set[str] = set()
        self.known: set[str] = set()
        # Offset in the part file of the newest line of each source that has several.
        self._empty = True
        self._again: dict[str, int] = {}
        self._layout, self._landmarks, self._on_no_face, self._video = columns, landmarks, on_no_face, video
        self._labels, self._changes = labels, changes
        self._columns = columns_of(columns, landmarks, video, labels, changes)
        names = [column.name for column in self._columns]
        if self.path.suffix.lower() not in FORMATS:
            raise TableError(
                f"{describe(self.path)}: cannot write '{self.path.suffix}': use {', '.join(FORMATS)}"
            )
        if self.path.suffix.lower() == ".parquet":
            _arrow()  # fail now, not after the last picture
        try:
            self._lock = FileLock(self.path.with_name(self.path.name + ".lock"), describe(self.path))
        except OSError as problem:
            raise TableError(f"{describe(self.path)}: cannot be written: {_reason(problem)}") from None
        try:
            self._begin(names, resume, overwrite)
        except BaseException:
            self._lock.release()
            raise

    def _begin(self, names: list[str], resume: bool, overwrite: bool) -> None:
        if not resume and not overwrite:
            outputs.check(self.path, resumable=True)
            if _has_pictures(self.part):
                raise OutputExists(
                    f"{describe(self.part)} holds an unfinished run: continue with --resume, or start again with "
                    "--overwrite"
                )
        self._extends = False
        try:
            whole = self._recover(names) if resume else 0
            if whole == 0:
                self._extends = resume and self.path.exists()
            if self._extends:
                _same_columns(self.path, names, _header(self.path))
                self._take_up(made_of(self.path))
                error = _error_of(names)
                for row in load(self.path):
                    self._note(row[names[0]], row[names[1]], row[error] is not None)
            self._file: IO[bytes] = self.part.open("ab", buffering=0)
            self._file.truncate(whole)
            if whole == 0:
                head = {"columns": names, "extends": self._extends, "found": _identity(self.path)}
                self._append(
                    {**head, "made_with": self._made_with, "folder": self._from_here(Path.cwd())}
                    | {"writes": list(map(self._from_here, self._writes))}
                )
            self.folder = self.folder or str(Path.cwd())
        except OSError as problem:
            raise TableError(f"{describe(self.path)}: cannot be written: {_reason(problem)}") from None

    def _from_here(self, place: str | Path) -> str:
        """A place relative to the table's folder, so that a project can be moved and reveals no home folder."""
        try:
            return os.path.relpath(place, self.path.absolute().parent)
        except ValueError:  # another drive
            return str(place)

    def _whole(self, place: str) -> str:
        return os.path.normpath(self.path.absolute().parent / place)

    def _take_up(self, made: dict[str, Any]) -> None:
        """Check that an earlier run had the same settings, and continue it."""
        if self._made_with is not None:
            before = made.get("made_with")
            if before is None:
                raise TableError(
                    f"{describe(self.path)} does not record how it was made: start again with --overwrite, or name "
                    "another file"
                )
            if other := outputs.difference(before, self._made_with):
                raise TableError(
                    f"{describe(self.path)} was begun with {other}: give the same options, or start again with "
                    "--overwrite or another file"
                )
        else:
            self._made_with = made.get("made_with")
        folder = made.get("folder")
        self.folder = None if folder is None else self._whole(folder)
        self.wrote.update(map(self._whole, made.get("writes") or ()))
        self.contents.update(made.get("pictures") or {})

    def _recover(self, names: list[str]) -> int:
        """Record what an earlier run completed; return how many bytes of its part file are whole lines."""
        if not self.part.exists():
            return 0
        whole = 0
        for number, (line, end) in enumerate(_whole_lines(self.part)):
            if number == 0:
                if not line.keys() >= _HEAD:
                    raise _damaged_line(self.part, 1)
                # It was killed between writing the table and removing the part file: the table is complete.
                if line["found"] != _identity(self.path):
                    return 0
                _same_columns(self.part, names, line["columns"])
                self._extends = line["extends"]
                if self._extends:
                    self._take_up(made_of(self.path))
                self._take_up(line)
            else:
                if not _is_entry(line, len(names)):
                    raise _damaged_line(self.part, number + 1)
                self._note(line["source"], line["frame"], _failed(line), line.get("content"), whole)
                self._empty = False
            whole = end
        return whole

    def _note(
        self, source: str, frame: int | None, failed: bool, content: str | None = None, at: int | None = None
    ) -> None:
        """Record a line of a source; `at` is its offset in the part file."""
        if frame is not None:
            self.frames[source] = max(frame, self.frames.get(source, frame))
        elif at is not None and source in self.known:
            self._again[source] = at
        self.known.add(source)
        if failed:
            self.done.discard(source)
        else:
            self.done.add(source)
        if content is not None:
            self.contents[source] = content

    def wants(self, source: str | Path) -> bool:
        """Whether this picture still has to be analysed."""
        return key(str(source)) not in self.done

    def write(self, analysis: Analysis, content: str | None = None) -> None:
        """Append all rows of one picture or frame in one write; they replace earlier rows of the same picture.

        Args:
            analysis: of the picture or frame.
            content: its `mien.io.inputs.identity`, taken before the picture was read.

        Raises:
            NoFace: as `rows`.
            TableError: the disk is full or gone; earlier rows are kept.
        """
        table = rows(
            analysis,
            self._layout,
            self._landmarks,
            self._on_no_face,
            self._video,
            self._labels,
            self._changes,
        )
        source = key(analysis.source)
        line = {"source": source, "frame": analysis.frame, "rows": [list(row.values()) for row in table]}
        if analysis.error is not None:
            line["failed"] = True
        if content is not None and self.contents.get(source) != content:
            line["content"] = content
        at = self._append(line)
        self._empty = False
        self._note(source, analysis.frame, analysis.error is not None, content, at)

    def _append(self, line: dict[str, Any]) -> int:
        """Write a line and return where it begins."""
        begin = self._file.seek(0, os.SEEK_END)
        data = memoryview(json.dumps(line, ensure_ascii=False).encode("utf-8") + b"\n")
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as problem:
            raise TableError(
                f"{describe(self.part)}: {_reason(problem)}: fix it and run again with --resume; rows already written "
                "are kept"
            ) from None
        return begin

    def close(self) -> None:
        """Stop without finishing: the part file stays for a later `resume`, if there is any picture in it."""
        if not self._file.closed:
            self._file.close()
            if self._empty:  # a refused run must not block the next one
                self.part.unlink(missing_ok=True)
        self._lock.release()

    def finish(self, complete: Callable[[Row], Row] | None = None) -> None:
        """Turn the part file into the table, in one step, and remove it.

        Args:
            complete: fills in what is known only at the end, called with each row of the table.

        Raises:
            TableError: the table cannot be written; the part file is kept.
        """
        self._file.close()
        suffix = self.path.suffix.lower()
        made: dict[str, Any] | None = None
        if self._made_with is not None:
            made = {
                "made_with": self._made_with,
                "folder": self._from_here(self.folder or "."),
                "pictures": self.contents,
            }
            made["writes"] = sorted(map(self._from_here, self.wrote.union(self._writes)))
        try:
            with atomic.writing(self.path) as temporary:
                table = self.written() if complete is None else map(complete, self.written())
                with temporary.open("wb") as file:
                    _write(file, suffix, self._columns, table, made)
                if suffix != ".parquet":
                    _write_beside(self.path, made)
            self.part.unlink()
        except OSError as problem:
            raise TableError(
                f"{describe(self.path)}: {_reason(problem)}: the rows are safe in {describe(self.part)}, "
                "fix it and run again with --resume"
            ) from None
        finally:
            self._lock.release()

    def written(self) -> Iterator[Row]:
        """Every row so far, in order, read from the files: those of an earlier run and of this one.

        The new rows of a picture that was analysed again replace the old ones.
        """
        names = [column.name for column in self._columns]

        def named(line: dict[str, Any]) -> Iterator[Row]:
            for values in line["rows"]:
                yield dict(zip(names, values, strict=True))

        again = dict(self._again)
        with self.part.open("rb") as file:

            def newest(source: str) -> Iterator[Row]:
                file.seek(again.pop(source))
                return named(json.loads(file.readline()))

            for row in load(self.path) if self._extends else ():
                if row[names[0]] not in self._again:
                    yield row
                elif row[names[0]] in again:
                    yield from newest(row[names[0]])
            for number, (line, _) in enumerate(_whole_lines(self.part)):
                if number and line["source"] not in self._again:
                    yield from named(line)
                elif number and line["source"] in again:
                    yield from newest(line["source"])

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.close()


def columns(layout: str = "mien", video: bool = False) -> tuple[Column, ...]:
    """The documented columns of a layout, with one entry each for all x_i and all y_i."""
    points = len(points_of(layout))
    order = "mien.landmarks" if points == POINTS else "mien.io.columns.DLIB"
    return (
        *columns_of(layout, landmarks=False, video=video),
        Column(
            f"x_0..x_{points - 1}",
            float,
            "px",
            "may leave picture",
            f"x of the facial points, see {order}",
        ),
        Column(
            f"y_0..y_{points - 1}",
            float,
            "px",
            "may leave picture",
            f"y of the facial points, see {order}",
        ),
    )


def done(path: str | Path) -> set[str]:
    """The sources (as `key` gives them) that a table, or the unfinished run beside it, holds without an error."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    complete: set[str] = set()

    def note(source: str, failed: bool) -> None:
        if failed:
            complete.discard(source)
        else:
            complete.add(source)

    if path.exists():
        names = _header(path)
        for row in load(path):
            if isinstance(source := row.get(names[0]), str):
                note(source, row.get(_error_of(names)) is not None)
    for line, _ in _whole_lines(part) if part.exists() else ():
        if "source" in line:
            note(line["source"], _failed(line))
    return complete


def made_of(path: str | Path) -> dict[str, Any]:
    """How a table was made: `made_with`, the `folder` that names start from (relative to the table's own), and
    `pictures`, with the identifier of each picture's content. Empty if it is not recorded.

    Raises:
        TableError: the table, or the file beside it, cannot be read.
    """
    path = Path(path)
    beside = path.with_name(path.name + outputs.SIDECAR)
    try:
        if path.suffix.lower() == ".parquet":
            stored = _arrow().parquet.ParquetFile(path).schema_arrow.metadata or {}
            made = {name: json.loads(stored[key]) for name, key in _METADATA.items() if key in stored}
        else:
            made = json.loads(beside.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as problem:
        raise _unreadable(path if path.suffix.lower() == ".parquet" else beside, problem) from None
    if not isinstance(made, dict) or not isinstance(made.get("pictures", {}), dict):
        raise _unreadable(beside, ValueError("it does not record how the table was made"))
    return made


_METADATA: Final = {
    "made_with": b"mien",
    "folder": b"mien.folder",
    "pictures": b"mien.pictures",
    "writes": b"mien.writes",
}
"""Keys of a Parquet file's metadata; the values are JSON."""


def _write_beside(path: Path, made: dict[str, Any] | None) -> None:
    """Write or remove the JSON file that records how a CSV or JSON lines table was made."""
    beside = path.with_name(path.name + outputs.SIDECAR)
    if made is None:
        beside.unlink(missing_ok=True)
    else:
        atomic.write({beside: (json.dumps(made, indent=1) + "\n").encode("ascii")})


def load(path: str | Path) -> Iterator[Row]:
    """Read a table back row by row, with the types it was written with; empty cells are None.

    Columns that `mien` does not know, such as action units in a table of py-feat or OpenFace, become numbers where
    they are numbers and stay text where they are not.

    Raises:
        TableError: missing, damaged, or of another format.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    try:
        if suffix == ".csv":
            spaced = _has_spaces(path)
            with path.open(encoding="utf-8-sig", newline="") as file:
                for row in csv.DictReader(file, skipinitialspace=spaced, restkey=_BEYOND):
                    if _BEYOND in row:
                        raise ValueError("a row has more cells than the header")
                    yield {name: _parsed(name, text) for name, text in row.items()}
        elif suffix == ".jsonl":
            with path.open(encoding="utf-8") as file:
                for line in file:
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError("a line is not an object")
                    yield row
        elif suffix == ".parquet":
            for batch in _arrow().parquet.ParquetFile(path).iter_batches(ROW_GROUP):
                yield from batch.to_pylist()
        else:
            raise TableError(f"{describe(path)}: cannot read '{path.suffix}': use {', '.join(FORMATS)}")
    except (OSError, ValueError, RecursionError, csv.Error) as problem:  # ValueError: json, UTF-8 and Arrow
        raise _unreadable(path, problem) from None


_KINDS: Final = {
    column.name: column.kind
    for layout in COLUMNS
    for column in columns_of(layout, video=True, changes=layout == "mien")
}


def _parsed(name: str, text: str | None) -> Any:
    if text is None or text == "":
        return None
    kind = _KINDS.get(name)
    if kind is str:
        return text
    if kind is bool:
        return text.lower() == "true"  # spreadsheets write TRUE
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if kind is int and number.is_integer() else finite(number)


def _reason(problem: OSError) -> str:
    return (problem.strerror or str(problem)).lower()


def _header(path: Path) -> list[str]:
    try:
        if path.suffix.lower() == ".parquet":
            return list(_arrow().parquet.ParquetFile(path).schema_arrow.names)
        if path.suffix.lower() == ".csv":
            spaced = _has_spaces(path)
            with path.open(encoding="utf-8-sig", newline="") as file:
                return next(csv.reader(file, skipinitialspace=spaced), [])
    except (OSError, ValueError, csv.Error) as problem:
        raise _unreadable(path, problem) from None
    return list(next(load(path), {}))


def _has_spaces(path: Path) -> bool:
    """Whether a CSV file has spaces after its commas, as OpenFace's have; in other files they belong to the cells.
    utf-8-sig, here and above: spreadsheets write a byte order mark.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file), [])
    return len(header) > 1 and all(name.startswith(" ") for name in header[1:])


def _unreadable(path: Path, problem: Exception) -> TableError:
    return TableError(f"{describe(path)}: cannot be read as a table: {' '.join(str(problem).split())}")


_BEYOND: Final = "\0"  # the key of cells beyond the header
_HEAD: Final = {"columns", "extends", "found"}


def _error_of(names: list[str]) -> str:
    """The column with the reason why a picture could not be analysed."""
    return "error" if "error" in names else names[-1]


def _failed(line: dict[str, Any]) -> bool:
    return bool(line.get("failed"))


def _has_pictures(part: Path) -> bool:
    """Whether a part file holds anything that would be lost."""
    try:
        return sum(1 for _, _ in zip(_whole_lines(part), range(2), strict=False)) > 1
    except FileNotFoundError:
        return False


def _is_entry(line: dict[str, Any], columns: int) -> bool:
    """Whether a line of a part file, not its first, has the form that `Writer.write` writes."""
    rows = line.get("rows")
    return (
        isinstance(line.get("source"), str)
        and isinstance(line.get("frame", ""), int | None)
        and isinstance(rows, list)
        and all(isinstance(row, list) and len(row) == columns for row in rows)
    )


def _damaged_line(part: Path, number: int) -> TableError:
    return TableError(f"{describe(part)}: line {number} is damaged: delete the file and start again")


def _same_columns(path: Path, wanted: list[str], columns: list[str]) -> None:
    # A JSON lines table without rows does not name its columns.
    if columns and columns != wanted:
        raise TableError(
            f"{describe(path)} was written with other columns: give the same --columns, --no-landmarks, --weights "
            "and --baseline, or another file"
        )


def _identity(path: Path) -> list[int] | None:
    """Inode, size and modification time, which tell versions of a file apart."""
    if not path.exists():
        return None
    status = path.stat()
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def _whole_lines(part: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Each whole line of a part file with the offset at which it ends; an incomplete last line is left out."""
    end = 0
    with part.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            end += len(line)
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                raise _damaged_line(part, number) from None
            if not isinstance(entry, dict):
                raise _damaged_line(part, number)
            yield entry, end


def encode(
    analyses: Sequence[Analysis],
    suffix: str,
    columns: str = "mien",
    landmarks: bool = True,
    labels: tuple[str, ...] | None = None,
) -> bytes:
    """The bytes of the table that a `Writer` makes of these analyses, without a file.

    `suffix` is one of `FORMATS`; the other arguments and errors are those of `mien.io.columns.table_of`.

    Raises:
        ExtraMissing: pyarrow is not installed.
    """
    layout, table = table_of(analyses, columns, landmarks, labels)
    file = io.BytesIO()
    _write(file, suffix, layout, table, None)
    return file.getvalue()


def _write(
    file: BinaryIO,
    suffix: str,
    columns: tuple[Column, ...],
    table: Iterable[Row],
    made: dict[str, Any] | None,
) -> None:
    names = [column.name for column in columns]
    if suffix == ".parquet":
        write_parquet(file, columns, table, made)
        return
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    if suffix == ".csv":
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    else:
        text.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table)
    text.detach()


def _arrow() -> Any:
    """Import pyarrow, which is in an extra because it is half as large as all other dependencies."""
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise ExtraMissing("parquet", "pyarrow") from None
    return pyarrow


def write_parquet(
    target: Path | BinaryIO,
    columns: tuple[Column, ...],
    table: Iterable[Row],
    made: dict[str, Any] | None = None,
) -> None:
    """Write row groups of bounded size; the schema holds unit, range and meaning of each column, and `made_of`.

    Raises:
        ExtraMissing: pyarrow is not installed.
        OSError: the target cannot be written.
    """
    pyarrow = _arrow()
    kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    schema = pyarrow.schema(
        pyarrow.field(
            column.name,
            kinds[column.kind],
            metadata={"unit": column.unit, "range": column.range, "meaning": column.meaning},
        )
        for column in columns
    )
    if made is not None:
        schema = schema.with_metadata(
            {key: json.dumps(made[name]) for name, key in _METADATA.items() if name in made}
        )
    with pyarrow.parquet.ParquetWriter(target, schema) as writer:
        group: list[Row] = []
        for row in table:
            group.append(row)
            if len(group) == ROW_GROUP:
                writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))
                group = []
        if group:
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))
