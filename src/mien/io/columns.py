"""The columns of tables: name, type, unit, range and meaning, in the four layouts that `mien` writes.

The default layout, `mien`, holds everything, mostly under the names that py-feat uses. `pyfeat` and `openface` are
tables for `read_feat` and `read_openface` of py-feat 2.1: 68 facial points in dlib's order, action units under their
names, and empty columns for values that those readers expect and `mien` does not measure. `deepface` has that tool's
names (nested keys are joined by dots, as `pandas.json_normalize` does). Expression columns say what a face shows to an
observer, not what the person feels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from mien.actions import ACTIONS, UNIT_NAMES, UNITS, VERSION, unit
from mien.errors import ConfigError, MienError, NoFace, nearest
from mien.io.images import describe
from mien.labels import EXPRESSIONS, listed
from mien.types import Analysis, Face, FaceChange, Frame, TrackedFace

if TYPE_CHECKING:
    from pandas import DataFrame

POINTS: Final = 112
"""Number of facial points: the length of `mien.landmarks.POINTS`, which `io` does not import."""

# fmt: off
DLIB: Final = (
    0, 1, 3, 4, 5, 6, 8, 9, 10, 11, 12, 14, 15, 16, 17, 19, 20,  # jaw, from the subject's right ear to the left
    21, 22, 23, 24, 25, 35, 34, 33, 32, 31,  # upper edges of the brows: right outer to inner, left inner to outer
    59, 61, 62, 64, 66, 67, 68, 69, 70,  # bridge and base of the nose
    41, 42, 44, 45, 46, 48, 53, 52, 50, 49, 56, 54,  # right eye from its outer corner, left eye from its inner corner
    72, 74, 76, 77, 78, 80, 82, 84, 86, 87, 88, 90,  # outer lips from the right corner, upper edge first
    92, 95, 97, 99, 102, 105, 107, 109,  # inner lips likewise
)
# fmt: on
"""Our nearest point for each of the 68 of dlib, OpenFace and py-feat, which sample the contours differently."""


@dataclass(frozen=True)
class Column:
    """One documented column. `kind` is its Python type; every column may also hold no value."""

    name: str
    kind: type
    unit: str
    range: str
    meaning: str
    value: Callable[[Analysis, int, Face], Any] | None = None
    """A function of (analysis, number of the face, face); None for columns that a picture without a face also has."""

    def __str__(self) -> str:
        unit, span = self.unit or "-", self.range or "-"
        return f"{self.name:<16}  {self.kind.__name__:<5}  {unit:<7}  {span:<18}  {self.meaning}"


def _shared(source: str, frame: str, time: str) -> tuple[Column, ...]:
    return (
        Column(source, str, "", "", "the picture or video, as it was given"),
        Column(frame, int, "", "0, 1, ...", "number of the video frame; empty for a picture"),
        Column(time, float, "s", ">= 0", "time of the video frame; empty for a picture"),
    )


_COMMON: Final = (
    Column(
        "intensity", float, "", "0..1", "how strongly the face moves: 0 at rest, about .95 at full strength",
        lambda a, i, f: f.intensity,
    ),
    Column(
        "uncertain", bool, "", "True, False", "confidence is below the recogniser's threshold, or quality below 0.4",
        lambda a, i, f: f.reading.uncertain,
    ),
    Column(
        "doubts", str, "", "", "why it is uncertain, separated by semicolons; empty where it is not",
        lambda a, i, f: "; ".join(f.reading.doubts) or None,
    ),
    Column(
        "quality", float, "", "0..1", "combines visibility, size, sharpness, frontality and presence of the face",
        lambda a, i, f: f.quality,
    ),
    Column(
        "presence", float, "", "0..1", "the landmark network's own estimate that this is a face",
        lambda a, i, f: f.landmarks.presence,
    ),
)  # fmt: skip

_AFFECT: Final = (
    Column(
        "valence", float, "", "-1..1", "apparent valence, negative to positive", lambda a, i, f: f.valence
    ),
    Column("arousal", float, "", "-1..1", "apparent arousal, calm to activated", lambda a, i, f: f.arousal),
)

_EXPRESSION: Final = (
    Column(
        "expression", str, "", ", ".join(EXPRESSIONS), "the most probable expression label",
        lambda a, i, f: f.expression,
    ),
    Column("probability", float, "", "0..1", "calibrated probability of that label", lambda a, i, f: f.probability),
)  # fmt: skip


def _probability(name: str, column: str) -> Column:
    meaning = f"calibrated probability of {name}; the eight sum to 1"
    return Column(column, float, "", "0..1", meaning, lambda a, i, f: f.probabilities[name])


def _share(name: str, column: str) -> Column:
    meaning = f"{name} in the seven-class view (without contempt, renormalised); the seven sum to 100"
    return Column(column, float, "%", "0..100", meaning, lambda a, i, f: 100 * f.reading.basic()[name])


def _box(left: str, top: str, width: str, height: str, score: str) -> tuple[Column, ...]:
    return (
        Column(left, float, "px", "0..picture width", "left edge of the face box", lambda a, i, f: f.box.x),
        Column(top, float, "px", "0..picture height", "top edge of the face box", lambda a, i, f: f.box.y),
        Column(width, float, "px", "> 0", "width of the face box", lambda a, i, f: f.box.width),
        Column(height, float, "px", "> 0", "height of the face box", lambda a, i, f: f.box.height),
        Column(score, float, "", "0..1", "the detector's confidence", lambda a, i, f: f.detection.score),
    )


def _face_number(name: str) -> Column:
    return Column(
        name, int, "", "0, 1, ...", "number of the face in its picture, largest first", lambda a, i, f: i
    )


_POSE: Final = (
    Column("Pitch", float, "degrees", "-90..90", "signs as in mien.landmarks", lambda a, i, f: f.pose.pitch),
    Column("Roll", float, "degrees", "-180..180", "signs as in mien.landmarks", lambda a, i, f: f.pose.roll),
    Column("Yaw", float, "degrees", "-90..90", "signs as in mien.landmarks", lambda a, i, f: f.pose.yaw),
)

_GAZE: Final = (
    Column(
        "gaze_yaw", float, "degrees", "-90..90", "both eyes, positive to the subject's left, 0 to the camera",
        lambda a, i, f: None if f.gaze is None else f.gaze.yaw,
    ),
    Column(
        "gaze_pitch", float, "degrees", "-90..90", "both eyes, positive upwards, 0 to the camera",
        lambda a, i, f: None if f.gaze is None else f.gaze.pitch,
    ),
)  # fmt: skip

_LAST: Final = (
    Column("faces", int, "", "0, 1, ...", "number of faces found in the picture, the same in all its rows"),
    Column("error", str, "", "", "why the picture could not be analysed; empty when it was"),
)

_DEEPFACE: Final = {
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprise": "surprise",
    "neutral": "neutral",
}
"""`mien`'s seven classes in deepface's order and words."""


def _dominant(analysis: Analysis, number: int, face: Face) -> str:
    return _DEEPFACE[max(face.reading.basic().items(), key=lambda entry: entry[1])[0]]


def _absent(*names: str) -> tuple[Column, ...]:
    """Columns that readers of the layout expect and that `mien` leaves empty."""
    return tuple(
        Column(name, float, "", "", "not measured: always empty", lambda a, i, f: None) for name in names
    )


def _action(name: str) -> Column:
    meaning = f"facial action {name}, by ARKit's name; empty where it is not measured"
    return Column(name, float, "", "0..1", meaning, lambda a, i, f: f.actions.get(name))


def _unit(name: str, column: str = "", scale: float = 1.0) -> Column:
    """A unit of `mien.actions.UNITS`, or one that is not derived and has an empty column."""
    code, _, side = name.partition("_")
    if code not in UNITS:
        return _absent(column or name)[0]
    where = {"": "", "L": ", the subject's left", "R": ", the subject's right"}[side]
    meaning = f"{UNITS[code].name}{where}; action unit of map {VERSION}, see mien.actions"

    def value(analysis: Analysis, number: int, face: Face) -> float | None:
        strength = unit(face.actions, name)
        return None if strength is None else scale * strength

    return Column(column or name, float, "", f"0..{scale:g}", meaning, value)


_ACTIONS: Final = (*map(_action, ACTIONS), *map(_unit, UNIT_NAMES))

_PYFEAT_UNITS: Final = tuple(
    f"AU{number:02}" for number in (1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 17, 20, 23, 24, 25, 26, 28, 43)
)
_OPENFACE_UNITS: Final = tuple(
    f"AU{number:02}" for number in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
)

COLUMNS: Final[dict[str, tuple[Column, ...]]] = {
    "mien": (
        *_shared("input", "frame", "approx_time"),
        _face_number("face"),
        *_box("FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight", "FaceScore"),
        *_POSE,
        *_EXPRESSION,
        *(_probability(name, name) for name in EXPRESSIONS),
        *_AFFECT,
        *_COMMON,
        *_GAZE,
        *_ACTIONS,
        *_LAST,
    ),
    "pyfeat": (
        *_shared("input", "frame", "approx_time"),
        _face_number("face"),
        *_box("FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight", "FaceScore"),
        *_POSE,
        *_absent("X", "Y", "Z"),
        *map(_unit, _PYFEAT_UNITS),
        *_EXPRESSION,
        *(_probability(name, name) for name in EXPRESSIONS),
        # With columns named valence and arousal py-feat takes a table for one of its version 2, with other labels.
        *(replace(column, name=f"apparent_{column.name}") for column in _AFFECT),
        *_COMMON,
        *_GAZE,
        *_LAST,
    ),
    "openface": (
        *_shared("input", "frame", "timestamp"),
        _face_number("face_id"),
        Column("confidence", float, "", "0..1", "the detector's confidence", lambda a, i, f: f.detection.score),
        Column("success", int, "", "0, 1", "1 when a face was found"),
        *_absent(*(f"gaze_{eye}_{axis}" for eye in (0, 1) for axis in "xyz")),
        Column(
            "gaze_angle_x", float, "radians", "-1.6..1.6", "the eyes, mean of both; positive to the subject's left",
            lambda a, i, f: None if f.gaze is None else math.radians(f.gaze.yaw),
        ),
        Column(
            "gaze_angle_y", float, "radians", "-1.6..1.6", "the eyes, mean of both; positive downwards",
            lambda a, i, f: None if f.gaze is None else -math.radians(f.gaze.pitch),
        ),
        *_absent("pose_Tx", "pose_Ty", "pose_Tz"),
        Column("pose_Rx", float, "radians", "-1.6..1.6", "pitch", lambda a, i, f: math.radians(f.pose.pitch)),
        Column("pose_Ry", float, "radians", "-1.6..1.6", "yaw", lambda a, i, f: math.radians(f.pose.yaw)),
        Column("pose_Rz", float, "radians", "-3.2..3.2", "roll", lambda a, i, f: math.radians(f.pose.roll)),
        *(_unit(code, f"{code}_r", 5.0) for code in _OPENFACE_UNITS),
        *_absent(*(f"{code}_c" for code in sorted((*_OPENFACE_UNITS, "AU28")))),
        *_EXPRESSION,
        *(_probability(name, name) for name in EXPRESSIONS),
        *_AFFECT,
        *_COMMON,
        *_LAST,
    ),
    "deepface": (
        *_shared("input", "frame", "time"),
        _face_number("face"),
        *_box("region.x", "region.y", "region.w", "region.h", "face_confidence"),
        Column("dominant_emotion", str, "", ", ".join(_DEEPFACE.values()), "the largest of the seven", _dominant),
        *(_share(name, f"emotion.{word}") for name, word in _DEEPFACE.items()),
        *_AFFECT,
        *_COMMON,
        *_LAST,
    ),
}  # fmt: skip
"""The columns of each layout, in order, without the facial points (see `columns_of`)."""


def _tracked(face: Face) -> TrackedFace:
    return cast("TrackedFace", face)


def _smooth(name: str) -> Column:
    meaning = f"smoothed probability of {name}; the eight sum to 1"
    return Column(
        f"{name}_smooth", float, "", "0..1", meaning, lambda a, i, f: _tracked(f).smoothed.probabilities[name]
    )


VIDEO: Final = (
    Column("shot", int, "", "0, 1, ...", "number of cuts before this frame"),
    Column(
        "searched", bool, "", "True, False",
        "the detector ran on this frame; otherwise faces were tracked by their landmarks",
    ),
    Column(
        "person", int, "", "0, 1, ...", "the same person throughout the clip, in order of appearance",
        lambda a, i, f: _tracked(f).person,
    ),
    Column("smooth_lag", float, "s", ">= 0", "delay of the columns ending in _smooth behind the others"),
    Column(
        "valence_smooth", float, "", "-1..1", "smoothed valence", lambda a, i, f: _tracked(f).smoothed.valence
    ),
    Column(
        "arousal_smooth", float, "", "-1..1", "smoothed arousal", lambda a, i, f: _tracked(f).smoothed.arousal
    ),
    Column(
        "intensity_smooth", float, "", "0..1", "smoothed intensity",
        lambda a, i, f: _tracked(f).smoothed.intensity,
    ),
    Column(
        "expression_smooth", str, "", ", ".join(EXPRESSIONS), "the most probable label of the smoothed probabilities",
        lambda a, i, f: _tracked(f).smoothed.expression,
    ),
    *(_smooth(name) for name in EXPRESSIONS),
)  # fmt: skip
"""Additional columns of the tables of `mien video` and `mien live`, in every layout; their faces are `TrackedFace`."""


def _changed(column: Column, value: Callable[[FaceChange], float | None]) -> Column:
    """The column of a value's change from the baseline."""
    low, high = column.range.split("..")
    wide = float(high) - float(low)

    def change(analysis: Analysis, number: int, face: Face) -> float | None:
        return None if face.change is None else value(face.change)

    meaning = f"change of {column.name} from the person's neutral face; empty where there is no baseline"
    return Column(f"{column.name}_change", float, "", f"{-wide:g}..{wide:g}", meaning, change)


