"""`mien` beside `fer` (PyPI 25.10.3): faces a second on the same folder, accuracy on the same FERPlus test crops.

`fer` needs TensorFlow, so it lives in an environment of its own, whose Python is named:

    python -m venv fer && fer/bin/pip install fer==25.10.3
    python benchmarks/against_fer.py --fer-python fer/bin/python --photos FOLDER [--ferplus ROOT]

Both are loaded first and timed on the same files, alternately, several times; the figures are medians. Accuracy is
on the FERPlus test split under the majority rule, whole 48 px pictures given to both without detection; contempt, which
`fer` does not know, counts as wrong for it, and the second figure leaves those pictures out for both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from mien import images
from mien.labels import EXPRESSIONS, canonical

# Runs inside fer's environment: answers one line of JSON for each line "photos FOLDER" or "crops FILE".
THEIRS = """
import json, sys, time, pathlib
import cv2, numpy as np
from fer.fer import FER
detector = FER()
for line in sys.stdin:
    kind, path = line.rstrip("\\n").split(" ", 1)
    start = time.perf_counter()
    if kind == "photos":
        faces = 0
        for photo in sorted(pathlib.Path(path).iterdir()):
            faces += len(detector.detect_emotions(cv2.imread(str(photo))))
        answer = {"faces": faces, "seconds": time.perf_counter() - start}
    else:
        words = []
        for crop in np.load(path):
            height, width = crop.shape[:2]
            picture = cv2.cvtColor(crop, cv2.COLOR_GRAY2BGR)
            found = detector.detect_emotions(picture, face_rectangles=[(0, 0, width, height)])
            scores = found[0]["emotions"]
            words.append(max(scores, key=scores.get))
        answer = {"words": words, "seconds": time.perf_counter() - start}
    print("ANSWER " + json.dumps(answer), flush=True)
"""


class Theirs:
    """fer in a process of its own."""

    def __init__(self, python: str) -> None:
        self._process = subprocess.Popen(
            [python, "-c", THEIRS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, kind: str, path: Path) -> dict[str, Any]:
        """Send one request and wait for its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{kind} {path}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("ANSWER "):
                return dict(json.loads(line.removeprefix("ANSWER ")))
        sys.exit("fer's process ended: try its Python by hand,  -c 'from fer.fer import FER; FER()'")


def speed(theirs: Theirs, photos: Path, rounds: int, weights: str | None) -> None:
    """Faces a second on a folder of photographs, in one process each with all threads."""
    import time

    from mien.pipeline import load

    pipeline = load(weights=weights)
    paths = sorted(photos.iterdir())
    ours: list[float] = []
    other: list[float] = []
    counts = {}
    for number in range(rounds + 1):
        answer = theirs.ask("photos", photos)
        start = time.perf_counter()
        counts["mien"] = sum(len(analysis.faces) for analysis in pipeline.stream(paths))
        seconds = time.perf_counter() - start
        counts["fer"] = answer["faces"]
        if number:
            ours.append(counts["mien"] / seconds)
            other.append(answer["faces"] / answer["seconds"])
    mine, fer = statistics.median(ours), statistics.median(other)
    print(
        f"{len(paths)} photos: mien {counts['mien']} faces, {mine:.1f} faces/s; fer {counts['fer']} faces, {fer:.1f}"
    )
    print(f"  mien does {mine / fer:.1f} x the faces a second")


def accuracy(theirs: Theirs, root: Path, weights: str | None) -> None:
    """Accuracy on the FERPlus test split under the majority rule, the same pictures for both."""
    from mien.infer import open_weights, predict, records_of, source_of

    source = source_of(root, protocol="ferplus-majority")
    records = records_of(source, "test")
    with tempfile.TemporaryDirectory() as folder:
        predictions = predict(open_weights(weights or "shipped"), source, "test", cache=Path(folder))
        np.save(
            Path(folder) / "crops.npy", np.stack([images.read(record.path)[..., 0] for record in records])
        )
        words = theirs.ask("crops", Path(folder) / "crops.npy")["words"]
    truth = np.array([record.expression for record in records])
    other = np.array([EXPRESSIONS.index(canonical(word)) for word in words])
    for name, chosen in (("mien", predictions.probabilities.argmax(axis=1)), ("fer", other)):
        right = chosen == truth
        print(
            f"FERPlus test, {len(truth)} pictures: {name} {right.mean():.1%} of eight classes, "
            f"{right[truth < 7].mean():.1%} where the label is not contempt"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fer-python", required=True, help="the Python of the environment that holds fer")
    parser.add_argument("--photos", type=Path, help="a folder of photographs")
    parser.add_argument("--ferplus", type=Path, help="FERPlus in its official layout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", help="another recogniser than the shipped one")
    options = parser.parse_args()
    theirs = Theirs(options.fer_python)
    if options.photos is not None:
        speed(theirs, options.photos, options.rounds, options.weights)
    if options.ferplus is not None:
        accuracy(theirs, options.ferplus, options.weights)


if __name__ == "__main__":
    main()
