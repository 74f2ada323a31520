"""A budget ends by steps or by time, whichever is first."""

from __future__ import annotations

import pytest

from mien.training.task import Budget


@pytest.mark.parametrize(
    ("minutes", "step", "seconds", "share"),
    [(None, 5, 1e6, 0.5), (2.0, 5, 30.0, 0.5), (2.0, 1, 90.0, 0.75), (2.0, 10, 0.0, 1.0)],
)
def test_what_is_spent_is_the_further_of_steps_and_time(
    minutes: float | None, step: int, seconds: float, share: float
) -> None:
    assert Budget(10, minutes).share(step, seconds) == pytest.approx(share)
