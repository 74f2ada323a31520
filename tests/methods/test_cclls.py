"""CCLLS: geometry against the published table, losses against slow loops, and the acceptance checks M3-a to M3-c."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from mien.errors import ConfigError
from mien.methods.base import Batch, Terms
from mien.methods.cclls import (
    CCLLS,
    CCLLSConfig,
    Clusters,
    Fit,
    MultiScale,
    centred,
    fit,
    hard_peaks,
    kmeans,
    learning_intensity,
    misalignment,
    nearest,
    soft_peaks,
)


def method(**options) -> CCLLS:
    torch.manual_seed(0)
    return CCLLS(CCLLSConfig(backbone="tiny", **options), 64)


# Geometry


def test_geometry_is_the_published_table_at_224() -> None:
    assert fit([56, 28, 14, 7], 11) == [
        Fit(2, 4, 11, 1),
        Fit(4, 8, 11, 3),
        Fit(8, 16, 10, 2),
        Fit(16, 32, 8, 0),
    ]


def test_geometry_of_small_images() -> None:
    assert fit([16, 8, 4, 2], 5) == [
        Fit(2, 4, 7, 0),
        Fit(4, 4, 7, 0),
        Fit(8, 8, 6, 0),
        Fit(16, 16, 4, 0),
    ]  # 64 px
    assert fit([24, 12, 6, 3], 5) == [
        Fit(2, 4, 11, 0),
        Fit(4, 8, 10, 0),
        Fit(8, 16, 8, 0),
        Fit(16, 32, 4, 0),
    ]  # 96 px


RESNET = {
    size: [(64, size // 4), (128, size // 8), (256, size // 16), (512, -(-size // 32))]
    for size in (64, 80, 96, 112, 224)
}
MOBILE = {
    size: [(64, size // 4), (128, size // 8), (128, size // 16), (512, size // 16)]
    for size in (64, 80, 96, 112, 224)
}
SWIN = {224: [(96, 56), (192, 28), (384, 14), (768, 7)]}
TINY = {size: [(16, size // 2), (32, size // 4), (32, size // 8), (32, size // 16)] for size in (32, 64)}


@pytest.mark.parametrize(
    "shapes", [*RESNET.values(), *MOBILE.values(), *SWIN.values(), *TINY.values()], ids=str
)
def test_every_size_reaches_the_grid_with_all_of_the_map_in_view(shapes: list[tuple[int, int]]) -> None:
    fusion = MultiScale(shapes, channels=2).eval()
    maps = [torch.rand(1, channels, side, side, requires_grad=True) for channels, side in shapes]
    fused = fusion(maps)
    grid = 11 if shapes[0][1] >= 56 else 5
    assert fused.shape == (1, grid**2)
    fused.sum().backward()
    for one in maps:
        touched = one.grad.abs().sum(dim=(0, 1)) > 0
        assert touched[0].any(), "the first row is seen"
        assert touched[-1].any(), "the last row is seen"
    assert touched.all(), "the deepest map is seen whole"


def test_maps_too_small_for_the_grid_are_refused() -> None:
    with pytest.raises(ConfigError, match="larger images"):
        fit([2, 1, 1, 1], 11)


# The batch's mean, M3-a


def test_running_mean_is_the_mean_at_first_and_the_batch_does_not_matter_later(drawn) -> None:
    fusion = MultiScale([(16, 32), (32, 16), (32, 8), (32, 4)], channels=8)
    maps = [torch.rand(6, channels, side, side) for channels, side in ((16, 32), (32, 16), (32, 8), (32, 4))]
    fused = fusion.train()(maps)
    # In training each vector is cells + mean(cells), whose mean is twice the mean cell.
    torch.testing.assert_close(fused.mean(dim=0), 2 * fusion.ambient.flatten(), rtol=1e-4, atol=1e-5)
    fusion.eval()
    together, alone = fusion(maps), fusion([one[2:3] for one in maps])
    torch.testing.assert_close(together[2:3], alone, rtol=1e-5, atol=1e-6)


# k-means


def test_kmeans_finds_separate_blobs() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    torch.manual_seed(1)
    points = (centres.repeat_interleave(20, dim=0) + 0.1 * torch.randn(60, 2))[torch.randperm(60)]
    found = kmeans(points[None], 3).centroids[0]
    assert torch.cdist(found, centres).amin(dim=0).max() < 0.15


def test_kmeans_of_a_batch_is_each_set_by_itself_and_a_fixed_point_of_lloyd() -> None:
    torch.manual_seed(2)
    points = torch.rand(3, 50, 4)
    found = kmeans(points, 4, steps=100)
    for one, centroids, member in zip(points, found.centroids, found.member, strict=True):
        torch.testing.assert_close(kmeans(one[None], 4, steps=100).centroids[0], centroids)
        assert torch.equal(member, torch.cdist(one, centroids).argmin(dim=1))
        for cluster in range(4):
            torch.testing.assert_close(
                one[member == cluster].mean(dim=0), centroids[cluster], rtol=1e-3, atol=1e-4
            )


@pytest.mark.parametrize(
    "points",
    [
        torch.zeros(2, 10, 3),
        torch.ones(1, 2, 3),
        torch.eye(3)[None].repeat(1, 5, 1),
        torch.full((1, 1, 4), 1e4),
    ],
    ids=["all alike", "fewer than clusters", "three places", "one point"],
)
def test_kmeans_is_finite_whatever_the_points(points: torch.Tensor) -> None:
    found = kmeans(points, 8).centroids
    assert torch.isfinite(found).all()
    low, high = points.amin(dim=1, keepdim=True), points.amax(dim=1, keepdim=True)
    assert ((found >= low - 1e-5) & (found <= high + 1e-5)).all(), "centroids stay among the points"


# Contrast


def by_cosine(items: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    return misalignment(items, Clusters(centroids, nearest(items, centroids)))


def slow_misalignment(items: np.ndarray, centroids: np.ndarray) -> float:
    def cosine(one: np.ndarray, other: np.ndarray) -> float:
        return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))

    values = []
    for some, centres in zip(items, centroids, strict=True):
        members: dict[int, list[np.ndarray]] = {k: [] for k in range(len(centres))}
        for item in some:
            members[int(np.argmax([cosine(item, centre) for centre in centres]))].append(item)
        for k, centre in enumerate(centres):
            values.append(cosine(np.mean(members[k], axis=0), centre) if members[k] else 0.0)
    return -0.5 * float(np.mean(values))


def test_misalignment_equals_a_slow_loop() -> None:
    random = np.random.default_rng(0)
    items, centroids = random.standard_normal((3, 12, 5)), random.standard_normal((3, 4, 5))
    expected = slow_misalignment(items, centroids)
    assert by_cosine(torch.from_numpy(items), torch.from_numpy(centroids)).item() == pytest.approx(
        expected, rel=1e-6
    )


def test_misalignment_by_hand_and_at_its_limits() -> None:
    centroids = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    assert by_cosine(3 * centroids, centroids).item() == pytest.approx(-0.5)
    # Both items are nearest the first centroid; their mean (2, 1)/2 has cosine 2/sqrt(5) with it; the other has none.
    items = torch.tensor([[[1.0, 0.5], [1.0, 0.5]]])
    assert by_cosine(items, centroids).item() == pytest.approx(-0.25 * 2 / 5**0.5)
    swapped = Clusters(centroids, torch.tensor([[1, 0]]))
    assert misalignment(centroids, swapped).item() == pytest.approx(0), "members are taken as they are given"
    order = torch.randperm(9)
    many = torch.rand(1, 9, 2)
    torch.testing.assert_close(by_cosine(many, centroids), by_cosine(many[:, order], centroids))


def test_only_the_right_faces_meet_clusters_of_faces() -> None:
    """CLBS of vectors after a ReLU: shuffled faces and a constant are clearly worse; not so in the literal form."""
    torch.manual_seed(0)
    kinds = torch.rand(8, 64).repeat_interleave(8, dim=0)
    deep, shallow = (torch.relu(kinds + 0.2 * torch.randn(64, 64)) for _ in range(2))
    constant = shallow.mean(dim=0).expand_as(shallow)
    clusters = kmeans(centred(deep)[None], 8)
    right, shuffled, alike = (
        misalignment(centred(each)[None], clusters)
        for each in (shallow, shallow[torch.randperm(64)], constant)
    )
    assert right < -0.4
    assert shuffled > 0.5 * right
    assert alike.abs() < 0.01
    literal = [
        by_cosine(each[None], kmeans(deep[None], 8).centroids)
        for each in (shallow, shallow[torch.randperm(64)])
    ]
    torch.testing.assert_close(literal[0], literal[1])


def test_only_the_right_face_meets_clusters_of_channels() -> None:
    """CLFM: in deep and shallow maps some channels follow one thing that moves, others another, all with noise."""
    torch.manual_seed(0)
    network = method(maps=True, samples=False, layer_weights=(1.0, 0.0, 0.0))

    def peaks(places: torch.Tensor) -> torch.Tensor:
        """Maps [n, channels, 8, 8] with a blob at each place [n, channels, 2]."""
        grid = torch.stack(torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij"), dim=-1)
        return torch.exp(-(grid - places[:, :, None, None]).square().sum(dim=-1) / 2)

    things = torch.rand(16, 4, 2) * 5 + 1
    deep, shallow = (
        peaks(things[:, torch.arange(count) % 4] + 0.5 * torch.randn(16, count, 2)) for count in (32, 16)
    )
    right, other, constant = (
        network.maps([maps, maps, maps], deep)["maps0"].item()
        for maps in (shallow, shallow.roll(1, 0), shallow.mean(dim=0, keepdim=True).expand_as(shallow))
    )
    assert right < -0.35
    assert other > 0.6 * right
    assert abs(constant) < 0.05
    literal = method(maps=True, samples=False, layer_weights=(1.0, 0.0, 0.0), legacy=True)
    same, strange = (literal.maps([maps], deep)["maps0"].item() for maps in (shallow, shallow.roll(1, 0)))
    assert strange < 0.85 * same < -0.35, "the literal form takes another face's codes for this one's"


# Codes, M3-c


def test_codes_point_at_the_two_strongest_cells() -> None:
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 1, 3], maps[0, 0, 2, 0] = 1.0, 0.9
    soft = soft_peaks(maps, 0.01)[0, 0]
    torch.testing.assert_close(soft, torch.tensor([1.5, 3.5, 2.5, 0.5]) / 4, rtol=0, atol=1e-3)
    assert hard_peaks(maps)[0, 0].tolist() == [1, 3, 2, 0]
    (
        torch.testing.assert_close(soft_peaks(100 * maps, 0.01)[0, 0], soft),
        "the scale of a layer does not matter",
    )
    dead = soft_peaks(torch.zeros(1, 1, 4, 4), 0.1)
    assert torch.isfinite(dead).all()


def test_a_channel_that_hardly_fires_gets_no_huge_gradient() -> None:
    maps = torch.rand(1, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    maps[0, 3] *= 1e-5
    maps.requires_grad_()
    soft_peaks(maps, 0.1)[..., 0].sum().backward()
    strength = maps.grad[0].abs().amax(dim=(1, 2))
    assert strength[3] < 2 * strength[[0, 1, 2, 4, 5, 6, 7]].max()


def test_only_soft_codes_pass_a_gradient(drawn) -> None:
    batch = drawn(8)
    for legacy, expected in ((False, True), (True, False)):
        network = method(legacy=legacy, samples=False, affect_weight=0).train()
        _, stages = network.backbone(batch.image)
        term = network.terms(stages[-1].mean(dim=(2, 3)), stages, batch)["maps1"]
        assert term.requires_grad is expected
        if expected:
            (gradient,) = torch.autograd.grad(term, stages[1])
            assert gradient.abs().sum() > 0


def test_the_deep_layer_teaches_and_is_not_taught(drawn) -> None:
    """Centroids pass no gradient: aligning layer 2 leaves the last stage alone, and so does the teacher's own loss."""
    network = method(affect_weight=0).train()
    terms = network(drawn(16), "model")
    torch.stack([terms["samples1"], terms["maps1"], terms["teacher"]]).sum().backward()
    assert network.backbone.layers[1][0].weight.grad.abs().sum() > 0
    assert network.backbone.layers[3][0].weight.grad is None
    assert network.teacher[0].weight.grad.abs().sum() > 0


