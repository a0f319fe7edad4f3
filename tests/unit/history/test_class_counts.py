"""Job classes in the history: one record for each slot, no class twice, and no app can fill the history with names."""

from __future__ import annotations

import random
from typing import Any

import pytest

from dashboard.history.class_counts import FORGET_S, MAX_NAME, MOST_OF_ALL, MOST_OF_QUEUE, NAMELESS, OTHER_CLASSES
from dashboard.history.columns import CLASS, QUEUE, Cell
from dashboard.history.recorder import ClosedSlot, HistoryRecorder
from dashboard.history.series_keys import SeriesKey
from dashboard.history.tiers import CLASS_HOURS, CLASS_QUARTERS, FINE, Tier
from dashboard.model import ClassFlow, Quality, QueueFlow
from tests.unit.history.samples import cells_of, flow_of, flows_of, queue_row, snapshot_of

MAIL = SeriesKey(QUEUE, "main", "rq", "mail")
START_S = 1_700_006_400  # a multiple of all steps of classes
QUARTER_S = 900


def class_key(job_class: str, queue: str = "mail") -> SeriesKey:
    return SeriesKey(CLASS, "main", "rq", queue, job_class)


def flow(*classes: ClassFlow, span_s: float = 2.0, quality: Quality = Quality.EXACT, **more: Any) -> QueueFlow:
    return QueueFlow(
        key="mail",
        completed=sum(one.completed for one in classes),
        dead=sum(one.dead for one in classes),
        span_s=span_s,
        quality=Quality.EXACT,
        classes=classes,
        classes_quality=quality,
        **more,
    )


def finished(job_class: str, completed: int, dead: int = 0, *runtimes_s: float) -> ClassFlow:
    return ClassFlow(job_class=job_class, completed=completed, dead=dead, runtimes_s=runtimes_s)


class Past:
    """A recorder of one queue, sampled every two seconds."""

    def __init__(self, *stored: SeriesKey) -> None:
        self.recorder = HistoryRecorder()
        self.recorder.know_stored(stored)
        self.closed: list[ClosedSlot] = []
        self.at = float(START_S)
        self.sample(flow())

    def sample(self, queue_flow: QueueFlow | None, *, there: bool = True) -> None:
        rows = [queue_row("mail")] if there else []
        flows = flows_of(*([] if queue_flow is None else [queue_flow]))
        self.closed += self.recorder.add_sample(snapshot_of(self.at, *rows), flows)
        self.at += 2

    def until(self, second: float, queue_flow: QueueFlow | None = None) -> Past:
        while self.at < START_S + second:
            self.sample(queue_flow or flow())
        return self

    def cells(self, job_class: str, column: str, tier: Tier = CLASS_QUARTERS) -> dict[int, Cell]:
        found = cells_of(self.closed, class_key(job_class), tier, column)
        return {start_s - START_S: cell for start_s, cell in found.items()}

    def stop(self) -> Past:
        self.closed += self.recorder.close()
        return self


def test_each_job_is_in_one_slot_of_its_class(seed: int) -> None:
    die, past, counted = random.Random(seed), Past(), dict.fromkeys("ab", 0)
    while past.at < START_S + 7200:
        jobs = {name: die.choice((0, 0, 3)) for name in "ab"}
        past.sample(flow(*(finished(name, count, 1, 0.5) for name, count in jobs.items() if count)))
        for name, count in jobs.items():
            counted[name] += count + bool(count)
    past.stop()
    for name in "ab":
        for tier in (CLASS_QUARTERS, CLASS_HOURS):
            cells = past.cells(name, "finished", tier)
            assert sum(cell for cell in cells.values() if isinstance(cell, int)) == counted[name]
            assert len(cells) == 7200 // tier.step_s
        durations = past.cells(name, "runtimes", CLASS_HOURS).values()
        assert sum(sum(one.values()) for one in durations if isinstance(one, dict)) == counted[name]


def test_a_class_without_jobs_has_no_records_and_counts_as_zero() -> None:
    past = Past()
    past.sample(flow(finished("a", 3, 1), quality=Quality.ESTIMATED))
    past.until(4 * QUARTER_S).stop()
    assert past.cells("a", "finished") == {0: 4}
    assert past.cells("a", "failed") == {0: 1}
    assert past.cells("a", "quality") == {0: 1}


