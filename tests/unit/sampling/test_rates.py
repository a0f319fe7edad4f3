"""Rates from what ended between looks."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from dashboard.backends.base import FLOW_WINDOW_S
from dashboard.model import Counts, Quality, QueueFlow, QueueStats, State
from dashboard.sampling.rate_periods import RateSums
from dashboard.sampling.rates import PART_OF_TIME, FlowWindow, join_reasons, with_rates
from tests.counting import calls_of


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


@pytest.mark.parametrize("quiet", [False, True])
def test_a_look_back_that_was_wrong_is_forgotten(quiet: bool) -> None:
    window = FlowWindow()
    window.add(1000.0, flow(0 if quiet else 20, 0 if quiet else 20, span_s=300.0))
    window.add(1002.0, flow(0))
    for tick in range(2, 31):
        window.add(1000.0 + 2 * tick, flow(3, 1, incomplete_start=tick >= 5))
    rates = window.rates(1060.0)
    assert rates.throughput_per_min == pytest.approx(4 * 29)
    assert rates.error_ratio == pytest.approx(0.25)
    assert (rates.finished_15min, rates.failed_15min) == (4 * 29, 29)


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
    assert rates.runtime_p50_s == pytest.approx(51, rel=0.011)
    assert rates.runtime_p95_s == pytest.approx(96, rel=0.011)


def test_run_times_leave_with_their_stretch_of_time() -> None:
    window = FlowWindow()
    window.add(1000.0, flow(9, runtimes_s=(100.0,) * 9))
    window.add(1200.0, flow(9, runtimes_s=(0.0, *(1.0,) * 8)))
    assert window.rates(1200.0).runtime_p95_s == pytest.approx(100, rel=0.011)
    assert window.rates(1301.0).runtime_p95_s == pytest.approx(1, rel=0.011)
    assert window.rates(1501.0).runtime_p95_s is None


@pytest.mark.parametrize("busy", [True, False])
def test_what_is_kept_of_a_queue_does_not_grow_with_the_looks(busy: bool) -> None:
    window = FlowWindow()
    drawn = random.Random(7)
    looks = []
    for tick in range(1, 601):
        at, ended = 1000.0 + tick / 2, drawn.randrange(20) if busy else 0
        window.add(at, flow(ended, span_s=0.5, runtimes_s=(drawn.random(),) * ended))
        looks.append((at, ended))
    for later_s in (0.0, 60.0, 150.0, 299.0):
        now = 1300.0 + later_s
        ended = sum(count for at, count in looks if at > now - 300.0)
        # What is known of the stretch at the edge of the window is spread over it.
        span_s = 300.0 - later_s
        assert window.rates(now).throughput_per_min == pytest.approx(ended * 60 / span_s, abs=20 * 60 * 15 / span_s)
    size = len(msgspec.json.encode([piece.times for piece in window._pieces]))
    assert len(window._pieces) <= (2 if not busy else 22)
    assert size < 10_000


BOTH = (State.COMPLETED, State.DEAD)


@pytest.mark.parametrize(
    ("hidden", "ended", "expected"),
    [
        ((), None, (12 * 30, 2 * 30, 2 / 12)),
        ((State.COMPLETED,), None, (None, 2 * 30, None)),
        ((State.DEAD,), None, (None, None, None)),
        (BOTH, None, (None, None, None)),
        ((State.COMPLETED,), 40, (40 * 30, 2 * 30, 2 / 40)),
        (BOTH, 40, (40 * 30, None, None)),
    ],
)
def test_no_rate_is_made_of_the_visible_part(
    hidden: tuple[State, ...], ended: int | None, expected: tuple[float | None, ...]
) -> None:
    window = FlowWindow()
    window.add(1000.0, flow(10, 2, hidden=hidden, ended=ended, reason="result_ttl is 0"))
    rates = window.rates(1000.0)
    shown = (rates.throughput_per_min, rates.failed_per_min, rates.error_ratio)
    assert shown == tuple(value if value is None else pytest.approx(value) for value in expected)
    assert rates.reason == "result_ttl is 0"
    known = [value for value in shown if value is not None]
    assert rates.quality is (Quality.UNKNOWN if not known else Quality.ESTIMATED if hidden else Quality.EXACT)
    # The share of failures looks back fifteen minutes: what was hidden in them makes it unknown.
    for tick in range(1, 451):
        window.add(1000.0 + 2 * tick, flow(0))
        if tick == 449:
            rates = window.rates(1898.0)
            unknown = (bool(hidden) and ended is None, State.DEAD in hidden)
            assert (rates.finished_15min is None, rates.failed_15min is None) == unknown
    assert window.rates(1900.0).finished_15min is not None
    assert window.rates(1900.0).failed_15min is not None


def row(depth: int, latency_s: float | None = None, **more: Any) -> QueueStats:
    return QueueStats(source="s", backend="b", name="q", key="q", depth=depth, latency_s=latency_s, **more)


@pytest.mark.parametrize("unseen", [{"hidden": BOTH}, {"quality": Quality.UNKNOWN}])
@pytest.mark.parametrize(
    ("second", "progressed", "seen"),
    [
        (row(9), None, True),  # fewer wait
        (row(10, 3.0), None, True),  # another one is the oldest
        (row(12, 5.0), None, True),
        (row(10, 7.0), None, False),  # as many wait, and the oldest is the same
        (row(12, 7.0), None, False),
        (row(12), None, None),  # it may be worked off as quickly as jobs are added
        (row(12), True, True),
        (row(12), False, False),
    ],
)
def test_progress_is_seen_although_finished_jobs_leave_no_trace(
    unseen: dict[str, Any], second: QueueStats, progressed: bool | None, seen: bool | None
) -> None:
    window = FlowWindow()
    window.add(1000.0, flow(0, **unseen), row(10, None if second.latency_s is None else 5.0))
    window.add(1002.0, flow(0, progressed=progressed, **unseen), second)
    rates = window.rates(1003.0)
    assert rates.throughput_per_min is None
    assert rates.finished_ago_s == (1.0 if seen else None)
    assert rates.progress_known is (seen is not None)


def test_a_queue_that_counts_finished_jobs_makes_progress_only_by_them() -> None:
    window = FlowWindow()
    window.add(1000.0, flow(0), row(10, 5.0))
    window.add(1002.0, flow(0), row(9, 1.0))  # taken, and maybe given back
    rates = window.rates(1003.0)
    assert (rates.finished_ago_s, rates.progress_known) == (None, True)


def test_an_empty_list_of_a_queue_that_keeps_nothing_is_unknown() -> None:
    window = FlowWindow()
    window.add(1000.0, flow(3, hidden=BOTH, unlisted=BOTH, unlisted_reason="nothing is kept"))
    shown = with_rates(row(0, counts=Counts(completed=0, dead=4, waiting=0)), window.rates(1000.0))
    assert shown.counts == Counts(completed=None, dead=4, waiting=0)
    assert shown.notes == ("nothing is kept",)
    window.add(1002.0, flow(3))
    shown = with_rates(row(0, counts=Counts(completed=0)), window.rates(1002.0))
    assert (shown.counts.completed, shown.notes) == (0, ())


def test_rates_filled_in_are_those_of_now_whatever_came_before() -> None:
    dice = random.Random(7)
    base = QueueStats(source="main", backend="bullmq", name="q", key="q", depth=3, latency_s=1.0)
    reused = 0
    for _ in range(60):
        window, at, queue, former = FlowWindow(), 1000.0, base, None
        for _ in range(80):
            at += dice.choice([2.0, 2.0, 2.0, 40.0, 400.0])
            kinds: list[dict[str, Any]] = [
                {"completed": 3, "runtimes_s": (0.5,) * 6},
                {"completed": 0, "dead": 2},
                {"quality": Quality.UNKNOWN, "reason": "wrong type"},
                {"quality": Quality.ESTIMATED, "reason": "trimmed"},
                {"hidden": (State.COMPLETED,)},
                {"ended": 4, "hidden": (State.COMPLETED,)},
                {"progressed": True},
                {"progressed": False},
                {"unlisted": (State.DEAD,), "unlisted_reason": "not kept"},
            ]
            if dice.random() < 0.8:
                window.add(at, flow(**{"completed": 0, **(dice.choice(kinds) if dice.random() < 0.1 else {})}), queue)
            if dice.random() < 0.2:
                queue = msgspec.structs.replace(base, depth=dice.randrange(4), latency_s=dice.choice([None, 1.0, 9.0]))
            filled = window.fill_rates(queue, at, 9.0)
            assert filled == with_rates(queue, window.rates(at, 9.0))
            reused += filled is former
            former = filled
    assert reused > 100


def test_sums_that_are_kept_are_those_of_all_pieces() -> None:
    dice = random.Random(7)
    for _ in range(30):
        window, at = FlowWindow(), 1000.0
        for _ in range(120):
            at += dice.choice((0.5, 2.0, 16.0, 40.0))
            some = flow(
                dice.randrange(9),
                dice.randrange(3),
                span_s=dice.choice((0.5, 2.0, 16.0, 40.0, 300.0)),
                quality=dice.choice(list(Quality)),
                reason=dice.choice((None, "one", "two")),
                incomplete_start=dice.random() < 0.05,
            )
            window.add(at, some)
            window.rates(at)
            start = at - FLOW_WINDOW_S
            found, apart = window._sums_since(start), RateSums()
            for piece in window._pieces:
                apart.add(piece, start)
            assert found.worst is apart.worst
            assert (found.span_s, found.ended, found.dead) == pytest.approx((apart.span_s, apart.ended, apart.dead))


def test_a_queue_in_which_nothing_ends_costs_little() -> None:
    queue = QueueStats(source="main", backend="bullmq", name="q", key="q", depth=0)
    still, busy = FlowWindow(), FlowWindow()
    for tick in range(100):
        still.add(1000.0 + 2 * tick, flow(0), queue)
        busy.add(1000.0 + 2 * tick, flow(1), queue)
        still.fill_rates(queue, 1000.0 + 2 * tick)
    assert calls_of(lambda: still.fill_rates(queue, 1200.0)) < calls_of(lambda: busy.fill_rates(queue, 1200.0)) / 5


def test_what_ended_in_fifteen_minutes_costs_the_same_however_many_minutes_were_seen() -> None:
    window, costs = FlowWindow(), []
    for tick in range(900):
        window.add(1000.0 + 2 * tick, flow(2, 1), None)
        rates = window.rates(1000.0 + 2 * tick)
        if tick in (160, 440):
            costs.append(calls_of(lambda at=1000.0 + 2 * tick: window.rates(at)))  # type: ignore[misc]
    assert costs[0] == costs[1]
    # Buckets are dropped as a whole, by when they began.
    assert (rates.finished_15min, rates.failed_15min) == pytest.approx((3 * 450, 450), abs=3 * 8)
    assert rates.finished_15min == 3 * (rates.failed_15min or 0)
    window.add(1000.0 + 2 * 899 + 902, flow(5, 2), None)
    after = window.rates(1000.0 + 2 * 899 + 902)
    assert (after.finished_15min, after.failed_15min) == (7, 2)


def test_zero_workers_is_unknown_while_jobs_finish() -> None:
    nobody = QueueStats(source="main", backend="rq", name="a", key="q", depth=5, latency_s=9.0, workers=0)
    window = FlowWindow()
    window.add(1000.0, flow(5, span_s=300.0), nobody)  # they may have ended long before
    assert with_rates(nobody, window.rates(1000.0)).workers == 0
    window.add(1002.0, flow(1), nobody)
    assert with_rates(nobody, window.rates(1002.0)).workers is None
    window.add(1020.0, flow(0), nobody)
    assert with_rates(nobody, window.rates(1020.0)).workers == 0
    # Nor while they are taken, where ends leave no trace.
    hidden = flow(0, quality=Quality.ESTIMATED, hidden=(State.COMPLETED, State.DEAD))
    window.add(1022.0, hidden, msgspec.structs.replace(nobody, depth=4))
    assert with_rates(nobody, window.rates(1022.0)).workers is None


def test_a_slow_look_is_not_taken_for_a_job_that_was_taken() -> None:
    window = FlowWindow()
    hidden = flow(0, quality=Quality.ESTIMATED, hidden=(State.COMPLETED, State.DEAD))
    waiting = QueueStats(source="main", backend="rq", name="a", key="q", depth=5)
    for at, age_s, blur_s in ((1000.0, 60.0, 0.0), (1003.0, 62.0, 1.0), (1004.0, 64.0, 0.0), (1006.0, 66.0, 0.0)):
        window.add(at, hidden, msgspec.structs.replace(waiting, latency_s=age_s), blur_s=blur_s)
        assert window.rates(at).finished_ago_s is None
    window.add(1008.0, hidden, msgspec.structs.replace(waiting, latency_s=67.0), blur_s=0.0)  # the next one is younger
    assert window.rates(1008.0).finished_ago_s == 0


def test_a_reason_of_a_part_of_the_time_says_so() -> None:
    window = FlowWindow()
    window.add(1000.0, flow(0, span_s=0.0, quality=Quality.UNKNOWN, reason="Not yet."))
    window.add(1002.0, flow(2))
    rates = window.rates(1002.0)
    assert (rates.throughput_per_min, rates.reason) == (60.0, f"{PART_OF_TIME}Not yet.")


def test_reasons_are_joined_to_one_sentence() -> None:
    partly = f"{PART_OF_TIME}Not yet."
    assert join_reasons([partly, "RQ's lists.", f"{PART_OF_TIME}Redis restarted.", "RQ's lists."]) == (
        "RQ's lists; for part of the time, Not yet; Redis restarted"
    )
    assert join_reasons([partly]) == "for part of the time, Not yet"
    assert join_reasons([]) == ""
    assert join_reasons("abcd") == "a; b; c"
