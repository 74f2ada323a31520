"""A whole video into a table, an annotated film and a page, so that nothing is lost when the run is stopped.

The table is safe at every moment (see `mien.io.tables`): a killed run leaves all frames but the last, and going on
gives
the table that an undisturbed run gives. An interrupted run (Ctrl-C) and one that meets damage finish the table with the
frames they have. Film and page are made anew when a run goes on.
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
from mien.io.tables import TableError, Writer
from mien.io.video import FORMATS, Clip, Film, VideoError
from mien.types import Frame
from mien.video import summary_page
from mien.video.analyser import Analyser
from mien.video.annotate import draw
from mien.video.resume import LAYOUT, Recall
from mien.video.smoothing import LAG
from mien.video.statistics import Tally

Watch = Callable[[Clip, Frame, bool], None]
"""Told each frame of the clip, and whether it was recalled from an earlier run."""


@dataclass(frozen=True)
class Orders:
    """What `mien video` was told.

    Attributes:
        video: the file.
        out, annotate, page: what to write; None writes none.
        every: analyse each so many-th frame.
        lag: of the smoothed values, seconds.
        columns: layout of the table.
        resume: go on with an earlier run's table.
        threads: for decoding; None takes all.
        overwrite: replace what is there. Without it only `resume` replaces a film and a page, those of the same run.
        made_with: what the pipeline is made with, so that the table says it and `resume` compares it.
        sound: copy the video's sound into the film.
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

    def check(self) -> None:
        """Refuse what cannot be done before anything is opened.

        Raises:
            ConfigError: orders that contradict each other.
        """
        if self.every < 1:
            raise ConfigError(f"every is {self.every}: pass 1 or more")
        if self.resume and self.out is None:
            raise ConfigError("--resume needs --out: it is the table that says what is done")
        if self.resume and self.columns != LAYOUT:
            raise ConfigError(
                f"--resume needs --columns {LAYOUT}: other layouts leave out what is needed to go on"
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
    """Analyse a video and write what was ordered.

    Args:
        orders: what to do.
        load: makes the pipeline, once the video is known to be readable.
        watch: told of each frame.

    Returns:
        The summary of the clip.

    Raises:
        KeyboardInterrupt: as it came; the table has been finished with the frames so far.
        VideoError: the video cannot be read, or from some frame on; the table holds the frames before.
        TableError: the table cannot be written, or is none of this video.
        ConfigError, ExtraMissing: as they say.
    """
    orders.check()
    source = name_of(str(orders.video))
    tally = Tally()
    with ExitStack() as stack:
        clip = stack.enter_context(Clip(orders.video, orders.threads))
        table, recall, film = None, None, None
        pipeline = load()
        content = inputs.identity(orders.video) if orders.out is not None else None
        if orders.out is not None:
            table = _table(orders, orders.out, pipeline.labels)
            stack.callback(table.close)
            _check_unchanged(orders, table, source)
            recall = Recall(table.written(), source, orders.lag) if orders.resume else None
        if orders.annotate is not None:
            film = Film(orders.annotate, clip.width, clip.height, clip.rate, clip, orders.sound)
            stack.callback(film.drop)
        analyser = Analyser(pipeline, source, orders.lag)

        def settle(whole: bool = True) -> None:
            if table is not None:
                table.finish()
            tally.finish()
            if film is not None:
                film.finish(whole)
            tally.notes += [*clip.notes, *(film.notes if film is not None else ())]
            _write_page(orders, tally, source, pipeline.recogniser.name)

        try:
            for picture in clip.pictures(orders.every):
                # What an earlier run left is gone through before anything is added to it.
                known = recall(picture) if recall is not None else None
                frame = analyser(picture.rgb, picture.number, picture.time, known)
                if table is not None and known is None:
                    table.write(frame, content)
                tally(frame, picture.rgb)
                if film is not None:
                    film.add(draw(picture.rgb, frame), picture.time)
                if watch is not None:
                    watch(clip, frame, known is not None)
            if recall is not None:
                recall.finish()
        except (KeyboardInterrupt, VideoError):
            settle(whole=False)
            raise
        settle()
    return tally


def _check_unchanged(orders: Orders, table: Writer, source: str) -> None:
    """Refuse to go on with the table of a video whose content is another one now."""
    content = table.contents.get(source)
    if content is not None and not inputs.unchanged(orders.video, content):
        raise TableError(
            f"{describe(source)}: has changed since {describe(table.path)} was begun: start anew with --overwrite, or "
            "name another --out"
        )


def _write_page(orders: Orders, tally: Tally, source: str, model: str) -> None:
    if orders.page is not None and tally.frames:
        summary_page.write(orders.page, tally, source, model, orders.lag)


def _table(orders: Orders, out: Path, labels: tuple[str, ...]) -> Writer:
    """Open the table, and refuse a film or a page that is there and that its earlier runs did not write."""
    written = {inputs.place(path): path for path in (orders.annotate, orders.page) if path is not None}
    made = orders.made_with
    if made is not None:
        made = {**made, "every": orders.every, "smooth": orders.lag}
    table = Writer(
        out,
        orders.columns,
        orders.resume,
        video=True,
        made_with=made,
        overwrite=orders.overwrite,
        writes=list(written),
        labels=labels,
    )
    try:
        for place, path in written.items():
            outputs.check(path, overwrite=orders.overwrite or place in table.wrote)
    except MienError:
        table.close()
        raise
    return table