def _changed_part(part: str, name: str, column: Column) -> Column:
    return _changed(column, lambda change: cast("dict[str, float | None]", getattr(change, part)).get(name))


CHANGES: Final = (
    Column(
        "baseline", str, "", "", "the neutral face that the columns ending in _change compare with",
        lambda a, i, f: None if f.change is None else f.change.baseline,
    ),
    *(_changed_part("probabilities", name, _probability(name, name)) for name in EXPRESSIONS),
    _changed(_AFFECT[0], lambda change: change.valence),
    _changed(_AFFECT[1], lambda change: change.arousal),
    *(_changed_part("actions", name, _action(name)) for name in ACTIONS),
    *(_changed_part("units", name, _unit(name)) for name in UNIT_NAMES),
)  # fmt: skip
"""Additional columns of the layout "mien" where faces are compared with a baseline."""


def points_of(layout: str) -> tuple[int, ...]:
    """The indices of our facial points that a layout has as x_0, y_0, x_1, ..., in this order."""
    return DLIB if layout in ("pyfeat", "openface") else tuple(range(POINTS))


def columns_of(
    layout: str = "mien",
    landmarks: bool = True,
    video: bool = False,
    labels: tuple[str, ...] = EXPRESSIONS,
    changes: bool = False,
) -> tuple[Column, ...]:
    """All columns of a layout: those of `COLUMNS`; those of `VIDEO`, of `CHANGES` and x_0 ... y_0 ... of the facial
    points if requested.

    With own labels the columns `p_<label>`, `smoothed_<label>` and `p_<label>_change` replace those of the eight
    expressions.

    Raises:
        ConfigError: no such layout, own labels in a layout with seven fixed classes, or changes in another tool's.
    """
    if layout not in COLUMNS:
        raise ConfigError(f"no column layout '{layout}': {nearest(layout, list(COLUMNS))}")
    if changes and layout != "mien":
        raise ConfigError(
            f"--columns {layout} has the columns of another tool, which compares with no baseline: use --columns mien"
        )
    named = (*COLUMNS[layout], *(VIDEO if video else ()), *(CHANGES if changes else ()))
    if labels != EXPRESSIONS:
        if layout == "deepface":
            raise ConfigError(
                f"--columns deepface has columns for seven expressions of its own, but these weights have "
                f"{listed(labels)}: use --columns mien"
            )
        named = _of_own(named, labels)
    return (*named, *(_point_columns(points_of(layout)) if landmarks else ()))


