"""Write a miniature of RAF-DB (basic) from drawn faces. Usage: make.py OUT [official|nested|numbers|tables|lists]"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from mien.data.label_codes import RAFDB
from mien.data.synthetic import drawings
from mien.labels import BASIC, EXPRESSIONS
from mien.landmarks import LEFT_IRIS, LEFT_MOUTH_CORNER, NOSE_TIP, RIGHT_IRIS, RIGHT_MOUTH_CORNER

TRAIN, TEST = 21, 14
FIVE = (RIGHT_IRIS, LEFT_IRIS, NOSE_TIP, RIGHT_MOUTH_CORNER, LEFT_MOUTH_CORNER)


def make(root: Path, variant: str = "official") -> None:
    """Write 21 training and 14 test faces in the layout of that variant."""
    faces = drawings.faces(TRAIN + TEST, seed=4, size=100, classes=BASIC)
    names = [f"train_{number + 1:05d}" for number in range(TRAIN)] + [
        f"test_{n + 1:04d}" for n in range(TEST)
    ]
    codes = [RAFDB.code_of(EXPRESSIONS[face.expression]) for face in faces]
    pairs = list(zip(names, codes, faces, strict=True))
    root.mkdir(parents=True, exist_ok=True)
    if variant in ("official", "nested"):
        (root / "EmoLabel").mkdir()
        lines = [f"{name}.jpg {code}" for name, code, _ in pairs]
        (root / "EmoLabel" / "list_patition_label.txt").write_text("\n".join(lines) + "\n")
        aligned = root / "Image" / "aligned" / ("aligned" if variant == "nested" else "")
        for folder in (
            aligned,
            root / "Image" / "original",
            *(root / "Annotation" / n for n in ("manual", "boundingbox")),
        ):
            folder.mkdir(parents=True)
        for number, (name, _, face) in enumerate(pairs):
            save(face, aligned / f"{name}_aligned.jpg")
            save(
                drawings.draw(face.expression, face.intensity, face.subject, 160),
                root / "Image" / "original" / f"{name}.jpg",
            )
            points = [f"{x:.3f}\t{y:.3f}" for x, y in face.landmarks[list(FIVE)]]
            text = "\n".join([*points, str(number % 3), str(number % 3), str(number % 5)])
            (root / "Annotation" / "manual" / f"{name}_manu_attri.txt").write_text(text + "\n")
            left, top = np.floor(face.landmarks.min(0))
            right, bottom = np.ceil(face.landmarks.max(0))
            box = root / "Annotation" / "boundingbox" / f"{name}_boundingbox.txt"
            box.write_text(f"{left} {top} {right} {bottom} \n")
        return
    if variant == "lists":
        for split in ("train", "test"):
            lines = [f"{name}.jpg {code}" for name, code, _ in pairs if name.startswith(split)]
            (root / f"{split}_label.txt").write_text("\n".join(lines) + "\n")
        for name, _, face in pairs:
            folder = root / "Image" / "aligned"
            folder.mkdir(parents=True, exist_ok=True)
            save(face, folder / f"{name}_aligned.jpg")
        return
    base = root / "DATASET" if variant == "tables" else root
    for name, code, face in pairs:
        folder = base / name.split("_")[0] / str(code)
        folder.mkdir(parents=True, exist_ok=True)
        save(face, folder / f"{name}_aligned.jpg")
    if variant == "tables":
        for split in ("train", "test"):
            with (root / f"{split}_labels.csv").open("w", newline="") as file:
                table = csv.writer(file)
                table.writerow(["image", "label"])
                table.writerows(
                    [f"{name}_aligned.jpg", code] for name, code, _ in pairs if name.startswith(split)
                )


def save(face: drawings.Drawn, path: Path) -> None:
    """Write a face as JPEG."""
    Image.fromarray(face.pixels).save(path, quality=92)


if __name__ == "__main__":
    make(Path(sys.argv[1]), *sys.argv[2:3])
