"""What was found, drawn on frames of a video, and the video that they become.

A frame of a film is seen for a moment: each face gets a frame in its label's colour, its person's number with the
smoothed label and probability, and a dial of smoothed valence (across) and arousal (up). Drawing takes about two
milliseconds, where the picture of `mien.figures.annotated` takes twenty times that.

Frames keep the times at which they were shown, so a rate that varies still does. Sound is copied as it is. Colours are
stored, and tagged, as in the clip that the frames came from.
"""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien import durable
from mien.errors import ConfigError
from mien.figures.palette import colour as colour_of
from mien.images import describe
from mien.lettering import font, shown
from mien.types import Frame, TrackedFace
from mien.video.clip import Clip, Colour, VideoError, library

_INK: Final = (18, 20, 24)
_PAPER: Final = (255, 255, 255)

FORMATS: Final = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Files that can be written, by their suffix."""

_TICK: Final = Fraction(1, 90_000)
"""Seconds: the unit of time in the file that is written."""


def draw(rgb: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
    """A copy of RGB uint8 [height, width, 3] with the faces of a frame marked."""
    picture = rgb.copy()
    height, width = picture.shape[:2]
    text = int(np.clip(np.sqrt(width * height) / 34, 10, 40))
    line = max(1, round(text / 8))
    for face in reversed(frame.faces):  # the largest last, on top
        colour = _colour(face)
        left, top, right, bottom = (round(edge) for edge in face.box.corners)
        cv2.rectangle(picture, (left, top), (right, bottom), _INK, line + 2, cv2.LINE_AA)
        cv2.rectangle(picture, (left, top), (right, bottom), colour, line, cv2.LINE_AA)
        label = _chip(_words(face), text, colour)
        above = top - label.shape[0] - line
        _lay(picture, label, left - line, above if above >= 0 else bottom + line)
        _dial(picture, face, right + line + text, top + text, round(1.3 * text), line)
    return picture


def _words(face: TrackedFace) -> str:
    unsure = "?" if face.reading.uncertain else ""
    label = shown(face.smoothed.expression, face.probabilities)
    return f"#{face.person}  {label}{unsure} {face.smoothed.probability:.0%}"


def _colour(face: TrackedFace) -> tuple[int, int, int]:
    text = colour_of(face.smoothed.expression, face.probabilities).lstrip("#")
    return int(text[0:2], 16), int(text[2:4], 16), int(text[4:6], 16)


@lru_cache(maxsize=512)
def _chip(words: str, text: int, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Words on the label's colour, RGB: drawn once, as a film shows the same few again and again."""
    from PIL import Image, ImageDraw

    letters = font(text, words)
    light = 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]
    pad = text // 3
    size = round(letters.getlength(words)) + 2 * pad, round(1.5 * text)
    image = Image.new("RGB", size, colour)
    ink = _INK if light > 110 else _PAPER
    ImageDraw.Draw(image).text((pad, size[1] / 2), words, ink, letters, anchor="lm")
    return np.asarray(image)


def _lay(picture: NDArray[np.uint8], patch: NDArray[np.uint8], left: int, top: int) -> None:
    """Put a patch into the picture, moved inside it; what is larger than the picture is cut."""
    height, width = picture.shape[:2]
    left = max(0, min(left, width - patch.shape[1]))
    top = max(0, min(top, height - patch.shape[0]))
    patch = patch[: height - top, : width - left]
    picture[top : top + patch.shape[0], left : left + patch.shape[1]] = patch


