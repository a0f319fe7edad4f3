"""One thread loads a value, the others get the last one or wait."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from dashboard.store import cache as module
from dashboard.store.cache import SingleFlightCache

LIMIT_S = 30.0


class Load:
    """A load that waits until it is released; its value is its number."""

    def __init__(self, number: int, error: Exception | None = None) -> None:
        self.begun, self.released = threading.Event(), threading.Event()
        self._number, self._error = number, error

    def __call__(self) -> int:
        self.begun.set()
        assert self.released.wait(LIMIT_S)
        if self._error is not None:
            raise self._error
        return self._number


class Clock:
    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(Clock, "now", 1000.0)
    monkeypatch.setattr(module, "monotonic_s", lambda: Clock.now)
    return Clock


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as threads:
        yield threads


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Released once for each thread that begins to wait for the load of another."""
    begun = threading.Semaphore(0)
    result = Future.result

    def announced(flight: module._Flight[object], timeout: float | None = None) -> object:
        begun.release()
        return result(flight, timeout)

    monkeypatch.setattr(module._Flight, "result", announced)
    return begun


def refuse() -> int:
    pytest.fail("loads although the value is cached")


def begin(pool: ThreadPoolExecutor, get: Callable[[], int], load: Load) -> Future[int]:
    """A `get` in another thread that has begun to load."""
    future = pool.submit(get)
    assert load.begun.wait(LIMIT_S)
    return future


def test_a_value_is_loaded_once_until_it_expires(clock: type[Clock]) -> None:
    cache = SingleFlightCache[int](10.0)
    assert [cache.get("a", lambda: 1), cache.get("a", refuse), cache.get("b", lambda: 2)] == [1, 1, 2]
    clock.now += 9.9
    assert cache.get("a", refuse) == 1
    clock.now += 0.1
    assert cache.get("a", lambda: 3) == 3


def test_the_age_of_a_value_counts_from_the_end_of_its_load(clock: type[Clock]) -> None:
    cache = SingleFlightCache[int](10.0)

    def slow() -> int:
        clock.now += 60.0
        return 1

    assert cache.get("a", slow) == 1
    clock.now += 9.9
    assert cache.get("a", refuse) == 1


def test_without_a_value_all_wait_for_the_one_that_loads(pool: ThreadPoolExecutor, waits: threading.Semaphore) -> None:
    cache, load = SingleFlightCache[int](10.0, stale_s=math.inf), Load(1)
    first = begin(pool, lambda: cache.get("a", load), load)
    others = [pool.submit(cache.get, "a", refuse) for _ in range(8)]
    for _ in others:
        assert waits.acquire(timeout=LIMIT_S)
    assert not any(other.done() for other in others)
    load.released.set()
    assert {future.result(LIMIT_S) for future in (first, *others)} == {1}


def test_of_many_threads_that_begin_together_one_loads(pool: ThreadPoolExecutor) -> None:
    cache, gate = SingleFlightCache[int](), threading.Barrier(16)
    loads: list[int] = []

    def get() -> int:
        gate.wait(LIMIT_S)
        return cache.get("a", lambda: loads.append(1) or len(loads))

    for _ in range(50):
        assert {future.result(LIMIT_S) for future in [pool.submit(get) for _ in range(16)]} == {1}
        assert loads == [1]
        loads.clear()
        cache.invalidate()


def test_keys_do_not_wait_for_each_other(pool: ThreadPoolExecutor) -> None:
    cache, load = SingleFlightCache[int](), Load(1)
    slow = begin(pool, lambda: cache.get("slow", load), load)
    assert cache.get("fast", lambda: 2) == 2
    load.released.set()
    assert slow.result(LIMIT_S) == 1


def test_while_a_value_is_refreshed_the_others_get_the_last_one(pool: ThreadPoolExecutor, clock: type[Clock]) -> None:
    cache, load = SingleFlightCache[int](10.0, stale_s=5.0), Load(2)
    assert cache.get("a", lambda: 1) == 1
    clock.now += 14.9
    refresh = begin(pool, lambda: cache.get("a", load), load)
    assert cache.get("a", refuse) == 1
    load.released.set()
    assert refresh.result(LIMIT_S) == 2
    assert cache.get("a", refuse) == 2


