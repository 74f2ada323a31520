"""The figures on the invisible mark in `docs/editing.md`: detection after each change, PSNR, time and false alarms.

    python benchmarks/mark.py PICTURES... [--sizes 256,512,1350] [--number 60]
    python benchmarks/mark.py PICTURES... --false-alarms 100000

PICTURES are files and folders; the .npz files of FERPlus and tar files of pictures count as folders. Each picture is
cut and resized at random from a fixed seed, to the sizes asked for (the side of a square of the same area). Detection
is also written to docs/reports/edit-mark, in the order of `CHANGES`.

False alarms are counted on unmarked crops at 4 alignments each, drawn at random from the 220 that a search has. `find`
accepts the largest score of at most 40 alignments, which the known carriers choose; the score is independent of these.
So the rate of a search is at most 10 times that of 4 alignments. The tail of the largest score of 4 is extrapolated by
an exponential fit to its highest 1 % (peaks over a threshold, Pickands 1975, with shape 0: the tail of a normal
distribution falls faster). Five crops of each picture are cut before, and four of each of these after it is normalised.
"""

from __future__ import annotations

import argparse
import json
import tarfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mien.editing import mark
from mien.editing.photo import Photo
from mien.io.images import Rgb
from mien.training import checkpoint

OUT = Path(__file__).parent.parent / "docs" / "reports" / "edit-mark" / "mark.json"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def recoded(rgb: Rgb, form: str, **options: int) -> Rgb:
    """Written as a file and read again."""
    stream = BytesIO()
    Image.fromarray(rgb).save(stream, form, **options)
    return np.asarray(Image.open(stream).convert("RGB"))


def jpeg(rgb: Rgb, quality: int = 85) -> Rgb:
    """As a JPEG file."""
    return recoded(rgb, "JPEG", quality=quality)


def resized(rgb: Rgb, factor: float) -> Rgb:
    """With sides `factor` times as long."""
    size = round(rgb.shape[1] * factor), round(rgb.shape[0] * factor)
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))


def cropped(rgb: Rgb, left: float = 0, top: float = 0, right: float = 0, bottom: float = 0) -> Rgb:
    """Without these shares of its sides."""
    height, width = rgb.shape[:2]
    rows = slice(round(top * height), height - round(bottom * height))
    return np.ascontiguousarray(rgb[rows, round(left * width) : width - round(right * width)])


def toned(rgb: Rgb, contrast: float, brightness: float) -> Rgb:
    """With other contrast and brightness."""
    return np.clip(np.rint((rgb - 128.0) * contrast + 128 + brightness), 0, 255).astype(np.uint8)


def grey(rgb: Rgb) -> Rgb:
    """Without colour."""
    return np.repeat(np.asarray(Image.fromarray(rgb).convert("L"))[..., None], 3, axis=2)


def screenshot(rgb: Rgb) -> Rgb:
    """Shown at 0.8 of its size with a border, photographed by the system, and sent as JPEG."""
    shown = resized(rgb, 0.8)
    edge = max(round(0.03 * shown.shape[0]), 1)
    framed = cv2.copyMakeBorder(shown, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=(32, 33, 36))
    return jpeg(np.asarray(framed, np.uint8), 80)


def rotated(rgb: Rgb) -> Rgb:
    """Turned by two degrees."""
    return np.asarray(Image.fromarray(rgb).rotate(2, Image.Resampling.BICUBIC))


CHANGES: dict[str, Callable[[Rgb], Rgb]] = {
    "none (PNG)": lambda rgb: recoded(rgb, "PNG"),
    "JPEG 70": lambda rgb: jpeg(rgb, 70),
    "half size": lambda rgb: resized(rgb, 0.5),
    "half size, JPEG 85": lambda rgb: jpeg(resized(rgb, 0.5)),
    "10 % off the left": lambda rgb: cropped(rgb, left=0.1),
    "10 % off the left, JPEG 85": lambda rgb: jpeg(cropped(rgb, left=0.1)),
    "10 % off the top, JPEG 85": lambda rgb: jpeg(cropped(rgb, top=0.1)),
    "10 % off the right, JPEG 85": lambda rgb: jpeg(cropped(rgb, right=0.1)),
    "10 % off the bottom, JPEG 85": lambda rgb: jpeg(cropped(rgb, bottom=0.1)),
    "10 % off each side, JPEG 85": lambda rgb: jpeg(cropped(rgb, 0.1, 0.1, 0.1, 0.1)),
    "10 % off the left, half size, JPEG 85": lambda rgb: jpeg(resized(cropped(rgb, left=0.1), 0.5)),
    "WebP 75": lambda rgb: recoded(rgb, "WEBP", quality=75),
    "JPEG 50": lambda rgb: jpeg(rgb, 50),
    "0.75 of the size, JPEG 85": lambda rgb: jpeg(resized(rgb, 0.75)),
    "1.5 times the size, JPEG 85": lambda rgb: jpeg(resized(rgb, 1.5)),
    "contrast 0.8, brightness +20": lambda rgb: toned(rgb, 0.8, 20),
    "contrast 1.25, brightness -20": lambda rgb: toned(rgb, 1.25, -20),
    "grey": grey,
    "screenshot": screenshot,
    "20 % off each side, JPEG 85": lambda rgb: jpeg(cropped(rgb, 0.2, 0.2, 0.2, 0.2)),
    "a quarter of the size, JPEG 85": lambda rgb: jpeg(resized(rgb, 0.25)),
    "turned by 2 degrees": rotated,
    "mirrored": lambda rgb: np.ascontiguousarray(rgb[:, ::-1]),
}


