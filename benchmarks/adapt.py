"""What `mien adapt` brings on a set: accuracy after 1, 2, 5 and 20 pictures a label, over random draws of pictures.

    python benchmarks/adapt.py diffusionfer DIR [--reader manifest] [--part part=lfw] [--weights FILE] [--draws 20]

The pictures that are drawn are the only ones that are learnt from; all faces of other people are judged. Labels with
fewer than twice as many pictures are left out of a draw. Macro recall is what accuracy would be if all labels were
equally frequent, as in posed sets. No interval: the draws overlap; the lowest and highest of them are given. `--json`
keeps the figures of `docs/adapting.md`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from mien.data.config import SourceConfig
from mien.data.cropping import load_crops, source_records
from mien.faces import adapt
from mien.faces.adapt import Labelled
from mien.faces.recognise import OnnxRecogniser
from mien.labels import EXPRESSIONS, UNLABELLED

SIZES = (1, 2, 5, 20)


def read(arguments: argparse.Namespace) -> Labelled:
    """The faces of the set as the recogniser reads them."""
    source = SourceConfig(
        reader=arguments.reader or arguments.set,
        root=arguments.root,
        faces="find" if arguments.find else "whole",
    )
    records = [one for one in source_records(source) if one.expression != UNLABELLED]
    if arguments.part:
        key, _, value = arguments.part.partition("=")
        records = [one for one in records if str(one.attributes.get(key)) == value]
    recogniser = OnnxRecogniser.load(arguments.weights, threads=1, prior="trained")
    crops = load_crops(records, recogniser.size, False, arguments.cache, find=arguments.find)
    readings = [
        reading
        for begin in range(0, len(records), 64)
        for reading in recogniser(np.array(crops.images[begin : begin + 64]), embeddings=True)
    ]
    return Labelled(
        np.log(np.clip([list(one.probabilities.values()) for one in readings], 1e-12, 1)),
        np.array([one.embedding for one in readings]),
        np.array([one.expression for one in records]),
        np.array([one.subject or one.name for one in records]),
        EXPRESSIONS,
    )


def judged(scores: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Accuracy and macro recall."""
    right = scores.argmax(axis=1) == truth
    return float(right.mean()), float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("set")
    parser.add_argument("root", type=Path)
    parser.add_argument("--reader")
    parser.add_argument("--part", help="KEY=VALUE of an attribute: only these")
    parser.add_argument("--find", action="store_true", help="look for the faces first")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    faces = read(arguments)
    name = f"{arguments.set} {arguments.part or ''}".strip()
    accuracy, macro = judged(faces.logs, faces.truth)
    print(f"{name}: {len(faces.truth):,} faces; as it is: accuracy {accuracy:.1%}, macro recall {macro:.1%}")
    figures: dict[str, Any] = {"faces": len(faces.truth), "draws": arguments.draws}
    figures |= {"accuracy": accuracy, "macro recall": macro, "gains": {}}
    for size in SIZES:
        gains, kinds = [], []
        for draw in range(arguments.draws):
            generator = np.random.default_rng(draw)
            counts = np.bincount(faces.truth, minlength=len(EXPRESSIONS))
            rows = np.concatenate(
                [
                    generator.permutation(np.flatnonzero(faces.truth == label))[:size]
                    for label in np.flatnonzero(counts >= 2 * size)
                ]
            )
            part = faces.part(rows)
            chosen = adapt.choose(part, adapt.CANDIDATES, generator)
            rest = np.flatnonzero(~np.isin(faces.persons, part.persons))
            after = judged(adapt.fitted(part, chosen).scores(faces, rest), faces.truth[rest])
            before = judged(faces.logs[rest], faces.truth[rest])
            gains.append((after[0] - before[0], after[1] - before[1]))
            kinds.append(chosen[0])
        table = 100 * np.array(gains)
        figures["gains"][size] = {
            name: {"value": values.mean(), "low": values.min(), "high": values.max()}
            for name, values in zip(("accuracy", "macro recall"), np.array(gains).T, strict=True)
        }
        used = ", ".join(f"{kind} {kinds.count(kind)}" for kind in dict.fromkeys(kinds))
        print(
            f"{size:3d} a label: accuracy {table[:, 0].mean():+5.1f} ({table[:, 0].min():+.1f} to "
            f"{table[:, 0].max():+.1f}), macro {table[:, 1].mean():+5.1f} ({table[:, 1].min():+.1f} to "
            f"{table[:, 1].max():+.1f}); {used}",
            flush=True,
        )
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
