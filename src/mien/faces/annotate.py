"""Draw an analysis on its picture.

Every face gets a rounded frame in its expression's colour, a label with the probability and, if there are several
faces, its number; faces that are large enough also get bars for the three most probable expressions and a small dial of
apparent valence (across) and arousal (up) and, if asked for, a strip of bars for the largest facial actions. Everything
scales with the picture and stays inside it. Panels are placed where they cover no face, and left out where there is no
such place, so a group photo shows only frames and labels. The font is Pillow's own, so no font file is needed (see
`mien.io.lettering` for names that it cannot write); edges are smoothed by drawing small parts at twice their size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.actions import GAZE, SIDES
from mien.colours import colour as colour_of
from mien.io.images import check
from mien.io.lettering import font, shown
from mien.landmarks import LEFT_IRIS, RIGHT_IRIS
from mien.types import Analysis, Face

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

Rectangle = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels of the picture."""

_INK: Final = (18, 20, 24)
_PAPER: Final = (255, 255, 255)
# Pillow overwrites pixels, including their alpha, so the tones on a card are mixed beforehand.
_SHADE: Final = (18, 20, 24, 215)
_TRACK: Final = (84, 86, 90, 230)
_PALE: Final = (205, 207, 210)
_LINE: Final = (142, 144, 147, 240)
_MOVED: Final = (86, 180, 233)
_BARS: Final = 3
_CROWD: Final = 8
"""With more faces than this, only frames and labels are drawn: panels on a few of many faces would look like a
mistake."""

_FINE: Final = 800
"""Drawings up to this side, in pixels, are made at twice their size; on larger ones jagged edges are not visible."""

_SMALLEST: Final = 9.0
"""Smallest font size, pixels."""


Show = Literal["frames", "labels", "actions"]
"""What is drawn: frames with a label each; also bars of expressions and affect; or also the largest actions."""

_ROWS: Final = 6
"""Actions of a strip, at most."""

_LEAST: Final = 0.1
"""Smaller actions are left out of it: at rest a face has many of them."""


_REACH: Final = 1.6
"""Length of a ray of gaze across the picture, in distances of the eyes."""


def draw(image: NDArray[np.uint8], analysis: Analysis, show: Show = "labels") -> NDArray[np.uint8]:
    """Draw an analysis on its picture.

    Args:
        image: the picture that was analysed, RGB uint8 [height, width, 3]; it is not changed.
        analysis: its faces; a picture without faces is returned unchanged.
        show: "frames" draws no panels; "actions" also draws where the eyes look, and a strip of the largest actions
            beside each face with room for it.

    Returns:
        A new picture of the same shape.

    Raises:
        ImageError: the array is not a picture.
    """
    picture = check(image).copy()
    if not analysis.faces:
        return picture
    height, width = picture.shape[:2]
    faces = sorted(analysis.faces, key=lambda face: face.box.area)
    usual = _lettering(faces, width, height)
    taken: list[Rectangle] = [face.box.corners for face in faces]
    for face in faces:
        _frame(picture, face, _line_width(face, width, height))
        if show == "actions":
            _rays(picture, face, _line_width(face, width, height))
    # Numbered as in every table, and only if there are several faces.
    numbers = {id(face): f"{number} " for number, face in enumerate(analysis.faces)} if len(faces) > 1 else {}
    texts = {id(face): max(_SMALLEST, min(usual, face.box.height / 3)) for face in faces}
    # The largest face is placed first, and all labels before any panel.
    for face in reversed(faces):
        label = _label(face, texts[id(face)], width, height, numbers.get(id(face), ""))
        spots = _around(face, label.size, texts[id(face)])
        spot = _place(label.size, spots, taken, (width, height), face.box.corners)
        _stamp(picture, label, spot)
        taken.append(_extent(spot, label.size))
    if show == "frames" or len(faces) > _CROWD:
        return picture
    large = [face for face in reversed(faces) if face.box.height >= 5 * texts[id(face)]]
    cards = [(face, _panel(face, texts[id(face)])) for face in large]
    # After every panel, so that the actions of one face do not take the place of another's labels.
    moved = [(face, _largest(face)) for face in large] if show == "actions" else []
    cards += [(face, _strip(actions, texts[id(face)])) for face, actions in moved if actions]
    for face, card in cards:
        room = _free(card.size, face, texts[id(face)], taken, (width, height))
        if room is not None:
            _stamp(picture, card, room)
            taken.append(_extent(room, card.size))
    return picture


