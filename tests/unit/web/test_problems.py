"""What counts as wrong, and in which order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dashboard.actions.pauses import PauseRecord, RecordedPauses
from dashboard.alerts.evaluation.state_machine import AlertLabels, AlertPhase, AlertState
from dashboard.alerts.management.alert_reader import Alert
from dashboard.alerts.management.checker_health import CheckerHealth
from dashboard.alerts.rules.default_rules import default_rules
from dashboard.alerts.rules.metrics import METRICS
from dashboard.alerts.rules.rule import Rule, Severity
from dashboard.alerts.silences import Acknowledgement
from dashboard.model import Counts, QueueStats, RedisHealth, Snapshot, SourceStats, State
from dashboard.sampling.last_known import LastKnownFigures
from dashboard.sampling.recent_history import History, QueueHistory, key_of
from dashboard.web.pages.overview import build_figures
from dashboard.web.views.overview.overview_data import OverviewData
from dashboard.web.views.problems import alert_problems, checks
from dashboard.web.views.problems.checks import check_queue, check_source, dead_growth
from dashboard.web.views.problems.outage import find_outage
from dashboard.web.views.problems.problem import Problem, ProblemKind, ProblemLevel
from dashboard.web.views.problems.problem_list import (
    NO_ALERTS,
    AlertFacts,
    group_problems,
    list_problems,
    list_queue_problems,
)
from dashboard.web.views.problems.thresholds import METRICS as JUDGED
from dashboard.web.views.problems.thresholds import Scale, Thresholds

WARNING, CRITICAL = ProblemLevel.WARNING, ProblemLevel.CRITICAL


def queue(name: str = "mail", **fields: Any) -> QueueStats:
    return QueueStats(source="main", backend="rq", name=name, key=name, **fields)


def source(**fields: Any) -> SourceStats:
    return SourceStats(**{"name": "main", "address": "redis://127.0.0.1:6379/0", "reachable": True, **fields})


def snapshot(*queues: QueueStats, sources: tuple[SourceStats, ...] = ()) -> Snapshot:
    return Snapshot(
        sampled_at=1000.0, interval_s=2, sequence=1, sampler="", epoch=0, sources=sources or (source(),), queues=queues
    )


RULES = Thresholds(default_rules())


def of_queue(each: QueueStats, dead_more: int = 0, thresholds: Thresholds = RULES) -> tuple[Problem, ...]:
    return check_queue(each, thresholds.for_queue(each), dead_more)


def of_source(each: SourceStats, now: float) -> list[Problem]:
    return check_source(each, RULES.for_source(each), now)


def of_snapshot(taken: Snapshot, facts: AlertFacts = NO_ALERTS) -> list[Problem]:
    return list_problems(taken, [list_queue_problems(each, facts) for each in taken.queues], facts)


def kinds_of(found: list[Any]) -> list[tuple[ProblemLevel, str]]:
    return [(problem.level, problem.kind) for problem in found]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({"depth": 0, "workers": 0, "paused": True, "latency_s": 0.0}, []),
        ({"depth": 5, "workers": None, "paused": None, "latency_s": None}, []),
        ({"depth": 5, "workers": 0}, [(CRITICAL, "no worker")]),
        ({"depth": 5, "workers": 0, "paused": True}, []),
        ({"depth": 5, "latency_s": 300.0}, []),
        ({"depth": 5, "latency_s": 300.1}, [(WARNING, "high latency")]),
        ({"depth": 5, "latency_s": 1800.1}, [(CRITICAL, "high latency")]),
        ({"depth": 5, "paused": True, "latency_s": 1800.1}, []),
        ({"overdue_s": 300.0}, []),
        ({"overdue_s": 301.0}, [(CRITICAL, "overdue")]),
        ({"overdue_s": 301.0, "paused": True}, []),
        ({"throughput_per_min": 2.0, "error_ratio": 0.06}, [(WARNING, "failing")]),
        ({"throughput_per_min": 2.0, "error_ratio": 0.05}, []),
        ({"throughput_per_min": 1.8, "error_ratio": 1.0}, []),
        ({"throughput_per_min": 2.0, "error_ratio": 0.26}, [(CRITICAL, "failing")]),
        ({"error": "wrong type"}, [(CRITICAL, "unreadable")]),
        ({"error": "x", "overdue_s": 301.0}, [(CRITICAL, "unreadable"), (CRITICAL, "overdue")]),
        ({"counts": Counts(dead=99)}, []),
        ({"counts": Counts(dead=100)}, [(WARNING, "dead letters")]),
    ],
)
def test_queues(fields: dict[str, Any], expected: list[tuple[ProblemLevel, str]]) -> None:
    assert kinds_of(of_queue(queue(**fields))) == expected


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        ({}, []),
        ({"memory_ratio": 0.74}, []),
        ({"memory_ratio": 0.75}, [(WARNING, "memory")]),
        ({"memory_ratio": 0.9}, [(CRITICAL, "memory")]),
        ({"memory_limited": True, "eviction_policy": "allkeys-lru"}, [(WARNING, "eviction")]),
        ({"memory_limited": True, "eviction_policy": "noeviction"}, []),
        ({"memory_limited": False, "eviction_policy": "allkeys-lru"}, []),
        ({"memory_limited": True, "eviction_policy": None}, []),
        ({"persistence_ok": False}, [(CRITICAL, "persistence")]),
        ({"persistence_ok": None}, []),
        ({"clients": 95, "max_clients": 100}, [(CRITICAL, "connections")]),
        ({"clients": 80, "max_clients": 100}, [(WARNING, "connections")]),
        ({"clients": 79, "max_clients": 100}, []),
    ],
)
def test_servers(health: dict[str, Any], expected: list[tuple[ProblemLevel, str]]) -> None:
    assert kinds_of(of_source(source(health=RedisHealth(**health)), 0.0)) == expected


def test_an_unreachable_server_hides_the_problems_of_its_queues() -> None:
    gone = source(reachable=False, error="Connection refused", unreachable_since=940.0)
    taken = snapshot(queue(depth=5, workers=0), sources=(gone,))
    (problem,) = list_problems(taken, [()], AlertFacts.of(RULES, [firing("queue.depth")], None))
    assert (problem.level, problem.kind, problem.source) == (CRITICAL, "unreachable", "main")
    assert problem.text.replace("\u202f", " ") == "cannot be read for 1 m: Connection refused"


def test_the_worst_comes_first() -> None:
    found = of_snapshot(
        snapshot(
            queue("late", depth=1, latency_s=370.0),
            queue("later", depth=1, latency_s=380.0),
            queue("left", depth=1, workers=0),
            queue("broken", error="x"),
            queue("left more", depth=9, workers=0),
        )
    )
    assert [problem.queue.name for problem in found if problem.queue] == [
        "broken",
        "left more",
        "left",
        "later",
        "late",
    ]


@pytest.mark.parametrize(
    ("past", "now", "growth"),
    [
        ((), 5, 0),
        ((None, None), 5, 0),
        ((3, 4), 5, 2),
        ((None, 4), 5, 1),
        ((9,), 5, 0),
        ((3,), None, 0),
        ((0, *[5] * 60), 5, 0),
    ],
)
def test_dead_letters_grow_against_an_hour_ago(past: tuple[int | None, ...], now: int | None, growth: int) -> None:
    one = queue(counts=Counts(dead=now))
    history = History(step_s=60, queues={key_of(one): QueueHistory(dead=past)})
    assert dead_growth(one, history) == growth


def test_the_short_way_to_no_problem_finds_what_the_long_one_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures around every threshold, one at a time and in pairs, for built-in rules and for those of a user."""
    figures: dict[str, tuple[Any, ...]] = {
        "depth": (None, 0, 1),
        "workers": (None, 0, 1, 2),
        "latency_s": (None, 0.0, 300.0, 300.1, 1800.1),
        "overdue_s": (None, 300.0, 300.1),
        "error_ratio": (None, 0.0, 0.05, 0.06, 1.0),
        "throughput_per_min": (None, 1.0, 60.0),
        "paused": (None, False, True),
        "error": (None, "broken"),
        "counts": (Counts(), Counts(dead=0), Counts(dead=99), Counts(dead=100), Counts(dead=1000)),
    }
    names = list(figures)
    queues = [
        queue(**{one: first, other: second})
        for number, one in enumerate(names)
        for other in names[number + 1 :]
        for first in figures[one]
        for second in figures[other]
    ]
    fewer = Rule(id="few", name="few", metric="queue.consumers", op="lt", critical=3.0)
    for thresholds in (RULES, Thresholds(), Thresholds([*default_rules(), fewer])):
        for growth in (0, 9, 10):
            short = [of_queue(each, growth, thresholds) for each in queues]
            with monkeypatch.context() as patched:
                patched.setattr(checks, "_is_healthy", lambda *_: False)
                assert short == [of_queue(each, growth, thresholds) for each in queues]
            assert any(short)
            assert growth == 10 or not all(short)


