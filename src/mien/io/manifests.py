"""Tables that name pictures, one row for each: CSV (commas, UTF-8) or Parquet.

Tests: tests/batch/test_batch.py, tests/faces/test_baseline.py.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from io import BytesIO, StringIO
from typing import Any, Final

from mien.errors import ExtraMissing

MANIFESTS: Final = (".csv", ".parquet")


class Manifest:
    """A table in memory. Capitals and spaces around the names of columns do not matter.

    Args:
        data: the file's bytes.
        suffix: of `MANIFESTS`.

    Attributes:
        names: of the columns.

    Raises:
        ValueError, OSError, csv.Error: it is damaged; also while rows are read.
        ExtraMissing: a Parquet file, and pyarrow is not installed.
    """

    def __init__(self, data: bytes, suffix: str) -> None:
        self._csv: csv.DictReader[str] | None = None
        if suffix == ".csv":
            text = StringIO(data.decode("utf-8-sig"), newline="")
            self._csv = csv.DictReader(text, skipinitialspace=True)
            self.names = list(self._csv.fieldnames or ())
        else:
            self._parquet: Any = _opened(data)
            self.names = list(self._parquet.schema_arrow.names)

    def column(self, wanted: Sequence[str]) -> str | None:
        """The first of the wanted columns that is there, as the table writes its name."""
        plain = {name.strip().lower(): name for name in reversed(self.names)}
        return next((plain[name] for name in wanted if name in plain), None)

    def rows(self, *columns: str) -> Iterator[tuple[int, tuple[str, ...]]]:
        """The number of each row and the text of its cells in these columns; can be read once."""
        if self._csv is not None:
            for row in self._csv:
                yield self._csv.line_num, tuple((row[column] or "").strip() for column in columns)
            return
        number = 0
        for chunk in self._parquet.iter_batches(columns=list(columns)):
            for cells in zip(*(chunk.column(name).to_pylist() for name in columns), strict=True):
                number += 1
                yield number, tuple("" if cell is None else str(cell).strip() for cell in cells)


def _opened(data: bytes) -> Any:
    try:
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise ExtraMissing("parquet", "pyarrow") from None
    return parquet.ParquetFile(BytesIO(data))
