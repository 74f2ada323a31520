"""The depth of displacements: a sum of blendshapes has the depth of that sum."""

from __future__ import annotations

import numpy as np

from mien.data.synthetic.head import Head
from mien.editing.geometry import FaceFrame
from mien.landmarks import LEFT_IRIS, MIRROR, POINTS, RIGHT_IRIS
from mien.training.editor.fit_blendshapes import HEAD_VERTICES
from mien.training.editor.fit_depths import canonical_head, depth_of


def drawn_head() -> Head:
    """A head of random vertices, but eyes and nose where they belong, and three blendshapes."""
    random = np.random.default_rng(0)
    neutral = random.normal(size=(9000, 3)).astype(np.float32)
    for point, place in {
        33: 0,
        **dict.fromkeys(range(41, 49), -3),
        **dict.fromkeys(range(49, 57), 3),
    }.items():
        neutral[HEAD_VERTICES[point], 0] = place
    neutral[HEAD_VERTICES[68]] = 0, -4, 1
    none = np.zeros(len(neutral), np.float32)
    return Head(
        neutral=neutral,
        identity=np.zeros((0, 9000, 3), np.float32),
        expression=random.normal(size=(3, 9000, 3)).astype(np.float32),
        names=("a", "b", "c"),
        quads=np.zeros((0, 4), np.intp),
        part=np.zeros(9000, np.intp),
        points=np.zeros(len(POINTS), np.intp),
        irises=(np.array([5]), np.array([6])),
        brow=none,
        lip=none,
        hair=none,
        beard=none,
        eyeballs=(np.array([5]), np.array([6])),
    )


def test_the_head_is_symmetric_and_in_the_canonical_frame() -> None:
    head, moved = canonical_head(drawn_head())
    np.testing.assert_allclose(head[MIRROR] * [-1, 1, 1], head, atol=1e-9)
    frame = FaceFrame.of(head[:, :2])
    np.testing.assert_allclose(frame.turn, np.eye(2), atol=1e-6)
    assert moved.shape == (3, len(POINTS), 3)
    assert not moved[:, [RIGHT_IRIS, LEFT_IRIS]].any()


def test_a_sum_of_blendshapes_has_its_depth() -> None:
    _, moved = canonical_head(drawn_head())
    wanted = 0.5 * moved[0] - 0.2 * moved[2]
    deep = depth_of(wanted[None, :, :2], moved)
    np.testing.assert_allclose(deep[0], wanted[:, 2], atol=0.01)
    assert not depth_of(np.zeros((2, len(POINTS), 2)), moved).any()
