"""Error, presence and speed of the shipped landmark network, on faces that training did not see.

    python benchmarks/landmarks.py configs/landmarks.yaml --backgrounds DIR [--people data/london_faces] [--out FILE]

Faces: FERPlus test (48 px), a tenth of muxspace's and DiffusionFER's people, rendered identities. A face's box comes
from its points and is then moved and scaled by up to 8 % and 15 %, as a detector's would be. Error: mean distance to
the teacher's points (of renderings: the exact ones) over that of the outer eye corners, in percent, with a 95 %
bootstrap interval over faces.

With `--people`, also the distance to points that people set: the London Set's neutral faces have 189 each, of which
`MARKED` are at the place of one of ours. Nothing was fitted to them. A constant offset may be a difference of
definition, so the spread around it is stated too.

Speed is processor time on one thread, so that other work on the machine does not count.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from mien.config import read_tree
from mien.faces.detect import MienDetector
from mien.faces.landmarker import MARGIN, SIDE, Landmarker
from mien.io import images
from mien.landmarks import POINTS
from mien.training.landmarks.crops import Draws, read_backgrounds, read_faces
from mien.training.landmarks.teacher import Teacher
from mien.training.landmarks.train import configured, inter_ocular, interval, judge

MARKED = {
    "jaw_10": 129, "right_eye_4": 22, "left_eye_4": 23, "irises_0": 0, "irises_1": 1, "nose_base_1": 64,
    "nose_base_2": 170, "nose_base_3": 180, "nose_base_4": 172, "outer_lips_0": 87, "outer_lips_3": 88,
    "outer_lips_4": 89, "outer_lips_5": 90, "outer_lips_6": 91, "outer_lips_7": 92, "outer_lips_10": 93,
    "outer_lips_12": 108, "outer_lips_13": 107, "outer_lips_15": 106, "outer_lips_18": 104, "inner_lips_2": 94,
    "inner_lips_5": 96, "inner_lips_8": 98, "inner_lips_12": 103, "inner_lips_15": 101,
}  # fmt: skip
"""Our points, and the numbers of the points that people set at the same place."""


def main(
    config: Path,
    backgrounds: Annotated[Path, typer.Option(help="pictures and videos held out from training")],
    people: Annotated[Path | None, typer.Option(help="the London Set's folder, with its points")] = None,
    weights: Path | None = None,
    out: Annotated[Path | None, typer.Option(help="a JSON file for the figures")] = None,
    assign: Annotated[list[str] | None, typer.Option("--set")] = None,
    limit: int = 1000,
) -> None:
    """Measure, print, and write the figures."""
    settings = configured(read_tree(config, assign), str(config))
    cv2.setNumThreads(1)
    sets = read_faces(settings.labels, settings.roots, settings.head is not None)
    train = sets.pop("train")
    draws = Draws(train, read_backgrounds((backgrounds,)), settings.batch, settings.negatives, 9)
    patches = [draws.elsewhere() for _ in range(4000)]
    found: dict[str, Any] = {}
    for looks in (1, 2):
        landmarker = Landmarker.load(weights, threads=1)
        landmarker.looks = looks
        found[f"{looks} looks"] = {
            "sets": judge(landmarker, sets, limit),
            "backgrounds": _on_backgrounds(landmarker, patches),
            "milliseconds": _speed(landmarker),
        }
    if people is not None:
        networks = {"ours": landmarker}
        if settings.teacher is not None:
            networks["teacher"] = _AsLandmarker(Teacher(settings.teacher))  # type: ignore[assignment]
        found["people"] = {name: _against_people(network, people) for name, network in networks.items()}
    text = json.dumps(found, indent=2) + "\n"
    print(text, end="")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text)


class _AsLandmarker:
    """The teacher, called as our network is."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher

    def __call__(self, image: NDArray[Any], boxes: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return (np.array([self._teacher(image, box).points for box in boxes]),)


def _on_backgrounds(landmarker: Landmarker, patches: list[NDArray[Any]]) -> dict[str, Any]:
    """The share of crops without a face that are taken for one."""
    margin = SIDE / 2 / MARGIN  # the box whose square is the whole crop
    whole = np.array([[SIDE / 2 - 0.5 - margin] * 2 + [SIDE / 2 - 0.5 + margin] * 2])
    seen = np.concatenate([landmarker(cv2.cvtColor(one, cv2.COLOR_GRAY2RGB), whole)[1] for one in patches])
    return {"crops": len(seen), "accepted_percent": interval(100.0 * (seen > 0.5))}


def _speed(landmarker: Landmarker) -> dict[str, Any]:
    """Milliseconds of processor time for a face, alone and among eight."""
    picture = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), dtype=np.uint8)
    found = {}
    for count in (1, 8):
        boxes = np.tile([[400, 200, 528, 360]], (count, 1)).astype(np.float32)
        landmarker(picture, boxes)
        times = []
        for _ in range(50):
            begun = time.process_time()
            landmarker(picture, boxes)
            times.append((time.process_time() - begun) / count * 1000)
        found[f"{count} faces"] = {"median": round(float(np.median(times)), 2), "best": round(min(times), 2)}
    return found


def _against_people(landmarker: Landmarker, folder: Path) -> dict[str, Any]:
    """Median distance in percent of the eye distance to the points that people set: of each face's mean over `MARKED`,
    and of the distances from each point's median offset."""
    detector = MienDetector()
    ours = [POINTS.index(name) for name in MARKED]
    offsets = []
    for name, marks in sorted(json.loads((folder / "landmarks189_512px.json").read_text()).items()):
        image = images.read(folder / "neutral" / f"{name}.jpg")
        box = max(detector(image), key=lambda found: found.score).box
        points = landmarker(image, np.array([box.corners]))[0][0]
        theirs = np.array(marks)[list(MARKED.values())]
        offsets.append(100 * (points[ours] - theirs) / inter_ocular(points))
    distance = np.linalg.norm(offsets, axis=2)
    spread = np.linalg.norm(offsets - np.median(offsets, axis=0), axis=2)
    return {
        "faces": len(offsets),
        "points": len(ours),
        "distance_percent": round(float(np.median(distance.mean(axis=1))), 2),
        "spread_percent": round(float(np.median(spread.mean(axis=1))), 2),
    }


if __name__ == "__main__":
    typer.run(main)
