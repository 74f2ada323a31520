"""Measures what a person's own neutral face brings, on the London pairs, and fills in `docs/actions.md`.

    python scripts/own_neutral.py /data/london_faces

The Face Research Lab London Set (DeBruine and Jones 2017, CC BY 4.0) has one neutral and one smiling photograph of
each of 102 people; nothing was learnt from it. Asked is which share of the smiles is found where 1 % of the neutral
pictures are called smiles, with the value itself and with its change from the person's neutral photograph (the
baseline).

The baseline differs in nothing from itself, and there is no second neutral photograph. So false alarms are counted on
`looks`: the neutral photograph mirrored, turned, moved, enlarged, dimmed, reduced and compressed, five pictures of a
person, which are found, aligned and read again. Both ways are judged on the same pictures. What this cannot show: how
a neutral face differs between two photographs of a person (another day, light, or mood). The threshold is the least
value that at most 1 % of the looks exceed. Intervals: 2,000 draws of people, each with a threshold of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import figures
import mien
from mien.io import images
from mien.types import Reading

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs" / "reports" / "own-neutral" / "smiles.json"
PAGE = ROOT / "docs" / "actions.md"
DRAWS, SEED, ALARMS = 2000, 0, 0.01

VALUES: dict[str, Callable[[Reading], float | None]] = {
    "AU12": lambda reading: reading.units["AU12"],
    "happiness": lambda reading: reading.probabilities["happiness"],
    "valence": lambda reading: reading.valence,
}


def looks(rgb: images.Rgb) -> list[images.Rgb]:
    """Five other pictures of the same photograph."""
    half = cv2.resize(rgb, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)
    dim = (255 * (rgb / 255) ** 1.6).astype(np.uint8)
    made = [
        _turned(rgb[:, ::-1], 5, 1.0),
        _turned(rgb, -8, 0.8),
        _turned(dim, 3, 1.15),
        half,
        _turned(half[:, ::-1], -4, 0.9),
    ]
    return [
        _compressed(picture, quality) for picture, quality in zip(made, (90, 60, 40, 50, 30), strict=True)
    ]


def _turned(rgb: NDArray[Any], degrees: float, scale: float) -> NDArray[np.uint8]:
    height, width = rgb.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, scale)
    matrix[:, 2] += (0.013 * width, -0.011 * height)
    turned = cv2.warpAffine(
        rgb, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(turned, dtype=np.uint8)


def _compressed(rgb: NDArray[Any], quality: int) -> NDArray[np.uint8]:
    _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


def read(root: Path) -> dict[str, NDArray[np.float64]]:
    """By value: [people, 7] of the neutral photograph, the smiling one, and the five looks."""
    pipeline = mien.load(threads=1)
    neutral, smiling = (
        {path.name.split("_")[0]: path for path in sorted((root / kind).glob("*.jpg"))}
        for kind in ("neutral", "smiling")
    )
    rows = []
    for person in sorted(neutral.keys() & smiling.keys()):
        rgb = images.read(neutral[person])
        pictures = [rgb, images.read(smiling[person]), *looks(rgb)]
        rows.append([pipeline(picture).faces[0].reading for picture in pictures])
    return {
        name: np.array([[value(reading) for reading in row] for row in rows], dtype=float)
        for name, value in VALUES.items()
    }


def found(values: NDArray[np.float64]) -> float:
    """The share of smiles above the threshold; `values` [people, 1 + looks] begin with the smile."""
    threshold = np.quantile(values[:, 1:], 1 - ALARMS, method="higher")
    return float((values[:, 0] > threshold).mean())


def measured(values: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    """Shares found without and with the baseline, and the gain, each with its 95 % interval over people."""
    plain, changes = values[:, 1:], values[:, 1:] - values[:, :1]
    random = np.random.default_rng(SEED)
    draws = []
    for _ in range(DRAWS):
        people = random.integers(0, len(values), len(values))
        draws.append((found(plain[people]), found(changes[people])))
    drawn = np.array(draws)
    without, compared = found(plain), found(changes)
    shares = {
        "without": (without, drawn[:, 0]),
        "with": (compared, drawn[:, 1]),
        "gain": (compared - without, drawn[:, 1] - drawn[:, 0]),
    }
    return {
        name: dict(zip(("value", "low", "high"), (value, *np.percentile(some, [2.5, 97.5])), strict=True))
        for name, (value, some) in shares.items()
    }


def main() -> None:
    """Measure, write the report and fill in the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="the London Set, with neutral/ and smiling/")
    values = read(parser.parse_args().root)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    people, pictures = next(iter(values.values())).shape
    report = {
        "data": "Face Research Lab London Set, all people with a neutral and a smiling photograph",
        "commit": commit,
        "seed": SEED,
        "people": people,
        "looks": people * (pictures - 2),
        "false_alarms": ALARMS,
        "smiles": {name: measured(some) for name, some in values.items()},
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(figures.filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