def _dial(picture: NDArray[np.uint8], face: TrackedFace, left: int, top: int, radius: int, line: int) -> None:
    """A disc of valence (across) and arousal (up) beside the face, where they are known and there is room for it."""
    valence, arousal = face.smoothed.valence, face.smoothed.arousal
    if valence is None or arousal is None:
        return
    height, width = picture.shape[:2]
    x, y = left + radius, top + radius
    if x + radius >= width:
        x = round(face.box.x) - (left - round(face.box.right)) - radius
    if not (radius <= x < width - radius and radius <= y < height - radius):
        return
    region = picture[y - radius : y + radius + 1, x - radius : x + radius + 1]
    shade = region.copy()
    centre = (radius, radius)
    cv2.circle(shade, centre, radius, _INK, -1, cv2.LINE_AA)
    cv2.addWeighted(shade, 0.7, region, 0.3, 0, dst=region)
    cv2.circle(region, centre, radius, _PAPER, 1, cv2.LINE_AA)
    cv2.line(region, (2, radius), (2 * radius - 2, radius), (140, 142, 146), 1, cv2.LINE_AA)
    cv2.line(region, (radius, 2), (radius, 2 * radius - 2), (140, 142, 146), 1, cv2.LINE_AA)
    inner = radius - 2 * line
    spot = round(radius + inner * valence), round(radius - inner * arousal)
    cv2.circle(region, spot, max(2, 2 * line), _colour(face), -1, cv2.LINE_AA)
    cv2.circle(region, spot, max(2, 2 * line), _PAPER, 1, cv2.LINE_AA)


