"""What a leader may rely on: a lease that ran out is none, a hung leader gives up, and time is that of the store."""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis

from dashboard.backends.base import Budget, Discovery
from dashboard.backends.scan import scan_step
from dashboard.collect import leader, scheduler
from dashboard.collect.leader import LEASE_S, Leadership
from dashboard.collect.sampler import LONG_SEARCH_PAUSE_S, SEARCH_PAUSE_S, Sampler
from dashboard.collect.scheduler import HUNG_S, Checker
from dashboard.collect.store import Store
from dashboard.sources import Source, metered
from tests.unit.collect.lists import Lists, watch_of


def test_a_leader_whose_lease_ran_out_leads_no_more(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    leadership = Leadership(Store(source), "one")
    assert leadership.renew() is not None
    assert leadership.epoch is not None
    began = time.monotonic()
    monkeypatch.setattr(leader, "monotonic_s", lambda: began + LEASE_S + 1)
    assert leadership.epoch is None


class Turns:
    """Stands for the event that ends a loop: it lets the loop turn so many times."""

    def __init__(self, turns: int) -> None:
        self.left = turns

    def wait(self, _seconds: float) -> bool:
        self.left -= 1
        return self.left < 0

    def is_set(self) -> bool:
        return self.left < 0


@pytest.mark.parametrize(("late_s", "keeps"), [(0.0, True), (HUNG_S + 1, False)])
def test_only_a_leader_whose_ticks_end_renews_its_lease(
    source: Source, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, late_s: float, keeps: bool
) -> None:
    store = Store(source)
    leadership = Leadership(store, "one")
    hung: list[str] = []
    checker = Checker(store, Sampler(watch_of(source), 2, "one"), leadership, 2, on_hung=lambda: hung.append("hung"))
    leadership.renew()
    redis_client.pexpire("{queuedeck}:lead", 100_000_000)  # a renewal makes it shorter
    now = time.monotonic()
    monkeypatch.setattr(scheduler, "monotonic_s", lambda: now)
    monkeypatch.setattr(checker, "_finished", now - late_s)
    monkeypatch.setattr(checker, "_stop", Turns(2))
    checker._keep()
    assert (redis_client.pttl("{queuedeck}:lead") < 50_000_000) is keeps
    assert hung == ([] if keeps else ["hung"])


def test_the_time_is_that_of_the_store_however_wrong_the_host_is(
    source: Source, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(source)
    store.read(with_history=False)
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + 3600)
    assert store.now_s() == pytest.approx(redis_client.time()[0], abs=600)


@pytest.mark.parametrize(("affordable", "pause_s"), [(20, SEARCH_PAUSE_S), (0, LONG_SEARCH_PAUSE_S)])
def test_a_key_space_that_costs_much_is_searched_seldom(
    source: Source, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, affordable: int, pause_s: float
) -> None:
    monkeypatch.setattr("dashboard.collect.sampler.LATER_BUDGET", (affordable, 1e9))
    redis_client.sadd("lists", "mail")
    discover = Lists.discover

    def costly(self: Lists, cursor: Any, budget: Budget) -> Discovery:
        budget.spend(0.0)
        return discover(self, cursor, budget)

    monkeypatch.setattr(Lists, "discover", costly)
    sampler = Sampler(watch_of(source), 2, "me")
    before = time.monotonic()
    sampler.sample()
    (search,) = sampler._searches.values()
    assert before + pause_s <= search.due <= time.monotonic() + pause_s


def test_one_call_of_a_search_looks_at_few_keys(source: Source, redis_client: redis.Redis) -> None:
    with redis_client.pipeline(transaction=False) as pipeline:
        for n in range(6000):
            pipeline.set(f"key:{n}", 1)
        pipeline.execute()
    with metered() as meter:
        found, cursor = scan_step(source, 0, Budget(1, 1e9), match="*")
    assert meter.commands == 1
    assert 0 < len(found) < 2000  # Redis rounds up to whole buckets
    assert cursor != 0
