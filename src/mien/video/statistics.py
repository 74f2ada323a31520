"""Collect the statistics of a video's summary, frame by frame in bounded memory.

Curves are means over stretches of time. There are at most 600 stretches: for a longer video neighbours are merged and
each stretch is twice as long. The stills along the video are thinned out in the same way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.actions import ACTIONS
from mien.types import Frame, TrackedFace

STRETCHES: Final = 600
_SHORTEST: Final = 0.1
"""Initial length of a stretch, seconds."""

STILLS: Final = 16
"""Largest number of stills; there are at least half as many if the video is longer than a few seconds."""

PEOPLE: Final = 64
"""Largest number of people with statistics; of more, those seen for the shortest time are only counted."""

_LONGEST: Final = 5.0
"""Largest duration of a frame, seconds, even if the next one comes later."""

PEAKS: Final = ("highest valence", "lowest valence", "highest arousal", "strongest expression")


@dataclass
class Peak:
    """The extreme of one smoothed value: its time, the value, and the face as RGB uint8 [n, n, 3]."""

    value: float = -math.inf
    time: float = 0.0
    frame: int = 0
    label: str = ""
    portrait: NDArray[np.uint8] | None = None


@dataclass
class Person:
    """Statistics of one person. Times are in seconds."""

    number: int
    first: float
    last: float = 0.0
    frames: int = 0
    seconds: float = 0.0
    labels: dict[str, float] = field(default_factory=dict)
    """Seconds of each label, in the recogniser's order."""
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    curve: NDArray[np.float64] = field(default_factory=lambda: np.zeros((STRETCHES, 3)))
    """For each stretch: sums of smoothed valence and arousal, and the number of frames."""
    actions: NDArray[np.float32] = field(
        default_factory=lambda: np.zeros((STRETCHES, len(ACTIONS)), dtype=np.float32)
    )
    """For each stretch: sums of the actions, not smoothed; NaN where one is not measured."""
    peaks: dict[str, Peak] = field(default_factory=lambda: {name: Peak() for name in PEAKS})

    @property
    def means(self) -> tuple[float, float]:
        """Mean smoothed valence and arousal over the person's frames; NaN if the network does not predict them."""
        return float(self.sums[0] / self.frames), float(self.sums[1] / self.frames)


