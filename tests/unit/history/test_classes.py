"""Totals of job classes, their windows, and which of them became worse."""

from __future__ import annotations

import random

import pytest

from dashboard.history.classes.changes import Regression, compare_figures, figures_of
from dashboard.history.classes.ranking import ClassKey, WindowTotals, rank_classes
from dashboard.history.classes.reader import PartToRead, decode_part
from dashboard.history.classes.totals import ClassTotals, SampledTime, StoredRecord, add_up
from dashboard.history.classes.windows import CLASS_RANGES, Window, choose_windows
from dashboard.history.columns import CLASS, Record
from dashboard.history.encoding import decode_block, decode_slice, encode_block, split_blocks
from dashboard.history.histogram import add_durations
from dashboard.history.tiers import CLASS_HOURS, CLASS_QUARTERS, written_within_s
from dashboard.model import Quality
from tests.unit.history.class_samples import class_record, unknown_record

END_S = 1_700_000_100  # of the last slot that is complete
NOW_S = END_S + 400.0
HOUR = Window(3600, 7200, CLASS_QUARTERS)
ALWAYS = SampledTime(0, [900_000] * 16)


def stored(*records: Record, span_s: int = 900) -> list[StoredRecord]:
    return [StoredRecord(record, 900, span_s) for record in records]


def totals_of(jobs: int, failed: int = 0, runtime_s: float = 1.0) -> ClassTotals:
    runtimes: dict[int, int] = {}
    if jobs:
        add_durations(runtimes, [runtime_s], jobs)
    return ClassTotals(3_600_000, Quality.EXACT, jobs, failed, runtimes)


def test_windows_are_of_whole_slots_and_next_to_each_other() -> None:
    for name, seconds in CLASS_RANGES.items():
        windows = choose_windows(seconds, NOW_S)
        assert windows.current.end_s == END_S
        assert choose_windows(seconds, END_S + 29).current.end_s == END_S - 900  # it may not be stored yet
        rare = written_within_s(120)
        for later_s, end_s in ((134, END_S - 900), (136, END_S)):  # with the next sample
            assert choose_windows(seconds, END_S + later_s, within_s=rare).current.end_s == end_s
            assert choose_windows(seconds, END_S + later_s, None, END_S + 1, rare).current.end_s == end_s
        for window in windows.known:
            assert window.start_s % window.tier.step_s == 0
        assert windows.current.end_s - windows.current.start_s == pytest.approx(seconds, abs=7200)
        if name == "30d":
            assert windows.before is None  # older than what is stored
            continue
        assert windows.before is not None
        assert windows.before.end_s == windows.current.start_s
        assert windows.before.end_s - windows.before.start_s == seconds


def test_a_range_until_a_moment_ends_with_the_last_slot_that_is_stored_before_it() -> None:
    for ago_s, step_s, length_s in ((0.0, 900, 3600), (5000.0, 900, 3600), (2 * 86_400.0, 7200, 7200)):
        until_s = NOW_S - ago_s
        windows = choose_windows(3600, NOW_S, until_s - 9000, until_s)
        assert windows.current.end_s == until_s // step_s * step_s
        for window in (windows.current, windows.before, windows.until):
            assert window is not None
            assert (window.tier.step_s, window.end_s - window.start_s, window.start_s % step_s) == (step_s, length_s, 0)
        assert windows.before is not None
        assert windows.before.end_s == windows.current.start_s
    for hours in range(60):  # the slots of 15 minutes that follow the last one of two hours are still stored
        end_s = choose_windows(86_400, NOW_S, None, NOW_S - hours * 3600).current.end_s
        assert end_s % 7200 == 0 or NOW_S - end_s // 7200 * 7200 <= 86_400


