"""Groups, schedule and average."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError

from mien import methods
from mien.training import optim
from mien.training.config import OptimConfig


def test_pretrained_parameters_learn_slower_and_vectors_do_not_decay() -> None:
    method = methods.build({"name": "baseline", "backbone": "tiny"}, 32)
    config = OptimConfig(rate=0.01, backbone_rate=0.1, weight_decay=0.5)
    rates = {}
    for group in optim.build(method, "model", config).param_groups:
        for parameter in group["params"]:
            rates[id(parameter)] = (group["lr"], group["weight_decay"])
    named = dict(method.named_parameters())
    assert len(rates) == len(named)
    for name, parameter in named.items():
        slow = name.startswith("backbone.")
        assert rates[id(parameter)] == pytest.approx(
            (0.001 if slow else 0.01, 0.5 if parameter.ndim > 1 else 0.0)
        )


def test_without_decay_and_with_the_papers_betas_it_is_adam() -> None:
    config = OptimConfig(rate=1e-2, weight_decay=0.0, betas=(0.5, 0.9))
    ours, theirs = (methods.build({"name": "baseline", "backbone": "tiny"}, 32) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    players = (
        optim.build(ours, "model", config),
        torch.optim.Adam(theirs.parameters(), 1e-2, betas=(0.5, 0.9)),
    )
    torch.manual_seed(0)
    for _ in range(3):
        pairs = list(zip(ours.parameters(), theirs.parameters(), strict=True))
        for one, other in pairs:
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        for player in players:
            player.step()
        for one, other in pairs:
            torch.testing.assert_close(one, other)
    with pytest.raises(ValidationError):
        OptimConfig(betas=(0.5, 1.0))


def test_schedule_warms_up_and_ends_at_zero() -> None:
    factor = optim.schedule(OptimConfig(warmup=0.1), 100)
    rates = [2.0 * factor(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == pytest.approx(2.0)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[55] == pytest.approx(1.0, abs=0.01)
    assert rates[-1] < 0.01
    assert all(late <= early for early, late in pairwise(rates[10:]))


def test_average_follows_weights_and_buffers() -> None:
    method = methods.build({"name": "baseline", "backbone": "tiny"}, 32)
    average = optim.average(method, 0.9)
    average.update_parameters(method)  # the first call copies
    average.n_averaged.fill_(1000)  # past the warm-up
    before = average.module.expression.weight.clone()
    with torch.no_grad():
        method.expression.weight += 1.0
    average.update_parameters(method)
    assert torch.allclose(average.module.expression.weight, before + 0.1, atol=1e-6)


def test_the_average_forgets_its_start_within_a_hundred_steps() -> None:
    method = methods.build({"name": "baseline", "backbone": "tiny"}, 32)
    average = optim.average(method, 0.999)
    with torch.no_grad():
        for step in range(100):
            for parameter in method.parameters():
                parameter.fill_(float(step >= 10))  # ten steps of 0, then ninety of 1
            average.update_parameters(method)
    for parameter in average.module.parameters():
        assert float(parameter.detach().min()) > 0.99


def test_the_average_ends_as_the_plain_exponential_one() -> None:
    method = methods.build({"name": "baseline", "backbone": "tiny"}, 32)
    average = optim.average(method, 0.5)  # reached at step 8
    average.n_averaged.fill_(100)
    before = {name: value.clone() for name, value in average.module.named_parameters()}
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(1.0)
    average.update_parameters(method)
    for name, parameter in average.module.named_parameters():
        torch.testing.assert_close(parameter, before[name] + 0.5)


def test_the_average_counts_on_the_cpu() -> None:
    """Reading the counter's copy on the device would make every step wait for it."""
    average = optim.average(methods.build({"name": "baseline", "backbone": "tiny"}, 32), 0.5)
    assert average.n_averaged.device.type == "cpu"
    average.n_averaged.fill_(100)
    mean = torch.zeros(3)
    assert average.multi_avg_fn is not None
    average.multi_avg_fn([mean], [torch.ones(3)], torch.empty((), device="meta"))
    assert mean.tolist() == [0.5] * 3
