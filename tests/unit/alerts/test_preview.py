"""Previews of rules on one sample and on the last hour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from dashboard.alerts.evaluation.checker_context import CheckerContext
from dashboard.alerts.evaluation.durations import PersistedDurations
from dashboard.alerts.evaluation.evaluator import Evaluator
from dashboard.alerts.evaluation.preview import (
    RuleMatch,
    RuleObservations,
    RulePreview,
    Trend,
    build_observations,
    preview_rules,
    rule_trend,
    sampled_trend,
)
from dashboard.alerts.evaluation.reducers import FigureReducers
from dashboard.alerts.evaluation.rule_history import RuleHistories, RuleHistory, TrackedSeries, figures_mark
from dashboard.alerts.evaluation.state_machine import AlertLabels
from dashboard.alerts.rules.figures import IDLE
from dashboard.alerts.rules.rule import Rule, Severity, parse_rule
from dashboard.model import Counts, QueueStats, Snapshot
from dashboard.sampling.recent_history import History, QueueHistory
from dashboard.store.packing import pack, unpack
from tests.unit.alerts.factories import sample, source

NOW = 1_800_000_000.0


def queue(name: str, depth: int | None, **figures: Any) -> QueueStats:
    return QueueStats(source="main", backend="lists", name=name, key=name, depth=depth, **figures)


def preview_one(
    snapshot: Snapshot,
    durations: PersistedDurations | None = None,
    checker_context: CheckerContext | None = None,
    **rule: Any,
) -> RulePreview:
    made = parse_rule({"id": "x", "metric": "queue.depth", **rule}, "test")
    found = dict(preview_rules(snapshot, History(), [made], checker_context or CheckerContext(now=NOW), durations, 2.0))
    return found[made]


def test_a_preview_lists_the_worst_first_and_counts_all() -> None:
    preview = preview_one(sample([queue(f"q{n}", n) for n in range(100)]), warning=9, critical=89)
    assert (preview.criticals, preview.warnings, preview.looked_at) == (10, 80, 100)
    assert [(match.labels.queue, match.value) for match in preview.beyond[:2]] == [("q99", 99), ("q98", 98)]
    assert len(preview.beyond) == 20
    assert preview.severity is Severity.CRITICAL


def test_unknown_values_are_counted_and_breach_no_threshold() -> None:
    preview = preview_one(sample([queue("a", None), queue("b", 1)]), warning=5)
    assert (preview.count, preview.unknown, preview.looked_at) == (0, 1, 2)
    assert preview.worst is not None
    assert (preview.worst.labels.queue, preview.worst.value) == ("b", 1)


def test_the_lowest_value_is_the_worst_for_a_rule_that_fires_below() -> None:
    snapshot = sample([queue("a", 3, throughput_per_min=7.0), queue("b", 3, throughput_per_min=2.0)])
    preview = preview_one(snapshot, metric="queue.throughput_per_min", op="lt", warning=5)
    assert [(match.labels.queue, match.value) for match in preview.beyond] == [("b", 2.0)]
    assert preview.worst == preview.beyond[0]


def test_a_preview_uses_the_durations_of_the_checker() -> None:
    snapshot = sample([queue("a", 3, paused=True)])
    durations = PersistedDurations(paused_s={"main\0lists\0a": 7200.0})
    assert preview_one(snapshot, metric="queue.paused_s", warning=3600).count == 0
    assert preview_one(snapshot, durations, metric="queue.paused_s", warning=3600).count == 1


def test_a_rule_with_a_window_is_not_judged_by_one_sample() -> None:
    preview = preview_one(sample([queue("a", 30)]), warning=5, reducer="mean", window_s=300)
    assert (preview.judged, preview.count) == (False, 0)
    assert preview.worst is not None


def evaluate_depths(
    rules: list[Rule], depths: Sequence[int | None], every_s: float = 2.0
) -> tuple[Evaluator, Snapshot, float]:
    """An evaluator given one queue with these depths, the last sample, and its time."""
    evaluator, now, snapshot = Evaluator(every_s), NOW, sample([])
    for depth in depths:
        now += every_s
        snapshot = sample([queue("a", depth), queue("b", 1)])
        evaluator.evaluate_rules(snapshot, History(), rules, {}, CheckerContext(now=now))
    return evaluator, snapshot, now


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("reducer", ["min", "max", "mean", "p95", "rate"])
@pytest.mark.parametrize("depths", [(10, 20, 60), (60, None, 20, None), (None, None)])
def test_the_preview_of_a_reducer_has_the_value_of_the_checker(
    reducer: str, depths: Sequence[int | None], enabled: bool
) -> None:
    what = {"id": "x", "metric": "queue.depth", "warning": 15, "enabled": enabled}
    made = parse_rule({**what, "reducer": reducer, "window_s": 300}, "test")
    evaluator, snapshot, now = evaluate_depths([made], depths)
    observations = unpack(pack(build_observations(evaluator, [made], now)), RuleObservations)
    ((_, preview),) = preview_rules(snapshot, History(), [made], CheckerContext(now=now + 5), None, 2.0, observations)
    figure = FigureReducers()
    for number, depth in enumerate(depths):
        expected = figure.reduce_figure(made, AlertLabels(queue="a"), depth, 2.0 * number)
    beyond = expected is not None and expected is not IDLE and expected > 15
    assert (preview.judged, preview.basis, preview.count, preview.looked_at) == (True, "checker", int(beyond), 2)
    assert [(match.labels.queue, match.value, match.severity) for match in preview.beyond] == (
        [("a", expected, Severity.WARNING)] if beyond else []
    )


def test_observations_of_another_rule_or_an_old_evaluation_are_not_used() -> None:
    made = parse_rule({"id": "x", "metric": "queue.depth", "warning": 15, "reducer": "max", "window_s": 300}, "test")
    evaluator, snapshot, now = evaluate_depths([made], (60, 1))
    observations = build_observations(evaluator, [made], now)

    def judged(rule: Rule, at: float) -> bool:
        checker_context = CheckerContext(now=at)
        previews = dict(preview_rules(snapshot, History(), [rule], checker_context, None, 2.0, observations))
        return previews[rule].judged

    assert judged(made, now)
    assert not judged(msgspec.structs.replace(made, warning=16), now)
    assert not judged(made, now + 31)


def test_the_preview_of_a_rate_has_the_value_of_the_checker() -> None:
    made = parse_rule({"id": "x", "metric": "redis.evicted_per_min", "critical": 0}, "test")
    evaluator = Evaluator(2.0)
    for number in range(3):
        snapshot = sample([], [source(run_id="1", evicted_keys=10 * number)])
        evaluator.evaluate_rules(snapshot, History(), [made], {}, CheckerContext(now=NOW + 2 * number))
    checker_context = CheckerContext(now=NOW + 5)
    assert dict(preview_rules(snapshot, History(), [made], checker_context, None, 2.0))[made].unknown == 1
    observations = build_observations(evaluator, [made], NOW + 4)
    preview = dict(preview_rules(snapshot, History(), [made], checker_context, None, 2.0, observations))[made]
    assert (preview.criticals, preview.unknown, preview.beyond[0].value) == (1, 0, 20.0)


def test_a_draft_with_a_reducer_is_judged_by_the_sampled_history() -> None:
    past = History(step_s=60, last_at=NOW - 30, queues={"main\0lists\0a": QueueHistory(depth=(100, 40, None, 20))})
    snapshot = sample([queue("a", 0), queue("b", 3)])

    def draft(**fields: Any) -> RulePreview:
        made = parse_rule({"id": "x", "metric": "queue.depth", "warning": 15, **fields}, "test")
        return dict(preview_rules(snapshot, past, [made], CheckerContext(now=NOW), None, 2.0))[made]

    mean = draft(reducer="mean", window_s=300)  # (100 + 40 + 20 + 0) / 4
    assert (mean.judged, mean.basis, mean.count) == (True, "history", 1)
    assert mean.worst is not None
    assert mean.worst.value == 40
    assert draft(reducer="max", window_s=100).beyond[0].value == 20  # the others are older than the window
    assert not draft(metric="queue.latency_s", reducer="max", window_s=300).judged
    assert not draft(metric="queue.error_ratio", warning=0.1, reducer="max", window_s=300).judged


def test_a_preview_lists_channels_with_failed_notifications() -> None:
    checker_context = CheckerContext(now=NOW, channels=("ops", "mail"), dead_messages={"ops": 2})
    preview = preview_one(sample([]), None, checker_context, metric="notify.dead", op="ge", warning=1)
    assert [(match.labels.channel, match.value) for match in preview.beyond] == [("ops", 2)]


def history() -> History:
    def one(*depth: int | None) -> QueueHistory:
        return QueueHistory(
            depth=depth, dead=depth, finished_per_min=tuple(10.0 for _ in depth), failed_per_min=(None, 1.0, 20.0)
        )

    queues = {"main\0lists\0a": one(1, 2, None), "main\0lists\0b": one(5, 6)}
    return History(step_s=60, queues=queues, memory={"main": (50, None, 75)})


@pytest.mark.parametrize(
    ("rule", "labels", "points"),
    [
        ({}, AlertLabels(source="main", backend="lists", queue="a"), (1, 2, None)),
        ({}, AlertLabels(source="main", backend="lists", queue="gone"), ()),
        ({"scope": "sum"}, AlertLabels(), (1, 7, 6)),
        ({"scope": "max"}, AlertLabels(), (1, 5, 6)),
        ({"scope": "max", "queues": ["a"]}, AlertLabels(), (1, 2, None)),
        (
            {"metric": "queue.error_ratio", "warning": 0.1},
            AlertLabels(source="main", backend="lists", queue="a"),
            (None, 0.1, 1.0),
        ),
    ],
)
def test_the_trend_of_a_sampled_metric(
    rule: dict[str, Any], labels: AlertLabels, points: tuple[float | None, ...]
) -> None:
    made = parse_rule({"id": "x", "metric": "queue.depth", "warning": 5, **rule}, "test")
    found = sampled_trend(made, labels, sample([queue("a", 2), queue("b", 6)]), history())
    assert found is not None
    assert found.points == points


def test_a_metric_that_is_not_sampled_has_no_trend() -> None:
    made = parse_rule({"id": "x", "metric": "queue.latency_s", "warning": 5}, "test")
    assert (
        sampled_trend(made, AlertLabels(source="main", backend="lists", queue="a"), sample([queue("a", 2)]), history())
        is None
    )


def test_the_counts_of_a_preview_add_up_over_many_queues() -> None:
    dead = [queue(f"q{n}", 0, counts=Counts(dead=n)) for n in range(50)]
    preview = preview_one(sample(dead), metric="queue.dead", op="ge", warning=40)
    assert (preview.count, preview.looked_at, preview.unknown) == (10, 50, 0)


PLACE = AlertLabels(source="main", backend="lists", queue="a")


def trend_at(
    values: dict[str, Any], stored: RuleHistories | None, *, at: float, value: float | None = 9
) -> Trend | None:
    made = parse_rule({"id": "x", "metric": "queue.latency_s", "warning": 5, **values}, "test")
    snapshot = msgspec.structs.replace(sample([queue("a", 2)]), sampled_at=at)
    return rule_trend(made, RuleMatch(PLACE, value, None), snapshot, history(), stored)


def stored(**values: Any) -> RuleHistories:
    made = parse_rule({"id": "x", "metric": "queue.latency_s", "warning": 5, **values}, "test")
    lines = (TrackedSeries(labels=PLACE, points=(2, None, 4)),)
    kept = RuleHistory(mark=figures_mark(made), since=NOW - 600, worst=(7, 8, 9, 10), lines=lines)
    return RuleHistories(at=NOW, step_s=60, rules={"x": kept})


def test_a_trend_is_the_stored_history_and_the_current_value() -> None:
    assert trend_at({}, None, at=NOW) is None
    for late in (2, 61):
        found = trend_at({}, stored(), at=NOW + late)
        assert found is not None
        assert (found.points, found.envelope, found.of_all) == ((2, None, 4, 9), (7, 8, 9, 10, 9), False)
        assert (found.slots, found.since) == (61, NOW - 180)  # its line is younger than the rule
    found = trend_at({}, stored(), at=NOW + 200, value=None)  # the checker has stopped
    assert found is not None
    assert found.points == (2, None, 4, None, None, None)
    assert trend_at({}, stored(), at=NOW + 2 * 3600) is None
    assert trend_at({"queues": ["a"]}, stored(), at=NOW) is None
    assert trend_at({"id": "copy", "warning": 6}, stored(), at=NOW) == trend_at({}, stored(), at=NOW)


def test_a_queue_without_a_stored_line_shows_the_worst_of_all_queues() -> None:
    made = parse_rule({"id": "x", "metric": "queue.latency_s", "warning": 5}, "test")
    snapshot = msgspec.structs.replace(sample([]), sampled_at=NOW + 5)
    found = rule_trend(made, RuleMatch(AlertLabels(queue="other"), 30, None), snapshot, history(), stored())
    assert found is not None
    assert (found.points, found.of_all, found.since) == ((7, 8, 9, 10, 30), True, NOW - 600)


def test_a_longer_sampled_history_of_the_same_value_is_used() -> None:
    longer = msgspec.structs.replace(history(), queues={"main\0lists\0a": QueueHistory(depth=tuple(range(30)))})
    made = parse_rule({"id": "x", "metric": "queue.depth", "warning": 5}, "test")
    snapshot = msgspec.structs.replace(sample([queue("a", 2)]), sampled_at=NOW + 5)
    match = RuleMatch(PLACE, 9, None)
    found = rule_trend(made, match, snapshot, longer, stored(metric="queue.depth"))
    assert found is not None
    assert (found.points, found.since, found.slots) == (tuple(range(30)), NOW - 180, 60)
    ratio = stored(metric="queue.error_ratio", warning=0.1)
    ratio_trend = trend_at({"metric": "queue.error_ratio", "warning": 0.1}, ratio, at=NOW)
    assert ratio_trend is not None
    assert (ratio_trend.points, ratio_trend.note) == ((2, None, 4, 9), None)


def test_growth_is_unknown_until_its_history_is_loaded() -> None:
    made = parse_rule({"id": "x", "metric": "queue.dead_growth_per_h", "warning": 5}, "test")
    snapshot = sample([queue("a", 0, counts=Counts(dead=9))])
    for sampled, loaded, unknown in ((0, 0, 0), (3, 0, 1), (3, 2, 0)):
        newer = msgspec.structs.replace(snapshot, history_version=sampled)
        found = dict(preview_rules(newer, History(version=loaded), [made], CheckerContext(now=NOW), None, 2.0))
        assert found[made].unknown == unknown