def test_so_few_dead_letters_cannot_rise_beyond_any_threshold() -> None:
    assert 9 < RULES.harmless_dead < 10
    lower = Rule(id="x", metric="queue.dead_growth_per_h", queues=("night*",), warning=5.0, op="ge")
    assert 4 < Thresholds([*default_rules(), lower]).harmless_dead < 5
    below = Rule(id="y", metric="queue.dead_growth_per_h", warning=5.0, op="lt")
    assert Thresholds([below]).harmless_dead < 0


@pytest.mark.parametrize(("growth", "level"), [(9, None), (10, WARNING), (100, CRITICAL)])
def test_dead_letters_rise_from_the_threshold_of_their_rule_on(growth: int, level: ProblemLevel | None) -> None:
    expected = [] if level is None else [(level, "dead letters rising")]
    assert kinds_of(list(of_queue(queue(counts=Counts(dead=50)), growth))) == expected


def test_a_text_does_not_repeat_the_state_next_to_it() -> None:
    (rising,) = of_queue(queue(counts=Counts(dead=90)), 12)
    assert (rising.kind, rising.text) == ("dead letters rising", "+12 in the last hour")


# --- alerts and the sample in one list -----------------------------------------------------------------------------


def firing(metric: str, name: str | None = "mail", **fields: Any) -> Alert:
    """A firing alert about the queue `name`, or with None about the source."""
    ack = fields.pop("ack", None)
    queue_labels = {"backend": "rq", "queue": name} if name is not None else {}
    labels = fields.pop("labels", None) or AlertLabels(source="main", **queue_labels)
    state = {
        "fingerprint": f"{metric} {labels}",
        "rule_id": metric,
        "rule_name": f"Rule of {metric}",
        "metric": metric,
        "severity": Severity.CRITICAL,
        "threshold": 5.0,
        "phase": AlertPhase.FIRING,
        "value": 9.0,
        "started_at": 500.0,
        **fields,
    }
    return Alert(AlertState(labels=labels, **state), ack, None, None)