@lru_cache(maxsize=32)
def _of_own(columns: tuple[Column, ...], labels: tuple[str, ...]) -> tuple[Column, ...]:
    """The same columns with own labels instead of the eight expressions."""
    replaced: list[Column] = []
    for column in columns:
        if column.name in ("expression", "expression_smooth"):
            replaced.append(replace(column, range=", ".join(labels)))
        elif column.name == EXPRESSIONS[0]:
            replaced += [
                replace(_probability(name, f"p_{name}"), meaning=f"calibrated probability of {name}")
                for name in labels
            ]
        elif column.name == f"{EXPRESSIONS[0]}_smooth":
            replaced += [
                replace(_smooth(name), name=f"smoothed_{name}", meaning=f"smoothed probability of {name}")
                for name in labels
            ]
        elif column.name == f"{EXPRESSIONS[0]}_change":
            replaced += [
                _changed_part("probabilities", name, _probability(name, f"p_{name}")) for name in labels
            ]
        elif column.name.removesuffix("_smooth").removesuffix("_change") not in EXPRESSIONS:
            replaced.append(column)
    return tuple(replaced)


@cache
def _point_columns(points: tuple[int, ...]) -> tuple[Column, ...]:
    return tuple(_point_column(letter, place, point) for letter in "xy" for place, point in enumerate(points))


