"""The methods' own figures: what they measure is what the network does, they draw it, and `mien figures` finds them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mien.data.cropping import Crops
from mien.data.predictions import Predictions, RunInfo
from mien.errors import ConfigError, MienError
from mien.evaluation.inference import Model
from mien.figures import context, embedding
from mien.figures.methods import cclls as intensity
from mien.figures.methods import jadfer as paths
from mien.figures.methods import ke2nt as transformation
from mien.figures.methods import meca as polar
from mien.methods import build
from mien.methods.jadfer import JADFER, JADFERConfig, head_similarity
from mien.methods.ke2nt import KE2NT, KE2NTConfig
from mien.methods.meca import MECA, MECAConfig
from mien.reports import figure_set

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
    flat = flat - flat.mean(axis=2, keepdims=True)
    flat = flat / np.linalg.norm(flat, axis=2, keepdims=True)
    slow = np.mean([face[m] @ face[n] for face in flat for m, n in ((0, 1), (0, 2), (1, 2))])
    assert alike == pytest.approx(slow, rel=1e-4)


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
    faint = intensity.draw({"a": [0.01, 0.02, 1.0]}).axes[0]
    assert faint.get_yscale() == "log"
    assert faint.get_ylim()[0] <= 0.005, "the smallest bar has a length"
    assert [text.get_text() for text in faint.texts] == ["0.01", "0.02"]
    with pytest.raises(MienError, match="different numbers"):
        intensity.draw({"a": [1.0, 1.0], "b": [1.0, 1.0, 1.0]})
    with pytest.raises(MienError, match="zero"):
        intensity.draw({"a": [0.0, 1.0]})


def test_transformation_draws_every_face_version_and_text() -> None:
    torch.manual_seed(0)
    network = KE2NT(KE2NTConfig(backbone="tiny"), 64)
    emotional, neutral, texts = transformation.measure(network, IMAGES)
    with torch.no_grad():
        np.testing.assert_allclose(
            neutral, network.versions_of(network.feature(IMAGES)).neutral.numpy(), rtol=1e-5
        )
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


@pytest.fixture(scope="module")
def meca() -> MECA:
    torch.manual_seed(0)
    return MECA(MECAConfig(backbone="tiny", width=32, code=8), 64)


def test_codes_are_drawn_at_their_length_and_maps_sum_to_one(meca: MECA) -> None:
    direction, length, axes, maps = polar.measure(meca, IMAGES)
    with torch.no_grad():
        code = meca.eval().encode(IMAGES)
    np.testing.assert_allclose(length[:, None] * direction, code.z.numpy(), rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(axes, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(maps.sum(axis=(2, 3)), 1, rtol=1e-4)
    words = ["happiness", "anger", "neutral"] * 4
    strong = length / length.max()
    strong[0] = np.nan
    left, right = polar.draw(direction, length, axes, words, strong).axes
    spots = np.concatenate([one.get_offsets() for one in left.collections])
    np.testing.assert_allclose(sorted(np.linalg.norm(spots, axis=1)), sorted(length), rtol=1e-5)
    assert right.get_title("right") == "Spearman 1.00"
    rays = [line for line in left.lines if len(line.get_xdata()) == 2]
    assert len(rays) == len(polar.OTHERS) == 7


def test_attention_rows_have_a_column_for_each_expression_but_neutral() -> None:
    crops = np.full((2, 16, 16), 128, dtype=np.uint8)
    maps = np.full((2, 7, 4, 4), 1e-4, dtype=np.float32)
    maps[:, 3, 3, 3] = 0.5
    figure = polar.attention(crops, maps, ["anger", "fear"])
    shown = [np.asarray(axis.images[0].get_array(), dtype=float) for axis in figure.axes if axis.images]
    assert len(shown) == 16
    assert np.abs(shown[4][-3:, -3:] - 128).max() > 10, "the map of the fourth expression is hot below right"
    assert np.abs(shown[4][:3, :3] - 128).max() <= 6, "and cold above left"
    assert polar.OTHERS[3] == "anger"
    assert figure.axes[4].get_title() == "anger"


def test_persons_are_coloured_most_frequent_first() -> None:
    flat = np.random.default_rng(0).normal(size=(30, 2))
    people = ["anna"] * 12 + ["ben"] * 10 + ["cleo"] * 8
    left, right = embedding.by_person(flat, np.linspace(0, 1, 30), people, most=2).axes[:2]
    assert len(left.collections[0].get_offsets()) == 30
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["anna (12)", "ben (10)"]
    assert [len(one.get_offsets()) for one in right.collections] == [8, 12, 10]


def scene_of(method, name: str, **changes):
    """A gallery's scene of 24 drawn-up faces with labels, votes, affect and subjects."""
    random = np.random.default_rng(0)
    truth = np.arange(24) % 8
    facts = {
        "votes": 0.8 * np.eye(8)[truth] + 0.025,
        "affect_truth": random.uniform(-1, 1, (24, 2)),
        "embedding": random.normal(size=(24, 6)).astype(np.float32),
        "subjects": tuple(f"s{i % 3}" for i in range(24)),
        "provenance": RunInfo("drawn", method=name),
    } | changes
    predictions = Predictions.of_logits(
        [f"{i}" for i in range(24)], truth, random.normal(size=(24, 8)), **facts
    )
    crops = Crops(
        random.integers(0, 256, (24, 64, 64), dtype=np.uint8),
        np.ones(24, dtype=bool),
        np.zeros((24, 3), np.float32),
    )
    model = Model(None, 64, False, predictions.provenance, module=method)  # type: ignore[arg-type]
    return context.Scene(model, predictions, crops, None, "tsne", 8, 0)


TINY = {
    "ke2nt": {"hidden": 8},
    "jadfer": {"width": 32, "paths": 2},
    "cclls": {"channels": 8},
    "cal": {},
    "meca": {"width": 32, "code": 8},
}


@pytest.mark.parametrize("name", TINY)
def test_each_method_brings_its_figures(name: str) -> None:
    torch.manual_seed(0)
    method = build({"name": name, "backbone": "tiny", **TINY[name]}, 64)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    scene = scene_of(method, name)
    for figure in figure_set.METHOD_FIGURES[name]:
        assert figure_set.draw(scene, figure) is not None, figure
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items()), (
        "drawing changes no weight and no running statistic"
    )
    stranger = next(
        figure
        for other in figure_set.METHOD_FIGURES
        for figure in figure_set.METHOD_FIGURES[other]
        if other != name
    )
    assert figure_set.draw(scene, stranger) is None


def test_what_a_network_or_set_cannot_give_is_left_out() -> None:
    quiet = build({"name": "cal", "backbone": "tiny", "critic": False}, 64)
    scene = scene_of(quiet, "cal", subjects=(), votes=np.empty((0, 0)), affect_truth=np.empty((0, 2)))
    assert all(figure_set.draw(scene, name) is None for name in figure_set.METHOD_FIGURES["cal"])
    plain = build({"name": "ke2nt", "backbone": "tiny", "transform_weight": 0.0, "contrast_weight": 0.0}, 64)
    assert figure_set.draw(scene_of(plain, "ke2nt"), "neutral") is None
    assert set(figure_set.KNOWN) >= {"neutral", "paths", "heads", "intensity", "margin", "groups", "polar"}