def test_time_in_which_classes_were_unknown_is_not_counted() -> None:
    past = Past()
    past.sample(flow(finished("a", 3)))
    past.until(600)
    past.until(QUARTER_S, flow_of("mail", 5))  # jobs finished, their classes are not known
    past.until(3 * QUARTER_S, QueueFlow.unknown("mail", "no answer"))
    past.until(4 * QUARTER_S)
    past.stop()
    assert past.cells("a", "finished") == {0: 3, QUARTER_S: None, 3 * QUARTER_S: 0}
    assert past.cells("a", "uncounted_ms") == {0: 300_000, QUARTER_S: 900_000, 3 * QUARTER_S: 0}


def test_the_classes_of_a_queue_that_is_gone_are_unknown_from_then_on() -> None:
    past = Past(class_key("old", "gone before"))
    past.sample(flow(finished("a", 3)))
    assert past.recorder.is_sampled(class_key("a"))
    past.sample(None, there=False)
    past.until(QUARTER_S * 2).stop()
    assert not past.recorder.is_sampled(class_key("a"))
    assert past.cells("a", "finished") == {0: 3, QUARTER_S: None}
    assert not cells_of(past.closed, class_key("old", "gone before"), CLASS_QUARTERS, "finished")


def test_no_app_fills_the_history_with_names() -> None:
    past, sent = Past(class_key("stored")), 0
    for number in range(100):
        past.sample(flow(*(finished(f"job {number}:{each}", 1) for each in range(10)), finished("stored", 1)))
        sent += 10
    past.sample(flow(finished("x" * 5000, 1), finished("x" * 4000, 2), finished("", 1)))
    past.stop()
    names = {one.key.job_class for one in past.closed if one.key.kind is CLASS}
    assert len(names) == MOST_OF_QUEUE + 1
    assert past.cells("stored", "finished") == {0: 100}
    others = past.cells(OTHER_CLASSES, "finished")[0]
    assert others == sent - (MOST_OF_QUEUE - 1) + 4

    wide = Past()
    wide.sample(flow(finished("x" * 5000, 1), finished("x" * 4000, 2), finished("", 1)))
    wide.stop()
    assert wide.cells("x" * MAX_NAME, "finished") == {0: 3}
    assert wide.cells(NAMELESS, "finished") == {0: 1}


def test_a_class_that_nobody_runs_any_more_gives_its_place_to_another() -> None:
    past = Past()
    past.sample(flow(*(finished(f"old {each}", 1) for each in range(MOST_OF_QUEUE))))
    past.at += 10
    past.sample(flow(finished("new", 1)))
    past.at = START_S + FORGET_S + 2 * QUARTER_S
    past.sample(flow())
    past.sample(flow(finished("new", 1)))
    past.stop()
    assert list(past.cells(OTHER_CLASSES, "finished").values()) == [1]
    assert list(past.cells("new", "finished").values()) == [1]


def test_the_classes_of_all_queues_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_OF_ALL > 1000 * 8
    monkeypatch.setattr("dashboard.history.class_counts.MOST_OF_ALL", 3)
    past = Past(*(class_key(str(each)) for each in range(2)))
    past.sample(flow(finished("a", 1), finished("b", 1), finished("0", 1)))
    past.stop()
    assert past.cells("a", "finished") == past.cells("0", "finished") == {0: 1}
    assert past.cells(OTHER_CLASSES, "finished") == {0: 1}


def test_waits_and_retries_of_a_queue_are_in_its_records_and_in_the_sums() -> None:
    recorder, closed = HistoryRecorder(), list[ClosedSlot]()
    for second in range(0, 20, 2):
        flows = flows_of(flow(finished("a", 4), waits_s=(0.1, 7.0), retried=second), flow_of("cash"))
        closed += recorder.add_sample(snapshot_of(START_S + second, queue_row("mail"), queue_row("cash")), flows)
    closed += recorder.close()
    for key in (MAIL, SeriesKey(QUEUE, "main"), SeriesKey(QUEUE)):
        assert list(cells_of(closed, key, FINE, "retried").values()) == [2 + 4 + 6 + 8 + 10, 12 + 14 + 16 + 18]
        waits = cells_of(closed, key, FINE, "waits")[START_S + 10]
        assert isinstance(waits, dict)
        assert list(waits.values()) == [8, 8]  # two of four jobs, four times: none is in two slots
    assert list(cells_of(closed, SeriesKey(QUEUE, "main", "rq", "cash"), FINE, "retried").values()) == [None]
