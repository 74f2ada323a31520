"""Show analyses to a person at work in Python: in notebooks as HTML, elsewhere in a picture viewer.

The HTML is one fragment that loads nothing: a small picture is embedded, colours are those of the notebook except for
the bars, numbers stand beside every bar, and the picture has a text description. Its size is bounded: at most `SHOWN`
pictures, and `FACES` faces of each.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from mien.colours import colour
from mien.errors import ConfigError, ImageError, LoadError, shortened
from mien.faces.annotate import draw
from mien.io import images
from mien.types import Analysis, Box, Face
from mien.wording import several, signed

if TYPE_CHECKING:
    from mien.faces.pipeline import Picture

SHOWN: Final = 12
"""Largest number of pictures in one fragment."""

FACES: Final = 6
"""Largest number of faces shown of each."""

BARS: Final = 4
"""Number of labels with a bar, the most probable first."""

SIDE: Final = 320
"""Longer side of the embedded picture, pixels; half of that if there are several."""


def html(analyses: Sequence[Analysis]) -> str:
    """The analyses as a fragment of HTML."""
    side = SIDE if len(analyses) == 1 else SIDE // 2
    parts = [_entry(analysis, side) for analysis in analyses[:SHOWN]]
    if not analyses:
        parts.append("<p>no pictures</p>")
    if len(analyses) > SHOWN:
        parts.append(f"<p>and {several(len(analyses) - SHOWN, 'more picture')}</p>")
    return "".join(parts)


def show(analysis: Analysis, picture: Picture | None = None) -> None:
    """See `Analysis.show`."""
    from PIL import Image, ImageShow

    drawn = Image.fromarray(draw(_picture(analysis, picture), analysis))
    if _in_notebook():
        from IPython.display import display

        display(drawn)  # type: ignore[no-untyped-call]
    elif not ImageShow.show(drawn, title=analysis.source):
        raise LoadError(
            "there is no picture viewer here: use a notebook, or  mien predict PICTURE --annotate FOLDER"
        )


def _in_notebook() -> bool:
    """Whether this runs in a kernel that shows pictures, such as Jupyter's."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


def _picture(analysis: Analysis, picture: Picture | None) -> images.Rgb:
    """The picture of an analysis, as given or from the file that `source` names.

    Raises:
        ConfigError: it is not there, or has another size.
        ImageError: it cannot be read.
    """
    name = images.describe(analysis.source)
    if picture is None:
        if analysis.error is not None or analysis.frame is not None or not Path(analysis.source).is_file():
            raise ConfigError(f"{name}: no file with this picture: pass what was analysed, show(picture)")
        picture = analysis.source
    rgb = images.check(picture) if images.is_pixels(picture) else images.read(picture)
    if rgb.shape[:2] != (analysis.height, analysis.width):
        raise ConfigError(
            f"{name}: this picture has {rgb.shape[1]} x {rgb.shape[0]} pixels, the one that was analysed "
            f"{analysis.width} x {analysis.height}: pass that one"
        )
    return rgb


def _entry(analysis: Analysis, side: int) -> str:
    name = escape(shortened(analysis.source, whole=100))
    if analysis.error is not None:
        return f"<p>{name}: {escape(shortened(analysis.error, whole=400))}</p>"
    at = "" if analysis.frame is None else f", frame {analysis.frame}"
    words = f"{name}{at}, {analysis.width} x {analysis.height} pixels, " + (
        several(len(analysis.faces), "face") if analysis.faces else "no face"
    )
    faces = "".join(
        _face(face, number, len(analysis.faces) > 1) for number, face in enumerate(analysis.faces[:FACES])
    )
    if len(analysis.faces) > FACES:
        faces += f"<p>and {several(len(analysis.faces) - FACES, 'more face')}</p>"
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:1em;align-items:flex-start;margin-bottom:1em">'
        f'<figure style="margin:0">{_thumbnail(analysis, side)}'
        f'<figcaption style="max-width:{SIDE}px;overflow-wrap:anywhere">{words}</figcaption></figure>{faces}</div>'
    )


def _thumbnail(analysis: Analysis, side: int) -> str:
    """The picture with its frames, scaled down; nothing if it cannot be read again."""
    import cv2

    try:
        rgb = _picture(analysis, None)
    except (ConfigError, ImageError):
        return ""
    scale = min(1.0, side / max(rgb.shape[:2]))
    size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    drawn = draw(
        small.astype(np.uint8, copy=False),
        replace(analysis, faces=tuple(_scaled(face, scale) for face in analysis.faces)),
        "frames",
    )
    data = base64.b64encode(images.encode(Path("small.jpg"), drawn, 80)).decode("ascii")
    labels = ", ".join(f"{face.expression} {face.probability:.0%}" for face in analysis.faces[:FACES])
    alt = escape(shortened(f"{Path(analysis.source).name}: {labels or 'no face'}", whole=400))
    return f'<img alt="{alt}" width="{size[0]}" height="{size[1]}" src="data:image/jpeg;base64,{data}">'


def _scaled(face: Face, scale: float) -> Face:
    box = face.box
    smaller = Box(box.x * scale, box.y * scale, box.width * scale, box.height * scale)
    return replace(face, detection=replace(face.detection, box=smaller))


def _face(face: Face, number: int, numbered: bool) -> str:
    """A table of the most probable labels with bars, and affect and quality as a line below."""
    title = f"face {number}: " if numbered else ""
    title += _short(face.expression) + (" (uncertain)" if face.reading.uncertain else "")
    best = sorted(face.probabilities.items(), key=lambda entry: -entry[1])[:BARS]
    rows = "".join(
        f'<tr><th scope="row" style="text-align:left;font-weight:normal">{escape(_short(name))}</th>'
        f'<td style="text-align:right">{share:.0%}</td><td>{_bar(colour(name, face.probabilities), share)}</td></tr>'
        for name, share in best
    )
    facts = [f"quality {face.quality:.2f}"]
    if face.arousal is not None:
        facts.insert(0, f"arousal {signed(face.arousal)}")
    if face.valence is not None:
        facts.insert(0, f"valence {signed(face.valence)}")
    if face.reading.doubts:
        facts.append("; ".join(face.reading.doubts))
    caption = f'<caption style="text-align:left;font-weight:bold">{escape(title)}</caption>'
    below = escape(shortened(", ".join(facts), whole=200))
    return (
        f'<table style="margin:0;color:inherit;font:inherit">{caption}<tbody>{rows}'
        f'<tr><td colspan="3" style="text-align:left">{below}</td></tr></tbody></table>'
    )


def _short(label: str) -> str:
    return label if len(label) <= 40 else label[:39] + "…"


def _bar(fill: str, share: float) -> str:
    return (
        '<div aria-hidden="true" style="width:8em;border:1px solid #888;border-radius:2px">'
        f'<div style="width:{share:.1%};height:.7em;background:{fill}"></div></div>'
    )
