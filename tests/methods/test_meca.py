"""MECA: terms against slow loops and limits, the checks M1-a and M1-b, and learning on drawn faces."""

from __future__ import annotations

import math

import pytest
import torch

from mien.data.cropping import vote_affect
from mien.labels import EXPRESSIONS, NEUTRAL
from mien.methods.meca import (
    MECA,
    MECAConfig,
    contrast,
    info_nce,
    intensities,
    masked_mean,
    overlap,
    rank,
)


def method(**options) -> MECA:
    torch.manual_seed(0)
    return MECA(MECAConfig(backbone="tiny", **options), 64)


def faces(count: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(z, vote shares, intensity) at random."""
    generator = torch.Generator().manual_seed(1)
    shares = torch.rand(count, 8, generator=generator) ** 3
    shares = shares / shares.sum(dim=1, keepdim=True)
    return torch.randn(count, 6, generator=generator), shares, torch.rand(count, generator=generator)


def slow_contrast(z, shares, intensity, labelled, temperature, bandwidth, margin) -> float:
    """The definition, pair by pair, in plain Python."""
    vectors = []
    for row in z.tolist():
        full = [*row, 0.5]
        norm = math.sqrt(sum(x * x for x in full))
        vectors.append([x / norm for x in full])
    total, anchors, n = 0.0, 0, len(vectors)
    for i in range(n):
        scores, weights = {}, {}
        for j in range(n):
            if i == j or not (labelled[i] and labelled[j]):
                continue
            similar = sum(a * b for a, b in zip(vectors[i], vectors[j], strict=True))
            differ = shares[i].argmax() != shares[j].argmax()
            handicap = margin * min(intensity[i].item(), intensity[j].item()) if differ else 0.0
            scores[j] = (similar + handicap) / temperature
            agreement = sum(
                math.sqrt(a * b) for a, b in zip(shares[i].tolist(), shares[j].tolist(), strict=True)
            )
            gap = intensity[i].item() - intensity[j].item()
            weights[j] = agreement * math.exp(-(gap**2) / (2 * bandwidth**2))
        if sum(weights.values()) <= 1e-3:
            continue
        logsum = math.log(sum(math.exp(score) for score in scores.values()))
        total -= sum(weights[j] * (scores[j] - logsum) for j in scores) / sum(weights.values())
        anchors += 1
    return total / max(anchors, 1)


@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_contrast_equals_its_definition(margin: float) -> None:
    z, shares, intensity = faces()
    labelled = torch.ones(12, dtype=torch.bool)
    labelled[3] = False
    fast = contrast(z, shares, intensity, labelled, MECAConfig(margin=margin))
    assert fast.item() == pytest.approx(
        slow_contrast(z, shares, intensity, labelled, 0.15, 0.3, margin), rel=1e-4
    )


def test_strong_faces_of_other_expressions_are_pushed_harder_than_weak_ones() -> None:
    """Check M1-b: an anchor and two rivals at equal cosine; the gradient on the strong pair is strictly larger."""
    rivals = torch.tensor(
        [[1.0, 0.2, 0.0], [0.9, 0.0, 0.1], [0.3, 1.0, 0.0], [0.3, 1.0, 0.0]], requires_grad=True
    )
    shares = torch.eye(8)[[1, 1, 4, 4]]
    intensity = torch.tensor([1.0, 1.0, 1.0, 0.2])
    labelled = torch.tensor([True, True, True, True])
    # Only the anchor's own row counts here: the gradient of its loss with respect to the two rivals.
    unit = torch.nn.functional.normalize(torch.cat([rivals, torch.full((4, 1), 0.5)], dim=1), dim=1)
    assert torch.allclose(unit[0] @ unit[2], unit[0] @ unit[3])
    contrast(rivals, shares, intensity, labelled, MECAConfig(bandwidth=10.0)).backward()
    assert rivals.grad is not None
    assert rivals.grad[2].norm() > rivals.grad[3].norm() * 1.05


def test_contrast_does_not_depend_on_the_order_of_the_batch() -> None:
    z, shares, intensity = faces()
    labelled = torch.ones(12, dtype=torch.bool)
    order = torch.randperm(12)
    first = contrast(z, shares, intensity, labelled, MECAConfig())
    second = contrast(z[order], shares[order], intensity[order], labelled, MECAConfig())
    torch.testing.assert_close(first, second)


def test_closed_gate_reproduces_the_network_without_attention(drawn) -> None:
    """Check M1-a: at the start attention changes no output."""
    batch = drawn(8)
    with_attention, without = method().eval(), method(attention=False).eval()
    without.load_state_dict(with_attention.state_dict(), strict=False)
    a, b = with_attention.predict(batch.image), without.predict(batch.image)
    torch.testing.assert_close(a.logits, b.logits)
    torch.testing.assert_close(a.embedding, b.embedding)
    with torch.no_grad():
        with_attention.gate.fill_(1.0)
    assert not torch.allclose(with_attention.predict(batch.image).logits, b.logits)


def test_attention_maps_are_distributions_over_places(drawn) -> None:
    code = method().eval().encode(drawn(4).image)
    assert code.maps.shape == (4, 7, 16)
    torch.testing.assert_close(code.maps.sum(dim=2), torch.ones(4, 7))


def test_the_code_is_polar(drawn) -> None:
    network = method().eval()
    code = network.encode(drawn(8).image)
    torch.testing.assert_close(code.direction.norm(dim=1), torch.ones(8))
    torch.testing.assert_close(code.z.norm(dim=1), code.length)
    assert (code.length >= 0).all()
    assert (code.length <= 1.2).all()
    # The longer the code, the less neutral; at the origin nothing but neutral speaks.
    lengths = torch.tensor([0.0, 0.3, 0.6, 0.9, 1.2])
    logits = network._logits(code.direction[:1].expand(5, -1), lengths)
    neutral = logits.softmax(dim=1)[:, NEUTRAL]
    assert (neutral.diff() < 0).all()
    assert logits[0].argmax() == NEUTRAL
    assert torch.equal(logits[0, 1:], torch.zeros(7))


def test_overlap_has_its_limits() -> None:
    same = torch.full((2, 3, 4), 0.25)
    assert overlap(same).item() == pytest.approx(1.0)
    apart = torch.eye(4)[None, :3].repeat(2, 1, 1)
    assert overlap(apart).item() == 0


def test_info_nce_is_low_for_partners_and_log_n_for_strangers() -> None:
    one = torch.nn.functional.normalize(torch.randn(16, 32), dim=1)
    used = torch.ones(16, dtype=torch.bool)
    assert info_nce(one, one, used, 0.05).item() < 0.05
    assert info_nce(one, one[:1].expand(16, -1), used, 0.05).item() == pytest.approx(math.log(16))
    assert info_nce(one, one, used & False, 0.05).item() == 0


def test_rank_wants_stronger_faces_longer() -> None:
    shares = torch.eye(8)[[1, 1, 2]]
    intensity, graded = torch.tensor([0.9, 0.3, 0.1]), torch.ones(3)
    assert rank(torch.tensor([0.9, 0.3, 2.0]), intensity, shares, graded).item() == 0
    wrong = rank(torch.tensor([0.3, 0.9, 2.0]), intensity, shares, graded)
    assert wrong.item() == pytest.approx(0.1 + 0.6)
    assert rank(torch.tensor([0.3, 0.9, 2.0]), intensity, shares, torch.zeros(3)).item() == 0


def test_intensity_comes_from_ratings_then_votes_and_is_unknown_for_bare_labels(drawn) -> None:
    batch = drawn(8)
    bare = batch._replace(affect=torch.full_like(batch.affect, torch.nan))
    votes = torch.zeros(8, 8)
    votes[:, NEUTRAL], votes[:, 1] = 0.25, 0.75
    value, known = intensities(bare._replace(votes=votes), votes)
    assert torch.equal(value, torch.full((8,), 0.75))
    assert known.all()
    rating = torch.tensor([0.3, 0.4]).expand(8, 2)
    value, known = intensities(bare._replace(votes=votes, affect=rating), votes)
    torch.testing.assert_close(value, torch.full((8,), 0.5))
    assert known.all(), "a rating counts before votes"
    derived = torch.from_numpy(vote_affect(votes.numpy()))
    value, _ = intensities(bare._replace(votes=votes, affect=derived), votes)
    assert torch.equal(value, torch.full((8,), 0.75)), "affect that votes were made into is no rating"
    assert not intensities(bare, torch.eye(8))[1].any()
    assert masked_mean(torch.ones(3), torch.zeros(3)).item() == 0


def test_a_face_torn_between_two_expressions_is_not_intense(drawn) -> None:
    """Half anger and half disgust is half as intense as all anger, by votes and by the affect derived from them."""
    batch = drawn(3)
    votes = torch.zeros(3, 8)
    anger, disgust = EXPRESSIONS.index("anger"), EXPRESSIONS.index("disgust")
    votes[0, anger], votes[1, [anger, disgust]], votes[2, NEUTRAL] = 1.0, 0.5, 1.0
    for affect in (torch.full((3, 2), torch.nan), torch.from_numpy(vote_affect(votes.numpy()))):
        value, known = intensities(batch._replace(votes=votes, affect=affect), votes)
        torch.testing.assert_close(value, torch.tensor([1.0, 0.5, 0.0]))
        assert known.all()


def test_information_of_the_rows_in_use_is_that_of_these_rows_alone() -> None:
    first, second = (torch.nn.functional.normalize(torch.randn(9, 5), dim=1) for _ in range(2))
    used = torch.arange(9) % 3 > 0
    expected = info_nce(first[used], second[used], torch.ones(6, dtype=torch.bool), 0.2)
    torch.testing.assert_close(info_nce(first, second, used, 0.2), expected)


@pytest.mark.parametrize("off", ["contrast", "attention", "compact"])
def test_every_idea_is_a_switch(drawn, off: str) -> None:
    batch = drawn(16)
    everything = set(method().train()(batch, "model"))
    less = set(method(**{off: False}).train()(batch, "model"))
    gone = {
        "contrast": {"contrast"},
        "attention": {"separate", "information", "blank"},
        "compact": {"compact"},
    }
    assert everything - less == gone[off]


def test_it_learns_a_fixed_batch_and_its_gate_opens(drawn, overfit) -> None:
    batch, network = drawn(32), method().train()
    assert network.gate.abs() == 0
    before, lowest = overfit(
        lambda: torch.stack(list(network(batch, "model").values())).sum(), network.parameters(), rate=3e-3
    )
    assert lowest < 0.9 * before
    assert network.gate.abs() > 0


@pytest.mark.parametrize("term", ["expression", "intensity"])
def test_each_label_can_be_learnt_by_itself(drawn, overfit, term: str) -> None:
    batch, network = drawn(32), method().train()
    before, lowest = overfit(lambda: network(batch, "model")[term], network.parameters(), rate=3e-3)
    assert lowest < 0.9 * before
