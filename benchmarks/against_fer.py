"""`mien` beside `fer` (PyPI 25.10.3): faces a second on the same folder, accuracy on the same FERPlus test crops.

`fer` needs TensorFlow, so it lives in an environment of its own, whose Python is named. A plain `pip install fer` also
brings torch and CUDA; these are the parts that it runs with on a processor:

    python -m venv fer
    fer/bin/pip install --no-deps fer==25.10.3
    fer/bin/pip install tensorflow-cpu "opencv-python<5" pandas requests tqdm "numpy<2.3" Pillow
    python benchmarks/against_fer.py --fer-python fer/bin/python --photos FOLDER [--ferplus ROOT]

It prints Markdown. Speed: both are loaded first, in one process each with all processors, and take the same folder in
turn; the figures are medians over the rounds. `fer` runs its default detector (Haar), `mien` its own.

Accuracy: the FERPlus test split under the majority rule, the whole 48 px picture given to both without detection, and
to `fer` without the 10 px by which it widens a detector's box (with them it loses 10 points on these crops). Its
network learnt FER2013's own labels of these pictures' training part, ours the votes that replaced them.
`fer` has seven classes: angry, disgust, fear, happy, sad, surprise and neutral are our anger, disgust, fear, happiness,
sadness, surprise and neutral; it has no contempt. So the fair figure is over the pictures that are not labelled
contempt, with `mien`'s contempt left out and the rest renormalised; over all eight, contempt counts as wrong for it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien.evaluation.metrics import mcnemar
from mien.faces.pipeline import load
from mien.io import images
from mien.io.onnx import available
from mien.labels import BASIC, EXPRESSIONS, canonical

# Runs inside fer's environment: answers one line of JSON for each line "photos FOLDER" or "crops FILE".
THEIRS = """
import json, sys, time, pathlib
import cv2, numpy as np
from fer.fer import FER
detector = FER()
# It widens a face's box by 10 px; a crop has nothing round it but grey padding.
on_crops = FER(offsets=(0, 0))
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
            found = on_crops.detect_emotions(picture, face_rectangles=[(0, 0, width, height)])
            scores = found[0]["emotions"]
            words.append(max(scores, key=scores.get))
        answer = {"words": words, "seconds": time.perf_counter() - start}
    print("ANSWER " + json.dumps(answer), flush=True)
"""


class Theirs:
    """fer in a process of its own."""

    def __init__(self, python: str) -> None:
        # A pipe that nobody reads would fill up; the file lives as long as the process.
        self._messages = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [python, "-c", THEIRS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )

    def ask(self, kind: str, path: Path) -> dict[str, Any]:
        """Send one request and wait for its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{kind} {path.resolve()}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("ANSWER "):
                return dict(json.loads(line.removeprefix("ANSWER ")))
        self._messages.seek(0)
        sys.exit(f"fer's process ended:\n{self._messages.read()}")


def speed(theirs: Theirs, photos: Path, rounds: int, weights: str | None) -> None:
    """Faces a second on a folder of photographs."""
    pipeline = load(weights=weights)
    paths = sorted(photos.iterdir())
    seconds: dict[str, list[float]] = {"mien": [], "fer": []}
    faces = {}
    for number in range(rounds + 1):
        answer = theirs.ask("photos", photos)
        start = time.perf_counter()
        faces["mien"] = sum(len(analysis.faces) for analysis in pipeline.stream(paths))
        mine = time.perf_counter() - start
        faces["fer"] = answer["faces"]
        if number:  # the first round fills caches
            seconds["mien"].append(mine)
            seconds["fer"].append(answer["seconds"])
    height, width = images.read(paths[0]).shape[:2]
    print(f"Speed: {len(paths)} photographs, the first of {width} x {height} px; {rounds} rounds in turn.\n")
    print("| | faces found | ms a photo | faces/s |\n| --- | --- | --- | --- |")
    for name in ("mien", "fer"):
        middle = statistics.median(seconds[name])
        print(f"| {name} | {faces[name]} | {middle / len(paths) * 1000:.1f} | {faces[name] / middle:.1f} |")
    ratios = [
        (faces["mien"] / mine) / (faces["fer"] / other)
        for mine, other in zip(seconds["mien"], seconds["fer"], strict=True)
    ]
    print(
        f"\nFaces a second, mien over fer: {statistics.median(ratios):.1f} x, from {min(ratios):.1f} to "
        f"{max(ratios):.1f} over the rounds.\n"
    )


