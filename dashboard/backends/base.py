"""The contract between Queuedeck and one queue library: what a backend answers, at which price.

A backend is made for one Source and holds no state of its own: what it must remember between two looks it hands out as
an opaque cursor. All methods may be called from several threads at once.

Reads never write. Actions (`act_on_jobs` and the like) move jobs atomically and return an outcome for each job.
Nothing unpickles, or uses KEYS or any command whose cost grows with the queue. One broken queue or job costs one row
(`error`, `problem`), never the answer. Raises BackendUnavailable when the server cannot be asked.
"""

from __future__ import annotations

import abc
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..errors import Unsupported
from ..globs import glob_matches, is_plain
from ..model import (
    Capability,
    ClassBoard,
    FlowDelta,
    Job,
    JobPage,
    JobQuery,
    QueueRef,
    QueueStats,
    Schedule,
    Sifted,
    State,
    Window,
    Worker,
)
from ..settings import SourceSettings
from ..sources.source import Source
from .actions import Action, ActionOptions, ActionResult, JobBackup, JobRef, Outcome

# Rates are told over the last five minutes; a backend's first answer reaches back no further.
FLOW_WINDOW_S = 300.0
MAX_SCHEDULES = 1000
WINDOW_ROWS = 500
# Words that stand in a job's data as they are written by people: no library escapes any of these characters.
SIFTABLE = re.compile(r"[A-Za-z0-9_@.:-]{3,100}\Z")
# A sift looks at so many jobs and bytes at once, which keeps the server busy for 2 to 4 ms.
SIFT_ROWS, SIFT_BYTES = 5000, 512 * 1024
NO_WISHES = ActionOptions()


@dataclass(slots=True)
class Budget:
    """How much one step of discovery may cost: commands, seconds, and what counts as a slow server.

    `spend` is told of each command and answers whether another one is allowed.
    """

    commands: int
    seconds: float
    slow_command_s: float = 0.02  # of the server's own time: how far away it is says nothing of how busy it is
    _started: float = field(default_factory=time.perf_counter)

    def spend(self, server_s: float) -> bool:
        """Note one command that took the server so long; True while there is budget left and the server was quick."""
        self.commands -= 1
        elapsed = time.perf_counter() - self._started
        return self.commands > 0 and elapsed < self.seconds and server_s <= self.slow_command_s


@dataclass(frozen=True, slots=True)
class Discovery:
    """What one step of looking for queues brought.

    `found`: queues seen in this step. `complete`: with this step the whole of Redis has been seen; what was not found
    since the previous complete step is gone. `cursor`: hand it to the next step. `problem`: why this search cannot see
    all queues, and what to do; the search is then over, is never complete, and starts again after a pause.
    """

    found: tuple[QueueRef, ...]
    complete: bool
    cursor: Any
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class EventAccess:
    """Which of the `channels` that are listened to the server refuses, and what is missing `without` those."""

    channels: tuple[str, ...]
    refused: tuple[str, ...]
    without: str


