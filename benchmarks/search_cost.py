"""What the search for faces costs in large pictures with small faces.

    python benchmarks/search_cost.py [--rounds 5] [--json docs/reports/detection/search_cost.json]

Each picture is grey with one example portrait, scaled so that the face has the stated width in the picture's
own pixels; the search stops at the first size at which the faces found are large enough, so one large face is found
soon, and a small one, or none, costs the whole search. `tiled` searches a second time in overlapping tiles. Times are
of this process's processor time on one thread: the fastest of the rounds.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.faces.detect import MienDetector
from mien.io import images

ROOT = Path(__file__).parent.parent
LONGEST = (512, 1024, 2048, 4096, 8192)
WIDTHS = {"a face of a third": 1 / 3, "a face of a fortieth": 1 / 40, "no face": 0.0}
"""Width of the face over the picture's longest side."""


def picture(longest: int, share: float) -> NDArray[np.uint8]:
    """A picture of 3:2 with a face of this share of its longest side, off its middle."""
    canvas = np.full((longest * 2 // 3, longest, 3), 128, np.uint8)
    if share:
        portrait = images.read(ROOT / "examples" / "portrait_smiling.jpg")
        (found, *_) = MienDetector()(portrait)
        scale = share * longest / found.box.width
        drawn = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        height, width = (min(drawn.shape[axis], canvas.shape[axis]) for axis in (0, 1))
        left = (longest - width) // 3
        canvas[:height, left : left + width] = drawn[:height, :width]
    return canvas


def milliseconds(detector: MienDetector, rgb: NDArray[np.uint8], rounds: int) -> float:
    """Processor time of the fastest search."""
    times = []
    for _ in range(rounds):
        begun = time.process_time()
        detector(rgb)
        times.append(time.process_time() - begun)
    return 1000 * min(times)


def main() -> None:
    """Print the table, and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    detectors = {"default": MienDetector(), "tiled": MienDetector(tiled=True)}
    figures: dict[str, Any] = {}
    for longest in LONGEST:
        megapixels = longest * (longest * 2 // 3) / 1e6
        for what, share in WIDTHS.items():
            rgb = picture(longest, share)
            for name, detector in detectors.items():
                took, faces = milliseconds(detector, rgb, given.rounds), len(detector(rgb))
                figures.setdefault(str(longest), {"megapixels": round(megapixels, 2)}).setdefault(name, {})[
                    what
                ] = {
                    "faces": faces,
                    "milliseconds": round(took, 2),
                    "per_megapixel": round(took / megapixels, 2),
                }
                print(
                    f"{longest} px, {what}, {name}: {faces} found, {took:.1f} ms, {took / megapixels:.1f} a megapixel"
                )
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
