"""Write a miniature of Aff-Wild2 from drawn faces. Usage: make.py OUT [va+expr|va|expr]"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from mien.data.label_codes import AFFWILD2
from mien.data.synthetic import drawings
from mien.labels import EXPRESSIONS

VIDEOS = {
    "Train_Set": ("1-30", "2-30_left", "2-30_right", "3-24", "5-60"),
    "Validation_Set": ("4-30", "6-30_left"),
}
FRAMES = 8
HEADER = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"


def make(root: Path, variant: str = "va+expr") -> None:
    """Write seven videos of eight frames: frame 3 has no picture, frame 4 invalid labels, frame 5 "Other"."""
    for name, videos in VIDEOS.items():
        for number, video in enumerate(videos):
            affect, codes = ["valence,arousal"], [HEADER]
            folder = root / "cropped_aligned" / video
            folder.mkdir(parents=True)
            word = EXPRESSIONS[number % 7]
            for frame in range(1, FRAMES + 1):
                face = drawings.draw(word, frame / FRAMES, subject=number, size=112)
                affect.append("-5,-5" if frame == 4 else f"{face.valence:.4f},{face.arousal:.4f}")
                codes.append("-1" if frame == 4 else "7" if frame == 5 else str(AFFWILD2.code_of(word)))
                if frame != 3:
                    Image.fromarray(face.pixels).save(folder / f"{frame:05d}.jpg")
            for task, challenge, lines in (
                ("va", "VA_Estimation_Challenge", affect),
                ("expr", "EXPR_Classification_Challenge", codes),
            ):
                if task in variant:
                    labels = root / challenge / name
                    labels.mkdir(parents=True, exist_ok=True)
                    (labels / f"{video}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]), *sys.argv[2:3])
