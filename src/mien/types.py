"""Result types: immutable values that print, compare, and go to JSON, CSV and Parquet unchanged.

Conventions of the whole package:

- pictures are RGB, uint8, height x width x 3, already upright (EXIF orientation applied);
- coordinates are pixels of that upright picture, x to the right and y down, the centre of the top left pixel at (0, 0);
- "left" and "right" of a face are the subject's own;
- probabilities are in [0, 1]; valence and arousal in [-1, 1]; intensity in [0, 1]; angles in degrees.

A picture without a face is an `Analysis` with empty `faces`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from mien.actions import units
from mien.labels import BASIC
from mien.wording import signed

if TYPE_CHECKING:
    from pandas import DataFrame
    from typing_extensions import Self

CountProgress = Callable[[int, int], None]
"""The `progress` of work that is counted: called with (done, total)."""
LineProgress = Callable[[str], None]
"""The `progress` of work in few long steps: called with a line of text as each begins."""
ShareProgress = Callable[[float], None]
"""The `progress` of a job: called with the share of it that is done, 0 to 1."""
EventProgress = Callable[[str, dict[str, Any]], None]
"""The `progress` of a training: called with ("crops" | "step" | "epoch" | "note", values)."""

# Read by pydantic in `Analysis.from_dict`: a field that a class does not have is an error, not ignored.
_CLOSED = {"extra": "forbid"}


@dataclass(frozen=True, slots=True)
class Box:
    """An upright rectangle in pixels: left edge `x`, top edge `y`, `width`, `height` (all may be fractional)."""

    __pydantic_config__: ClassVar[dict[str, str]] = _CLOSED

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The x coordinate of the right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """The y coordinate of the bottom edge."""
        return self.y + self.height

    @property
    def area(self) -> float:
        """The area in square pixels."""
        return self.width * self.height

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom)."""
        return self.x, self.y, self.right, self.bottom

    def intersection(self, other: Box) -> float:
        """The area in square pixels that both boxes cover; 0 where they do not overlap."""
        width = min(self.right, other.right) - max(self.x, other.x)
        height = min(self.bottom, other.bottom) - max(self.y, other.y)
        return width * height if width > 0 and height > 0 else 0.0

    def iou(self, other: Box) -> float:
        """Intersection over union, in [0, 1]: the area that both cover over the area that either covers."""
        common = self.intersection(other)
        return common / (self.area + other.area - common) if common else 0.0


@dataclass(frozen=True, slots=True)
class Detection:
    """A face found by a detector: its `box` and a confidence `score` in [0, 1] on that detector's own scale.

    Of a detector that tells them, `points` are the five points (eye on the left and on the right of the picture of the
    upright face, tip of the nose, left and right corner of the mouth likewise) and `roll` is the quarter turn of the
    head, 0, 90, 180 or 270 degrees clockwise. They lead to the landmarks and the pose, and are not in JSON.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _CLOSED

    box: Box
    score: float
    points: tuple[tuple[float, float], ...] | None = field(default=None, compare=False, repr=False)
    roll: float | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Pose:
    """Head rotation in degrees; signs as documented in `mien.landmarks`."""

    __pydantic_config__: ClassVar[dict[str, str]] = _CLOSED

    yaw: float
    pitch: float
    roll: float


@dataclass(frozen=True, slots=True)
class Gaze:
    """The direction of the eyes in the camera's frame, in degrees: `yaw` positive to the subject's left (the right of
    the picture), `pitch` positive upwards; (0, 0) is parallel to the camera's axis, towards the camera."""

    __pydantic_config__: ClassVar[dict[str, str]] = _CLOSED

    yaw: float
    pitch: float


