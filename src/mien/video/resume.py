"""Read the results of an earlier run back from its table, to resume the analysis of a video.

A table of the default layout holds all outputs of the networks for a frame. Resuming decodes the first part of the
video again, which is quick, with these outputs in place of the networks: shots, persons and smoothing, which depend on
all earlier frames, come out exactly as in an uninterrupted run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby

from mien.actions import ACTIONS
from mien.io.columns import columns_of, finite
from mien.io.tables import Row, TableError
from mien.io.video import Picture
from mien.labels import EXPRESSIONS
from mien.types import Analysis, Box, Detection, Face, Gaze, Landmarks, NeutralFace, Pose, Reading

LAYOUT = "mien"
"""The layout that can be read back."""

Known = tuple[tuple[Face, ...], bool]
"""The faces of a frame, and whether the detector searched it."""


class Recall:
    """The results of an earlier run, frame by frame.

    Args:
        rows: of the table so far, with landmarks, in order.
        source: the name of the video.
        lag: of the smoothed values, seconds.

    Raises:
        TableError: the rows are of another video or another smoothing lag.
    """

    def __init__(self, rows: Iterable[Row], source: str, lag: float) -> None:
        self._source, self._lag = source, lag
        self._frames = self._grouped(rows)
        self._next = next(self._frames, None)

    def _grouped(self, rows: Iterable[Row]) -> Iterator[list[Row]]:
        for _, group in groupby(rows, key=lambda row: (row["input"], row["frame"])):
            whole = list(group)
            if whole[0]["input"] != self._source:
                raise TableError(
                    f"the table holds rows of {whole[0]['input']}: name the same video, or another --out"
                )
            if whole[0]["smooth_lag"] != self._lag:
                raise TableError(
                    f"the table was smoothed with a lag of {whole[0]['smooth_lag']} s: pass the same --smooth"
                )
            yield whole

    def __call__(self, picture: Picture) -> Known | None:
        """The results for this frame; None from the first frame on that the earlier run did not reach.

        Raises:
            TableError: the table goes on, but not with this frame: it was made with another --every, or of another
                video of the same name.
        """
        if self._next is None:
            return None
        row = self._next[0]
        if row["frame"] != picture.number or abs(row["approx_time"] - picture.time) > 1e-6:
            raise TableError(
                f"the table has frame {row['frame']} at {row['approx_time']:.3f} s where the video has frame "
                f"{picture.number} at {picture.time:.3f} s: pass the same --every and video, or another --out"
            )
        known = faces(self._next), bool(row["searched"])
        self._next = next(self._frames, None)
        return known

    def finish(self) -> None:
        """Check at the video's end that all rows were used.

        Raises:
            TableError: the table has frames beyond the video's end.
        """
        if self._next is not None:
            raise TableError(
                f"the table goes on to frame {self._next[0]['frame']}, after the video's end: name the video it was "
                "made of, or another --out"
            )


def changed(baselines: Mapping[int, NeutralFace]) -> Callable[[Row], Row]:
    """A function that fills in the changes of a row from the baseline of its person; of other people they are empty."""

    def complete(row: Row) -> Row:
        baseline = None if row["face"] is None else baselines.get(row["person"])
        face = None if baseline is None else _face(row)
        if baseline is None or face is None:
            return row | {name: None for name in row if name == "baseline" or name.endswith("_change")}
        face = replace(face, change=baseline.change(face.reading))
        columns = columns_of(labels=tuple(face.probabilities), landmarks=False, changes=True)
        analysis = Analysis(row["input"], 0, 0, (face,))
        return row | {
            column.name: finite(column.value(analysis, 0, face))
            for column in columns
            if column.value is not None and (column.name == "baseline" or column.name.endswith("_change"))
        }

    return complete


def faces(rows: Iterable[Row]) -> tuple[Face, ...]:
    """Rebuild the faces from the rows of one frame; none for a row without a face."""
    return tuple(_face(row) for row in rows if row["face"] is not None)


def _actions(row: Row) -> dict[str, float | None]:
    """The actions of a row; none where the run did not read them."""
    values = {name: row.get(name) for name in ACTIONS}
    return values if any(value is not None for value in values.values()) else {}


def _face(row: Row) -> Face:
    points: list[tuple[float, float]] = []
    while (x := row.get(f"x_{len(points)}")) is not None:
        points.append((x, row[f"y_{len(points)}"]))
    own = [name for name in row if name.startswith("p_") and not name.endswith("_change")]
    reading = Reading(
        {name.removeprefix("p_"): row[name] for name in own or EXPRESSIONS},
        row["valence"],
        row["arousal"],
        row["intensity"],
        row["uncertain"],
        doubts=tuple(doubts.split("; ")) if (doubts := row.get("doubts")) else (),
        actions=_actions(row),
        gaze=None if row.get("gaze_yaw") is None else Gaze(row["gaze_yaw"], row["gaze_pitch"]),
    )
    box = Box(row["FaceRectX"], row["FaceRectY"], row["FaceRectWidth"], row["FaceRectHeight"])
    return Face(
        Detection(box, row["FaceScore"]),
        Landmarks(tuple(points), row["presence"]),
        Pose(row["Yaw"], row["Pitch"], row["Roll"]),
        reading,
        row["quality"],
    )
