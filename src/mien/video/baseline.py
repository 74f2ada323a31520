"""A person's own neutral face from the frames of a video: their calmest second, or a span of it.

    frames = list(mien.video.analyse("clip.mp4"))
    baselines = mien.video.CalmestSecond().of(frames)
    frames = [frame.relative_to(baselines) for frame in frames]

Faces with a quality below 0.4 are not used.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError, similar
from mien.faces.pipeline import DOUBTFUL
from mien.labels import EXPRESSIONS, NEUTRAL
from mien.types import Frame, NeutralFace, Reading, TrackedFace

CALMEST: Final = "calmest"

SECOND: Final = 1.0
"""Length of the calmest second."""

_COVERED: Final = 0.8
"""Seconds of it that the frames must span at least, as few are exactly one second apart."""

_FRAMES: Final = 3
"""Readings that it needs at least."""

MOVEMENT: Final = 5.0
"""Weight of movement against P(neutral). Our choice: a mean deviation of 0.1, that of a talking face, costs half of
what P(neutral) can bring."""


class VideoBaseline(ABC):
    """Collects the frames of one video, in order and in bounded memory, and gives each person's baseline at the end."""

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The method, for the record of a table."""

    @abstractmethod
    def add(self, face: TrackedFace, time: float, shot: int) -> None:
        """Add one face that can be read, at `time` seconds."""

    @abstractmethod
    def baselines(self) -> dict[int, NeutralFace]:
        """The baseline of each person by number; people without one are left out."""

    def __call__(self, frame: Frame) -> None:
        """Add one frame."""
        for face in frame.faces:
            if face.quality >= DOUBTFUL:
                self.add(face, frame.time or 0.0, frame.shot)

    def of(self, frames: Iterable[Frame]) -> dict[int, NeutralFace]:
        """Add all frames of a video, and return the baselines."""
        for frame in frames:
            self(frame)
        return self.baselines()


@dataclass
class _Window:
    """The last second of one person, and the calmest so far."""

    shot: int
    recent: deque[tuple[float, Reading]] = field(default_factory=deque)
    best: float = -math.inf
    first: float = 0.0
    last: float = 0.0
    readings: tuple[Reading, ...] = ()


class CalmestSecond(VideoBaseline):
    """The second of each person that moves least and looks most neutral, as their baseline.

    Of all stretches of one second within a shot it is the one of the largest mean P(neutral) less `MOVEMENT` times the
    movement: the standard deviation of each measured action over the stretch, averaged over the actions. Our choice:
    P(neutral) alone would take a moment between two words, and movement alone a held smile. With labels that have no
    "neutral" only movement counts. A person who is never in view for 0.8 s with three readings has no baseline.
    """

    def __init__(self) -> None:
        self._windows: dict[int, _Window] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """The method, for the record of a table."""
        return {"method": CALMEST, "seconds": SECOND, "movement": MOVEMENT}

    def add(self, face: TrackedFace, time: float, shot: int) -> None:
        """Add one face that can be read, at `time` seconds."""
        window = self._windows.setdefault(face.person, _Window(shot))
        recent = window.recent
        if shot != window.shot or (recent and time - recent[-1][0] > SECOND / 2):
            recent.clear()
        window.shot = shot
        recent.append((time, face.reading))
        while time - recent[0][0] > SECOND + 1e-6:
            recent.popleft()
        if len(recent) < _FRAMES or time - recent[0][0] < _COVERED:
            return
        readings = tuple(reading for _, reading in recent)
        score = calmness(readings)
        if score > window.best:
            window.best, window.readings = score, readings
            window.first, window.last = recent[0][0], time

    def baselines(self) -> dict[int, NeutralFace]:
        """The baseline of each person by number; people who are not in view for long enough are left out."""
        return {
            person: NeutralFace.of(window.readings, f"calmest {window.first:.2f}-{window.last:.2f} s")
            for person, window in self._windows.items()
            if window.readings
        }


def calmness(readings: Iterable[Reading]) -> float:
    """How calm and neutral a stretch of readings of one person is, see `CalmestSecond`; larger is calmer."""
    listed = list(readings)
    neutral = EXPRESSIONS[NEUTRAL]
    shares = [reading.probabilities.get(neutral, 0.0) for reading in listed]
    values = np.array([list(reading.actions.values()) for reading in listed], dtype=float)  # NaN for None
    spread = values.std(axis=0)
    known = spread[np.isfinite(spread)]
    return sum(shares) / len(shares) - MOVEMENT * (float(known.mean()) if len(known) else 0.0)


class Span(VideoBaseline):
    """The mean of each person's readings between two times, in seconds, both included, as their baseline."""

    def __init__(self, start: float, end: float) -> None:
        """Raises ConfigError where the span ends before it begins."""
        if not 0 <= start <= end:
            raise ConfigError(f"the baseline {start:g}-{end:g} s ends before it begins: give start-end")
        self.start, self.end = start, end
        self._sums: dict[int, tuple[Reading, int, NDArray[np.float64]]] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """The method, for the record of a table."""
        return {"method": "span", "from": self.start, "to": self.end}

    def add(self, face: TrackedFace, time: float, shot: int) -> None:
        """Add one face that can be read, at `time` seconds."""
        if self.start <= time <= self.end:
            reading = face.reading
            values = [
                *reading.probabilities.values(),
                reading.valence,
                reading.arousal,
                *reading.actions.values(),
            ]
            _, count, total = self._sums.get(face.person, (reading, 0, np.zeros(len(values))))
            self._sums[face.person] = (
                reading,
                count + 1,
                total + np.array(values, dtype=float),
            )  # NaN for None

    def baselines(self) -> dict[int, NeutralFace]:
        """The baseline of each person by number; people who are not in view in the span are left out."""
        return {person: self._baseline(*known) for person, known in self._sums.items()}

    def _baseline(self, last: Reading, count: int, total: NDArray[np.float64]) -> NeutralFace:
        means = (total / count).tolist()
        labels = len(last.probabilities)
        valence, arousal, *actions = (None if math.isnan(value) else value for value in means[labels:])
        return NeutralFace(
            f"{self.start:.2f}-{self.end:.2f} s",
            dict(zip(last.probabilities, means[:labels], strict=True)),
            valence,
            arousal,
            dict(zip(last.actions, actions, strict=True)),
        )


_TIME: Final = r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)"


def parsed(text: str) -> VideoBaseline | None:
    """What `--baseline` names within a video: "calmest" or a span such as "0:02-0:04"; None for anything else.

    Raises:
        ConfigError: a span that ends before it begins, or a misspelt "calmest".
    """
    if text == CALMEST:
        return CalmestSecond()
    span = re.fullmatch(f"{_TIME}-{_TIME}", text)
    if span is None:
        if similar(text, [CALMEST]):
            raise ConfigError(f"--baseline {text}: did you mean '{CALMEST}'?")
        return None
    numbers = [float(part or 0) for part in span.groups()]
    start, end = (
        3600 * hours + 60 * minutes + seconds for hours, minutes, seconds in (numbers[:3], numbers[3:])
    )
    return Span(start, end)
