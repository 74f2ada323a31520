"""Write a miniature of FERPlus: every branch of every vote rule. Usage: make.py OUT [folders|csv|label.csv]"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from PIL import Image

from mien.data.readers.ferplus import USAGES, VOTE_FILE
from mien.data.synthetic import drawings

# Usage, name, ten votes (N H Su Sa A D F C unknown NF); what the rules make of each is in the test.
ROWS: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("Training", "fer0000000.png", (10, 0, 0, 0, 0, 0, 0, 0, 0, 0)),  # unanimous
    ("Training", "fer0000001.png", (1, 6, 2, 0, 0, 0, 0, 0, 1, 0)),  # single votes fall; 6 of 8
    ("Training", "fer0000002.png", (5, 0, 0, 5, 0, 0, 0, 0, 0, 0)),  # tie: no majority, two classes share
    ("Training", "", (0, 0, 0, 0, 0, 0, 0, 0, 0, 10)),  # no name: nobody's picture
    ("Training", "fer0000005.png", (0, 0, 0, 0, 0, 0, 0, 0, 8, 2)),  # unknown wins
    ("Training", "fer0000004.png", (0, 0, 0, 0, 0, 0, 0, 0, 0, 10)),  # not a face wins
    ("Training", "fer0000007.png", (3, 0, 0, 4, 3, 0, 0, 0, 0, 0)),  # 4 of 10: no majority, three share
    ("Training", "fer0000006.png", (2, 2, 2, 2, 2, 0, 0, 0, 0, 0)),  # five equal: more than three
    (
        "Training",
        "fer0000008.png",
        (0, 0, 4, 0, 0, 0, 2, 0, 3, 0),
    ),  # unknown second: taken back; 4 of 9 is too few
    (
        "Training",
        "fer0000009.png",
        (0, 0, 0, 0, 7, 0, 0, 0, 3, 0),
    ),  # unknown second: taken back; 7 of 10 stays
    ("Training", "fer0000010.png", (0, 0, 0, 4, 4, 0, 0, 0, 2, 0)),  # two equal make three quarters: shared
    ("Training", "fer0000011.png", (1, 1, 1, 1, 1, 1, 1, 1, 1, 1)),  # single votes only: nothing is left
    ("Training", "fer0000012.png", (9, 0, 0, 0, 0, 0, 1, 0, 0, 0)),
    ("Training", "fer0000012.png", (9, 0, 0, 0, 0, 0, 1, 0, 0, 0)),  # twice, the same: once
    ("Training", "fer0000013.png", (9, 0, 0, 0, 0, 0, 1, 0, 0, 0)),
    ("Training", "fer0000013.png", (0, 0, 0, 9, 0, 0, 1, 0, 0, 0)),  # twice, disputed: out
    ("PublicTest", "fer0028638.png", (0, 0, 9, 0, 0, 0, 1, 0, 0, 0)),
    ("PublicTest", "fer0028639.png", (0, 0, 0, 0, 0, 6, 0, 4, 0, 0)),
    ("PrivateTest", "fer0032220.png", (0, 0, 0, 0, 0, 0, 8, 0, 0, 2)),
    ("PrivateTest", "fer0032219.png", (0, 0, 0, 0, 0, 0, 2, 7, 1, 0)),
)
OLDER = {"fer0000002.png": (6, 0, 0, 4, 0, 0, 0, 0, 0, 0)}
"""Votes that differ in the folders' older label.csv."""


def make(root: Path, variant: str = "folders") -> None:
    """Write the miniature in the layout of that variant."""
    root.mkdir(parents=True, exist_ok=True)
    faces = drawings.faces(len(ROWS), seed=2, size=48, colour=False)
    if variant in ("folders", "csv"):
        with (root / "fer2013new.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(VOTE_FILE)
            table.writerows([usage, name, *votes] for usage, name, votes in ROWS)
    if variant == "csv":
        with (root / "fer2013.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["emotion", "pixels", "Usage"])
            for (usage, _, _), face in zip(ROWS, faces, strict=True):
                table.writerow([0, " ".join(map(str, face.pixels[..., 0].ravel())), usage])
        return
    for usage, folder in USAGES.items():
        (root / folder).mkdir(exist_ok=True)
        with (root / folder / "label.csv").open("w", newline="") as file:
            table = csv.writer(file)
            for (row_usage, name, votes), face in zip(ROWS, faces, strict=True):
                if row_usage == usage and name:
                    Image.fromarray(face.pixels[..., 0]).save(root / folder / name)
                    table.writerow([name, "(0, 0, 48, 48)", *OLDER.get(name, votes)])


if __name__ == "__main__":
    make(Path(sys.argv[1]), *sys.argv[2:3])
