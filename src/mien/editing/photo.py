"""Photos for editing: everything that the file holds, and an 8-bit RGB view for detection.

`mien.io.images.read` reduces pictures to 8-bit RGB on white. The editor must preserve what it does not change: alpha,
16 bits per channel, a grey photo's single channel, the colour profile, and EXIF (orientation applied and removed, the
preview dropped, since it would show the unedited face).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

from mien.errors import ImageError
from mien.io import images

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image as PillowImage

WRITABLE = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
"""Suffixes the editor writes: those that can carry provenance."""
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Photo:
    """An upright picture with everything that its file holds.

    Attributes:
        colour: [h, w, 3] RGB, uint8 or uint16.
        alpha: [h, w] of the same type, or None.
        grey: the file has one colour channel; `colour` repeats it.
        profile: the embedded ICC profile, or None.
        exif: EXIF without orientation and preview, or b"".
        source: its name in messages.
        data: the file's bytes as read; b"" for an array.
    """

    colour: NDArray[Any] = field(repr=False)
    alpha: NDArray[Any] | None = field(default=None, repr=False)
    grey: bool = False
    profile: bytes | None = field(default=None, repr=False)
    exif: bytes = field(default=b"", repr=False)
    source: str = "array"
    data: bytes = field(default=b"", repr=False)

    @property
    def rgb(self) -> images.Rgb:
        """The 8-bit RGB view in which faces are detected."""
        return self.colour if self.colour.dtype == np.uint8 else (self.colour >> 8).astype(np.uint8)

    @property
    def scale(self) -> int:
        """Value of one 8-bit step: 1, or 257 for 16-bit photos."""
        return 1 if self.colour.dtype == np.uint8 else 257

    def with_colour(self, colour: NDArray[Any]) -> Photo:
        """The same photo with other colours; a grey one stays grey (by the luma of the new colours)."""
        if self.grey:
            luma = colour.astype(np.float32) @ images.LUMA
            grey = np.where(
                (colour == colour[..., :1]).all(axis=2), colour[..., 0], np.rint(luma).astype(colour.dtype)
            )
            colour = np.repeat(grey[..., None], 3, axis=2)
        return replace(self, colour=colour)


def open_photo(source: images.Source | images.Pixels, max_pixels: int = images.MAX_PIXELS) -> Photo:
    """Read a photo for editing from a path, bytes, an open file, or pixels as `mien.io.images.check` accepts them.

    Alpha of an 8-bit array or a Pillow picture is kept.

    CMYK and palette pictures become RGB; of an animation the first frame is read.

    Raises:
        ImageError: unreadable, damaged, or too large.
    """
    if images.is_pixels(source):
        return _of_pixels(source, max_pixels)
    from PIL import ImageOps

    name = images.describe(source)
    data = images.bytes_of(source)
    rgb = images.read(_named(data, name), max_pixels=max_pixels)
    if images.has_wide_bands(data):
        return Photo(rgb, source=name, data=data)
    with images.opened(data, name) as file:
        exif, profile, mode = file.getexif(), file.info.get("icc_profile"), file.mode
        alpha = None
        if "A" in file.getbands() or "transparency" in file.info:
            alpha = np.asarray(ImageOps.exif_transpose(file.convert("RGBA")))[..., 3].copy()
            # images.read composites on white; the editor keeps the colours under the alpha.
            rgb = np.ascontiguousarray(np.asarray(ImageOps.exif_transpose(file.convert("RGBA")))[..., :3])
    if mode == "CMYK":
        profile = None  # it describes CMYK inks, not the RGB that is written
    deep = _deep(data, exif.get(_ORIENTATION, 1))
    colour: NDArray[Any] = rgb
    if deep is not None:
        colour, alpha = deep
    exif.pop(_ORIENTATION, None)
    try:
        kept = exif.tobytes() if len(exif) else b""
    except images.DAMAGE:  # metadata that cannot be written again is dropped
        kept = b""
    grey = mode in ("1", "L", "LA", "I", "I;16", "I;16B", "F") or bool(
        deep and (colour == colour[..., :1]).all()
    )
    return Photo(colour, alpha, grey, profile, kept, name, data)


def _of_pixels(source: images.Pixels, max_pixels: int) -> Photo:
    """An array, tensor or Pillow picture; alpha of 8-bit arrays and of Pillow pictures is kept separately."""
    if (
        isinstance(source, np.ndarray)
        and source.ndim == 3
        and source.shape[2] == 4
        and source.dtype == np.uint8
    ):
        return Photo(images.check(source[..., :3]), alpha=source[..., 3].copy())
    grey = getattr(source, "ndim", 3) == 2 or getattr(source, "mode", "") in ("1", "L", "I;16", "F")
    if getattr(source, "mode", "") in ("RGBA", "LA", "PA"):
        from PIL import ImageOps

        picture = cast("PillowImage.Image", source)
        layers = np.asarray(ImageOps.exif_transpose(picture).convert("RGBA"))
        return Photo(images.check(layers[..., :3]), alpha=layers[..., 3].copy(), grey=picture.mode == "LA")
    return Photo(images.check(source, max_pixels), grey=grey)


class _Named(BytesIO):
    """Bytes with their file's name, for messages."""

    name = ""