def pictures(paths: list[Path], random: np.random.Generator) -> Iterator[Rgb]:
    """Pictures from the sources in turn, without end, each from a place drawn at random."""
    sources: list[Callable[[], Rgb]] = []
    for path in paths:
        if path.suffix == ".npz":
            faces = np.load(path)
            stack = next(faces[name] for name in faces.files if faces[name].ndim == 3)
            sources.append(lambda stack=stack: grey_to_rgb(stack[random.integers(len(stack))]))
        elif path.suffix == ".tar":
            archive = tarfile.open(path)  # noqa: SIM115 - read until the process ends
            members = [member for member in archive.getmembers() if member.name.endswith(SUFFIXES)]
            sources.append(
                lambda archive=archive, members=members: read(
                    archive.extractfile(members[random.integers(len(members))])
                )
            )
        else:
            files = (
                [path]
                if path.is_file()
                else sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
            )
            sources.append(lambda files=files: read(files[random.integers(len(files))]))
    while True:
        for source in sources:
            yield source()


def read(file: object) -> Rgb:
    """A picture file as RGB."""
    return np.asarray(Image.open(file).convert("RGB"))


def grey_to_rgb(grey: np.ndarray) -> Rgb:
    """One channel three times."""
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def sized(rgb: Rgb, side: float) -> Rgb:
    """With the area of `side` squared."""
    factor = side / (rgb.shape[0] * rgb.shape[1]) ** 0.5
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=how), np.uint8)


def cut(rgb: Rgb, random: np.random.Generator) -> Rgb:
    """A random part, of at least 0.8 of each side."""
    left, top, right, bottom = random.uniform(0, 0.1, 4)
    return cropped(rgb, left, top, right, bottom)


def detection(paths: list[Path], sizes: list[int], number: int) -> None:
    """Write how often the mark is found after each change, the PSNR and the time, and print it."""
    figures: dict[str, object] = {"commit": checkpoint.commit()}
    for side in sizes:
        source = pictures(paths, np.random.default_rng(side))
        random = np.random.default_rng(side + 1)
        found: dict[str, list[bool]] = {name: [] for name in CHANGES}
        ratios, peaks, adding, finding = [], [], [], []
        for _ in range(number):
            plain = sized(cut(next(source), random), side)
            begun = time.process_time()
            marked = mark.add(Photo(plain), mark.Mark())
            adding.append(time.process_time() - begun)
            if marked is None:
                continue
            change = marked.colour.astype(float) - plain
            ratios.append(10 * np.log10(255**2 / max((change**2).mean(), 1e-9)))
            peaks.append(np.abs(change).max())
            for name, changed in CHANGES.items():
                shown = changed(marked.colour)
                begun = time.process_time()
                found[name].append(mark.find(shown).mark == mark.Mark())
                finding.append(time.process_time() - begun)
        print(
            f"{side} px, {len(ratios)} pictures: PSNR least {min(ratios):.1f}, median {np.median(ratios):.1f} dB; "
            f"largest change {max(peaks):.0f}; adding {np.median(adding):.3f} s, finding {np.median(finding):.3f} s"
        )
        for name, hits in found.items():
            print(f"  {name:40} {np.mean(hits):.3f}", flush=True)
        figures[str(side)] = {
            "pictures": len(ratios),
            "found": [round(float(np.mean(hits)), 3) for hits in found.values()],
            "least PSNR": round(float(min(ratios)), 1),
            "median PSNR": round(float(np.median(ratios)), 1),
            "largest change": int(max(peaks)),
        }
        OUT.parent.mkdir(parents=True, exist_ok=True)
        OUT.write_text(json.dumps(figures | {"changes": list(CHANGES)}, indent=1) + "\n", encoding="utf-8")


def false_alarms(paths: list[Path], number: int) -> None:
    """Print the count of false alarms on unmarked pictures, and the extrapolated rate."""
    random = np.random.default_rng(0)
    source = pictures(paths, random)
    found: list[float] = []
    while len(found) < number:
        picture = next(source)
        for _ in range(5):
            rgb = sized(cut(picture, random), random.choice([64, 128, 200, 256, 384, 512]))
            if random.random() < 0.3:
                rgb = jpeg(rgb, int(random.integers(40, 95)))
            found += mark.score_windows(rgb, int(random.choice(mark.SIDES)), random, 4, 4)
        if len(found) % 5000 == 0:
            print(len(found), f"largest {max(found):.2f}", flush=True)
    scores = np.array(found)
    threshold = np.quantile(scores, 0.99)
    slope = (scores[scores > threshold] - threshold).mean()
    rate = 0.01 * np.exp(-(mark.ACCEPT - threshold) / slope)
    print(
        f"{len(scores)} crops, 4 alignments each: {(scores >= mark.ACCEPT).sum()} alarms; "
        f"median {np.median(scores):.2f}, 99 % {threshold:.2f}, largest {scores.max():.2f}; "
        f"above 99 % falls by e every {slope:.3f}; "
        f"rate at {mark.ACCEPT}: {rate:.1e}, of a search at most {10 * rate:.1e}"
    )


def main() -> None:
    """Measure."""
    cv2.setNumThreads(1)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--sizes", default="256,512,1350")
    parser.add_argument("--number", type=int, default=60)
    parser.add_argument("--false-alarms", type=int, default=0)
    asked = parser.parse_args()
    if asked.false_alarms:
        false_alarms(asked.pictures, asked.false_alarms)
    else:
        detection(asked.pictures, [int(side) for side in asked.sizes.split(",")], asked.number)


if __name__ == "__main__":
    main()