def test_the_slot_of_a_moment_belongs_neither_before_nor_after_it() -> None:
    windows = choose_windows(86_400, NOW_S, END_S - 3000)
    assert windows.since == (END_S - 2700, END_S, CLASS_QUARTERS)
    assert windows.until is not None
    assert windows.until.end_s <= END_S - 3000
    assert choose_windows(3600, NOW_S, END_S - 3600).since == (END_S - 3600, END_S, CLASS_QUARTERS)
    assert choose_windows(3600, NOW_S, END_S - 1).since is None
    assert choose_windows(3600, NOW_S, NOW_S + 1e9).since is None
    # A moment before the range: all of the range is after it.
    old = choose_windows(3600, NOW_S, END_S - 86_400 * 3)
    assert old.since is not None
    assert (old.since.start_s, old.since.end_s) == (END_S - 3600, END_S)
    assert choose_windows(3600, NOW_S, 0.0).until is None


def test_totals_are_of_the_records_within_the_window() -> None:
    records = stored(*(class_record(start_s, 10, 1) for start_s in range(0, 9000, 900)))
    totals = add_up(records, HOUR, ALWAYS)
    assert totals is not None
    assert (totals.finished, totals.failed, totals.counted_ms) == (40, 4, 3_600_000)
    assert sum(totals.runtimes.values()) == 40
    assert figures_of(totals).per_min == pytest.approx(40 / 60)


def test_a_class_without_jobs_is_zero_if_they_were_counted_and_unknown_otherwise() -> None:
    idle = add_up(stored(class_record(0, 10)), HOUR, ALWAYS)
    assert idle == ClassTotals(3_600_000, Quality.EXACT, 0, 0, {})
    unknown = add_up(stored(unknown_record(0)), HOUR, ALWAYS)
    assert unknown == ClassTotals(0, Quality.UNKNOWN, None, None, {})
    assert figures_of(unknown).per_min is None
    assert add_up([], HOUR, ALWAYS) is None
    assert add_up(stored(class_record(7200, 1)), HOUR, ALWAYS) is None


def test_rates_are_over_the_time_in_which_jobs_were_counted() -> None:
    gap = SampledTime(0, [900_000] * 5 + [300_000, 0, 900_000])  # of the hour, 35 minutes were sampled
    records = stored(class_record(3600, 20), class_record(6300, 15))
    totals = add_up(records, HOUR, gap)
    assert totals is not None
    assert figures_of(totals).per_min == pytest.approx(1.0)
    # Unknown until the next record: an hour less three quarters.
    for unknown in (unknown_record(3600), unknown_record(3600, None)):
        partly = add_up(stored(unknown, class_record(6300, 15)), HOUR, ALWAYS)
        assert partly is not None
        assert (partly.finished, partly.counted_ms) == (15, 900_000)
    for records in (
        stored(class_record(3600, 15), unknown_record(4500)),
        stored(unknown_record(0), class_record(6300, 15)),
    ):
        part = add_up(records, HOUR, ALWAYS)
        assert part is not None
        assert part.counted_ms == 900_000


def test_the_worst_quality_counts() -> None:
    totals = add_up(stored(class_record(3600, 1), class_record(4500, 1, quality=Quality.ESTIMATED)), HOUR, ALWAYS)
    assert totals is not None
    assert totals.quality is Quality.ESTIMATED


def test_durations_that_cover_more_than_the_window_count_in_part() -> None:
    totals = add_up(stored(class_record(0, 100), span_s=7200), HOUR, ALWAYS)
    assert totals is not None
    assert sum(totals.runtimes.values()) == 50


@pytest.mark.parametrize(
    ("now", "earlier", "regressions"),
    [
        (totals_of(20, 0, 3.0), totals_of(20), (Regression.SLOWER,)),
        (totals_of(20, 0, 1.3), totals_of(20), ()),
        (totals_of(19, 0, 3.0), totals_of(20), ()),  # too few to tell
        (totals_of(20, 0, 3.0), totals_of(19), ()),
        (totals_of(20, 0, 0.004), totals_of(20, 0, 0.001), ()),  # slower by 3 ms
        (totals_of(100, 15), totals_of(100, 10), (Regression.FAILING,)),
        (totals_of(100, 14), totals_of(100, 10), ()),
        (totals_of(20, 4), totals_of(20), ()),  # too few failed
        (totals_of(100, 60, 2.0), totals_of(100), (Regression.FAILING, Regression.SLOWER)),
        (totals_of(100), totals_of(100, 50, 9.0), ()),
    ],
)
def test_a_class_is_worse_from_a_certain_change_on(
    now: ClassTotals, earlier: ClassTotals, regressions: tuple[Regression, ...]
) -> None:
    assert compare_figures(figures_of(now), figures_of(earlier)).regressions == regressions


