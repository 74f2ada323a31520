"""Write a miniature of FER2013 from drawn faces. Usage: make.py OUT [csv|kaggle|folders]"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from PIL import Image

from mien.data.label_codes import FER2013
from mien.data.synthetic import drawings
from mien.labels import BASIC, EXPRESSIONS

USAGES = ("Training",) * 14 + ("PublicTest",) * 7 + ("PrivateTest",) * 7
WORDS = {"anger": "angry", "happiness": "happy", "sadness": "sad"}


def make(root: Path, variant: str = "csv") -> None:
    """Write 14 training, 7 public and 7 private faces in the layout of that variant."""
    root.mkdir(parents=True, exist_ok=True)
    faces = drawings.faces(len(USAGES), seed=3, size=48, classes=BASIC, colour=False)
    if variant in ("csv", "kaggle"):
        name, columns = ("fer2013.csv", ["emotion", "pixels", "Usage"])
        if variant == "kaggle":
            name, columns = ("icml_face_data.csv", ["emotion", " Usage", " pixels"])
        with (root / name).open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(columns)
            for usage, face in zip(USAGES, faces, strict=True):
                cells = {
                    "emotion": FER2013.code_of(EXPRESSIONS[face.expression]),
                    "pixels": " ".join(map(str, face.pixels[..., 0].ravel())),
                    "Usage": usage,
                }
                table.writerow([cells[column.strip()] for column in columns])
        return
    for number, (usage, face) in enumerate(zip(USAGES, faces, strict=True)):
        word = EXPRESSIONS[face.expression]
        folder = root / ("train" if usage == "Training" else "test") / WORDS.get(word, word)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face.pixels[..., 0]).save(folder / f"{usage}_{10_000_000 + number}.jpg", quality=95)


if __name__ == "__main__":
    make(Path(sys.argv[1]), *sys.argv[2:3])