class Tally:
    """Collects a video's summary; call it with each frame and its picture, in order."""

    def __init__(self) -> None:
        self.people: dict[int, Person] = {}
        self.passing = 0
        """Number of people without statistics."""
        self.frames = self.empty = 0
        self.shots: list[float] = []
        """Times of the first thousand cuts."""
        self.notes: list[str] = []
        """What was changed in reading the video or left out of the annotated one, one sentence each."""
        self.end = 0.0
        self.stretch = _SHORTEST
        self.stills: list[tuple[float, NDArray[np.uint8]]] = []
        self._spacing = 0.25
        self._shot = 0
        self._seen: set[int] = set()
        self._before: Frame | None = None

    def __call__(self, frame: Frame, rgb: NDArray[np.uint8]) -> None:
        """Add one frame."""
        time = frame.time or 0.0
        if self._before is not None:
            self._lasted(self._before, time)
        self._before = frame
        self.frames += 1
        self.empty += not frame.faces
        self.end = max(self.end, time)
        if frame.shot != self._shot and len(self.shots) < 1000:
            self.shots.append(time)
        self._shot = frame.shot
        self._still(time, rgb)
        while time >= STRETCHES * self.stretch:
            self._widen()
        for face in frame.faces:
            self._add(face, time, frame.frame or 0, rgb)

    def finish(self) -> None:
        """Finish: the last frame gets the mean duration."""
        if self._before is not None:
            self._lasted(self._before, self.end + (self.end / (self.frames - 1) if self.frames > 1 else 0.0))
        self._before = None

    def shown(self, most: int = 8) -> list[Person]:
        """The people seen longest, in order of appearance."""
        ordered = sorted(self.people.values(), key=lambda person: (-person.seconds, person.number))
        return sorted(ordered[:most], key=lambda person: person.number)

    def _lasted(self, frame: Frame, until: float) -> None:
        seconds = min(max(0.0, until - (frame.time or 0.0)), _LONGEST)
        for face in frame.faces:
            person = self.people.get(face.person)
            if person is not None:
                person.seconds += seconds
                person.labels[face.smoothed.expression] += seconds

    def _add(self, face: TrackedFace, time: float, number: int, rgb: NDArray[np.uint8]) -> None:
        person = self.people.get(face.person)
        if person is None:
            if face.person in self._seen and len(self.people) >= PEOPLE:
                return
            person = self.people[face.person] = Person(
                face.person, time, labels=dict.fromkeys(face.probabilities, 0.0)
            )
            self._seen.add(face.person)
            self._limit(face.person)
        smooth = face.smoothed
        values = np.array([smooth.valence, smooth.arousal], dtype=float)  # NaN for None
        person.last, person.frames, person.sums = time, person.frames + 1, person.sums + values
        stretch = min(int(max(time, 0.0) / self.stretch), STRETCHES - 1)
        person.curve[stretch] += (*values, 1)
        # NaN for None; without actions all are.
        person.actions[stretch] += np.array(
            list(face.actions.values()) or [None] * len(ACTIONS), dtype=np.float32
        )
        for name, value in zip(PEAKS, (values[0], -values[0], values[1], smooth.intensity), strict=True):
            peak = person.peaks[name]
            if value is not None and value > peak.value:
                portrait = _portrait(rgb, face)
                person.peaks[name] = Peak(float(value), time, number, smooth.expression, portrait)

    def _limit(self, newest: int) -> None:
        if len(self.people) > PEOPLE:
            others = (person for person in self.people.values() if person.number != newest)
            del self.people[min(others, key=lambda person: (person.seconds, person.number)).number]
            self.passing += 1

    def _widen(self) -> None:
        self.stretch *= 2
        for person in self.people.values():
            person.curve = _joined(person.curve)
            person.actions = _joined(person.actions)

    def _still(self, time: float, rgb: NDArray[np.uint8]) -> None:
        if self.stills and time < self.stills[-1][0] + self._spacing:
            return
        height, width = rgb.shape[:2]
        scale = 90 / height
        size = max(1, min(round(width * scale), 320)), 90
        self.stills.append(
            (time, np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8))
        )
        if len(self.stills) > STILLS:
            self._spacing *= 2
            self.stills = self.stills[::2]


Kind = TypeVar("Kind", np.float32, np.float64)


def _joined(curves: NDArray[Kind]) -> NDArray[Kind]:
    """Sums [STRETCHES, n] over stretches of twice the length; the second half is empty again."""
    half = curves.reshape(STRETCHES // 2, 2, -1).sum(axis=1, dtype=curves.dtype)
    return np.concatenate([half, np.zeros_like(half)])


def _portrait(rgb: NDArray[np.uint8], face: TrackedFace, side: int = 112) -> NDArray[np.uint8]:
    """A square around the face, a third wider than its box; the picture's edge is repeated beyond it."""
    box = face.box
    reach = max(box.width, box.height) * 2 / 3
    x, y = box.x + box.width / 2, box.y + box.height / 2
    left, top = max(0, int(x - reach)), max(0, int(y - reach))
    region = rgb[top : max(top + 1, int(y + reach)), left : max(left + 1, int(x + reach))]
    if not region.size:
        return np.zeros((side, side, 3), dtype=np.uint8)
    scale = side / (2 * reach)
    shift = np.array([[scale, 0, -(x - reach - left) * scale], [0, scale, -(y - reach - top) * scale]])
    step = max(1, int(0.7 / scale))
    small = region[::step, ::step]
    shift[:, :2] *= step
    return np.asarray(
        cv2.warpAffine(small, shift, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        dtype=np.uint8,
    )
