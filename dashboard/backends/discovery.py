"""Finding queues in small steps: what one step may cost, and what it found. Part of the interface in base.py."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from ..model import QueueRef


@dataclass(slots=True)
class Budget:
    """The cost limits of one discovery step: commands, seconds, and what counts as a slow server.

    Call `spend` after each command; it returns whether another one is allowed.
    """

    commands: int
    seconds: float
    slow_command_s: float = 0.02  # of server time, without the network: latency says nothing about load
    _started: float = field(default_factory=time.perf_counter)

    def spend(self, server_s: float) -> bool:
        """Record one command that took `server_s` on the server; True while budget is left and the server was fast."""
        self.commands -= 1
        elapsed = time.perf_counter() - self._started
        return self.commands > 0 and elapsed < self.seconds and server_s <= self.slow_command_s


@dataclass(frozen=True, slots=True)
class Discovery:
    """The result of one discovery step.

    `found`: the queues seen in this step. `complete`: this step finished a pass over all of Redis; a queue not found
    since the previous complete step no longer exists. `cursor`: pass it to the next step. `problem`: why this pass
    cannot see all queues, and what to do; the pass then stops, is never complete, and starts over after a pause.
    """

    found: tuple[QueueRef, ...]
    complete: bool
    cursor: Any
    problem: str | None = None
