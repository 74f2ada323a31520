"""Measures how much the results of the whole pipeline differ between processors, threads and batches.

    python scripts/kernel_agreement.py                                   # prints a table
    python scripts/kernel_agreement.py --photos /data/london_faces/neutral --write   # and writes docs/reports/kernels

ONNX Runtime, OpenCV and NumPy choose their kernels by what the processor can do. ONNX Runtime has no switch for that,
so features are hidden from the whole process (`hide_cpu_features.c`, built here with `cc`; Linux on x86-64 processors
that can do it). OpenCV's and NumPy's own switches are tried too. Each way to run reads the same pictures in a process
of its own, and every result is compared with that of the first way: probabilities, the label, actions, boxes in pixels,
points in per cent of the distance between the eyes. Goal: probabilities within .01, 99.9 % of the labels equal.

The pictures: the examples and, with `--photos`, the photographs of a folder, each as it is and in the forms of `FORMS`,
until there are `--faces` of them. Tests: tests/test_kernel_agreement.py.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

import mien
from mien.io import images
from mien.landmarks import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs" / "reports" / "kernels" / "figures.json"
GOAL, EQUAL = 0.01, 0.999
UNAVAILABLE = 99
"""Exit status of a process on a processor that cannot hide features."""


class Way(NamedTuple):
    """A way to run the pipeline.

    Attributes:
        name: what the table calls it.
        hidden: features of the processor, see `hide_cpu_features.c`.
        variables: environment variables.
        threads: threads of the networks.
        together: all pictures in one call, so that networks get batches.
    """

    name: str
    hidden: str = ""
    variables: Mapping[str, str] = MappingProxyType({})
    threads: int = 1
    together: bool = False


WAYS = (
    Way("one thread, one picture after another"),
    Way("two threads, all pictures in one call", threads=2, together=True),
    Way("OpenCV and NumPy without AVX2 and AVX-512", variables={
        "OPENCV_CPU_DISABLE": "AVX2,AVX512-SKX", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4",
    }),
    Way("without VNNI", hidden="vnni"),
    Way("without AVX-512 and VNNI (AVX2)", hidden="vnni,avx512"),
    Way("without AVX2 too (SSE 4.2)", hidden="vnni,avx512,avx2"),
)  # fmt: skip
"""The first is what the others are compared with."""


def _turned(rgb: images.Rgb) -> NDArray[Any]:
    height, width = rgb.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 8, 0.85)
    return cv2.warpAffine(rgb, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)


def _noisy(rgb: images.Rgb) -> NDArray[Any]:
    noise = np.random.default_rng(0).normal(0, 8, rgb.shape)
    return np.clip(rgb + noise, 0, 255).astype(np.uint8)


FORMS: dict[str, Callable[[images.Rgb], NDArray[Any]]] = {
    "as it is": lambda rgb: rgb,
    "half": lambda rgb: cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "turned": _turned,
    "dim": lambda rgb: (255 * (rgb / 255) ** 1.8).astype(np.uint8),
    "small": lambda rgb: cv2.resize(rgb, None, fx=0.27, fy=0.27, interpolation=cv2.INTER_AREA),
    "noisy": _noisy,
    "soft": lambda rgb: cv2.GaussianBlur(rgb, (0, 0), 2.5),
    "mirrored": lambda rgb: rgb[:, ::-1],
}


def pictures(folders: list[Path]) -> Iterator[NDArray[Any]]:
    """Every photograph in the first form, then every one in the next."""
    paths = [path for folder in folders for path in sorted(folder.glob("*.[jp][pn]g"))]
    for change in FORMS.values():
        for path in paths:
            yield change(images.read(path))


def write_pictures(folders: list[Path], faces: int, target: Path) -> int:
    """Write pictures with at least `faces` faces, without loss, and return their number."""
    pipeline = mien.load(threads=1)
    found = count = 0
    for count, picture in enumerate(pictures(folders), 1):
        cv2.imwrite(str(target / f"{count:05d}.png"), np.ascontiguousarray(picture[..., ::-1]))
        found += len(pipeline(np.ascontiguousarray(picture)).faces)
        if found >= faces:
            break
    return count


def read(folder: Path, threads: int, together: bool) -> list[list[dict[str, Any]]]:
    """The faces of each picture of the folder, in order."""
    pipeline = mien.load(threads=threads)
    paths = sorted(folder.glob("*.png"))
    analyses = pipeline(paths) if together else [pipeline(path) for path in paths]
    return [[_numbers(face) for face in analysis.faces] for analysis in analyses]


def _numbers(face: mien.Face) -> dict[str, Any]:
    reading = face.reading
    return {
        "probabilities": list(reading.probabilities.values()),
        "label": face.expression,
        "affect": [reading.valence, reading.arousal],
        "actions": [value or 0.0 for value in reading.actions.values()],
        "box": face.box.corners,
        "points": face.landmarks.points,
    }


def run(way: Way, folder: Path, library: Path | None) -> list[list[dict[str, Any]]] | None:
    """What `read` returns, from a process that runs that way; None where the processor cannot hide its features."""
    environment = {**os.environ, **way.variables}
    if way.hidden:
        if library is None:
            return None
        environment |= {"HIDE_CPU_FEATURES": way.hidden, "LD_PRELOAD": str(library)}
    command = [sys.executable, __file__, "--read", str(folder), "--threads", str(way.threads)]
    done = subprocess.run(
        [*command, "--together"] if way.together else command, env=environment, capture_output=True, text=True
    )
    if way.hidden and done.returncode == UNAVAILABLE:
        return None
    if done.returncode:
        raise SystemExit(f"{way.name}: {done.stderr}")
    answer: list[list[dict[str, Any]]] = json.loads(done.stdout)
    return answer


def build(folder: Path) -> Path | None:
    """The library that hides features; None where there is no compiler, or the system is another."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    library = folder / "hide.so"
    source = Path(__file__).parent / "hide_cpu_features.c"
    try:
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    except FileNotFoundError:
        return None
    return library


