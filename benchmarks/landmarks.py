"""Error, presence and speed of the shipped landmark network against its teacher, on faces that training did not see.

    python benchmarks/landmarks.py configs/landmarks.yaml --backgrounds DIR [--set labels=DIR ...]

Faces: FERPlus test (48 px), a tenth of muxspace's and DiffusionFER's people, rendered identities. A face's box comes
from its points and is then moved and scaled by up to 8 % and 15 %, as a detector's would be. Error: mean distance to
the teacher's points over that of the outer eye corners, in percent, with a 95 % bootstrap interval over faces.
Speed is processor time on one thread, so that other work on the machine does not count.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer

from mien.config import read_tree
from mien.faces.landmarker import MARGIN, SIDE, Landmarker
from mien.training.landmarks.crops import Draws, read_backgrounds, read_faces
from mien.training.landmarks.train import configured, interval, measure


def main(
    config: Path,
    backgrounds: Annotated[Path, typer.Option(help="pictures and videos held out from training")],
    weights: Path | None = None,
    assign: Annotated[list[str] | None, typer.Option("--set")] = None,
    limit: int = 1000,
) -> None:
    """Measure and print."""
    settings = configured(read_tree(config, assign), str(config))
    cv2.setNumThreads(1)
    sets = read_faces(settings.labels, settings.roots, settings.head is not None)
    train = sets.pop("train")
    for looks in (1, 2):
        landmarker = Landmarker.load(weights, threads=1)
        landmarker.looks = looks
        for name, faces in sets.items():
            some = faces.take(
                np.linspace(0, len(faces.images) - 1, min(limit, len(faces.images))).astype(int)
            )
            for pixels in (48,) if name == "ferplus" else (128, 48):
                by_point, presence, pose = measure(landmarker, some, pixels)
                errors = np.nanmean(by_point, axis=1)
                print(
                    f"{looks} look(s) {name:12} {pixels:3} px n={len(errors)} error {interval(errors)} % "
                    f"median {np.median(errors):.2f} % kept {interval(100.0 * (presence > 0.5))} % "
                    f"pose off by {np.round(pose.mean(axis=0), 1).tolist()}"
                )
        draws = Draws(train, read_backgrounds((backgrounds,)), settings.batch, settings.negatives, 9)
        patches = [draws.elsewhere() for _ in range(4000)]
        margin = SIDE / 2 / MARGIN  # the box whose square is the whole crop
        whole = np.array([[SIDE / 2 - 0.5 - margin] * 2 + [SIDE / 2 - 0.5 + margin] * 2])
        seen = np.concatenate([landmarker(cv2.cvtColor(p, cv2.COLOR_GRAY2RGB), whole)[1] for p in patches])
        print(
            f"{looks} look(s) background crops taken for faces n={len(seen)} {interval(100.0 * (seen > 0.5))} %"
        )
        picture = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), dtype=np.uint8)
        for count in (1, 8):
            boxes = np.tile([[400, 200, 528, 360]], (count, 1)).astype(np.float32)
            landmarker(picture, boxes)
            times = []
            for _ in range(50):
                begun = time.process_time()
                landmarker(picture, boxes)
                times.append((time.process_time() - begun) / count * 1000)
            print(
                f"{looks} look(s) {count} face(s) a picture: "
                f"{np.median(times):.2f} ms of processor time a face, best {min(times):.2f}"
            )


if __name__ == "__main__":
    typer.run(main)
