"""Stored records as the slots of a chart."""

from __future__ import annotations

import random

import pytest

from dashboard.history.coarsening import (
    Detail,
    coarsen_block,
    detail_for,
    narrow_steps,
    widen_histograms,
    widen_steps,
)
from dashboard.history.columns import QUEUE, SOURCE, Cell, Record
from dashboard.history.encoding import decode_block, encode_block, split_blocks
from dashboard.history.histogram import bucket_of
from dashboard.history.slots import Slot, StoredSeries, figure_values, sampled_slots, slice_series
from dashboard.history.tiers import MINUTES

ONE_S, TWO_S = {bucket_of(1.0): 4}, {bucket_of(2.0): 4}


def record(start_s: int, **cells: Cell) -> Record:
    return Record(start_s, tuple((dict.fromkeys(QUEUE.names) | cells).values()))


def source_record(start_s: int, sampled_s: float) -> Record:
    return Record(start_s, (round(sampled_s * 1000), *[None] * (len(SOURCE.columns) - 1)))


def slots_of(
    records: list[Record], sampled_s: dict[int, float], end_s: int, step_s: int, span_s: int = 10
) -> list[Slot]:
    sampled = sampled_slots([source_record(*pair) for pair in sampled_s.items()], 0, end_s, step_s)
    return slice_series(QUEUE, StoredSeries(records, [span_s] * len(records)), sampled, 0, end_s, step_s)


def test_levels_hold_and_nothing_counted_is_zero_while_the_source_was_sampled() -> None:
    slots = slots_of([record(0, depth=3, finished=5)], {0: 10, 10: 10, 30: 10}, 40, 10)
    assert figure_values(QUEUE, "depth", slots) == [3, 3, None, 3]
    assert figure_values(QUEUE, "throughput_per_min", slots) == [30.0, 0.0, None, 0.0]
    assert figure_values(QUEUE, "retried_per_min", slots) == [None, None, None, None]


def test_nothing_is_known_before_the_first_record() -> None:
    slots = slots_of([record(20, depth=3)], {0: 10, 10: 10, 20: 10}, 30, 10)
    assert figure_values(QUEUE, "depth", slots) == [None, None, 3]


def test_rates_are_over_the_time_that_was_sampled_and_counted() -> None:
    slots = slots_of([record(0, finished=10, uncounted_ms=5000), record(10, finished=10)], {0: 10, 10: 5}, 20, 10)
    assert figure_values(QUEUE, "throughput_per_min", slots) == [120.0, 120.0]
    slots = slots_of([record(0, finished=10, uncounted_ms=10_000)], {0: 10}, 10, 10)
    assert figure_values(QUEUE, "throughput_per_min", slots) == [None]


def test_longer_slots_have_the_peak_the_sum_and_all_durations() -> None:
    records = [
        record(0, depth=9, finished=4, failed=1, runtimes=ONE_S),
        record(10, depth=1, finished=4, runtimes=TWO_S),
    ]
    (slot,) = slots_of(records, {0: 10, 10: 10}, 20, 20)
    assert figure_values(QUEUE, "depth", [slot]) == [9]
    assert figure_values(QUEUE, "throughput_per_min", [slot]) == [24.0]
    assert figure_values(QUEUE, "error_ratio", [slot]) == [0.125]
    assert figure_values(QUEUE, "runtime_p50_s", [slot]) == [pytest.approx(2.0, rel=0.05)]
    assert figure_values(QUEUE, "runtime_p95_s", [slot]) == [pytest.approx(2.0, rel=0.05)]


def test_durations_that_cover_several_slots_belong_to_each_of_them() -> None:
    records = [record(0, finished=1, runtimes=ONE_S), record(10, finished=1), record(40, finished=1, runtimes=TWO_S)]
    slots = slots_of(records, dict.fromkeys(range(0, 80, 10), 10.0), 80, 10, span_s=40)
    near_one, near_two = pytest.approx(1.0, rel=0.05), pytest.approx(2.0, rel=0.05)
    assert figure_values(QUEUE, "runtime_p50_s", slots) == [near_one] * 4 + [near_two] * 4


def test_a_figure_of_another_kind_is_refused() -> None:
    with pytest.raises(KeyError):
        figure_values(QUEUE, "clients", [])


def test_wider_steps_keep_peaks_sums_and_what_holds_on() -> None:
    records = [record(0, depth=9, finished=1), record(60, depth=2, finished=2), record(600, depth=2, finished=3)]
    wider = widen_steps(QUEUE, records, 240)
    assert [(one.start_s, one.cells[0]) for one in wider] == [(0, 9), (240, 2), (480, 2)]
    assert [one.cells[QUEUE.index_of("finished")] for one in wider] == [3, 0, 3]
    ends_high = widen_steps(QUEUE, [record(0, depth=9), record(60, depth=2)], 240)
    assert [(one.start_s, one.cells[0]) for one in ends_high] == [(0, 9), (240, 2)]


def test_wider_histograms_lose_no_duration() -> None:
    place = QUEUE.index_of("runtimes")
    wider = widen_histograms(QUEUE, [record(start, runtimes=ONE_S) for start in (0, 60, 120, 240)], 240)
    assert [one.cells[place] for one in wider] == [{bucket_of(1.0): 12}, None, None, ONE_S]


def test_blocks_lose_detail_only_when_room_is_short(seed: int) -> None:
    die = random.Random(seed)
    runtimes = [{bucket: die.randrange(1, 9) for bucket in range(60, 80)} for _ in range(120)]
    records = [record(60 * n, depth=die.randrange(9), finished=1, runtimes=runtimes[n]) for n in range(120)]
    (block,) = split_blocks(encode_block(QUEUE, records, 60, 60))
    assert detail_for(0.1) == Detail()
    assert coarsen_block(block, MINUTES, detail_for(0.1), 7200) is None
    (wider,) = split_blocks(coarsen_block(block, MINUTES, detail_for(0.5), 7200))
    assert (wider.step_s, wider.span_s, wider.count) == (60, 240, 120)
    assert coarsen_block(wider, MINUTES, detail_for(0.5), 7200) is None
    (widest,) = split_blocks(coarsen_block(wider, MINUTES, detail_for(0.86), 7200 + MINUTES.keep_s / 2))
    assert (widest.step_s, widest.span_s) == (240, 960)
    assert len(widest.raw) < len(wider.raw) < len(block.raw)
    finished = QUEUE.index_of("finished")
    assert sum(one.cells[finished] or 0 for one in decode_block(widest)) == 120


def test_narrower_steps_share_the_sums_and_hold_the_levels() -> None:
    parts = narrow_steps(QUEUE, record(240, depth=9, finished=7, runtimes=ONE_S), 240, 60)
    assert [part.start_s for part in parts] == [240, 300, 360, 420]
    assert [part.cells[0] for part in parts] == [9] * 4
    assert sum(part.cells[QUEUE.index_of("finished")] for part in parts) == 7
    assert [part.cells[QUEUE.index_of("runtimes")] for part in parts] == [ONE_S, None, None, None]
