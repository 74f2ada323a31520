"""A contact sheet: some pictures of every class in one image, with the class's name and count."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mien.data.readers.base import PICTURES
from mien.data.records import Record
from mien.errors import DatasetDamaged, ImageError
from mien.labels import EXPRESSIONS, UNLABELLED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MARGIN = 8
LABEL = 150
INK, PAPER, GREY = (25, 25, 28), (255, 255, 255), (120, 120, 126)


def rows_of(records: Sequence[Record], labels: tuple[str, ...] = EXPRESSIONS) -> dict[str, list[Record]]:
    """Records by class, in the order of the labels; without any class, by quadrant of the valence/arousal plane."""
    if all(record.expression == UNLABELLED for record in records):
        found: dict[str, list[Record]] = {
            f"{a} {v}": [] for a in ("active", "calm") for v in ("negative", "positive")
        }
        for record in records:
            if record.valence is not None and record.arousal is not None:
                side = "positive" if record.valence >= 0 else "negative"
                found[f"{'active' if record.arousal >= 0 else 'calm'} {side}"].append(record)
    else:
        found = {name: [r for r in records if r.expression == index] for index, name in enumerate(labels)}
        found["unlabelled"] = [record for record in records if record.expression == UNLABELLED]
    return {name: listed for name, listed in found.items() if listed}


def contact_sheet(
    records: Sequence[Record],
    columns: int = 12,
    side: int = 72,
    labels: tuple[str, ...] = EXPRESSIONS,
) -> NDArray[np.uint8]:
    """Draw `columns` pictures of each class, chosen by the hash of their names, as an RGB image.

    A picture or frame that cannot be read is a crossed-out cell.

    Raises:
        DatasetDamaged: no record has an expression, valence and arousal, or a picture.
    """
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    from mien.data.cropping import is_frame
    from mien.io import images
    from mien.io.lettering import font, shown
    from mien.io.video import Frames

    classes = rows_of(
        [one for one in records if one.path.suffix.lower() in PICTURES or is_frame(one)], labels
    )
    if not classes:
        raise DatasetDamaged("a contact sheet needs labelled pictures or frames: these records have none")
    frames = Frames()
    cell = side + MARGIN
    sheet = Image.new("RGB", (LABEL + columns * cell + MARGIN, len(classes) * cell + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, (name, members) in enumerate(classes.items()):
        top = MARGIN + row * cell
        drawn = shown(name, labels) if name in labels else name
        draw.text((MARGIN, top + side // 2 - 20), drawn, INK, font(16, drawn))
        draw.text((MARGIN, top + side // 2 + 2), f"{len(members):,}", GREY, ImageFont.load_default(14))
        chosen = sorted(members, key=lambda record: hashlib.sha256(record.name.encode()).digest())[:columns]
        # In the order of a video's frames, so that each is decoded once.
        if is_frame(chosen[0]):
            chosen.sort(key=lambda record: (record.path, record.frame or 0))
        for column, record in enumerate(chosen):
            left = LABEL + column * cell
            try:
                pixels = (
                    frames.read(record.path, record.frame or 0)
                    if is_frame(record)
                    else images.read(record.path)
                )
                picture = Image.fromarray(pixels)
            except (ImageError, DatasetDamaged):
                draw.rectangle((left, top, left + side - 1, top + side - 1), outline=GREY)
                draw.line((left, top, left + side - 1, top + side - 1), GREY)
                continue
            if record.box is not None:
                picture = picture.crop(record.box)
            scale = side / max(picture.size)
            picture = picture.resize(
                (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            )
            sheet.paste(picture, (left + (side - picture.width) // 2, top + (side - picture.height) // 2))
    return np.asarray(sheet)
