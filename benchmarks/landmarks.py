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
import yaml

from mien.config import set_key
from mien.landmarks import MARGIN, SIDE, Landmarker, box_of_points
from mien.methods.landmarks import Draws, Faces, LandmarksConfig, inter_ocular, read_backgrounds, read_faces


def interval(values: np.ndarray, seed: int = 0) -> str:
    draws = np.random.default_rng(seed).choice(values, (1000, len(values))).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return f"{values.mean():.2f} [{low:.2f}, {high:.2f}]"


def measure(
    landmarker: Landmarker, faces: Faces, pixels: float | None, noise: float
) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(1)
    errors, presences, poses = [], [], []
    for image, points, pose in zip(faces.images, faces.points, faces.pose, strict=True):
        box = box_of_points(points)
        if pixels is not None and (scale := pixels / (box[3] - box[1])) < 1:
            size = np.round(np.array(image.shape[::-1]) * scale).astype(int)
            points = (points + 0.5) * size / np.array(image.shape[::-1]) - 0.5
            image = cv2.resize(image, size.tolist(), interpolation=cv2.INTER_AREA)
            box = box_of_points(points)
        centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
        centre = centre + noise * random.uniform(-0.16, 0.16, 2) * half
        half = half * np.exp(noise * random.uniform(-0.15, 0.15))
        found, presence, turn = landmarker(
            cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.concatenate([centre - half, centre + half])[None]
        )
        known = np.isfinite(points).all(axis=1)
        errors.append(100 * np.linalg.norm(found[0] - points, axis=1)[known].mean() / inter_ocular(points))
        presences.append(presence[0])
        poses.append(np.abs(turn[0] - pose))
    return np.array(errors), np.array(presences), np.array(poses)


def main(
    config: Path,
    backgrounds: Annotated[Path, typer.Option(help="pictures and videos held out from training")],
    weights: Path | None = None,
    assign: Annotated[list[str] | None, typer.Option("--set")] = None,
    limit: int = 1000,
) -> None:
    tree = yaml.safe_load(config.read_text())
    for assignment in assign or []:
        set_key(tree, assignment)
    settings = LandmarksConfig.model_validate(tree)
    cv2.setNumThreads(1)
    sets = read_faces(settings)
    train = sets.pop("train")
    for looks in (1, 2):
        landmarker = Landmarker.load(weights, threads=1)
        landmarker.looks = looks
        for name, faces in sets.items():
            some = faces.take(
                np.linspace(0, len(faces.images) - 1, min(limit, len(faces.images))).astype(int)
            )
            for pixels in (48,) if name == "ferplus" else (128, 48):
                errors, presence, pose = measure(landmarker, some, pixels, 1.0)
                print(
                    f"{looks} look(s) {name:12} {pixels:3} px n={len(errors)} error {interval(errors)} % "
                    f"median {np.median(errors):.2f} % kept {interval(100.0 * (presence > 0.5))} % "
                    f"pose off by {np.round(pose.mean(axis=0), 1).tolist()}"
                )
        draws = Draws(train, read_backgrounds((backgrounds,)), settings, 9)
        patches = [draws._elsewhere() for _ in range(4000)]
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