def facts_of(
    *alerts: Alert, rules: tuple[Rule, ...] = default_rules(), health: CheckerHealth | None = None
) -> AlertFacts:
    return AlertFacts.of(Thresholds(rules), alerts, health)


def test_a_firing_alert_is_in_the_list_even_if_the_sample_shows_nothing() -> None:
    (problem,) = of_snapshot(snapshot(queue(depth=0)), facts_of(firing("queue.stalled", value=3.0)))
    assert (problem.level, problem.kind, problem.text) == (CRITICAL, "stalled jobs", "3 stalled jobs")
    assert problem.alert is not None
    assert (problem.alert.since, problem.alert.threshold, problem.alert.status) == (500.0, "5", None)


def test_an_alert_and_the_same_problem_of_the_sample_are_one_line_with_the_worse_level() -> None:
    late = queue(depth=5, latency_s=4000.0)
    alert = firing("queue.latency_s", severity=Severity.WARNING, value=400.0, threshold=300.0)
    (problem,) = of_snapshot(snapshot(late), facts_of(alert))
    assert (problem.level, problem.kind) == (CRITICAL, "high latency")
    assert problem.text.replace("\u202f", " ") == "oldest job waiting 1 h 6 m"
    assert problem.alert is not None


def test_an_acknowledged_critical_alert_stays_critical_behind_the_open_ones() -> None:
    ack = Acknowledgement(episode="e", by="anna", at=1.0)
    alerts = (
        firing("queue.stalled", ack=ack),
        firing("queue.depth"),
        firing("queue.active_age_s", severity=Severity.WARNING),
    )
    found = of_snapshot(snapshot(queue()), facts_of(*alerts))
    assert [problem.kind for problem in found] == ["too many waiting", "stalled jobs", "long-running job"]
    assert found[1].level is CRITICAL
    assert found[1].alert is not None
    assert (found[1].alert.status, found[1].alert.handled) == ("acknowledged by anna", True)


def test_an_acknowledged_alert_that_recovers_says_both() -> None:
    alert = firing("queue.dead", phase=AlertPhase.RECOVERING, ack=Acknowledgement(episode="e", by="anna", at=1.0))
    (problem,) = of_snapshot(snapshot(queue()), facts_of(alert))
    assert problem.alert is not None
    assert problem.alert.status == "recovering, acknowledged by anna"


