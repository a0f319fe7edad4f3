"""From samples to the records of slots: nothing is counted twice, and what was not seen is a gap."""

from __future__ import annotations

import random

import pytest

from dashboard.history.columns import QUEUE, SOURCE
from dashboard.history.recorder import ClosedSlot, HistoryRecorder
from dashboard.history.series_keys import SeriesKey
from dashboard.history.tiers import FINE, MINUTES, QUARTERS, Tier
from dashboard.model import Quality, QueueFlow, RedisHealth
from tests.unit.history.samples import cells_of, flow_of, flows_of, queue_row, snapshot_of

MAIL = SeriesKey(QUEUE, "main", "rq", "mail")
MAIN = SeriesKey(SOURCE, "main")
START_S = 1_700_000_100  # a multiple of all steps


def total_of(closed: list[ClosedSlot], key: SeriesKey, tier: Tier, column: str) -> int:
    place = key.kind.index_of(column)
    cells = [one.record.cells[place] for one in closed if (one.key, one.tier) == (key, tier)]
    return sum(cell for cell in cells if isinstance(cell, int))


def test_each_finished_job_is_in_one_slot_of_each_tier(seed: int) -> None:
    die = random.Random(seed)
    recorder, closed, finished, failed = HistoryRecorder(), list[ClosedSlot](), 0, 0
    at, last = float(START_S), float(START_S)
    for number in range(1500):
        jobs = die.choice((0, 0, 1, 7, 100))
        bad = die.randrange(jobs + 1)
        if number:  # of the first sample it is not known when they finished
            finished, failed = finished + jobs, failed + bad
        flow = flow_of("mail", jobs, bad, *(die.random() for _ in range(min(jobs, 5))), span_s=at - last)
        closed += recorder.add_sample(snapshot_of(at, queue_row("mail", die.randrange(9))), flows_of(flow))
        last, at = at, at + die.choice((0.1, 2, 2, 2, 9.9, 10, 29))
    closed += recorder.close()
    for tier in (FINE, MINUTES, QUARTERS):
        assert total_of(closed, MAIL, tier, "finished") == finished
        assert total_of(closed, MAIL, tier, "failed") == failed
        assert total_of(closed, SeriesKey(QUEUE), tier, "finished") == finished
        assert total_of(closed, MAIN, tier, "sampled_ms") == pytest.approx((last - START_S) * 1000, abs=1500 * 2)
        starts = [one.record.start_s for one in closed if (one.key, one.tier) == (MAIL, tier)]
        assert len(starts) == len(set(starts))
        assert all(start % tier.step_s == 0 for start in starts)


def test_jobs_are_shared_among_the_slots_of_their_time() -> None:
    recorder = HistoryRecorder()
    recorder.add_sample(snapshot_of(START_S + 5, queue_row("mail")), flows_of(flow_of("mail")))
    closed = recorder.add_sample(
        snapshot_of(START_S + 25, queue_row("mail", 4)), flows_of(flow_of("mail", 8, span_s=20))
    )
    closed += recorder.close()
    assert cells_of(closed, MAIL, FINE, "finished") == {START_S: 2, START_S + 10: 4, START_S + 20: 2}
    # The depth of 4 was seen at the end only.
    assert cells_of(closed, MAIL, FINE, "depth") == {START_S: 0, START_S + 10: 0, START_S + 20: 4}
    assert cells_of(closed, MAIN, FINE, "sampled_ms") == {START_S: 5000, START_S + 10: 10_000, START_S + 20: 5000}


def test_an_idle_queue_is_written_once_and_its_source_in_each_slot() -> None:
    recorder, closed = HistoryRecorder(), list[ClosedSlot]()
    for second in range(0, 7200, 2):
        sample = snapshot_of(START_S + second, queue_row("mail", 3, latency_s=None))
        closed += recorder.add_sample(sample, flows_of(flow_of("mail")))
    assert cells_of(closed, MAIL, FINE, "depth") == {START_S: 3}
    assert cells_of(closed, MAIL, QUARTERS, "depth") == {START_S: 3}
    assert len(cells_of(closed, MAIN, FINE, "sampled_ms")) == 719


def test_a_peak_is_kept_and_does_not_last_longer_than_it_did() -> None:
    recorder, closed = HistoryRecorder(), list[ClosedSlot]()
    for second in range(0, 3600, 2):
        depth = 100 if second == 4 else 1
        closed += recorder.add_sample(
            snapshot_of(START_S + second, queue_row("mail", depth)), flows_of(flow_of("mail"))
        )
    assert cells_of(closed, MAIL, FINE, "depth") == {START_S: 100, START_S + 10: 1}
    assert cells_of(closed, MAIL, MINUTES, "depth") == {START_S: 100, START_S + 60: 1}
    assert cells_of(closed, MAIL, QUARTERS, "depth") == {START_S: 100, START_S + 900: 1}


def test_what_held_on_into_a_slot_counts_for_its_peak() -> None:
    recorder, closed = HistoryRecorder(), list[ClosedSlot]()
    for second in range(0, 240, 2):
        depth = 50 if second < 90 else 1
        closed += recorder.add_sample(
            snapshot_of(START_S + second, queue_row("mail", depth)), flows_of(flow_of("mail"))
        )
    assert cells_of(closed, MAIL, MINUTES, "depth") == {START_S: 50, START_S + 120: 1}


