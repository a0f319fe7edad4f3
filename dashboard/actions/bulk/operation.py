"""What a piece of bulk work is: what is asked (Spec), and how far it is (Work)."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from ...backends.actions import Action, ActionOptions, JobRef, Outcome
from ...model import QueueRef, State, Value
from ..audit_log import Actor

DEFAULT_PACE_PER_S = 100.0
DEFAULT_CANARY_WAIT_S = 60.0


# Lists that could not be read, which work names one by one.
MAX_UNREAD = 20


class BulkPhase(StrEnum):
    """How far bulk work is."""

    COLLECTING = "collecting"  # the jobs are being listed; nothing has been done to them
    CANARY = "canary"  # the first few are being acted on
    WATCHING = "watching"  # and their outcome is waited for
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    ABORTED = "aborted"
    FAILED = "failed"


ENDED = frozenset({BulkPhase.DONE, BulkPhase.ABORTED, BulkPhase.FAILED})


class JobListRef(Value, frozen=True, kw_only=True):
    """A list of jobs: one state of one queue. `home` = where those of its jobs that are meant came from."""

    ref: QueueRef
    state: State
    native: str | None = None
    home: str | None = None


class BulkRequest(Value, frozen=True, kw_only=True):
    """What is asked. The jobs are those of `picks` at creation, all of `places`, those that match `q`, or a group's."""

    action: Action
    actor: Actor
    places: tuple[JobListRef, ...] = ()
    picks: tuple[JobRef, ...] = ()  # at most MAX_BATCH, of the first place
    q: str | None = None
    fingerprint: str | None = None  # of an error group
    wishes: ActionOptions = ActionOptions()
    pace_per_s: float = DEFAULT_PACE_PER_S  # 0: as quickly as Redis likes
    canary: int = 0  # so many first, then wait for their outcome
    canary_wait_s: float = DEFAULT_CANARY_WAIT_S
    canary_max_ratio: float = 0.0  # of them may fail again
    for_good: bool = False  # deleted jobs are not kept
    batches: tuple[str, ...] = ()  # UNDO: the bin's batch of each place
    undoes: str | None = None  # UNDO: the bulk work that deleted them, where it was one
    reason: str | None = None
    created_at: float = 0.0
    servers: dict[str, str] = msgspec.field(default_factory=dict)  # source -> its address where that was asked for

    @property
    def homeward(self) -> bool:
        """Whether each job goes to the queue out of which it came into a dead-letter queue: those of whole lists."""
        return self.action is Action.MOVE and self.wishes.target is None and not self.picks and self.q is None


class BulkOperation(Value, frozen=True, kw_only=True):
    """One piece of bulk work at one moment. `at` of `matched` jobs have been acted on."""

    id: str
    spec: BulkRequest
    phase: BulkPhase
    matched: int = 0
    at: int = 0
    outcomes: dict[str, int] = msgspec.field(default_factory=dict)
    canary_failed: int = 0
    canary_open: int = 0
    watch_until: float | None = None
    note: str | None = None  # why it stands still, or what went wrong
    scanned: int | None = None
    truncated: bool = False  # there were more jobs than one piece of work may have
    unread: tuple[str, ...] = ()  # queues that could not be read when the jobs were listed, MAX_UNREAD at most, and why
    unread_count: int = 0  # all of them
    ended_at: float | None = None
    restored: int = 0  # deleted jobs that were put back
    held: bool | None = None  # whether a process runs it; None where nobody asked
    batch: str | None = None  # of the bin

    @property
    def told_as(self) -> str:
        """The id under which its acts are recorded: an undo belongs to the story of what it undoes."""
        return self.spec.undoes or self.id

    @property
    def done(self) -> int:
        """Jobs on which it was done."""
        return self.outcomes.get(Outcome.DONE.value, 0)

    @property
    def not_done(self) -> int:
        """Jobs that were gone, changed or refused."""
        return sum(self.outcomes.values()) - self.done

    @property
    def undoable(self) -> bool:
        """Whether deleted jobs of it may still lie in the bin."""
        return self.spec.action is Action.DELETE and not self.spec.for_good and self.done > 0
