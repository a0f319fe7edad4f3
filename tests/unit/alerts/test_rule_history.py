"""The last hour of what rules judged."""

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


def see(keeper: RuleHistoryRecorder, at: float, figures: dict[AlertLabels, Figure], what: Rule = DEEP) -> None:
    keeper.begin_evaluation(BEGIN + at)
    keeper.record_figures(what, list(figures), list(figures.values()))


def line(keeper: RuleHistoryRecorder, labels: AlertLabels, what: Rule = DEEP) -> Series | None:
    """What is stored of one thing."""
    return next((line.points for line in keeper.export_histories().rules[what.id].lines if line.labels == labels), None)


def test_a_point_is_the_worst_figure_of_its_minute() -> None:
    keeper = RuleHistoryRecorder(30)
    for at, depth in ((0, 3), (20, 50), (58, 4), (60, 7), (90, 2), (120, 0)):
        see(keeper, at, {A: depth})
    assert line(keeper, A) == (50, 7)
    assert keeper.hour_points(DEEP.id, A) == (50, 7, 0)  # with the minute that is under way
    assert keeper.export_histories().at == BEGIN + 120
    assert keeper.export_histories().rules["deep"].since == BEGIN


def test_the_lowest_is_kept_where_low_is_bad() -> None:
    keeper = RuleHistoryRecorder(30)
    for at, workers in ((0, 3), (20, 0), (58, 4), (60, 7)):
        see(keeper, at, {A: workers, B: 9}, LOW)
    assert line(keeper, A, LOW) == (0,)
    assert keeper.export_histories().rules["deep"].worst == (0,)
    assert [each.labels for each in keeper.export_histories().rules["deep"].lines] == [A, B]


@pytest.mark.parametrize("unknown", [None, IDLE])
def test_unknown_is_a_gap_and_never_nought(unknown: Figure) -> None:
    keeper = RuleHistoryRecorder(30)
    for minute, figure in enumerate((0, unknown, 0.25, 0)):
        see(keeper, 60 * minute, {A: figure})
    assert line(keeper, A) == (0, None, 0.25)
    see(keeper, 420, {A: 1})  # for three minutes nobody looked
    assert line(keeper, A) == (0, None, 0.25, 0, None, None, None)


def test_an_unknown_figure_does_not_hide_what_was_seen_in_the_same_minute() -> None:
    keeper = RuleHistoryRecorder(30)
    for at, figure in ((0, None), (10, 5), (20, None), (60, 1)):
        see(keeper, at, {A: figure})
    assert line(keeper, A) == (5,)


def test_an_hour_is_kept_and_no_more() -> None:
    keeper = RuleHistoryRecorder(30)
    for minute in range(100):
        see(keeper, 60 * minute, {A: minute})
    assert line(keeper, A) == tuple(range(39, 99))
    assert len(keeper.hour_points(DEEP.id, A)) == POINTS


def test_ticks_minutes_apart_leave_no_gaps() -> None:
    keeper = RuleHistoryRecorder(150)
    for at, depth in ((10, 1), (160, 2), (310, 3), (700, 4), (760, 5)):  # the fourth is late
        see(keeper, at, {A: depth})
    assert line(keeper, A) == (1, 1, 2, 2, 2, 3, None, None, None, None, None, 4)


@pytest.mark.parametrize("step", [-3600.0, 2 * 3600.0])
def test_a_stepped_clock_restarts_the_history(step: float) -> None:
    keeper = RuleHistoryRecorder(30)
    for minute in range(5):
        see(keeper, 60 * minute, {A: 1})
    see(keeper, 240 + step, {A: 2})
    hour = keeper.export_histories().rules["deep"]
    assert (hour.since, hour.lines) == (BEGIN + 240 + step, ())
    see(keeper, 300 + step, {A: 2})
    assert line(keeper, A) == (2,)


def test_what_goes_and_comes_back_has_a_gap_and_is_forgotten_after_an_hour() -> None:
    keeper = RuleHistoryRecorder(30)
    see(keeper, 0, {A: 1, B: 9})
    see(keeper, 30, {A: 1})  # B is gone, and was the worst of that minute
    see(keeper, 60, {A: 1})
    assert keeper.export_histories().rules["deep"].worst == (9,)
    see(keeper, 120, {A: 1, B: 3})
    see(keeper, 180, {A: 1, B: 3})
    assert line(keeper, B) == (9, None, 3)
    for minute in range(4, 80):
        see(keeper, 60 * minute, {A: 1})
    assert line(keeper, B) is None


def test_history_restarts_only_when_the_values_of_a_rule_change_meaning() -> None:
    keeper = RuleHistoryRecorder(30)
    see(keeper, 0, {A: 1})
    see(keeper, 60, {A: 1}, rule(name="Renamed", critical=99, version=2))
    assert line(keeper, A) == (1,)
    see(keeper, 61, {A: 1}, rule(reducer="max", window_s=60, version=3))
    assert keeper.export_histories().rules["deep"].since == BEGIN + 61
    assert line(keeper, A) is None


