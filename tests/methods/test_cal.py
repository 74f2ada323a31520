"""CAL: grouping and margin against slow and closed forms (M4-a), the critic's loss by hand, and who moves whom."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mien.errors import ConfigError, WeightsError
from mien.methods.base import Batch, ccc
from mien.methods.cal import (
    CAL,
    LARGEST,
    CALConfig,
    Groups,
    Regressor,
    adaptive_margin,
    confidence,
    contrast,
    decorrelation,
    group,
    information,
    otsu,
    pairs,
    pearson,
    root_error,
)


def method(size: int = 64, **options) -> CAL:
    torch.manual_seed(0)
    return CAL(CALConfig(**{"backbone": "tiny", **options}), size)


def total(terms: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(terms.values())).sum()


def rows(mask: torch.Tensor) -> list[int]:
    return mask.nonzero().flatten().tolist()


# Grouping


def slow_otsu(values: np.ndarray, bins: int) -> float:
    """Try every edge, summing the two classes' bin centres one value at a time."""
    low, high = values.min(), values.max()
    width = (high - low) / bins
    centres = [low + width * (min(bins - 1, int((value - low) / width)) + 0.5) for value in values]
    found, best = [], -1.0
    for edge in range(1, bins):
        limit = low + width * edge
        left, right = [c for c in centres if c < limit], [c for c in centres if c >= limit]
        between = len(left) * len(right) * (np.mean(left) - np.mean(right)) ** 2
        if between > best * (1 + 1e-9):
            found, best = [], between
        if between >= best * (1 - 1e-9):
            found.append(limit)
    return float(np.mean(found))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bins", [4, 32])
def test_otsu_equals_a_slow_search(seed: int, bins: int) -> None:
    random = np.random.default_rng(seed)
    values = np.abs(random.normal(0.3, 0.3, 40 + 20 * seed)).astype(np.float32).astype(np.float64)
    assert otsu(torch.from_numpy(values), bins).item() == pytest.approx(slow_otsu(values, bins), rel=1e-5)


def test_otsu_parts_two_crowds_in_the_middle_of_the_valley() -> None:
    values = torch.cat([torch.linspace(0.0, 0.1, 30), torch.linspace(0.8, 0.9, 10)])
    assert otsu(values).item() == pytest.approx(0.45, abs=0.9 / 32)
    torch.testing.assert_close(otsu(3 * values + 1), 3 * otsu(values) + 1)
    torch.testing.assert_close(otsu(values.flip(0)), otsu(values))


def test_otsu_leaves_out_what_is_not_known() -> None:
    values = torch.tensor([0.1, math.nan, 0.2, 9.0, 0.8, 0.9])
    known = torch.tensor([True, False, True, False, True, True])
    torch.testing.assert_close(otsu(values, known=known), otsu(values[known]))


def test_otsu_of_equal_values_parts_nothing() -> None:
    assert not (torch.full((5,), 0.25) > otsu(torch.full((5,), 0.25))).any()


def test_groups_are_the_strong_and_the_weak_and_leave_out_the_unrated() -> None:
    affect = torch.tensor([[0.8, 0.6], [0.05, 0.0], [math.nan, 0.9], [-0.9, 0.5], [0.0, -0.1], [-0.1, 0.05]])
    groups = group(affect)
    assert rows(groups.strong) == [0, 3]
    assert rows(groups.weak) == [1, 4, 5]
    assert 0.15 < groups.radius < 1.0
    turned = group(affect * torch.tensor([-1.0, -1.0]))
    assert rows(turned.strong) == [0, 3], "the sign of an emotion does not matter"


def test_fixed_radii_step_in_where_a_side_is_empty() -> None:
    alike = torch.full((4, 2), 0.7)  # r^2 = .98: all strong
    groups = group(alike)
    assert rows(groups.strong) == [0, 1, 2, 3]
    assert rows(groups.weak) == []
    between = torch.tensor([[0.9, 0.0], [0.6, 0.0], [0.5, 0.0]])  # r^2 .81, .36, .25
    by_code = group(between, "radius")
    assert rows(by_code.strong) == [0]
    assert rows(by_code.weak) == [2]
    nobody = group(torch.full((3, 2), math.nan))
    assert rows(nobody.strong) == rows(nobody.weak) == []