def test_an_alert_whose_figure_became_unknown_says_so() -> None:
    alert = firing("queue.error_ratio", value=0.18, unknown_s=1800.0)
    (problem,) = of_snapshot(snapshot(queue()), facts_of(alert))
    assert problem.text.replace("\u202f", " ") == "last known: 18% of jobs failed in 15 min; unknown for 30 m"


def test_an_alert_of_a_library_covers_its_queues() -> None:
    alert = firing("workers.count", labels=AlertLabels(source="main", backend="rq"), value=0.0)
    queues = [queue(name, depth=5, workers=0) for name in ("a", "b")]
    (problem,) = of_snapshot(snapshot(*queues), facts_of(alert))
    assert (problem.kind, problem.backend, problem.queue) == ("no worker", "rq", None)


def test_an_alert_of_a_queue_that_is_gone_does_not_hide_the_others() -> None:
    queues = [queue(name, depth=5, workers=0) for name in ("a", "b")]
    found = of_snapshot(snapshot(*queues), facts_of(firing("queue.consumers", "deleted", value=0.0)))
    assert sorted(each.queue.name if each.queue else each.place for each in found) == ["a", "b", "deleted"]


def test_queues_in_one_line_have_a_status_only_if_they_share_it() -> None:
    acks = [Acknowledgement(episode="e", by=who, at=1.0) for who in ("bob", "anna", "bob", "bob")]
    alerts = [firing("queue.depth", f"q{number}", ack=ack) for number, ack in enumerate(acks)]
    found = of_snapshot(snapshot(*(queue(f"q{number}") for number in range(4))), facts_of(*alerts))
    (line,) = group_problems(found)
    assert line.problem.alert is not None
    assert (line.queues, line.problem.alert.status) == (4, None)


def test_an_alert_of_a_queue_that_is_gone_is_still_in_the_list() -> None:
    (problem,) = of_snapshot(snapshot(queue("other")), facts_of(firing("queue.depth", "deleted")))
    assert (problem.place, problem.queue) == ("deleted", None)


def test_an_alert_explains_itself_with_what_the_sample_shows() -> None:
    bad = source(health=RedisHealth(memory_limited=True, eviction_policy="allkeys-lru"))
    alert = firing("redis.eviction_policy", None, severity=Severity.WARNING, value=1.0)
    (problem,) = of_snapshot(snapshot(sources=(bad,)), facts_of(alert))
    assert problem.text == "Redis may evict jobs: its policy is allkeys-lru"
    assert problem.alert is not None


def test_a_queue_has_the_thresholds_of_the_rules_that_cover_it() -> None:
    nightly = Rule(id="x", metric="queue.latency_s", queues=("night*",), warning=7200.0)
    rest = Rule(id="y", metric="queue.latency_s", queues_not=("night*",), warning=10.0)
    thresholds = Thresholds([nightly, rest])
    assert of_queue(queue("nightly", depth=1, latency_s=7000.0), thresholds=thresholds) == ()
    assert kinds_of(list(of_queue(queue(depth=1, latency_s=11.0), thresholds=thresholds))) == [
        (WARNING, "high latency")
    ]
    off = Thresholds([Rule(id="x", metric="queue.latency_s", enabled=False, warning=7200.0)])
    assert kinds_of(list(of_queue(queue(depth=1, latency_s=301.0), thresholds=off))) == [(WARNING, "high latency")]


@pytest.mark.parametrize(
    ("op", "healthy", "breached"), [("gt", 5.0, 5.1), ("ge", 4.9, 5.0), ("lt", 5.0, 4.9), ("le", 5.1, 5.0)]
)
def test_a_scale_agrees_with_its_rule(op: Any, healthy: float, breached: float) -> None:
    scale = Scale([Rule(id="x", metric="queue.depth", op=op, warning=5.0)])
    assert scale.level("queue.depth", healthy) is ProblemLevel.OK
    assert scale.level("queue.depth", breached) is WARNING
    assert scale.level("queue.depth", None) is ProblemLevel.OK


def test_every_metric_has_a_kind() -> None:
    available = {name for name, metric in METRICS.items() if metric.unavailable is None}
    assert available <= set(alert_problems._KINDS)
    assert set(JUDGED) <= available


