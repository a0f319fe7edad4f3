"""Which jobs of RQ stand for the run times of all."""

from __future__ import annotations

import pytest

from dashboard.backends.rq.flow.job_samples import timed_shares
from dashboard.model import State


@pytest.mark.parametrize(
    ("completed", "dead", "expected"),
    [
        ((100, 500), (20, 20), (1.0, 0.2)),
        ((100, 100), (20, 20), (1.0, 1.0)),
        ((100, 200), (100, 400), (0.5, 1.0)),
        ((0, 0), (20, 80), (0.25, 1.0)),  # there are no completed ones to time
        ((0, 50), (20, 20), (1.0, 1.0)),  # nothing else is known
        ((10, 5), (1, 1), (1.0, 1.0)),
    ],
)
def test_states_are_timed_in_equal_shares(
    completed: tuple[int, int], dead: tuple[int, int], expected: tuple[float, float]
) -> None:
    shares = timed_shares({State.COMPLETED: completed, State.DEAD: dead})
    assert (shares[State.COMPLETED], shares[State.DEAD]) == pytest.approx(expected)
