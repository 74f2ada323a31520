"""Each figure shows what it says: its marks are read back from the matplotlib objects."""

from __future__ import annotations

import copy
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from mien.errors import MienError
from mien.evaluation import metrics
from mien.evaluation.intervals import Interval
from mien.figures import (
    affect_plane,
    confusion,
    embedding,
    forest_plot,
    image_grid,
    learning_curves,
    reliability,
    saliency,
)
from mien.figures.palette import MARKERS
from mien.labels import CIRCUMPLEX, EXPRESSIONS


def texts(figure) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_confusion_prints_row_shares_and_counts() -> None:
    figure = confusion.draw([[3, 1, 0], [0, 5, 0]], ["neutral", "anger"])
    assert texts(figure) == ["75", "3", "25", "1", "0", "0", "100", "5"]
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), [[0.75, 0.25], [0, 1]])
    assert figure.axes[0].get_ylabel() == "true"


def test_confusion_shows_missed_faces_and_leaves_empty_classes_blank() -> None:
    figure = confusion.draw([[3, 0, 1], [0, 0, 0]], ["neutral", "anger"])
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["neutral", "anger", "no face"]
    assert texts(figure) == ["75", "3", "0", "0", "25", "1"]


def test_reliability_bars_are_the_bins() -> None:
    sure, right = np.array([0.31, 0.32, 0.95, 0.95]), np.array([0, 1, 1, 1])
    bins = metrics.reliability(sure, right)
    figure = reliability.draw(bins, 0.1)
    heights = [bar.get_height() for bar in figure.axes[0].patches[: len(bins)]]
    np.testing.assert_allclose(heights, [0.5, 1.0])
    strip = [bar.get_height() for bar in figure.axes[1].patches]
    np.testing.assert_allclose(strip, [0.5, 0.5])


def test_risk_curves_are_the_arrays() -> None:
    coverage, risk, _ = metrics.risk_coverage([0.9, 0.8, 0.7], [1, 1, 0])
    figure = reliability.risk_coverage({"a": (coverage, risk), "b": (coverage, risk)})
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [0, 0, 1 / 3])
    assert figure.axes[0].get_legend() is not None


def test_plane_holds_points_prototypes_and_rings() -> None:
    points = np.array([[0.5, 0.5], [np.nan, 0.1], [-0.5, 0.2]])
    figure = affect_plane.draw(points, ["happiness", "anger", None])
    axis = figure.axes[0]
    shown = np.concatenate([np.asarray(part.get_offsets()) for part in axis.collections])
    np.testing.assert_allclose(np.sort(shown, axis=0), [[-0.5, 0.2], [0.5, 0.5]])
    assert set(EXPRESSIONS) <= set(texts(figure))
    marks = [
        tuple(float(v[0]) for v in (line.get_xdata(), line.get_ydata()))
        for line in axis.lines
        if len(line.get_xdata()) == 1
    ]
    assert sorted(marks) == sorted(CIRCUMPLEX.values())
    assert sorted(patch.radius for patch in axis.patches) == [0.25, 0.5, 0.75, 1.0]


def test_learning_curves_skip_what_is_not_there(tmp_path) -> None:
    rows = [{"epoch": 0, "loss": 2.0, "accuracy": 0.5}, {"epoch": 1, "loss": float("nan"), "accuracy": 0.6}]
    figure = learning_curves.draw(rows, [["loss"], ["accuracy"], ["absent"]])
    assert len(figure.axes) == 2
    assert list(figure.axes[0].lines[0].get_xdata()) == [0]
    assert list(figure.axes[1].lines[0].get_ydata()) == [0.5, 0.6]
    learning_curves.learning(
        [{"kind": "epoch", **rows[0]}, {"kind": "step", "step": 1}], tmp_path / "curve.png"
    )
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"


def test_curves_of_a_run_say_what_they_show_in_words() -> None:
    events = [
        {"kind": "epoch", "epoch": e, "train_expression": 1.0, "accuracy": 0.5, "ccc_valence": 0.1}
        for e in (0, 1)
    ]
    axes = learning_curves.of_run(events, kept=1).axes
    assert [axis.get_title() for axis in axes] == [
        "training losses", "accuracy on validation", "agreement (CCC) on validation",
    ]  # fmt: skip
    words = [[text.get_text() for text in axis.get_legend().get_texts()] for axis in axes]
    assert words == [[name, "weights kept"] for name in ("expression", "accuracy", "valence")]


