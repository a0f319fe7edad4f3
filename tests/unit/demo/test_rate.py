"""How the demo's producers hold back."""

from __future__ import annotations

import pytest

from dashboard.demo.rate import WorkRate


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def added(pace: WorkRate, clock: Clock, seconds: int, depth: int = 0) -> list[int]:
    """What each half second brings."""
    amounts = []
    for _ in range(2 * seconds):
        clock.now += 0.5
        amounts.append(pace.jobs_due(depth))
    return amounts


def test_the_average_is_what_was_asked_for(clock: Clock) -> None:
    pace = WorkRate(per_s=4.0, bound=10_000, swing=0.5, period_s=60.0, clock=clock)
    assert sum(added(pace, clock, 600)) == pytest.approx(2400, rel=0.1)


def test_bursts_come_on_top_and_the_first_one_early(clock: Clock) -> None:
    pace = WorkRate(per_s=0.0, bound=10_000, burst=100, burst_every_s=60.0, clock=clock)
    bursts = [amount for amount in added(pace, clock, 600) if amount]
    assert 7 <= len(bursts) <= 15
    assert all(60 <= amount <= 140 for amount in bursts)
    early = WorkRate(per_s=0.0, bound=10_000, burst=100, burst_every_s=60.0, clock=clock)
    assert any(added(early, clock, 19))


def test_a_full_queue_gets_nothing_and_nothing_is_made_up_for(clock: Clock) -> None:
    pace = WorkRate(per_s=50.0, bound=20, burst=500, burst_every_s=5.0, clock=clock)
    assert not any(added(pace, clock, 60, depth=20))
    assert not any(added(pace, clock, 60, depth=35))
    assert max(added(pace, clock, 60, depth=15)) == 5


def test_the_first_job_is_due_at_once(clock: Clock) -> None:
    assert WorkRate(per_s=0.01, bound=20, clock=clock).jobs_due(0) == 1
    assert WorkRate(per_s=0.01, bound=20, clock=clock).jobs_due(20) == 0