def test_pairs_are_as_many_as_the_smaller_group_and_mirrored() -> None:
    strong = torch.tensor([True, False, True, False, False, True, True])
    weak = torch.tensor([False, True, False, False, True, False, False])
    found = pairs(Groups(strong, weak, torch.tensor(0.5)))
    count = int(found.used.sum())
    assert count == 2
    assert found.strong[:count].tolist() == [0, 2]
    assert found.same[:count].tolist() == [2, 0]
    assert found.other[:count].tolist() == [4, 1]
    assert pairs(Groups(strong, weak & False, torch.tensor(0.5))).used.sum() == 0


# Margin, M4-a


def test_margin_is_the_posters_curve() -> None:
    eta = torch.tensor([0.0, 0.5, 0.9, 0.99])
    found = adaptive_margin(eta, 128, 10, 4, largest=0.999)
    assert found.tolist() == pytest.approx([0.32, 0.46, 1.15, 2.28], abs=0.005)


def test_margin_is_the_confidence_interval_where_nothing_is_shared() -> None:
    assert adaptive_margin(torch.zeros(3, dtype=torch.float64), 128).tolist() == [math.log(12.8) / 8] * 3
    assert confidence(10) == confidence(3) == 0


def test_margin_rises_with_correlation_of_either_sign_up_to_the_clamp() -> None:
    eta = torch.linspace(0, LARGEST, 200, dtype=torch.float64)
    margin = adaptive_margin(eta, 128)
    assert (margin.diff() > 0).all()
    torch.testing.assert_close(adaptive_margin(-eta, 128), margin)
    end = adaptive_margin(torch.tensor([1.0, -1.0]), 128)
    torch.testing.assert_close(end, margin[-1:].float().expand(2))
    assert end[0] < 2.1


def test_information_is_that_of_gaussians() -> None:
    """Mutual information = H(x) + H(y) - H(x, y), with entropies from determinants of the covariance."""
    for eta in (0.1, 0.6, 0.95):
        joint = np.linalg.det(np.array([[1, eta], [eta, 1]]))
        assert information(torch.tensor([eta])).item() == pytest.approx(-0.5 * np.log(joint), rel=1e-5)


def test_pearson_equals_numpy() -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 6, 16))
    expected = [np.corrcoef(one, other)[0, 1] for one, other in zip(first, second, strict=True)]
    assert pearson(torch.from_numpy(first), torch.from_numpy(second)).tolist() == pytest.approx(expected)
    assert pearson(torch.ones(1, 4), torch.rand(1, 4)).item() == 0


def test_methods_margin_is_that_of_the_pairs_in_a_batch_of_so_many() -> None:
    torch.manual_seed(3)
    strong, weak = torch.randn(64, 16), torch.randn(64, 16)
    margin = method().margin(strong, weak)
    for row in range(3):
        eta = np.corrcoef(strong[row].numpy(), weak[row].numpy())[0, 1]
        expected = -0.5 * math.log(1 - eta**2) + math.log(6.4) / 8
        assert margin[row].item() == pytest.approx(expected, rel=1e-4)
    assert method(margin="fixed", fixed_margin=0.7).margin(strong, weak)[:3].tolist() == pytest.approx(
        [0.7] * 3
    )


# StrengthCritic


def test_contrast_by_hand() -> None:
    near, far = torch.tensor([5.0, 0.0, 5.0, 9.0]), torch.tensor([1.0, 0.25, 4.0, 0.0])
    within, across = torch.tensor([1.0, 0.3, 6.0, 0.0]), torch.tensor([2.0, 0.5, 1.0, 9.0])
    parts = contrast(near, far, (within, across), torch.tensor([1.0, 1.0, 1.0, 0.0]))
    assert parts.together.item() == pytest.approx((4 + 0 + 0) / 3), "within its margin a pair costs nothing"
    assert parts.apart.item() == pytest.approx((1 + 0.25 + 0) / 3)
    assert parts.omega.item() == pytest.approx(1 - 0.5 * (16 / 3 + (1 + 0.0625) / 3))


