"""Sixty pictures: the example photographs in many forms in which pictures come."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image, ImageEnhance, ImageFilter

ORIENTATION = 0x0112
"""EXIF's tag of how the camera was held."""


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _scaled(share: float) -> Callable[[Image.Image], bytes]:
    return lambda picture: _saved(
        picture.resize(
            (round(picture.width * share), round(picture.height * share)), Image.Resampling.LANCZOS
        ),
        "PNG",
    )


def _held(orientation: int) -> Callable[[Image.Image], bytes]:
    """A JPEG that a viewer turns: the pixels lie turned the other way, so the picture is upright again."""
    back = {
        3: Image.Transpose.ROTATE_180,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        8: Image.Transpose.ROTATE_270,
    }

    def save(picture: Image.Image) -> bytes:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        return _saved(picture.transpose(back[orientation]), "JPEG", quality=90, exif=exif)

    return save


def _see_through(picture: Image.Image) -> bytes:
    layer = picture.copy()
    layer.putalpha(Image.linear_gradient("L").resize(picture.size))
    return _saved(layer, "PNG")


FORMS: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg": lambda picture: _saved(picture, "JPEG", quality=92),
    "half": _scaled(0.5),
    "odd size": _scaled(0.37),
    "small": _scaled(0.21),
    "held at 180": _held(3),
    "held and mirrored": _held(5),
    "held at 90": _held(6),
    "held at 270": _held(8),
    "grey": lambda picture: _saved(picture.convert("L"), "JPEG", quality=90),
    "alpha": _see_through,
    "dark and blurred": lambda picture: _saved(
        ImageEnhance.Brightness(picture.filter(ImageFilter.GaussianBlur(1.5))).enhance(0.5), "PNG"
    ),
    "webp": lambda picture: _saved(picture, "WEBP", lossless=True),
}


def pictures(examples: Path) -> Iterator[tuple[str, bytes]]:
    """(name, file) of each picture."""
    for path in sorted(path for path in examples.iterdir() if path.suffix in (".jpg", ".png")):
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        for form, make in FORMS.items():
            yield f"{path.stem}, {form}", make(picture)