def test_the_history_of_a_deleted_rule_is_dropped() -> None:
    keeper = RuleHistoryRecorder(30)
    see(keeper, 0, {A: 1})
    keeper.record_figures(rule(id="other"), [A], [1])
    for at in (60, 120):
        see(keeper, at, {A: 1})
    assert list(keeper.export_histories().rules) == ["deep"]


def test_the_worst_few_are_stored() -> None:
    keeper = RuleHistoryRecorder(30)
    figures: dict[AlertLabels, Figure] = {AlertLabels(queue=f"q{n}"): n for n in range(50)}
    figures[AlertLabels(queue="unknown")] = None
    for at in (0, 60):
        see(keeper, at, figures)
    stored = keeper.export_histories().rules["deep"]
    assert [each.labels.queue for each in stored.lines] == ["q49", "q48", "q47", "q46", "q45"][:MAX_WORST_LINES]
    assert stored.worst == (49,)


def test_what_is_kept_and_stored_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LINES", 100)
    monkeypatch.setattr(module, "MAX_STORED", 40)
    monkeypatch.setattr(module, "MAX_RULES", 20)
    keeper, rules = RuleHistoryRecorder(30), [rule(id=f"r{n}") for n in range(30)]
    figures: dict[AlertLabels, Figure] = {AlertLabels(queue=f"q{n}"): n for n in range(50)}
    for minute in range(3):
        keeper.begin_evaluation(BEGIN + 60 * minute)
        for each in rules:
            keeper.record_figures(each, list(figures), list(figures.values()))
    stored = keeper.export_histories()
    assert len(stored.rules) == 20
    assert sum(1 + len(hour.lines) for hour in stored.rules.values()) <= 40
    assert sum(bool(keeper.hour_points("r0", each)[:-1]) for each in figures) <= 100 // 20
    assert keeper.hour_points("r0", AlertLabels(queue="q49")) == (49, 49, 49)  # the worst are those that stay
    assert MAX_LINES == 40_000


def test_another_leader_continues_with_the_worst_few_and_gaps() -> None:
    keeper = RuleHistoryRecorder(30)
    for minute in range(4):
        see(keeper, 60 * minute, {A: minute + 0.125, B: minute, AlertLabels(queue="\udcff"): 7})
    stored = unpack(pack(keeper.export_histories()), RuleHistories)
    assert stored == keeper.export_histories()
    heir = RuleHistoryRecorder(30)
    heir.restore_histories(stored, [rule(name="Renamed")], BEGIN + 310)
    assert heir.export_histories().rules["deep"].since == BEGIN
    see(heir, 310, {A: 40, B: 1})
    see(heir, 360, {A: 1, B: 1})
    assert line(heir, A) == (0.125, 1.125, 2.125, None, None, 40)
    assert heir.export_histories().rules["deep"].worst == (7, 7, 7, None, None, 40)


def test_what_is_stored_of_another_rule_or_time_is_not_taken() -> None:
    keeper = RuleHistoryRecorder(30)
    for minute in range(4):
        see(keeper, 60 * minute, {A: 1})
    stored = keeper.export_histories()
    for rules, at in (([rule(queues=["a"])], 310.0), ([], 310.0), ([DEEP], 3 * 3600.0), ([DEEP], -60.0)):
        heir = RuleHistoryRecorder(30)
        heir.restore_histories(stored, rules, BEGIN + at)
        see(heir, at, {A: 2})
        assert heir.export_histories().rules["deep"].worst == ()
    keeper.restore_histories(stored, [DEEP], BEGIN + 200)  # its own memory is as new, and holds more
    assert line(keeper, A) == (1, 1, 1)


def test_marks_distinguish_values_and_not_names() -> None:
    assert figures_mark(rule(critical=11, for_s=5, name="x", enabled=False)) == figures_mark(DEEP)
    others: list[dict[str, Any]] = [
        *({"queues": ["a"]}, {"queues_not": ["a"]}, {"source": "a"}, {"backend": "a"}, {"scope": "max"}),
        *({"metric": "queue.dead"}, {"op": "lt"}, {"min_events": 5}, {"reducer": "max", "window_s": 5}),
    ]
    assert len({figures_mark(rule(**fields)) for fields in others} | {figures_mark(DEEP)}) == len(others) + 1


def run(rules: list[Rule], samples: list[Any]) -> Evaluator:
    """An evaluator that has seen these samples a minute apart."""
    evaluator = Evaluator(2.0)
    for minute, each in enumerate(samples):
        now = BEGIN + 60 * minute
        evaluator.evaluate_rules(
            each, History(), rules, {}, CheckerContext(now=now, channels=("ops",), heartbeat_age_s=2.0)
        )
    return evaluator


def test_every_kind_of_rule_has_an_hour() -> None:
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
