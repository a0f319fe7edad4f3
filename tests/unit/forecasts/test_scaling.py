"""How many workers a queue needs; never none because something is not known."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.forecasts.queue_forecaster import LOWER_BOUND, NO_COUNT, TOO_SHORT, UNREADABLE
from dashboard.forecasts.scaling import NO_ARRIVALS, NO_RATE, MoreWorkers, suggest_more_workers, want_workers
from dashboard.model import Counts, ForecastState, QueueForecast, QueueStats, State
from tests.unit.forecasts.samples import queue_of

# 600 jobs a minute arrive, and each of the 5 workers finishes 300.
DRAINING = QueueForecast(
    state=ForecastState.DRAINING,
    empty_in_s=800.0,
    arriving_per_min=600.0,
    finishing_per_min=1500.0,
    per_worker_per_min=300.0,
    window_s=120.0,
)
GROWING = QueueForecast(
    state=ForecastState.GROWING,
    growing_per_min=300.0,
    arriving_per_min=1800.0,
    finishing_per_min=1500.0,
    per_worker_per_min=300.0,
    window_s=120.0,
)
BUSY = Counts(waiting=0, active=3)


def wanted(queue: QueueStats, *shared: QueueStats, rate: float | None = None) -> tuple[int | None, str | None]:
    return tuple(want_workers(queue, shared, 300, rate))  # type: ignore[return-value]


def test_more_workers_empty_a_queue_sooner() -> None:
    # (12,000 / 5 + 600) / 300 = 10 workers
    assert suggest_more_workers(queue_of(12_000, forecast=DRAINING)) == MoreWorkers(5, 300)
    # Too many for 5 and 15 minutes; (600,000 / 60 + 1800) / 300 = 40 workers
    assert suggest_more_workers(queue_of(600_000, forecast=GROWING, workers=9)) == MoreWorkers(31, 3600)
    # It is empty soon, and it keeps up.
    assert suggest_more_workers(queue_of(900, forecast=QueueForecast(state=ForecastState.STEADY))) is None
    assert suggest_more_workers(queue_of(5000, forecast=QueueForecast(**_fields(DRAINING, empty_in_s=500.0)))) is None
    assert suggest_more_workers(queue_of(12_000, forecast=GROWING, paused=True)) is None
    for unknown in ("arriving_per_min", "per_worker_per_min"):
        forecast = QueueForecast(**_fields(GROWING, **{unknown: None}))
        assert suggest_more_workers(queue_of(12_000, forecast=forecast)) is None
    assert suggest_more_workers(queue_of(12_000, forecast=GROWING, workers=None)) is None


def _fields(forecast: QueueForecast, **changes: Any) -> dict[str, Any]:
    return {name: getattr(forecast, name) for name in forecast.__struct_fields__} | changes


@pytest.mark.parametrize(
    ("queue", "rate", "expected"),
    [
        (queue_of(12_000, forecast=DRAINING), None, (10, None)),
        # From zero: the rate is remembered, or given, or the first worker shows it.
        (queue_of(12_000, workers=0, forecast=GROWING), None, (14, None)),
        (queue_of(50, workers=0, forecast=QueueForecast(arriving_per_min=0.0)), 5.0, (2, None)),
        (queue_of(12_000, workers=0, forecast=QueueForecast(reason=TOO_SHORT)), None, (1, None)),
        # Nothing to do, and that is known.
        (queue_of(0), None, (None, NO_ARRIVALS)),
        (queue_of(0, throughput_per_min=0.0), None, (0, None)),
        (queue_of(0, throughput_per_min=0.0, counts=BUSY), None, (1, None)),
        (queue_of(0, throughput_per_min=0.0, counts=Counts(waiting=0)), None, (1, None)),
        (queue_of(0, throughput_per_min=0.0, overdue_s=3.0), None, (1, None)),
        # They keep up with what arrives.
        (queue_of(0, throughput_per_min=600.0, counts=BUSY), 300.0, (2, None)),
        (queue_of(0, throughput_per_min=600.0, counts=BUSY), None, (4, None)),
        (queue_of(0, throughput_per_min=600.0, counts=BUSY, workers=2), None, (2, None)),
        (queue_of(0, throughput_per_min=600.0, workers=None), None, (None, NO_RATE)),
        # While it is paused, it keeps what it has.
        (queue_of(12_000, paused=True, forecast=GROWING), None, (5, None)),
        # Not known.
        (queue_of(12_000, forecast=QueueForecast(reason=TOO_SHORT)), None, (None, TOO_SHORT)),
        (queue_of(12_000, forecast=QueueForecast(state=ForecastState.NEVER)), 300.0, (None, NO_ARRIVALS)),
        (queue_of(12_000, forecast=QueueForecast(arriving_per_min=1.0)), None, (None, NO_RATE)),
        (queue_of(5, at_least=(State.WAITING,)), None, (None, LOWER_BOUND)),
        (queue_of(None), None, (None, NO_COUNT)),
        (queue_of(None, error="gone"), None, (None, UNREADABLE)),
    ],
)
def test_the_workers_that_a_queue_needs(
    queue: QueueStats, rate: float | None, expected: tuple[int | None, str | None]
) -> None:
    assert wanted(queue, rate=rate) == expected


def test_jobs_that_a_library_lists_for_all_queues_together_need_a_worker() -> None:
    idle = queue_of(0, throughput_per_min=0.0, counts=Counts(waiting=0))
    shared = {"name": "*", "shared": True}
    assert wanted(idle, queue_of(None, **shared)) == (0, None)  # none of them is running
    assert wanted(idle, queue_of(None, counts=BUSY, **shared)) == (1, None)
    assert wanted(idle, queue_of(None, overdue_s=9.0, **shared)) == (1, None)
