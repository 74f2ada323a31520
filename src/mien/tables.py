"""One row for each face: the table that other tools read, in CSV, JSON lines or Parquet.

The columns and what they mean are in `mien.columns`, how an analysis becomes rows in `mien.rows`.

**Nothing is lost when a run is killed.** While it runs, `Writer` appends one line for each *picture* (with all its
rows) to `<table>.part`, in a single write each. A killed run leaves whole lines and at most one torn line at the end,
which `resume=True` cuts off; pictures whose line is whole are complete, however many faces they have. Only `finish`
turns the part file into the table, which therefore appears whole or not at all. The same holds for all three formats.
(The part file is safe from a killed process; it is not synchronised to disk against loss of power.)
"""

from __future__ import annotations

import csv
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, BinaryIO, Final

from mien.claims import Claim
from mien.columns import COLUMNS, POINTS, Column, columns_of, points_of
from mien.errors import ExtraMissing
from mien.images import describe
from mien.rows import OnNoFace, Row, TableError, finite, key, rows, to_frame
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
    "key",
    "load",
    "rows",
    "to_frame",
    "write_parquet",
]

ROW_GROUP: Final = 4096
"""Rows held in memory while Parquet is written."""


FORMATS: Final = (".csv", ".jsonl", ".parquet")


class Writer:
    """Writes analyses into a table that survives a killed run; see the module's docstring for how.

        with Writer("faces.csv", resume=True) as table:
            for path in paths:
                if table.wants(path):
                    table.write(pipeline(path))

    Leaving the block normally finishes the table. Leaving it by an exception keeps the part file for `resume`.

    Args:
        path: the table; .csv, .jsonl or .parquet.
        columns, landmarks, on_no_face: as for `rows`. "skip" records a picture as done without giving it a row.
        resume: continue an unfinished table, or add to a finished one. Without it an unfinished run is not overwritten.
        video: what is written are `Frame`s, and the table has their columns too.

    Attributes:
        done: sources (as `key` gives them) whose rows are all there.
        frames: for a video the number of its last frame that is there.

    Raises:
        TableError: the table cannot be written, was made with other columns, or an unfinished one is in the way.
    """

    def __init__(
        self,
        path: str | Path,
        columns: str = "mien",
        resume: bool = False,
        landmarks: bool = True,
        on_no_face: OnNoFace = "row",
        video: bool = False,
    ) -> None:
        self.path = Path(path)
        self.part = self.path.with_name(self.path.name + ".part")
        self.done: set[str] = set()
        self.frames: dict[str, int] = {}
        self._layout, self._landmarks, self._on_no_face, self._video = columns, landmarks, on_no_face, video
        self._columns = columns_of(columns, landmarks, video)
        names = [column.name for column in self._columns]
        if self.path.suffix.lower() not in FORMATS:
            raise TableError(
                f"{describe(self.path)}: cannot write '{self.path.suffix}': use {', '.join(FORMATS)}"
            )
        if self.path.suffix.lower() == ".parquet":
            _arrow()  # at the door: not after the last picture
        try:
            self._claim = Claim(self.path.with_name(self.path.name + ".lock"), describe(self.path))
        except OSError as problem:
            raise TableError(f"{describe(self.path)}: cannot be written: {_reason(problem)}") from None
        try:
            self._begin(names, resume)
        except BaseException:
            self._claim.release()
            raise

    def _begin(self, names: list[str], resume: bool) -> None:
        if self.part.exists() and not resume:
            raise TableError(
                f"{describe(self.part)} holds an unfinished run: continue it with --resume, or delete it"
            )
        self._extends = False
        try:
            whole = self._recover(names) if resume else 0
            if whole == 0:
                self._extends = resume and self.path.exists()
            if self._extends:
                _same_columns(self.path, names, _header(self.path))
                for row in load(self.path):
                    self._note(row[names[0]], row[names[1]])
            self._file: IO[bytes] = self.part.open("ab", buffering=0)
            self._file.truncate(whole)
            if whole == 0:
                self._append({"columns": names, "extends": self._extends, "found": _identity(self.path)})
        except OSError as problem:
            raise TableError(f"{describe(self.path)}: cannot be written: {_reason(problem)}") from None

    def _recover(self, names: list[str]) -> int:
        """Note what an earlier run completed; return how many bytes of its part file are whole lines."""
        if not self.part.exists():
            return 0
        whole = 0
        for number, (line, end) in enumerate(_whole_lines(self.part)):
            whole = end
            if number == 0:
                if not line.keys() >= _HEAD:
                    raise _damaged_line(self.part, 1)
                # Killed between putting the table in place and removing the part file: the table has it all.
                if line["found"] != _identity(self.path):
                    return 0
                _same_columns(self.part, names, line["columns"])
                self._extends = line["extends"]
            else:
                if not _is_entry(line, len(names)):
                    raise _damaged_line(self.part, number + 1)
                self._note(line["source"], line["frame"])
        return whole

    def _note(self, source: str, frame: int | None) -> None:
        self.done.add(source)
        if frame is not None:
            self.frames[source] = max(frame, self.frames.get(source, frame))

    def wants(self, source: str | Path) -> bool:
        """Whether this picture is still to be done."""
        return key(str(source)) not in self.done

    def write(self, analysis: Analysis) -> None:
        """Append all rows of one picture or frame in one write.

        Raises:
            NoFace: as `rows`.
            TableError: the disk is full or gone; what was added before is safe.
        """
        table = rows(analysis, self._layout, self._landmarks, self._on_no_face, self._video)
        source = key(analysis.source)
        self._append(
            {"source": source, "frame": analysis.frame, "rows": [list(row.values()) for row in table]}
        )
        self._note(source, analysis.frame)

    def _append(self, line: dict[str, Any]) -> None:
        data = memoryview(json.dumps(line, ensure_ascii=False).encode("utf-8") + b"\n")
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as problem:
            raise TableError(
                f"{describe(self.part)}: {_reason(problem)}: the rows before are safe, mend it and --resume"
            ) from None

    def close(self) -> None:
        """Stop without finishing: the part file stays for a later `resume`."""
        self._file.close()
        self._claim.release()

    def finish(self) -> None:
        """Turn the part file into the table, in one step, and remove it.

        Raises:
            TableError: the table cannot be written; the part file is kept.
        """
        self._file.close()
        temporary = self.path.with_name(f".mien-{secrets.token_hex(6)}.part")
        try:
            _write(temporary, self.path.suffix.lower(), self._columns, self.written())
            temporary.replace(self.path)
            self.part.unlink()
        except OSError as problem:
            temporary.unlink(missing_ok=True)
            raise TableError(
                f"{describe(self.path)}: {_reason(problem)}: the rows are safe in {describe(self.part)}, "
                "mend it and --resume"
            ) from None
        finally:
            self._claim.release()

    def written(self) -> Iterator[Row]:
        """Every row so far, in order, from the files: what an earlier run left and what this one has added."""
        names = [column.name for column in self._columns]
        if self._extends:
            yield from load(self.path)
        for number, (line, _) in enumerate(_whole_lines(self.part)):
            for values in line["rows"] if number else ():
                yield dict(zip(names, values, strict=True))

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
    """The documentation of a layout for people: its columns, and one entry each for all x_i and all y_i."""
    points = len(points_of(layout))
    order = "mien.landmarks" if points == POINTS else "mien.columns.DLIB"
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
    """The sources (as `key` gives them) that a table, or the unfinished run beside it, holds completely."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    complete: set[str] = set()
    if path.exists():
        source = next(iter(_header(path)), "")
        complete |= {row[source] for row in load(path) if isinstance(row.get(source), str)}
    if part.exists():
        complete |= {line["source"] for line, _ in _whole_lines(part) if "source" in line}
    return complete


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
            # utf-8-sig: spreadsheets put a mark at the beginning. OpenFace puts spaces after its commas.
            with path.open(encoding="utf-8-sig", newline="") as file:
                for row in csv.DictReader(file, skipinitialspace=True, restkey=_BEYOND):
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


_KINDS: Final = {column.name: column.kind for layout in COLUMNS for column in columns_of(layout, video=True)}


def _parsed(name: str, text: str | None) -> Any:
    if text is None or text == "":
        return None
    kind = _KINDS.get(name)
    if kind is str:
        return text
    if kind is bool:
        return text == "True"
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
            with path.open(encoding="utf-8-sig", newline="") as file:
                return next(csv.reader(file, skipinitialspace=True), [])
    except (OSError, ValueError, csv.Error) as problem:
        raise _unreadable(path, problem) from None
    return list(next(load(path), {}))


def _unreadable(path: Path, problem: Exception) -> TableError:
    return TableError(f"{describe(path)}: cannot be read as a table: {' '.join(str(problem).split())}")


_BEYOND: Final = "\0"  # what the cells beyond the header's are called; no column is
_HEAD: Final = {"columns", "extends", "found"}


def _is_entry(line: dict[str, Any], columns: int) -> bool:
    """Whether a line of a part file, not its first, says what `Writer.write` writes."""
    rows = line.get("rows")
    return (
        isinstance(line.get("source"), str)
        and isinstance(line.get("frame", ""), int | None)
        and isinstance(rows, list)
        and all(isinstance(row, list) and len(row) == columns for row in rows)
    )


def _damaged_line(part: Path, number: int) -> TableError:
    return TableError(f"{describe(part)}: line {number} is damaged: delete the file and start anew")


def _same_columns(path: Path, wanted: list[str], found: list[str]) -> None:
    # A JSON lines table without rows does not say its columns.
    if found and found != wanted:
        raise TableError(
            f"{describe(path)} was written with other columns: give the same --columns and landmarks, or another file"
        )


def _identity(path: Path) -> list[int] | None:
    """What tells one version of a file from the next."""
    if not path.exists():
        return None
    status = path.stat()
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def _whole_lines(part: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Each whole line of a part file with the offset at which it ends; a torn last line is left out."""
    end = 0
    with part.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            end += len(line)
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                raise _damaged_line(part, number) from None
            if not isinstance(found, dict):
                raise _damaged_line(part, number)
            yield found, end


def _write(path: Path, suffix: str, columns: tuple[Column, ...], table: Iterable[Row]) -> None:
    names = [column.name for column in columns]
    if suffix == ".parquet":
        write_parquet(path, columns, table)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        if suffix == ".csv":
            writer = csv.DictWriter(file, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)
        else:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table)
        file.flush()
        os.fsync(file.fileno())


def _arrow() -> Any:
    """pyarrow, which is as large as half of the rest and therefore an extra."""
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise ExtraMissing("parquet", "pyarrow") from None
    return pyarrow


def write_parquet(target: Path | BinaryIO, columns: tuple[Column, ...], table: Iterable[Row]) -> None:
    """Row groups of bounded size; unit, range and meaning of each column travel in the file's schema.

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
    with pyarrow.parquet.ParquetWriter(target, schema) as writer:
        group: list[Row] = []
        for row in table:
            group.append(row)
            if len(group) == ROW_GROUP:
                writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))
                group = []
        if group:
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))
