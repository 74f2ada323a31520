"""Read and write pictures; inside `mien` a picture is always RGB, uint8, [height, width, 3], upright.

`read` accepts rotated JPEG, CMYK, 16-bit, GIF, alpha and more, and returns that one form. Differences in rotation or
colour order between libraries are a common cause of silently wrong results, so the rules are stated here:

- EXIF orientation is applied, always;
- transparent pixels are composited on white; of an animation the first frame is read;
- 16-bit values are scaled (65,535 becomes 255), not clipped;
- CMYK is converted by the simple formula, and embedded colour profiles are not applied;
- the cost of decoding is read from the header and limited before any pixel is decoded: pixels, the scans of a JPEG
  (each is a pass over all pixels), and the size of embedded metadata.

Ordinary JPEGs are decoded by OpenCV, everything else by Pillow, which is imported only then. Both use the same decoder
library, and a test compares their pixels.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.errors import ImageError, NotAPicture, TooLarge, shortened
from mien.io import atomic

if TYPE_CHECKING:
    from PIL import Image as PillowImage
    from typing_extensions import TypeIs

Rgb = NDArray[np.uint8]
"""A picture: [height, width, 3], uint8, RGB, upright."""


class Tensor(Protocol):
    """A torch tensor, which this module does not import."""

    def detach(self) -> Any:
        """The same values without gradients."""

    def cpu(self) -> Any:
        """The same values in main memory."""


Pixels: TypeAlias = "NDArray[Any] | PillowImage.Image | Tensor"
"""The types that `check` accepts: a numpy array, a Pillow picture or a torch tensor."""

Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO"
"""The types that `read` accepts: a path, a file's bytes, or an open binary file."""

# fmt: off
SUFFIXES: Final = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif",
    ".heic", ".heif", ".avif", ".ppm", ".pgm", ".pbm", ".pnm",
)
# fmt: on
"""File name suffixes, in lower case, of the pictures that `mien.io.inputs.find` searches for in a folder."""


LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in luma (ITU-R BT.601, as in OpenCV's grey conversion)."""
MAX_PIXELS: Final = 100_000_000
"""Default limit on the size of a decoded picture, pixels: 300 MB of RGB."""

_BASE64: Final = ("/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR", "SUkqA", "TU0AK", "Qk")
"""How pictures begin in base64: JPEG, PNG, GIF, WebP, TIFF and BMP."""
MAX_SCANS: Final = 50
"""Limit on the scans of a JPEG. Our choice: encoders write 1 to about 20, each costs a pass over all pixels, and 50
scans of 16 megapixels take about two seconds."""
MAX_METADATA: Final = 8 * 2**20
"""Limit on EXIF, colour profile and XMP together, bytes. Our choice: cameras write less than 0.1 MB, and it is copied
several times."""

_LARGEST_FILE: Final = 2**31 - 1

_FORMATS: Final = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"BM": "BMP",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
    **{b"P%d" % number: "PPM" for number in range(1, 7)},
}
_HEIF_BRANDS: Final = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Frame headers of the JPEG processes that hold a picture's size: all of C0..CF but DHT (C4), JPG (C8) and DAC (CC).
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# The next marker as libjpeg looks for it: other bytes, stuffed zeros, padding and restart markers are skipped.
_JPEG_MARKER: Final = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
_JPEG_SEGMENTS: Final = 10_000


class TooCostly(TooLarge):
    """A picture within the limit of pixels that would cost much more to decode than its size suggests."""


def read(source: Source, *, max_pixels: int = MAX_PIXELS) -> Rgb:
    """Read a picture as RGB uint8 [height, width, 3], upright.

    Args:
        source: a path, the bytes of a file, or an open binary file (read to its end).
        max_pixels: refuse a larger picture, before decoding it.

    Raises:
        ImageError: missing, unreadable, not a picture, damaged, or too large; the message says which.
    """
    name = describe(source)
    data = bytes_of(source)
    if file_type(data) == "JPEG":
        picture = _read_jpeg(data, name, max_pixels)
        if picture is not None:
            return picture
    return _read_pillow(data, name, max_pixels)


def is_pixels(source: object) -> TypeIs[Pixels]:
    """Whether `check` takes this: a numpy array, a Pillow picture or a torch tensor, rather than a file."""
    return isinstance(source, np.ndarray) or _foreign(source) != ""


