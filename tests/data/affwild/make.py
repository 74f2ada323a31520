"""Write a miniature of Aff-Wild from drawn faces. Usage: make.py OUT"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

from mien.data.synthetic import drawings
from mien.labels import EXPRESSIONS

VIDEOS, FRAMES = 6, 12


BOX = (6, 4, 58, 62)
"""Left, top, right and bottom of the face in every frame."""


def make(root: Path, variant: str = "videos") -> None:
    """Write six training videos of 12 frames, each with 13 valence and 11 arousal labels, and one test video.

    Boxes are numbered from 1, and the fourth frame has none; the variant "uncropped" has no boxes at all.
    """
    for split, count in (("train", VIDEOS), ("test", 1)):
        (root / "videos" / split).mkdir(parents=True)
        for number in range(count):
            stem = f"{105 + 7 * number}"
            name = EXPRESSIONS[1 + number % 7]
            faces = [
                drawings.draw(name, frame / FRAMES, subject=number, size=64) for frame in range(FRAMES + 1)
            ]
            path = root / "videos" / split / f"{stem}.avi"
            video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 64))
            for face in faces[:FRAMES]:
                video.write(face.pixels[..., ::-1])
            video.release()
            if split == "train" and variant != "uncropped":
                boxes = root / "bboxes" / "train" / stem
                boxes.mkdir(parents=True)
                left, top, right, bottom = (f"{edge:.3f}" for edge in BOX)
                corners = "\n".join(
                    (f"{left} {top}", f"{left} {bottom}", f"{right} {bottom}", f"{right} {top}")
                )
                for frame in range(FRAMES):
                    if frame != 3:
                        (boxes / f"{frame + 1}.pts").write_text(
                            f"version: 1\nn_points: 4\n{{\n{corners}\n}}\n"
                        )
            if split == "train":
                for kind, length in (("valence", FRAMES + 1), ("arousal", FRAMES - 1)):
                    labels = root / "annotations" / "train" / kind
                    labels.mkdir(parents=True, exist_ok=True)
                    lines = [f"{getattr(face, kind):.4f}" for face in faces[:length]]
                    (labels / f"{stem}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]), *sys.argv[2:3])