@dataclass(frozen=True, slots=True, repr=False)
class Landmarks:
    """Facial points in pixels of the picture, in the order of `mien.landmarks.POINTS`.

    `presence` in [0, 1] is the landmark network's own estimate that this is a face at all.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _CLOSED

    points: tuple[tuple[float, float], ...]
    presence: float

    def __repr__(self) -> str:
        return f"Landmarks({len(self.points)} points, presence {self.presence:.2f})"


@dataclass(frozen=True, slots=True)
class Reading:
    """The recogniser's outputs for one face crop.

    Attributes:
        probabilities: calibrated probability of each label, summing to 1: the eight `EXPRESSIONS`, or own labels.
        valence: apparent valence in [-1, 1], negative to positive; None where the network was not trained on it.
        arousal: apparent arousal in [-1, 1], calm to activated; None likewise.
        intensity: how strongly the face moves, in [0, 1): 0 at rest, about 0.95 at the full strength of an
            expression, whichever it is; it rises with every action and cannot reach 1. See
            `mien.training.actions.intensity`. None where actions were not asked for.
        uncertain: True when the calibrated confidence is below the recogniser's threshold (see its card), or, in a
            `Face`, when the face's quality is below 0.4.
        doubts: why it is uncertain, in words: "between happiness and neutral", or the main fault of the face's picture
            ("covered", "small", "blurred", "turned", "hardly a face"); empty if it is not uncertain.
        embedding: the recogniser's feature vector; empty unless embeddings were asked for.
        actions: each of `mien.actions.ACTIONS` in [0, 1], from the face at rest to the movement at its maximum, by
            ARKit's name; None where an action cannot be measured. Empty where actions were not asked for.
        gaze: where the eyes look; None where they are shut, or where actions were not asked for.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _CLOSED

    probabilities: dict[str, float]
    valence: float | None
    arousal: float | None
    intensity: float | None
    uncertain: bool
    embedding: tuple[float, ...] = ()
    doubts: tuple[str, ...] = ()
    actions: dict[str, float | None] = field(default_factory=dict)
    gaze: Gaze | None = None

    @property
    def units(self) -> dict[str, float | None]:
        """The FACS action units in [0, 1] that follow from `actions`, such as `AU12`, `AU12_L` and `AU12_R`; empty
        where there are no actions. See `mien.actions.UNITS`."""
        return units(self.actions) if self.actions else {}

    @property
    def expression(self) -> str:
        """The most probable expression label."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def probability(self) -> float:
        """The probability of `expression`."""
        return max(self.probabilities.values())

    def basic(self) -> dict[str, float]:
        """The seven-class view: contempt left out and the rest renormalised to sum to 1.

        Raises:
            KeyError: the labels are not the eight `EXPRESSIONS`.
        """
        total = sum(self.probabilities[name] for name in BASIC)
        return {name: self.probabilities[name] / total if total > 0 else 1 / len(BASIC) for name in BASIC}


@dataclass(frozen=True, slots=True)
class FaceChange:
    """How far a face differs from the neutral face of its person: each value of the reading less the baseline's.

    Attributes:
        baseline: what the face was compared with, see `NeutralFace`.
        probabilities: in [-1, 1], by label.
        valence, arousal: in [-2, 2]; None where the network was not trained on them.
        actions: in [-1, 1], by the names of `mien.actions.ACTIONS`; None where one cannot be measured.
        units: the FACS action units likewise: those of the face less those of the baseline's actions.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _CLOSED

    baseline: str
    probabilities: dict[str, float]
    valence: float | None
    arousal: float | None
    actions: dict[str, float | None]
    units: dict[str, float | None]


@dataclass(frozen=True)
class NeutralFace:
    """A person's own neutral face: the mean of one or more readings, which other readings are compared with.

    `Pipeline.baseline` makes one of pictures, `mien.video.CalmestSecond` and `mien.video.Span` of a video's frames.

    Attributes:
        name: what it was made of, for people: "neutral.jpg", "anna", "calmest 1.20-2.20 s".
        probabilities, valence, arousal, actions: means, each as in `Reading`.
    """

    name: str
    probabilities: dict[str, float]
    valence: float | None
    arousal: float | None
    actions: dict[str, float | None]

    @classmethod
    def of(cls, readings: Sequence[Reading], name: str) -> Self:
        """The mean of one or more readings of one person, all of one recogniser."""
        return cls(
            name,
            {
                label: sum(reading.probabilities[label] for reading in readings) / len(readings)
                for label in readings[0].probabilities
            },
            _mean([reading.valence for reading in readings]),
            _mean([reading.arousal for reading in readings]),
            {
                action: _mean([reading.actions[action] for reading in readings])
                for action in readings[0].actions
            },
        )

    @cached_property
    def units(self) -> dict[str, float | None]:
        """The action units that follow from the mean actions."""
        return units(self.actions) if self.actions else {}

    def change(self, reading: Reading) -> FaceChange:
        """How far a reading differs from this.

        Raises:
            ConfigError: the reading has other labels.
        """
        if reading.probabilities.keys() != self.probabilities.keys():
            from mien.errors import ConfigError

            raise ConfigError(
                f"the baseline '{self.name}' was read with other labels: read it with the same weights"
            )
        return FaceChange(
            self.name,
            {name: value - self.probabilities[name] for name, value in reading.probabilities.items()},
            _less(reading.valence, self.valence),
            _less(reading.arousal, self.arousal),
            {name: _less(value, self.actions.get(name)) for name, value in reading.actions.items()},
            {name: _less(value, self.units.get(name)) for name, value in reading.units.items()},
        )


