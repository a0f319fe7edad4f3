"""The last hour of the values that rules evaluated."""

from __future__ import annotations

from typing import Any

import pytest

from dashboard.alerts.evaluation import rule_history as module
from dashboard.alerts.evaluation.checker_context import CheckerContext
from dashboard.alerts.evaluation.evaluator import Evaluator
from dashboard.alerts.evaluation.rule_history import (
    MAX_LINES,
    MAX_WORST_LINES,
    POINTS,
    RuleHistories,
    RuleHistoryRecorder,
    figures_mark,
)
from dashboard.alerts.evaluation.state_machine import AlertLabels
from dashboard.alerts.rules.figures import IDLE, Figure
from dashboard.alerts.rules.rule import Rule
from dashboard.sampling.recent_history import History, Series
from dashboard.store.packing import pack, unpack
from tests.unit.alerts.factories import queue, rule, sample, source

BEGIN = 1_800_000_000.0  # a full minute
DEEP = rule()
LOW = rule(op="lt", critical=1)
A, B = AlertLabels(queue="a"), AlertLabels(queue="b")


def record(recorder: RuleHistoryRecorder, at: float, figures: dict[AlertLabels, Figure], what: Rule = DEEP) -> None:
    recorder.begin_evaluation(BEGIN + at)
    recorder.record_figures(what, list(figures), list(figures.values()))


def line(recorder: RuleHistoryRecorder, labels: AlertLabels, what: Rule = DEEP) -> Series | None:
    """The stored points of one subject of a rule."""
    return next(
        (line.points for line in recorder.export_histories().rules[what.id].lines if line.labels == labels), None
    )


def test_a_point_is_the_worst_value_of_its_minute() -> None:
    recorder = RuleHistoryRecorder(30)
    for at, depth in ((0, 3), (20, 50), (58, 4), (60, 7), (90, 2), (120, 0)):
        record(recorder, at, {A: depth})
    assert line(recorder, A) == (50, 7)
    assert recorder.hour_points(DEEP.id, A) == (50, 7, 0)  # with the minute that is under way
    assert recorder.export_histories().at == BEGIN + 120
    assert recorder.export_histories().rules["deep"].since == BEGIN


def test_a_point_is_the_lowest_value_for_a_rule_that_fires_below_its_threshold() -> None:
    recorder = RuleHistoryRecorder(30)
    for at, workers in ((0, 3), (20, 0), (58, 4), (60, 7)):
        record(recorder, at, {A: workers, B: 9}, LOW)
    assert line(recorder, A, LOW) == (0,)
    assert recorder.export_histories().rules["deep"].worst == (0,)
    assert [each.labels for each in recorder.export_histories().rules["deep"].lines] == [A, B]


@pytest.mark.parametrize("unknown", [None, IDLE])
def test_an_unknown_value_is_a_gap_and_not_zero(unknown: Figure) -> None:
    recorder = RuleHistoryRecorder(30)
    for minute, figure in enumerate((0, unknown, 0.25, 0)):
        record(recorder, 60 * minute, {A: figure})
    assert line(recorder, A) == (0, None, 0.25)
    record(recorder, 420, {A: 1})  # no evaluation for three minutes
    assert line(recorder, A) == (0, None, 0.25, 0, None, None, None)


def test_an_unknown_sample_does_not_hide_known_ones_of_the_same_minute() -> None:
    recorder = RuleHistoryRecorder(30)
    for at, figure in ((0, None), (10, 5), (20, None), (60, 1)):
        record(recorder, at, {A: figure})
    assert line(recorder, A) == (5,)


def test_history_covers_the_last_hour_only() -> None:
    recorder = RuleHistoryRecorder(30)
    for minute in range(100):
        record(recorder, 60 * minute, {A: minute})
    assert line(recorder, A) == tuple(range(39, 99))
    assert len(recorder.hour_points(DEEP.id, A)) == POINTS


def test_evaluations_minutes_apart_leave_no_gaps() -> None:
    recorder = RuleHistoryRecorder(150)
    for at, depth in ((10, 1), (160, 2), (310, 3), (700, 4), (760, 5)):  # the fourth is late
        record(recorder, at, {A: depth})
    assert line(recorder, A) == (1, 1, 2, 2, 2, 3, None, None, None, None, None, 4)