def ranked(**totals: WindowTotals) -> list[str]:
    windows = choose_windows(3600, NOW_S)
    found = rank_classes(windows, {ClassKey("main", "rq", "mail", name): each for name, each in totals.items()})
    return [row.key.job_class for row in found.rows]


def test_regressions_are_first_the_worst_one_first_then_the_longest_in_all() -> None:
    assert ranked(
        short=WindowTotals(totals_of(100), totals_of(100)),
        long=WindowTotals(totals_of(100, 0, 60.0), totals_of(100, 0, 60.0)),
        slower=WindowTotals(totals_of(30, 0, 2.0), totals_of(30)),
        failing=WindowTotals(totals_of(30, 30), totals_of(30)),
        since=WindowTotals(totals_of(30), totals_of(30), totals_of(30, 0, 9.0), totals_of(30)),
        new=WindowTotals(totals_of(2), None),
        gone=WindowTotals(totals_of(0), totals_of(0)),
        idle=WindowTotals(totals_of(0), totals_of(1)),
    ) == ["failing", "since", "slower", "long", "short", "new", "idle"]


def test_queues_of_the_same_class_can_be_one_row() -> None:
    windows = choose_windows(3600, NOW_S)
    totals = {
        ClassKey("main", "rq", queue, "send"): WindowTotals(totals_of(30, 3, runtime_s), totals_of(30))
        for queue, runtime_s in {"mail": 1.0, "bulk": 4.0}.items()
    }
    totals[ClassKey("main", "celery", "mail", "send")] = WindowTotals(totals_of(30), None)
    found = rank_classes(windows, totals, merged=True)
    first, second = found.rows
    assert first.queues == ("bulk", "mail")
    assert first.figures.finished == 60
    assert first.figures.per_min == pytest.approx(1.0)  # of both, in the same hour
    assert first.figures.error_ratio == pytest.approx(0.1)
    assert first.figures.p95_s == pytest.approx(4.0, rel=0.05)
    assert first.runtime_share == pytest.approx(5 / 6, rel=0.05)
    assert second.change.slower_ratio is None
    assert second.runtime_share == pytest.approx(1 / 6, rel=0.05)


def test_a_part_of_a_block_is_that_part_of_all_records(seed: int) -> None:
    dice = random.Random(seed)
    starts = sorted(dice.sample(range(0, 900 * 400, 900), 60))
    records = [
        unknown_record(start_s)
        if dice.random() < 0.1
        else class_record(start_s, dice.randrange(1, 300), 1, dice.random())
        for start_s in starts
    ]
    (block,) = split_blocks(encode_block(CLASS, records, 900, 900))
    assert decode_block(block) == records
    for _ in range(20):
        start_s, end_s = sorted(dice.sample(range(900 * 400), 2))
        part = decode_slice(block, start_s, end_s)
        inside = [record for record in records if start_s <= record.start_s < end_s]
        before = [record for record in records if record.start_s < start_s][-1:]
        assert part == before + inside


def test_damaged_values_cost_their_own_records_only() -> None:
    sound = encode_block(CLASS, [class_record(0, 80)], 900, 900)
    for step_s, span_s in ((900 * 2**20, 900 * 2**20), (901, 901), (900, 900 * 2**20)):
        odd = encode_block(CLASS, [class_record(0, 2**61)], step_s, span_s)
        found = decode_part(odd + sound + b"damaged", b"\xff" * 99, PartToRead(CLASS_QUARTERS, 0, 7200))
        assert [each.record.cells[2] for each in found] == [80]


def test_coarser_blocks_are_read_as_slots_of_their_tier() -> None:
    raw = encode_block(CLASS, [class_record(0, 80)], 4 * 7200, 4 * 7200)
    found = decode_part(raw, b"damaged", PartToRead(CLASS_HOURS, 7200, 5 * 7200))
    assert [(each.record.start_s, each.record.cells[2]) for each in found] == [
        (start_s, 20) for start_s in range(0, 4 * 7200, 7200)
    ]
