"""A thread that starts when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable


class LazyThread:
    """A daemon thread named `name` that calls `run` once; may be started and waited for by any threads."""

    def __init__(self, name: str, run: Callable[[], None]) -> None:
        self._name = name
        self._run = run
        self._lock = threading.Lock()  # a thread that is just being started cannot be waited for
        self._thread: threading.Thread | None = None

    @property
    def has_started(self) -> bool:
        """Whether it was ever started; it may have ended since."""
        return self._thread is not None

    def start(self) -> None:
        """Start it; does nothing if it was started before."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait until it has ended, at most `timeout_s`; returns at once if it was not started or is the caller."""
        with self._lock:
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)
