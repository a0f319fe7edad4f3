"""One problem as pages show it: its level, its kind, its texts and its rank. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntEnum, StrEnum
from operator import attrgetter
from typing import Any

from ....model import QueueStats, Value


class ProblemLevel(IntEnum):
    """Severity of a problem; higher is worse."""

    OK = 0
    WARNING = 1
    CRITICAL = 2

    @property
    def word(self) -> str:
        """The level in lower case."""
        return self.name.lower()


class ProblemKind(StrEnum):
    """What kind of problem it is; the value is its label on pages."""

    UNREACHABLE = "unreachable"
    REFUSING = "refusing writes"
    UNREADABLE = "unreadable"
    MEMORY = "memory"
    EVICTION = "eviction"
    PERSISTENCE = "persistence"
    CONNECTIONS = "connections"
    FRAGMENTATION = "fragmentation"
    REPLICATION = "replication"
    ALERTING = "alerting"
    NOTIFICATIONS = "notifications"
    NO_WORKER = "no worker"
    FEW_WORKERS = "few workers"
    STUCK = "stuck"
    STALLED = "stalled jobs"
    PAUSED = "paused"
    LATENCY = "high latency"
    WAITING = "too many waiting"
    SLOW = "low throughput"
    SLOWER = "slower than usual"
    QUIET = "unusually quiet"
    LONG_RUNNING = "long-running job"
    OVERDUE = "overdue"
    LATE_SCHEDULE = "late schedule"
    FAILING = "failing"
    RISING = "dead letters rising"
    DEAD_LETTERS = "dead letters"
    NEW_ERROR = "new error"
    ERROR_RETURNED = "error returned"
    ERROR_BUDGET = "error budget"
    OTHER = "alert"


class ReportedAlert(Value, frozen=True, kw_only=True, gc=False):
    """What an alert adds to its problem. `since`: seconds since 1970; `status`: as in "acknowledged by anna"."""

    fingerprint: str
    since: float | None
    threshold: str | None
    status: str | None
    handled: bool  # acknowledged or silenced


class Problem(Value, frozen=True, kw_only=True, gc=False):
    """One problem. `rank` sorts the worst first, then by weight.

    Only the few problems on the page need a text, out of thousands: `describe` builds it from `figure`. It is about a
    queue, or a library on a source (`backend` and `source`), or a source, or else about `place`, such as an error.
    """

    level: ProblemLevel
    rank: tuple[float, float]
    kind: ProblemKind
    describe: Callable[[Any], str]
    figure: Any
    queue: QueueStats | None = None
    source: str | None = None
    backend: str | None = None
    place: str = "Queuedeck"
    error_group: str | None = None  # the fingerprint of the one it is about
    schedule: str | None = None  # the id of the one it is about
    slo: str | None = None  # the id of the objective it is about
    is_whole_library: bool = False
    alert: ReportedAlert | None = None

    @property
    def text(self) -> str:
        """The details, as a phrase to show next to the label of `kind` and the name of the queue or source."""
        return self.describe(self.figure)


def level_of(problems: Iterable[Problem], *kinds: ProblemKind) -> ProblemLevel:
    """The worst level of the problems of these kinds; OK without any."""
    return max((problem.level for problem in problems if problem.kind in kinds), default=ProblemLevel.OK)


# The sort key of problems, worst first; a call of it costs no Python frame.
rank_of: Callable[[Problem], tuple[float, float]] = attrgetter("rank")
