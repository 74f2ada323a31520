"""Write a miniature of BP4D from drawn faces. Usage: make.py OUT"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from mien.data.synthetic import drawings

CLIPS, FRAMES, FIRST = ("F001_T1", "F001_T2", "M003_T1"), 5, 2440
UNITS = (1, 2, 6, 12)


def make(root: Path) -> None:
    """Write five frames each of three clips of two people; units 6 and 12 have intensities, unit 2 is not known in the
    first frame, and the intensity of unit 12 not in the last."""
    coding = root / "AUCoding"
    for number, clip in enumerate(CLIPS):
        person, task = clip.split("_")
        folder = root / "Sequences(2D+3D)" / person / task
        folder.mkdir(parents=True)
        rows = [[0, *UNITS]]
        levels: dict[int, list[tuple[int, int]]] = {6: [], 12: []}
        for frame in range(FIRST, FIRST + FRAMES + 1):  # one picture more than is coded
            face = drawings.draw("happiness", (frame - FIRST) / FRAMES, subject=number, size=64)
            Image.fromarray(face.pixels).save(folder / f"{frame:05d}.jpg")
            if frame == FIRST + FRAMES:
                continue
            smile = (frame + number) % 6
            rows.append([frame, frame % 2, 9 if frame == FIRST else 0, int(smile > 2), int(smile > 0)])
            levels[6].append((frame, max(0, smile - 2)))
            levels[12].append((frame, 9 if frame == FIRST + FRAMES - 1 else smile))
        (coding / "AU_OCC").mkdir(parents=True, exist_ok=True)
        (coding / "AU_OCC" / f"{clip}.csv").write_text(
            "".join(",".join(map(str, row)) + "\n" for row in rows)
        )
        for unit, lines in levels.items():
            folder = coding / "AU_INT" / f"AU{unit:02}"
            folder.mkdir(parents=True, exist_ok=True)
            text = "".join(f"{frame},{value}\n" for frame, value in lines)
            (folder / f"{clip}_AU{unit:02}.csv").write_text(text)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
