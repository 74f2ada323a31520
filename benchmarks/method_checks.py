"""The acceptance checks of the methods that need trained networks and photographs, as one table.

For finished runs (folders of `mien train` or `mien ablate`), on the test split that each run's own configuration names:

- every method: accuracy on whole faces, accuracy under a grey square (25 % of the crop, four drawn places per
  face), and the drop between the two;
- `jadfer`: mean pairwise cosine of the path maps, the mean of the emptiest map, and head similarity of each attention
  block (interaction last);
- `cclls`: learning intensity of each layer over that of the deepest, in training mode;
- `ke2nt`: mean cosine of features and of their neutral versions with the text of the face's expression, that of
  neutral versions with the neutral text and with the nearest other text (the check asks for .5 and more, and for more
  than any other), and the share of emotional faces whose neutral version lies nearest it.

Runs that differ in the seed alone are pooled: a face's value is its mean over the seeds, and intervals (95 %) resample
faces. Nothing is chosen by what this prints.

    python benchmarks/method_checks.py runs/jadfer-ferplus-full-s0 runs/jadfer-ferplus-undropped-s0 ...

prints Markdown.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mien.data.cropping import Samples, load_split
from mien.data.transforms import normalise, to_float
from mien.evaluation import intervals as bootstrap
from mien.labels import NEUTRAL
from mien.methods.base import Batch, Recognition
from mien.training import checkpoint, initialise
from mien.training.ablation import occlusion_hits
from mien.training.config import load_config
from mien.training.run_log import without_seed

SHARE, DRAWS, BATCH = 0.25, 4, 64


def batches(samples: list[Samples]) -> list[Batch]:
    """The labelled faces of a split in batches, as networks take them."""
    found = []
    for one in samples:
        rows = np.flatnonzero(one.expression >= 0)
        for part in np.array_split(rows, max(1, len(rows) // BATCH)):
            found.append(
                Batch(
                    normalise(to_float(torch.from_numpy(np.array(one.images[part])))),
                    torch.from_numpy(np.asarray(one.expression[part])),
                    torch.from_numpy(np.asarray(one.affect[part])),
                    torch.from_numpy(np.asarray(one.votes[part])),
                    torch.full((len(part),), -1),
                    {},
                )
            )
    return found


def hits(method: Recognition, faces: list[Batch]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each face: 1 where the whole face is read rightly, and in which share of the draws the covered one is."""
    each = [
        occlusion_hits(method, batch.image, batch.expression, SHARE, DRAWS, seed=number * DRAWS)
        for number, batch in enumerate(faces)
    ]
    whole, covered = (torch.cat(parts).numpy() for parts in zip(*each, strict=True))
    return whole, covered


def own_figures(method: Any, name: str, faces: list[Batch], frozen: bool) -> dict[str, float]:
    """What a method's paper argues, in numbers."""
    if name == "jadfer" and method.config.paths:
        from mien.figures.methods import jadfer as paths

        each = [paths.measure(method, batch.image) for batch in faces]
        seen = np.mean([maps.mean(axis=(0, 2, 3)) for maps, _, _ in each], axis=0)
        found = {
            "cosine of path maps": float(np.mean([cosine for _, cosine, _ in each])),
            "emptiest path": float(seen.min()),
        }
        for block, values in enumerate(zip(*(heads for _, _, heads in each), strict=True), start=1):
            found[f"head similarity, block {block}"] = float(np.mean(values))
        return found
    if name == "cclls":
        from mien.methods.cclls import learning_intensity

        method.train()
        if frozen:  # as in the run
            initialise.freeze_norms(method)
        torch.manual_seed(0)
        ratios = np.stack([learning_intensity(method, batch).numpy() for batch in faces[:16]])
        ratios = (ratios / ratios[:, -1:]).mean(axis=0)
        method.eval()
        return {f"R_{layer}": float(value) for layer, value in enumerate(ratios[:-1], start=1)}
    if name == "ke2nt" and hasattr(method, "transformer"):
        near, far, neutral, towards, other = [], [], [], [], []
        unit = torch.nn.functional.normalize
        texts = unit(method.texts, dim=1)
        for batch in faces:
            versions = method.versions(batch.image)
            strong = batch.expression != NEUTRAL
            own = texts[batch.expression[strong]]
            emotional, flat = unit(versions.emotional[strong], dim=1), unit(versions.neutral[strong], dim=1)
            near += (emotional * own).sum(dim=1).tolist()
            far += (flat * own).sum(dim=1).tolist()
            cosines = flat @ texts.T
            neutral += (cosines.argmax(dim=1) == NEUTRAL).tolist()
            towards += cosines[:, NEUTRAL].tolist()
            cosines[:, NEUTRAL] = -1
            other += cosines.amax(dim=1).tolist()
        return {
            "cos(f_e, t_y)": float(np.mean(near)),
            "cos(f_n, t_y)": float(np.mean(far)),
            "cos(f_n, t_n)": float(np.mean(towards)),
            "cos(f_n, nearest other text)": float(np.mean(other)),
            "neutral version nearest neutral": float(np.mean(neutral)),
        }
    return {}


def spread(values: NDArray[np.float64]) -> str:
    """Mean and 95 % interval over faces, in points of a hundred."""
    drawn = bootstrap.PLAIN.means(values)
    found = bootstrap.interval(values.mean(), drawn)
    return f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def main() -> None:
    """Measure the runs named on the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--limit", type=int, help="judge only this many faces of a set (for trials)")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    groups: dict[str, list[Path]] = {}
    for folder in chosen.runs:
        groups.setdefault(without_seed(folder.name), []).append(folder)
    print(
        f"| network | seeds | accuracy, % | under a grey square of {SHARE:.0%}, % | drop, points | its own figures |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for group, folders in groups.items():
        wholes, covereds, numbers = [], [], []
        for folder in folders:
            config = load_config(folder / "config.yaml", [])
            faces = batches(load_split(config.data, ("test",))["test"])
            faces = faces[: max(1, chosen.limit // BATCH)] if chosen.limit else faces
            method = checkpoint.load(folder / "weights.safetensors").restore()
            assert isinstance(method, Recognition)
            whole, covered = hits(method, faces)
            wholes.append(whole)
            covereds.append(covered)
            numbers.append(own_figures(method, str(config.method["name"]), faces, config.norms == "frozen"))
        whole, covered = np.mean(wholes, axis=0), np.mean(covereds, axis=0)
        own = "; ".join(f"{key} {np.mean([one[key] for one in numbers]):.3f}" for key in numbers[0])
        print(
            f"| {group} | {len(folders)} | {spread(whole)} | {spread(covered)} | {spread(whole - covered)} | {own} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
