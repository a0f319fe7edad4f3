"""Ranges of time in the URLs of charts."""

from __future__ import annotations

import pytest

from dashboard.errors import Unsupported
from dashboard.web.views.charts.chart_range import LEAST_S, parse_range

NOW_S = 1_700_000_000.0


def test_a_range_up_to_now_covers_a_minute_at_least() -> None:
    for end_s in (None, NOW_S, NOW_S + 40, 1e11):
        for ago_s, shown_s in ((0, LEAST_S), (20, LEAST_S), (61, 61)):
            wanted = parse_range(None, NOW_S - ago_s, end_s, None, NOW_S)
            assert (wanted.start_s, wanted.end_s) == (NOW_S - shown_s, NOW_S)


def test_a_range_that_is_empty_or_lies_ahead_is_refused() -> None:
    for start_s, end_s in (
        (NOW_S - 100, NOW_S - 50),
        (NOW_S - 50, NOW_S - 100),
        (NOW_S + 1, None),
        (NOW_S + 10, NOW_S + 90),
    ):
        with pytest.raises(Unsupported, match="at least a minute"):
            parse_range(None, start_s, end_s, None, NOW_S)
