"""The interface that every queue library implements: what each method returns, and what it costs.

A backend is created for one Source and keeps no state of its own. What it must remember between two calls it returns
as an opaque cursor. All methods can be called from several threads at the same time.

Reads never write. Actions such as `act_on_jobs` move jobs atomically and return one outcome per job. No method
unpickles data, or uses KEYS or any other command whose cost grows with the length of the queue. A broken queue or job
costs one row (`error`, `problem`), never the whole result. Every method raises BackendUnavailable when the server
cannot be reached.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import Unsupported
from ..globs import glob_matches, is_plain
from ..model import (
    Argument,
    Capability,
    ClassBoard,
    FlowDelta,
    Job,
    JobPage,
    JobQuery,
    Mark,
    QueueRef,
    QueueStats,
    QueueStorage,
    ScanResult,
    Schedule,
    Searched,
    State,
    Window,
    Worker,
)
from ..settings import SourceSettings
from ..sources.source import Source
from .actions import Action, ActionOptions, ActionResult, JobBackup, JobRef, Outcome
from .discovery import Budget as Budget
from .discovery import Discovery as Discovery
from .payloads.arguments import arguments_in, arguments_in_call

# Rates cover the last five minutes; the first call of `read_flow` reaches back no further.
FLOW_WINDOW_S = 300.0
MAX_SCHEDULES = 1000
WINDOW_ROWS = 500
# Search terms that appear in a job's data exactly as typed: no library escapes any of these characters.
SCANNABLE = re.compile(r"[A-Za-z0-9_@.:-]{3,100}\Z")
# The jobs and bytes that one call of `scan_matches` examines, which keeps the server busy for 2 to 4 ms.
SCAN_ROWS, SCAN_BYTES = 5000, 512 * 1024
NO_OPTIONS = ActionOptions()


@dataclass(frozen=True, slots=True)
class EventAccess:
    """The pub/sub `channels` that Queuedeck subscribes to, those the server `refused`, and what is missing `without`
    them."""

    channels: tuple[str, ...]
    refused: tuple[str, ...]
    without: str


class Backend(abc.ABC):
    """One library's queues on one source."""

    name: ClassVar[str]  # "bullmq": in URLs, settings and the API
    title: ClassVar[str]  # "BullMQ": the display name
    # The states that the library has, in the order of the tabs, with its own names for them: state -> (native word, …).
    states: ClassVar[Mapping[State, tuple[str, ...]]]
    capabilities: ClassVar[frozenset[Capability]]
    # The states whose lists begin with the newest job; those of the others begin with the oldest, or the next to run.
    newest_first: ClassVar[frozenset[State]] = frozenset()
    keyed_by_id: ClassVar[bool] = True  # a job can be read by its id directly, without searching lists
    ids_of_all_queues: ClassVar[bool] = False  # the key of a job does not name its queue: an id reaches it through any
    key_scans: ClassVar[int] = 1  # passes over the key space per complete discovery; 0 = the library keeps an index
    # The actions on jobs (per state), queues, schedules and workers, in the order of the buttons.
    job_actions: ClassVar[Mapping[State, tuple[Action, ...]]] = {}
    queue_actions: ClassVar[tuple[Action, ...]] = ()
    # Additional actions on `abandoned` jobs, per state; None = jobs that are in no list.
    abandoned_actions: ClassVar[Mapping[State | None, tuple[Action, ...]]] = {}
    # States whose jobs the library keeps in the list of another state: state -> the state of that list.
    listed_with: ClassVar[Mapping[State, State]] = {}
    schedule_actions: ClassVar[tuple[Action, ...]] = ()
    worker_actions: ClassVar[tuple[Action, ...]] = ()
    runs_on_cluster: ClassVar[bool] = False  # the library supports Redis Cluster; only then it is searched for there
    # The library's documentation requires noeviction: when Redis evicts its keys, jobs are lost or never finish.
    needs_noeviction: ClassVar[bool] = False
    pauses_whole_library: ClassVar[bool] = False  # PAUSE and RESUME act on all queues, not only on the one named
    # What each action does, in a sentence or two for the preview and the tooltip; why an action is not supported.
    action_help: ClassVar[Mapping[Action, str]] = {}
    unsupported_reasons: ClassVar[Mapping[Action, str]] = {}
    # What the numbers and times in a job's `options` are: path -> "s", "ms", "epoch_ms" or "iso".
    option_units: ClassVar[Mapping[str, str]] = {}
    option_names: ClassVar[Mapping[str, str]] = {}  # short names in the stored options -> those of the documentation

    def __init__(self, source: Source, settings: SourceSettings) -> None:
        self.source = source
        self.settings = settings
        self.own_source: Source | None = None  # the Redis with Queuedeck's own keys; None if nothing may be stored

    @abc.abstractmethod
    def discover_queues(self, cursor: Any, budget: Budget) -> Discovery:
        """Run the next step of discovery and return the queues it found. `cursor` None starts a new pass.

        Read the library's own index if it has one; otherwise scan the key space in steps that stay within `budget`.
        The first step also returns the `named_queues`, whether they exist or not.
        """

    def disambiguate(self, refs: Sequence[QueueRef]) -> list[QueueRef]:
        """Return `refs`, in order, with unique names; for libraries in which two queues can have the same name.

        The result must depend only on the set of refs, so that every process gives a queue the same address.
        """
        return list(refs)

    @abc.abstractmethod
    def read_stats(self, refs: Sequence[QueueRef]) -> list[QueueStats]:
        """Read the statistics of many queues, in the order of `refs`, without rates (None).

        A queue that cannot be read has `error` set. Cost: 1 round trip, however many queues.
        """

    def refresh_stats(self, refs: Sequence[QueueRef], seen: dict[str, Any]) -> list[QueueStats]:
        """Like `read_stats`, for callers that poll every few seconds: faster for queues that did not change.

        Pass `seen` = {} the first time and the same dict afterwards: the backend stores in it, by QueueRef.key, what
        the next call needs. The caller removes the keys of queues that no longer exist, and never passes the dict to
        two calls at the same time. All values are current.
        """
        del seen
        return self.read_stats(refs)

    @abc.abstractmethod
    def read_flow(self, refs: Sequence[QueueRef], cursor: Any) -> tuple[FlowDelta, Any]:
        """Return the jobs that finished in `refs` since `cursor` was returned, and the next cursor.

        With `cursor` None, return what the library still records of the last FLOW_WINDOW_S seconds. `refs` can change
        between two calls. Cost: 1 round trip, at most 2.
        """

    @abc.abstractmethod
    def list_jobs(self, ref: QueueRef, query: JobQuery) -> JobPage:
        """Return one page of a list, without payloads.

        Raises NotFound when the queue does not exist, Unsupported for a state that the library does not have. Cost: at
        most 2 round trips, whatever the length of the list; 3 if the details of the rows are stored apart from it.
        """

    @abc.abstractmethod
    def read_job(self, ref: QueueRef, job_id: str) -> Job:
        """Return one job with payload, options, error, stack trace, logs, links and timeline, each of bounded size.

        Raises NotFound. Cost: at most 4 round trips.
        """

    def list_workers(self, refs: Sequence[QueueRef]) -> list[Worker]:
        """Return the worker processes of this library, sorted by id; `refs` = all known queues, to name theirs.

        [] if the library does not record its workers (no Capability.WORKERS). Cost: at most 2 round trips.
        """
        del refs
        return []

    def list_schedules(self, refs: Sequence[QueueRef]) -> list[Schedule]:
        """Return the schedules, soonest first, at most MAX_SCHEDULES; `refs` = all known queues.

        Cost: at most 3 round trips if scripts are permitted.
        """
        del refs
        return []

    def read_class_stats(self, ref: QueueRef) -> ClassBoard | None:
        """Return recent statistics per job class; None if the library keeps none (no Capability.CLASSES).

        Cost: at most 2 round trips.
        """
        del ref
        return None

    def read_marks(self, refs: Sequence[QueueRef], start_s: float, end_s: float) -> list[Mark]:
        """Return the deploy marks that the library records between two times. Cost: 1 round trip; 4 without scripts."""
        del refs, start_s, end_s
        return []

    def search_page(self, ref: QueueRef, query: JobQuery) -> Window:
        """Return one page of jobs (`per_page` up to WINDOW_ROWS) with their searchable text, ordered as in `list_jobs`.

        Raises the errors of `list_jobs`, and Unsupported without Capability.SEARCH. Cost: at most 2 round trips.
        """
        del ref, query
        raise Unsupported(f"{self.title} does not support searching jobs by text.")

    def arguments_of(self, row: Searched) -> tuple[Argument, ...]:
        """Return the first arguments of a job as far as its row from `search_page` has them; () if it has none.

        Cost: none.
        """
        if row.job.problem is not None:
            return ()
        if row.job.summary is not None:
            return arguments_in_call(row.job.summary)
        return arguments_in(row.text)

    def can_scan(self, state: State) -> bool:  # noqa: ARG002
        """Whether `scan_matches` can search lists of `state`."""
        return False

    def scan_matches(self, ref: QueueRef, state: State, word: str, offset: int) -> ScanResult | None:
        """Search part of a list, from row `offset`, on the server: return every job whose data contains `word`, and
        possibly others, ordered as in `list_jobs`. None if the server does not permit it; use `search_page` then.

        `word` must match SCANNABLE; case is ignored, and numbers match as written. Raises the errors of `search_page`.
        Cost: at most 2 round trips, and less than 5 ms on the server.
        """
        del ref, state, word, offset
        return None

    def list_job_refs(self, ref: QueueRef, query: JobQuery) -> list[JobRef]:
        """Return the ids and stamps of one page (`per_page` up to MAX_BATCH), ordered as in `list_jobs`.

        Cost: at most 2 round trips.
        """
        return [JobRef(id=job.id, version=job.version) for job in self.list_jobs(ref, query).jobs]

    def offered_actions(
        self,
        state: State | None,
        *,
        shared: bool = False,  # noqa: ARG002
        abandoned: bool = False,
    ) -> tuple[Action, ...]:
        """Return the actions available on a job in `state` (None = in no list), in the order of the buttons.

        `shared` = the job is in the entry for all queues together. An `abandoned` job has more actions. Cost: none.
        """
        verbs = self.job_actions.get(state, ()) if state else ()
        return (*verbs, *self.abandoned_actions.get(state, ())) if abandoned else verbs

    def permits(self, action: Action, queue: str) -> bool:  # noqa: ARG002
        """Return whether those who use this object have the right to an action on a queue. Cost: none."""
        return True

    def act_on_jobs(
        self,
        ref: QueueRef,
        action: Action,
        state: State,
        job_refs: Sequence[JobRef],
        options: ActionOptions = NO_OPTIONS,
    ) -> list[ActionResult]:
        """Apply `action` to jobs in `state` and return one ActionResult per job reference, in order; at most
        MAX_BATCH of them.

        Each job moves within one MULTI or script, only from the state and the version in its reference, and changes
        only as the library itself would change it. DELETE uses `backup_jobs` and `delete_jobs` instead. Raises
        NotFound, and BackendUnavailable: the outcome for every job is then unknown, and repeating the call is safe.
        Cost: a few round trips, whatever the number of jobs.
        """
        del ref, state, options
        why = self.unsupported_reasons.get(action, f"{self.title} does not support this.")
        return [ActionResult(id=job_ref.id, outcome=Outcome.UNSUPPORTED, detail=why) for job_ref in job_refs]

    def backup_jobs(self, ref: QueueRef, state: State, job_refs: Sequence[JobRef]) -> list[JobBackup | ActionResult]:
        """Read everything needed to restore jobs, without changing them: one JobBackup per reference, in order, or an
        ActionResult for a job that no longer exists, has changed or must not be deleted. Cost: at most 3 round trips.
        """
        del ref, state
        why = self.unsupported_reasons.get(Action.DELETE, f"{self.title} does not support this.")
        return [ActionResult(id=job_ref.id, outcome=Outcome.UNSUPPORTED, detail=why) for job_ref in job_refs]

    def delete_jobs(self, ref: QueueRef, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
        """Delete the jobs that did not change since their backup; one ActionResult each, in order. Atomic per job.

        Raises the errors of `act_on_jobs`. Cost: a few round trips, whatever the number of jobs.
        """
        del ref, state
        return [ActionResult(id=job.id, outcome=Outcome.UNSUPPORTED) for job in backups]

    def backup_unlisted_jobs(self, ref: QueueRef, job_refs: Sequence[JobRef]) -> list[JobBackup | ActionResult]:
        """Like `backup_jobs`, for jobs that are in no list and not running on a worker; others are `changed`."""
        del ref
        why = f"{self.title} does not support this."
        return [ActionResult(id=job_ref.id, outcome=Outcome.UNSUPPORTED, detail=why) for job_ref in job_refs]

    def delete_unlisted_jobs(self, ref: QueueRef, backups: Sequence[JobBackup]) -> list[ActionResult]:
        """Like `delete_jobs`, for the backups of `backup_unlisted_jobs`. `restore_jobs` restores them."""
        del ref
        return [ActionResult(id=job.id, outcome=Outcome.UNSUPPORTED) for job in backups]

    def restore_jobs(self, ref: QueueRef, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
        """Restore deleted jobs to where they were; one ActionResult each, in order. `changed` if the id is used again.

        Repeating the call never duplicates a job, and never restores one that ran since it was restored: the outcome
        is `changed`, with `again` set where that is known. Raises the errors of `act_on_jobs`. Cost: a few round trips,
        whatever the number of jobs.
        """
        del ref, state
        return [ActionResult(id=job.id, outcome=Outcome.UNSUPPORTED) for job in backups]

    def act_on_queue(self, ref: QueueRef, action: Action) -> ActionResult:
        """Apply an action to a queue and return its result. A call does bounded work: if `more` is set, call again."""
        return ActionResult(id=ref.name, outcome=Outcome.UNSUPPORTED, detail=self.unsupported_reasons.get(action))

    def act_on_schedule(self, schedule: Schedule, action: Action) -> ActionResult:
        """Apply an action to a schedule returned by `list_schedules`, and return its result."""
        return ActionResult(id=schedule.id, outcome=Outcome.UNSUPPORTED, detail=self.unsupported_reasons.get(action))

    def backup_schedule(self, schedule: Schedule) -> JobBackup | ActionResult | None:  # noqa: ARG002
        """Read everything needed to restore a schedule, without changing it; an ActionResult for one that no longer
        exists or must not be removed, None if this library's schedules cannot be restored. Cost: 1 or 2 round trips.
        """
        return None

    def remove_schedule(self, schedule: Schedule, backup: JobBackup) -> ActionResult:
        """Remove a schedule if it has not changed since its backup, in one script or MULTI; otherwise it is `changed`.

        Cost: 1 round trip.
        """
        del backup
        return ActionResult(id=schedule.id, outcome=Outcome.UNSUPPORTED)

    def restore_schedules(self, ref: QueueRef, backups: Sequence[JobBackup]) -> list[ActionResult]:
        """Restore removed schedules byte for byte; one ActionResult each, in order; `changed` if the name is in use.

        `ref`: the queue of the schedules; its key is "" if they name none. Each is atomic. Cost: 1 round trip each.
        """
        del ref
        return [ActionResult(id=backup.id, outcome=Outcome.UNSUPPORTED) for backup in backups]

    def act_on_worker(self, worker: Worker, action: Action) -> ActionResult:
        """Apply an action to a worker returned by `list_workers`, and return its result.

        `done` means that the request was sent; the worker acts on it when it can.
        """
        return ActionResult(id=worker.id, outcome=Outcome.UNSUPPORTED, detail=self.unsupported_reasons.get(action))

    def maintain(self) -> None:  # noqa: B027 most backends need nothing
        """Update what this backend stores for all processes. The leader calls it once per sample, before
        `discover_queues`. It can write to `own_source` only, under `{queuedeck}:` and within a stated size limit.
        """

    def close(self) -> None:  # noqa: B027 most backends have nothing to close
        """Stop this backend's own threads and close its own connections, if any. It can be used again afterwards."""

    def library_versions(self, refs: Sequence[QueueRef]) -> tuple[str, ...]:  # noqa: ARG002
        """Return the library versions found in Redis, sorted; () if the library does not record them. For `doctor`."""
        return ()

    def describe_ambiguity(self, stats: Sequence[QueueStats]) -> tuple[str, str] | None:
        """Return (what the key names of these queues leave ambiguous, how to resolve it), or None. Cost: none."""
        del stats
        return None

    def describe_storage(self, ref: QueueRef) -> QueueStorage | None:
        """Return which keys hold the jobs of a queue; None if that is unknown. Cost: none."""
        del ref
        return None

    def changed_keys(self, refs: Sequence[QueueRef]) -> tuple[str, ...]:
        """Return key patterns, without spaces, that cover every key that actions on these queues can change.

        For `doctor`. Cost: none.
        """
        del refs
        return ()

    def changed_channels(self, refs: Sequence[QueueRef]) -> tuple[str, ...]:
        """Return patterns of the pub/sub channels to which actions on these queues publish. Cost: none."""
        del refs
        return ()

    def event_access(self) -> EventAccess | None:
        """Return which of the library's events can be received; None if it subscribes to nothing. For `doctor`."""
        return None

    def includes_queue(self, queue: str) -> bool:
        """Whether the settings include this queue."""
        globs = self.settings.queues
        return not globs or any(glob_matches(glob, queue) for glob in globs)

    @classmethod
    def list_words(cls) -> frozenset[str]:
        """Return the library's names for its lists; a native state that is not one of them adds detail. Cost: none."""
        return frozenset(word for words in cls.states.values() for word in words)

    def configured_ref(self, ref: QueueRef) -> QueueRef | None:
        """Return the ref as `discover_queues` would return it, for a ref that another process discovered with its own
        settings and that `disambiguate` may have renamed; None if these settings exclude the queue. Cost: none."""
        return ref if ref.shared or self.includes_queue(ref.name) else None

    def named_queues(self) -> tuple[str, ...]:
        """Return the queues that the settings name without a wildcard; they are shown even before they exist.

        () when the source has several libraries: the name alone does not say which one the queue will belong to.
        """
        if len(self.settings.backends) != 1:
            return ()
        return tuple(name for name in self.settings.queues if is_plain(name))
