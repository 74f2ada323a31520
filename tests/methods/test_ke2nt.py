"""KE2NT: terms by hand and against slow loops, M5-a exactly, and a transformation that learns neutral (M5-b)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mien.errors import ConfigError, WeightsError
from mien.labels import NEUTRAL
from mien.methods.ke2nt import (
    KE2NT,
    KE2NTConfig,
    Versions,
    match,
    self_contrast,
    self_contrast_all_pairs,
    transformation,
)


def method(**options) -> KE2NT:
    torch.manual_seed(0)
    return KE2NT(KE2NTConfig(backbone="tiny", **options), 64)


def one_hot(labels: list[int], classes: int = 4) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(labels), classes).float()


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


@pytest.fixture
def sample() -> tuple[Versions, torch.Tensor, list[int]]:
    generator = torch.Generator().manual_seed(3)
    versions = Versions(torch.randn(6, 5, generator=generator), torch.randn(6, 5, generator=generator))
    return versions, torch.randn(4, 5, generator=generator), [1, 0, 3, 2, 0, 1]


# Terms


def test_terms_equal_slow_loops_over_emotional_samples(sample) -> None:
    versions, texts, labels = sample
    emotional, neutral, table = versions.emotional.numpy(), versions.neutral.numpy(), texts.numpy()
    rows = [row for row, label in enumerate(labels) if label != NEUTRAL]
    turned = np.mean([1 - cosine(emotional[i] - neutral[i], table[labels[i]] - table[NEUTRAL]) for i in rows])
    pulled = np.mean(
        [
            2
            + max(cosine(table[labels[i]], neutral[i]), cosine(table[labels[i]], table[NEUTRAL]))
            - cosine(table[labels[i]], emotional[i])
            for i in rows
        ]
    )
    literal = np.mean(
        [
            2 + cosine(table[labels[i]], neutral[j]) - cosine(table[labels[i]], emotional[j])
            for i in rows
            for j in rows
        ]
    )
    shares = one_hot(labels)
    assert transformation(versions, texts, shares).item() == pytest.approx(turned, rel=1e-5)
    assert self_contrast(versions, texts, shares).item() == pytest.approx(pulled, rel=1e-5)
    assert self_contrast_all_pairs(versions, texts, shares).item() == pytest.approx(literal, rel=1e-5)


def test_transformation_is_zero_where_differences_are_parallel(sample) -> None:
    """M5-a, first half; and 2 where they oppose."""
    versions, texts, labels = sample
    steps = texts[labels] - texts[NEUTRAL]
    along = Versions(versions.neutral + 0.7 * steps, versions.neutral)
    against = Versions(versions.neutral - 3.0 * steps, versions.neutral)
    assert transformation(along, texts, one_hot(labels)).item() == pytest.approx(0, abs=1e-6)
    assert transformation(against, texts, one_hot(labels)).item() == pytest.approx(2, abs=1e-5)


def test_shuffled_labels_change_the_contrast_but_not_the_legacy_form(sample) -> None:
    """M5-a, second half: what the all-pairs form cannot see."""
    versions, texts, _ = sample
    labels, shuffled = one_hot([1, 2, 3, 1, 2, 3]), one_hot([3, 1, 2, 2, 3, 1])
    ours, moved = (self_contrast(versions, texts, each) for each in (labels, shuffled))
    assert abs(ours - moved) > 0.05
    legacy, same = (self_contrast_all_pairs(versions, texts, each) for each in (labels, shuffled))
    torch.testing.assert_close(legacy, same)


def test_contrast_ends_where_a_version_is_as_far_as_neutral() -> None:
    texts = torch.nn.functional.normalize(torch.eye(4) + 0.5, dim=1)
    shares, alike = one_hot([1, 2]), float(texts[1] @ texts[NEUTRAL])
    own, neutral = texts[[1, 2]], texts[[NEUTRAL, NEUTRAL]]
    for far in (neutral, -own):
        assert self_contrast(Versions(own, far), texts, shares).item() == pytest.approx(1 + alike)
    assert self_contrast(Versions(-own, own), texts, shares).item() == pytest.approx(4)
    literal = self_contrast_all_pairs(Versions(texts[[1, 1]], -texts[[1, 1]]), texts, one_hot([1, 1]))
    assert literal.item() == pytest.approx(0), "the literal form goes on to the opposite"


def test_length_meets_the_transformation_in_the_literal_form_only(drawn) -> None:
    """A neutral version that is long and always alike, the opposite of what t_y - t_n says, costs the literal form
    nothing whatever the face; on the sphere it costs much unless the face lies there too."""
    batch = drawn(16)
    batch = batch._replace(expression=torch.full_like(batch.expression, 1))
    found = {}
    for legacy in (False, True):
        network = method(legacy=legacy, affect_weight=0).eval()
        with torch.no_grad():
            network.transformer[2].weight.zero_()
            network.transformer[2].bias.copy_(-1e4 * (network.texts[1] - network.texts[NEUTRAL]))
            found[legacy] = network(batch, "model")["transformation"].item()
    assert found[True] < 0.01
    assert found[False] > 0.1
    versions = method().eval().versions(batch.image)
    for each in versions:
        torch.testing.assert_close(each.norm(dim=1), torch.ones(16))


def test_on_the_sphere_a_mirrored_face_is_the_only_neutral_version() -> None:
    """L_t = 0 makes cos(f_n, t_n) equal cos(f_e, t_y)."""
    torch.manual_seed(0)
    texts = torch.nn.functional.normalize(torch.randn(4, 6), dim=1)
    face = torch.nn.functional.normalize(texts[[2]] + 0.3 * torch.randn(1, 6), dim=1)
    turn = torch.nn.functional.normalize(texts[2] - texts[NEUTRAL], dim=0)
    mirrored = face - 2 * (face @ turn)[:, None] * turn
    assert transformation(Versions(face, mirrored), texts, one_hot([2])).item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(mirrored @ texts[NEUTRAL], face @ texts[2])


def test_votes_count_as_fractions_of_a_label(sample) -> None:
    """Ten votes of one image equal ten copies of it, each with one label; neutral votes do not count."""
    versions, texts, _ = sample
    shares = torch.tensor([[0.3, 0.5, 0.2, 0.0]])
    copies = one_hot([0] * 3 + [1] * 5 + [2] * 2)
    one = Versions(versions.emotional[:1], versions.neutral[:1])
    ten = Versions(one.emotional.expand(10, -1), one.neutral.expand(10, -1))
    for term in (transformation, self_contrast):
        torch.testing.assert_close(term(one, texts, shares), term(ten, texts, copies))


@pytest.mark.parametrize("term", [transformation, self_contrast, self_contrast_all_pairs])
def test_a_batch_without_emotion_contributes_zero(term, sample) -> None:
    versions, texts, _ = sample
    neutral = versions.neutral.clone().requires_grad_()
    value = term(Versions(versions.emotional, neutral), texts, one_hot([NEUTRAL] * 6))
    value.backward()
    assert value.item() == 0
    assert torch.equal(neutral.grad, torch.zeros_like(neutral))


def test_match_is_a_scaled_cosine(sample) -> None:
    versions, texts, _ = sample
    logits = match(versions.emotional, texts, torch.tensor(16.0))
    assert logits[2, 1].item() == pytest.approx(
        16 * cosine(versions.emotional[2].numpy(), texts[1].numpy()), rel=1e-5
    )
    torch.testing.assert_close(match(7 * versions.emotional, texts, torch.tensor(16.0)), logits)


# The method


def test_terms_and_parts_follow_the_switches(drawn) -> None:
    batch = drawn(8)
    assert set(method()(batch, "model")) == {"supervision", "transformation", "self_contrast", "affect"}
    bare = method(matching="linear", transform_weight=0, contrast_weight=0, affect_weight=0)
    assert set(bare(batch, "model")) == {"supervision"}
    assert not hasattr(bare, "transformer")
    assert not hasattr(bare, "log_scale")
    with pytest.raises(ConfigError, match="neutral versions"):
        bare.versions(batch.image)


def test_texts_are_frozen_and_the_scale_learns_only_if_asked(drawn) -> None:
    learned, fixed = method(), method(learn_scale=False, scale=100)
    for network in (learned, fixed):
        torch.stack(list(network(drawn(16), "model").values())).sum().backward()
    assert "texts" not in dict(learned.named_parameters())
    assert learned.log_scale.grad.abs() > 0
    assert fixed.log_scale.grad is None
    assert fixed.log_scale.exp().item() == pytest.approx(100)


def test_weights_scale_their_terms(drawn) -> None:
    one, two = (
        method(transform_weight=weight, contrast_weight=weight, dropout=0.0)(drawn(16), "model")
        for weight in (1.0, 0.5)
    )
    for term in ("transformation", "self_contrast"):
        assert two[term].item() == pytest.approx(0.5 * one[term].item(), rel=1e-5)


def test_seven_classes_take_the_first_seven_texts(drawn) -> None:
    seven, eight = method(classes=7, geometry="raw"), method(geometry="raw")
    torch.testing.assert_close(seven.texts, eight.texts[:7])


def test_geometry_of_the_texts() -> None:
    raw, centred, apart = (method(geometry=kind).texts for kind in ("raw", "centred", "orthonormal"))
    for table in (raw, centred, apart):
        torch.testing.assert_close(table.norm(dim=1), torch.ones(8))
    torch.testing.assert_close(apart @ apart.T, torch.eye(8), rtol=0, atol=1e-5)
    between = ~torch.eye(8, dtype=torch.bool)
    assert (raw @ raw.T)[between].min() > 0.7
    assert (centred @ centred.T)[between].mean() < 0
    differences = [
        torch.nn.functional.normalize(table[1:] - table[NEUTRAL], dim=1) for table in (raw, centred)
    ]
    assert (differences[0] * differences[1]).sum(dim=1).min() > 0.95, (
        "which way an expression lies from neutral stays"
    )


def test_wrong_widths_and_sets_are_refused() -> None:
    with pytest.raises(ConfigError, match="linear"):
        method(projection="none")
    with pytest.raises(WeightsError, match="no text set"):
        method(text="clip-of-nobody")


def test_learns_a_fixed_batch_and_what_neutral_means(drawn, overfit) -> None:
    """M5-b at the published weights: neutral versions of emotional faces, of other sitters too, have a cosine of .5 and
    more with the neutral text, nearer than any other, and lie farther from their expression's than the faces do."""
    batch, others, network = drawn(64), drawn(32, first=20), method().train()
    assert (network.config.transform_weight, network.config.contrast_weight) == (1, 1)
    before, lowest = overfit(
        lambda: torch.stack(list(network(batch, "model").values())).sum(),
        network.parameters(),
        steps=60,
        rate=3e-3,
    )
    assert lowest < 0.5 * before
    emotional = others.expression != NEUTRAL
    versions = [each[emotional] for each in network.eval().versions(others.image)]
    own = network.texts[others.expression[emotional]]
    near = versions[1] @ network.texts.T
    assert near[:, NEUTRAL].mean() >= 0.5
    assert (near.argmax(dim=1) == NEUTRAL).float().mean() > 0.8
    assert (versions[0] * own).sum(dim=1).mean() > (versions[1] * own).sum(dim=1).mean() + 0.5
