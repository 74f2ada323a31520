"""Read and write video files frame by frame, in bounded memory.

Frames are upright and have the presentation time stored in the file, in seconds from where a player starts, not a frame
number over a rate: phones record at a varying rate, so that could be wrong by seconds.

Pixels are converted to RGB by the matrix and range that the file states; where it states no matrix, by BT.709 from 1280
x 577 pixels on and BT.601 below, as players do. HDR (PQ and HLG) is tone-mapped to SDR with BT.709 primaries, which
`VideoReader.notes` mentions. Pixels that are not square are made square.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ConfigError, DatasetDamaged, ExtraMissing, MienError
from mien.io import atomic
from mien.io.images import MAX_PIXELS, describe
from mien.io.onnx import available
from mien.wording import several

if TYPE_CHECKING:
    from av import VideoFrame
    from typing_extensions import Self


class VideoError(MienError):
    """A video cannot be read, continued or written."""


def library() -> Any:
    """Import PyAV, which contains FFmpeg.

    Raises:
        ExtraMissing: it is not installed.
    """
    try:
        import av
    except ModuleNotFoundError:
        raise ExtraMissing("video", "av") from None
    av.logging.set_level(None)  # errors are reported by mien, once
    return av


_PLAYLISTS: Final = frozenset(
    (
        "concat",
        "dash",
        "hls",
        "image2",
        "imf",
        "lavfi",
        "rtp",
        "rtsp",
        "sap",
        "sdp",
        "vobsub",
        "webm_dash_manifest",
    )
)
"""FFmpeg's names of the formats that name other files or addresses."""


@lru_cache(maxsize=1)
def _whole_files() -> str:
    """The names of all other formats, with commas."""
    av = library()
    names: set[str] = set()
    for name in av.formats_available:
        with suppress(ValueError):  # it is only written
            names.update(av.format.ContainerFormat(name, "r").name.split(","))
    return ",".join(sorted(names - _PLAYLISTS))


_MATRICES: Final = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
"""Matrix codes of ITU-T H.273 to those of FFmpeg's scaler."""
_PQ, _HLG = 16, 18


class Colour(NamedTuple):
    """How the colours of a video are stored, in the codes of ITU-T H.273; `full`: luma 0 to 255, not 16 to 235."""

    matrix: int = 1
    primaries: int = 1
    transfer: int = 1
    full: bool = False

    @property
    def scaler(self) -> int:
        """The matrix as FFmpeg's scaler counts them."""
        return _MATRICES[self.matrix]


class Picture(NamedTuple):
    """One frame: its number from 0, its time in seconds, and RGB uint8 pixels [height, width, 3]."""

    number: int
    time: float
    rgb: NDArray[np.uint8]


