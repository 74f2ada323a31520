"""Write a miniature of DISFA from drawn faces. Usage: make.py OUT"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

from mien.data.synthetic import drawings

PEOPLE, FRAMES = 3, 10
UNITS = (1, 12, 25)


def level(unit: int, person: int, frame: int) -> int:
    """The intensity of a unit in a frame, from 1."""
    return (frame + unit + person) % 6


def make(root: Path) -> None:
    """Write ten frames of three people by both cameras, with three units."""
    for place, side, end in (("Videos_LeftCamera", "Left", "comp"), ("Videos_RightCamera", "Right", "Comp")):
        (root / place).mkdir(parents=True)
        for person in range(PEOPLE):
            path = root / place / f"{side}VideoSN{person + 1:03d}_{end}.avi"
            video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (64, 64))
            for frame in range(FRAMES):
                face = drawings.draw("happiness", frame / FRAMES, subject=person, size=64)
                video.write(face.pixels[..., ::-1])
            video.release()
    for person in range(PEOPLE):
        folder = root / "ActionUnit_Labels" / f"SN{person + 1:03d}"
        folder.mkdir(parents=True)
        for unit in UNITS:
            lines = [f"{frame},{level(unit, person, frame)}\n" for frame in range(1, FRAMES + 1)]
            (folder / f"{folder.name}_au{unit}.txt").write_text("".join(lines))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