@pytest.mark.parametrize("legacy", [False, True])
def test_pairs_of_one_group_have_the_posters_margin(legacy: bool) -> None:
    """f_cont = -xi max(0, xi (D^2 - alpha)), xi = 1 within a group: pairs within alpha of each other are left alone."""
    network = method(legacy=legacy, rho=0.0, dropout=0.0)
    network.critic.layers = torch.nn.Identity()
    network.critic.bounded = False
    torch.manual_seed(0)
    features = torch.randn(8, 16)
    strong = torch.arange(8) < 4
    found = network.critic_terms(features, Groups(strong, ~strong, torch.tensor(0.5)))["together"].item()
    near = [(features[i] - features[3 - i]).square().sum().item() for i in range(4)]
    partner = features[[3, 2, 1, 0, 4, 5, 6, 7]]
    margin = network.margin(features, partner)[:4].tolist()
    expected = (
        near if legacy else [max(0.0, distance - alpha) for distance, alpha in zip(near, margin, strict=True)]
    )
    assert found == pytest.approx(np.mean(expected), rel=1e-5)


def test_groups_that_are_apart_and_compact_cost_nothing() -> None:
    margin = torch.full((4,), 2.1)
    parts = contrast(torch.zeros(4), torch.full((4,), 64.0), (margin, margin), torch.ones(4))
    assert (parts.together, parts.apart, parts.omega) == (0, 0, 1)


@pytest.mark.parametrize("legacy", [False, True])
def test_the_multiplier_climbs_by_rho_times_the_residual(legacy: bool, drawn) -> None:
    rho = 0.25
    network = method(rho=rho, legacy=legacy, dropout=0.0).train()
    batch = drawn()
    with torch.no_grad():
        outputs, found = network.critic(network.features(batch.image)), pairs(group(batch.affect))
        one, same, other = (outputs[each] for each in (found.strong, found.same, found.other))
        omega = contrast(
            (one - same).square().sum(dim=1),
            (one - other).square().sum(dim=1),
            (torch.zeros(len(one)) if legacy else network.margin(one, same), network.margin(one, other)),
            found.used,
        ).omega.item()
    sign = -1 if legacy else 1
    first = network(batch, "critic")
    assert first["constraint"].item() == pytest.approx(sign * rho / 2 * omega**2, rel=1e-4)
    assert network.multiplier.item() == pytest.approx(rho * omega, rel=1e-4)
    second = network(batch, "critic")
    assert second["constraint"].item() == pytest.approx(rho * omega**2 * (1 + sign / 2), rel=1e-4)
    network.eval()
    network(batch, "critic")
    assert network.multiplier.item() == pytest.approx(2 * rho * omega, rel=1e-4), "it moves in training only"
    assert "constraint" not in method(rho=0.0)(batch, "critic")


