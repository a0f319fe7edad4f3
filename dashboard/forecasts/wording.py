"""Forecasts in words. Pure."""

from __future__ import annotations

from ..model import ForecastState, QueueForecast, QueueStats, State
from ..units import format_count, format_number, shorten_number
from .scaling import suggest_more_workers

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


def format_time_left(seconds: float) -> str:
    """A time to come, no more precise than a forecast is: under 1 min, 14 min, 1 h 20 m, 5 h, 3 d."""
    if seconds < _MINUTE_S:
        return "under 1 min"
    minutes = round(seconds / _MINUTE_S)
    if minutes < 60:
        return f"{minutes} min"
    tens = round(seconds / 600)
    if tens < 30:
        hours, rest = divmod(tens, 6)
        return f"{hours} h {rest * 10} m" if rest else f"{hours} h"
    hours = round(seconds / _HOUR_S)
    return f"{hours} h" if hours < 48 else f"{round(seconds / _DAY_S)} d"


def describe_forecast(forecast: QueueForecast | None) -> str | None:
    """A few words: empty in 14 min, growing 320/min, never at this rate, steady; None if empty or not known."""
    if forecast is None:
        return None
    if forecast.state is ForecastState.DRAINING and forecast.empty_in_s is not None:
        return f"empty in {format_time_left(forecast.empty_in_s).replace('under ', '<')}"
    if forecast.state is ForecastState.GROWING and forecast.growing_per_min is not None:
        return f"growing {_rate(forecast.growing_per_min)}"
    return {ForecastState.NEVER: "never at this rate", ForecastState.STEADY: "steady"}.get(forecast.state)


def explain_forecast(queue: QueueStats) -> str:
    """A sentence about the waiting jobs of a queue; "" if none is waiting."""
    forecast = queue.forecast
    if forecast is None or forecast.state is ForecastState.EMPTY:
        return ""
    arriving, finishing = forecast.arriving_per_min, forecast.finishing_per_min
    rates = "" if arriving is None or finishing is None else f"{_jobs(arriving)} arrive, {_rate(finishing)} finish"
    match forecast.state:
        case ForecastState.DRAINING if forecast.empty_in_s is not None:
            left = format_time_left(forecast.empty_in_s)
            return _sentence(f"Empty in {'' if left.startswith('under') else 'about '}{left}", rates)
        case ForecastState.GROWING if forecast.growing_per_min is not None:
            return _sentence(f"Growing by {_jobs(forecast.growing_per_min)}", rates)
        case ForecastState.NEVER:
            return _sentence("Never empty at this rate", rates)
        case ForecastState.STEADY:
            return _sentence("Steady", rates)
    return f"When it will be empty is not known: {forecast.reason}." if forecast.reason else ""


def explain_more_workers(queue: QueueStats) -> str:
    """How many more workers would help, and how much: 3 more workers: empty in 5 min; "" if that is not known."""
    more = suggest_more_workers(queue)
    if more is None:
        return ""
    return f"{format_count(more.workers, 'more worker')}: empty in {format_time_left(more.empty_in_s)}."


def forecast_basis(queue: QueueStats) -> str:
    """What a forecast is based on, and what is not in it; "" without a forecast."""
    forecast = queue.forecast
    if forecast is None or forecast.window_s is None:
        return ""
    text = f"at the rates of the last {format_time_left(forecast.window_s)}"
    later = sum(queue.counts.of(state) or 0 for state in (State.SCHEDULED, State.RETRYING))
    if later:
        text += f"; without the {format_count(later, 'job')} scheduled for later"
    return text


def _sentence(start: str, rates: str) -> str:
    return f"{start}: {rates}." if rates else f"{start}."


def _jobs(per_min: float) -> str:
    return f"{_short(per_min)} {'job' if per_min == 1 else 'jobs'}/min"


def _rate(per_min: float) -> str:
    return f"{_short(per_min)}/min"


def _short(per_min: float) -> str:
    """Two digits, so that a figure that wavers reads the same."""
    rounded = float(f"{per_min:.2g}")
    return format_number(rounded) if rounded < 1000 else shorten_number(rounded)