def compare(first: list[list[dict[str, Any]]], second: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """How far the faces of the same pictures are from one another; the largest distance, if not stated otherwise."""
    same = [len(here) == len(there) for here, there in zip(first, second, strict=True)]
    pairs = [
        pair
        for here, there, equal in zip(first, second, same, strict=True)
        for pair in (zip(here, there, strict=True) if equal else ())
    ]

    def far(name: str) -> NDArray[Any]:
        return np.array([np.abs(np.subtract(here[name], there[name])).max() for here, there in pairs])

    probabilities = far("probabilities")
    points = [
        np.linalg.norm(np.subtract(here["points"], there["points"]), axis=1).max() / _eyes(here["points"])
        for here, there in pairs
    ]
    return {
        "faces": len(pairs),
        "pictures_with_other_faces": same.count(False),
        "probabilities": float(probabilities.max()),
        "probabilities_99": float(np.quantile(probabilities, 0.99)),
        "labels_equal": float(np.mean([here["label"] == there["label"] for here, there in pairs])),
        "affect": float(far("affect").max()),
        "actions": float(far("actions").max()),
        "box_pixels": float(far("box").max()),
        "points_percent": 100 * float(max(points)),
    }


def _eyes(points: list[list[float]]) -> float:
    """The distance between the middles of the eyes, pixels."""
    known = np.array(points)
    left, right = (known[list(corners)].mean(axis=0) for corners in (LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS))
    return float(np.linalg.norm(left - right))


def measure(folders: list[Path], faces: int) -> dict[str, Any]:
    """The comparison of every way with the first, printed as a table."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "pictures"
        folder.mkdir()
        count = write_pictures(folders, faces, folder)
        library = build(Path(scratch))
        answers = {way.name: run(way, folder, library) for way in WAYS}
    first = answers[WAYS[0].name]
    assert first is not None
    found = {
        name: None if answer is None else compare(first, answer)
        for name, answer in answers.items()
        if answer is not first
    }
    for name, figures in found.items():
        print(name + (": this processor or system cannot hide features" if figures is None else ""))
        for key, value in (figures or {}).items():
            print(f"    {key}: {value:.6g}")
    return {"pictures": count, "faces": sum(map(len, first)), "ways": found}


def kept(figures: dict[str, Any]) -> bool:
    """Whether the goal is met by every way that could be tried."""
    tried = [way for way in figures["ways"].values() if way is not None]
    return all(
        way["probabilities"] <= GOAL and way["labels_equal"] >= EQUAL and not way["pictures_with_other_faces"]
        for way in tried
    )


def _rounded(figures: Any) -> Any:
    if isinstance(figures, dict):
        return {key: _rounded(value) for key, value in figures.items()}
    return float(f"{figures:.2g}") if isinstance(figures, float) and figures < 0.99 else figures


def main() -> None:
    """Measure; exits with 1 where the goal is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, action="append", default=[], help="a folder of photographs")
    parser.add_argument("--faces", type=int, default=300)
    parser.add_argument("--write", action="store_true", help=f"write {OUT.relative_to(ROOT)}")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--together", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(json.dumps(read(options.read, options.threads, options.together)))
        return
    figures = measure([ROOT / "examples", *options.photos], options.faces)
    if options.write:
        OUT.parent.mkdir(parents=True, exist_ok=True)
        OUT.write_text(json.dumps(_rounded(figures), indent=1) + "\n", encoding="utf-8")
    raise SystemExit(0 if kept(figures) else f"missed: probabilities within {GOAL}, {EQUAL:.1%} labels equal")


if __name__ == "__main__":
    main()