def test_many_queues_with_the_same_problem_are_one_line() -> None:
    queues = [queue(f"q{number}", depth=1 + number, workers=0) for number in range(391)]
    found = of_snapshot(snapshot(*queues, queue("late", depth=1, latency_s=400.0)))
    lines = group_problems(found)
    assert [(line.problem.kind, line.queues) for line in lines] == [
        (ProblemKind.NO_WORKER, 391),
        (ProblemKind.LATENCY, 1),
    ]
    assert lines[0].problem.queue is not None
    assert (lines[0].problem.queue.name, lines[0].count_text) == ("q390", "391 queues")


def test_rules_that_are_not_evaluated_are_a_problem() -> None:
    late = CheckerHealth(ok=False, age_s=300.0, holder="h", delivers=None)
    (problem,) = of_snapshot(snapshot(queue()), facts_of(health=late))
    assert (problem.level, problem.kind) == (CRITICAL, "alerting")
    starting = CheckerHealth(ok=False, age_s=7.0, holder="h", delivers=None)
    assert of_snapshot(snapshot(queue()), facts_of(health=starting)) == []


# --- outages ---------------------------------------------------------------------------------------------------------


def test_an_outage_names_the_redis_and_says_what_to_do() -> None:
    gone = source(reachable=False, error="Connection refused", hint="Start Redis.", unreachable_since=940.0)
    one = find_outage(snapshot(sources=(gone,)), 1000.0)
    assert one is not None
    assert (one.label, one.since_s, one.text) == ("Redis", 60.0, "Connection refused. Start Redis.")
    assert one.header == "60.0 Redis Connection%20refused.%20Start%20Redis."
    of_two = find_outage(snapshot(sources=(gone, source(name="other"))), 1000.0)
    assert of_two is not None
    assert of_two.label == "main"
    assert find_outage(snapshot(), 1000.0) is None
    assert find_outage(None, 1000.0) is None


def test_the_last_figures_of_a_redis_that_is_down_come_with_their_time() -> None:
    known = LastKnownFigures()
    known.remember(snapshot(queue("mail", depth=7), sources=(source(health=RedisHealth(clients=3)),)))
    gone = source(reachable=False, error="Connection refused")
    down = snapshot(queue("mail", error="Connection refused"), sources=(gone, source(name="other")))
    filled, taken_at = known.fill(down)
    assert taken_at == {"main": 1000.0}
    assert [each.depth for each in filled.queues] == [7]
    assert filled.sources[0].health.clients == 3
    assert not filled.sources[0].reachable
    assert LastKnownFigures().fill(down) == (down, {})


def test_totals_without_a_redis_that_was_never_read_are_lower_bounds() -> None:
    gone = source(name="other", reachable=False, error="Connection refused")
    down = snapshot(queue("mail", depth=7, throughput_per_min=2.0), sources=(source(), gone))
    found = OverviewData(down, History())
    assert State.WAITING in found.at_least
    assert [figure.value for figure in build_figures(found)[:2]] == ["7+", "2+"]
    known = OverviewData(down, History(), taken_at={"other": 1.0})
    assert known.at_least == ()
    assert [figure.value for figure in build_figures(known)[:2]] == ["7", "2"]


def test_a_paused_queue_names_who_paused_it_and_what_is_waiting() -> None:
    paused = queue(paused=True, depth=1200)
    alert = firing("queue.paused_s", severity=Severity.WARNING, value=10_800.0, threshold=3600.0)
    record = PauseRecord(who="anna", at=1.0)
    for pauses, expected in (
        (RecordedPauses({"main\0rq\0mail": record}), "paused for 3 h, 1,200 jobs waiting, paused by anna"),
        (RecordedPauses({}), "paused for 3 h, 1,200 jobs waiting, paused outside Queuedeck"),
        (None, "paused for 3 h, 1,200 jobs waiting"),
    ):
        facts = replace(facts_of(alert), pauses=pauses)
        (problem,) = of_snapshot(snapshot(paused), facts)
        assert (problem.kind, problem.text) == ("paused", expected)


def test_an_alert_about_dead_letters_says_both_how_many_and_that_they_rise() -> None:
    rising = queue(counts=Counts(dead=63))
    found = list_queue_problems(rising, facts_of(firing("queue.dead", value=40.0)), 63)  # stored some seconds ago
    assert [problem.kind for problem in found] == ["dead letters"]
    assert found[0].text == "63 dead letters"
    found = list_queue_problems(rising, facts_of(firing("queue.dead_growth_per_h", value=63.0)), 63)
    assert [problem.kind for problem in found] == ["dead letters rising"]
