"""What was found in a picture as rows of a table: one row for each face, under the columns of `mien.columns`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

from mien.columns import POINTS, columns_of
from mien.errors import MienError, NoFace
from mien.images import describe
from mien.labels import EXPRESSIONS
from mien.types import Analysis, Frame

OnNoFace = Literal["row", "skip", "error"]
Row = dict[str, Any]
"""Column name to str, int, float, bool or None (no value)."""


class TableError(MienError):
    """A table cannot be written, read or continued."""


def rows(
    analysis: Analysis,
    columns: str = "mien",
    landmarks: bool = True,
    on_no_face: OnNoFace = "row",
    video: bool = False,
    labels: tuple[str, ...] = EXPRESSIONS,
) -> list[Row]:
    """One row for each face of a picture, all with the same keys, in the order of `columns_of`.

    A picture without a face, or one that could not be analysed, gives a single row whose face columns are None
    ("row") or none at all ("skip"); an error is never skipped. `video` adds the columns of a `Frame`. `labels` are
    those of the recogniser.

    Raises:
        NoFace: there is no face and `on_no_face` is "error".
        TableError: points are asked for and a face has another number of them than `POINTS`.
    """
    layout = columns_of(columns, landmarks, video, labels)
    if not analysis.faces and analysis.error is None:
        if on_no_face == "skip":
            return []
        if on_no_face == "error":
            raise NoFace(
                f"{describe(analysis.source)}: no face found: check the picture, or lower the detector's minimum"
            )
    for face in analysis.faces:
        if landmarks and len(face.landmarks.points) != POINTS:
            raise TableError(
                f"a face has {len(face.landmarks.points)} points, not {POINTS}: pass landmarks=False"
            )
    picture = {
        layout[0].name: key(analysis.source),
        layout[1].name: analysis.frame,
        layout[2].name: analysis.time,
        "faces": len(analysis.faces),
        "success": int(bool(analysis.faces)),
        "error": analysis.error,
    }
    if isinstance(analysis, Frame):
        picture |= {"shot": analysis.shot, "searched": analysis.searched, "smooth_lag": analysis.lag}
    if not analysis.faces:
        return [{column.name: picture.get(column.name) for column in layout}]
    return [
        {
            column.name: picture[column.name]
            if column.value is None
            else finite(column.value(analysis, number, face))
            for column in layout
        }
        for number, face in enumerate(analysis.faces)
    ]


def key(source: str) -> str:
    """A source's name as tables hold it: bytes that are not UTF-8 are written as backslash escapes."""
    return source.encode("utf-8", "backslashreplace").decode("utf-8")


def finite(value: Any) -> Any:
    """The value, or None for a number that no table can hold: NaN or infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_frame(
    analyses: Iterable[Analysis],
    columns: str = "mien",
    landmarks: bool = True,
    labels: tuple[str, ...] | None = None,
) -> Any:
    """A pandas DataFrame with one row for each face, and one for each picture without.

    `labels` are those of the recogniser; None takes them from the first face.

    Raises:
        TableError: pandas is not installed.
    """
    try:
        import pandas
    except ModuleNotFoundError:
        raise TableError("to_frame needs 'pandas': install it with  pip install pandas") from None
    listed = list(analyses)
    if labels is None:
        faces = (face for analysis in listed for face in analysis.faces)
        labels = next((tuple(face.probabilities) for face in faces), EXPRESSIONS)
    layout = columns_of(columns, landmarks, labels=labels)
    table = [row for analysis in listed for row in rows(analysis, columns, landmarks, labels=labels)]
    return pandas.DataFrame(table, columns=[column.name for column in layout])