@pytest.mark.parametrize("margin", ["fixed", "adaptive"])
def test_a_trained_critic_tells_unseen_strong_faces_from_weak(margin: str) -> None:
    def crowd(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Features in which strength is one direction among 32, beside much that has nothing to do with it."""
        torch.manual_seed(seed)
        strong = torch.arange(128) % 2
        features = torch.randn(128, 32)
        features[:, 0] = 4.0 * strong - 2 + 0.3 * features[:, 0]
        return features, 0.9 * strong[:, None].float().expand(-1, 2)

    network = method(dropout=0.0, margin=margin).train()
    optimiser = torch.optim.Adam(network.parameters_for("critic"), 1e-2)
    for step in range(200):
        features, affect = crowd(step + 1)
        optimiser.zero_grad()
        total(network.critic_terms(features, group(affect))).backward()
        optimiser.step()
    features, affect = crowd(0)
    groups = group(affect)
    with torch.no_grad():
        outputs = network.critic(features)
    strong, weak = outputs[groups.strong], outputs[groups.weak]
    assert torch.cdist(strong, weak).square().mean() > torch.cdist(strong, strong).square().mean()


# Turns


def gradients(network: CAL) -> set[str]:
    return {
        name.split(".")[0]
        for name, parameter in network.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }


@pytest.mark.parametrize("adversary", ["raise", "match"])
def test_each_turn_moves_its_player_and_nobody_else(adversary: str, drawn) -> None:
    network, batch = method(adversary=adversary).train(), drawn()
    expected = {
        "critic": {"critic"},
        "encoder": {"backbone"},
        "affect": {"backbone", "regressor", "expression"},
    }
    assert network.turns == tuple(expected)
    for turn in network.turns:
        network.zero_grad(set_to_none=True)
        total(network(batch, turn)).backward()
        assert gradients(network) == expected[turn]
        for parameter in network.parameters_for(turn):
            assert parameter.grad is not None
            assert parameter.grad.abs().sum() > 0
        owned = {id(parameter) for parameter in network.parameters_for(turn)}
        for parameter in network.parameters():
            assert id(parameter) in owned or parameter.grad is None, "what is held fixed is not written to"


def steps_apart(turn: str, light: float, heavy: float, drawn) -> float:
    """How far one Adam step at two weights of the adversary leaves the encoders apart, in steps."""
    encoders = []
    for weight in (light, heavy):
        network = method(adversary_turn=turn, adversary_weight=weight, dropout=0.0, expression="off").train()
        name = "encoder" if turn == "own" else "affect"
        player = torch.optim.Adam(network.parameters_for(name), 1e-3)
        total(network(drawn(), name)).backward()
        player.step()
        encoders.append(torch.cat([p.detach().flatten() for p in network.backbone.parameters()]))
    return float((encoders[0] - encoders[1]).abs().mean() / 1e-3)


def test_the_adversarys_weight_counts_only_where_one_optimiser_weighs_it_against_regression(drawn) -> None:
    assert steps_apart("own", 0.1, 10.0, drawn) < 0.02, "Adam divides it away"
    assert steps_apart("shared", 0.1, 10.0, drawn) > 0.2
    assert steps_apart("shared", 0.1, 0.1, drawn) == 0


def test_a_shared_turn_is_the_sum_of_both_and_leaves_the_critic_alone(drawn) -> None:
    own, shared = method(dropout=0.0).train(), method(dropout=0.0, adversary_turn="shared").train()
    batch = drawn()
    assert shared.turns == ("critic", "affect")
    assert shared(batch, "affect") == {**own(batch, "affect"), **own(batch, "encoder")}
    total(shared(batch, "affect")).backward()
    assert gradients(shared) == {"backbone", "regressor", "expression"}
    assert "adversary" not in method(adversary_turn="shared", adversary="off")(batch, "affect")
    assert "adversary" not in method(adversary_turn="shared", critic=False)(batch, "affect")


def test_the_encoder_raises_what_the_critic_says_of_the_weak(drawn) -> None:
    network, batch = method(adversary="raise", dropout=0.0).train(), drawn()
    weak = group(batch.affect).weak

    def raised() -> float:
        with torch.no_grad():
            return float(network.critic(network.features(batch.image))[weak].mean())

    before, expected = raised(), [p.clone() for p in network.critic.parameters()]
    assert network(batch, "encoder")["adversary"].item() == pytest.approx(-0.1 * before, rel=1e-4)
    optimiser = torch.optim.Adam(network.parameters_for("encoder"), 1e-3)
    for _ in range(10):
        optimiser.zero_grad()
        total(network(batch, "encoder")).backward()
        optimiser.step()
    assert raised() > before
    assert all(torch.equal(a, b) for a, b in zip(network.critic.parameters(), expected, strict=True))


def test_matching_is_a_tenth_of_the_squared_distance_of_the_means_and_ends_at_zero() -> None:
    network = method(adversary="match", dropout=0.0)
    network.critic.layers = torch.nn.Identity()
    network.critic.bounded = False
    features = torch.tensor([[2.0, 0.0], [4.0, 0.0], [1.0, 1.0], [1.0, 3.0]])
    affect = torch.tensor([[0.9, 0.9], [0.8, 0.9], [0.0, 0.1], [0.1, 0.0]])
    found = network.encoder_terms(features, group(affect))[
        "adversary"
    ].item()  # features as the norm gives them
    assert found == pytest.approx(0.1 * ((3 - 1) ** 2 + (0 - 2) ** 2))
    alike = features[[0, 1, 0, 1]]
    assert network.encoder_terms(alike, group(affect))["adversary"].item() == 0


def test_switches_leave_out_turns_and_terms(drawn) -> None:
    batch = drawn()
    plain = method(critic=False, expression="off")
    assert plain.turns == ("affect",)
    assert set(plain(batch, "affect")) == {"affect"}
    assert not any(name.startswith("critic") for name, _ in plain.named_parameters())
    assert plain.eval().predict(batch.image).logits.abs().max() == 0, "no opinion rather than a random one"
    assert method(adversary="off").turns == ("critic", "affect")
    assert set(method(correlation=0.5)(batch, "affect")) == {"affect", "correlation", "expression"}


def test_a_probe_leaves_the_encoder_alone_and_a_joint_head_does_not(drawn) -> None:
    batch = drawn()
    for kind, reached in (("probe", False), ("joint", True)):
        network = method(expression=kind).train()
        network(batch, "affect")["expression"].backward()
        assert ("backbone" in gradients(network)) == reached


def test_matching_brings_weak_nearer_to_strong_in_every_game_and_raising_does_not() -> None:
    """Twenty games on features of their own, six rounds each: the distance of the groups' means for the critic."""
    nearer = {}
    for adversary in ("match", "raise"):
        nearer[adversary] = 0
        for seed in range(20):
            torch.manual_seed(seed)
            network = CAL(CALConfig(backbone="tiny", adversary=adversary, dropout=0.0), 64).train()
            features = torch.nn.Parameter(torch.randn(64, 32))
            groups = group(torch.rand(64, 2).square())
            critic = torch.optim.Adam(network.critic.parameters(), 3e-3)
            encoder = torch.optim.Adam([features], 1e-2)

            def apart(network=network, features=features, groups=groups) -> float:
                with torch.no_grad():
                    outputs = network.critic(features)
                return float((outputs[groups.weak].mean(dim=0) - outputs[groups.strong].mean(dim=0)).norm())

            for _ in range(20):
                critic.zero_grad()
                total(network.critic_terms(features, groups)).backward()
                critic.step()
            before = apart()
            for _ in range(6):
                encoder.zero_grad()
                total(network.encoder_terms(features, groups)).backward()
                encoder.step()
            nearer[adversary] += apart() < before
    assert nearer["match"] == 20
    assert nearer["raise"] < 15


# Affect


def test_the_regressor_learns_from_every_start() -> None:
    """Pooled features are mostly their mean, so each of eight plain ReLUs is on for all faces or for none."""
    torch.manual_seed(100)
    directions, common = torch.randn(2, 64), 4.0 * torch.rand(64)
    affect = torch.rand(256, 2) * 1.6 - 0.8
    pooled = common + affect @ directions * 0.7 + 0.2 * torch.randn(256, 64)

    class Given(torch.nn.Module):
        width = 64

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
            return images, []

    published = [torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8), torch.nn.ReLU()]

    def reached(ours: bool, seed: int) -> float:
        network = method(dropout=0.0, critic=False, expression="off")
        torch.manual_seed(seed)
        network.backbone, network.norm = Given(), torch.nn.BatchNorm1d(64, affine=False)
        network.regressor = Regressor(64, 0.0)
        if not ours:
            for one in published:
                if isinstance(one, torch.nn.Linear):
                    one.reset_parameters()
            network.norm = torch.nn.Identity()
            network.regressor = torch.nn.Sequential(*published, torch.nn.Linear(8, 2), torch.nn.Tanh())
        optimiser = torch.optim.Adam(network.regressor.parameters(), 1e-3)
        for step in range(60):
            part = slice(32 * (step % 8), 32 * (step % 8) + 32)
            predicted = network.regressor(network.features(pooled[part]))
            optimiser.zero_grad()
            root_error(predicted, affect[part], torch.ones(32)).backward()
            optimiser.step()
        with torch.no_grad():
            return float(ccc(network.eval().regressor(network.features(pooled)), affect).min())

    assert min(reached(True, seed) for seed in range(16)) > 0.5
    assert min(reached(False, seed) for seed in range(16)) < 0.2