class Backend(abc.ABC):
    """One library's queues on one source."""

    name: ClassVar[str]  # "bullmq": in URLs, settings and the API
    title: ClassVar[str]  # "BullMQ": for people
    # Our states that the library has, in its own words, in the order of the tabs: (state, (native word, …)).
    states: ClassVar[Mapping[State, tuple[str, ...]]]
    capabilities: ClassVar[frozenset[Capability]]
    keyed_by_id: ClassVar[bool] = True  # a job is found by its id at once, not by looking through lists
    key_scans: ClassVar[int] = 1  # how often a whole search goes through the key space; 0 = the library has an index
    # What may be done to jobs of a state, to queues, schedules and workers, in the order of the buttons.
    job_actions: ClassVar[Mapping[State, tuple[Action, ...]]] = {}
    queue_actions: ClassVar[tuple[Action, ...]] = ()
    # What may be done to `abandoned` jobs beside: of a state, or with None to those that stand in no list.
    abandoned_actions: ClassVar[Mapping[State | None, tuple[Action, ...]]] = {}
    # States of single jobs that the library keeps in the list of another state.
    listed_with: ClassVar[Mapping[State, State]] = {}
    schedule_actions: ClassVar[tuple[Action, ...]] = ()
    worker_actions: ClassVar[tuple[Action, ...]] = ()
    # Jobs are lost or never end when Redis evicts keys of this library, so its documentation asks for noeviction.
    needs_noeviction: ClassVar[bool] = False
    # What the library does then, in a sentence for the preview and the hover; and why something is not offered.
    action_help: ClassVar[Mapping[Action, str]] = {}
    unsupported_reasons: ClassVar[Mapping[Action, str]] = {}

    def __init__(self, source: Source, settings: SourceSettings) -> None:
        self.source = source
        self.settings = settings
        self.own_source: Source | None = None  # where Queuedeck's own keys are; None where nothing may be kept

    @abc.abstractmethod
    def discover_queues(self, cursor: Any, budget: Budget) -> Discovery:
        """The queues found by the next step of the search; `cursor` None starts it.

        Indexes that the library keeps come first; a scan of the key space goes in steps within `budget`.
        The first step brings `named_queues` too, whether they are there or not.
        """

    def disambiguate(self, refs: Sequence[QueueRef]) -> list[QueueRef]:
        """`refs`, in order, with names of which no two are alike; for libraries that can hold two queues of one name.

        The answer depends on nothing but the set of refs, so that every process gives a queue the same address.
        """
        return list(refs)

    @abc.abstractmethod
    def read_stats(self, refs: Sequence[QueueRef]) -> list[QueueStats]:
        """The figures of many queues, in the order of `refs`, rates left None.

        Cost: 1 round trip however many queues. A queue that cannot be read has `error` set.
        """

    def refresh_stats(self, refs: Sequence[QueueRef], seen: dict[str, Any]) -> list[QueueStats]:
        """As `read_stats`, for one who asks every few seconds: quicker for queues that are as they were.

        `seen` = {} at first; the backend leaves there by QueueRef.key what it goes on with. The caller drops the keys
        of queues that are gone, and hands `seen` to no two calls at once. All figures are those of now.
        """
        del seen
        return self.read_stats(refs)

    @abc.abstractmethod
    def read_flow(self, refs: Sequence[QueueRef], cursor: Any) -> tuple[FlowDelta, Any]:
        """What ended in `refs` since `cursor` was handed out, and the next cursor.

        With cursor None: what the library still tells of the last FLOW_WINDOW_S. Queues may come and go between two
        calls. Cost: 1 round trip, at most 2.
        """

    @abc.abstractmethod
    def list_jobs(self, ref: QueueRef, query: JobQuery) -> JobPage:
        """One page of a list, without payloads. Raises NotFound when the queue is not there, Unsupported for a state
        that the library has not. Cost: at most 2 round trips, whatever the length of the list; 3 where what is known of
        the rows stands in another place than the list.
        """

    @abc.abstractmethod
    def read_job(self, ref: QueueRef, job_id: str) -> Job:
        """One job with payload, options, error, stack, logs, links and timeline, each bounded.

        Raises NotFound. Cost: at most 4 round trips.
        """

    def list_workers(self, refs: Sequence[QueueRef]) -> list[Worker]:
        """The worker processes of this library, by id; `refs` = all known queues, for the names of theirs.

        Cost: at most 2 round trips. [] where the library leaves no trace of its workers (no Capability.WORKERS).
        """
        del refs
        return []

    def list_schedules(self, refs: Sequence[QueueRef]) -> list[Schedule]:
        """The schedules, soonest first, at most MAX_SCHEDULES; `refs` = all known queues.

        Cost: at most 3 round trips where scripts are permitted.
        """
        del refs
        return []

    def read_class_stats(self, ref: QueueRef) -> ClassBoard | None:
        """What each class of jobs did lately; None where the library keeps no such figures (Capability.CLASSES).

        Cost: at most 2 round trips.
        """
        del ref
        return None

    def search_page(self, ref: QueueRef, query: JobQuery) -> Window:
        """The jobs of a page (`per_page` up to WINDOW_ROWS) with the text to search in, in the order of `list_jobs`.

        Raises as `list_jobs`, and Unsupported without Capability.SEARCH. Cost: at most 2 round trips.
        """
        del ref, query
        raise Unsupported(f"{self.title} does not support searching jobs by text.")

    def can_scan(self, state: State) -> bool:  # noqa: ARG002
        """Whether `scan_matches` looks through lists of `state`."""
        return False

    def scan_matches(self, ref: QueueRef, state: State, word: str, offset: int) -> Sifted | None:
        """Of a stretch of a list from row `offset` on all jobs in whose data `word` stands, and maybe others; in the
        order of `list_jobs`. None where the server does not permit it: take `search_page` then.

        `word` = SIFTABLE, upper case as lower case; numbers are as they are written. Raises as `search_page`. Cost: at
        most 2 round trips, and less than 5 ms of the server.
        """
        del ref, state, word, offset
        return None

    def list_job_refs(self, ref: QueueRef, query: JobQuery) -> list[JobRef]:
        """The jobs of a page (`per_page` up to MAX_BATCH) by id and stamp, in the order of `list_jobs`.

        Cost: at most 2 round trips.
        """
        return [JobRef(id=job.id, stamp=job.stamp) for job in self.list_jobs(ref, query).jobs]

    def offered_actions(
        self,
        state: State | None,
        *,
        shared: bool = False,  # noqa: ARG002
        abandoned: bool = False,
    ) -> tuple[Action, ...]:
        """What may be done to a job in `state` (None = in no list), in the order of the buttons; `shared` = in the
        entry for what all queues have together; more to an `abandoned` one. Cost: none.
        """
        verbs = self.job_actions.get(state, ()) if state else ()
        return (*verbs, *self.abandoned_actions.get(state, ())) if abandoned else verbs

    def act_on_jobs(
        self, ref: QueueRef, action: Action, state: State, picks: Sequence[JobRef], wishes: ActionOptions = NO_WISHES
    ) -> list[ActionResult]:
        """What came of `action` on jobs in `state`, one Acted per pick, in order; at most MAX_BATCH picks.

        Each job is moved in one MULTI or script, only from the state and stamp that the pick names, and never altered
        but as the library itself would. DELETE goes by `backup_jobs` and `delete_jobs`. Raises BackendUnavailable (then
        the outcome of each is open, and asking again is safe), NotFound. Cost: a few round trips, whatever the number.
        """
        del ref, state, wishes
        why = self.unsupported_reasons.get(action, f"{self.title} does not support this.")
        return [ActionResult(id=pick.id, outcome=Outcome.UNSUPPORTED, detail=why) for pick in picks]

    def backup_jobs(self, ref: QueueRef, state: State, picks: Sequence[JobRef]) -> list[JobBackup | ActionResult]:
        """All that is needed to put jobs back, read and not changed: a Kept per pick, or an Acted for one that is
        gone, changed or may not be deleted; in order. Cost: at most 3 round trips.
        """
        del ref, state
        why = self.unsupported_reasons.get(Action.DELETE, f"{self.title} does not support this.")
        return [ActionResult(id=pick.id, outcome=Outcome.UNSUPPORTED, detail=why) for pick in picks]

    def delete_jobs(self, ref: QueueRef, state: State, kept: Sequence[JobBackup]) -> list[ActionResult]:
        """Delete jobs that are as they were when they were taken, one Acted each, in order. Atomic per job.

        Raises as `act_on_jobs`. Cost: a few round trips, whatever the number.
        """
        del ref, state
        return [ActionResult(id=job.id, outcome=Outcome.UNSUPPORTED) for job in kept]

    def backup_unlisted_jobs(self, ref: QueueRef, picks: Sequence[JobRef]) -> list[JobBackup | ActionResult]:
        """Like `backup_jobs`, for jobs that are in no list and that no worker runs; others are `changed`."""
        del ref
        why = f"{self.title} does not support this."
        return [ActionResult(id=pick.id, outcome=Outcome.UNSUPPORTED, detail=why) for pick in picks]

    def delete_unlisted_jobs(self, ref: QueueRef, kept: Sequence[JobBackup]) -> list[ActionResult]:
        """As `delete_jobs`, of what `backup_unlisted_jobs` took. `restore_jobs` puts them back."""
        del ref
        return [ActionResult(id=job.id, outcome=Outcome.UNSUPPORTED) for job in kept]

    def restore_jobs(self, ref: QueueRef, state: State, kept: Sequence[JobBackup]) -> list[ActionResult]:
        """Put deleted jobs back where they were, one Acted each, in order; `changed` where the id is in use again.

        Asking twice never makes two of one, and never brings back one that ran since it was put back: `changed`, with
        `again` set where that is known. Raises as `act_on_jobs`. Cost: a few round trips, whatever the number.
        """
        del ref, state
        return [ActionResult(id=job.id, outcome=Outcome.UNSUPPORTED) for job in kept]

    def act_on_queue(self, ref: QueueRef, action: Action) -> ActionResult:
        """The result of an action on a queue. The work per call is bounded: if `more` is set, call again."""
        return ActionResult(id=ref.name, outcome=Outcome.UNSUPPORTED, detail=self.unsupported_reasons.get(action))

    def act_on_schedule(self, schedule: Schedule, action: Action) -> ActionResult:
        """The result of an action on a schedule of `list_schedules`."""
        return ActionResult(id=schedule.id, outcome=Outcome.UNSUPPORTED, detail=self.unsupported_reasons.get(action))

    def act_on_worker(self, worker: Worker, action: Action) -> ActionResult:
        """The result of an action on a worker of `list_workers`; done = sent, the worker acts on it when it can."""
        return ActionResult(id=worker.id, outcome=Outcome.UNSUPPORTED, detail=self.unsupported_reasons.get(action))

    def maintain(self) -> None:  # noqa: B027 most backends need nothing
        """Keep up what this backend must remember for all processes; the leader calls it once per sample, before
        `discover_queues`. It may write to `own_source`, under `{queuedeck}:` and within a stated bound, and nowhere
        else.
        """

    def close(self) -> None:  # noqa: B027 most backends have nothing of their own
        """End threads and connections of this backend's own, if it has any; it may be used again afterwards."""

    def library_versions(self, refs: Sequence[QueueRef]) -> tuple[str, ...]:  # noqa: ARG002
        """Versions of the library that left a trace here, sorted; () where it leaves none. For `doctor`."""
        return ()

    def describe_ambiguity(self, stats: Sequence[QueueStats]) -> tuple[str, str] | None:
        """What names of keys leave open about these queues, and how it is settled; None where nothing. Cost: none."""
        del stats
        return None

    def changed_keys(self, refs: Sequence[QueueRef]) -> tuple[str, ...]:
        """Patterns, each one word, of the keys that acting on these queues may change; for `doctor`. Cost: none."""
        del refs
        return ()

    def changed_channels(self, refs: Sequence[QueueRef]) -> tuple[str, ...]:
        """Patterns of the channels in which acting on these queues speaks. Cost: none."""
        del refs
        return ()

    def event_access(self) -> EventAccess | None:
        """Whether what the library publishes may be heard; None where nothing is listened to. For `doctor`."""
        return None

    def includes_queue(self, queue: str) -> bool:
        """Whether the settings want this queue shown."""
        globs = self.settings.queues
        return not globs or any(glob_matches(glob, queue) for glob in globs)

    @classmethod
    def list_words(cls) -> frozenset[str]:
        """The library's own words for its lists; a job's native state that is none of them tells more. Cost: none."""
        return frozenset(word for words in cls.states.values() for word in words)

    def configured_ref(self, ref: QueueRef) -> QueueRef | None:
        """The ref as `discover_queues` brings it, of one that another process found by its own settings and that
        `disambiguate` may have renamed; None where these settings do not want that queue. Cost: none."""
        return ref if ref.shared or self.includes_queue(ref.name) else None

    def named_queues(self) -> tuple[str, ...]:
        """Queues that the settings name outright, to be shown even before they exist.

        None are named when several libraries are looked for: a name alone does not tell to which it will belong.
        """
        if len(self.settings.backends) != 1:
            return ()
        return tuple(name for name in self.settings.queues if is_plain(name))