def taught(
    network: CCLLS, batches: list[Batch], steps: int, rate: float
) -> Iterator[tuple[int, list[Tensor], Terms]]:
    """Train for some steps; before each, (its number, the stages, the terms)."""
    optimiser = torch.optim.Adam(network.train().parameters(), rate)
    for step in range(steps):
        pooled, stages = network.backbone(batches[step % len(batches)].image)
        terms = network.terms(pooled, stages, batches[step % len(batches)])
        yield step, stages, terms
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()


@pytest.fixture(scope="module")
def batches(drawn) -> list[Batch]:
    return [drawn(24, first=3 * number) for number in range(6)]


def test_alignment_weighs_something_and_goes_on_weighing(batches) -> None:
    """Its gradient at the aligned layer relative to cross-entropy's: .02 and more, in steps 0 to 100 of one size."""
    ratios = []
    for step, stages, terms in taught(method(pooled=True, affect_weight=0), batches, 101, 3e-4):
        if step % 20 == 0:
            pull = terms["samples1"] + terms["maps1"]
            strength = [
                torch.autograd.grad(one, stages[1], retain_graph=True)[0].norm()
                for one in (pull, terms["expression"])
            ]
            ratios.append(float(strength[0] / strength[1]))
    assert min(ratios) >= 0.02, ratios
    assert max(ratios) <= 10 * min(ratios), ratios