@dataclass(frozen=True)
class _Stamp:
    """Something drawn: RGBA uint8 [height, width, 4]."""

    pixels: NDArray[np.uint8]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.pixels.shape[1], self.pixels.shape[0]


def _lettering(faces: Sequence[Face], width: int, height: int) -> float:
    """Font size for the whole picture: from its size, smaller if the typical face is small."""
    whole = math.sqrt(width * height) / 34
    typical = sorted(face.box.height for face in faces)[len(faces) // 2]
    return max(_SMALLEST, min(whole, max(typical / 5.5, whole * 0.5)))


def _line_width(face: Face, width: int, height: int) -> float:
    return max(1.5, min(math.sqrt(width * height) / 300, face.box.height / 24))


def _colour(face: Face, label: str = "") -> tuple[int, int, int]:
    """The colour of `label`, by default of the face's most probable label."""
    text = colour_of(label or face.expression, face.probabilities).lstrip("#")
    return int(text[0:2], 16), int(text[2:4], 16), int(text[4:6], 16)


def _filling(face: Face, label: str) -> tuple[int, int, int]:
    """The colour of a bar: not the palette's grey for neutral, which is the colour of an empty bar."""
    colour = _colour(face, label)
    return _PALE if max(colour) - min(colour) < 8 else colour


def _on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Dark or light text colour, whichever contrasts more with this background (WCAG 2 relative luminance)."""

    def luminance(rgb: Sequence[int]) -> float:
        linear = [(c / 255 / 12.92) if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    background = luminance(colour)
    on_ink = (background + 0.05) / (luminance(_INK) + 0.05)
    on_paper = 1.05 / (background + 0.05)
    return _INK if on_ink >= on_paper else _PAPER


class _Canvas:
    """A transparent drawing of a given size in pixels; a small one is made at twice that size and scaled down."""

    def __init__(self, width: float, height: float) -> None:
        from PIL import Image, ImageDraw

        self.width, self.height = math.ceil(width), math.ceil(height)
        self._scale = 2 if max(self.width, self.height) <= _FINE else 1
        self._image: Image.Image = Image.new(
            "RGBA", (self.width * self._scale, self.height * self._scale), (0, 0, 0, 0)
        )
        self._draw: ImageDraw.ImageDraw = ImageDraw.Draw(self._image)

    def box(
        self, corners: Rectangle, radius: float, fill: Any = None, outline: Any = None, line: float = 0
    ) -> None:
        k = self._scale
        left, top, right, bottom = (k * value for value in corners)
        # Pillow's rectangles include their right and bottom edges.
        edges = (left, top, max(left, right - 1), max(top, bottom - 1))
        self._draw.rounded_rectangle(edges, k * radius, fill, outline, round(k * line))

    def disc(
        self, x: float, y: float, radius: float, fill: Any = None, outline: Any = None, line: float = 1
    ) -> None:
        k = self._scale
        edges = (k * (x - radius), k * (y - radius), k * (x + radius), k * (y + radius))
        self._draw.ellipse(edges, fill, outline, max(1, round(k * line)))

    def line(self, start: tuple[float, float], end: tuple[float, float], fill: Any, width: float = 1) -> None:
        k = self._scale
        self._draw.line((k * start[0], k * start[1], k * end[0], k * end[1]), fill, max(1, round(k * width)))

    def text(self, x: float, y: float, words: str, size: float, fill: Any, anchor: str = "lm") -> None:
        k = self._scale
        self._draw.text((k * x, k * y), words, fill, font(round(k * size), words), anchor=anchor)

    def done(self) -> _Stamp:
        from PIL import Image

        if self._scale == 1:
            return _Stamp(np.asarray(self._image))
        # Averaged with colour multiplied by alpha ("RGBa"), or soft edges would darken.
        small = (
            self._image.convert("RGBa")
            .resize((self.width, self.height), Image.Resampling.BOX)
            .convert("RGBA")
        )
        return _Stamp(np.asarray(small))


def _measure(words: str, size: float) -> float:
    """Width in pixels."""
    return float(font(round(2 * size), words).getlength(words)) / 2


def _frame(picture: NDArray[np.uint8], face: Face, line: float) -> None:
    """A rounded frame in the expression's colour with a thin dark rim, so that it shows on any background."""
    rim = max(0.75, line / 3)
    margin = line + 2 * rim
    box = face.box
    canvas = _Canvas(box.width + 2 * margin, box.height + 2 * margin)
    radius = 0.12 * min(box.width, box.height)
    right, bottom = canvas.width, canvas.height
    canvas.box((0, 0, right, bottom), radius + rim, outline=(*_INK, 150), line=line + 2 * rim)
    canvas.box((rim, rim, right - rim, bottom - rim), radius, outline=(*_colour(face), 255), line=line)
    _stamp(picture, canvas.done(), (box.x - margin, box.y - margin))


def _label(face: Face, text: float, width: int, height: int, number: str = "") -> _Stamp:
    """A chip with the face's number, its expression and probability; a question mark where the reading is uncertain."""
    name = number + shown(face.expression, face.probabilities) + ("?" if face.reading.uncertain else "")
    words, share = name, f"{face.probability:.0%}"
    pad = 0.5 * text
    # In a narrow picture the font shrinks first, then the probability is left out.
    for candidate in (text, 0.85 * text, 0.7 * text):
        text = candidate
        extent = _measure(words, text) + _measure(share, text) + 0.4 * text + 2 * pad
        if extent <= width:
            break
    if extent > width:
        share, extent = "", _measure(words, text) + 2 * pad
    if extent > width:
        text *= width / extent
        pad, extent = 0.5 * text, float(width)
    tall = min(1.7 * text, float(height))
    canvas = _Canvas(extent, tall)
    colour = _colour(face)
    canvas.box((0, 0, canvas.width, canvas.height), 0.3 * tall, (*colour, 255))
    ink = _on(colour)
    middle = canvas.height / 2
    canvas.text(pad, middle, words, text, (*ink, 255))
    if share:
        canvas.text(canvas.width - pad, middle, share, text, (*ink, 255), "rm")
    return canvas.done()


def _panel(face: Face, text: float) -> _Stamp:
    """Bars of the most probable labels, and the dial of valence and arousal if there are any, on a dark card."""
    small = max(8.0, 0.74 * text)
    row, pad = 1.5 * small, 0.7 * small
    best = sorted(face.probabilities.items(), key=lambda entry: -entry[1])[:_BARS]
    words = {name: shown(name, face.probabilities) for name, _ in best}
    names = max(_measure(drawn, small) for drawn in words.values())
    bar = 4.2 * small
    rated = face.valence is not None and face.arousal is not None
    tall = (_BARS if rated else len(best)) * row + 2 * pad
    dial = _BARS * row
    canvas = _Canvas(pad + names + 0.5 * small + bar + pad + (dial + pad if rated else 0), tall)
    canvas.box((0, 0, canvas.width, canvas.height), 0.5 * small, _SHADE)
    start = pad + names + 0.5 * small
    for number, (name, probability) in enumerate(best):
        middle = pad + (number + 0.5) * row
        canvas.text(pad, middle, words[name], small, (*_PAPER, 255))
        top, bottom = middle - 0.3 * small, middle + 0.3 * small
        canvas.box((start, top, start + bar, bottom), 0.3 * small, _TRACK)
        length = max(0.6 * small, bar * probability)
        canvas.box((start, top, start + length, bottom), 0.3 * small, (*_filling(face, name), 255))
    if rated:
        _dial(canvas, canvas.width - pad - dial / 2, tall / 2, dial / 2, face)
    return canvas.done()


def _largest(face: Face) -> list[tuple[str, list[float]]]:
    """The largest movements of a face, largest first: the name, and the value of each side, the subject's left first.

    Where it looks is left out: it says little of the expression, and is seldom straight ahead.
    """
    values = {
        name: [value for action in sides if (value := face.actions.get(action)) is not None]
        for name, sides in SIDES.items()
        if not name.startswith(GAZE)
    }
    moved = [(name, sides) for name, sides in values.items() if sides and max(sides) >= _LEAST]
    return sorted(moved, key=lambda entry: -max(entry[1]))[:_ROWS]


def _rays(picture: NDArray[np.uint8], face: Face, width: float) -> None:
    """A line from each iris towards where the eyes look; a dot where they look at the camera."""
    if face.gaze is None:
        return
    yaw, pitch = math.radians(face.gaze.yaw), math.radians(face.gaze.pitch)
    eyes = np.array([face.landmarks.points[iris] for iris in (RIGHT_IRIS, LEFT_IRIS)])
    reach = _REACH * float(np.hypot(*(eyes[1] - eyes[0])))
    ends = eyes + reach * np.array([math.sin(yaw) * math.cos(pitch), -math.sin(pitch)])
    for thick, colour in ((2.4 * width, _INK), (1.2 * width, _MOVED)):
        for start, end in (np.round(16 * np.stack([eyes, ends], axis=1))).astype(int):
            line = max(1, round(thick))
            cv2.line(picture, tuple(start.tolist()), tuple(end.tolist()), colour, line, cv2.LINE_AA, 4)
            cv2.circle(picture, tuple(start.tolist()), round(16 * thick), colour, -1, cv2.LINE_AA, 4)


def _strip(moved: Sequence[tuple[str, list[float]]], text: float) -> _Stamp:
    """Bars of movements from 0 to 1 on a dark card: one for each side, the subject's left above the right."""
    small = max(8.0, 0.74 * text)
    row, pad = 1.35 * small, 0.7 * small
    names = max(_measure(name, small) for name, _ in moved)
    number = _measure("0.00", small)
    bar, start = 4.2 * small, pad + names + 0.5 * small
    canvas = _Canvas(start + bar + 0.4 * small + number + pad, len(moved) * row + 2 * pad)
    canvas.box((0, 0, canvas.width, canvas.height), 0.5 * small, _SHADE)
    for place, (name, sides) in enumerate(moved):
        middle = pad + (place + 0.5) * row
        canvas.text(pad, middle, name, small, (*_PAPER, 255))
        canvas.text(canvas.width - pad, middle, f"{max(sides):.2f}", small, (*_PAPER, 255), "rm")
        tall = 0.7 * small / len(sides)
        for side, value in enumerate(sides):
            top = middle - 0.35 * small + side * tall
            edges = top + 0.04 * small, top + tall - 0.04 * small
            canvas.box((start, edges[0], start + bar, edges[1]), 0.12 * small, _TRACK)
            length = max(0.24 * small, bar * min(1.0, value))
            canvas.box((start, edges[0], start + length, edges[1]), 0.12 * small, (*_MOVED, 255))
    return canvas.done()


def _dial(canvas: _Canvas, x: float, y: float, radius: float, face: Face) -> None:
    """The circumplex: a cross, a circle, and a dot at (valence, arousal); nothing if these are unknown."""
    if face.valence is None or face.arousal is None:
        return
    thin = max(0.5, radius / 24)
    canvas.disc(x, y, radius, outline=_LINE, line=thin)
    canvas.line((x - radius, y), (x + radius, y), _LINE, thin)
    canvas.line((x, y - radius), (x, y + radius), _LINE, thin)
    dot = 0.17 * radius
    # The square of values is mapped into the circle by scaling its length, so that the dot stays inside.
    valence, arousal = face.valence or 0.0, face.arousal or 0.0
    length = max(1.0, math.hypot(valence, arousal))
    reach = radius - dot
    at = (x + valence / length * reach, y - arousal / length * reach)
    canvas.line((x, y), at, (*_PAPER, 255), 1.5 * thin)
    canvas.disc(*at, dot, fill=(*_colour(face), 255), outline=(*_PAPER, 255), line=thin)


def _around(face: Face, size: tuple[int, int], text: float) -> list[tuple[float, float]]:
    """Places for a label, best first: above the frame, below it, inside at the top, to the right, to the left."""
    box, gap = face.box, 0.3 * text
    wide, tall = size
    return [
        (box.x, box.y - tall - gap),
        (box.x, box.bottom + gap),
        (box.right - wide, box.y - tall - gap),
        (box.right - wide, box.bottom + gap),
        (box.right + gap, box.y),
        (box.x - wide - gap, box.y),
    ]


def _place(
    size: tuple[int, int],
    spots: list[tuple[float, float]],
    taken: list[Rectangle],
    whole: tuple[int, int],
    own: Rectangle,
) -> tuple[float, float]:
    """The spot, moved into the picture, that covers the least of what is already placed; earlier ones win ties.

    Covering the label's own face counts half, so that it is preferred to covering a neighbour's.
    """
    moved = [_inside(spot, size, whole) for spot in spots]
    left, top, right, bottom = np.array(taken).T
    weight = np.array([0.5 if other == own else 1.0 for other in taken])

    def cost(spot: tuple[float, float]) -> float:
        x0, y0, x1, y1 = _extent(spot, size)
        wide = np.clip(np.minimum(x1, right) - np.maximum(x0, left), 0, None)
        tall = np.clip(np.minimum(y1, bottom) - np.maximum(y0, top), 0, None)
        return float((wide * tall * weight).sum())

    return min(moved, key=cost)


def _free(
    size: tuple[int, int], face: Face, text: float, taken: list[Rectangle], whole: tuple[int, int]
) -> tuple[float, float] | None:
    """A spot beside or under the face that covers nothing already placed; None if there is none."""
    box, gap = face.box, 0.5 * text
    wide, tall = size
    centre = box.x + box.width / 2 - wide / 2
    spots = [
        (box.right + gap, box.y),
        (box.x - wide - gap, box.y),
        (centre, box.bottom + gap),
        (box.right + gap, box.bottom - tall),
        (box.x - wide - gap, box.bottom - tall),
        (centre, box.bottom + 2.4 * text),
        (centre, box.y - tall - 2.4 * text),
    ]
    for spot in spots:
        moved = _inside(spot, size, whole)
        far = abs(moved[0] - spot[0]) + abs(moved[1] - spot[1])
        if far <= 4 * text and not any(_common(_extent(moved, size), other) > 0 for other in taken):
            return moved
    return None


def _inside(spot: tuple[float, float], size: tuple[int, int], whole: tuple[int, int]) -> tuple[float, float]:
    return (
        float(round(min(max(spot[0], 0), max(0, whole[0] - size[0])))),
        float(round(min(max(spot[1], 0), max(0, whole[1] - size[1])))),
    )


def _extent(spot: tuple[float, float], size: tuple[int, int]) -> Rectangle:
    return spot[0], spot[1], spot[0] + size[0], spot[1] + size[1]


def _common(a: Rectangle, b: Rectangle) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _stamp(picture: NDArray[np.uint8], stamp: _Stamp, spot: tuple[float, float]) -> None:
    """Lay a drawing on the picture with its top left corner at `spot`; what reaches beyond the picture is cut off."""
    height, width = picture.shape[:2]
    left, top = round(spot[0]), round(spot[1])
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + stamp.size[0], width), min(top + stamp.size[1], height)
    if x1 <= x0 or y1 <= y0:
        return
    part = stamp.pixels[y0 - top : y1 - top, x0 - left : x1 - left]
    region = picture[y0:y1, x0:x1]
    drawn = part[..., 3] > 0  # a frame covers few pixels: skips the inside of large faces
    over = part[drawn].astype(np.float32)
    share = over[:, 3:] / 255
    region[drawn] = np.rint(region[drawn] * (1 - share) + over[:, :3] * share).astype(np.uint8)