def test_learning_intensity_is_relative_to_the_deepest_layer() -> None:
    epochs = [{"layer1": 0.1, "layer2": 0.2}, {"layer1": 0.3, "layer2": 0.4}]
    left, right = learning_curves.learning_intensity({"base": epochs}).axes
    np.testing.assert_allclose(left.lines[0].get_ydata(), [0.3, 0.4])
    np.testing.assert_allclose(right.lines[0].get_ydata(), [0.5, 0.75])


def test_curves_of_several_runs_name_each_setting_once() -> None:
    runs = {
        f"{name}-s{seed}": [{"kind": "epoch", "epoch": e, "accuracy": 0.5 + e / 10} for e in range(3)]
        for name in ("base", "new")
        for seed in range(2)
    }
    axis = learning_curves.several(runs).axes[0]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["base", "new"]
    one, other, third, _ = axis.lines
    assert one.get_color() == other.get_color() != third.get_color()
    np.testing.assert_allclose(one.get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(one.get_ydata(), [0.5, 0.6, 0.7])


def test_layout_repeats_and_keeps_neighbours() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    features = 5 * np.eye(12)[labels] + 0.1 * generator.normal(size=(60, 12))
    flat, spots = embedding.project(features, 5 * np.eye(12)[:3], seed=1)
    again, _ = embedding.project(features, 5 * np.eye(12)[:3], seed=1)
    np.testing.assert_array_equal(flat, again)
    near = np.linalg.norm(flat[:, None] - spots[None], axis=2).argmin(axis=1)
    assert (near == labels).mean() > 0.95
    figure = embedding.draw(flat, [EXPRESSIONS[i] for i in labels], spots, EXPRESSIONS[:3])
    assert sorted(texts(figure)) == sorted(EXPRESSIONS[:3])
    with pytest.raises(MienError, match="at least four"):
        embedding.project(features[:2])


def test_without_umap_one_line_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MienError, match="pip install umap-learn") as caught:
        embedding.project(np.random.default_rng(0).normal(size=(12, 5)), how="umap")
    assert "\n" not in str(caught.value)


def test_umap_lays_out_features_and_prototypes_together(monkeypatch) -> None:
    """The package itself is optional, so its one class is replaced; it was run for real with umap-learn 0.5.12."""
    asked = {}

    class UMAP:
        def __init__(self, **options):
            asked.update(options)

        def fit_transform(self, rows):
            return rows[:, :2]

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=UMAP))
    features = np.random.default_rng(0).normal(size=(12, 5))
    flat, spots = embedding.project(features, features[:2], how="umap", seed=4)
    np.testing.assert_allclose(flat[:2], spots, atol=1e-9)
    assert (flat.shape, asked["random_state"]) == ((12, 2), 4)


def test_forest_draws_each_interval_in_order() -> None:
    figure = forest_plot.draw(
        ["a", "b"], [Interval(0.1, 0.0, 0.2), Interval(-0.1, -0.3, 0.1)], "gap", rule=0.0, scale=100
    )
    axis = figure.axes[0]
    spans = [
        list(line.get_xdata())
        for line in axis.lines
        if len(line.get_xdata()) == 2 and line.get_linewidth() > 2
    ]
    assert spans == [[0, 20], [-30, 10]]
    low, high = axis.get_ylim()
    assert low > high, "the first name stands on top"


def test_grid_places_pictures_in_reading_order() -> None:
    images = [np.full((4, 4), 10 * i, dtype=np.uint8) for i in range(5)]
    figure = image_grid.draw(images, [str(i) for i in range(5)], columns=3, marks=[True] + [False] * 4)
    shown = [int(axis.images[0].get_array()[0, 0]) for axis in figure.axes if axis.images]
    assert shown == [0, 10, 20, 30, 40]
    assert [axis.spines["left"].get_visible() for axis in figure.axes[:2]] == [True, False]
    with pytest.raises(MienError, match="2 captions for 5 pictures"):
        image_grid.draw(images, ["a", "b"])
    with pytest.raises(MienError, match="needs a picture"):
        image_grid.draw([])


SIDE = 32


