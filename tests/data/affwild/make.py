"""Write a miniature of Aff-Wild from drawn faces. Usage: make.py OUT"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

from mien.data import synthetic
from mien.labels import EXPRESSIONS

VIDEOS, FRAMES = 6, 12


def make(root: Path, variant: str = "videos") -> None:
    """Write six training videos of 12 frames, each with 13 valence and 11 arousal labels, and one test video."""
    for split, count in (("train", VIDEOS), ("test", 1)):
        (root / "videos" / split).mkdir(parents=True)
        for number in range(count):
            stem = f"{105 + 7 * number}"
            name = EXPRESSIONS[1 + number % 7]
            faces = [
                synthetic.draw(name, frame / FRAMES, subject=number, size=64) for frame in range(FRAMES + 1)
            ]
            path = root / "videos" / split / f"{stem}.avi"
            video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 64))
            for face in faces[:FRAMES]:
                video.write(face.pixels[..., ::-1])
            video.release()
            if split == "train":
                for kind, length in (("valence", FRAMES + 1), ("arousal", FRAMES - 1)):
                    labels = root / "annotations" / "train" / kind
                    labels.mkdir(parents=True, exist_ok=True)
                    lines = [f"{getattr(face, kind):.4f}" for face in faces[:length]]
                    (labels / f"{stem}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]), *sys.argv[2:3])
