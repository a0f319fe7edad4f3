"""A cache that all viewers of a process share."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from ..clock import monotonic_s
from ..errors import QueuedeckError

T = TypeVar("T")
MOST = 100


class TTLCache(Generic[T]):
    """The latest answers to at most MOST questions, each cached for `keep_s` seconds. Thread-safe."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._lock = threading.Lock()
        self._answers: OrderedDict[Hashable, tuple[float, T | None]] = OrderedDict()

    def get(self, question: Hashable, ask: Callable[[], T | None]) -> T | None:
        """The cached answer, or a new one from `ask`. None if `ask` fails, which is cached too."""
        with self._lock:
            known = self._answers.get(question)
            if known is not None and monotonic_s() - known[0] < self._keep_s:
                return known[1]
            # Serve the stale answer to other threads while this one refreshes it.
            self._store_answer(question, known[1] if known else None)
        try:
            answer = ask()
        except QueuedeckError:
            answer = None
        with self._lock:
            self._store_answer(question, answer)
        return answer

    def _store_answer(self, question: Hashable, answer: T | None) -> None:
        self._answers[question] = (monotonic_s(), answer)
        self._answers.move_to_end(question)
        if len(self._answers) > MOST:
            self._answers.popitem(last=False)