@pytest.mark.parametrize("step", [-3600.0, 2 * 3600.0])
def test_a_stepped_clock_restarts_the_history(step: float) -> None:
    recorder = RuleHistoryRecorder(30)
    for minute in range(5):
        record(recorder, 60 * minute, {A: 1})
    record(recorder, 240 + step, {A: 2})
    hour = recorder.export_histories().rules["deep"]
    assert (hour.since, hour.lines) == (BEGIN + 240 + step, ())
    record(recorder, 300 + step, {A: 2})
    assert line(recorder, A) == (2,)


def test_a_queue_that_returns_has_a_gap_and_is_dropped_after_an_hour_of_absence() -> None:
    recorder = RuleHistoryRecorder(30)
    record(recorder, 0, {A: 1, B: 9})
    record(recorder, 30, {A: 1})  # B is gone, and was the worst of that minute
    record(recorder, 60, {A: 1})
    assert recorder.export_histories().rules["deep"].worst == (9,)
    record(recorder, 120, {A: 1, B: 3})
    record(recorder, 180, {A: 1, B: 3})
    assert line(recorder, B) == (9, None, 3)
    for minute in range(4, 80):
        record(recorder, 60 * minute, {A: 1})
    assert line(recorder, B) is None


def test_history_restarts_only_when_the_values_of_a_rule_change_meaning() -> None:
    recorder = RuleHistoryRecorder(30)
    record(recorder, 0, {A: 1})
    record(recorder, 60, {A: 1}, rule(name="Renamed", critical=99, version=2))
    assert line(recorder, A) == (1,)
    record(recorder, 61, {A: 1}, rule(reducer="max", window_s=60, version=3))
    assert recorder.export_histories().rules["deep"].since == BEGIN + 61
    assert line(recorder, A) is None


def test_the_history_of_a_deleted_rule_is_dropped() -> None:
    recorder = RuleHistoryRecorder(30)
    record(recorder, 0, {A: 1})
    recorder.record_figures(rule(id="other"), [A], [1])
    for at in (60, 120):
        record(recorder, at, {A: 1})
    assert list(recorder.export_histories().rules) == ["deep"]


def test_only_the_worst_lines_are_stored() -> None:
    recorder = RuleHistoryRecorder(30)
    figures: dict[AlertLabels, Figure] = {AlertLabels(queue=f"q{n}"): n for n in range(50)}
    figures[AlertLabels(queue="unknown")] = None
    for at in (0, 60):
        record(recorder, at, figures)
    stored = recorder.export_histories().rules["deep"]
    assert [each.labels.queue for each in stored.lines] == ["q49", "q48", "q47", "q46", "q45"][:MAX_WORST_LINES]
    assert stored.worst == (49,)


def test_history_in_memory_and_in_the_store_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LINES", 100)
    monkeypatch.setattr(module, "MAX_STORED", 40)
    monkeypatch.setattr(module, "MAX_RULES", 20)
    recorder, rules = RuleHistoryRecorder(30), [rule(id=f"r{n}") for n in range(30)]
    figures: dict[AlertLabels, Figure] = {AlertLabels(queue=f"q{n}"): n for n in range(50)}
    for minute in range(3):
        recorder.begin_evaluation(BEGIN + 60 * minute)
        for each in rules:
            recorder.record_figures(each, list(figures), list(figures.values()))
    stored = recorder.export_histories()
    assert len(stored.rules) == 20
    assert sum(1 + len(hour.lines) for hour in stored.rules.values()) <= 40
    assert sum(bool(recorder.hour_points("r0", each)[:-1]) for each in figures) <= 100 // 20
    assert recorder.hour_points("r0", AlertLabels(queue="q49")) == (49, 49, 49)  # the worst lines stay
    assert MAX_LINES == 40_000


