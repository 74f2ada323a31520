"""The work of a process on the files of a job: the tables of a batch, and everything of a video.

Like `mien.server.answers` it imports no web framework. It reads and writes in the folder of one job alone.
"""

from __future__ import annotations

import copy
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mien.errors import ConfigError
from mien.faces.baseline import Baselines
from mien.io.tables import Writer
from mien.server import schema
from mien.server.limits import Limits, Refusal
from mien.types import Analysis, NeutralFace

if TYPE_CHECKING:
    from collections.abc import Callable

    from mien.faces.pipeline import Pipeline
    from mien.types import Frame
    from mien.video.baseline import VideoBaseline
    from mien.video.statistics import Tally

REPORT: Final = 0.25
"""Least seconds between two reports of progress."""


def write_tables(
    pipeline: Pipeline, asked: dict[str, Any], progress: Callable[[dict[str, Any]], None]
) -> None:
    """Write the tables of a batch from the analyses of its pictures; `progress` is called after each.

    Raises:
        MienError: a table cannot be written.
    """
    folder = Path(asked["folder"])
    with ExitStack() as stack:
        tables = [
            stack.enter_context(
                Writer(folder / name, asked["columns"], labels=pipeline.labels, changes=asked["changes"])
            )
            for name in asked["files"]
        ]
        with (folder / schema.PICTURES).open(encoding="utf-8", newline="\n") as lines:
            for line in lines:
                analysis = Analysis.from_json(line)
                for table in tables:
                    table.write(analysis)
                progress({})


def analyse_video(
    pipeline: Pipeline, limits: Limits, asked: dict[str, Any], progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Analyse a video, and write the files that were asked for.

    Returns:
        The last `progress`, the `summary`, and a `note` if the video is damaged after some frames.

    Raises:
        MienError: an option is wrong, or not one frame can be read.
        Refusal: its frames are too large.
    """
    from mien.io.video import VideoError, VideoReader
    from mien.video.analyser import Analyser

    if asked["neutral"] is not None:
        pipeline = copy.copy(pipeline)
        pipeline.baselines = Baselines.of_face(NeutralFace(**asked["neutral"]))
    within, note = _within(asked), ""
    path = Path(asked["path"])
    with VideoReader(path, threads=1, playlists=False) as clip, ExitStack() as stack:
        if clip.width * clip.height > limits.pixels:
            raise Refusal(
                413,
                "too_many_pixels",
                f"its frames are {clip.width} x {clip.height}, the limit is {limits.pixels:,} pixels: scale them down, "
                "or start the server with a higher --max-pixels",
            )
        outputs = _Outputs(pipeline, asked, within, stack)
        analyser = Analyser(pipeline, asked["name"], asked["smooth"])
        counted = _Counted(clip.frames, clip.duration, asked["every"], progress)
        try:
            for picture in clip.pictures(asked["every"]):
                frame = analyser(picture.rgb, picture.number, picture.time)
                outputs.add(frame, picture.rgb)
                counted.add(frame)
        except VideoError as problem:
            if not counted.frames:
                raise
            note = str(problem).removeprefix(f"{path}: ")
        outputs.finish(pipeline)
        tally = outputs.tally
    summary = {"total": counted.frames, "faces": counted.faces, "people": len(tally.people) + tally.passing}
    return {"progress": counted.numbers(), "summary": summary, "note": note}


def _within(asked: dict[str, Any]) -> VideoBaseline | None:
    """The baseline within the video.

    Raises:
        ConfigError: the text names none.
    """
    from mien.video.baseline import parsed

    if asked["baseline"] is None:
        return None
    within = parsed(asked["baseline"])
    if within is None:
        raise ConfigError(
            f"the baseline '{asked['baseline']}' is not known: pass calmest, a span such as 0:02-0:04, or a picture as "
            "a file"
        )
    return within


class _Counted:
    """Counts frames, and reports them now and then."""

    def __init__(
        self,
        frames: int | None,
        duration: float | None,
        every: int,
        progress: Callable[[dict[str, Any]], None],
    ) -> None:
        self.frames = self.faces = 0
        self._total = None if frames is None else -(-frames // every)
        self._duration, self._time, self._progress = duration, 0.0, progress
        self._began = self._told = time.monotonic()

    def add(self, frame: Frame) -> None:
        """Count one frame."""
        self.frames += 1
        self.faces += len(frame.faces)
        self._time = frame.time or 0.0
        if time.monotonic() - self._told >= REPORT:
            self._told = time.monotonic()
            self._progress(self.numbers())

    def numbers(self) -> dict[str, Any]:
        """See `schema.JobProgress`."""
        return {
            "done": self.frames,
            "total": self._total,
            "faces": self.faces,
            "time": self._time,
            "duration": self._duration,
            "rate": round(self.frames / max(1e-3, time.monotonic() - self._began), 1),
        }


class _Outputs:
    """The files of a video while they are written."""

    def __init__(
        self, pipeline: Pipeline, asked: dict[str, Any], within: VideoBaseline | None, stack: ExitStack
    ) -> None:
        from mien.video.statistics import Tally

        self._asked, self._within = asked, within
        self._folder = Path(asked["folder"])
        self.tally: Tally = Tally()
        changes = within is not None or pipeline.baselines is not None
        self._tables = [
            Writer(self._folder / name, asked["columns"], video=True, labels=pipeline.labels, changes=changes)
            for name in asked["files"]
            if name in schema.TABLES
        ]
        for table in self._tables:
            stack.callback(table.close)
        self._lines = None
        if schema.FRAMES in asked["files"]:
            self._lines = stack.enter_context((self._folder / schema.FRAMES).open("w+", encoding="utf-8"))

    def add(self, frame: Frame, rgb: Any) -> None:
        """Add one frame."""
        for table in self._tables:
            table.write(frame)
        if self._lines is not None:
            self._lines.write(frame.to_json() + "\n")
        if self._within is not None:
            self._within(frame)
        self.tally(frame, rgb)

    def finish(self, pipeline: Pipeline) -> None:
        """Finish the files."""
        from mien.video import summary_page
        from mien.video.resume import changed

        complete = None if self._within is None else changed(self._within.baselines())
        for table in self._tables:
            table.finish(complete)
        if self._lines is not None and self._within is not None:
            self._relate(self._within)
        self.tally.finish()
        if schema.PAGE in self._asked["files"]:
            name, lag = self._asked["name"], self._asked["smooth"]
            summary_page.write(self._folder / schema.PAGE, self.tally, name, pipeline.recogniser.name, lag)

    def _relate(self, within: VideoBaseline) -> None:
        """Give the faces of all frames their changes from baselines that are known at the end only."""
        from mien.types import Frame

        assert self._lines is not None
        baselines = within.baselines()
        related = self._folder / "related.part"
        self._lines.seek(0)
        with related.open("w", encoding="utf-8") as file:
            for line in self._lines:
                file.write(Frame.from_json(line).relative_to(baselines).to_json() + "\n")
        related.replace(self._folder / schema.FRAMES)
