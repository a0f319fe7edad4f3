"""When the demo's producers add jobs: steadily, in waves and in bursts, and none while enough are waiting."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class WorkRate:
    """How many jobs to add now. The first one is due immediately.

    `per_s` jobs per second on average, oscillating by `swing` (0..1) over `period_s`; about every `burst_every_s` a
    burst of about `burst` more. `bound`: the queue is never filled beyond this depth.
    """

    per_s: float
    bound: int
    swing: float = 0.5
    period_s: float = 90.0
    burst: int = 0
    burst_every_s: float = 60.0
    clock: Callable[[], float] = time.monotonic
    _owed: float = field(init=False)
    _last: float | None = field(default=None, init=False)
    _next_burst: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._owed = 1.0 if self.per_s else 0.0

    def jobs_due(self, depth: int) -> int:
        """Return the jobs due since the last call, given how many are waiting; jobs over `bound` are dropped."""
        now = self.clock()
        passed, self._last = (0.0 if self._last is None else now - self._last), now
        rate = self.per_s * (1 + self.swing * math.sin(2 * math.pi * now / self.period_s))
        self._owed += rate * passed * random.uniform(0.4, 1.6) + self._burst_jobs(now)
        wanted = int(self._owed)
        self._owed -= wanted
        return max(0, min(wanted, self.bound - depth))

    def _burst_jobs(self, now: float) -> int:
        if not self.burst:
            return 0
        if self._next_burst is None:  # the first one early: the page should show activity when it opens
            self._next_burst = now + random.uniform(0.05, 0.3) * self.burst_every_s
        if now < self._next_burst:
            return 0
        self._next_burst = now + random.uniform(0.7, 1.3) * self.burst_every_s
        return round(self.burst * random.uniform(0.6, 1.4))