def test_affect_terms_equal_slow_ones_on_the_rated_rows(drawn) -> None:
    batch = drawn(16)
    batch.affect[3, 0] = math.nan
    network = method(dropout=0.0, correlation=0.5)
    terms = network(batch, "affect")
    with torch.no_grad():
        predicted = network.regressor(network.features(batch.image)).double().numpy()
    kept = [row for row in range(16) if row != 3]
    found, target = predicted[kept], batch.affect.double().numpy()[kept]
    root = pcc = ccc = 0.0
    for column in range(2):
        x, y = found[:, column], target[:, column]
        root += math.sqrt(np.mean((x - y) ** 2))
        pcc += np.corrcoef(x, y)[0, 1] / 2
        ccc += np.cov(x, y, ddof=0)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert terms["affect"].item() == pytest.approx(root, rel=1e-4)
    assert terms["correlation"].item() == pytest.approx(0.5 * ((1 - pcc) + (1 - ccc)), rel=2e-3)


def test_perfect_answers_cost_nothing_and_have_a_finite_gradient() -> None:
    target = torch.rand(10, 2)
    predicted = target.clone().requires_grad_()
    known = torch.ones(10)
    loss = root_error(predicted, target, known) + decorrelation(predicted, target, known)
    assert loss.item() == pytest.approx(0, abs=1e-4)
    loss.backward()
    assert torch.isfinite(predicted.grad).all()