def _point_column(letter: str, place: int, point: int) -> Column:
    meaning = f"{letter} of facial point {point} (mien.landmarks.POINTS)"
    axis = "xy".index(letter)
    return Column(
        f"{letter}_{place}", float, "px", "may lie outside the picture", meaning,
        lambda a, i, f: f.landmarks.points[point][axis],
    )  # fmt: skip


_PANDAS: Final = {str: "string", int: "Int64", float: "float64", bool: "boolean"}
"""pandas' type for each `Column.kind`; each can be without a value."""

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
    changes: bool = False,
) -> list[Row]:
    """One row for each face of a picture, all with the same keys, in the order of `columns_of`.

    A picture without a face, or one that could not be analysed, gives a single row with empty face columns ("row") or
    none at all ("skip"); an error is never skipped. `video` adds the columns of a `Frame`, `changes` those of a
    baseline. `labels` are those of the recogniser.

    Raises:
        NoFace: there is no face and `on_no_face` is "error".
        TableError: points are requested and a face does not have `POINTS` of them.
    """
    layout = columns_of(columns, landmarks, video, labels, changes)
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
    """A source's name in tables: bytes that are not UTF-8 are written as backslash escapes."""
    return source.encode("utf-8", "backslashreplace").decode("utf-8")


def finite(value: Any) -> Any:
    """The value, or None for NaN and infinity, which tables cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table_of(
    analyses: Sequence[Analysis],
    columns: str = "mien",
    landmarks: bool = True,
    labels: tuple[str, ...] | None = None,
) -> tuple[tuple[Column, ...], list[Row]]:
    """The columns and all rows of some analyses; those of a change from a baseline if a face has one.

    `labels` are those of the recogniser; None takes them from the first face.

    Raises:
        ConfigError: as `columns_of`.
        TableError: as `rows`, or a face has other labels.
    """
    faces = [(analysis.source, face) for analysis in analyses for face in analysis.faces]
    if labels is None:
        labels = next((tuple(face.probabilities) for _, face in faces), EXPRESSIONS)
    for source, face in faces:
        if face.probabilities.keys() != set(labels):
            raise TableError(
                f"{describe(source)}: a face has the labels {listed(tuple(face.probabilities))}, not {listed(labels)}: "
                "make a table of each"
            )
    changes = any(face.change is not None for _, face in faces)
    layout = columns_of(columns, landmarks, labels=labels, changes=changes)
    table = [
        row
        for analysis in analyses
        for row in rows(analysis, columns, landmarks, labels=labels, changes=changes)
    ]
    return layout, table


def to_frame(
    analyses: Iterable[Analysis],
    columns: str = "mien",
    landmarks: bool = True,
    labels: tuple[str, ...] | None = None,
) -> DataFrame:
    """A pandas DataFrame with one row for each face, and one for each picture without.

    Columns have pandas' types that can be without a value: `string`, `Int64`, `float64`, `boolean`.

    `labels` are those of the recogniser; None takes them from the first face.

    Raises:
        TableError: pandas is not installed, or as `table_of`.
    """
    try:
        import pandas
    except ModuleNotFoundError:
        raise TableError("to_frame needs 'pandas': install it with  pip install pandas") from None
    layout, table = table_of(list(analyses), columns, landmarks, labels)
    frame = pandas.DataFrame(table, columns=[column.name for column in layout])
    return frame.astype({column.name: _PANDAS[column.kind] for column in layout})
