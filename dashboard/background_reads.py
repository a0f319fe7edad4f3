"""Reads in a thread of their own, for a caller that must not wait long for them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .clock import monotonic_s
from .lazy_thread import LazyThread

# Reading takes at most a tenth of the time.
REST_FACTOR = 9
STOP_S = 1.0


class BackgroundReads:
    """Calls `read` in a thread each time it is requested, and rests after it in proportion to how long it took.

    Requests during a read or a rest are one more read. `read` must not raise.
    """

    def __init__(self, name: str, read: Callable[[], None]) -> None:
        """`name`: of the thread, which starts with the first request."""
        self._read = read
        self._wanted, self._finished = threading.Event(), threading.Event()
        self._is_resting = False
        self._stopped = threading.Event()
        self._thread = LazyThread(name, self._run_loop)

    def request(self, wait_s: float = 0.0) -> None:
        """Ask for a read, and wait for it, unless the thread rests, at most `wait_s` seconds.

        To be called from one thread, or without waiting from `read`.
        """
        self._finished.clear()
        self._wanted.set()
        self._thread.start()
        if wait_s and not self._is_resting:
            self._finished.wait(wait_s)

    def stop(self) -> None:
        """Stop the thread; one that is reading does not block the exit."""
        self._stopped.set()
        self._wanted.set()
        self._thread.join(STOP_S)

    def _run_loop(self) -> None:
        while self._wanted.wait() and not self._stopped.is_set():
            self._wanted.clear()
            began = monotonic_s()
            self._read()
            self._is_resting = True
            self._finished.set()
            self._stopped.wait(REST_FACTOR * (monotonic_s() - began))
            self._is_resting = False