@pytest.mark.parametrize("adversary", ["raise", "match"])
@pytest.mark.parametrize("rated", [0, 1, 2])
def test_few_or_no_ratings_give_zero_terms_without_nan(rated: int, adversary: str, drawn) -> None:
    batch = drawn(8)
    batch = batch._replace(expression=torch.full_like(batch.expression, -1))
    batch.affect[rated:] = math.nan
    batch.affect[:rated] = 0.9  # all strong: the weak side is empty
    network = method(adversary=adversary, correlation=0.5).train()
    for turn in network.turns:
        network.zero_grad(set_to_none=True)
        terms = network(batch, turn)
        assert torch.isfinite(total(terms))
        if rated == 0 or turn != "affect":
            assert total(terms) == 0
        total(terms).backward()
        assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    assert network.multiplier == 0


def test_the_affect_turn_fits_a_fixed_batch_better_than_its_mean(drawn, overfit) -> None:
    network, batch = method(dropout=0.0).train(), drawn(32)
    known = torch.ones(32)
    mean = float(root_error(batch.affect.mean(dim=0).expand_as(batch.affect), batch.affect, known))

    def error() -> torch.Tensor:
        return root_error(network.regressor(network.features(batch.image)), batch.affect, known)

    before, lowest = overfit(error, network.parameters_for("affect"), steps=60, rate=3e-3)
    assert lowest < 0.7 * min(before, mean)


def fresh_gradients(network: CAL, batch: Batch, turn: str) -> dict[str, torch.Tensor]:
    """The gradients of one turn's loss and of nothing else, computed apart from whatever `.grad` holds."""
    named = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    owned = {id(p) for p in network.parameters_for(turn)}
    mine = [(n, p) for n, p in named if id(p) in owned]
    found = torch.autograd.grad(total(network(batch, turn)), [p for _, p in mine], allow_unused=True)
    return {n: g for (n, _), g in zip(mine, found, strict=True) if g is not None}