def test_who_accepts_no_old_value_waits_for_the_one_that_is_loaded(
    pool: ThreadPoolExecutor, clock: type[Clock], waits: threading.Semaphore
) -> None:
    cache = SingleFlightCache[int](10.0, stale_s=math.inf)
    cache.get("a", lambda: 1)
    clock.now += 10
    load = Load(2)
    first = begin(pool, lambda: cache.get("a", load), load)
    second = pool.submit(lambda: cache.get("a", refuse, accepts_old=False))
    assert waits.acquire(timeout=LIMIT_S)
    load.released.set()
    assert [first.result(LIMIT_S), second.result(LIMIT_S)] == [2, 2]
    assert cache.get("a", refuse, accepts_old=False) == 2


def test_a_value_that_expired_long_ago_is_never_returned(
    pool: ThreadPoolExecutor, clock: type[Clock], waits: threading.Semaphore
) -> None:
    cache, load = SingleFlightCache[int](10.0, stale_s=5.0), Load(2)
    assert cache.get("a", lambda: 1) == 1
    clock.now += 15.0
    refresh = begin(pool, lambda: cache.get("a", load), load)
    other = pool.submit(cache.get, "a", refuse)
    assert waits.acquire(timeout=LIMIT_S)
    load.released.set()
    assert (refresh.result(LIMIT_S), other.result(LIMIT_S)) == (2, 2)


def test_a_failure_is_raised_to_all_that_wait_and_not_cached(
    pool: ThreadPoolExecutor, waits: threading.Semaphore
) -> None:
    cache, load = SingleFlightCache[int](), Load(1, OSError("no route"))
    futures = [begin(pool, lambda: cache.get("a", load), load), pool.submit(cache.get, "a", refuse)]
    assert waits.acquire(timeout=LIMIT_S)
    load.released.set()
    for future in futures:
        with pytest.raises(OSError, match="no route"):
            future.result(LIMIT_S)
    assert cache.get("a", lambda: 2) == 2


def test_a_failure_leaves_the_last_value(pool: ThreadPoolExecutor, clock: type[Clock]) -> None:
    cache, failing, load = SingleFlightCache[int](10.0, stale_s=math.inf), Load(2, OSError()), Load(3)
    assert cache.get("a", lambda: 1) == 1
    clock.now += 3600.0
    failing.released.set()
    with pytest.raises(OSError):
        cache.get("a", failing)
    refresh = begin(pool, lambda: cache.get("a", load), load)
    assert cache.get("a", refuse) == 1
    load.released.set()
    assert refresh.result(LIMIT_S) == 3


def test_another_version_is_loaded_and_never_served_for_this_one(pool: ThreadPoolExecutor) -> None:
    cache, load = SingleFlightCache[int](stale_s=math.inf), Load(2)
    assert (cache.get("a", lambda: 1, "v1"), cache.get("a", refuse, "v1")) == (1, 1)
    second = begin(pool, lambda: cache.get("a", load, "v2"), load)
    assert cache.get("a", refuse, "v1") == 1
    assert cache.get("a", lambda: 3, "v3") == 3  # does not wait for v2
    load.released.set()
    assert second.result(LIMIT_S) == 2
    assert cache.get("a", refuse, "v3") == 3  # a load that began earlier does not replace it


def test_what_was_loaded_before_an_invalidation_is_not_cached(pool: ThreadPoolExecutor) -> None:
    cache, load = SingleFlightCache[int](10.0, stale_s=math.inf), Load(1)
    before = begin(pool, lambda: cache.get("a", load), load)
    cache.invalidate()
    assert cache.get("a", lambda: 2) == 2  # neither waits for the load from before, nor gets its value
    load.released.set()
    assert before.result(LIMIT_S) == 1
    assert cache.get("a", refuse) == 2
    cache.invalidate()
    assert cache.get("a", lambda: 3) == 3


def test_a_load_from_before_an_invalidation_leaves_the_one_after_it_alone(pool: ThreadPoolExecutor) -> None:
    cache, old, new = SingleFlightCache[int](10.0, stale_s=math.inf), Load(1), Load(2)
    before = begin(pool, lambda: cache.get("a", old), old)
    cache.invalidate()
    after = begin(pool, lambda: cache.get("a", new), new)
    old.released.set()
    assert before.result(LIMIT_S) == 1
    new.released.set()
    assert after.result(LIMIT_S) == 2
    assert cache.get("a", refuse) == 2


def test_the_least_recently_used_value_leaves_first() -> None:
    cache = SingleFlightCache[int](max_entries=2)
    for key, number in (("a", 1), ("b", 2), ("a", 1), ("c", 3)):
        assert cache.get(key, lambda number=number: number) == number
    assert (cache.get("a", refuse), cache.get("c", refuse)) == (1, 3)
    assert cache.get("b", lambda: 4) == 4