def is_picture(source: object) -> bool:
    """Whether this is of a type that `read` or `check` takes, rather than several pictures."""
    file = isinstance(source, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(source, "read")
    return file or is_pixels(source)


def _foreign(source: object) -> str:
    """ "Pillow" or "torch" for an object of that library, else ""; neither is imported for the check."""
    pillow, torch = sys.modules.get("PIL.Image"), sys.modules.get("torch")
    if pillow is not None and isinstance(source, pillow.Image):
        return "Pillow"
    return "torch" if torch is not None and isinstance(source, torch.Tensor) else ""


def check(array: Any, max_pixels: int = MAX_PIXELS) -> Rgb:
    """A caller's pixels as a picture: uint8 [height, width, 3], contiguous.

    Colour order cannot be detected: an array **must be RGB**. Convert one from `cv2.imread`, which is BGR, with
    `array[..., ::-1]` first.

    Args:
        array: uint8 [height, width, 3] is used as it is. Grey [height, width] and [height, width, 1] is repeated, the
            alpha of [height, width, 4] and [height, width, 2] is composited on white, floats in 0..1 and booleans are
            scaled to 0..255. Also a Pillow picture of any mode, rotated by its EXIF orientation, and a torch tensor,
            channels first or last. max_pixels: a larger Pillow picture is refused before it is decoded.

    Raises:
        ImageError: another type or shape, no pixels, or values of another range.
    """
    kind = _foreign(array)
    if kind == "Pillow":
        return _of_pillow(array, max_pixels)
    if kind == "torch":
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()
        if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
            array = array.transpose(1, 2, 0)
    if not isinstance(array, np.ndarray):
        raise ImageError(
            f"a picture must be a numpy array, this is a {type(array).__name__}: pass a path, or numpy.asarray(...)"
        )
    shape = "x".join(str(side) for side in array.shape) or "empty"
    if array.size and array.dtype != np.uint8:
        array = _bytes_from(array)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim == 3 and array.size and array.shape[2] in (1, 2, 4):
        array = _three_bands(array)
    if array.ndim == 4:
        raise ImageError(f"a {shape} array is a batch: pass a list of [height, width, 3] pictures")
    if array.ndim == 3 and array.shape[0] == 3 != array.shape[2]:
        raise ImageError(f"a {shape} array has its channels first: turn it with array.transpose(1, 2, 0)")
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ImageError(f"a {shape} array is not a picture: it must be [height, width, 3] RGB")
    return np.ascontiguousarray(array)


def _three_bands(array: NDArray[Any]) -> NDArray[Any]:
    """Repeat grey and composite alpha on white: [height, width, 1, 2 or 4] to [height, width, 3]."""
    bands = array.shape[2]
    colour = array[..., :3] if bands == 4 else np.repeat(array[..., :1], 3, axis=2)
    if bands == 1:
        return colour
    share = array[..., -1:] / np.float32(255)
    return np.rint(colour * share + 255 * (1 - share)).astype(np.uint8)


def _bytes_from(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert floats in 0..1 and booleans to uint8.

    Raises:
        ImageError: other types, or floats beyond 0..1.
    """
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind not in "iuf":
        raise ImageError(f"an array of {array.dtype} is not a picture: pass uint8 pixels, or paths as a list")
    remedy = "scale to 0..255, then array.astype('uint8')"
    if array.dtype.kind != "f":
        raise ImageError(f"a picture must be uint8, this array is {array.dtype}: {remedy}")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # also NaN
        raise ImageError(
            f"a picture of {array.dtype} must lie in 0..1, this array goes from {low:g} to {high:g}: {remedy}"
        )
    return np.rint(array * np.float64(255)).astype(np.uint8)


def _of_pillow(picture: PillowImage.Image, max_pixels: int) -> Rgb:
    from PIL import ImageOps

    name = describe(picture)
    _bound(*picture.size, name, max_pixels)
    try:
        return _to_rgb(ImageOps.exif_transpose(picture), name)
    except DAMAGE as problem:
        raise _damaged(name, picture.format or picture.mode, problem) from None


def write(path: str | Path, rgb: Rgb, quality: int = 95) -> None:
    """Write a picture in the format of its suffix, atomically.

    `quality` (1 to 100) is for JPEG and WebP. JPEG is written without chroma subsampling, so that text stays sharp.

    Raises:
        ImageError: the suffix is unknown, the array is not a picture, or the file cannot be written.
    """
    path = Path(path)
    replace(path, encode(path, rgb, quality))


def encode(path: Path, rgb: Rgb, quality: int = 95) -> bytes:
    """The bytes that `write` puts into the file at `path`; raises as it does."""
    picture = check(rgb)
    suffix = path.suffix.lower()
    options: list[int] = []
    if suffix in (".jpg", ".jpeg"):
        sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        options = [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling]
    elif suffix == ".webp":
        options = [cv2.IMWRITE_WEBP_QUALITY, quality]
    elif suffix not in (".png", ".bmp", ".tif", ".tiff"):
        raise ImageError(f"{describe(path)}: cannot write '{suffix}': use .jpg, .png, .webp, .bmp or .tiff")
    encoded, data = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    if not encoded:
        raise ImageError(
            f"{describe(path)}: a {picture.shape[1]} x {picture.shape[0]} picture does not fit this format"
        )
    return data.tobytes()


def replace(path: Path, data: bytes) -> None:
    """Put `data` into the file at `path` in one step: readers see the old file or the new one, never a part.

    Raises:
        ImageError: the folder is missing or cannot be written, or the disk is full.
    """
    try:
        atomic.write({path: data})
    except OSError as problem:
        raise ImageError(f"{describe(path)}: cannot be written: {_reason(problem)}") from None


def describe(source: object) -> str:
    """Name a source on one line: a path in quotes with newlines escaped, or its kind."""
    if isinstance(source, bytes | bytearray | memoryview):
        return f"<{len(source)} bytes>"
    if isinstance(source, str | os.PathLike):
        text = shortened(os.fsdecode(source))
        return text if text.isprintable() and text == text.strip() and text else repr(text)
    if _foreign(source):
        return f"<{_foreign(source)} picture>"
    name = getattr(source, "name", None)
    return describe(name) if isinstance(name, str) else f"<{type(source).__name__}>"


def bytes_of(source: Source) -> bytes:
    """A file's bytes; an open file is read to its end.

    Raises:
        ImageError: missing, unreadable or empty, or of another type.
    """
    name = describe(source)
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
    elif isinstance(source, str | os.PathLike):
        path = os.fsdecode(source)
        if path.startswith("data:") or (len(path) > 255 and path.startswith(_BASE64)):
            raise ImageError(f"{name[:40]}...: is base64 text, not a path: pass base64.b64decode(...) of it")
        data = _bytes_at(Path(path), name)
    elif hasattr(source, "read"):
        try:
            data = source.read()
        except (OSError, ValueError) as problem:  # ValueError: the file is closed
            raise ImageError(f"{name}: cannot be read: {problem}") from None
        if not isinstance(data, bytes):
            raise ImageError(f"{name}: is open as text: open it in binary mode, open(path, 'rb')")
    else:
        raise ImageError(
            f"{name} is not a picture: pass a path, bytes, an open binary file, an array, a Pillow picture or a tensor"
        )
    if not data:
        raise ImageError(f"{name}: is empty (0 bytes): copy or download it again")
    return data


def _bytes_at(path: Path, name: str) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(
                f"{name}: is a folder without a picture in it: name picture files, or the folder that holds them"
            )
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(
                f"{name}: is not a regular file: copy it to one, or pass it as an open binary file"
            )
        if status.st_size > _LARGEST_FILE:
            raise ImageError(
                f"{name}: holds {status.st_size:,} bytes, more than 2 GiB: is it a picture? Scale it down"
            )
        return path.read_bytes()
    except FileNotFoundError:
        if path.is_symlink():
            target = describe(path.readlink())
            raise ImageError(
                f"{name}: is a link to {target}, which does not exist: fix or remove the link"
            ) from None
        raise ImageError(f"{name}: no such file: check the path and the current folder") from None
    except PermissionError:
        raise ImageError(f"{name}: may not be read: grant permission with chmod u+r") from None
    except (OSError, ValueError) as problem:  # ValueError: a null byte in the name
        raise ImageError(f"{name}: cannot be read: {_reason(problem)}") from None


def _reason(problem: Exception) -> str:
    return (getattr(problem, "strerror", None) or str(problem) or type(problem).__name__).lower()


def _bound(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise TooLarge(
            f"{name}: {width:,} x {height:,} pixels is more than the limit of {max_pixels:,}: "
            "scale it down, or raise max_pixels if you trust it"
        )


def _jpeg_frame(data: bytes, name: str) -> tuple[int, int, int, int] | None:
    """(width, height, components, bits) from the JPEG's frame header; None where there is none.

    Segments are parsed as libjpeg parses them, so that both see the same size.

    Raises:
        TooCostly: the file holds more than `MAX_SCANS` scans, or more segments than any encoder writes.
    """
    frame, scans, position = None, 0, 2
    # Each scan begins with these two bytes, so a file with few of them has few scans and need not be parsed to its end.
    many = data.count(b"\xff\xda") > MAX_SCANS
    for _ in range(_JPEG_SEGMENTS):
        match = _JPEG_MARKER.search(data, position)
        if match is None:
            return frame
        position = match.end()
        marker = data[position - 1]
        if marker in (0xD8, 0xD9):  # end of image, or a second start of image, which decoders refuse
            return frame
        if marker == 0x01:  # has no length
            continue
        if marker in _JPEG_FRAMES and frame is None and position + 8 <= len(data):
            height, width = struct.unpack(">HH", data[position + 3 : position + 7])
            frame = width, height, data[position + 7], data[position + 2]
        elif marker == 0xDA:
            scans += 1
            if not many:
                return frame
            if scans > MAX_SCANS:
                raise TooCostly(
                    f"{name}: holds more than {MAX_SCANS} scans, and each would cost a pass over the whole picture: "
                    "save it as an ordinary JPEG"
                )
        position += int.from_bytes(data[position : position + 2], "big")
    raise TooCostly(f"{name}: holds more than {_JPEG_SEGMENTS:,} segments: save it as an ordinary JPEG")


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of the canvas; Pillow allocates it when it opens the file."""
    if len(data) < 30:
        return None
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", data[26:30])
    return width & 0x3FFF, height & 0x3FFF


def _read_jpeg(data: bytes, name: str, max_pixels: int) -> Rgb | None:
    """Decode an ordinary JPEG with OpenCV; None for anything unusual, which Pillow decodes or rejects with a reason."""
    frame = _jpeg_frame(data, name)
    if frame is None:
        return None
    width, height, components, bits = frame
    _bound(width, height, name, max_pixels)
    # Without the end marker the file may be cut off, which OpenCV versions treat differently: Pillow is strict.
    if components not in (1, 3) or bits != 8 or not data.rstrip(b"\x00").endswith(b"\xff\xd9"):
        return None
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)  # applies the EXIF orientation
    except cv2.error:
        return None
    return None if bgr is None else np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr), dtype=np.uint8)


