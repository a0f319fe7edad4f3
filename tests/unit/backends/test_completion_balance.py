"""Whether jobs end without a trace, from counters and records."""

from __future__ import annotations

import pytest

from dashboard.backends.completion_balance import CompletionBalance


@pytest.mark.parametrize(
    ("looks", "hides"),
    [
        ([(5, 5), (5, 5)], False),
        ([(0, 0), (5, 0)], True),
        ([(10, 10), (10, 5)], True),
        ([(100, 100), (100, 98)], False),  # a person deleted two
        ([(5, 0), (0, 5)], False),  # the record came a look later
        ([(0, 0)] * 40, False),
        ([(0, 5), (5, 0)], False),  # the counter did
        ([(0, 0)] * 29 + [(0, 5)] + [(5, 0)], False),  # even over the end of a minute
        ([(5, 0)] * 10 + [(5, 5)] * 100, True),  # within five minutes
        ([(5, 0)] * 10 + [(5, 5)] * 200, False),
        ([(0, 50), (5, 0)], False),
    ],
)
def test_records_that_are_missing_are_noticed(looks: list[tuple[int, int]], hides: bool) -> None:
    balance = CompletionBalance()
    at = 1000.0
    for ended, seen in looks:
        at += 2
        balance = balance.add(at, ended, seen)
    assert balance.hides_jobs(at) is hides


def test_what_left_no_record_is_counted_once() -> None:
    balance, grown = CompletionBalance(), []
    for tick, (ended, seen) in enumerate([(5, 3), (5, 5), (5, 1), (0, 0), *[(0, 0)] * 30, (4, 0)]):
        following = balance.add(1000.0 + 2 * tick, ended, seen)
        grown.append(following.growth_since(balance))
        balance = following
    assert [each for each in grown if each] == [2, 4, 4]
