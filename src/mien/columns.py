"""What every column of a table means: name, type, unit and range, in the three layouts that `mien` writes.

The default layout uses py-feat's column names, so that scripts written for it keep working; `openface` and `deepface`
give those tools' names instead (nested keys of deepface are joined by dots, as `pandas.json_normalize` does).
Expression columns say what a face shows to an observer, not what the person feels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

from mien.errors import ConfigError, nearest
from mien.labels import EXPRESSIONS
from mien.types import Analysis, Face, TrackedFace

POINTS: Final = 112
"""How many facial points a row holds: those of `mien.landmarks.POINTS`, which this floor may not import."""


@dataclass(frozen=True)
class Column:
    """One documented column. `kind` is its Python type; every column may also hold no value."""

    name: str
    kind: type
    unit: str
    range: str
    meaning: str
    value: Callable[[Analysis, int, Face], Any] | None = None
    """Takes (analysis, number of the face, face); None for columns that a picture without a face has too."""

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
        "intensity", float, "", "0..1", "1 - P(neutral): whether there is an expression, not how strong it is",
        lambda a, i, f: f.intensity,
    ),
    Column(
        "uncertain", bool, "", "True, False", "confidence is below the recogniser's threshold, or quality below 0.4",
        lambda a, i, f: f.reading.uncertain,
    ),
    Column(
        "quality", float, "", "0..1", "how much can be seen of the face, its size, sharpness, frontality and presence",
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
    meaning = f"{name} in the seven-class view (without contempt, which is shared out); the seven sum to 100"
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


COLUMNS: Final[dict[str, tuple[Column, ...]]] = {
    "pyfeat": (
        *_shared("input", "frame", "approx_time"),
        _face_number("face"),
        *_box("FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight", "FaceScore"),
        Column("Pitch", float, "degrees", "-90..90", "signs as in mien.landmarks", lambda a, i, f: f.pose.pitch),
        Column("Roll", float, "degrees", "-180..180", "signs as in mien.landmarks", lambda a, i, f: f.pose.roll),
        Column("Yaw", float, "degrees", "-90..90", "signs as in mien.landmarks", lambda a, i, f: f.pose.yaw),
        *_EXPRESSION,
        *(_probability(name, name) for name in EXPRESSIONS),
        *_AFFECT,
        *_COMMON,
        *_LAST,
    ),
    "openface": (
        *_shared("input", "frame", "timestamp"),
        _face_number("face_id"),
        Column("confidence", float, "", "0..1", "the detector's confidence", lambda a, i, f: f.detection.score),
        Column("success", int, "", "0, 1", "1 when a face was found"),
        Column("pose_Rx", float, "radians", "-1.6..1.6", "pitch", lambda a, i, f: math.radians(f.pose.pitch)),
        Column("pose_Ry", float, "radians", "-1.6..1.6", "yaw", lambda a, i, f: math.radians(f.pose.yaw)),
        Column("pose_Rz", float, "radians", "-3.2..3.2", "roll", lambda a, i, f: math.radians(f.pose.roll)),
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
        "the detector looked at this frame; otherwise faces were followed by their landmarks",
    ),
    Column(
        "person", int, "", "0, 1, ...", "the same person throughout the clip, in order of appearance",
        lambda a, i, f: _tracked(f).person,
    ),
    Column("smooth_lag", float, "s", ">= 0", "how far the columns ending in _smooth lag behind the others"),
    Column(
        "valence_smooth", float, "", "-1..1", "smoothed valence", lambda a, i, f: _tracked(f).smoothed.valence
    ),
    Column(
        "arousal_smooth", float, "", "-1..1", "smoothed arousal", lambda a, i, f: _tracked(f).smoothed.arousal
    ),
    Column(
        "intensity_smooth", float, "", "0..1", "1 - the smoothed P(neutral)",
        lambda a, i, f: _tracked(f).smoothed.intensity,
    ),
    Column(
        "expression_smooth", str, "", ", ".join(EXPRESSIONS), "the most probable label of the smoothed probabilities",
        lambda a, i, f: _tracked(f).smoothed.expression,
    ),
    *(_smooth(name) for name in EXPRESSIONS),
)  # fmt: skip
"""What the tables of `mien video` and `mien live` have besides, in every layout; their faces are `TrackedFace`."""


def columns_of(layout: str = "pyfeat", landmarks: bool = True, video: bool = False) -> tuple[Column, ...]:
    """All columns of a layout: those of `COLUMNS`, those of `VIDEO` and x_0 ... y_0 ... of the facial points if asked.

    Raises:
        ConfigError: no such layout.
    """
    if layout not in COLUMNS:
        raise ConfigError(f"no column layout '{layout}': {nearest(layout, list(COLUMNS))}")
    return (*COLUMNS[layout], *(VIDEO if video else ()), *(_POINT_COLUMNS if landmarks else ()))


def _point_columns() -> Iterator[Column]:
    for axis, letter in enumerate("xy"):
        for number in range(POINTS):
            meaning = f"{letter} of facial point {number} (mien.landmarks.POINTS)"

            def value(a: Analysis, i: int, f: Face, axis: int = axis, number: int = number) -> float:
                return f.landmarks.points[number][axis]

            yield Column(f"{letter}_{number}", float, "px", "may lie outside the picture", meaning, value)


_POINT_COLUMNS: Final = tuple(_point_columns())
