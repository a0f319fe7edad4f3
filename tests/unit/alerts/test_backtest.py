"""When a rule would have fired in the last hour."""

from __future__ import annotations

import pytest

from dashboard.alerts.evaluation.backtest import (
    MAX_FIRINGS,
    MAX_SUBJECTS,
    SubjectHistories,
    covered_labels,
    replay_rule,
    subject_histories,
)
from dashboard.alerts.evaluation.rule_history import RuleHistories, RuleHistory, TrackedSeries, figures_mark
from dashboard.alerts.evaluation.state_machine import AlertLabels
from dashboard.sampling.recent_history import History, QueueHistory, Series
from tests.unit.alerts.factories import queue, rule, sample, source

AT = 36_000.0
MAIL = AlertLabels(source="main", backend="lists", queue="mail")


def hours(*points: float | None, labels: AlertLabels = MAIL, step_s: float = 60.0) -> SubjectHistories:
    return SubjectHistories(((labels, points),), step_s, AT)


def test_a_breach_counts_once_it_lasts_and_ends_once_it_recovers() -> None:
    lasting = rule(critical=10, for_s=60, recover_for_s=60)
    found = replay_rule(lasting, hours(5, 20, 5, 20, 20, 20, 5, 5, 5))
    assert (found.criticals, found.warnings, found.count) == (1, 0, 1)
    (fired,) = found.firings
    assert (fired.severity, fired.labels, fired.value) == ("critical", MAIL, 20)
    assert fired.at == AT - 4 * 60  # one minute after the breach that lasted
    assert fired.lasted_s == 180  # two minutes of breach, one of recovery
    assert found.covered_s == 9 * 60


def test_what_has_not_ended_is_still_firing() -> None:
    (fired,) = replay_rule(rule(critical=10, for_s=0), hours(5, 20, 20)).firings
    assert fired.lasted_s is None


def test_unknown_figures_neither_fire_nor_end_an_alert() -> None:
    careful = rule(critical=10, for_s=0, recover_for_s=0, no_data="breach")
    assert replay_rule(careful, hours(None, None, 5)).count == 0
    assert replay_rule(careful, hours(None, 5, 20, 5)).count == 1
    (fired,) = replay_rule(careful, hours(20, None, None, 20, 5)).firings
    assert fired.lasted_s == 240
    assert replay_rule(careful, hours(None, None, 5)).covered_s == 60


def test_both_severities_are_counted_and_the_newest_are_listed_first() -> None:
    both = rule(warning=3, critical=10, for_s=0, recover_for_s=0)
    found = replay_rule(both, hours(5, 0, 5, 0, 5, 0, 5, 0, 20, 0))
    assert (found.criticals, found.warnings) == (1, 5)
    assert len(found.firings) == MAX_FIRINGS < found.count
    assert [firing.severity for firing in found.firings[:2]] == ["critical", "warning"]
    assert found.firings[0].at == AT - 60


def test_low_is_bad_for_a_rule_that_says_so() -> None:
    low = rule(metric="queue.throughput_per_min", op="lt", warning=2, for_s=0)
    assert replay_rule(low, hours(5, 1, 5)).warnings == 1


def test_only_the_worst_subjects_are_replayed() -> None:
    series = tuple((AlertLabels(queue=str(number)), (0, 20 + number)) for number in range(MAX_SUBJECTS + 1))
    found = replay_rule(rule(critical=10, for_s=0), SubjectHistories(series, 60.0, AT))
    assert found.is_least
    assert found.count == MAX_SUBJECTS
    calm = tuple((AlertLabels(queue=str(number)), (0, 1)) for number in range(MAX_SUBJECTS + 1))
    assert not replay_rule(rule(critical=10), SubjectHistories(calm, 60.0, AT)).is_least


def stored(metric: str, *lines: Series, worst: Series) -> RuleHistories:
    labels = (AlertLabels(source="main", backend="lists", queue=name) for name in ("mail", "video"))
    tracked = tuple(TrackedSeries(labels=each, points=line) for each, line in zip(labels, lines, strict=False))
    mark = figures_mark(rule(metric=metric))
    return RuleHistories(at=AT, step_s=60, rules={"other": RuleHistory(mark=mark, since=0, worst=worst, lines=tracked)})


def test_the_sampler_knows_every_queue_and_the_checker_the_worst() -> None:
    snapshot = sample([queue("mail"), queue("video"), queue("else", source="other")])
    depths = {f"main\0lists\0{name}": QueueHistory(depth=(1, 2)) for name in ("mail", "video")}
    history = History(step_s=15, last_at=AT, queues=depths)
    deep = rule(source="main")
    found = subject_histories(deep, snapshot, history, None)
    assert found is not None
    assert [labels.queue for labels, _ in found.series] == ["mail", "video"]
    assert (found.step_s, found.last_at, found.of_worst) == (15, AT, False)
    # Of a metric that only the checker records: all lines, if there is one for each; otherwise the worst of all.
    late = rule(metric="queue.latency_s")
    all_known = stored("queue.latency_s", (1, 2), (3, 4), worst=(3, 4))
    two = sample([queue("mail"), queue("video")])
    found = subject_histories(late, two, history, all_known)
    assert found is not None
    assert ([points for _, points in found.series], found.of_worst) == ([(1, 2), (3, 4)], False)
    found = subject_histories(late, two, history, stored("queue.latency_s", (1, 2), worst=(3, 4)))
    assert found is not None
    assert (found.series, found.of_worst) == (((AlertLabels(), (3, 4)),), True)
    assert subject_histories(late, two, history, None) is None


@pytest.mark.parametrize(
    ("fields", "covered"),
    [
        ({}, ["mail", "video"]),
        ({"queues": ["ma*"]}, ["mail"]),
        ({"queues_not": ["ma*"]}, ["video"]),
        ({"scope": "sum"}, [None]),
    ],
)
def test_what_a_rule_covers(fields: dict[str, object], covered: list[str | None]) -> None:
    snapshot = sample([queue("mail"), queue("video")])
    assert [labels.queue for labels in covered_labels(rule(**fields), snapshot)] == covered


def test_a_rule_on_redis_covers_sources() -> None:
    snapshot = sample([queue("mail")], [source("main"), source("other")])
    memory = rule(metric="redis.memory_ratio", critical=0.9, source="o*")
    assert covered_labels(memory, snapshot) == [AlertLabels(source="other")]
