"""Label names in drawings: find a font that has their letters, shorten long ones, or draw a number.

Pillow's built-in font has English letters only. Others are searched for in the system's font folders; if none has all
letters of a name, the label is drawn as "#3", its index among the labels.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from PIL import ImageFont

LONGEST: Final = 24
"""Longest name that is drawn, letters; longer ones are cut."""

CANDIDATES: Final = (
    "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf", "NotoSansDevanagari-Regular.ttf", "NotoSansBengali-Regular.ttf",
    "NotoSansThai-Regular.ttf", "NotoSansTamil-Regular.ttf", "NotoEmoji-Regular.ttf", "Symbola.ttf",
    "wqy-microhei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "DroidSansFallback.ttf",
    "msyh.ttc", "msgothic.ttc", "malgun.ttf", "segoeui.ttf", "seguisym.ttf", "seguiemj.ttf", "arial.ttf",
    "PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "Arial Unicode.ttf", "GeezaPro.ttc",
)  # fmt: skip
"""Font files of Linux, Windows and macOS, tried in this order after Pillow's own and DejaVu Sans."""

_NEVER: Final = "\U0010ffff"  # in no font: it is drawn as the font's mark for a missing letter


@lru_cache(maxsize=256)
def font(size: int, words: str = "") -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font of `size` pixels that has the letters of `words`; Pillow's own if no font has them."""
    from PIL import ImageFont

    file = font_file(words)
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size)


@lru_cache(maxsize=1024)
def font_file(words: str) -> str | None:
    """The font file that has all letters of `words`: "" for Pillow's own font, None for none."""
    if words.isascii():
        return ""
    from PIL import ImageFont, features

    # Right-to-left and joining scripts need shaping, which only this library does.
    if any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in words) and not features.check(
        "raqm"
    ):
        return None
    for name in ("", *_dejavu(), *CANDIDATES):
        try:
            candidate: Any = (
                ImageFont.truetype(name, 24, layout_engine=ImageFont.Layout.BASIC)
                if name
                else ImageFont.load_default(24)
            )
        except OSError:
            continue
        if _has(candidate, words):
            return name and str(candidate.path)
    return None


def _dejavu() -> list[str]:
    """Paths of DejaVu Sans: matplotlib's copy, and the system's."""
    there = find_spec("matplotlib")
    own = Path(there.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf" if there and there.origin else None
    return [*([str(own)] if own and own.is_file() else []), "DejaVuSans.ttf"]


def _has(candidate: Any, words: str) -> bool:
    missing = candidate.getmask(_NEVER)
    for letter in set(words):
        if letter.isspace() or unicodedata.category(letter) == "Cf" or letter in "\ufe0e\ufe0f":
            continue
        mask = candidate.getmask(letter)
        if mask.size == missing.size and bytes(mask) == bytes(missing):
            return False
    return True


def shown(name: str, labels: Iterable[str]) -> str:
    """The text drawn for a label: the label, shortened, or "#" and its index in `labels` if no font has its letters."""
    if font_file(name) is None:
        return f"#{list(labels).index(name)}"
    return short(name)


def short(name: str, longest: int = LONGEST) -> str:
    """A name, cut to `longest` characters with an ellipsis."""
    return name if len(name) <= longest else name[: longest - 1].rstrip() + "…"


def cells(text: str) -> int:
    """Width of a text in terminal columns: Chinese, Japanese and Korean letters and emoji take two."""
    seen = [c for c in text if not unicodedata.combining(c) and unicodedata.category(c) != "Cf"]
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in seen)


def numbered(labels: Sequence[str]) -> dict[str, str]:
    """The labels that are drawn as numbers because no font has their letters: number by name."""
    return {name: f"#{place}" for place, name in enumerate(labels) if font_file(name) is None}