@pytest.mark.parametrize("away_s", [31.0, 3600.0, -5.0, -3600.0])
def test_time_without_samples_is_a_gap(away_s: float) -> None:
    recorder, closed = HistoryRecorder(), list[ClosedSlot]()
    at = float(START_S)
    for number in range(40):
        at += away_s if number == 20 else 2
        flow = flow_of("mail", 5000 if number == 20 else 1)
        closed += recorder.add_sample(snapshot_of(at, queue_row("mail")), flows_of(flow))
    closed += recorder.close()
    assert total_of(closed, MAIL, FINE, "finished") == 38
    assert total_of(closed, MAIN, FINE, "sampled_ms") == 76_000


def test_an_outage_is_a_gap() -> None:
    recorder, closed = HistoryRecorder(), list[ClosedSlot]()
    for second in range(0, 120, 2):
        is_up = not 30 <= second < 90
        row = queue_row("mail", 7 if is_up else None)
        flows = flows_of(flow_of("mail", 1)) if is_up else {}
        closed += recorder.add_sample(snapshot_of(START_S + second, row, reachable=is_up), flows)
    closed += recorder.close()
    sampled = cells_of(closed, MAIN, FINE, "sampled_ms")
    assert [second for second in range(0, 120, 10) if not sampled.get(START_S + second)] == [30, 40, 50, 60, 70, 80]
    # After the outage it is not known when the first jobs finished.
    assert total_of(closed, MAIL, FINE, "finished") == 14 + 14


def test_a_queue_that_is_gone_is_unknown_from_then_on() -> None:
    recorder, closed = HistoryRecorder(), list[ClosedSlot]()
    for second in range(0, 60, 2):
        rows = [queue_row("mail", 7)] if second < 30 else []
        flows = flows_of(*(flow_of(row.name) for row in rows))
        closed += recorder.add_sample(snapshot_of(START_S + second, *rows), flows)
    assert cells_of(closed, MAIL, FINE, "depth") == {START_S: 7, START_S + 30: None}


def test_unknown_is_not_zero() -> None:
    recorder, closed = HistoryRecorder(), list[ClosedSlot]()
    for second in range(0, 40, 2):
        flow = QueueFlow.unknown("mail", "no results") if second < 20 else flow_of("mail", 3)
        closed += recorder.add_sample(snapshot_of(START_S + second, queue_row("mail")), flows_of(flow))
    closed += recorder.close()
    finished = cells_of(closed, MAIL, FINE, "finished")
    assert finished[START_S] is None
    assert finished[START_S + 20] == 15
    assert cells_of(closed, MAIL, FINE, "quality")[START_S] == 0
    unknown_minute = cells_of(closed, MAIL, MINUTES, "uncounted_ms")[START_S]
    assert unknown_minute == 18_000  # rates are over the rest of what was sampled


def test_two_leaders_share_a_slot() -> None:
    first, second = HistoryRecorder(), HistoryRecorder()
    closed = list[ClosedSlot]()
    for number in range(60):
        recorder = first if number < 30 else second
        if number == 30:
            closed += first.close()
        sample = snapshot_of(START_S + 2 * number, queue_row("mail"))
        closed += recorder.add_sample(sample, flows_of(flow_of("mail", 1)))
    closed += second.close()
    assert total_of(closed, MAIL, QUARTERS, "finished") == 29 + 29
    assert total_of(closed, MAIN, QUARTERS, "sampled_ms") == 2 * 58_000


def test_counters_of_a_server_that_restarted_begin_anew() -> None:
    recorder, closed = HistoryRecorder(), list[ClosedSlot]()
    for number, (run_id, evicted) in enumerate([("a", 10), ("a", 15), ("b", 2), ("b", 3), ("b", 1)]):
        health = RedisHealth(run_id=run_id, evicted_keys=evicted, used_memory_bytes=100 + number)
        closed += recorder.add_sample(snapshot_of(START_S + 10 * number, health=health), {})
    closed += recorder.close()
    assert list(cells_of(closed, MAIN, FINE, "evicted").values()) == [5, 0, 1, 0, None]
    assert list(cells_of(closed, MAIN, FINE, "used_memory_bytes").values()) == [100, 101, 102, 103, 104]


def test_hidden_jobs_make_their_count_unknown() -> None:
    from dashboard.model import State

    recorder = HistoryRecorder()
    hidden = QueueFlow(
        key="mail",
        completed=1,
        dead=2,
        span_s=2,
        quality=Quality.ESTIMATED,
        hidden=(State.COMPLETED,),
        reason="removed",
    )
    for number in range(2):
        recorder.add_sample(snapshot_of(START_S + 2 * number, queue_row("mail")), flows_of(hidden))
    closed = recorder.close()
    assert cells_of(closed, MAIL, FINE, "finished") == {START_S: None}
    assert cells_of(closed, MAIL, FINE, "failed") == {START_S: 2}
