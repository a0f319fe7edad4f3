"""The search for the queues of one backend, in steps that cost the server little."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

from ..backends.base import Backend, Budget, Discovery
from ..backends.payloads.decoding import printable
from ..backends.scan import KEYS_PER_CALL
from ..clock import monotonic_s
from ..errors import BackendUnavailable, QueuedeckError
from ..model import QueueRef
from ..redact import masked_logger

log = masked_logger(__name__)

# The first search can use more of the server, since there is nothing to show before it; later ones use little.
FIRST_BUDGET = (400, 0.5)  # commands, seconds per sample
LATER_BUDGET = (20, 0.15)
# Between the end of one search and the start of the next. A key space that takes more commands than one step allows is
# scanned less often, so that searching stays a small share of the load on Redis.
SEARCH_PAUSE_S = 4.0
LONG_SEARCH_PAUSE_S = 60.0


@dataclass(slots=True)
class QueueSearch:
    """Progress of the search for one backend's queues."""

    cursor: Any = None
    known: dict[str, QueueRef] = field(default_factory=dict)  # by key
    seen: set[str] = field(default_factory=set)  # in the current search
    complete: bool = False  # at least one search has finished
    commands: int = 0  # of the current search
    due: float = 0.0  # monotonic; when the next search may start
    problem: str | None = None  # why the last search could not find all queues
    server: str | None = None  # that was read last; None if unknown
    servers: set[str] = field(default_factory=set)  # that the current search has read

    def follow_server(self, run_id: str | None) -> None:
        """Start the current search again if it began on another server, before a failover or a restart: a cursor of
        SCAN means nothing to this one, so that the rest of the search would miss keys that exist.

        Behind an address of several servers that take turns, it starts again once for each. `run_id`: of the server;
        None if unknown.
        """
        if run_id is None:
            return
        self.server = run_id
        if self.cursor is not None and run_id not in self.servers:
            self.cursor, self.seen, self.commands, self.due = None, set(), 0, 0.0

    def add_queue(self, ref: QueueRef) -> None:
        """Add a queue found elsewhere; the current search may have passed its key before it existed."""
        self.known.setdefault(ref.key, ref)
        if self.cursor is not None:
            self.seen.add(ref.key)

    def search_progress(self, keys: int | None, scans: int) -> float | None:
        """Progress of the first search, 0..1, given the server's number of keys and how often each is scanned; None if
        `keys` is unknown."""
        if self.complete:
            return 1.0
        return min(0.99, self.commands * KEYS_PER_CALL / (scans * keys)) if keys else None

    def take_step(self, backend: Backend) -> str | None:
        """Take one step of the search if one is due; returns why the last search could not find all queues.

        Raises BackendUnavailable if the source cannot be reached.
        """
        if self.cursor is None and monotonic_s() < self.due:
            return self.problem
        if self.server is not None:
            self.servers.add(self.server)
        commands, seconds = LATER_BUDGET if self.complete else FIRST_BUDGET
        budget = Budget(commands, seconds)
        step = self._discover(backend, budget)
        self.commands += commands - budget.commands
        for ref in step.found:
            self.known[ref.key] = ref
            self.seen.add(ref.key)
        if step.problem is not None:
            # Queues that it did not find may exist.
            self.seen, self.servers, self.commands, self.complete = set(), set(), 0, False
            self.due, self.cursor = monotonic_s() + SEARCH_PAUSE_S, None
            self.problem = step.problem
        elif step.complete:
            self.problem = None
            self.known = {key: ref for key, ref in self.known.items() if key in self.seen}
            # By its cost, not its steps: one slow moment of the server must not hide new queues for a minute.
            pause = SEARCH_PAUSE_S if self.commands <= LATER_BUDGET[0] else LONG_SEARCH_PAUSE_S
            self.seen, self.servers, self.commands, self.complete = set(), set(), 0, True
            self.due = monotonic_s() + pause
            self.cursor = None
        else:
            self.cursor = step.cursor
        return self.problem

    def _discover(self, backend: Backend, budget: Budget) -> Discovery:
        """What the next step finds. An error is its problem: the queues found so far can still be read."""
        try:
            return backend.discover_queues(self.cursor, budget)
        except BackendUnavailable as exc:
            if exc.reason != "forbidden":
                raise
            problem = exc.message
        except (QueuedeckError, ResponseError) as exc:
            problem = printable(str(exc), 200)
        except Exception:
            log.exception("the search for queues of %s on %s failed", backend.name, backend.source.name)
            problem = "the search for its queues failed; the log has the details"
        return Discovery((), complete=False, cursor=None, problem=problem)
