"""What MECA's terms do to its embedding and to recognition, as one table, and the embedding as a picture.

For finished runs of `mien ablate meca` (or `mien train`), on the splits that each run's own configuration names:

- accuracy of the network itself on the test split: recognition trained end to end with the rung's terms;
- accuracy of a *linear probe*: multinomial logistic regression on the frozen code z, and on the pooled feature that z
  is made from, fitted on 8,000 faces of the training split, standardised, with scikit-learn's default penalty (nothing
  is tuned);
- separation of z on test faces that are not neutral (`mien.evaluation.metrics.separation`): silhouette, and how
often the nearest
  other face has the same expression;
- length of z against intensity (the share of votes that are not neutral): Spearman's correlation, mean absolute error.

Runs that differ in the seed alone are one row: mean and standard deviation over seeds.

    python benchmarks/meca_space.py runs/meca-ferplus-*-s? --figure meca.png

prints Markdown; the figure is t-SNE of the last run named.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from method_checks import BATCH, batches
from mien.data.cropping import load_split
from mien.evaluation import metrics
from mien.labels import EXPRESSIONS, NEUTRAL
from mien.methods.meca import MECA
from mien.training import checkpoint
from mien.training.config import load_config
from mien.training.run_log import without_seed

LEARNT = 8000
"""Training faces behind a probe."""
SHOWN = 1500
"""Test faces in the picture."""
COLUMNS = {
    "own": "own accuracy, %",
    "probe z": "probe on z, %",
    "probe feature": "probe on the feature, %",
    "silhouette": "silhouette",
    "recall_at_1": "nearest is alike",
    "rank": "length with intensity",
    "error": "length's error",
}


class Space:
    """The codes of one split: `z` [n, d], `feature` [n, w], `guess` [n], `truth` [n], `length` [n], `intensity` [n]."""

    def __init__(self, method: MECA, faces: list[Any]) -> None:
        parts: dict[str, list[torch.Tensor]] = {}
        with torch.inference_mode():
            for batch in faces:
                code = method.encode(batch.image)
                for name, value in {
                    "z": code.z,
                    "feature": code.feature,
                    "guess": code.logits.argmax(dim=1),
                    "truth": batch.expression,
                    "length": code.length,
                    "intensity": 1 - batch.votes[:, NEUTRAL],
                }.items():
                    parts.setdefault(name, []).append(value)
        joined: dict[str, NDArray[Any]] = {name: torch.cat(each).numpy() for name, each in parts.items()}
        self.z, self.feature, self.guess = joined["z"], joined["feature"], joined["guess"]
        self.truth, self.length, self.intensity = joined["truth"], joined["length"], joined["intensity"]


def probe(train: NDArray[Any], truth: NDArray[Any], test: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Accuracy of a linear classifier on frozen codes, percent."""
    reader = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(train, truth)
    return float(100 * (reader.predict(test) == wanted).mean())


def measure(method: MECA, train: Space, test: Space) -> dict[str, float]:
    """The figures of one run."""
    strong = test.truth != NEUTRAL
    apart = metrics.separation(test.z[strong], test.truth[strong])
    return {
        "own": float(100 * (test.guess == test.truth).mean()),
        "probe z": probe(train.z, train.truth, test.z, test.truth),
        "probe feature": probe(train.feature, train.truth, test.feature, test.truth),
        "silhouette": apart["silhouette"],
        "recall_at_1": apart["recall_at_1"],
        "rank": metrics.spearman(test.length, test.intensity),
        "error": float(np.abs(test.length - test.intensity).mean()),
    }


def draw(method: MECA, test: Space, path: Path) -> None:
    """t-SNE of test faces with the axes' ends and the origin."""
    from mien.figures import embedding

    some = np.random.default_rng(0).permutation(len(test.z))[:SHOWN]
    axes = torch.nn.functional.normalize(method.axes.detach().float(), dim=1).numpy()
    names = [name for name in EXPRESSIONS if name != "neutral"][: len(axes)]
    ends = np.concatenate([0.9 * axes, np.zeros_like(axes[:1])])
    flat, marks = embedding.project(test.z[some], ends)
    words = [EXPRESSIONS[n] for n in test.truth[some]]
    embedding.draw(flat, words, marks, [*names, "neutral"]).savefig(path, dpi=160, bbox_inches="tight")


def main() -> None:
    """Measure the runs named on the command line, print the table, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--figure", type=Path, help="where to draw the last run's embedding")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, list[dict[str, float]]] = {}
    for folder in chosen.runs:
        config = load_config(folder / "config.yaml", [])
        method = checkpoint.load(folder / "weights.safetensors").restore()
        assert isinstance(method, MECA)
        method.eval()
        loaded = load_split(config.data, ("train", "test"))
        spaces = {}
        for split, most in (("train", LEARNT), ("test", None)):
            faces = batches(loaded[split])
            np.random.default_rng(0).shuffle(faces)  # type: ignore[arg-type]  # any list will do
            spaces[split] = Space(method, faces if most is None else faces[: most // BATCH])
        train, test = spaces["train"], spaces["test"]
        rows.setdefault(without_seed(folder.name), []).append(measure(method, train, test))
        if chosen.figure is not None and folder == chosen.runs[-1]:
            draw(method, test, chosen.figure)
    print(f"| terms | seeds | {' | '.join(COLUMNS.values())} |")
    print("| --- " * (len(COLUMNS) + 2) + "|")
    for name, each in rows.items():
        cells = []
        for column in COLUMNS:
            values = [one[column] for one in each]
            digits = 1 if COLUMNS[column].endswith("%") else 3
            spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.{digits}f}{spread}")
        print(f"| {name} | {len(each)} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
