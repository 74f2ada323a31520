"""Fills in the columns of several tools side by side in `docs/coming-from.md`.

    python scripts/column_table.py           # writes what has changed
    python scripts/column_table.py --check   # only says whether it differs, and exits with 1

Which column of the layouts that `mien` writes holds a quantity is found by its value in the row of a made-up face, so
the table cannot disagree with `mien.io.columns`. The names of LibreFace and FaceReader are from their own tables.

Tests: tests/test_docs_columns.py.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import NamedTuple

from mien.io import columns, tables
from mien.labels import EXPRESSIONS
from mien.types import Analysis, Box, Detection, Face, Landmarks, Pose, Reading

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "coming-from.md"
BEGIN, END = "<!-- columns -->", "<!-- end of columns -->"

# No two values here are the same in any unit. Without contempt the seven-class view has the same shares.
SHARES = (0.0511, 0.4013, 0.0617, 0.0719, 0.0823, 0.0929, 0.2388, 0.0)
FACE = Face(
    Detection(Box(11.5, 22.25, 33.125, 44.75), 0.875),
    Landmarks(tuple((1000.0 + point, 2000.0 + point) for point in range(columns.POINTS)), 0.9375),
    Pose(yaw=-13.37, pitch=7.41, roll=3.43),
    Reading(
        dict(zip(EXPRESSIONS, SHARES, strict=True)),
        0.61,
        -0.22,
        0.95,
        False,
        actions={"mouthSmileLeft": 0.8125, "mouthSmileRight": 0.5},
    ),
    0.71875,
)
ANALYSIS = Analysis("clip.mp4", 640, 480, (FACE,), frame=17, time=0.68)
LAYOUTS = ("pyfeat", "openface", "deepface")
SCALES = {1.0: "", 100.0: " (per cent)", 5.0: " (0 to 5)", math.radians(1): " (radians)"}


class Quantity(NamedTuple):
    """A row: what it is, `mien`'s column, the column of LibreFace and of FaceReader, and the value in Python."""

    meaning: str
    column: str
    libreface: str
    facereader: str
    python: str


QUANTITIES = (
    Quantity("picture or video", "input", "", "", "analysis.source"),
    Quantity("number of the frame", "frame", "frame_idx", "", "analysis.frame"),
    Quantity("time, s", "approx_time", "frame_time_in_ms", "Video Time", "analysis.time"),
    Quantity("left edge of the face", "FaceRectX", "", "", "face.box.x"),
    Quantity("top edge", "FaceRectY", "", "", "face.box.y"),
    Quantity("width", "FaceRectWidth", "", "", "face.box.width"),
    Quantity("height", "FaceRectHeight", "", "", "face.box.height"),
    Quantity("the detector's confidence", "FaceScore", "", "", "face.detection.score"),
    Quantity("nodding, degrees", "Pitch", "pitch", "X - Head Orientation", "face.pose.pitch"),
    Quantity("turning, degrees", "Yaw", "yaw", "Y - Head Orientation", "face.pose.yaw"),
    Quantity("tilting, degrees", "Roll", "roll", "Z - Head Orientation", "face.pose.roll"),
    Quantity("expression label", "expression", "facial_expression", "", "face.expression"),
    Quantity("probability of neutral", "neutral", "", "Neutral", 'face.probabilities["neutral"]'),
    Quantity("of happiness", "happiness", "", "Happy", 'face.probabilities["happiness"]'),
    Quantity("of surprise", "surprise", "", "Surprised", 'face.probabilities["surprise"]'),
    Quantity("of sadness", "sadness", "", "Sad", 'face.probabilities["sadness"]'),
    Quantity("of anger", "anger", "", "Angry", 'face.probabilities["anger"]'),
    Quantity("of disgust", "disgust", "", "Disgusted", 'face.probabilities["disgust"]'),
    Quantity("of fear", "fear", "", "Scared", 'face.probabilities["fear"]'),
    Quantity("of contempt", "contempt", "", "Contempt", 'face.probabilities["contempt"]'),
    Quantity("apparent valence", "valence", "", "Valence", "face.valence"),
    Quantity("apparent arousal", "arousal", "", "Arousal", "face.arousal"),
    Quantity("action unit 12", "AU12", "au_12_intensity", "Action Unit 12 - Lip Corner Puller", 'face.units["AU12"]'),
)  # fmt: skip


def named(quantity: Quantity, layout: str) -> str:
    """The column of a layout with this quantity, and its unit where that differs; "" if there is none."""
    row = tables.rows(ANALYSIS, layout)[0]
    own = tables.rows(ANALYSIS)[0][quantity.column]
    if quantity.column == "expression":  # deepface has words of its own
        return "`dominant_emotion`" if layout == "deepface" else "`expression`"
    if quantity.column == "contempt":  # 0 in this row, as other values are
        return "" if layout == "deepface" else "`contempt`"
    if isinstance(own, str):
        return next(f"`{name}`" for name, value in row.items() if value == own)
    numbers = {name: value for name, value in row.items() if isinstance(value, float | int)}
    for scale, unit in SCALES.items():
        for name, value in numbers.items():
            if name != "probability" and math.isclose(value, own * scale, rel_tol=1e-9):
                return f"`{name}`{unit}"
    return ""


def table() -> str:
    """All quantities."""
    rows = [
        f"| | `mien` | {' | '.join(f'`--columns {name}`' for name in LAYOUTS)} | LibreFace | FaceReader | Python |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for quantity in QUANTITIES:
        others = [f"`{name}`" if name else "" for name in (quantity.libreface, quantity.facereader)]
        cells = [
            quantity.meaning,
            f"`{quantity.column}`",
            *(named(quantity, layout) for layout in LAYOUTS),
            *others,
        ]
        rows.append(f"| {' | '.join(cells)} | `{quantity.python}` |")
    return "\n".join(rows)


def filled(text: str) -> str:
    """A page with the table between its marks."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END)[1]}"


def main() -> int:
    """Write the page, or compare it."""
    text = PAGE.read_text(encoding="utf-8")
    new = filled(text)
    if "--check" in sys.argv[1:]:
        return int(new != text)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
