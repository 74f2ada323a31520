"""Number the people of a video: ByteTrack follows boxes, and appearance finds people again after a gap or a cut.

`edgefirst.tracker`, an implementation of ByteTrack (Zhang et al. 2022), follows boxes: it bridges short occlusions by
the prediction of a Kalman filter, drops a track after a second without a detection, and does not know cuts. So a small
gallery of appearance descriptors (`mien.video.appearance`) is kept of every person. A new track is compared with all
people who are not in the picture, and gets the number of the most similar one if it is similar enough, else a new
number. A track that stops resembling its person, because two people crossed, is compared again.

Numbers count from 0 in order of appearance and hold for one clip. In doubt a new number is given: two numbers of one
person can be merged later, two people under one number cannot be separated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mien.errors import ExtraMissing
from mien.faces.align import DegenerateFace
from mien.types import Box, Face
from mien.video.appearance import Look, look

LIFESPAN: Final = 1.0
"""Seconds for which ByteTrack keeps a track without a detection."""

SAME: Final = 0.92
"""Least similarity at which a new track is a known person. Chosen by measurement, see `docs/video.md`."""

NEAR: Final = 0.88
"""The same for a face at the place where that person was last seen, in the same shot."""

OTHER: Final = 0.85
"""Below this similarity to its person a track has moved to another person."""

_EVERY: Final = 0.5
"""Seconds between two descriptors of a known person."""

_NEW_VIEW: Final = 0.95
"""A descriptor less similar than this to all in the gallery is added to it."""

_VIEWS: Final = 12
_PEOPLE: Final = 64
"""Galleries kept; with `_VIEWS` this bounds memory to about 13 MB, whatever the length of the video."""


@dataclass
class _Person:
    album: list[Look] = field(default_factory=list)
    looked: float = -np.inf
    seen: float = -np.inf
    shot: int = -1
    box: Box | None = None

    def similarity(self, seen: Look) -> float:
        return max((float(view @ seen) for view in self.album), default=0.0)

    def add(self, seen: Look) -> None:
        """Add a descriptor to the gallery if it is new; in a full gallery it replaces the most similar one."""
        likeness = [float(view @ seen) for view in self.album]
        if max(likeness, default=0.0) >= _NEW_VIEW:
            return
        if len(self.album) >= _VIEWS:
            del self.album[int(np.argmax(likeness))]
        self.album.append(seen)


class Persons:
    """Assigns each face the number of its person; call it with every frame in order.

    Raises:
        ExtraMissing: the tracking library is not installed.
    """

    def __init__(self) -> None:
        try:
            from edgefirst.tracker import ByteTrack
        except ModuleNotFoundError:
            raise ExtraMissing("video", "edgefirst-tracker") from None
        self._make: Any = partial(ByteTrack, high_conf=0.5, iou=0.25, lifespan_ns=round(LIFESPAN * 1e9))
        self._tracker = self._make()
        self._holders: dict[str, int] = {}
        """Track to person."""
        self._people: dict[int, _Person] = {}
        self._count = 0
        self._shot = 0
        self._time = -np.inf

    def __call__(
        self, rgb: NDArray[np.uint8], faces: Sequence[Face], time: float, shot: int = 0
    ) -> list[int]:
        """The person of each of `faces` in the frame `rgb` at `time` seconds; `shot` counts the breaks
        before it (`Shots.scene`)."""
        if shot != self._shot or time - self._time > LIFESPAN:
            self._tracker, self._holders = self._make(), {}
        before, self._shot, self._time = self._time, shot, time
        tracks = self._track(faces, time)
        numbers: list[int | None] = [self._holders.get(track) if track else None for track in tracks]
        looks: dict[int, Look] = {}
        for index, (face, number) in enumerate(zip(faces, numbers, strict=True)):
            if number is None:
                self._describe(rgb, face, index, looks)
            # A face that reappears, even after a short gap, may be another person in the same place.
            elif self._people[number].seen < before or time - self._people[number].looked >= _EVERY:
                self._describe(rgb, face, index, looks)
                if index in looks and self._people[number].similarity(looks[index]) < OTHER:
                    numbers[index] = None
        self._recognise(faces, numbers, looks)
        answer = []
        for index, (face, track, number) in enumerate(zip(faces, tracks, numbers, strict=True)):
            if number is None:
                number = self._newcomer()
            person = self._people[number]
            if index in looks:
                person.add(looks[index])
                person.looked = time
            person.seen, person.shot, person.box = time, shot, face.box
            if track:
                # An occluded track may still hold this person; it would have to be recognised again.
                self._holders = {
                    other: candidate for other, candidate in self._holders.items() if candidate != number
                }
                self._holders[track] = number
            answer.append(number)
        self._forget()
        return answer

    def _track(self, faces: Sequence[Face], time: float) -> list[str | None]:
        boxes = np.array([face.box.corners for face in faces], dtype=np.float32).reshape(-1, 4)
        scores = np.array([face.detection.score for face in faces], dtype=np.float32)
        # The library expects labels of Rust's type usize.
        labels = np.zeros(len(faces), dtype=np.uintp)
        followed = self._tracker.update(boxes, scores, labels, round(max(time, 0.0) * 1e9))
        tracks = [track.uuid if track is not None else None for track in followed]
        alive = {active.info.uuid for active in self._tracker.get_active_tracks()}
        self._holders = {track: candidate for track, candidate in self._holders.items() if track in alive}
        return tracks

    @staticmethod
    def _describe(rgb: NDArray[np.uint8], face: Face, index: int, looks: dict[int, Look]) -> None:
        try:
            looks[index] = look(rgb, face.landmarks)
        except DegenerateFace:  # no descriptor: the track alone decides
            return

    def _recognise(self, faces: Sequence[Face], numbers: list[int | None], looks: dict[int, Look]) -> None:
        """Give faces without a number the numbers of absent people that they resemble, the most similar pair first."""
        present = {number for number in numbers if number is not None}
        pairs = []
        for index, number in enumerate(numbers):
            if number is not None or index not in looks:
                continue
            for candidate, person in self._people.items():
                if candidate not in present:
                    near = (
                        person.shot == self._shot
                        and person.box is not None
                        and faces[index].box.iou(person.box) >= 0.25
                    )
                    likeness = person.similarity(looks[index])
                    if likeness >= (NEAR if near else SAME):
                        pairs.append((likeness, index, candidate))
        for _, index, candidate in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
            if numbers[index] is None and candidate not in present:
                numbers[index] = candidate
                present.add(candidate)

    def _newcomer(self) -> int:
        number, self._count = self._count, self._count + 1
        self._people[number] = _Person()
        return number

    def _forget(self) -> None:
        """Drop the galleries of the people who have been away longest, if there are too many."""
        away = sorted(
            self._people.keys() - self._holders.values(), key=lambda candidate: self._people[candidate].seen
        )
        for candidate in away[: max(0, len(self._people) - _PEOPLE)]:
            del self._people[candidate]
