"""Faces whose points and pose are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mien.data.synthetic.drawings import faces as drawn_faces
from mien.landmarks import RIGHT_EYE_CORNERS
from mien.training.landmarks import teacher
from mien.training.landmarks.crops import LandmarkFaces

TURNED = np.array([20.0, -10.0, 5.0])


def rigid_of(count: int) -> np.ndarray:
    """Rigid vertices of heads turned by `TURNED`, as the teacher gives them: y down, z away from the viewer."""
    from mien.data.synthetic.head import rotation

    return np.tile((teacher._STRAIGHT @ rotation(TURNED).T) * [1, -1, -1], (count, 1, 1)).astype(np.float32)


def tree_of(ferplus: tuple[Path, Path], out: Path, **more: object) -> dict[str, object]:
    root, labels = ferplus
    method = {"name": "landmarks", "widths": [4, 4, 8, 8]}
    places = {"labels": str(labels), "ferplus": str(root), "out": str(out)}
    return {"method": method, **places, "steps": 3, "batch": 4, "workers": 0, **more}


def faces_with_a_dot(count: int = 12) -> LandmarkFaces:
    """Grey faces of 100 px with a white dot at the right eye's outer corner."""
    random, drawn = np.random.default_rng(0), list(drawn_faces(count, size=100))
    pictures = []
    for face in drawn:
        picture = np.full((100, 100), 60, np.uint8)
        x, y = np.round(face.landmarks[RIGHT_EYE_CORNERS[0]]).astype(int)
        picture[y - 2 : y + 3, x - 2 : x + 3] = 255
        pictures.append(picture)
    return LandmarkFaces(
        pictures, np.stack([face.landmarks for face in drawn]), random.normal(0, 5, (count, 3))
    )