def interval(right: NDArray[np.bool_], seed: int = 0, draws: int = 2000) -> str:
    """A share in percent with its 95 % bootstrap interval over pictures."""
    shares = np.random.default_rng(seed).choice(right, (draws, len(right))).mean(axis=1)
    low, high = np.percentile(100 * shares, [2.5, 97.5])
    return f"{100 * right.mean():.1f} % [{low:.1f}, {high:.1f}]"


def accuracy(theirs: Theirs, root: Path, weights: str | None) -> None:
    """Accuracy on the FERPlus test split under the majority rule, the same pictures for both."""
    from mien.evaluation.inference import open_weights, predict, records_of, source_of

    source = source_of(root, protocol="ferplus-majority")
    records = records_of(source, "test")
    with tempfile.TemporaryDirectory() as folder:
        predictions = predict(open_weights(weights or "shipped"), source, "test", cache=Path(folder))
        crops = np.stack([images.read(record.path)[..., 0] for record in records])
        np.save(Path(folder) / "crops.npy", crops)
        words = theirs.ask("crops", Path(folder) / "crops.npy")["words"]
    truth = np.array([record.expression for record in records])
    if list(predictions.names) != [record.name for record in records]:
        sys.exit("the predictions are not in the order of the records")
    other = np.array([EXPRESSIONS.index(canonical(word)) for word in words])
    shared = truth < len(BASIC)
    basic = predictions.probabilities[:, : len(BASIC)].argmax(axis=1)
    rows = {
        f"seven classes, {shared.sum()} pictures not labelled contempt": (basic, shared),
        f"eight classes, all {len(truth)} pictures": (
            predictions.probabilities.argmax(axis=1),
            np.ones(len(truth), bool),
        ),
    }
    print("Accuracy on FERPlus test under the majority rule. [95 % bootstrap interval over pictures.]\n")
    print("| | mien | fer | mien, mean of classes | fer, mean of classes |\n| --- | --- | --- | --- | --- |")
    for text, (mine, kept) in rows.items():
        cells = [interval((chosen == truth)[kept]) for chosen in (mine, other)]
        for chosen in (mine, other):
            recalls = [(chosen == k)[kept & (truth == k)].mean() for k in np.unique(truth[kept])]
            cells.append(f"{100 * np.mean(recalls):.1f} %")
        print(f"| {text} | {' | '.join(cells)} |")
    test = mcnemar((basic == truth)[shared], (other == truth)[shared])
    print(
        f"\nOver seven classes mien alone is right on {test.first_only} pictures, fer alone on {test.second_only} "
        f"(McNemar p = {test.p_exact:.2g}).\n"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fer-python", required=True, help="the Python of the environment that holds fer")
    parser.add_argument("--photos", type=Path, help="a folder of photographs")
    parser.add_argument("--ferplus", type=Path, help="FERPlus in its official layout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", help="another recogniser than the shipped one")
    options = parser.parse_args()
    theirs = Theirs(options.fer_python)
    print(f"{available()} processors, load {os.getloadavg()[0]:.1f} at the start.\n", flush=True)
    if options.photos is not None:
        speed(theirs, options.photos, options.rounds, options.weights)
    if options.ferplus is not None:
        accuracy(theirs, options.ferplus, options.weights)


if __name__ == "__main__":
    main()
