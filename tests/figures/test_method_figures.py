"""The three methods' own figures: what they measure is what the network does, and they draw it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mien.errors import ConfigError, MienError
from mien.figures import intensity, paths, transformation
from mien.methods.jadfer import JADFER, JADFERConfig, head_similarity
from mien.methods.ke2nt import KE2NT, KE2NTConfig

IMAGES = torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def jadfer() -> JADFER:
    torch.manual_seed(0)
    return JADFER(JADFERConfig(backbone="tiny", width=32, paths=3), 64)


def test_measured_paths_and_heads_are_the_networks(jadfer: JADFER) -> None:
    maps, alike, heads = paths.measure(jadfer, IMAGES)
    with torch.no_grad():
        sight = jadfer.eval().look(IMAGES)[1]
    np.testing.assert_array_equal(maps, sight.maps.numpy())
    assert heads == pytest.approx([float(head_similarity(each)) for each in sight.weights])
    flat = maps.reshape(12, 3, -1)
    flat = flat / np.linalg.norm(flat, axis=2, keepdims=True)
    slow = np.mean([face[m] @ face[n] for face in flat for m, n in ((0, 1), (0, 2), (1, 2))])
    assert alike == pytest.approx(slow, rel=1e-5)


def test_paths_are_drawn_a_row_a_face_with_each_map_over_it(jadfer: JADFER) -> None:
    crops = np.full((2, 16, 16), 128, dtype=np.uint8)
    maps = np.zeros((2, 3, 4, 4), dtype=np.float32)
    maps[:, 1, 0, 0] = 1.0
    figure = paths.draw(crops, maps, ["one", "two"])
    shown = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert len(shown) == 8
    hot, cold = np.asarray(shown[2], dtype=float), np.asarray(shown[1], dtype=float)
    assert np.abs(hot[:3, :3] - 128).max() > 10, "path 2 is tinted where it looks"
    assert np.abs(hot[-3:, -3:] - 128).max() <= 2, "and nowhere else"
    assert np.abs(cold - 128).max() <= 2, "a flat map tints nothing"


def test_head_bars_stand_at_their_values() -> None:
    figure = paths.heads({"without": [0.9, 0.8], "with": [0.5, 0.4]})
    heights = sorted(round(bar.get_height(), 6) for bar in figure.axes[0].patches)
    assert heights == [0.4, 0.5, 0.8, 0.9]


def test_a_network_without_paths_is_refused() -> None:
    bare = JADFER(JADFERConfig(backbone="tiny", width=32, paths=0, interaction=False, variety="off"), 64)
    with pytest.raises(MienError, match=r"method\.paths"):
        paths.measure(bare, IMAGES)


def test_intensity_bars_are_ratios_to_the_deepest_layer() -> None:
    figure = intensity.draw(
        {"base": [1.0, 2.0, 4.0, 8.0], "both": [[4.0, 4.0, 4.0, 4.0], [8.0, 4.0, 4.0, 4.0]]}
    )
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == pytest.approx([0.125, 0.25, 0.5, 1.5, 1.0, 1.0])
    with pytest.raises(MienError, match="different numbers"):
        intensity.draw({"a": [1.0, 1.0], "b": [1.0, 1.0, 1.0]})
    with pytest.raises(MienError, match="zero"):
        intensity.draw({"a": [0.0, 1.0]})


def test_transformation_draws_every_face_version_and_text() -> None:
    torch.manual_seed(0)
    network = KE2NT(KE2NTConfig(backbone="tiny"), 64)
    emotional, neutral, texts = transformation.measure(network, IMAGES)
    with torch.no_grad():
        np.testing.assert_allclose(neutral, network.transformer(network.feature(IMAGES)).numpy(), rtol=1e-5)
    expression = [n % 8 for n in range(12)]
    plane, histogram = transformation.draw(emotional, neutral, texts, expression).axes
    assert sum(len(dots.get_offsets()) for dots in plane.collections) == 24
    assert {note.get_text() for note in plane.texts} >= {"neutral", "contempt"}
    # Two of the twelve faces are neutral and stay out of the histogram: ten faces and ten versions.
    assert sum(bar.get_height() for bar in histogram.patches) == 20


def test_a_network_without_transformation_is_refused() -> None:
    bare = KE2NT(KE2NTConfig(backbone="tiny", transform_weight=0, contrast_weight=0), 64)
    with pytest.raises(ConfigError, match="neutral versions"):
        transformation.measure(bare, IMAGES)
