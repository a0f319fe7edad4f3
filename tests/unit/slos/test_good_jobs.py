"""Which jobs of a record are good: the limit within a bucket, what is unknown, durations that cover several records."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dashboard.history.columns import QUEUE, Cells, Record
from dashboard.history.histogram import add_durations
from dashboard.history.slots import StoredSeries
from dashboard.settings import SloSettings
from dashboard.slos.good_jobs import JobCounts, count_good_jobs, count_within, covered_records, lacks_measure


def cells_of(**known: Any) -> Cells:
    return tuple(known.get(name) for name in QUEUE.names)


def histogram_of(*durations_s: float) -> dict[int, int]:
    found: dict[int, int] = {}
    add_durations(found, durations_s)
    return found


WAITS = SloSettings(id="waits", target=0.99, waited_within_s=60)
RUNS = SloSettings(id="runs", target=0.99, ran_within_s=5)
SUCCEEDS = SloSettings(id="succeeds", target=0.99, succeeded=True)


@pytest.mark.parametrize("limit_s", [0.00005, 0.0001, 0.37, 5, 60, 3600, 2_000_000])
def test_durations_on_either_side_of_a_limit_are_told_apart(limit_s: float) -> None:
    """Those that are more than the width of a bucket away; of the bucket itself, a part counts."""
    durations = histogram_of(*[limit_s * 1.12] * 3, *[limit_s / 1.12] * 2)
    if limit_s > 0.0001:
        assert count_within(durations, limit_s) == pytest.approx(2)
    spread = histogram_of(*(limit_s * math.exp(share / 500 - 1) for share in range(1000)))
    if limit_s > 0.001:
        assert count_within(spread, limit_s) == pytest.approx(500, abs=4)


def test_a_record_says_how_many_jobs_were_good() -> None:
    cells = cells_of(quality=2, finished=10, failed=1, waits=histogram_of(*[1.0] * 9, 300.0), runtimes=None)
    assert count_good_jobs(SUCCEEDS, cells, 10) == JobCounts(total=10, good=9)
    assert count_good_jobs(WAITS, cells, 10) == JobCounts(total=10, good=9)
    assert count_good_jobs(WAITS, cells, 40) == JobCounts(total=40, good=36)  # ten stand for all of them
    assert count_good_jobs(RUNS, cells, 10) is None
    assert lacks_measure(cells)


def test_what_is_unknown_is_not_good() -> None:
    idle, unread = cells_of(quality=2, finished=0, failed=0), cells_of(finished=None)
    unknown = cells_of(quality=0, uncounted_ms=60_000)
    for slo in (WAITS, RUNS, SUCCEEDS):
        assert count_good_jobs(slo, idle, 0) is count_good_jobs(slo, unknown, None) is None
    assert (lacks_measure(idle), lacks_measure(unread), lacks_measure(unknown)) == (False, False, True)


def test_durations_of_several_records_stand_for_the_jobs_of_all_of_them() -> None:
    """As they are stored where room is short: in the first of four records."""
    waits = histogram_of(1.0, 300.0)
    records = [
        Record(900 * n, cells_of(quality=2, finished=10 * n, failed=n, waits=waits if n in (1, 5) else None))
        for n in range(1, 7)
    ]
    stored = StoredSeries(records, [3600] * 6)
    found = [
        (span_s, count_good_jobs(WAITS, record.cells, finished))
        for record, span_s, finished in covered_records(stored, WAITS, 0, 900 * 7)
    ]
    assert found[0] == (3600, JobCounts(total=10 + 20 + 30 + 40, good=50))
    assert found[4] == (3600, JobCounts(total=50 + 60, good=55))
    assert [counts for _, counts in found[1:4]] == [None, None, None]
    by_failures = list(covered_records(stored, SUCCEEDS, 1800, 4500))
    assert [(record.start_s, span_s, finished) for record, span_s, finished in by_failures] == [
        (1800, 1, 20),
        (2700, 1, 30),
        (3600, 1, 40),
    ]
