"""The loss that every recogniser shares."""

from __future__ import annotations

import torch

from mien.methods.base import Batch, expression_loss


def batch(labels: list[int], **extra: torch.Tensor) -> Batch:
    count = len(labels)
    return Batch(
        torch.zeros(count, 3, 4, 4),
        torch.tensor(labels),
        torch.full((count, 2), torch.nan),
        torch.full((count, 3), torch.nan),
        torch.full((count,), -1),
        extra,
    )


def test_adjusted_logits_learn_what_is_shown_and_not_how_frequent_it_is() -> None:
    """On pictures that say nothing, plain logits become the log prior and fully adjusted ones equal one another."""
    labels = [0] * 70 + [1] * 20 + [2] * 10
    prior = torch.log(torch.tensor([0.7, 0.2, 0.1]))
    rows = batch(labels, log_prior=prior.expand(100, 3))
    for adjust, expected in ((0.0, prior - prior.mean()), (1.0, torch.zeros(3))):
        logits = torch.nn.Parameter(torch.zeros(3))
        optimiser = torch.optim.LBFGS([logits], max_iter=100)

        def closure(adjust: float = adjust, logits: torch.nn.Parameter = logits) -> torch.Tensor:
            logits.grad = None
            loss = expression_loss(logits.expand(100, 3), rows, adjust)
            loss.backward()
            return loss

        optimiser.step(closure)
        found = logits.detach()
        torch.testing.assert_close(found - found.mean(), expected, atol=1e-3, rtol=0)


def test_a_weight_counts_as_so_many_pictures() -> None:
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    twice = expression_loss(logits[[0, 0, 1, 2]], batch([0, 0, 1, 2]))
    weighted = expression_loss(logits, batch([0, 1, 2], weight=torch.tensor([2.0, 1.0, 1.0])))
    torch.testing.assert_close(weighted, twice)


def test_unlabelled_rows_do_not_count() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    loss = expression_loss(logits, batch([-1, -1], weight=torch.tensor([0.5, 0.5])))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()
