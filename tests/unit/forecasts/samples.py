"""Queues that are fed and drained at known rates, sampled as the sampler does."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

from dashboard.forecasts.queue_forecaster import QueueForecaster
from dashboard.model import Counts, QueueForecast, QueueStats

INTERVAL_S = 2.0

Rate = Callable[[float], float]  # jobs per second at a moment


class Seen(NamedTuple):
    """One sample."""

    at: float
    depth: int
    forecast: QueueForecast


def queue_of(depth: int | None, **fields: Any) -> QueueStats:
    """A row of an RQ queue."""
    known: dict[str, Any] = {"source": "main", "backend": "rq", "name": "mail", "key": "mail", "workers": 5}
    return QueueStats(**known | {"depth": depth, "counts": Counts(waiting=depth, active=0)} | fields)


def simulate(
    depth: int,
    arrive: Rate,
    finish: Rate,
    until_s: float,
    *,
    seed: int = 1,
    begin_s: float = 0.0,
    counted: bool = True,
    **fields: Any,
) -> list[Seen]:
    """The forecasts of a queue from `begin_s` on, while jobs arrive and finish at random, as often as said."""
    chance, forecaster, seen = random.Random(seed), QueueForecaster(), []
    at, finished = begin_s, 0
    while at < until_s:
        row = queue_of(depth, **fields)
        filled = forecaster.fill_forecast(row, at + 10_000, finished if counted else None)
        assert filled.forecast is not None
        seen.append(Seen(at, depth, filled.forecast))
        arrived = _events(chance, arrive(at) * INTERVAL_S)
        finished = min(depth + arrived, _events(chance, finish(at) * INTERVAL_S))
        depth += arrived - finished
        at += INTERVAL_S
    return seen


def _events(chance: random.Random, expected: float) -> int:
    """How many events happen where so many are expected."""
    if expected > 50:
        return max(0, round(chance.gauss(expected, expected**0.5)))
    count, waited = 0, chance.expovariate(1)
    while waited < expected:
        count, waited = count + 1, waited + chance.expovariate(1)
    return count
