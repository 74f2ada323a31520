"""Write drawn faces in class folders. Usage: make.py OUT [classes|splits]"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from mien.data.synthetic import drawings
from mien.labels import EXPRESSIONS


def make(root: Path, variant: str = "classes") -> None:
    """Write 80 faces, ten of each class; "splits" puts two of each in valid and in test."""
    for number, face in enumerate(drawings.faces(80, seed=8, size=48)):
        turn = number // len(EXPRESSIONS)
        base = root
        if variant == "splits":
            base = root / ("valid" if turn < 2 else "test" if turn < 4 else "train")
        folder = base / EXPRESSIONS[face.expression].capitalize()
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face.pixels).save(folder / f"{number:03d}.png")


if __name__ == "__main__":
    make(Path(sys.argv[1]), *sys.argv[2:3])
