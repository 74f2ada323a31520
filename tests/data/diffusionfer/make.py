"""Write a miniature of DiffusionFER from drawn faces. Usage: make.py OUT [labels.csv|dataset_sheet.csv]"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from PIL import Image

from mien.data.label_codes import AFFECTNET
from mien.data.synthetic import drawings
from mien.labels import BASIC, EXPRESSIONS

WORDS = {"happiness": "happy", "sadness": "sad", "anger": "angry"}


def make(root: Path, variant: str = "labels.csv") -> None:
    """Write 42 faces; the first of each class lies in the folder of another class, as prompts and labels differ."""
    rows = []
    for number, face in enumerate(drawings.faces(42, seed=7, size=64, classes=BASIC)):
        word = EXPRESSIONS[(face.expression + (number < 7)) % 7]
        folder = WORDS.get(word, word)
        ending = "jpg" if variant == "labels.csv" else "png"
        name = f"{folder}/face{number:02d}_0.{ending}"
        path = root / ("images" if variant == "labels.csv" else "cropped") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face.pixels).resize((224, 224)).save(path)
        code = AFFECTNET.code_of(EXPRESSIONS[face.expression])
        valence, arousal = round(face.valence, 1), round(face.arousal, 1)
        if variant == "labels.csv":
            rows.append([name, folder, valence, arousal, code])
        else:
            rows.append([f"DiffusionEmotion_S/cropped/{name}", valence, arousal, code])
    header = ["image", "folder"] if variant == "labels.csv" else ["subDirectory_filePath"]
    with (root / variant).open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*header, "valence", "arousal", "expression"])
        table.writerows(rows)


if __name__ == "__main__":
    make(Path(sys.argv[1]), *sys.argv[2:3])
