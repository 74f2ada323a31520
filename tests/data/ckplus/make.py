"""Write a miniature of CK+ from drawn faces. Usage: make.py OUT [sequences|nested|ck48]"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from mien.data.label_codes import CKPLUS
from mien.data.synthetic import drawings
from mien.labels import EXPRESSIONS

SUBJECTS, FRAMES = 12, 6
CLASSES = tuple(name for name in EXPRESSIONS if name != "neutral")
CK48 = {"happiness": "happy"}
UNITS = ([(6, 0), (12, 5), (25, 3)], [(1, 2), (4, 1)], [(12, 2)])
"""Units and their intensities at the peak."""


def make(root: Path, variant: str = "sequences") -> None:
    """Write two sequences each of 12 subjects from neutral to peak; the second of subject S000 has no label."""
    inner = "extended-cohn-kanade-images/cohn-kanade-images" if variant == "nested" else "cohn-kanade-images"
    for person in range(SUBJECTS):
        for sequence in (1, 2):
            name = CLASSES[(person + 3 * sequence) % len(CLASSES)]
            clip = f"S{person * 7:03d}/{sequence:03d}"
            stem = clip.replace("/", "_")
            for frame in range(1, FRAMES + 1):
                face = drawings.draw(name, (frame - 1) / (FRAMES - 1), subject=person, size=48, colour=False)
                if variant == "ck48":
                    folder = root / CK48.get(name, name)
                    if frame <= FRAMES - 3:
                        continue
                else:
                    folder = root / inner / clip
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(face.pixels[..., 0]).save(folder / f"{stem}_{frame:08d}.png")
            if variant == "ck48":
                continue
            labels = root / "Emotion" / clip
            labels.mkdir(parents=True, exist_ok=True)
            if (person, sequence) != (0, 2):
                code = CKPLUS.code_of(name)
                (labels / f"{stem}_{FRAMES:08d}_emotion.txt").write_text(f"   {float(code):.7e}\n")
            units = root / "FACS" / clip
            units.mkdir(parents=True, exist_ok=True)
            lines = [
                f"   {unit:.7e}   {level:.7e}\n" for unit, level in UNITS[(person + sequence) % len(UNITS)]
            ]
            (units / f"{stem}_{FRAMES:08d}_facs.txt").write_text("".join(lines))
    if variant != "ck48":
        (root / inner / "S000" / "001" / ".DS_Store").write_bytes(b"\0")


if __name__ == "__main__":
    make(Path(sys.argv[1]), *sys.argv[2:3])
