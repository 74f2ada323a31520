"""Write a miniature of AffectNet from drawn faces. Usage: make.py OUT [lists|headerless|arrays]"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from mien.data.label_codes import AFFECTNET
from mien.data.readers.affectnet import COLUMNS
from mien.data.synthetic import drawings
from mien.labels import EXPRESSIONS

TRAIN, VALID = 24, 16


def make(root: Path, variant: str = "lists") -> None:
    """Write 24 training and 16 validation faces, and one each of code 8, 9 and 10 with the sentinel -2 in training."""
    faces = drawings.faces(TRAIN + VALID, seed=5, size=64)
    labels = [(AFFECTNET.code_of(EXPRESSIONS[f.expression]), f.valence, f.arousal) for f in faces]
    rows = [("train", *item) for item in zip(faces[:TRAIN], labels[:TRAIN], strict=True)]
    rows += [("train", faces[code - 8], (code, -2.0, -2.0)) for code in (8, 9, 10)]
    rows += [("valid", *item) for item in zip(faces[TRAIN:], labels[TRAIN:], strict=True)]
    if variant == "arrays":
        counts = {"train": 0, "valid": 0}
        for split, face, (code, valence, arousal) in rows:
            if code > 7:
                continue  # the reduced distribution holds the eight classes only
            number, base = counts[split], root / ("train_set" if split == "train" else "val_set")
            counts[split] += 1
            (base / "images").mkdir(parents=True, exist_ok=True)
            (base / "annotations").mkdir(exist_ok=True)
            Image.fromarray(face.pixels).resize((224, 224)).save(base / "images" / f"{number}.jpg")
            np.save(base / "annotations" / f"{number}_exp.npy", np.array(str(code)))
            np.save(base / "annotations" / f"{number}_val.npy", np.array(f"{valence:.6f}"))
            np.save(base / "annotations" / f"{number}_aro.npy", np.array(f"{arousal:.6f}"))
            np.save(base / "annotations" / f"{number}_lnd.npy", face.landmarks[:68].ravel())
        return
    lists = root / "Manually_Annotated_file_lists"
    lists.mkdir(parents=True)
    for split, name in (("train", "training.csv"), ("valid", "validation.csv")):
        with (lists / name).open("w", newline="") as file:
            table = csv.writer(file)
            if not (variant == "headerless" and split == "valid"):
                table.writerow(COLUMNS)
            for number, (row_split, face, (code, valence, arousal)) in enumerate(rows):
                if row_split != split:
                    continue
                path = f"{number % 3 + 1}/{number:040x}.jpg"
                picture = root / "Manually_Annotated" / "Manually_Annotated_Images" / path
                picture.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(face.pixels).save(picture)
                points = ";".join(f"{value:.2f}" for value in face.landmarks[:68].ravel())
                table.writerow([path, 4, 2, 56, 60, points, code, valence, arousal])


if __name__ == "__main__":
    make(Path(sys.argv[1]), *sys.argv[2:3])
