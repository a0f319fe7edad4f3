"""Rates from what ended between looks."""

from __future__ import annotations

import pytest

from dashboard.collect.flow import FlowWindow
from dashboard.model import Quality, QueueFlow


def flow(completed: int, dead: int = 0, *, span_s: float = 2.0, **more: object) -> QueueFlow:
    values: dict[str, object] = {"quality": Quality.EXACT} | more
    return QueueFlow(key="q", completed=completed, dead=dead, span_s=span_s, **values)  # type: ignore[arg-type]


def test_nothing_seen_is_unknown_and_not_zero() -> None:
    rates = FlowWindow().rates(1000.0)
    assert rates.throughput_per_min is None
    assert rates.error_ratio is None
    assert rates.quality is Quality.UNKNOWN


def test_an_idle_queue_has_a_rate_of_zero_and_no_error_ratio() -> None:
    window = FlowWindow()
    window.add(1000.0, flow(0))
    rates = window.rates(1000.0)
    assert (rates.throughput_per_min, rates.failed_per_min, rates.error_ratio) == (0.0, 0.0, None)


def test_finished_counts_good_and_dead_jobs_and_the_ratio_is_their_share() -> None:
    window = FlowWindow()
    for tick in range(30):
        window.add(1000.0 + 2 * tick, flow(3, 1))
    rates = window.rates(1058.0)
    assert rates.throughput_per_min == pytest.approx(4 * 30)
    assert rates.failed_per_min == pytest.approx(30)
    assert rates.error_ratio == pytest.approx(0.25)


def test_the_first_look_back_leaves_the_window_bit_by_bit() -> None:
    window = FlowWindow()
    window.add(1000.0, flow(300, span_s=300.0))  # one a second, before anybody looked
    for tick in range(1, 76):
        window.add(1000.0 + 2 * tick, flow(0))
    assert window.rates(1150.0).throughput_per_min == pytest.approx(30.0)  # half a window of each
    assert window.rates(1300.0).throughput_per_min == pytest.approx(0.0)


def test_the_time_really_covered_divides_and_not_the_time_that_passed() -> None:
    window = FlowWindow()
    window.add(1000.0, flow(60, span_s=30.0))
    assert window.rates(1000.0).throughput_per_min == pytest.approx(120.0)


def test_old_entries_leave_the_window() -> None:
    window = FlowWindow()
    window.add(1000.0, flow(5))
    assert window.rates(1301.0).throughput_per_min is None


def test_one_estimate_makes_the_rate_an_estimate_with_its_reason() -> None:
    window = FlowWindow()
    window.add(1000.0, flow(1))
    window.add(1002.0, flow(1, quality=Quality.ESTIMATED, reason="the stream was trimmed"))
    window.add(1004.0, flow(1))
    rates = window.rates(1004.0)
    assert (rates.quality, rates.reason) == (Quality.ESTIMATED, "the stream was trimmed")


def test_a_gap_leaves_an_estimate_and_ends_as_unknown_while_it_lasts() -> None:
    window = FlowWindow()
    window.add(1000.0, flow(10))
    window.add(1002.0, flow(0, quality=Quality.UNKNOWN, reason="wrong type"))
    assert window.rates(1002.0).throughput_per_min is None
    assert window.rates(1002.0).reason == "wrong type"
    window.add(1004.0, flow(10))
    rates = window.rates(1004.0)
    assert (rates.throughput_per_min, rates.quality) == (pytest.approx(300.0), Quality.ESTIMATED)


def test_percentiles_need_a_few_run_times() -> None:
    window = FlowWindow()
    window.add(1000.0, flow(4, runtimes_s=(1.0, 2.0, 3.0, 4.0)))
    assert window.rates(1000.0).runtime_p50_s is None
    window.add(1002.0, flow(96, runtimes_s=tuple(float(n) for n in range(5, 101))))
    rates = window.rates(1002.0)
    assert rates.runtime_p50_s == pytest.approx(50, abs=1)
    assert rates.runtime_p95_s == pytest.approx(95, abs=1)