def file_type(data: bytes) -> str | None:
    """Pillow's name of the picture format that a file's first bytes show, "VIDEO" for MP4 and related containers, or
    None."""
    for signature, known in _FORMATS.items():
        if data.startswith(signature):
            return known
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        if brand in _HEIF_BRANDS:
            return "HEIF"
        return "AVIF" if brand in (b"avif", b"avis") else "VIDEO"
    return None


def _picture_type(data: bytes, name: str) -> str:
    kind = file_type(data)
    if kind == "VIDEO":
        raise NotAPicture(f"{name}: is a video, not a picture: use 'mien video'")
    if kind is None:
        start = bytes(data[:12]).splitlines()[:1]
        text = start[0].decode("ascii", "replace") if start else ""
        shown = (
            f" (it begins with the text '{text}')" if text.isascii() and text.isprintable() and text else ""
        )
        raise NotAPicture(f"{name}: is not a picture{shown}: convert it to JPEG or PNG")
    return kind


@contextmanager
def opened(data: bytes, name: str, max_pixels: int | None = None) -> Iterator[PillowImage.Image]:
    """Open a picture's bytes with Pillow; HEIC is decoded here, after its size was checked.

    Whatever Pillow and its plugins raise within the block becomes one error, and their warnings are suppressed.

    Args:
        data: the file.
        name: used in messages.
        max_pixels: refuse a larger picture; None where `read` has accepted it before.

    Raises:
        ImageError: not a picture, damaged, or too large for `max_pixels` or for memory.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = _picture_type(data, name)
        try:
            with _open_pillow(data, name, kind, max_pixels) as picture:
                if max_pixels is not None:
                    _bound(*picture.size, name, max_pixels)
                _bound_metadata(picture, name)
                yield picture
        except MemoryError:
            raise TooLarge(f"{name}: does not fit into memory: scale it down") from None
        except DAMAGE as problem:
            raise _damaged(name, kind, problem) from None


def _bound_metadata(picture: PillowImage.Image, name: str) -> None:
    kinds = ("exif", "icc_profile", "xmp", "XML:com.adobe.xmp")
    size = sum(len(picture.info.get(kind) or b"") for kind in kinds)
    if size > MAX_METADATA:
        raise TooCostly(
            f"{name}: carries {size / 2**20:.1f} MB of EXIF, colour profile and XMP, the limit is "
            f"{MAX_METADATA / 2**20:.0f} MB: save it without"
        )


def _open_pillow(data: bytes, name: str, kind: str, max_pixels: int | None) -> PillowImage.Image:
    from PIL import Image

    if kind == "HEIF":
        return _open_heif(data, name, max_pixels)
    size = _webp_size(data) if kind == "WEBP" else None
    if size is not None and max_pixels is not None:
        _bound(*size, name, max_pixels)
    try:
        return Image.open(BytesIO(data), formats=[kind])
    except Image.DecompressionBombError:
        raise TooLarge(
            f"{name}: has more pixels than Pillow ever opens ({2 * (Image.MAX_IMAGE_PIXELS or 0):,}): scale it down"
        ) from None
    except KeyError:
        raise NotAPicture(f"{name}: this Pillow cannot read {kind}: update it, or convert to JPEG") from None


def _open_heif(data: bytes, name: str, max_pixels: int | None) -> PillowImage.Image:
    try:
        import pillow_heif
    except ModuleNotFoundError:
        raise NotAPicture(
            f"{name}: HEIC needs 'pillow-heif': install it with  pip install 'mien[heic]'"
        ) from None
    heif = pillow_heif.open_heif(BytesIO(data), convert_hdr_to_8bit=True)  # reads the header only
    if max_pixels is not None:
        width, height = heif.size
        _bound(width, height, name, max_pixels)
    picture: PillowImage.Image = heif.to_pillow()
    return picture


# What Pillow and its plugins raise on damaged data: SyntaxError for a broken header, RuntimeError from the AVIF and
# HEIF decoders, the others from its format readers.
DAMAGE: Final = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    EOFError,
    ArithmeticError,
    RuntimeError,
    struct.error,
)


def _damaged(name: str, kind: str, problem: Exception) -> ImageError:
    reason = " ".join(str(problem).split())
    if "cannot identify image file" in reason or not reason:
        reason = "its header is invalid"
    return ImageError(f"{name}: damaged {kind} file ({reason}): copy, download or convert it again")


def _read_pillow(data: bytes, name: str, max_pixels: int) -> Rgb:
    from PIL import ImageOps

    if has_wide_bands(data):
        return _read_wide_bands(data, name, max_pixels)
    with opened(data, name, max_pixels) as picture:
        picture.load()
        return _to_rgb(ImageOps.exif_transpose(picture), name)


def _tiff_tags(data: bytes) -> dict[int, Any]:
    """The tags of a TIFF's first picture; none for BigTIFF, other formats, and damaged files."""
    if data[:4] not in (b"II*\x00", b"MM\x00*"):
        return {}
    from PIL import TiffImagePlugin

    tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
    stream = BytesIO(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            stream.seek(tags.next)
            tags.load(stream)
            return {
                number: tags[number] for number in (_WIDTH, _HEIGHT, _BITS, _BANDS, _KIND) if number in tags
            }
        except DAMAGE:
            return {}


_WIDTH, _HEIGHT, _BITS, _BANDS, _KIND = 256, 257, 258, 277, 339
_FLOATS = 3
"""TIFF's code for floating-point values (SampleFormat)."""


def has_wide_bands(data: bytes) -> bool:
    """Whether it is a TIFF of several bands with more than 16 bits each, which Pillow does not read."""
    tags = _tiff_tags(data)
    bits = tags.get(_BITS, 1)
    return int(tags.get(_BANDS, 1)) > 1 and max(bits if isinstance(bits, tuple) else (bits,)) > 16


def _read_wide_bands(data: bytes, name: str, max_pixels: int) -> Rgb:
    """A TIFF with bands of floats in 0..1; other ranges and integers are refused, as their white level is unknown."""
    tags = _tiff_tags(data)
    kind, bits = tags.get(_KIND, 1), tags[_BITS]
    kind, bits = (value[0] if isinstance(value, tuple) else value for value in (kind, bits))
    _bound(int(tags.get(_WIDTH, 0)), int(tags.get(_HEIGHT, 0)), name, max_pixels)
    if kind == _FLOATS:
        try:
            values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:
            values = None
        if values is not None and values.dtype.kind == "f" and values.ndim == 3:
            order = [2, 1, 0, 3][: values.shape[2]]
            return check(_unit_floats(values[..., order], name))
    what = "floating-point" if kind == _FLOATS else "whole-number"
    raise NotAPicture(f"{name}: a TIFF with bands of {bits}-bit {what} values: save it with 8 or 16 bits")


def _unit_floats(values: NDArray[Any], name: str) -> NDArray[Any]:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # also NaN
        raise ImageError(
            f"{name}: has floating-point values from {low:g} to {high:g}: scale them to 0..1, or to 8 or 16 bits"
        )
    return values


def _to_rgb(picture: PillowImage.Image, name: str) -> Rgb:
    from PIL import Image

    if picture.mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65_535:
            raise ImageError(f"{name}: has 32-bit values beyond 16 bits: scale it to 8 or 16 bits")
        return np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if picture.mode == "F":
        return check(_unit_floats(np.asarray(picture), name))
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        picture = Image.alpha_composite(white, layer)
    return np.array(picture.convert("RGB"))