class VideoReader:
    """Reads a video file once, from its beginning.

    Attributes:
        path: as given.
        width, height: of the upright frames, pixels.
        rate: mean frames per second; None if the file does not state it.
        duration: seconds; None if the file does not state it.
        frames: their number as the file states it, or None.
        start: time of the first frame that a player shows, in seconds of the file's clock.
        colour: how to store these frames so that they look the same.
        notes: changes made in reading, one sentence each.

    Raises:
        VideoError: no such file, FFmpeg cannot read it, or its video stream is missing or too large.
        ExtraMissing: PyAV is not installed.
    """

    def __init__(self, path: str | Path, threads: int | None = None, playlists: bool = True) -> None:
        """Open the file; without `playlists` one that names other files is refused."""
        av = library()
        self.path = path
        self._name = describe(path)
        self._av = av
        if not Path(path).is_file():
            what = "is a folder" if Path(path).is_dir() else "no such file"
            raise VideoError(f"{self._name}: {what}: name a video file")
        try:
            # The prefix and the whitelist keep FFmpeg from opening a name, or an entry of a playlist, as a URL.
            options = {"protocol_whitelist": "file"} | (
                {} if playlists else {"format_whitelist": _whole_files()}
            )
            self._container = av.open(f"file:{path}", options=options)
        except (av.error.FFmpegError, UnicodeError) as problem:
            raise VideoError(
                f"{self._name}: is damaged, or no video that FFmpeg can read ({_reason(problem)}): "
                "record or convert it again"
            ) from None
        # The cover of an audio file is stored as a video stream of one picture.
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
        if context.width * self._wider * context.height > MAX_PIXELS or context.width * self._wider < 1:
            self._wider = 1.0  # no camera has such pixels: the header is wrong
        self.rate = float(self._stream.average_rate) if self._stream.average_rate else None
        self.frames = self._stream.frames or None
        self.start = (self._container.start_time or 0) / 1_000_000
        self.duration = self._duration()
        self.notes: list[str] = []
        self._reformatter = (
            av.video.reformatter.VideoReformatter()
        )  # one for all frames, as it caches its tables
        self._first: VideoFrame | None = None
        self._decoded = self._decode()
        self._first = next(self._decoded, None)
        if self._first is None:
            self._container.close()
            raise VideoError(f"{self._name}: has no frame that can be decoded: record or convert it again")
        self.colour = self._colour(self._first)
        self.height, self.width = self._pixels(self._first).shape[:2]
        self._number = 0

    def _duration(self) -> float | None:
        if self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        seconds = self._container.duration / 1_000_000 if self._container.duration else None
        # In Matroska the duration is the last time, counted from 0.
        late = seconds is not None and "matroska" in self._container.format.name and 0 < self.start < seconds
        return seconds - self.start if seconds is not None and late else seconds

    def _colour(self, frame: VideoFrame) -> Colour:
        """The colours as the file states them, with the defaults of players for what it does not state."""
        context = self._stream.codec_context
        large = frame.width >= 1280 or frame.height > 576
        usual = Colour() if large else Colour(5, 5, 6) if frame.height == 576 else Colour(6, 6, 6)
        matrix = frame.colorspace if frame.colorspace in _MATRICES else usual.matrix
        if frame.colorspace not in (0, 2, matrix):
            self.notes.append(f"colours of matrix {frame.colorspace} (H.273) are taken for {matrix}")
        primaries, transfer = (
            value if value not in (0, 2, 3) else other
            for value, other in (
                (context.color_primaries, usual.primaries),
                (context.color_trc, usual.transfer),
            )
        )
        self._source = Colour(matrix, primaries, transfer, frame.color_range == 2)
        if transfer in (_PQ, _HLG):
            kind = "PQ" if transfer == _PQ else "HLG"
            self.notes.append(f"HDR ({kind}) is tone-mapped to SDR, BT.709")
            return Colour()
        if (frame.format.components[0].bits if frame.format.components else 8) > 8:
            self.notes.append("more than 8 bits per channel are read, and written, as 8")
        return self._source

    def _decode(self) -> Iterator[VideoFrame]:
        """Decode all frames that can be decoded; an error is raised at the end, as a player would show the rest too."""
        wrong = self._av.error.FFmpegError
        packets = self._container.demux(self._stream)
        reason = ""
        while True:
            try:
                packet = next(packets, None)
            except wrong as problem:
                packet, reason = None, _reason(problem)
            try:
                # Without a packet the decoder returns the frames that it still holds.
                yield from self._stream.decode(packet) if packet else self._stream.codec_context.decode(None)
            except self._av.error.EOFError:
                pass
            except wrong as problem:
                reason = reason or _reason(problem)
            if packet is None or packet.size == 0:
                break
        if reason:
            raise VideoError(
                f"{self._name}: is damaged ({reason}): copy it again; the readable frames were analysed"
            )

    def pictures(self, every: int = 1) -> Iterator[Picture]:
        """Every `every`-th frame, starting with the first.

        Raises:
            VideoError: the file is damaged, or ends before it should. The readable frames were yielded before.
        """
        first, self._first = self._first, None
        if first is None:
            raise VideoError(f"{self._name}: has been read: open it again")
        yield Picture(0, self._time(first, 0), self._pixels(first))
        number, frame = 0, first
        for number, frame in enumerate(self._decoded, start=1):
            if number % every == 0:
                yield Picture(number, self._time(frame, number), self._pixels(frame))
        # Files cut without decoding may miss a frame or two; more is an incomplete download.
        if self.frames is not None:
            short = number + 1 < 0.9 * self.frames - 3
        else:
            # Formats differ in whether a duration counts from 0 or from the first frame.
            reached = self._time(frame, number) + max(self.start, 0.0)
            short = self.duration is not None and reached < 0.9 * self.duration - 0.5
        if short:
            whole = several(self.frames, "frame") if self.frames else f"{self.duration:.1f} s"
            raise VideoError(
                f"{self._name}: ends after {several(number + 1, 'frame')}, its header states {whole}: copy it again; "
                "the frames before were analysed"
            )

    def picture(self, number: int) -> Picture | None:
        """The frame `number`, which must not be before the last one requested; None if the file has fewer.

        Raises:
            VideoError: the file is damaged before it.
        """
        while self._first is not None and self._number < number:
            self._first, self._number = next(self._decoded, None), self._number + 1
        if self._first is None or self._number != number:
            return None
        return Picture(number, self._time(self._first, number), self._pixels(self._first))

    def _time(self, frame: VideoFrame, number: int) -> float:
        if frame.pts is None or frame.time_base is None:
            return number / (self.rate or 25.0)
        return float(frame.pts * frame.time_base) - self.start

    def _pixels(self, frame: VideoFrame) -> NDArray[np.uint8]:
        width, source = round(frame.width * self._wider), self._source
        deep = source.transfer in (_PQ, _HLG)
        square = self._reformatter.reformat(
            frame,
            width=width,
            height=frame.height,
            format="rgb48le" if deep else "rgb24",
            src_colorspace=source.scaler,
            dst_colorspace=source.scaler,
            src_color_range=2 if source.full else 1,
            dst_color_range=2,
        )
        pixels = square.to_ndarray()
        rgb = tone_mapped(pixels, source) if deep else np.asarray(pixels, dtype=np.uint8)
        return upright(rgb, frame)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def upright(rgb: NDArray[np.uint8], frame: VideoFrame) -> NDArray[np.uint8]:
    """The pixels of a frame rotated and mirrored by its display matrix, to the nearest of the eight orientations."""
    # A matrix of the container or of the video stream is attached to every frame.
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return rgb
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), dtype=np.int32).tolist()  # x' = ax + cy, y' = bx + dy
    if abs(a) + abs(d) < abs(b) + abs(c):
        rgb, a, d = rgb.swapaxes(0, 1), c, b
    return np.ascontiguousarray(rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


_WHITE: Final = 203.0
"""cd/m2 of diffuse white in HDR (ITU-R BT.2408)."""
_PEAK: Final = 1000.0
"""cd/m2 of the brightest HLG, which has relative values (ITU-R BT.2100)."""
_KNEE: Final = 0.7
"""Share of the SDR range up to which light is kept; brighter light is compressed. Our choice."""
_NARROWER: Final = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
"""Linear light with primaries of BT.2020 to those of BT.709 (ITU-R BT.2087)."""
_BRIGHTEST: Final = 50.0
"""Diffuse whites: about the 10,000 cd/m2 at which PQ ends."""


def tone_mapped(deep: NDArray[np.uint16], source: Colour) -> NDArray[np.uint8]:
    """Tone-map RGB uint16 [height, width, 3], PQ or HLG, to SDR with BT.709 primaries, RGB uint8.

    Diffuse white becomes a light grey (0.85 of linear light), so that highlights keep detail.
    """
    import cv2

    light = _linear(source.transfer)[deep]
    if source.transfer == _HLG:  # the system gamma is applied to luminance, or hues would shift
        luma = cv2.transform(light, np.array([[0.2627, 0.678, 0.0593]], np.float32))
        light *= np.power(np.maximum(luma, 1e-6), 0.2)[..., None] * np.float32(_PEAK / _WHITE)
    if source.primaries == 9:
        light = np.asarray(cv2.transform(light, _NARROWER), np.float32)
    place = np.sqrt(light.clip(0, _BRIGHTEST) / np.float32(_BRIGHTEST)) * 65535
    return np.asarray(_shown()[place.astype(np.uint16)], np.uint8)


@lru_cache(maxsize=2)
def _linear(transfer: int) -> NDArray[np.float32]:
    """Linear light for each of 65,536 stored values: PQ in diffuse whites, HLG in shares of the scene's maximum."""
    value = np.linspace(0, 1, 65536)
    if transfer == _PQ:  # SMPTE ST 2084
        root = value ** (1 / 78.84375)
        nits = 10000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (
            1 / 0.1593017578125
        )
        return (nits / _WHITE).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12)
    return scene.astype(np.float32)


