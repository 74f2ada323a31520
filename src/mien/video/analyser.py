"""Analyse a video frame by frame: shots, faces, persons and smoothing, in bounded memory.

for frame in mien.video.analyse("clip.mp4"):
    for face in frame.faces:
        print(frame.time, face.person, face.smoothed.expression, face.valence)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError
from mien.faces.pipeline import Pipeline, load, name_of
from mien.io.video import VideoReader
from mien.types import Face, Frame, TrackedFace
from mien.video.identities import Persons
from mien.video.shot_detection import Shots
from mien.video.smoothing import LAG, Smoother
from mien.video.tracking import Follower


class Analyser:
    """Analyses the frames of one video, or of a camera, in order and in bounded memory.

    Args:
        pipeline: detector, landmark network and recogniser.
        source: the video's name in the results.
        lag: of the smoothed values, seconds; see `mien.video.smoothing`.

    Raises:
        ConfigError: the lag is negative.
        ExtraMissing: the tracking library is not installed.
    """

    def __init__(self, pipeline: Pipeline, source: str, lag: float = LAG) -> None:
        self._source, self._pipeline = source, pipeline
        self._shots, self._persons = Shots(), Persons()
        self._follower, self._smoother = Follower(pipeline), Smoother(lag)

    def __call__(
        self,
        rgb: NDArray[np.uint8],
        number: int,
        time: float,
        known: tuple[Sequence[Face], bool] | None = None,
    ) -> Frame:
        """Analyse the next frame.

        Args:
            rgb: uint8 [height, width, 3]; the size may change from frame to frame. number: of the frame, from 0. time:
                in seconds, later than the frame before. known: its faces and whether the detector searched it, from an
                earlier run. The networks are then not run, and what depends on earlier frames comes out as in that run.
        """
        cut = self._shots(rgb)
        if known is None:
            faces, searched = self._follower(rgb, time, cut)
        else:
            faces, searched = tuple(known[0]), known[1]
            self._follower.recall(faces, time, searched)
        persons = self._persons(rgb, faces, time, self._shots.scene)
        smoothed = self._smoother(time, persons, [face.reading for face in faces])
        frame = Frame(
            self._source,
            rgb.shape[1],
            rgb.shape[0],
            tuple(
                TrackedFace(
                    face.detection, face.landmarks, face.pose, face.reading, face.quality, person, smooth
                )
                for face, person, smooth in zip(faces, persons, smoothed, strict=True)
            ),
            frame=number,
            time=time,
            model=self._pipeline.recogniser.name,
            shot=self._shots.number,
            searched=searched,
            lag=self._smoother.lag,
        )
        return self._pipeline.compared(frame)


def analyse(
    path: str | Path, pipeline: Pipeline | None = None, every: int = 1, lag: float = LAG
) -> Iterator[Frame]:
    """Analyse a video file frame by frame, in memory that does not depend on its length.

    Args:
        path: any file that FFmpeg reads.
        pipeline: from `mien.load()`; None loads the shipped weights.
        every: analyse every Nth frame, from the first.
        lag: of the smoothed values, seconds; 0 turns smoothing off.

    Yields:
        One `Frame` for each frame, in order; without a face its `faces` is empty.

    Raises:
        ConfigError: an option is out of range.
        VideoError: the file cannot be read, is damaged, or is incomplete; frames before the damage come first.
        ExtraMissing: the `video` extra is not installed.
    """
    if every < 1:
        raise ConfigError(f"every is {every}: pass 1 or more")
    with VideoReader(path) as clip:
        analyser = Analyser(pipeline or load(), name_of(str(path)), lag)
        for picture in clip.pictures(every):
            yield analyser(picture.rgb, picture.number, picture.time)
