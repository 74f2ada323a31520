"""Frames of a video file in bounded memory, upright, each with the time at which it is shown.

Times are the presentation times stored in the file, not frame numbers over a rate: telephones record at a rate that
varies, and a number over a rate would then be wrong by seconds. Second 0 is where a player begins. Sound is not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mien.errors import ExtraMissing, MienError
from mien.images import MAX_PIXELS, describe
from mien.threads import available

if TYPE_CHECKING:
    from av import VideoFrame
    from typing_extensions import Self


class VideoError(MienError):
    """A video cannot be read, continued or written."""


def library() -> Any:
    """PyAV, which brings FFmpeg.

    Raises:
        ExtraMissing: it is not installed.
    """
    try:
        import av
    except ModuleNotFoundError:
        raise ExtraMissing("video", "av") from None
    av.logging.set_level(None)  # what goes wrong is said by us, once
    return av


class Picture(NamedTuple):
    """One frame: its number from 0, its time in seconds, and RGB uint8 pixels [height, width, 3]."""

    number: int
    time: float
    rgb: NDArray[np.uint8]


class Clip:
    """A video file, open for reading from its beginning, once.

    Attributes:
        path: as given.
        width, height: of the upright frames, pixels.
        rate: mean frames a second; None where the file does not say.
        duration: seconds; None where the file does not say.
        frames: how many the file says it has; None where it does not say.

    Raises:
        VideoError: there is no such file, FFmpeg cannot read it, it has no moving pictures, or they are too large.
        ExtraMissing: PyAV is not installed.
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        av = library()
        self.path = path
        self._name = describe(path)
        self._av = av
        if not Path(path).is_file():
            what = "is a folder" if Path(path).is_dir() else "no such file"
            raise VideoError(f"{self._name}: {what}: name a video file")
        try:
            # The prefix and the list keep FFmpeg from taking a name, or what is in a playlist, for an address.
            self._container = av.open(f"file:{path}", options={"protocol_whitelist": "file"})
        except (av.error.FFmpegError, UnicodeError) as problem:
            raise VideoError(
                f"{self._name}: is damaged, or no video that FFmpeg can read ({_reason(problem)}): "
                "record or convert it again"
            ) from None
        # A song's cover is stored as a video stream of one picture.
        cover = av.stream.Disposition.attached_pic
        moving = [stream for stream in self._container.streams.video if not stream.disposition & cover]
        if not moving:
            self._container.close()
            raise VideoError(f"{self._name}: has no moving pictures: name a file with a video stream")
        self._stream = moving[0]
        context = self._stream.codec_context
        if not context.width or context.width * context.height > MAX_PIXELS:
            self._container.close()
            raise VideoError(
                f"{self._name}: its frames are {context.width} x {context.height} pixels: "
                f"scale them to between 1 and {MAX_PIXELS:,} pixels"
            )
        self._stream.thread_type = "AUTO"
        context.thread_count = threads or available()
        aspect = self._stream.sample_aspect_ratio
        self._wider = float(aspect) if aspect else 1.0
        self.rate = float(self._stream.average_rate) if self._stream.average_rate else None
        self.frames = self._stream.frames or None
        self.duration = self._duration()
        self._start = self._container.start_time or 0
        self._reformatter = av.video.reformatter.VideoReformatter()  # one for all frames: it keeps its tables
        self._first: VideoFrame | None = None
        self._decoded = self._decode()
        self._first = next(self._decoded, None)
        if self._first is None:
            self._container.close()
            raise VideoError(f"{self._name}: has no frame that can be decoded: record or convert it again")
        self.height, self.width = self._pixels(self._first).shape[:2]

    def _duration(self) -> float | None:
        if self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        return self._container.duration / 1_000_000 if self._container.duration else None

    def _decode(self) -> Iterator[VideoFrame]:
        """Whatever can be decoded; what could not is said at the end, as a player would show the rest too."""
        wrong = self._av.error.FFmpegError
        packets = self._container.demux(self._stream)
        reason = ""
        while True:
            try:
                packet = next(packets, None)
            except wrong as problem:
                packet, reason = None, _reason(problem)
            try:
                # Without a packet the decoder gives what it still holds.
                yield from self._stream.decode(packet) if packet else self._stream.codec_context.decode(None)
            except self._av.error.EOFError:
                pass
            except wrong as problem:
                reason = reason or _reason(problem)
            if packet is None or packet.size == 0:
                break
        if reason:
            raise VideoError(
                f"{self._name}: is damaged ({reason}): copy it again; what is whole was analysed"
            )

    def pictures(self, every: int = 1) -> Iterator[Picture]:
        """Each `every`-th frame, from the first.

        Raises:
            VideoError: the file is damaged, or ends before it should. What could be read has been given before.
        """
        first, self._first = self._first, None
        if first is None:
            raise VideoError(f"{self._name}: has been read: open it again")
        yield Picture(0, self._time(first, 0), self._pixels(first))
        number, frame = 0, first
        for number, frame in enumerate(self._decoded, start=1):
            if number % every == 0:
                yield Picture(number, self._time(frame, number), self._pixels(frame))
        # Files leave out a frame or two at cuts made without decoding; more is a download that stopped.
        if self.frames is not None:
            short = number + 1 < 0.9 * self.frames - 3
        else:
            short = self.duration is not None and self._time(frame, number) < 0.9 * self.duration - 0.5
        if short:
            whole = f"{self.frames} frames" if self.frames else f"{self.duration:.1f} s"
            raise VideoError(
                f"{self._name}: ends after {number + 1} frames where it promises {whole}: copy it again; "
                "what is there was analysed"
            )

    def _time(self, frame: VideoFrame, number: int) -> float:
        if frame.pts is None or frame.time_base is None:
            return number / (self.rate or 25.0)
        return float(frame.pts * frame.time_base) - self._start / 1_000_000

    def _pixels(self, frame: VideoFrame) -> NDArray[np.uint8]:
        width = round(frame.width * self._wider)
        square = self._reformatter.reformat(frame, width=width, height=frame.height, format="rgb24")
        rgb = np.asarray(square.to_ndarray(), dtype=np.uint8)
        quarters = round(frame.rotation / 90) % 4  # counter-clockwise, as `rot90` turns
        return np.ascontiguousarray(np.rot90(rgb, quarters)) if quarters else rgb

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _reason(problem: Exception) -> str:
    return (getattr(problem, "strerror", None) or str(problem)).lower()
