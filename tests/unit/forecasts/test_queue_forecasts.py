"""Queues of known rates are forecast as they are; what cannot be said is not."""

from __future__ import annotations

import itertools
from statistics import median

import pytest

from dashboard.forecasts.queue_forecaster import (
    LOWER_BOUND,
    NO_WORKERS,
    PAUSED,
    THIN,
    TOO_SHORT,
    UNEVEN,
    UNREADABLE,
    QueueForecaster,
)
from dashboard.model import ForecastState, QueueForecast, State
from tests.unit.forecasts.samples import Rate, Seen, queue_of, simulate


def constant(per_s: float) -> Rate:
    return lambda _: per_s


def errors_of(seen: list[Seen], since_s: float) -> list[float]:
    """How far each "empty in" was from the truth, as a share; until half a minute before the end."""
    empty_at = next(one.at for one in seen if one.at > 0 and one.depth == 0)
    judged = [one for one in seen if since_s <= one.at < empty_at - 30]
    assert all(one.forecast.empty_in_s is not None for one in judged), "not known"
    return [abs((one.forecast.empty_in_s or 0) - (empty_at - one.at)) / (empty_at - one.at) for one in judged]


@pytest.mark.parametrize("quiet_s", [0, 1000])
def test_a_queue_fed_at_10_and_drained_at_25_is_right_from_minute_two_on(quiet_s: int) -> None:
    """Also where it stood still before its workers were started."""

    def run(seed: int) -> list[float]:
        seen = simulate(9000, lambda at: 10 * (at >= 0), lambda at: 25 * (at >= 0), 720, seed=seed, begin_s=-quiet_s)
        return errors_of(seen, 120)

    errors = sorted(error for seed in range(10) for error in run(seed))
    assert len(errors) > 2000
    # Chance remains in what is yet to arrive.
    assert errors[int(len(errors) * 0.98)] <= 0.15, errors[-50:]
    assert errors[len(errors) // 2] < 0.05


def test_the_rate_of_a_worker_and_of_arrivals_is_measured() -> None:
    forecast = simulate(9000, constant(10), constant(25), 400)[-1].forecast
    assert forecast.state is ForecastState.DRAINING
    assert forecast.arriving_per_min == pytest.approx(600, rel=0.1)
    assert forecast.finishing_per_min == pytest.approx(1500, rel=0.1)
    assert forecast.per_worker_per_min == pytest.approx(300, rel=0.1)


def test_a_queue_that_no_longer_gets_jobs_is_forecast_by_its_new_rate() -> None:
    """The hour before, in which it grew, says nothing: two minutes later, the figure is right."""
    seen = simulate(2000, lambda at: 12 if at < 3600 else 0, constant(8), 4800)
    known = [one for one in seen if 3720 <= one.at < 3720 + 600]
    left_s = [one.depth / 8 for one in known]
    assert [one.forecast.empty_in_s for one in known] == pytest.approx(left_s, rel=0.15)


def test_a_slow_change_of_direction_is_seen_through_the_noise() -> None:
    """It needs more than a minute to be seen, but an hour would still contain the growth before."""
    seen = [
        one
        for seed in range(6)
        for one in simulate(500, constant(5), lambda at: 4 if at < 3000 else 5.7, 3800, seed=seed)
        if one.at >= 3600
    ]
    left_s = [(one.depth / 0.7, one.forecast.empty_in_s) for one in seen if one.forecast.empty_in_s is not None]
    assert len(left_s) > 0.9 * len(seen)
    assert median(abs(found - truth) / truth for truth, found in left_s) < 0.35


def test_finished_jobs_that_leave_no_trace_hide_rates_but_not_the_forecast() -> None:
    seen = simulate(3000, constant(10), constant(25), 230, counted=False)
    assert max(errors_of(seen, 120)) < 0.2
    forecast = seen[70].forecast
    assert forecast.state is ForecastState.DRAINING
    assert (forecast.arriving_per_min, forecast.finishing_per_min, forecast.per_worker_per_min) == (None, None, None)


@pytest.mark.parametrize(
    ("depth", "arrive", "finish", "state", "reason"),
    [
        (100, constant(12), constant(7), ForecastState.GROWING, None),
        (20_000, constant(10), constant(10), ForecastState.NEVER, None),
        (300, constant(10), constant(10), ForecastState.STEADY, None),
        (100, constant(0), constant(0), ForecastState.NEVER, None),
        (3, constant(0), constant(0), ForecastState.UNKNOWN, THIN),
        (0, constant(0), constant(0), ForecastState.EMPTY, None),
        # A burst every quarter of an hour: just after it, nothing can be said.
        (800, lambda at: 400 if at % 900 == 870 else 0, constant(1), ForecastState.UNKNOWN, UNEVEN),
    ],
)
def test_what_the_waiting_jobs_of_an_hour_do(
    depth: int, arrive: Rate, finish: Rate, state: ForecastState, reason: str | None
) -> None:
    last = simulate(depth, arrive, finish, 3600)[-1]
    assert (last.forecast.state, last.forecast.reason) == (state, reason)
    assert (last.forecast.growing_per_min is not None) == (state is ForecastState.GROWING)
    if state is ForecastState.GROWING:
        assert last.forecast.growing_per_min == pytest.approx(300, rel=0.15)


def test_the_state_does_not_flicker() -> None:
    """Of an hour of a thin, slow queue and of one that is fed by minutely batches, the text changes a few times."""
    thin = simulate(400, constant(1 / 60), constant(4 / 60), 3600)
    cron = simulate(200, lambda at: 50 if at % 60 < 2 else 0, constant(3), 3600)
    for seen in (thin, cron):
        states = [one.forecast.state for one in seen if one.depth]
        assert sum(a is not b for a, b in itertools.pairwise(states)) < 20


def test_a_moment_is_counted_down_and_not_moved_by_each_sample() -> None:
    seen = [one.forecast.empty_in_s for one in simulate(20_000, constant(10), constant(25), 900) if one.at >= 300]
    steps = [round(a - b) for a, b in itertools.pairwise([left for left in seen if left is not None])]
    assert len(steps) == len(seen) - 1
    assert sum(step == 2 for step in steps) > 0.9 * len(steps)


def test_a_pause_and_missing_workers_are_reasons_but_growth_is_known() -> None:
    draining = simulate(3000, constant(0), constant(2), 200, paused=True)[-1].forecast
    assert (draining.state, draining.reason, draining.empty_in_s) == (ForecastState.UNKNOWN, PAUSED, None)
    stuck = simulate(3000, constant(0), constant(0), 200, workers=0)[-1].forecast
    assert (stuck.state, stuck.reason) == (ForecastState.UNKNOWN, NO_WORKERS)
    growing = simulate(3000, constant(5), constant(0), 200, workers=0)[-1].forecast
    assert growing.state is ForecastState.GROWING
    assert growing.growing_per_min == pytest.approx(300, rel=0.15)


def test_nothing_is_said_of_a_minute_too_few_and_of_counts_that_are_not_known() -> None:
    assert {one.forecast.reason for one in simulate(50, constant(0), constant(5), 60)} <= {TOO_SHORT, None}
    assert simulate(900, constant(0), constant(5), 58)[-1].forecast.reason == TOO_SHORT
    forecaster = QueueForecaster()
    bound = forecaster.forecast(queue_of(5, at_least=(State.WAITING,)), 1.0, 0)
    assert (bound.state, bound.reason) == (ForecastState.UNKNOWN, LOWER_BOUND)
    assert forecaster.forecast(queue_of(None, error="wrong type"), 3.0, None).reason == UNREADABLE


def test_a_gap_makes_everything_before_it_unknown() -> None:
    forecaster = QueueForecaster()
    for second in range(0, 200, 2):
        known = forecaster.forecast(queue_of(5000 - 10 * second), float(second), 20)
    assert known.state is ForecastState.DRAINING
    forecaster.forecast(queue_of(900), 400.0, 20)
    for second in range(402, 430, 2):
        assert forecaster.forecast(queue_of(880), float(second), 20).reason == TOO_SHORT


def test_an_unchanged_queue_stays_the_same_object() -> None:
    """So that nothing is published again."""
    forecaster, row = QueueForecaster(), queue_of(40)
    filled = [forecaster.fill_forecast(row, float(second), 0) for second in range(0, 50, 2)]
    assert len({id(one) for one in filled}) == 1


def test_a_new_leader_continues_from_what_the_last_one_published() -> None:
    """For the minute that its own trend needs, if that is not too old."""
    last = simulate(9000, constant(10), constant(25), 300)[-1]
    forecaster = QueueForecaster()
    forecaster.adopt(last.forecast, 1000.0)

    def forecast(at: float, depth: int | None, **fields: object) -> QueueForecast:
        filled = forecaster.fill_forecast(queue_of(depth, **fields), at, 50)
        assert filled.forecast is not None
        return filled.forecast

    assert last.forecast.empty_in_s is not None
    first = forecast(1010.0, last.depth)
    assert (first.empty_in_s, first.growing_per_min) == (last.forecast.empty_in_s - 10, None)
    assert forecast(1012.0, last.depth, workers=0).reason == NO_WORKERS
    assert forecast(1014.0, 0).state is ForecastState.EMPTY
    for at in range(1016, 1090, 2):
        shown = forecast(at, last.depth - (at - 1016) * 30)
        assert shown.state is ForecastState.DRAINING
    assert shown.window_s != last.forecast.window_s, "its own"
    late, later = QueueForecaster(), QueueForecaster()
    for each, at in ((late, 1091.0), (later, 999.0)):
        each.adopt(last.forecast, 1000.0)
        filled = each.fill_forecast(queue_of(last.depth), at, 50).forecast
        assert filled is not None
        assert filled.reason == TOO_SHORT
        assert filled.per_worker_per_min == last.forecast.per_worker_per_min


def test_a_queue_that_has_stopped_growing_does_not_grow_by_less_than_nothing() -> None:
    """While another state is not confirmed yet."""
    for seed in range(5):
        seen = simulate(0, lambda at: 20 if at < 600 else 10, lambda at: 10, 1800, seed=seed)
        growth = [one.forecast.growing_per_min for one in seen if one.forecast.growing_per_min is not None]
        assert growth
        assert min(growth) > 0