def _less(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else value - base


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of one or more values; None where one is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


@dataclass(frozen=True, slots=True, repr=False)
class Face:
    """One face of a picture. `quality` in [0, 1] combines visibility, size, sharpness, frontality and presence, see
    `mien.faces.pipeline.quality`. Below 0.4 the picture is too poor for a reliable reading, which is then marked
    `uncertain`. `change` is the difference from the person's own neutral face; None if there is no baseline.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _CLOSED

    detection: Detection
    landmarks: Landmarks
    pose: Pose
    reading: Reading
    quality: float
    change: FaceChange | None = field(default=None, kw_only=True)

    def __repr__(self) -> str:
        box, name = self.box, self.expression + "?" * self.reading.uncertain
        return (
            f"{type(self).__name__}({name} {self.probability:.2f}, v {signed(self.valence)}, "
            f"a {signed(self.arousal)}, "
            f"box {box.x:.0f}, {box.y:.0f}, {box.width:.0f} x {box.height:.0f}, quality {self.quality:.2f})"
        )

    @property
    def box(self) -> Box:
        """The detector's box."""
        return self.detection.box

    @property
    def expression(self) -> str:
        """The most probable expression label."""
        return self.reading.expression

    @property
    def probability(self) -> float:
        """The calibrated probability of `expression`."""
        return self.reading.probability

    @property
    def probabilities(self) -> dict[str, float]:
        """The probability of each label."""
        return self.reading.probabilities

    @property
    def actions(self) -> dict[str, float | None]:
        """The facial actions in [0, 1] by ARKit's name, see `Reading`."""
        return self.reading.actions

    @property
    def units(self) -> dict[str, float | None]:
        """The FACS action units in [0, 1], see `Reading`."""
        return self.reading.units

    @property
    def gaze(self) -> Gaze | None:
        """Where the eyes look; None where they are shut, see `Reading`."""
        return self.reading.gaze

    @property
    def valence(self) -> float | None:
        """Apparent valence in [-1, 1]; None where the network was not trained on it."""
        return self.reading.valence

    @property
    def arousal(self) -> float | None:
        """Apparent arousal in [-1, 1]; None where the network was not trained on it."""
        return self.reading.arousal

    @property
    def intensity(self) -> float | None:
        """How strongly the face moves, in [0, 1]; see `Reading`."""
        return self.reading.intensity


@dataclass(frozen=True, slots=True, repr=False)
class Analysis:
    """Everything found in one picture or one video frame.

    `source` is the path as given (or "array"), `width` and `height` the upright picture's size in pixels, `frame` and
    `time` the frame number and seconds for video, `error` a one-line reason for a picture that could not be analysed.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _CLOSED

    source: str
    width: int
    height: int
    faces: tuple[Face, ...] = ()
    error: str | None = None
    frame: int | None = None
    time: float | None = None
    model: str = field(default="", compare=False)

    def __repr__(self) -> str:
        """A summary with one line for each face; `to_json` gives everything."""
        kind, at = type(self).__name__, "" if self.frame is None else f", frame {self.frame}"
        if self.error is not None:
            return f"{kind}({self.source!r}, error {self.error!r})"
        head = f"{kind}({self.source!r}{at}, {self.width} x {self.height}, "
        return (
            head
            + ("\n" + " " * (len(kind) + 1)).join([repr(face) for face in self.faces] or ["no face"])
            + ")"
        )

    def to_dict(self) -> dict[str, Any]:
        """A plain nested dict of JSON types; `from_dict` reads it back. Without a baseline a face has no `change`."""
        values = asdict(self)
        for face in values["faces"]:
            del face["detection"]["points"], face["detection"]["roll"]
            if face["change"] is None:
                del face["change"]
        return values

    def relative_to(self, baseline: NeutralFace) -> Self:
        """The same with each face's `change` from a baseline.

        Raises:
            ConfigError: the baseline has other labels.
        """
        return replace(
            self, faces=tuple(replace(face, change=baseline.change(face.reading)) for face in self.faces)
        )

    def to_json(self) -> str:
        """One line of JSON; numbers keep full precision."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def to_frame(self, columns: str = "mien", landmarks: bool = True) -> DataFrame:
        """A pandas DataFrame with one row per face, or one row if there is none; see `mien.io.tables.to_frame`.

        Raises:
            TableError: pandas is not installed.
        """
        return Analyses([self]).to_frame(columns, landmarks)

    def show(self, picture: Any = None) -> None:
        """Show the annotated picture: below the cell in a notebook, else in the system's picture viewer.

        Args:
            picture: what was analysed; needed unless it is the file that `source` names.

        Raises:
            ConfigError: the picture is not the one that was analysed, or is not there any more.
            LoadError: there is no picture viewer.
        """
        from mien.faces import display

        display.show(self, picture)

    def _repr_html_(self) -> str:
        """What notebooks show: a small picture, and the labels of each face with bars."""
        return Analyses([self])._repr_html_()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Rebuild and validate an analysis from `to_dict`'s form.

        Raises:
            ConfigError: a field is missing, unknown or of the wrong type.
        """
        from pydantic import ValidationError

        from mien.errors import ConfigError

        try:
            kind: Any = cls
            analysis: Self = _adapter(kind).validate_python(values)
        except ValidationError as problem:
            first = problem.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise ConfigError(f"not an analysis: {place}: {first['msg'].lower()}") from None
        return analysis

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Rebuild and validate an analysis from `to_json`'s line.

        Raises:
            ConfigError: it is not JSON, or `from_dict` rejects it.
        """
        from mien.errors import ConfigError

        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as problem:  # ValueError: also 5,000 digits
            raise ConfigError(f"not an analysis: not JSON: {problem}") from None
        return cls.from_dict(values)


class Analyses(list[Analysis]):
    """The analyses of several pictures: a list with a table, and with a gallery in notebooks."""

    def to_frame(self, columns: str = "mien", landmarks: bool = True) -> DataFrame:
        """A pandas DataFrame with one row per face, and one per picture without; see `mien.io.tables.to_frame`.

        Raises:
            TableError: pandas is not installed.
        """
        from mien.io.columns import to_frame

        return to_frame(self, columns, landmarks)

    def _repr_html_(self) -> str:
        from mien.faces import display

        return display.html(self)


@dataclass(frozen=True, slots=True)
class Smoothed:
    """A face's reading, smoothed by the causal filter of `mien.video`.

    Attributes:
        probabilities: of each label, summing to 1.
        valence, arousal: in [-1, 1]; None where the network was not trained on them.
        intensity: in [0, 1]; None where it is not measured, see `Reading`.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _CLOSED

    probabilities: dict[str, float]
    valence: float | None
    arousal: float | None
    intensity: float | None = None

    @property
    def expression(self) -> str:
        """The most probable expression label."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def probability(self) -> float:
        """The probability of `expression`."""
        return max(self.probabilities.values())


@dataclass(frozen=True, slots=True, repr=False)
class TrackedFace(Face):
    """One face of a video frame, with its person and its smoothed reading.

    `person` numbers the people of a clip from 0 in the order in which they appear; the number has no meaning outside
    the video.
    """

    person: int
    smoothed: Smoothed


@dataclass(frozen=True, slots=True, repr=False)
class Frame(Analysis):
    """Everything found in one video frame.

    `shot` counts the cuts before it, `searched` tells whether the detector ran on this frame (otherwise faces were
    tracked by their landmarks), and `lag` is the delay of the smoothed values in seconds.
    """

    faces: tuple[TrackedFace, ...] = ()
    shot: int = 0
    searched: bool = True
    lag: float = 0.0

    def relative_to(self, baseline: NeutralFace | Mapping[int, NeutralFace]) -> Self:
        """The same with each face's `change` from one baseline, or from that of its person.

        Args:
            baseline: for all faces, or by the number of a person; a person without one has no change.

        Raises:
            ConfigError: a baseline has other labels.
        """
        if isinstance(baseline, NeutralFace):
            return super(Frame, self).relative_to(baseline)
        return replace(
            self,
            faces=tuple(
                replace(face, change=baseline[face.person].change(face.reading))
                if face.person in baseline
                else face
                for face in self.faces
            ),
        )


@cache
def _adapter(kind: type[Analysis]) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
