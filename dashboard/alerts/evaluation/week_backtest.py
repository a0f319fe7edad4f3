"""When a rule would have fired in the last seven days, estimated from the stored history. Pure.

The history has the highest value of each slot, so a breach counts as if it had lasted for its whole slot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from msgspec.structs import replace

from ...history.activity.watched_time import BRIDGED_S
from ...history.columns import QUEUE, SOURCE
from ...history.history_reader import HistoryRange
from ...history.series_keys import SeriesKey
from ...history.slots import Slot, figure_values
from ...history.tiers import DAY_S, MINUTES, slot_of
from ..rules.rule import Rule, Severity
from .backtest import MAX_FIRINGS, PastFiring, is_ever_breached, replay_points
from .state_machine import AlertLabels

WEEK_S = 7 * DAY_S
FINE_STEP_S = 300  # as long as there are values of each minute
COARSE_STEP_S = 900

Point = float | None
_Join = Callable[[Iterable[float]], float]


def _plain(figure: str) -> Callable[[SeriesKey, Sequence[Slot], Rule], list[Point]]:
    return lambda key, slots, _: figure_values(key.kind, figure, slots)


def _error_ratios(key: SeriesKey, slots: Sequence[Slot], rule: Rule) -> list[Point]:
    place = key.kind.index_of("finished")
    least = max(rule.needed_events, 1)
    ratios = figure_values(key.kind, "error_ratio", slots)
    finished = [slot.cells[place] if slot.cells else None for slot in slots]
    return [
        ratio if isinstance(count, int) and count >= least else None
        for ratio, count in zip(ratios, finished, strict=True)
    ]


def _memory_ratios(key: SeriesKey, slots: Sequence[Slot], _: Rule) -> list[Point]:
    used = figure_values(key.kind, "used_memory_bytes", slots)
    limits = figure_values(key.kind, "maxmemory_bytes", slots)
    return [one / limit if one is not None and limit else None for one, limit in zip(used, limits, strict=True)]


def _idle_times(key: SeriesKey, slots: Sequence[Slot], rule: Rule) -> list[Point]:
    """The seconds since the last new job at the end of each slot. After a gap, they are lower bounds: unknown until one
    is a breach."""
    arrived, uncounted = key.kind.index_of("enqueued"), key.kind.index_of("uncounted_ms")
    found: list[Point] = []
    idle_s, is_least = 0.0, True
    for slot, after in pairwise(slots):
        jobs = None if slot.cells is None else slot.cells[arrived]
        missing_ms = None if slot.cells is None else slot.cells[uncounted]
        if isinstance(missing_ms, int) and missing_ms > BRIDGED_S * 1000:
            jobs = None
        idle_s = 0.0 if jobs != 0 else idle_s + after.start_s - slot.start_s
        is_least = jobs is None or (is_least and not jobs)
        is_known = jobs is not None and (not is_least or is_ever_breached(rule, (idle_s,)))
        found.append(idle_s if is_known else None)
    return [*found, None] if slots else found  # the last slot has not ended


@dataclass(frozen=True, slots=True)
class _Stored:
    """How the figure of a metric comes from the history. `note`: how it differs from what the rule evaluates."""

    points: Callable[[SeriesKey, Sequence[Slot], Rule], list[Point]]
    note: str | None = None
    fine_step_s: int = FINE_STEP_S


_PAUSES = "pauses are not stored"
_STORED: Mapping[str, _Stored] = {
    "queue.depth": _Stored(_plain("depth")),
    "queue.dead": _Stored(_plain("dead")),
    "queue.latency_s": _Stored(_plain("latency_s"), _PAUSES),
    "queue.throughput_per_min": _Stored(_plain("throughput_per_min"), _PAUSES),
    "queue.enqueue_idle_s": _Stored(_idle_times, "the time before a gap does not count", fine_step_s=COARSE_STEP_S),
    "queue.error_ratio": _Stored(_error_ratios, fine_step_s=COARSE_STEP_S),
    "redis.memory_ratio": _Stored(_memory_ratios),
    "redis.evicted_per_min": _Stored(_plain("evicted_per_min")),
    "redis.rejected_per_min": _Stored(_plain("rejected_per_min")),
    "redis.replica_lag_bytes": _Stored(_plain("replica_lag_bytes")),
}
# Their figures are shares of what was usual at that time.
_COMPARED = frozenset(
    {
        "queue.activity_ratio",
        "class.activity_ratio",
        "queue.workers_ratio",
        "queue.runtime_p95_ratio",
        "class.runtime_p95_ratio",
    }
)


@dataclass(frozen=True, slots=True)
class Week:
    """The last seven days of what a rule covers, oldest first, in slots: (its start in seconds since 1970, its length).

    `is_part`: it covers more than was read. `note`: how the figures differ from those that the rule evaluates.
    """

    slots: tuple[tuple[int, int], ...]
    series: tuple[tuple[AlertLabels, tuple[Point, ...]], ...]
    is_part: bool = False
    note: str | None = None


@dataclass(frozen=True, slots=True)
class WeekBacktest:
    """What a rule would have done. `firings`, newest first, holds at most MAX_FIRINGS of all `warnings` + `criticals`.

    `firing_s`: how long at least one alert would have been firing. `covered_s`: how far back values go, 0 without any.
    `precision`: the time that each value stands for, in words. `is_least`: not all that the rule covers was replayed.
    """

    firings: tuple[PastFiring, ...]
    criticals: int
    warnings: int
    firing_s: float
    covered_s: float
    precision: str
    is_least: bool = False
    note: str | None = None

    @property
    def count(self) -> int:
        """The number of alerts that would have fired."""
        return self.criticals + self.warnings


def is_stored(rule: Rule) -> bool:
    """Whether the history has the figure that a rule evaluates."""
    return rule.metric in _STORED and rule.reducer == "last"


def why_not_replayed(rule: Rule) -> str | None:
    """Why the last seven days of a rule cannot be estimated, for one whose figure compares with what is usual."""
    return "Not estimated: what was usual at each hour is not stored." if rule.metric in _COMPARED else None


def week_ranges(rule: Rule, now_s: float) -> tuple[HistoryRange, ...]:
    """The slots to read for a rule in `_STORED`, oldest first."""
    start_s, end_s = slot_of(now_s - WEEK_S, COARSE_STEP_S), slot_of(now_s, COARSE_STEP_S) + COARSE_STEP_S
    step_s = _STORED[rule.metric].fine_step_s
    if step_s == COARSE_STEP_S:
        return (HistoryRange(start_s, end_s, COARSE_STEP_S),)
    border_s = slot_of(now_s - MINUTES.keep_s, COARSE_STEP_S) + COARSE_STEP_S
    return HistoryRange(start_s, border_s, COARSE_STEP_S), HistoryRange(border_s, end_s, step_s)


def series_key(labels: AlertLabels) -> SeriesKey:
    """Where the history of what an alert is about is stored."""
    if labels.queue is None:
        return SeriesKey(SOURCE, labels.source or "")
    return SeriesKey(QUEUE, labels.source or "", labels.backend or "", labels.queue)


def build_week(
    rule: Rule,
    covered: Sequence[AlertLabels],
    ranges: Sequence[HistoryRange],
    read: Sequence[Mapping[SeriesKey, Sequence[Slot]]],
    *,
    is_part: bool,
) -> Week:
    """The week of a rule from the slots of each of its ranges. `covered`: queues or sources, each for itself."""
    stored = _STORED[rule.metric]
    slots = tuple((start_s, span.step_s) for span in ranges for start_s in range(span.start_s, span.end_s, span.step_s))
    series = []
    for labels in covered:
        key = series_key(labels)
        series.append((labels, tuple(point for part in read for point in stored.points(key, part[key], rule))))
    if rule.scope != "each":
        join: _Join = sum if rule.scope == "sum" else max
        series = [(AlertLabels(), _join_points([points for _, points in series], join))]
    return Week(slots, tuple(series), is_part=is_part, note=stored.note)


def replay_week(rule: Rule, week: Week) -> WeekBacktest:
    """The alerts that the rule would have fired. `min_samples` does not count, and unknown values are no breach.

    Takes up to 10 ms for each series that flaps.
    """
    rules = {float(step_s): _rule_of_slots(rule, step_s) for _, step_s in week.slots}
    slots = [(float(start_s), float(step_s)) for start_s, step_s in week.slots]
    found = [
        firing
        for labels, points in week.series
        if is_ever_breached(rule, points)
        for firing in replay_points(rules, labels, slots, points)
    ]
    found.sort(key=lambda firing: (firing.at, firing.severity is Severity.CRITICAL), reverse=True)
    criticals = sum(firing.severity is Severity.CRITICAL for firing in found)
    end_s = sum(slots[-1]) if slots else 0.0
    firsts = (at for (at, _), point in zip(slots, worst_points(rule, week), strict=True) if point is not None)
    return WeekBacktest(
        firings=tuple(found[:MAX_FIRINGS]),
        criticals=criticals,
        warnings=len(found) - criticals,
        firing_s=_covered_time(
            (each.at, end_s if each.lasted_s is None else each.at + each.lasted_s) for each in found
        ),
        covered_s=end_s - next(firsts, end_s),
        precision="15 min" if len(rules) == 1 else "5 min of the last 2 days, and in each 15 min before",
        is_least=week.is_part,
        note=week.note,
    )


def worst_points(rule: Rule, week: Week) -> tuple[Point, ...]:
    """The worst value of all series in each slot."""
    return _join_points([points for _, points in week.series], max if rule.worsens_upwards else min)


def even_points(rule: Rule, week: Week) -> tuple[Point, ...]:
    """`worst_points` in slots of COARSE_STEP_S."""
    joined: dict[int, list[Point]] = {}
    for (start_s, _), point in zip(week.slots, worst_points(rule, week), strict=True):
        joined.setdefault(slot_of(start_s, COARSE_STEP_S), []).append(point)
    worst = max if rule.worsens_upwards else min
    return tuple(_join_known(points, worst) for points in joined.values())


def _rule_of_slots(rule: Rule, step_s: int) -> Rule:
    """The rule for values that each stand for `step_s`: one value beyond a threshold is a breach of that length."""
    return replace(
        rule,
        min_samples=1,
        no_data="keep",
        version=1,
        for_s=max(0.0, rule.for_s - step_s),
        recover_for_s=max(0.0, rule.recover_for_s - step_s),
    )


def _join_points(series: Sequence[Sequence[Point]], join: _Join) -> tuple[Point, ...]:
    return tuple(_join_known(points, join) for points in zip(*series, strict=True))


def _join_known(points: Iterable[Point], join: _Join) -> Point:
    known = [point for point in points if point is not None]
    return join(known) if known else None


def _covered_time(spans: Iterable[tuple[float, float]]) -> float:
    """The seconds that lie in at least one span from a beginning to an end."""
    covered_s, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        covered_s += max(0.0, end - max(begin, until))
        until = max(until, end)
    return covered_s