def _named(data: bytes, name: str) -> BytesIO:
    stream = _Named(data)
    stream.name = name
    return stream


def _deep(data: bytes, orientation: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16] | None] | None:
    """(colour, alpha) of a 16-bit PNG or TIFF, upright; None for anything else."""
    kind = images.file_type(data)
    if not (_is_deep_png(data) if kind == "PNG" else kind == "TIFF"):
        return None
    raw = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if raw is None or raw.dtype != np.uint16:
        return None
    if raw.ndim == 2:
        raw = raw[..., None]
    bands = raw.shape[2]
    alpha = raw[..., -1] if bands in (2, 4) else None
    colour = raw[..., [2, 1, 0]] if bands >= 3 else np.repeat(raw[..., :1], 3, axis=2)
    return _upright(colour, orientation), None if alpha is None else _upright(alpha, orientation)


def _is_deep_png(data: bytes) -> bool:
    """Whether a PNG has 16 bits and all of its chunks; OpenCV allocates the size that a chunk states, up to 4 GB."""
    place = 8  # after the signature
    while place + 12 <= len(data) and data[place + 4 : place + 8] != b"IEND":
        place += 12 + int.from_bytes(data[place : place + 4], "big")
    return place + 12 <= len(data) and data[24] == 16


def _upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply an EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)


def encode(photo: Photo, suffix: str, xmp: bytes = b"", quality: int = 95) -> bytes:
    """The photo as a file's bytes, in the format of `suffix` (one of `WRITABLE`), with an XMP packet.

    JPEG is written without chroma subsampling. It has no alpha and 8 bits: alpha is composited on white, and the high
    byte is kept. 16-bit photos keep their depth in PNG and TIFF, without profile, EXIF and XMP.

    Raises:
        ImageError: the suffix is not in `WRITABLE`, or its format cannot hold the picture.
    """
    from PIL import Image, PngImagePlugin

    suffix = suffix.lower()
    if suffix not in WRITABLE:
        raise ImageError(f"cannot write '{suffix}': give the output one of {', '.join(WRITABLE)}")
    if photo.colour.dtype == np.uint16 and suffix in (".png", ".tif", ".tiff"):
        return _encode_deep(photo, suffix)
    rgb, alpha = photo.rgb, photo.alpha
    if alpha is not None and alpha.dtype == np.uint16:
        alpha = (alpha >> 8).astype(np.uint8)
    if alpha is not None and suffix in (".jpg", ".jpeg"):
        share = alpha[..., None] / 255.0
        rgb, alpha = np.rint(rgb * share + 255 * (1 - share)).astype(np.uint8), None
    planes = [rgb[..., 0]] if photo.grey else [rgb[..., band] for band in range(3)]
    planes += [] if alpha is None else [alpha]
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[len(planes)]
    picture = Image.merge(mode, [Image.fromarray(np.ascontiguousarray(plane)) for plane in planes])
    options: dict[str, Any] = {}
    if photo.profile:
        options["icc_profile"] = photo.profile
    if photo.exif:
        options["exif"] = photo.exif
    stream = BytesIO()
    try:
        if suffix in (".jpg", ".jpeg"):
            options |= {"quality": quality, "subsampling": 0} | ({"xmp": xmp} if xmp else {})
            picture.save(stream, "JPEG", **options)
        elif suffix == ".png":
            if xmp:
                text = PngImagePlugin.PngInfo()
                text.add_itxt("XML:com.adobe.xmp", xmp.decode())
                options["pnginfo"] = text
            picture.save(stream, "PNG", **options)
        elif suffix == ".webp":
            picture.save(stream, "WEBP", quality=quality, **options, **({"xmp": xmp} if xmp else {}))
        else:
            picture.save(stream, "TIFF", **options, **({"tiffinfo": {700: xmp}} if xmp else {}))
    except (
        OSError,
        ValueError,
        struct.error,
    ) as problem:  # too many pixels per side, or more EXIF than the format holds
        raise ImageError(f"{photo.source}: cannot be written as '{suffix}' ({problem}): use .png") from None
    return stream.getvalue()


def _encode_deep(photo: Photo, suffix: str) -> bytes:
    planes = photo.colour[..., :1] if photo.grey else photo.colour[..., ::-1]
    if photo.alpha is not None:
        if photo.grey:
            planes = photo.colour[..., ::-1]
        planes = np.concatenate([planes, photo.alpha[..., None]], axis=2)
    done, data = cv2.imencode(suffix, np.ascontiguousarray(planes))
    if not done:
        raise ImageError(f"{photo.source}: cannot be written as '{suffix}': use .png")
    return bytes(data.tobytes())
