"""The interval of a schedule in seconds, with all its digits."""

from __future__ import annotations

import pytest

from dashboard.backends.bullmq import schedules as bullmq
from dashboard.backends.celery import schedules as celery
from dashboard.backends.sidekiq import schedules as sidekiq


@pytest.mark.parametrize(
    ("seconds", "text"), [(300, "every 300 s"), (1_234_567, "every 1234567 s"), (0.25, "every 0.25 s")]
)
def test_an_interval_keeps_its_digits(seconds: float, text: str) -> None:
    assert celery._pattern_of({"__type__": "interval", "every": seconds}) == text
    assert sidekiq._pattern_of([seconds, {}]) == text
    assert bullmq._pattern_of({"pattern": None, "every": f"{seconds * 1000:.0f}"}) == text