class Sound:
    """The sound of a clip, copied into a film as it is, up to the time that the film has reached."""

    def __init__(self, clip: Clip, container: Any, av: Any, notes: list[str]) -> None:
        self._av, self._out, self._notes, self._start = av, container, notes, clip.start
        self._streams: dict[int, Any] = {}
        self._pending: Any = None
        self._source = av.open(f"file:{clip.path}", options={"protocol_whitelist": "file"})
        for stream in self._source.streams.audio:
            codec = stream.codec_context.name if stream.codec_context else "unknown"
            try:
                if codec not in container.supported_codecs:
                    raise ValueError
                self._streams[stream.index] = container.add_stream_from_template(stream)
            except (ValueError, AttributeError, av.error.FFmpegError):
                notes.append(
                    f"sound is left out: {container.format.name} files cannot hold {codec}: write .mkv, or convert it"
                )
        self._packets = iter(())
        if self._streams:
            self._packets = self._source.demux([self._source.streams[index] for index in self._streams])

    def until(self, time: float) -> None:
        """Copy what is heard before `time` seconds."""
        while self._streams:
            packet = self._pending or self._next()
            self._pending = None
            if packet is None:
                self._streams = {}
                return
            at = packet.pts if packet.pts is not None else packet.dts
            if at is None:  # the mark at the end of a stream
                continue
            if float(at * packet.time_base) - self._start > time:
                self._pending = packet
                return
            shift = round(self._start / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts = None if packet.dts is None else packet.dts - shift
            packet.stream = self._streams[packet.stream.index]
            self._out.mux(packet)

    def _next(self) -> Any:
        try:
            return next(self._packets, None)
        except self._av.error.FFmpegError:
            self._notes.append("sound is copied in part: it is damaged")
            return None

    def close(self) -> None:
        """Close the file that it is read from."""
        self._source.close()


class Film:
    """A video being written: `path` appears whole when `finish` is called; until then it is `<path>.part`.

    `like` is the clip that its frames come from: their colours are stored as in it (BT.709 without), and its `sound` is
    copied. `notes` says what could not be kept, a sentence each.

    Raises:
        ConfigError: the suffix is none of `FORMATS`.
        VideoError: the file cannot be written.
        ExtraMissing: PyAV is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        rate: float | None,
        like: Clip | None = None,
        sound: bool = True,
    ) -> None:
        self.path = Path(path)
        suffix = self.path.suffix.lower()
        if suffix not in FORMATS:
            raise ConfigError(f"{describe(path)}: cannot write '{suffix}': use {', '.join(FORMATS)}")
        self.part = self.path.with_name(self.path.name + ".part")
        self.notes: list[str] = []
        self._av = library()
        self._size = (
            max(2, width // 2 * 2),
            max(2, height // 2 * 2),
        )  # colours are stored for squares of 2 x 2
        self._colour = like.colour if like is not None else Colour()
        self._reformatter = self._av.video.reformatter.VideoReformatter()
        self._sound: Sound | None = None
        try:
            self._begin(rate, like if sound else None)
        except (OSError, ValueError, self._av.error.FFmpegError) as problem:
            raise self._unwritable(problem) from None
        self._last = -1
        self._open = True

    def _begin(self, rate: float | None, heard: Clip | None) -> None:
        codec = "libx264" if "libx264" in self._av.codecs_available else "mpeg4"
        options = {"crf": "20", "preset": "veryfast"} if codec == "libx264" else {"qscale": "3"}
        self._container = self._av.open(f"file:{self.part}", "w", format=FORMATS[self.path.suffix.lower()])
        usual = Fraction(rate or 25).limit_denominator(1001)
        self._stream: Any = self._container.add_stream(codec, rate=usual, options=options)
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base = _TICK
        context.colorspace, context.color_range = self._colour.matrix, 2 if self._colour.full else 1
        context.color_primaries, context.color_trc = self._colour.primaries, self._colour.transfer
        if heard is not None:
            self._sound = Sound(heard, self._container, self._av, self.notes)
        try:
            self._container.start_encoding()
        except (ValueError, self._av.error.FFmpegError):
            if self._sound is None:
                raise
            # The list of codecs that a format takes does not know every condition: try once without.
            self._close()
            self._sound = None
            self._begin(rate, None)
            self.notes.append(
                f"sound is left out: {self.path.suffix} files cannot hold it: write .mkv, or convert it"
            )

    def add(self, rgb: NDArray[np.uint8], time: float) -> None:
        """Append a frame that is shown from `time` seconds on; one of another size is scaled.

        Raises:
            VideoError: the disk is full or gone.
        """
        if rgb.shape[1] // 2 * 2 != self._size[0] or rgb.shape[0] // 2 * 2 != self._size[1]:
            rgb = np.asarray(cv2.resize(rgb, self._size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        frame = self._av.VideoFrame.from_ndarray(
            np.ascontiguousarray(rgb[: self._size[1], : self._size[0]]), format="rgb24"
        )
        frame = self._reformatter.reformat(
            frame,
            format="yuv420p",
            src_colorspace=self._colour.scaler,
            dst_colorspace=self._colour.scaler,
            src_color_range=2,
            dst_color_range=2 if self._colour.full else 1,
        )
        # Players need times that rise, whatever the file had.
        self._last = max(self._last + 1, round(time / _TICK))
        frame.pts, frame.time_base = self._last, _TICK
        self._mux(frame, time)

    def _mux(self, frame: Any, heard: float = -np.inf) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
            if self._sound is not None:
                self._sound.until(heard)
        except (OSError, self._av.error.FFmpegError) as problem:
            raise self._unwritable(problem) from None

    def finish(self, whole: bool = True) -> None:
        """Write what is still held back and put the file in place; sound goes on to its end if the film is `whole`.

        Raises:
            VideoError: the disk is full or gone.
        """
        if self._last >= 0:
            self._mux(None, np.inf if whole else -np.inf)
        try:
            self._close()
            if self._last >= 0:
                durable.replace(self.part, self.path)
            else:
                self.part.unlink(missing_ok=True)
        except (OSError, self._av.error.FFmpegError) as problem:
            raise self._unwritable(problem) from None

    def drop(self) -> None:
        """Give up, unless it is finished: remove what was written."""
        if self._open:
            with suppress(OSError, self._av.error.FFmpegError):  # it is given up anyway
                self._close()
            self.part.unlink(missing_ok=True)

    def _close(self) -> None:
        self._open = False
        if self._sound is not None:
            self._sound.close()
        self._container.close()

    def _unwritable(self, problem: Exception) -> VideoError:
        reason = (getattr(problem, "strerror", None) or str(problem)).lower()
        return VideoError(f"{describe(self.path)}: cannot be written: {reason}: fix it, or name another file")