def test_students_learn_the_faces_that_they_see(drawn, batches) -> None:
    """After training the right faces score clearly better than shuffled ones, also on drawn people not learnt from."""
    network = method(pooled=True, affect_weight=0, maps=False, layer_weights=(0, 0.3, 0))
    for _ in taught(network, batches, 60, 3e-3):
        pass
    network.eval()
    with torch.no_grad():
        stages = network.backbone(drawn(64, first=40).image)[1][-4:]
        deep = network.teacher(stages[-1])
        right, shuffled = (
            network.samples({"1": stages[1][order]}, deep)["samples1"].item() / 0.3
            for order in (torch.arange(64), torch.randperm(64))
        )
    assert right < -0.1
    assert shuffled > 0.5 * right


# Learning intensity, M3-b


def test_learning_intensity_is_the_root_mean_square_gradient(drawn) -> None:
    batch = drawn(4)
    network = method(samples=False, maps=False, affect_weight=0, dropout=0.0).train()
    measured = learning_intensity(network, batch)
    pooled, stages = network.backbone(batch.image)
    for one in stages:
        one.retain_grad()
    network.terms(pooled, stages, batch)["expression"].backward()
    for value, one in zip(measured, stages, strict=True):
        slow = np.mean([image.norm().item() / image.numel() ** 0.5 for image in one.grad])
        assert value.item() == pytest.approx(slow, rel=1e-4)


