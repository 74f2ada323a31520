"""Write a miniature of AFEW-VA from drawn faces. Usage: make.py OUT [clips|parts]"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image

from mien.data.synthetic import drawings
from mien.labels import EXPRESSIONS

CLIPS, FRAMES, ACTORS = 12, 4, 6


def make(root: Path, variant: str = "clips") -> None:
    """Write 12 clips of four frames by six actors; "parts" keeps them in the archive's part folders."""
    for number in range(1, CLIPS + 1):
        clip = f"{number:03d}"
        folder = root / clip if variant == "clips" else root / f"{(number - 1) // 6 + 1:02d}" / clip
        folder.mkdir(parents=True)
        frames = {}
        for frame in range(FRAMES):
            name = EXPRESSIONS[number % len(EXPRESSIONS)]
            face = drawings.draw(name, (frame + 1) / FRAMES, subject=number % ACTORS, size=64)
            Image.fromarray(face.pixels).save(folder / f"{frame:05d}.png")
            frames[f"{frame:05d}"] = {
                "landmarks": face.landmarks[:68].round(2).tolist(),
                "valence": round(10 * face.valence),
                "arousal": round(10 * face.arousal),
            }
        actor = f"actor{number % ACTORS}"
        (folder / f"{clip}.json").write_text(json.dumps({"video_id": clip, "frames": frames, "actor": actor}))


if __name__ == "__main__":
    make(Path(sys.argv[1]), *sys.argv[2:3])
