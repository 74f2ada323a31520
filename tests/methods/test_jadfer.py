"""JADFER: dropping against slow loops and at its limits (M2-a), Variety by hand, and both doing their work (M2-b)."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from mien.errors import ConfigError
from mien.methods.jadfer import (
    JADFER,
    READINGS,
    JADFERConfig,
    drop_jointly,
    head_similarity,
    path_cosine,
    path_distance,
    path_variance,
    presence,
    similar_heads,
    similar_queries,
    similar_rows,
)


def method(**options) -> JADFER:
    torch.manual_seed(0)
    return JADFER(JADFERConfig(backbone="tiny", width=32, **options), 64)


def dropping(**options) -> JADFERConfig:
    return JADFERConfig(**{"share": 0.2, "chance": 1.0, "threshold": 0.0, **options})


def attention(
    n: int = 3, heads: int = 4, queries: int = 5, keys: int = 20, sharp: float = 2.0
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.softmax(sharp * torch.randn(n, heads, queries, keys, generator=generator), dim=3)


# Dropping


@pytest.mark.parametrize("keep", ["strongest", "none"])
def test_similar_heads_equals_a_slow_loop(keep: str) -> None:
    weights, share, threshold = attention(), 0.13, 1.2
    got = similar_heads(weights, share, keep, threshold).numpy()
    array = weights.double().numpy()
    expected = np.zeros_like(got)
    count = math.ceil(share * array.shape[3])
    for n, q in itertools.product(range(array.shape[0]), range(array.shape[2])):
        relative = [array[n, h, q] * array.shape[3] for h in range(array.shape[1])]
        joint = np.prod(relative, axis=0) ** (1 / len(relative))
        for k in [k for k in np.argsort(-joint)[:count] if joint[k] >= threshold]:
            keeper = int(np.argmax(array[n, :, q, k])) if keep == "strongest" else -1
            for h in range(array.shape[1]):
                expected[n, h, q, k] = h != keeper
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("keep", ["strongest", "none"])
def test_similar_queries_equals_a_slow_loop(keep: str) -> None:
    weights, share, threshold = attention(), 0.13, 2.0
    got = similar_queries(weights, share, keep, threshold).numpy()
    array = weights.double().numpy()
    expected = np.zeros_like(got)
    count = math.ceil(share * array.shape[3])
    for n, h in itertools.product(range(array.shape[0]), range(array.shape[1])):
        popular = np.mean(array[n, h], axis=0) * array.shape[3]
        for k in [k for k in np.argsort(-popular)[:count] if popular[k] >= threshold]:
            keeper = int(np.argmax(array[n, h, :, k])) if keep == "strongest" else -1
            for q in range(array.shape[2]):
                expected[n, h, q, k] = q != keeper
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("keep", ["strongest", "none"])
def test_similar_rows_equals_a_slow_loop(keep: str) -> None:
    weights, share, threshold = attention(sharp=0.6), 0.2, 1.5
    got = similar_rows(weights, share, keep, threshold, alike=0.75).numpy()
    array = weights.double().numpy()
    expected = np.zeros_like(got)
    count = math.ceil(share * array.shape[3])
    for n, h in itertools.product(range(array.shape[0]), range(array.shape[1])):
        rows = array[n, h]
        tops = [
            {k for k in np.argsort(-row)[:count].tolist() if row[k] * len(row) >= threshold} for row in rows
        ]
        for first, second in itertools.combinations(range(len(rows)), 2):
            cosine = rows[first] @ rows[second] / (np.linalg.norm(rows[first]) * np.linalg.norm(rows[second]))
            if cosine > 0.75:
                for k in tops[first] & tops[second]:
                    expected[n, h, second, k] = True
                    if keep == "none":
                        expected[n, h, first, k] = True
    assert expected.any(), "the test must meet alike rows"
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("keep", ["strongest", "none"])
def test_rows_still_sum_to_one(reading: str, keep: str) -> None:
    weights = attention(sharp=0.3)
    dropped = drop_jointly(weights, reading, dropping(keep=keep)).weights
    torch.testing.assert_close(dropped.sum(dim=3), torch.ones_like(dropped[..., 0]))
    assert (dropped == 0).any(), "something was dropped"
    assert (dropped >= 0).all()
    # What is kept of a row keeps its proportions.
    kept = dropped > 0
    ratio = torch.where(kept, dropped / weights, torch.nan)
    spread = ratio.nan_to_num(-1).amax(dim=3) - ratio.nan_to_num(1e9).amin(dim=3)
    assert spread.abs().max() < 1e-4


@pytest.mark.parametrize("reading", [*READINGS, "off"])
def test_nothing_to_drop_is_the_identity(reading: str) -> None:
    weights = attention()
    for options in ({"share": 0}, {"chance": 0}):
        assert torch.equal(drop_jointly(weights, reading, dropping(**options)).weights, weights)
    assert torch.equal(drop_jointly(weights, "off", dropping()).weights, weights)


def peaks(places: torch.Tensor, keys: int = 20) -> torch.Tensor:
    """Attention that lies to nine tenths on one key for each head and query, evenly on the others."""
    return 0.9 * torch.nn.functional.one_hot(places, keys).float() + 0.1 / keys


def test_nothing_is_dropped_where_nothing_is_joint() -> None:
    """Even attention, heads that look at places of their own, queries that do: at the threshold that ships."""
    even = torch.full((2, 4, 5, 20), 1 / 20)
    heads_apart = peaks(torch.arange(20).reshape(1, 4, 5))
    everywhere = peaks(torch.arange(20).expand(1, 4, 20))  # every query of every head looks at its own key
    config = JADFERConfig(chance=1.0)
    for weights, readings in ((even, READINGS), (heads_apart, ["heads"]), (everywhere, ["queries", "rows"])):
        for reading in readings:
            assert drop_jointly(weights, reading, config).mass == 0, reading
            tenth = drop_jointly(weights, reading, config.model_copy(update={"threshold": 0.0})).mass
            assert tenth > 0 or reading == "rows", "the bound is what keeps them"


@pytest.mark.parametrize("reading", READINGS)
def test_what_is_joint_is_dropped_and_its_mass_said(reading: str) -> None:
    weights = peaks(torch.full((1, 4, 5), 7))
    dropped = drop_jointly(weights, reading, JADFERConfig(chance=1.0))
    lost = (weights * (dropped.weights == 0)).sum(dim=3).mean()
    torch.testing.assert_close(dropped.mass, lost)
    assert lost > 0.6


def test_the_mass_that_was_dropped_is_logged_and_moves_nothing(drawn) -> None:
    batch = drawn(8)
    term = method(chance=1.0, threshold=0.0).train()(batch, "model")["dropped"]
    assert 0 < term < 1
    assert not term.requires_grad
    assert method(chance=1.0).eval()(batch, "model")["dropped"] == 0
    assert "dropped" not in method(dropping="off")(batch, "model")


def test_a_query_is_never_blinded() -> None:
    weights = torch.zeros(1, 3, 2, 10)
    weights[..., 4] = 1.0  # every head looks at key 4 only
    dropped = drop_jointly(weights, "heads", dropping(share=0.1, keep="none")).weights
    assert torch.equal(dropped, weights)
    everything = drop_jointly(attention(), "queries", dropping(share=1.0, keep="none")).weights
    torch.testing.assert_close(everything, attention())


def test_chance_is_per_sample() -> None:
    torch.manual_seed(0)
    weights = attention(n=1).expand(400, -1, -1, -1)
    dropped = drop_jointly(weights, "heads", dropping(share=0.1, chance=0.3)).weights
    changed = (dropped != weights).flatten(1).any(dim=1).float().mean()
    assert 0.2 < changed < 0.4


@pytest.mark.parametrize("reading", READINGS)
def test_gradient_reaches_kept_entries_only(reading: str) -> None:
    weights = attention(sharp=0.3).requires_grad_()
    dropped = drop_jointly(weights, reading, dropping()).weights
    (dropped * torch.rand_like(dropped)).sum().backward()
    assert (weights.grad[dropped == 0] == 0).all()
    assert (weights.grad[dropped > 0] != 0).float().mean() > 0.99


def test_dropping_makes_heads_differ() -> None:
    """The claim itself: heads that agree agree less after dropping."""
    shared = torch.softmax(3 * torch.randn(8, 1, 5, 25, generator=torch.Generator().manual_seed(0)), dim=3)
    alike = torch.softmax(
        shared.log() + 0.3 * torch.randn(8, 4, 5, 25, generator=torch.Generator().manual_seed(1)), 3
    )
    dropped = drop_jointly(alike, "heads", dropping(share=0.1, threshold=1.5)).weights
    before, after = head_similarity(alike), head_similarity(dropped)
    assert after < 0.9 * before


# Variety


def test_path_cosine_is_of_maps_less_their_means() -> None:
    one = torch.rand(2, 1, 5, 5)
    assert path_cosine(one.expand(-1, 4, -1, -1)).item() == pytest.approx(1, abs=1e-6)
    apart = torch.eye(4).reshape(1, 4, 2, 2)
    assert path_cosine(apart).item() == pytest.approx(-1 / 3, abs=1e-6), "the least that four maps can have"
    # By hand: (1,0,0), (1,1,0), (0,1,0) less their means have cosines 1/2, -1/2 and 1/2.
    maps = torch.tensor([[[[1.0, 0.0, 0.0]], [[1.0, 1.0, 0.0]], [[0.0, 1.0, 0.0]]]])
    assert path_cosine(maps).item() == pytest.approx(0.5 / 3)
    torch.testing.assert_close(path_cosine(0.1 * maps + 0.5), path_cosine(maps))


def test_the_other_forms_of_variety_by_hand() -> None:
    maps = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    assert path_distance(maps).item() == pytest.approx((1 - 2**0.5 / 2) / 2)
    assert path_distance(torch.ones(2, 3, 2, 2)).item() == pytest.approx(0.5)
    tokens = torch.tensor([[[0.0, 1.0], [2.0, 1.0]]])
    scores = np.array([[0.0, 1.0], [2.0, 1.0]])
    logs = scores - np.log(np.exp(scores).sum(axis=0))
    assert path_variance(tokens).item() == pytest.approx(
        math.log(1 + 2 / logs.var(axis=0, ddof=1).mean()), rel=1e-5
    )
    assert path_variance(torch.rand(4, 3, 8) * 0).isfinite(), "equal paths are bounded"


def test_presence_forbids_empty_maps() -> None:
    assert presence(torch.zeros(1, 2, 3, 3)).item() == pytest.approx(0.1)
    assert presence(torch.full((1, 2, 3, 3), 0.5)).item() == 0


@pytest.mark.parametrize("variety", ["cosine", "distance", "variance"])
def test_each_variety_reaches_the_paths(variety: str, drawn) -> None:
    network = method(variety=variety).train()
    network(drawn(8), "model")["variety"].backward()
    for path in network.paths:
        assert any(
            parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in path.parameters()
        )


def test_variety_parts_the_paths_and_leaves_none_dead(drawn) -> None:
    """M2-b: of paths that begin much alike, the maps are less alike by a third and more than without Variety after some
    training with all losses, and every path of every seed sees something."""
    batch = drawn(24)
    alike: dict[str, list[float]] = {"off": [], "cosine": []}
    for seed in range(3):
        for variety, found in alike.items():
            torch.manual_seed(seed)
            network = JADFER(JADFERConfig(backbone="tiny", width=32, variety=variety), 64).train()
            with torch.no_grad():
                for path in list(network.paths)[1:]:
                    for mine, first in zip(path.parameters(), network.paths[0].parameters(), strict=True):
                        mine.copy_(first + 0.3 * first.std(correction=0) * torch.randn_like(first))
            optimiser = torch.optim.Adam(network.parameters(), 3e-3)
            for _ in range(30):
                optimiser.zero_grad()
                torch.stack(list(network(batch, "model").values())).sum().backward()
                optimiser.step()
            with torch.no_grad():
                maps = network.eval().look(batch.image)[1].maps
            found.append(float(path_cosine(maps)))
            assert maps.mean(dim=(0, 2, 3)).min() >= 0.05
    assert np.mean(alike["off"]) > 0.3
    assert np.mean(alike["cosine"]) < 2 / 3 * np.mean(alike["off"])


# The method


def test_dropping_is_idle_at_evaluation(drawn) -> None:
    images = drawn(4).image
    on, off = method(chance=1.0, share=0.3, threshold=0.0).eval(), method(dropping="off").eval()
    off.load_state_dict(on.state_dict())
    assert torch.equal(on.predict(images).logits, off.predict(images).logits)
    on.train()
    off.train()
    for network in (on, off):
        network.dropout.p = 0.0
    assert not torch.equal(on.look(images)[0], off.look(images)[0]), "and at work in training"


def test_attention_equals_torch(drawn) -> None:
    """Without dropping, a block's weights and output are those of torch's own attention."""
    network = method(dropping="off").eval()
    block = network.context[0]
    tokens = torch.rand(2, 6, 32)
    with torch.no_grad():
        got, (weights, _) = block(tokens, tokens)
        asked, offered = block.query_norm(tokens), block.source_norm(tokens)
        theirs, their_weights = torch.nn.functional.multi_head_attention_forward(
            asked.transpose(0, 1),
            offered.transpose(0, 1),
            offered.transpose(0, 1),
            32,
            4,
            torch.cat([block.query.weight, block.key.weight, block.value.weight]),
            torch.cat([block.query.bias, torch.zeros(32), block.value.bias]),
            None,
            None,
            False,
            0.0,
            block.out.weight,
            block.out.bias,
            average_attn_weights=False,
        )
        expected = tokens + theirs.transpose(0, 1)
        expected = expected + block.feed(expected)
    torch.testing.assert_close(weights, their_weights, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_switches_build_only_what_they_use(drawn) -> None:
    images = drawn(2).image
    bare = method(paths=0, variety="off", context=False, interaction=False).eval()
    assert bare.predict(images).embedding.shape == (2, 32)
    assert bare.look(images)[1] == (None, None, [], [])
    spatial = method(context=False, interaction=False).eval()
    assert spatial.look(images)[1].maps.shape == (2, 4, 4, 4)
    assert not hasattr(spatial, "context")
    full = method().eval()
    sight = full.look(images)[1]
    assert [tuple(one.shape[1:]) for one in sight.weights] == [(4, 16, 16), (4, 16, 16), (4, 4, 16)]
    assert full.predict(images).embedding.shape == (2, 96)


def test_impossible_combinations_are_refused() -> None:
    with pytest.raises(ConfigError, match="both branches"):
        method(context=False)
    with pytest.raises(ConfigError, match="multiple"):
        method(heads=5)
    with pytest.raises(ConfigError, match="paths"):
        method(paths=1)


def test_learns_a_fixed_batch(drawn, overfit) -> None:
    batch, network = drawn(32), method().train()
    before, lowest = overfit(
        lambda: torch.stack(list(network(batch, "model").values())).sum(), network.parameters()
    )
    assert lowest < 0.9 * before
