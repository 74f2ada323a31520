"""Write a miniature of SFEW 2.0 from drawn faces. Usage: make.py OUT [aligned|frames]"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from mien.data.synthetic import drawings
from mien.labels import BASIC, EXPRESSIONS

FOLDERS = dict(zip(BASIC, ("Neutral", "Happy", "Surprise", "Sad", "Angry", "Disgust", "Fear"), strict=True))
FILMS = ("Airheads", "TheHangover", "Little_Manhattan")  # one with an underscore, as in the set


def make(root: Path, variant: str = "aligned") -> None:
    """Write 21 training, 14 validation and 7 test frames."""
    faces = drawings.faces(42, seed=6, size=96, classes=BASIC)
    for number, face in enumerate(faces):
        split = "Train" if number < 21 else "Val" if number < 35 else "Test"
        name = f"{FILMS[number // 7 % 3]}_{number:09d}_{number % 50:08d}.png"
        for ending in ("", "_Aligned_Faces") if variant == "aligned" else ("",):
            folder = root / f"{split}{ending}"
            if split != "Test":
                folder = folder / FOLDERS[EXPRESSIONS[face.expression]]
            folder.mkdir(parents=True, exist_ok=True)
            size = (143, 181) if ending else (180, 144)
            Image.fromarray(face.pixels).resize(size).save(folder / name)


if __name__ == "__main__":
    make(Path(sys.argv[1]), *sys.argv[2:3])