def test_contrast_raises_the_learning_intensity_of_each_aligned_layer(drawn) -> None:
    """R_l = g_l / g_4 with and without both contrasts, same weights and batch."""
    batch = drawn(32)
    weights = (0.5, 0.5, 0.5)
    ratios = {}
    with_both = method(samples=True, maps=True, layer_weights=weights, dropout=0.0).train()
    without = method(samples=False, maps=False, layer_weights=weights, dropout=0.0).train()
    shared = without.state_dict().keys()
    without.load_state_dict({key: value for key, value in with_both.state_dict().items() if key in shared})
    for contrast, network in ((False, without), (True, with_both)):
        intensity = learning_intensity(network, batch)
        ratios[contrast] = intensity[:3] / intensity[3]
    assert (ratios[True] > ratios[False]).all(), ratios


# Switches


def test_terms_follow_the_switches(drawn) -> None:
    batch = drawn(16)
    assert set(method()(batch, "model")) == {"expression", "affect", "teacher", "samples1", "maps1"}
    assert set(method(samples=False, maps=False, affect_weight=0)(batch, "model")) == {"expression"}
    full = method(layer_weights=(0.1, 0.1, 0.1))(batch, "model")
    assert {"samples0", "samples1", "samples2", "maps0", "maps1", "maps2"} < set(full)
    assert not hasattr(method(fusion=False), "fusion")
    assert method(fusion=False).predict(batch.image).embedding.shape == (16, 32)
    assert method().eval().predict(batch.image).embedding.shape == (16, 25)
    assert method(pooled=True).eval().predict(batch.image).embedding.shape == (16, 57)


def test_term_weights_scale_their_terms(drawn) -> None:
    batch = drawn(16)
    one, two = (method(layer_weights=(0, weight, 0), dropout=0.0)(batch, "model") for weight in (0.1, 0.2))
    assert two["samples1"].item() == pytest.approx(2 * one["samples1"].item(), rel=1e-5)
    assert two["maps1"].item() == pytest.approx(2 * one["maps1"].item(), rel=1e-5)


def test_learns_a_fixed_batch(drawn, overfit) -> None:
    batch, network = drawn(32), method(pooled=True).train()
    before, lowest = overfit(
        lambda: torch.stack(list(network(batch, "model").values())).sum(), network.parameters()
    )
    assert lowest < 0.9 * before
