"""When a rule would have fired in the last seven days, from slots of the history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest

from dashboard.alerts.evaluation.state_machine import AlertLabels
from dashboard.alerts.evaluation.week_backtest import (
    COARSE_STEP_S,
    FINE_STEP_S,
    Week,
    build_week,
    even_points,
    is_stored,
    replay_week,
    series_key,
    week_ranges,
    why_not_replayed,
)
from dashboard.alerts.rules.metrics import METRICS
from dashboard.alerts.rules.rule import Rule
from dashboard.history.columns import QUEUE, SOURCE, Cells, SeriesKind
from dashboard.history.history_reader import HistoryRange
from dashboard.history.series_keys import SeriesKey
from dashboard.history.slots import Slot
from dashboard.history.tiers import DAY_S, HOUR_S
from tests.unit.alerts.factories import rule

NOW = 1_700_000_000.0
MAIL = AlertLabels(source="main", backend="lists", queue="mail")
FILES = AlertLabels(source="main", backend="lists", queue="files")
MAIN = AlertLabels(source="main")


def cells(kind: SeriesKind, **values: int) -> Cells:
    return tuple(values.get(name) for name in kind.names)


def week_of(judged: Rule, of: Mapping[AlertLabels, Callable[[float], Cells | None]], *, is_part: bool = False) -> Week:
    """The week of a rule; `of`: the cells of a subject at so many seconds before now."""
    ranges = week_ranges(judged, NOW)
    read = [{series_key(labels): slots_of(span, at) for labels, at in of.items()} for span in ranges]
    return build_week(judged, list(of), ranges, read, is_part=is_part)


def slots_of(span: HistoryRange, at: Callable[[float], Cells | None]) -> Sequence[Slot]:
    return [Slot(start, span.step_s * 1000, at(NOW - start)) for start in range(span.start_s, span.end_s, span.step_s)]


def depths(of: Callable[[float], int]) -> Callable[[float], Cells | None]:
    return lambda ago_s: cells(QUEUE, depth=of(ago_s))


def test_the_slots_cover_the_week_once() -> None:
    older, newer = week_ranges(rule(), NOW)
    assert (older.step_s, newer.step_s) == (COARSE_STEP_S, FINE_STEP_S)
    assert NOW - 7 * DAY_S - COARSE_STEP_S < older.start_s <= NOW - 7 * DAY_S
    assert older.end_s == newer.start_s
    assert NOW < newer.end_s <= NOW + COARSE_STEP_S
    assert newer.start_s > NOW - 2 * DAY_S, "older values of each minute are not kept"
    (only,) = week_ranges(rule(metric="queue.error_ratio", critical=0.5), NOW)
    assert (only.start_s, only.end_s, only.step_s) == (older.start_s, newer.end_s, COARSE_STEP_S)


def test_alerts_are_counted_with_the_time_that_they_fire() -> None:
    def depth(ago_s: float) -> int:
        # An hour of breach three days ago, at least twenty minutes of it yesterday.
        is_breach = 3 * DAY_S - HOUR_S < ago_s <= 3 * DAY_S or DAY_S - 1200 < ago_s <= DAY_S
        return 50 if is_breach else 1

    judged = rule(critical=10, for_s=120, recover_for_s=60)
    found = replay_week(judged, week_of(judged, {MAIL: depths(depth)}))
    assert (found.criticals, found.warnings, found.count) == (2, 0, 2)
    assert found.firing_s == HOUR_S + 1200
    assert [firing.lasted_s for firing in found.firings] == [1200, HOUR_S]  # newest first
    assert found.firings[0].labels == MAIL
    assert not found.is_least
    assert 7 * DAY_S <= found.covered_s < 7 * DAY_S + 2 * COARSE_STEP_S


def test_a_breach_must_last_as_long_as_the_rule_says() -> None:
    def depth(ago_s: float) -> int:
        return 50 if DAY_S - 1200 < ago_s <= DAY_S else 1

    for for_s, expected in ((1200, 1), (1500, 0)):
        judged = rule(critical=10, for_s=for_s)
        assert replay_week(judged, week_of(judged, {MAIL: depths(depth)})).count == expected, for_s


def test_alerts_at_the_same_time_do_not_add_up() -> None:
    def depth(ago_s: float) -> int:
        return 50 if DAY_S - 1200 < ago_s <= DAY_S else 1

    judged = rule(warning=5, critical=10, for_s=0, recover_for_s=0)
    found = replay_week(judged, week_of(judged, {MAIL: depths(depth), FILES: depths(depth)}, is_part=True))
    assert (found.criticals, found.warnings, found.firing_s) == (2, 2, 1200)
    assert found.is_least


def test_sums_and_the_worst_queue() -> None:
    judged = rule(critical=10, scope="sum", for_s=0)
    both = {MAIL: depths(lambda _: 6), FILES: depths(lambda _: 5)}
    found = replay_week(judged, week_of(judged, both))
    assert found.count == 1
    assert found.firings[0].lasted_s is None
    assert found.firings[0].labels == AlertLabels()
    worst = rule(critical=10, scope="max", for_s=0)
    assert replay_week(worst, week_of(worst, both)).count == 0
    assert set(even_points(worst, week_of(worst, both))) == {6}


def test_gaps_are_no_breach_and_no_history_says_so() -> None:
    judged = rule(critical=10, for_s=0)
    half = replay_week(judged, week_of(judged, {MAIL: lambda ago_s: cells(QUEUE, depth=1) if ago_s < DAY_S else None}))
    assert half.count == 0
    assert DAY_S - COARSE_STEP_S <= half.covered_s <= DAY_S + COARSE_STEP_S
    assert replay_week(judged, week_of(judged, {MAIL: lambda _: None})).covered_s == 0


def test_an_error_ratio_needs_as_many_jobs_as_the_rule() -> None:
    judged = rule(metric="queue.error_ratio", critical=0.5, for_s=0, min_events=20)
    few = week_of(judged, {MAIL: lambda _: cells(QUEUE, finished=19, failed=19)})
    assert replay_week(judged, few).covered_s == 0
    many = week_of(judged, {MAIL: lambda _: cells(QUEUE, finished=20, failed=15)})
    assert replay_week(judged, many).count == 1


def test_the_time_since_the_last_new_job_begins_again_after_a_gap() -> None:
    judged = rule(metric="queue.enqueue_idle_s", warning=2 * HOUR_S, for_s=0)

    def arrived(ago_s: float) -> Cells | None:
        if DAY_S < ago_s <= DAY_S + HOUR_S:
            return None
        is_idle = ago_s <= 3 * DAY_S - HOUR_S and not ago_s <= HOUR_S
        return cells(QUEUE, enqueued=0 if is_idle else 5)

    found = replay_week(judged, week_of(judged, {MAIL: arrived}))
    assert found.warnings == 1, "a gap resolves nothing"
    assert found.firing_s == pytest.approx(3 * DAY_S - 4 * HOUR_S, abs=2 * HOUR_S)
    unknown = {MAIL: lambda _: cells(QUEUE, finished=5)}
    assert replay_week(judged, week_of(judged, unknown)).covered_s == 0


def test_memory_is_a_share_of_its_limit() -> None:
    judged = rule(metric="redis.memory_ratio", critical=0.8, for_s=0)
    full = {MAIN: lambda _: cells(SOURCE, used_memory_bytes=90, maxmemory_bytes=100)}
    assert replay_week(judged, week_of(judged, full)).firings[0].value == pytest.approx(0.9)
    unlimited = {MAIN: lambda _: cells(SOURCE, used_memory_bytes=90, maxmemory_bytes=0)}
    assert replay_week(judged, week_of(judged, unlimited)).covered_s == 0


def test_what_the_history_has() -> None:
    assert is_stored(rule())
    assert not is_stored(rule(reducer="mean", window_s=300))
    assert not is_stored(rule(metric="queue.stalled", critical=1))
    assert why_not_replayed(rule(metric="queue.stalled", critical=1)) is None
    for name, metric in METRICS.items():
        if "usual" in metric.phrase:
            assert "not stored" in (why_not_replayed(rule(metric=name, critical=1)) or ""), name
    assert series_key(MAIL) == SeriesKey(QUEUE, "main", "lists", "mail")
    assert series_key(MAIN) == SeriesKey(SOURCE, "main")
