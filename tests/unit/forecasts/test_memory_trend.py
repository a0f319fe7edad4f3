"""When the memory of a Redis is full."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from dashboard.forecasts.memory_trend import MemoryTrend
from dashboard.model import RedisHealth

GIB = 1024**3
CHANCE = random.Random(1)


def last_of(
    used: Callable[[float], float], hours: float, limit: int | None = GIB, step_s: float = 30.0
) -> float | None:
    """What is forecast after so many hours of used memory, in hours."""
    trend, left_s, at = MemoryTrend(), None, 0.0
    while at <= hours * 3600:
        health = RedisHealth(used_memory_bytes=round(used(at / 3600)), maxmemory_bytes=limit)
        left_s = trend.full_in_s(1e9 + at, health)
        at += step_s
    return None if left_s is None else left_s / 3600


def test_a_steady_rise_is_forecast() -> None:
    assert last_of(lambda hour: GIB * (0.2 + 0.1 * hour + CHANCE.gauss(0, 0.01)), 3) == pytest.approx(5, rel=0.1)


def test_a_faster_rise_of_the_last_half_hour_counts() -> None:
    def used(hour: float) -> float:
        return GIB * (0.2 + 0.01 * hour + max(0.0, hour - 4.4) * 0.8)

    assert last_of(used, 5) == pytest.approx((1 - used(5) / GIB) / 0.8, rel=0.1)


@pytest.mark.parametrize(
    "used",
    [
        lambda hour: GIB * 0.5,
        lambda hour: GIB * (0.5 - 0.05 * hour),
        lambda hour: GIB * (0.5 + 0.00001 * hour),
        lambda _: GIB * (0.5 + CHANCE.gauss(0, 0.05)),
        lambda hour: GIB * (0.3 + 0.2 * (hour * 60 % 20) / 20),  # a cache that is emptied every 20 minutes
        lambda hour: GIB * (0.3 + 0.3 * (hour > 2.95)),  # one import
        lambda hour: GIB * (0.05 + 0.1 * min(hour, 1.5)),  # a ramp that ended
    ],
)
def test_what_does_not_rise_by_more_than_chance_is_never_full(used: Callable[[float], float]) -> None:
    assert last_of(used, 3) is None


def ramp(hour: float) -> float:
    """The memory of the demo: a Redis fills while its clients start, for 12 minutes, and hardly rises afterwards."""
    minute = hour * 60
    return 8e6 + 1.4e6 * min(minute, 12.0) + 0.05e6 * max(0.0, minute - 12.0) + CHANCE.gauss(0, 0.04e6)


def test_what_rose_while_clients_started_is_not_continued() -> None:
    trend, said = MemoryTrend(), []
    for step in range(4 * 120):
        health = RedisHealth(used_memory_bytes=round(ramp(step / 120)), maxmemory_bytes=256 * 2**20)
        said.append(trend.full_in_s(1e9 + 30 * step, health))
    rising, after = said[20:24], said[2 * 20 :]
    assert [each and round(each / 60) for each in rising] == pytest.approx([170] * 4, rel=0.1)
    # 230 MiB at 50 kB a minute are more than three days; the ramp would be continued in three hours.
    assert min(each for each in after if each is not None) > 40 * 3600
    assert sum((one is None) != (other is None) for one, other in pairwise(after)) <= 2


def test_a_rise_that_slowed_down_is_forecast_at_its_new_pace() -> None:
    def used(hour: float) -> float:
        return GIB * (0.2 + 0.2 * min(hour, 1.0) + 0.05 * max(0.0, hour - 1.0))

    assert last_of(used, 3) == pytest.approx(10, rel=0.02)


def test_nothing_is_forecast_without_a_limit_or_of_a_few_minutes() -> None:
    rising = lambda hour: GIB * (0.2 + 0.1 * hour)  # noqa: E731
    assert last_of(rising, 2, limit=None) is None
    assert last_of(rising, 0.1) is None
    assert last_of(lambda _: GIB * 1.1, 1) == 0


def test_a_new_leader_continues_with_the_published_hour() -> None:
    known = [(1e9 + 60 * minute, GIB * (0.5 + 0.001 * minute)) for minute in range(60)]
    health = RedisHealth(used_memory_bytes=round(GIB * 0.56), maxmemory_bytes=GIB)
    left_s = MemoryTrend(known).full_in_s(1e9 + 3600, health)
    assert left_s == pytest.approx(440 * 60, rel=0.05)
    assert MemoryTrend().full_in_s(1e9 + 3600, health) is None
