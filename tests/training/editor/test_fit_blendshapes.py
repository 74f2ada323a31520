"""The smile of generated faces in the fit of the geometry."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from mien.editing.geometry import ACTIVE, Geometry, lip_gap
from mien.landmarks import CHIN, LEFT_BROW, LEFT_MOUTH_CORNER, OUTER_LIPS, POINTS, RIGHT_MOUTH_CORNER
from mien.training.editor.fit_blendshapes import SMILE_LIPS, generated_smiles, mixed_smile

HAPPY = ACTIVE.index("happiness")


def faces(geometry: Geometry, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Faces of which half smile: corners out by 0.06 and up by 0.1, on noise of a hundredth; lips part at random."""
    random = np.random.default_rng(0)
    smiles = np.arange(count) % 2 == 0
    gap = random.uniform(0, 0.1, count)
    shapes = (
        geometry.mean
        + gap[:, None, None] * geometry.opening
        + random.normal(0, 0.005, (count, len(POINTS), 2))
    )
    shapes[smiles, RIGHT_MOUTH_CORNER] += [-0.06, -0.1]
    shapes[smiles, LEFT_MOUTH_CORNER] += [0.06, -0.1]
    return shapes, smiles


def test_the_smile_of_generated_faces_is_found_and_mixed() -> None:
    geometry = Geometry.load()
    arrays = asdict(geometry)
    mixed = mixed_smile(arrays, *faces(geometry))
    before, after = arrays["basis"][HAPPY], mixed["basis"][HAPPY]
    shown = (after[LEFT_MOUTH_CORNER] - (1 - SMILE_LIPS) * before[LEFT_MOUTH_CORNER]) / SMILE_LIPS
    np.testing.assert_allclose(shown, [0.06, -0.1], atol=0.02)
    np.testing.assert_array_equal(after[LEFT_BROW], before[LEFT_BROW])
    others = [n for n in range(len(ACTIVE)) if n != HAPPY]
    np.testing.assert_array_equal(mixed["basis"][others], arrays["basis"][others])
    assert arrays["basis"][HAPPY] is not mixed["basis"][HAPPY]


def test_the_shipped_smile_raises_more_than_it_widens() -> None:
    geometry = Geometry.load()
    moved = geometry.displacement(np.eye(len(ACTIVE))[HAPPY], 0.04) + 0.04 * geometry.opening
    out = (moved[LEFT_MOUTH_CORNER, 0] - moved[RIGHT_MOUTH_CORNER, 0]) / 2
    up = -(moved[LEFT_MOUTH_CORNER, 1] + moved[RIGHT_MOUTH_CORNER, 1]) / 2
    assert up > 1.1 * out
    assert abs(moved[CHIN, 1]) < 0.02
    assert abs(moved[OUTER_LIPS.start + 15, 1]) < 0.03


def test_generated_faces_are_read_by_their_folder(tmp_path: Path) -> None:
    geometry = Geometry.load()
    points = np.stack([geometry.mean * 50 + 100] * 3)
    points[1] += 7
    np.savez(
        tmp_path / "points.npz", names=np.array(["happy/a.jpg", "neutral/b.jpg", "sad/c.jpg"]), points=points
    )
    shapes, smiles = generated_smiles(tmp_path / "points.npz")
    assert smiles.tolist() == [True, False]
    assert lip_gap(shapes[0]) == pytest.approx(lip_gap(geometry.mean))