def test_the_loop_steps_each_player_on_its_own_fresh_gradient(tmp_path, monkeypatch) -> None:
    """Every optimiser step of a real run finds the gradient of its turn alone, on its own parameters."""
    from mien.data.readers import manifest
    from mien.data.synthetic import drawings
    from mien.evaluation.validation import validate
    from mien.training import loop
    from mien.training.config import RunConfig

    records = drawings.records(tmp_path, 48, size=48)
    manifest.write(records, tmp_path / "manifest.csv")
    expected: dict[str, dict[str, torch.Tensor]] = {}
    stepped: list[str] = []
    forward, build = CAL.forward, loop.optim.build

    def spied(network: CAL, batch: Batch, turn: str):
        if network.training:
            seed = torch.get_rng_state()
            kept = network.multiplier.clone()
            with torch.no_grad():
                before = {n: p.clone() for n, p in network.named_parameters()}
            network.forward = lambda *given: forward(network, *given)  # type: ignore[method-assign]
            expected[turn] = fresh_gradients(network, batch, turn)
            del network.forward
            torch.set_rng_state(seed)
            network.multiplier.copy_(kept)
            assert all(torch.equal(before[n], p) for n, p in network.named_parameters())
        return forward(network, batch, turn)

    def watched(network, turn, config):
        player = build(network, turn, config)

        def check(optimiser, *given) -> None:
            stepped.append(turn)
            for name, parameter in network.named_parameters():
                if name in expected[turn]:
                    torch.testing.assert_close(parameter.grad, expected[turn][name])
                else:
                    assert parameter.grad is None or not parameter.grad.any(), f"{turn} writes to {name}"

        player.register_step_pre_hook(check)
        return player

    monkeypatch.setattr(CAL, "forward", spied)
    monkeypatch.setattr(loop.optim, "build", watched)
    loop.run(
        RunConfig(
            name="game",
            method={"name": "cal", "backbone": "tiny"},
            data={"reader": "manifest", "root": tmp_path, "size": 32, "cache": tmp_path / "cache"},
            optim={"clip": None},
            epochs=2,
            batch=8,
            threads=1,
            runs=tmp_path / "runs",
        ),
        validate,
    )
    assert stepped[:6] == ["critic", "encoder", "affect"] * 2
    assert len(stepped) >= 12


# Backbones


@pytest.mark.parametrize(
    ("name", "size"), [("alexnet", 224), ("alexnet", 64), ("resnet18", 64), ("mobilefacenet", 64)]
)
def test_the_papers_backbones_and_ours_play_every_turn(name: str, size: int, drawn) -> None:
    network, batch = method(size, backbone=name).train(), drawn(8)
    batch = batch._replace(image=torch.nn.functional.interpolate(batch.image, size))
    for turn in network.turns:
        network.zero_grad(set_to_none=True)
        total(network(batch, turn)).backward()
        assert all(p.grad is not None for p in network.parameters_for(turn)), turn
    affect = network.eval().predict(batch.image).affect
    assert affect.shape == (8, 2)
    assert affect.abs().max() <= 1


def test_alexnet_is_the_published_size() -> None:
    network = method(224, backbone="alexnet")
    counts = {
        name: sum(p.numel() for p in part.parameters())
        for name, part in (("f_e", network.backbone), ("f_r", network.regressor), ("f_c", network.critic))
    }
    assert network.backbone.width == 9216
    assert counts["f_e"] == 2_469_696
    assert counts["f_r"] == pytest.approx(0.59e6, rel=0.01)
    assert sum(counts.values()) == pytest.approx(3.65e6, rel=0.01)


@pytest.mark.parametrize(("size", "width"), [(63, 256), (64, 256), (96, 4 * 256), (224, 9216)])
def test_alexnet_takes_smaller_crops(size: int, width: int) -> None:
    from mien.methods import backbone

    network = backbone.build("alexnet", size=size)
    pooled, maps = network(torch.rand(1, 3, size, size))
    assert pooled.shape == (1, width) == (1, network.width)
    assert [one.shape[1] for one in maps] == network.stages
    with pytest.raises(ConfigError, match="63 px"):
        backbone.build("alexnet", size=62)


def test_alexnet_reads_its_published_file_strictly(tmp_path) -> None:
    from mien.methods import alexnet, backbone

    source = alexnet.AlexNet(64)
    state = {**source.state_dict(), "classifier.1.weight": torch.zeros(2, 2)}
    torch.save(state, tmp_path / "alexnet.pt")
    loaded = backbone.build("alexnet", tmp_path / "alexnet.pt", 64)
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(loaded(images)[0], source(images)[0])
    del state["features.0.bias"]
    torch.save(state, tmp_path / "part.pt")
    (tmp_path / "text.pt").write_text("no tensors")
    for name in ("part.pt", "text.pt", "absent.pt"):
        with pytest.raises(WeightsError, match=name):
            backbone.build("alexnet", tmp_path / name, 64)
