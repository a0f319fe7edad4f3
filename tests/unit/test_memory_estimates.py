"""Totals from samples: exact where everything was measured, within their error in about 95 of 100 cases elsewhere."""

from __future__ import annotations

import random

import pytest

from dashboard.memory_usage.estimates import add_estimates, estimate_share, estimate_total


def test_what_was_measured_as_a_whole_has_no_error() -> None:
    assert estimate_total([100, 300], 2) == (400, 0)
    assert estimate_total([], 0) == (0, 0)
    assert estimate_share([100, 300], 2, 50, 50) == (400, 0)


def test_the_error_shrinks_with_what_is_left_to_measure() -> None:
    assert estimate_total([1, 3], 4) == (8, 8)
    assert estimate_total([1, 3, 1, 3], 5).variance < estimate_total([1, 3], 5).variance


def test_one_of_many_says_little() -> None:
    assert estimate_total([100], 1000).error_ratio == pytest.approx(1)


@pytest.mark.parametrize("sampled", [50, 400])
def test_the_error_holds_in_about_95_of_100_cases(sampled: int) -> None:
    chance = random.Random(sampled)
    sizes = [round(chance.lognormvariate(6, 1)) for _ in range(20_000)]
    truth = sum(sizes)
    estimates = [estimate_total(chance.sample(sizes, sampled), len(sizes)) for _ in range(300)]
    held = sum(abs(each.total_bytes - truth) <= each.error_bytes for each in estimates)
    assert 0.88 <= held / 300 <= 0.99


def test_a_share_of_the_keys_is_estimated_with_its_error() -> None:
    chance = random.Random(7)
    keys = [(number % 5 == 0, chance.randrange(100, 900)) for number in range(20_000)]
    truth = sum(size for matching, size in keys if matching)
    held = 0
    for _ in range(200):
        scanned = chance.sample(keys, 1000)
        matching = [size for matches, size in scanned if matches]
        estimate = estimate_share(matching[:100], len(matching), len(scanned), len(keys))
        held += abs(estimate.total_bytes - truth) <= estimate.error_bytes
    assert 0.88 <= held / 200 <= 1


def test_errors_of_independent_estimates_add_up_as_variances() -> None:
    both = add_estimates([estimate_total([1, 3], 100), estimate_total([2, 8], 100)])
    assert both.total_bytes == 700
    assert both.error_bytes < estimate_total([1, 3], 100).error_bytes + estimate_total([2, 8], 100).error_bytes
