"""A bulk operation: the request (BulkRequest) and its progress (BulkOperation)."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from ...backends.actions import Action, ActionOptions, JobRef, Outcome
from ...model import QueueRef, State, Value
from ..approval import ApprovalRule
from ..audit_log import Actor

DEFAULT_PACE_PER_S = 100.0
DEFAULT_CANARY_WAIT_S = 60.0

# The maximum number of lists that could not be read and that an operation names.
MAX_UNREAD = 20


class BulkPhase(StrEnum):
    """The phase of a bulk operation."""

    COLLECTING = "collecting"  # the jobs are being listed; no job has been changed
    APPROVAL = "approval"  # they are listed; a second person has to approve the operation
    CANARY = "canary"  # the first few jobs are being processed
    WATCHING = "watching"  # waiting for their results
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    ABORTED = "aborted"
    FAILED = "failed"


_FAILED = (Outcome.REFUSED, Outcome.INVALID, Outcome.UNSUPPORTED)
# How pages name the phases whose value says too little.
PHASE_WORDS = {BulkPhase.WATCHING: "waiting for canary", BulkPhase.APPROVAL: "waiting for approval"}
ENDED = frozenset({BulkPhase.DONE, BulkPhase.ABORTED, BulkPhase.FAILED})


class JobOrder(StrEnum):
    """Which jobs an operation processes first: by the order of their list, or of an error group by time of failure."""

    OLDEST = "oldest"
    NEWEST = "newest"


class JobListRef(Value, frozen=True, kw_only=True):
    """A list of jobs: one state of one queue. `origin_queue`: only its jobs that came from this queue.

    `undo_batch`: the one whose jobs are restored to the list; two batches can be of the same list.
    """

    ref: QueueRef
    state: State
    native: str | None = None
    origin_queue: str | None = None
    undo_batch: str | None = None


class BulkRequest(Value, frozen=True, kw_only=True):
    """A request. Its jobs: `job_refs` as of creation, all of `job_lists`, those that match `q`, or an error group's.

    With `limit`, at most so many of them.
    """

    action: Action
    actor: Actor
    job_lists: tuple[JobListRef, ...] = ()
    job_refs: tuple[JobRef, ...] = ()  # at most MAX_BATCH, of the first list
    q: str | None = None
    fingerprint: str | None = None  # of an error group
    within_lists: bool = False  # only those of its jobs that are in `job_lists`
    error_title: str | None = None  # of that group when the operation was created, for display
    limit: int | None = None  # only this many of them: the first in `order`
    order: JobOrder | None = None  # None: the order in which they are listed
    options: ActionOptions = ActionOptions()
    pace_per_s: float = DEFAULT_PACE_PER_S  # 0: as fast as Redis allows
    canary: int = 0  # process this many first, then wait for their results
    canary_wait_s: float = DEFAULT_CANARY_WAIT_S
    canary_max_ratio: float = 0.0  # the fraction of them that may fail again
    for_good: bool = False  # delete permanently, without the trash
    undo_batches: tuple[str, ...] = ()  # UNDO: the undo batch of each list
    undoes: str | None = None  # UNDO: the bulk operation that deleted the jobs, if any
    reason: str | None = None
    token_of: str | None = None  # who created the token with which the operation was started
    approval_over: int | None = None  # a destructive action on more jobs needs approval; None: none does
    created_at: float = 0.0
    servers: dict[str, str] = msgspec.field(default_factory=dict)  # source -> its address where the request was made

    @property
    def to_origin(self) -> bool:
        """Whether each job moves to the queue from which it came into a dead-letter queue: only for whole lists."""
        return self.action is Action.MOVE and self.options.target is None and not self.job_refs and self.q is None

    def is_by(self, who: str) -> bool:
        """Whether that person started the operation, also with a token.

        A sign-in may accept names in any case: "Ada" is the same person as "ada".
        """
        return who.casefold() in (self.actor.name.casefold(), (self.token_of or self.actor.name).casefold())

    def needs_approval(self, jobs: int) -> bool:
        """Whether a second person has to approve the operation if it is on so many jobs."""
        return ApprovalRule(self.approval_over).needs(self.action, jobs)


class BulkOperation(Value, frozen=True, kw_only=True):
    """A bulk operation at one moment: `processed` of `matched` jobs have been processed."""

    id: str
    request: BulkRequest
    phase: BulkPhase
    matched: int = 0
    processed: int = 0
    outcomes: dict[str, int] = msgspec.field(default_factory=dict)
    canary_failed: int = 0
    canary_open: int = 0
    watch_until: float | None = None
    note: str | None = None  # why it is not running, or what went wrong
    scanned: int | None = None
    truncated: bool = False  # there were more jobs than the limit of one operation
    unread: tuple[str, ...] = ()  # queues that could not be read during collection, and why; at most MAX_UNREAD
    unread_count: int = 0  # the number of all such queues
    ended_at: float | None = None
    approval_until: float | None = None  # when it ends without approval; None if it needs none
    approved_by: str | None = None
    restored: int = 0  # deleted jobs that were restored
    leased: bool | None = None  # whether a process runs it; None if not checked

    @property
    def lacks_approval(self) -> bool:
        """Whether a second person has to approve it and has not."""
        return self.approved_by is None and self.request.needs_approval(self.matched)

    @property
    def recorded_as(self) -> str:
        """The id for the audit log: an undo is recorded under the operation that it undoes."""
        return self.request.undoes or self.id

    @property
    def done(self) -> int:
        """The number of jobs with outcome `done`."""
        return self.outcomes.get(Outcome.DONE.value, 0)

    @property
    def skipped(self) -> int:
        """The number of jobs that no longer existed or were in another state."""
        return sum(self.outcomes.get(kind.value, 0) for kind in (Outcome.GONE, Outcome.CHANGED))

    @property
    def failed(self) -> int:
        """The number of jobs that were refused, or on which the action was not possible."""
        return sum(self.outcomes.get(kind.value, 0) for kind in _FAILED)

    @property
    def stopped_by_canary(self) -> bool:
        """Whether it is paused since too many of its first jobs failed or have not finished."""
        return self.phase is BulkPhase.PAUSED and self.note is not None and 0 < self.request.canary == self.processed

    @property
    def undoable(self) -> bool:
        """Whether the trash may still hold jobs that it deleted."""
        return self.request.action is Action.DELETE and not self.request.for_good and self.done > 0