def spots(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, list[tuple[int, int]]]:
    """Noise with a bright bar, upright (class 0) or lying (class 1): images, classes, and the middle of the bar."""
    random = np.random.default_rng(seed)
    images = random.normal(0, 0.3, (count, 3, SIDE, SIDE)).astype(np.float32)
    classes = random.integers(0, 2, count)
    middles = [(int(y), int(x)) for y, x in random.integers(8, SIDE - 8, (count, 2))]
    for image, lying, (y, x) in zip(images, classes, middles, strict=True):
        tall, wide = (1, 4) if lying else (4, 1)
        image[:, y - tall : y + tall, x - wide : x + wide] = 3
    return torch.from_numpy(images), torch.from_numpy(classes), middles


@pytest.fixture(scope="module")
def reader() -> nn.Module:
    """A small network that tells the bars apart."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2), nn.ReLU(),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 2),
    )  # fmt: skip
    images, classes, _ = spots(256, 1)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(images), classes).backward()
        optimiser.step()
    assert (network(images).argmax(dim=1) == classes).float().mean() > 0.95
    return network.eval()


def hits(maps: np.ndarray, middles: list[tuple[int, int]]) -> float:
    """The share of maps with their maximum on the bar."""
    scale = SIDE / maps.shape[1]
    tops = [np.unravel_index(one.argmax(), one.shape) for one in maps]
    near = [
        max(abs((row + 0.5) * scale - y), abs((column + 0.5) * scale - x)) <= 6
        for (row, column), (y, x) in zip(tops, middles, strict=True)
    ]
    return float(np.mean(near))


def test_occlusion_finds_the_place_that_decides(reader: nn.Module) -> None:
    images, _, middles = spots(40, 2)
    maps = saliency.occlusion(reader, images)
    assert maps.shape == (40, 12, 12)
    assert (maps.min(), maps.max()) == (0, 1)
    assert hits(maps, middles) > 0.8
    asked = saliency.occlusion(reader, images, classes=reader(images).argmax(dim=1).numpy())
    assert np.array_equal(asked, maps), "without a class it is the most probable one"


def test_randomised_weights_change_the_maps(reader: nn.Module) -> None:
    """The sanity check of Adebayo et al. (2018): a map that ignores what was learnt would stay the same."""
    images, classes, middles = spots(40, 3)
    learnt = saliency.occlusion(reader, images, classes)
    alike, found = [], []
    for seed in range(5):
        torch.manual_seed(seed)
        blank = copy.deepcopy(reader)
        for layer in blank.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.reset_parameters()
        maps = saliency.occlusion(blank, images, classes)
        found.append(hits(maps, middles))
        alike.append(
            np.mean([metrics.spearman(a.ravel(), b.ravel()) for a, b in zip(learnt, maps, strict=True)])
        )
    assert np.mean(found) < hits(learnt, middles) - 0.2
    assert np.mean(alike) < 0.5


def test_occlusion_leaves_the_images_as_they_are(reader: nn.Module) -> None:
    images, _, _ = spots(2, 4)
    before = images.clone()
    saliency.occlusion(reader, images)
    assert torch.equal(images, before)


def test_overlay_tints_only_hot_places() -> None:
    crops = np.full((1, 16, 16), 128, dtype=np.uint8)
    heat = np.zeros((1, 4, 4))
    heat[0, 0, 0] = 1
    out = saliency.overlay(crops, heat)
    assert out.shape == (1, 16, 16, 3)
    assert (out[0, 12:, 12:] == 128).all()
    assert np.ptp(out[0, 1, 1]) > 20
    with pytest.raises(MienError, match="one map"):
        saliency.overlay(crops, heat[0])
    assert (
        len(saliency.draw(np.repeat(crops, 3, axis=0), np.repeat(heat, 3, axis=0), ["a"] * 3, columns=2).axes)
        == 8
    )


def test_no_mark_lies_hidden_below_the_disc_of_neutral() -> None:
    figure = embedding.draw(np.eye(2)[[0, 1, 0, 1]], ["fear"] * 4, np.zeros((2, 2)), ["contempt", "neutral"])
    first, last = (line.get_marker() for line in figure.axes[0].lines)
    assert (first, last) == (MARKERS["neutral"], MARKERS["contempt"])
