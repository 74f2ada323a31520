"""Turn a video into a table, an annotated video and a summary page; an interrupted run can be resumed.

A killed run keeps all frames but the last (see `mien.io.tables`), and resuming gives the same table as an uninterrupted
run. A run that is interrupted (Ctrl-C) or meets damage finishes the table with the frames so far. The annotated video
and the page are made again when a run is resumed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien.errors import ConfigError, MienError
from mien.faces.pipeline import Pipeline, name_of
from mien.io import inputs, outputs
from mien.io.images import describe
from mien.io.tables import Row, TableError, Writer
from mien.io.video import FORMATS, VideoError, VideoReader, VideoWriter
from mien.types import Frame
from mien.video import summary_page
from mien.video.analyser import Analyser
from mien.video.annotate import draw
from mien.video.baseline import VideoBaseline
from mien.video.resume import LAYOUT, Recall, changed
from mien.video.smoothing import LAG
from mien.video.statistics import Tally

Watch = Callable[[VideoReader, Frame, bool], None]
"""Called with each frame, and whether it comes from an earlier run."""


@dataclass(frozen=True)
class Orders:
    """The options of `mien video`.

    Attributes:
        video: the file. out, annotate, page: files to write, or None. every: analyse every Nth frame. lag: of the
            smoothed values, seconds. columns: layout of the table. resume: continue the table of an earlier run.
            threads: for decoding; None uses all. overwrite: replace existing files. Without it only `resume` replaces
            an annotated video and a page, those of the same run. made_with: how the pipeline was made, stored with the
            table and compared by `resume`. sound: copy the sound into the annotated video. baseline: what gives each
            person's neutral face at the end of the video; None for none, or where the pipeline has one. changes: the
            table has the columns of the changes from either. landmarks: the table has columns of the facial points.
    """

    video: str | Path
    out: Path | None = None
    annotate: Path | None = None
    page: Path | None = None
    every: int = 1
    lag: float = LAG
    columns: str = LAYOUT
    resume: bool = False
    threads: int | None = None
    overwrite: bool = False
    made_with: dict[str, Any] | None = None
    sound: bool = True
    baseline: VideoBaseline | None = None
    changes: bool = False
    landmarks: bool = True

    def check(self) -> None:
        """Check the options before anything is opened.

        Raises:
            ConfigError: options contradict each other.
        """
        if self.every < 1:
            raise ConfigError(f"every is {self.every}: pass 1 or more")
        if self.resume and self.out is None:
            raise ConfigError("--resume needs --out: the table records what is done")
        if not self.landmarks and self.out is None:
            raise ConfigError("--no-landmarks is of the table: name one with --out")
        if self.resume and not (self.columns == LAYOUT and self.landmarks):
            raise ConfigError(
                f"--resume needs --columns {LAYOUT} and landmarks: other tables leave out what is needed to go on"
            )
        written = [path for path in (self.out, self.annotate, self.page) if path is not None]
        for place, path in enumerate(written):
            outputs.check(
                path,
                overwrite=self.overwrite or self.resume,
                reads=[self.video, *written[:place]],
                resumable=path == self.out,
                suffixes=tuple(FORMATS) if path is self.annotate else (),
            )


def run(orders: Orders, load: Callable[[], Pipeline], watch: Watch | None = None) -> Tally:
    """Analyse a video and write the requested files.

    Args:
        orders: the options.
        load: makes the pipeline, called once the video is known to be readable.
        watch: called with each frame.

    Returns:
        The summary of the clip.

    Raises:
        KeyboardInterrupt: passed on; the table has been finished with the frames so far.
        VideoError: the video, or its rest, cannot be read; the table holds the frames before.
        TableError: the table cannot be written, or is of another video.
        ConfigError: options contradict each other, or the video has changed since the earlier run.
        ExtraMissing: the `video` extra is not installed.
    """
    orders.check()
    source = name_of(str(orders.video))
    tally = Tally()
    with ExitStack() as stack:
        clip = stack.enter_context(VideoReader(orders.video, orders.threads))
        table, recall, film = None, None, None
        pipeline = load()
        content = inputs.identity(orders.video) if orders.out is not None else None
        if orders.out is not None:
            table = _table(orders, orders.out, pipeline.labels)
            stack.callback(table.close)
            _check_unchanged(orders, table, source)
            recall = Recall(table.written(), source, orders.lag) if orders.resume else None
        if orders.annotate is not None:
            film = VideoWriter(orders.annotate, clip.width, clip.height, clip.rate, clip, orders.sound)
            stack.callback(film.drop)
        analyser = Analyser(pipeline, source, orders.lag)
        watching = [*_collecting(orders.baseline), *([] if watch is None else [watch])]

        def settle(whole: bool = True) -> None:
            if table is not None:
                table.finish(_complete(orders.baseline))
            tally.finish()
            if film is not None:
                film.finish(whole)
            tally.notes += [*clip.notes, *(film.notes if film is not None else ())]
            _write_page(orders, tally, source, pipeline.recogniser.name)

        try:
            for picture in clip.pictures(orders.every):
                # All frames of the earlier run are replayed before new ones are added.
                known = recall(picture) if recall is not None else None
                frame = analyser(picture.rgb, picture.number, picture.time, known)
                if table is not None and known is None:
                    table.write(frame, content)
                tally(frame, picture.rgb)
                if film is not None:
                    film.add(draw(picture.rgb, frame), picture.time)
                for watcher in watching:
                    watcher(clip, frame, known is not None)
            if recall is not None:
                recall.finish()
        except (KeyboardInterrupt, VideoError):
            settle(whole=False)
            raise
        settle()
    return tally


def _collecting(baseline: VideoBaseline | None) -> list[Watch]:
    """What gives the frames to the baseline of a video."""
    return [] if baseline is None else [lambda clip, frame, recalled: baseline(frame)]


def _complete(baseline: VideoBaseline | None) -> Callable[[Row], Row] | None:
    """What fills in the changes from the baseline of a video, in each row of its table."""
    return None if baseline is None else changed(baseline.baselines())


def _check_unchanged(orders: Orders, table: Writer, source: str) -> None:
    """Refuse to go on with a table of a video that has other content now."""
    content = table.contents.get(source)
    if content is not None and not inputs.unchanged(orders.video, content):
        raise TableError(
            f"{describe(source)}: has changed since {describe(table.path)} was begun: start again with --overwrite, or "
            "name another --out"
        )


def _write_page(orders: Orders, tally: Tally, source: str, model: str) -> None:
    if orders.page is not None and tally.frames:
        summary_page.write(orders.page, tally, source, model, orders.lag)


def _table(orders: Orders, out: Path, labels: tuple[str, ...]) -> Writer:
    """Open the table, and refuse to replace an annotated video or a page that its earlier runs did not write."""
    written = {inputs.place(path): path for path in (orders.annotate, orders.page) if path is not None}
    made = orders.made_with
    if made is not None:
        made = {**made, "every": orders.every, "smooth": orders.lag}
        if orders.baseline is not None:
            made["baseline"] = orders.baseline.settings
    table = Writer(
        out,
        orders.columns,
        orders.resume,
        orders.landmarks,
        video=True,
        made_with=made,
        overwrite=orders.overwrite,
        writes=list(written),
        labels=labels,
        changes=orders.changes,
    )
    try:
        for place, path in written.items():
            outputs.check(path, overwrite=orders.overwrite or place in table.wrote)
    except MienError:
        table.close()
        raise
    return table
