"""Track faces through video: detect them now and then, follow their landmarks in between.

Detection costs more than all other steps together, and a face is close to where it was a frame ago. So the landmark
network is run at that place, and its presence score decides whether a face is still there. The detector is run

- at the first frame, after every cut, and when a face is lost or two tracks have met;
- otherwise after a pause, which doubles from 0.2 to 0.8 s while the detector finds exactly the tracked faces, and is
  reset to 0.2 s when it does not: a new face beside others can be missed for that long;
- at every frame without a tracked face, at a small size, and at full size after each pause.

A face that the detector misses while its presence score is high (a profile, a hand before the mouth) is kept with half
its score, so it survives at most three missed detections in a row.

All pauses are in seconds of the video, so that the same file gives the same table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mien.faces.detect import Detector, Searching
from mien.faces.landmarker import box_of_points
from mien.faces.pipeline import MeasuredFace, Pipeline, doubted
from mien.types import Box, Detection, Face

SHORTEST: Final = 0.2
LONGEST: Final = 0.8
"""Seconds between two searches."""

SURE: Final = 0.9
"""Least presence of a face that is kept although the detector misses it."""

_FAINTEST: Final = 0.1
"""The score, halved at each missed detection, below which a face is dropped."""

_TOGETHER: Final = 0.4
"""Intersection over union above which two boxes are one face."""


class Follower:
    """Finds the faces of each frame of one video; call it with the frames in order."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._quick = _small(pipeline.detector)
        self._faces: tuple[Face, ...] = ()
        self._searched = -np.inf
        self._pause = SHORTEST

    def __call__(
        self, rgb: NDArray[np.uint8], time: float, cut: bool = False
    ) -> tuple[tuple[Face, ...], bool]:
        """The faces of a frame at `time` seconds, largest first, and whether the detector searched all of it.

        `cut`: the frame does not continue the one before.
        """
        followed = [] if cut else self._follow(rgb)
        due = cut or self._due(time) or len(followed) < len(self._faces) or _meet(followed)
        if due:
            located = self._search(rgb, followed, self._pipeline.detector)
        elif not followed:
            located = self._search(rgb, [], self._quick)
        else:
            located = followed
        faces = self._read(located)
        self.recall(faces, time, due)
        return faces, due

    def recall(self, faces: Sequence[Face], time: float, searched: bool) -> None:
        """Use the results of an earlier run for a frame instead of analysing it."""
        if searched:
            # As many faces as before and none missed: no new face is expected soon.
            calm = len(faces) == len(self._faces) and all(face.detection.score > 0.5 for face in faces)
            self._pause = min(2 * self._pause, LONGEST) if calm else SHORTEST
            self._searched = time
        self._faces = tuple(faces)

    def _due(self, time: float) -> bool:
        # Tolerance of half a millisecond, as times are sums of fractions.
        return not 0 <= time - self._searched < self._pause - 0.0005

    def _follow(self, rgb: NDArray[np.uint8]) -> list[MeasuredFace]:
        """The faces of the last frame that are still there."""
        if not self._faces:
            return []
        before = np.array([face.landmarks.points for face in self._faces], dtype=np.float32)
        points, presences, poses = self._pipeline.landmarker.follow(rgb, before)
        moved = [
            Detection(_moved(face.box, old, new), face.detection.score)
            for face, old, new in zip(self._faces, before, points, strict=True)
        ]
        return self._pipeline.measure(rgb, moved, points, presences, poses)

    def _search(
        self, rgb: NDArray[np.uint8], followed: Sequence[MeasuredFace], detector: Detector
    ) -> list[MeasuredFace]:
        detections = detector(rgb)
        located = self._pipeline.locate(rgb, detections) if detections else []
        for detection, landmarks, pose, quality, crop in followed:
            fainter = detection.score / 2
            overlooked = not any(detection.box.iou(other[0].box) > 0.1 for other in located)
            if overlooked and landmarks.presence >= SURE and fainter >= _FAINTEST:
                located.append((Detection(detection.box, fainter), landmarks, pose, quality, crop))
        return located

    def _read(self, located: Sequence[MeasuredFace]) -> tuple[Face, ...]:
        if not located:
            return ()
        ordered = sorted(located, key=lambda face: (-face[0].box.area, face[0].box.corners))
        readings = self._pipeline.read(ordered)
        return tuple(
            Face(detection, landmarks, pose, doubted(reading, quality), quality.value)
            for (detection, landmarks, pose, quality, _), reading in zip(ordered, readings, strict=True)
        )


def _small(detector: Detector) -> Detector:
    """The same detector limited to its first, smallest size; a detector without sizes is returned unchanged."""
    if isinstance(detector, Searching):
        return dataclasses.replace(detector, side=detector.first, tiled=False)
    return detector


def _moved(box: Box, before: NDArray[np.float32], now: NDArray[np.float32]) -> Box:
    """A detector's box moved with the points inside it: shifted and scaled like the bounding box of the points."""
    old, new = box_of_points(before).astype(np.float64), box_of_points(now).astype(np.float64)
    wide, high = (new[2:] - new[:2]) / np.maximum(old[2:] - old[:2], 1e-6)
    return Box(
        float(new[0] + (box.x - old[0]) * wide),
        float(new[1] + (box.y - old[1]) * high),
        float(box.width * wide),
        float(box.height * high),
    )


def _meet(located: Sequence[MeasuredFace]) -> bool:
    return any(
        one[0].box.iou(other[0].box) > _TOGETHER
        for index, one in enumerate(located)
        for other in located[index + 1 :]
    )