def test_another_leader_continues_the_stored_lines_with_gaps() -> None:
    recorder = RuleHistoryRecorder(30)
    for minute in range(4):
        record(recorder, 60 * minute, {A: minute + 0.125, B: minute, AlertLabels(queue="\udcff"): 7})
    stored = unpack(pack(recorder.export_histories()), RuleHistories)
    assert stored == recorder.export_histories()
    successor = RuleHistoryRecorder(30)
    successor.restore_histories(stored, [rule(name="Renamed")], BEGIN + 310)
    assert successor.export_histories().rules["deep"].since == BEGIN
    record(successor, 310, {A: 40, B: 1})
    record(successor, 360, {A: 1, B: 1})
    assert line(successor, A) == (0.125, 1.125, 2.125, None, None, 40)
    assert successor.export_histories().rules["deep"].worst == (7, 7, 7, None, None, 40)


def test_stored_history_of_another_rule_or_time_is_not_restored() -> None:
    recorder = RuleHistoryRecorder(30)
    for minute in range(4):
        record(recorder, 60 * minute, {A: 1})
    stored = recorder.export_histories()
    for rules, at in (([rule(queues=["a"])], 310.0), ([], 310.0), ([DEEP], 3 * 3600.0), ([DEEP], -60.0)):
        successor = RuleHistoryRecorder(30)
        successor.restore_histories(stored, rules, BEGIN + at)
        record(successor, at, {A: 2})
        assert successor.export_histories().rules["deep"].worst == ()
    recorder.restore_histories(stored, [DEEP], BEGIN + 200)  # its own memory is as recent, and more complete
    assert line(recorder, A) == (1, 1, 1)


def test_the_mark_of_a_rule_depends_only_on_what_it_measures() -> None:
    assert figures_mark(rule(critical=11, for_s=5, name="x", enabled=False)) == figures_mark(DEEP)
    others: list[dict[str, Any]] = [
        *({"queues": ["a"]}, {"queues_not": ["a"]}, {"source": "a"}, {"backend": "a"}, {"scope": "max"}),
        *({"metric": "queue.dead"}, {"op": "lt"}, {"min_events": 5}, {"reducer": "max", "window_s": 5}),
    ]
    assert len({figures_mark(rule(**fields)) for fields in others} | {figures_mark(DEEP)}) == len(others) + 1


def run(rules: list[Rule], samples: list[Any]) -> Evaluator:
    """An evaluator given these samples a minute apart."""
    evaluator = Evaluator(2.0)
    for minute, each in enumerate(samples):
        now = BEGIN + 60 * minute
        evaluator.evaluate_rules(
            each, History(), rules, {}, CheckerContext(now=now, channels=("ops",), heartbeat_age_s=2.0)
        )
    return evaluator


def test_every_kind_of_rule_has_a_history() -> None:
    rules = [
        rule(id="each"),
        rule(id="off", enabled=False),
        rule(id="sum", scope="sum"),
        rule(id="max", scope="max", enabled=False),
        rule(id="mean", reducer="mean", window_s=600),
        rule(id="off-mean", reducer="mean", window_s=600, enabled=False),
        rule(id="memory", metric="redis.memory_ratio"),
        rule(id="workers", metric="workers.count", op="lt", critical=1, new_instance_grace_s=0),
        rule(id="late", metric="checker.heartbeat_age_s"),
        rule(id="unsent", metric="notify.undelivered_s"),
    ]
    samples = [
        sample([queue("a", depth, workers=2), queue("b", 1, workers=1)], [source(memory_ratio=depth / 100)])
        for depth in (10, 20, 30)
    ]
    stored = run(rules, samples).history_recorder.export_histories().rules
    worst = {name: hour.worst for name, hour in stored.items()}
    assert worst == {
        "each": (10, 20),
        "off": (10, 20),
        "sum": (11, 21),
        "max": (10, 20),
        "mean": (10, 15),
        "off-mean": (10, 15),
        "memory": (0.1, 0.2),
        "workers": (2, 2),
        "late": (2, 2),
        "unsent": (0, 0),
    }


def test_a_source_that_is_down_leaves_a_gap() -> None:
    well = sample([queue("a", 5)], [source()])
    down = sample([queue("a", 5)], [source(reachable=False)])
    evaluator = run([rule(), rule(id="policy", metric="redis.eviction_policy")], [well, down, well])
    (kept,) = evaluator.history_recorder.export_histories().rules["deep"].lines
    assert kept.points == (5, None)
    broken = sample([queue("a", 5, error="no"), queue("b", 1)])
    assert run([rule()], [broken, broken]).history_recorder.export_histories().rules["deep"].worst == (1,)
