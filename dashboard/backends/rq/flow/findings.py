"""What one sample finds about the finished jobs of a queue, and what is kept of it until the next sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import msgspec

from ....model import State
from ...class_tally import ClassTally
from ...completion_balance import BALANCED, CompletionBalance
from ..consumers import LiveWorker
from ..keys import QueueKeys

# RQ's defaults. Source: rq 3.0, defaults.py.
TTLS_S: Mapping[State, int] = {State.COMPLETED: 500, State.DEAD: 31_536_000}
# Field values that mean these defaults: the fields are often omitted.
DEFAULT_TTLS = frozenset(product(*((None, str(ttl_s)) for ttl_s in TTLS_S.values())))
TTL_FIELDS: Mapping[State, str] = {State.COMPLETED: "result_ttl", State.DEAD: "failure_ttl"}


class NextJob(NamedTuple):
    """The settings of the next job of a queue."""

    id: str
    retries: bool  # it can be retried
    ttls: tuple[str | None, ...]  # its `result_ttl` and its `failure_ttl`, as stored

    @property
    def leaves_nothing(self) -> bool:
        """Whether it leaves no record when it succeeds."""
        return self.ttls[0] == "0"


class QueueMemory(msgspec.Struct, frozen=True, gc=False):
    """The state of a queue between samples: counts above the bounds of an anchor, and facts about its newest jobs."""

    anchor: float
    counts: AnchorCounts
    busy: bool  # jobs finished in the last sample, so the next one reads their ids
    newest: float  # when the newest sampled job finished, by the clock of its worker
    completed: CompletionBalance = BALANCED  # of the set of queues that share its workers
    failed: CompletionBalance = BALANCED
    brief: Mapping[State, float] = {}  # when jobs that are removed within seconds last finished
    retried_at: float = 0.0  # when a job that can be, or was, retried was last seen
    next_job: NextJob | None = None
    uncounted_at: float = 0.0  # when a job without a record was last picked up without a live worker to count it


@dataclass(frozen=True, slots=True)
class FlowCursor:
    """What `read_flow` keeps between two samples."""

    at: float
    anchor: float
    queues: Mapping[str, QueueMemory]  # by QueueRef.key
    workers: Mapping[str, LiveWorker]  # by key, including those that stopped within the last minute
    keys: tuple[str, ...] = ()  # of workers, to read their hashes if scripts are not permitted


class AnchorCounts(msgspec.Struct, frozen=True, gc=False):
    """The numbers of members above the bounds of one anchor."""

    numbers: Sequence[int]  # all counts, as read
    high: Mapping[State, int]
    low: Mapping[State, int]
    brief: Mapping[State, int]
    never: int
    mark: str = ""  # a checksum of `numbers`, and these: the script of the next sample compares them

    def since(self, before: AnchorCounts, *, low_holds: bool) -> tuple[dict[State, int], dict[State, int]]:
        """Return how many jobs were added since `before`, by the best of the bounds, which must be those of the same
        anchor, and how many of them are removed within seconds.
        """
        came = {
            state: max(
                0, self.high[state] - before.high[state], self.low[state] - before.low[state] if low_holds else 0
            )
            for state in TTLS_S
        }
        brief = {state: max(0, self.brief[state] - before.brief[state] - came[state]) for state in TTLS_S}
        for state in TTLS_S:
            came[state] += brief[state]
        came[State.DEAD] += max(0, self.never - before.never)
        return came, brief if low_holds else dict.fromkeys(TTLS_S, 0)

    def disturbed_states(self, before: AnchorCounts) -> set[State]:
        """Return the states whose new records were removed since `before`: by a user, as they are far from expiry."""
        return {state for state in TTLS_S if self.high[state] < before.high[state]}


class FlowFindings(msgspec.Struct):
    """What one sample found about a queue."""

    queue: QueueKeys
    came: dict[State, int]
    span_s: float
    reason: str
    counts: AnchorCounts
    ids: list[tuple[State, str]]  # the newest jobs of both registries, a few more than were added
    newest: float
    brief: Mapping[State, int]
    disturbed: set[State]
    runtimes: list[float] = []
    waits: list[float] = []
    classes: ClassTally | None = None  # of the jobs that were looked at
    retries: bool = False  # a job that can be, or was, retried was seen
    next_job: NextJob | None = None
    first: bool = False  # this is the first sample of the queue
    other_ttls: bool = False  # a job without RQ's default times to live was seen
    traceless: bool = False  # a job that leaves no record when it succeeds was seen

    def note_ttls(self, ttls: Mapping[State, str | None]) -> None:
        """Record the times to live of a job; None for a field that is not set."""
        if any(ttl is not None and ttl != str(TTLS_S[state]) for state, ttl in ttls.items()):
            self.other_ttls = True
        self.traceless = self.traceless or ttls[State.COMPLETED] == "0"
