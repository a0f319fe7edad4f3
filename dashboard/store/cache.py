"""A cache that all threads of a process share: one of them loads a value, for all."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..clock import monotonic_s

T = TypeVar("T")
DEFAULT_MAX_ENTRIES = 100


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    value: T
    version: object
    loaded_at: float  # monotonic


class _Flight(Future[T]):
    """A value that is being loaded, for those that wait for it."""

    def __init__(self, version: object) -> None:
        super().__init__()
        self.version = version


class SingleFlightCache(Generic[T]):
    """Values by key, each loaded by one thread at a time. Thread-safe; no lock is held while a value is loaded.

    A value is current for `keep_s` seconds after it was loaded, and only for the version it was loaded for. While a
    thread loads another one, the others get the last value if it expired less than `stale_s` ago and has the version
    they ask for; otherwise they wait for the new one. At most `max_entries` values are cached, least recently used
    first out.
    """

    def __init__(
        self, keep_s: float = math.inf, *, stale_s: float = 0.0, max_entries: int = DEFAULT_MAX_ENTRIES
    ) -> None:
        self.keep_s = keep_s
        self._stale_s = stale_s
        self._max_entries = max_entries
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry[T]] = OrderedDict()
        self._flights: dict[Hashable, _Flight[T]] = {}

    def get(self, key: Hashable, load: Callable[[], T], version: object = None, *, accepts_old: bool = True) -> T:
        """The cached value, or a new one from `load`; an expired one only if the caller `accepts_old`.

        What `load` raises is raised to its caller and to all that wait for it, but not cached: the last value stays,
        and the next call loads again.
        """
        with self._lock:
            entry, flight = self._entries.get(key), self._flights.get(key)
            joins = flight is not None and flight.version == version
            if entry is not None and self._is_usable(entry, version, self._stale_s if joins and accepts_old else 0.0):
                self._entries.move_to_end(key)
                return entry.value
            if flight is None or not joins:
                flight = self._flights[key] = _Flight(version)
        return flight.result() if joins else self._load_value(key, load, flight)

    def invalidate(self) -> None:
        """Discard all values, and those that are being loaded as soon as they are: a later `get` loads a new one."""
        with self._lock:
            self._entries.clear()
            self._flights.clear()

    def _is_usable(self, entry: _Entry[T], version: object, stale_s: float) -> bool:
        return entry.version == version and monotonic_s() - entry.loaded_at < self.keep_s + stale_s

    def _load_value(self, key: Hashable, load: Callable[[], T], flight: _Flight[T]) -> T:
        try:
            value = load()
        except BaseException as exc:
            self._end_flight(key, flight, None)
            flight.set_exception(exc)
            raise
        self._end_flight(key, flight, _Entry(value, flight.version, monotonic_s()))
        flight.set_result(value)
        return value

    def _end_flight(self, key: Hashable, flight: _Flight[T], entry: _Entry[T] | None) -> None:
        """Cache the entry, unless values were discarded or another version was asked for since the flight began."""
        with self._lock:
            if self._flights.get(key) is not flight:
                return
            del self._flights[key]
            if entry is not None:
                self._entries[key] = entry
                self._entries.move_to_end(key)
                if len(self._entries) > self._max_entries:
                    self._entries.popitem(last=False)
