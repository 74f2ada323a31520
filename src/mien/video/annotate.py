"""Draw results on video frames.

Each face gets a box in its label's colour, its person's number with the smoothed label and probability, and a dial of
smoothed valence (horizontal) and arousal (vertical). Drawing takes about 2 ms per frame; `mien.faces.annotate` takes
twenty times as long.

`mien.io.video.VideoWriter` keeps the frames' times, sound and colour tags.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.colours import colour as colour_of
from mien.io.lettering import font, shown
from mien.types import Frame, TrackedFace

_INK: Final = (18, 20, 24)
_PAPER: Final = (255, 255, 255)


def draw(rgb: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
    """A copy of RGB uint8 [height, width, 3] with the faces of a frame marked."""
    picture = rgb.copy()
    height, width = picture.shape[:2]
    text = int(np.clip(np.sqrt(width * height) / 34, 10, 40))
    line = max(1, round(text / 8))
    for face in reversed(frame.faces):  # the largest face last, on top
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
    """Text on the label's colour, RGB; cached, as a video shows the same few texts again and again."""
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
    """Paste a patch into the picture, shifted to lie inside it; a patch larger than the picture is cropped."""
    height, width = picture.shape[:2]
    left = max(0, min(left, width - patch.shape[1]))
    top = max(0, min(top, height - patch.shape[0]))
    patch = patch[: height - top, : width - left]
    picture[top : top + patch.shape[0], left : left + patch.shape[1]] = patch


def _dial(picture: NDArray[np.uint8], face: TrackedFace, left: int, top: int, radius: int, line: int) -> None:
    """A dial of valence (horizontal) and arousal (vertical) beside the face, if they are known and there is room for
    it."""
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
