"""Whatever a leader goes through, the sums that are read are those of the jobs that finished: none is counted twice,
and none is missing from a time that is shown."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from dashboard.history import history_writer
from dashboard.history.columns import QUEUE
from dashboard.history.history_reader import HistoryReader, choose_range
from dashboard.history.tiers import slot_of
from dashboard.store.redis_store import Store
from tests.history.leader import MAIL, START_S, Leader
from tests.unit.history.samples import flow_of, queue_row

FINISHED = QUEUE.index_of("finished")
HOURS = 1.5
# How far a range goes back -> the resolution of what is stored of it, and of the newest part of it.
RANGES = {1200: (10, 10), 2 * 3600: (60, 10), 3 * 86_400: (900, 60)}


class Past:
    """What a leader saw: how many jobs finished in each interval between two samples that follow each other."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float, int]] = []

    def bounds(self, start_s: float, end_s: float) -> tuple[int, int]:
        """The number of jobs that surely finished from `start_s` until `end_s`, and that may have since `start_s`."""
        sure = sum(jobs for begin, end, jobs in self.seen if begin >= start_s and end <= end_s)
        return sure, sum(jobs for begin, end, jobs in self.seen if end > start_s)

    def gaps(self) -> list[tuple[float, float]]:
        """The times without samples: between leaders."""
        return [(end, begin) for (_, end, _), (begin, _, _) in pairwise(self.seen) if begin > end]


def check_sums(store: Store, past: Past, sampled_at: float, now: float) -> None:
    """What a reader finds at `now`, before the sample after `sampled_at` was taken."""
    for length_s, (step_s, finer_s) in RANGES.items():
        wanted = choose_range(QUEUE, now - length_s, now, now)
        slots = HistoryReader(store).read_slots([MAIL], wanted, now)[MAIL]
        found = sum(slot.cells[FINISHED] or 0 for slot in slots if slot.cells is not None)
        least, most = past.bounds(wanted.start_s, slot_of(sampled_at, finer_s))
        assert least <= found <= most, (length_s, now - START_S)
        end_s = slot_of(sampled_at, finer_s) - step_s
        shown = [slot.start_s for slot in slots if slot.cells is not None]
        for start_s in range(slot_of(max(wanted.start_s, START_S), step_s) + step_s, end_s, step_s):
            if not any(begin < start_s + step_s and end > start_s for begin, end in past.gaps()):
                assert start_s in shown, (length_s, now - START_S, start_s - START_S)


def test_sums_are_those_of_the_jobs_at_any_time(store: Store, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaders take turns, tails are compressed all the time, and readers come at any moment."""
    die = random.Random(seed)
    monkeypatch.setattr(history_writer, "TAIL_BYTES", 600)
    past, leader, name = Past(), Leader(store, "leader"), 0
    at, before = float(START_S), None
    while at < START_S + HOURS * 3600:
        jobs = die.choice((0, 3, die.randrange(100)))
        span_s = 0.0 if before is None else at - before
        flow = flow_of("mail", jobs, 0, *([0.5] * min(jobs, 3)), span_s=span_s)
        assert leader.sample(at, [queue_row("mail", die.randrange(5))], [flow])
        if before is not None:
            past.seen.append((before, at, jobs))
        before = at
        if die.random() < 0.03 or at + 14 > START_S + HOURS * 3600:
            check_sums(store, past, at, at + die.random() * 9)
        if die.random() < 0.01:
            assert leader.stop()
            name += 1
            leader, before = Leader(store, f"leader {name}"), None
        at += die.choice((2, 9.5, 14))


def test_a_leader_that_was_killed_leaves_a_gap(store: Store) -> None:
    """Its open slots are lost: rates are those of the time that was stored, and nothing is counted twice."""
    past, at = Past(), START_S
    for number in range(6):
        leader = Leader(store, f"leader {number}")
        for place in range(60):
            assert leader.sample(at, [queue_row("mail", 1)], [flow_of("mail", 10, span_s=10)])
            if place:
                past.seen.append((at - 10, at, 10))
            at += 10
    for length_s, (_, finer_s) in RANGES.items():
        wanted = choose_range(QUEUE, at - length_s, at, at)
        slots = HistoryReader(store).read_slots([MAIL], wanted, at)[MAIL]
        found = sum(slot.cells[FINISHED] or 0 for slot in slots if slot.cells is not None)
        assert 0 < found <= past.bounds(wanted.start_s, slot_of(at, finer_s))[1]
        rates = [slot.cells[FINISHED] * 60_000 / slot.sampled_ms for slot in slots if slot.cells is not None]
        assert rates == pytest.approx([60.0] * len(rates), rel=0.01)
