"""The visible notice in an edited picture: a line of text, or the letters "AI" in a frame with the word "modified".

The icon is our own drawing. It follows what the EU's Code of Practice on marking and labelling (June 2026) asks of an
icon equivalent to its own: the capital letters "AI" of one height as the main element, "modified" beside them, readable
on any background, in the upper right corner.

Tests: tests/editing/test_label.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import cv2
import numpy as np

if TYPE_CHECKING:
    from mien.io.images import Rgb

Label: TypeAlias = Literal["text", "icon"]
_WHITE: Final = (240, 240, 240)
_A: Final = (
    ((0, 10), (3.6, 0), (6.4, 0), (10, 10), (7.6, 10), (6.9, 7.8), (3.1, 7.8), (2.4, 10)),
    ((3.8, 5.8), (6.2, 5.8), (5, 2.2)),
)
"""The letter A and its counter, in tenths of its height, downwards."""
_I: Final = (((11.6, 0), (13.8, 0), (13.8, 10), (11.6, 10)),)
_LETTERS: Final = 13.8
_SUBPIXEL: Final = 6


def visible_label(rgb: Rgb, label: Label = "text", text: str = "edited expression") -> Rgb:
    """The picture with a small visible notice: `text` in its lower right corner, or the icon in its upper right one."""
    return _icon(rgb) if label == "icon" else _text(rgb, text)


def _text(rgb: Rgb, text: str) -> Rgb:
    out = rgb.copy()
    height, width = out.shape[:2]
    size = max(0.35, min(height, width) / 1100)
    (w, h), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    pad = int(6 * size + 2)
    left, top = max(width - w - 3 * pad, 0), max(height - h - base - 3 * pad, 0)
    out[top : height - pad, left : width - pad] //= 3
    place = (left + pad, height - 2 * pad - base // 2)
    cv2.putText(out, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, _WHITE, 1, cv2.LINE_AA)
    return out


def _icon(rgb: Rgb) -> Rgb:
    out = rgb.copy()
    height, width = out.shape[:2]
    unit = max(1.0, min(height, width) / 260)  # a tenth of the letters' height
    thick = max(1, round(unit))
    size = 8 * unit / cv2.getTextSize("M", cv2.FONT_HERSHEY_SIMPLEX, 1, 1)[0][1]
    (written, _), _ = cv2.getTextSize("modified", cv2.FONT_HERSHEY_SIMPLEX, size, thick)
    plate = (3 + _LETTERS + 3) * unit + written + 3 * unit, 16 * unit
    left, top = max(width - plate[0] - 4 * unit, 0.0), 4 * unit
    right, bottom = round(left + plate[0]), round(top + plate[1])
    out[round(top) : bottom, round(left) : right] //= 4
    frame = (round(left), round(top)), (round(left + (_LETTERS + 5) * unit), bottom - 1)
    cv2.rectangle(out, *frame, _WHITE, thick, cv2.LINE_AA)
    outlines = [
        np.rint((np.array(part) * unit + [left + 2.5 * unit, top + 3 * unit]) * 2**_SUBPIXEL).astype(np.int32)
        for part in (*_A, *_I)
    ]
    cv2.fillPoly(out, outlines, _WHITE, cv2.LINE_AA, _SUBPIXEL)  # even-odd: the counter of the A stays dark
    place = (round(left + (_LETTERS + 7) * unit), round(top + 12 * unit))
    cv2.putText(out, "modified", place, cv2.FONT_HERSHEY_SIMPLEX, size, _WHITE, thick, cv2.LINE_AA)
    return out
