"""Forecasts in words."""

from __future__ import annotations

import pytest

from dashboard.forecasts.queue_forecaster import PAUSED
from dashboard.forecasts.wording import (
    describe_forecast,
    explain_forecast,
    explain_more_workers,
    forecast_basis,
    format_time_left,
)
from dashboard.model import Counts, ForecastState, QueueForecast
from tests.unit.forecasts.samples import queue_of
from tests.unit.forecasts.test_scaling import DRAINING, GROWING


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1, "under 1 min"),
        (59.6, "under 1 min"),
        (60, "1 min"),
        (829, "14 min"),
        (3569, "59 min"),
        (3590, "1 h"),
        (4810, "1 h 20 m"),
        (17_900, "5 h"),
        (30 * 3600, "30 h"),
        (7 * 86_400, "7 d"),
    ],
)
def test_a_time_left_is_no_more_precise_than_a_forecast(seconds: float, text: str) -> None:
    assert format_time_left(seconds) == text


def test_a_few_words() -> None:
    never, unknown = QueueForecast(state=ForecastState.NEVER), QueueForecast(reason=PAUSED)
    found = [describe_forecast(one) for one in (DRAINING, GROWING, never, unknown, None)]
    assert found == ["empty in 13 min", "growing 300/min", "never at this rate", None, None]
    wavering = [QueueForecast(state=ForecastState.GROWING, growing_per_min=value) for value in (318.0, 324.0, 1234.0)]
    assert [describe_forecast(one) for one in wavering] == ["growing 320/min", "growing 320/min", "growing 1.2k/min"]


def test_sentences() -> None:
    counts = Counts(waiting=12_000, scheduled=40, retrying=2)
    queue = queue_of(12_000, forecast=DRAINING, counts=counts)
    assert explain_forecast(queue) == "Empty in about 13 min: 600 jobs/min arrive, 1.5k/min finish."
    assert explain_more_workers(queue) == "5 more workers: empty in 5 min."
    assert forecast_basis(queue) == "at the rates of the last 2 min; without the 42 jobs scheduled for later"
    growing = queue_of(12_000, forecast=GROWING)
    assert explain_forecast(growing) == "Growing by 300 jobs/min: 1.8k jobs/min arrive, 1.5k/min finish."
    assert explain_forecast(queue_of(5, forecast=QueueForecast(reason=PAUSED))) == (
        "When it will be empty is not known: the queue is paused."
    )
    assert explain_forecast(queue_of(0)) == ""
    soon = QueueForecast(state=ForecastState.DRAINING, empty_in_s=20.0)
    assert explain_forecast(queue_of(5, forecast=soon)) == "Empty in under 1 min."
