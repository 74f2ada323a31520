"""Render a small head of our own: a ball that can grow wider and smile. Usage: make.py OUT [heads]"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from mien.data.readers import rendered as heads
from mien.data.synthetic.head import SKIN, Head, Renderer
from mien.landmarks import NOSE_TIP, POINTS


def head() -> Head:
    """A ball of 18 cm with one mode of identity and one blendshape a side."""
    rows, columns = 16, 33
    latitude, longitude = np.meshgrid(
        np.linspace(-1.5, 1.5, rows), np.linspace(-np.pi, np.pi, columns), indexing="ij"
    )
    ball = [np.cos(latitude) * np.sin(longitude), np.sin(latitude), np.cos(latitude) * np.cos(longitude)]
    vertices = (9 * np.stack(ball, axis=-1).reshape(-1, 3) + [0, 0, 3]).astype(np.float32)
    grid = np.arange(rows * columns).reshape(rows, columns)
    quads = np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]], axis=-1).reshape(-1, 4)
    smile = np.zeros((2, *vertices.shape), np.float32)
    for side, sign in enumerate((1, -1)):
        smile[side, (vertices[:, 0] * sign > 1) & (vertices[:, 1] < -2), 1] = 1.5
    points = np.full(len(POINTS), -1, np.intp)
    places = ((NOSE_TIP, (0, 0, 12)), (0, (-8, 0, 5)), (1, (8, 0, 5)), (2, (0, -8, 5)))
    for point, place in places:
        points[point] = np.linalg.norm(vertices - place, axis=1).argmin()
    front = np.flatnonzero((vertices[:, 2] > 10) & (np.abs(vertices[:, 1]) < 4))
    none = np.zeros(len(vertices), np.float32)
    return Head(
        neutral=vertices,
        identity=(vertices * np.array([0.05, 0, 0], np.float32))[None],
        expression=smile,
        names=("mouthSmile_L", "mouthSmile_R"),
        quads=quads,
        part=np.full(len(vertices), SKIN, np.intp),
        points=points,
        irises=(front[vertices[front, 0] < 0], front[vertices[front, 0] > 0]),
        brow=none,
        lip=none,
        hair=none,
        beard=none,
        eyeballs=(np.zeros(0, np.intp),) * 2,
    )


def make(root: Path, variant: str = "heads") -> None:
    """Write 4 persons in 5 pictures of 32 pixels."""
    assert variant == "heads"
    heads.write(Renderer(head(), size=32), root, 4, 5, seed=1)


if __name__ == "__main__":
    make(Path(sys.argv[1]), *sys.argv[2:3])
