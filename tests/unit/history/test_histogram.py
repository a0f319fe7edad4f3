"""Durations in buckets that can be added up."""

from __future__ import annotations

import math
import random

import pytest

from dashboard.history.histogram import (
    BUCKET_RATIO,
    LAST_BUCKET,
    SHORTEST_S,
    add_durations,
    add_histogram,
    bucket_of,
    duration_of,
    histogram_of_jobs,
    percentiles,
)


@pytest.mark.parametrize(
    ("duration_s", "bucket"),
    [
        (0.0, 0),
        (-1.0, 0),
        (math.nan, 0),
        (SHORTEST_S, 0),
        (SHORTEST_S * 1.0001, 1),
        (SHORTEST_S * BUCKET_RATIO, 1),
        (SHORTEST_S * BUCKET_RATIO**100, 100),
        (1e300, LAST_BUCKET),
        (math.inf, LAST_BUCKET),
    ],
)
def test_each_duration_has_a_bucket(duration_s: float, bucket: int) -> None:
    assert bucket_of(duration_s) == bucket


def test_a_bucket_stands_for_a_duration_at_most_five_percent_away() -> None:
    for exponent in range(-3, 6):
        for factor in (1.0, 1.7, 3.1, 9.9):
            duration_s = factor * 10.0**exponent
            assert duration_of(bucket_of(duration_s)) == pytest.approx(duration_s, rel=0.05)


def test_percentiles_of_added_histograms_are_those_of_all_durations(seed: int) -> None:
    die = random.Random(seed)
    minutes = [[die.lognormvariate(minute / 10, 0.8) for _ in range(die.randrange(1, 80))] for minute in range(30)]
    summed: dict[int, int] = {}
    for minute in minutes:
        of_minute: dict[int, int] = {}
        add_durations(of_minute, minute)
        add_histogram(summed, of_minute)
    ordered = sorted(duration_s for minute in minutes for duration_s in minute)
    for share, found_s in zip((0.5, 0.95, 0.99), percentiles(summed, (0.5, 0.95, 0.99)), strict=True):
        assert found_s == pytest.approx(ordered[int(share * len(ordered))], rel=0.05)


def test_a_weight_counts_each_duration_so_often() -> None:
    found: dict[int, int] = {}
    add_durations(found, [1.0, 1.0, 2.0], weight=10)
    assert found == {bucket_of(1.0): 20, bucket_of(2.0): 10}
    assert percentiles({}, (0.5,)) == [None]


@pytest.mark.parametrize(("known", "jobs"), [(45, 60), (7, 100), (3, 3), (100, 101)])
def test_some_durations_stand_for_all_jobs(known: int, jobs: int) -> None:
    found = histogram_of_jobs([1.0] * (known - 1) + [9.0], jobs)
    assert sum(found.values()) == jobs
    assert found[bucket_of(9.0)] == pytest.approx(jobs / known, abs=1)
    assert histogram_of_jobs([1.0] * known, 0) == {bucket_of(1.0): known}
    assert histogram_of_jobs([], jobs) == {}