@lru_cache(maxsize=1)
def _shown() -> NDArray[np.uint8]:
    """A table of sRGB values for light up to `_BRIGHTEST`, compressed into the SDR range; its 65,536 entries are by the
    square root of light."""
    light = _BRIGHTEST * np.linspace(0, 1, 65536) ** 2
    over = np.maximum(light - _KNEE, 0) / (1 - _KNEE)
    light = np.where(light < _KNEE, light, _KNEE + (1 - _KNEE) * over / (1 + over))
    coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(255 * coded), np.uint8)


def _reason(problem: Exception) -> str:
    return (getattr(problem, "strerror", None) or str(problem)).lower()


FORMATS: Final = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Container formats that can be written, by suffix."""

_TICK: Final = Fraction(1, 90_000)
"""Time base of written files, seconds."""


class VideoWriter:
    """Writes a video to `<path>.part`, which `finish` renames to `path`.

    `like` is the video that the frames come from: colours are stored as in it (default BT.709), and its sound is copied
    if `sound` is set. `notes` has a sentence for each property that could not be kept.

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
        like: VideoReader | None = None,
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
        )  # chroma is stored for blocks of 2 x 2 pixels
        self._colour = like.colour if like is not None else Colour()
        self._reformatter = self._av.video.reformatter.VideoReformatter()
        self._sound: Sound | None = None
        try:
            self._begin(rate, like if sound else None)
        except (OSError, ValueError, self._av.error.FFmpegError) as problem:
            raise self._unwritable(problem) from None
        self._last = -1
        self._open = True

    def _begin(self, rate: float | None, heard: VideoReader | None) -> None:
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
            # The list of codecs that a format supports is not exact: try once without sound.
            self._close()
            self._sound = None
            self._begin(rate, None)
            self.notes.append(
                f"sound is left out: {self.path.suffix} files cannot hold it: write .mkv, or convert it"
            )

    def add(self, rgb: NDArray[np.uint8], time: float) -> None:
        """Append a frame that is shown from `time` seconds on; it is scaled if its size differs.

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
        # Players need increasing times.
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
        """Write buffered frames and put the file in its place; all sound is copied if the video is `whole`.

        Raises:
            VideoError: the disk is full or gone.
        """
        if self._last >= 0:
            self._mux(None, np.inf if whole else -np.inf)
        try:
            self._close()
            if self._last >= 0:
                atomic.replace(self.part, self.path)
            else:
                self.part.unlink(missing_ok=True)
        except (OSError, self._av.error.FFmpegError) as problem:
            raise self._unwritable(problem) from None

    def drop(self) -> None:
        """Remove the part file, unless the video is finished."""
        if self._open:
            with suppress(OSError, self._av.error.FFmpegError):  # it is removed anyway
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


class Frames:
    """Frames of videos by number, upright; going forward through one video decodes each frame once."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._clip: Any = None
        self._last = -1

    def read(self, path: Path, number: int) -> NDArray[np.uint8]:
        """Frame `number`, from 0, of the video at `path` as RGB.

        Raises:
            DatasetDamaged: the video cannot be opened or has no such frame.
            ExtraMissing: the `video` extra is not installed.
        """
        try:
            if self._path != path or number < self._last:
                if self._clip is not None:
                    self._clip.close()
                self._path = None
                self._clip = VideoReader(path)
                self._path = path
            self._last = number
            picture = self._clip.picture(number)
        except VideoError as problem:
            raise DatasetDamaged(str(problem)) from None
        if picture is None:
            raise DatasetDamaged(
                f"{path}: no frame {number}: the video is shorter than its labels, or damaged"
            )
        frame: NDArray[np.uint8] = picture.rgb
        return frame


class Sound:
    """Copies the sound of a video into another one without decoding, up to the time that the latter has reached."""

    def __init__(self, clip: VideoReader, container: Any, av: Any, notes: list[str]) -> None:
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
        """Copy the packets before `time` seconds."""
        while self._streams:
            packet = self._pending or self._next()
            self._pending = None
            if packet is None:
                self._streams = {}
                return
            at = packet.pts if packet.pts is not None else packet.dts
            if at is None:  # the end-of-stream packet
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
        """Close the source file."""
        self._source.close()
