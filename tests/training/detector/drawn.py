"""Faces and photographs to compose scenes of, and a folder of sources as the recipe makes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mien.data.synthetic.drawings import faces as drawn_faces
from mien.io import images
from mien.training.detector.sources import Background, FaceSources, ellipse_of, five_points


def face_sources(count: int = 6, size: int = 96) -> FaceSources:
    """Drawn faces, the first of them grey."""
    drawn = list(drawn_faces(count, size=size))
    marks = np.stack([face.landmarks for face in drawn]).astype(np.float64)
    pixels = [np.asarray(face.pixels) for face in drawn]
    pixels[0] = np.ascontiguousarray(pixels[0][..., 0])
    return FaceSources(pixels, five_points(marks), np.stack([ellipse_of(face) for face in marks]))


def photographs(count: int = 3) -> list[Background]:
    """Ramps of colours; the second has a place that is taken for a face."""
    random = np.random.default_rng(4)
    found = []
    for number in range(count):
        ramp = np.linspace(0, 255, 240 * 300).reshape(240, 300, 1) * random.uniform(0.3, 1, 3)
        alarms = np.array([[100.0, 80, 140, 130]]) if number == 1 else np.empty((0, 4))
        found.append(Background(ramp.astype(np.uint8), f"place {number % 2}", alarms))
    return found


def sources_folder(folder: Path, faces: int = 24) -> dict[str, object]:
    """Write the files of `mien.training.detector.sources` for drawn faces in muxspace's layout; returns the keys of a
    configuration that name them."""
    root, kept = folder / "muxspace", folder / "sources"
    (root / "images").mkdir(parents=True)
    kept.mkdir()
    drawn = list(drawn_faces(faces, size=128))
    names = [f"Person{number}_0001.png" for number in range(faces)]
    for name, face in zip(names, drawn, strict=True):
        images.write(root / "images" / name, face.pixels)
    np.savez(
        kept / "muxspace.npz",
        names=names,
        points=np.stack([face.landmarks for face in drawn]).astype(np.float32),
        presence=np.ones(faces, np.float32),
        sure=np.arange(faces) != 1,
    )
    pictures = [one.image for one in photographs(8)]
    np.savez(
        kept / "backgrounds.npz",
        places=["one"] * 8,
        names=[f"{number}.png" for number in range(8)],
        shapes=[picture.shape[:2] for picture in pictures],
        pixels=np.concatenate([picture.ravel() for picture in pictures]),
        alarms=np.array([[0, 10, 10, 60, 70]], np.float32),
    )
    return {"muxspace": str(root), "sources": str(kept), "backgrounds": []}
