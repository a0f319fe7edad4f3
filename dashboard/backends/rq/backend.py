"""RQ 1.16 to 3.0, read without RQ's own code, whose reads clean up and unpickle. Layout: rq 3.0, see keys.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from ...errors import NotFound
from ...globs import key_pattern
from ...model import (
    Capability,
    FlowDelta,
    Job,
    JobPage,
    JobQuery,
    QueueRef,
    QueueStats,
    QueueStorage,
    Schedule,
    Searched,
    State,
    Window,
    Worker,
)
from ...settings import SourceSettings
from ...sources.source import Source
from ..actions import Action, ActionOptions, ActionResult, JobBackup, JobRef
from ..base import NO_OPTIONS, Backend, Budget, Discovery
from ..lua_reads import Scripts
from ..payloads.search_text import ends, joined
from ..unreadable_data import searched_row
from . import keys
from .actions import deletion, descriptions, dispatch, stray_jobs, worker_control
from .consumers import read_versions
from .discovery import discover_queues
from .job_detail import read_job
from .job_hashes import JobHashReader
from .job_refs import read_job_refs
from .jobs import read_page
from .keys import LISTS, QueueKeys
from .rates import read_flow
from .stats import read_stats
from .workers import read_schedules, read_workers


class RQ(Backend):
    """RQ queues on one source."""

    name: ClassVar[str] = "rq"
    title: ClassVar[str] = "RQ"
    states: ClassVar[Mapping[State, tuple[str, ...]]] = {state: (word,) for state, (word, _) in LISTS.items()}
    ids_of_all_queues = True
    key_scans = 0
    pauses_whole_library = True
    newest_first: ClassVar[frozenset[State]] = frozenset({State.DEAD, State.COMPLETED, State.CANCELED})
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.RESULTS, Capability.FLOWS, Capability.WORKERS, Capability.SCHEDULES, Capability.SEARCH}
    )

    job_actions = descriptions.JOB_ACTIONS
    abandoned_actions = descriptions.ABANDONED_ACTIONS
    listed_with = descriptions.LISTED_WITH
    queue_actions = descriptions.QUEUE_ACTIONS
    worker_actions = descriptions.WORKER_ACTIONS
    action_help = descriptions.EXPLAINED
    unsupported_reasons = descriptions.WITHHELD

    def __init__(self, source: Source, settings: SourceSettings) -> None:
        super().__init__(source, settings)
        # RQ's default prefix is always included: the setting lists the prefixes of all libraries on this Redis.
        self.prefixes = tuple(dict.fromkeys((keys.DEFAULT_PREFIX, *settings.prefixes)))
        self._scripts = Scripts(source)
        self._reader = JobHashReader(source, self._scripts)

    def discover_queues(self, cursor: Any, budget: Budget) -> Discovery:
        """Return the queues in RQ's own directory, a thousand per command, and those that the settings name."""
        return discover_queues(self, self.prefixes, cursor, budget)

    def configured_ref(self, ref: QueueRef) -> QueueRef | None:
        return super().configured_ref(ref) if keys.queue_keys(ref.key, self.prefixes) is not None else None

    def read_stats(self, refs: Sequence[QueueRef]) -> list[QueueStats]:
        """Cost: 1 round trip; 3 if the Redis user cannot run scripts."""
        return read_stats(self.source, self._scripts, self._with_keys(refs))

    def refresh_stats(self, refs: Sequence[QueueRef], seen: dict[str, Any]) -> list[QueueStats]:
        return read_stats(self.source, self._scripts, self._with_keys(refs), seen)

    def read_flow(self, refs: Sequence[QueueRef], cursor: Any) -> tuple[FlowDelta, Any]:
        """The result is always an estimate, because RQ has no counter per queue. See rates.py."""
        return read_flow(self.source, self._scripts, self._with_keys(refs), cursor)

    def list_jobs(self, ref: QueueRef, query: JobQuery) -> JobPage:
        """Cost: 2 round trips; see `read_page` for the rare third one."""
        awaited = ref.name in self.named_queues()
        return read_page(self.source, self._reader, ref, self._keys(ref), query, awaited=awaited)

    def read_job(self, ref: QueueRef, job_id: str) -> Job:
        """Cost: 2 round trips; 4 if the Redis user cannot run scripts."""
        return read_job(self._reader, ref, self._keys(ref), job_id)

    def list_workers(self, refs: Sequence[QueueRef]) -> list[Worker]:
        return read_workers(self.source, self._reader, self.prefixes, {ref.key: ref for ref in refs})

    def list_schedules(self, refs: Sequence[QueueRef]) -> list[Schedule]:
        return read_schedules(self.source, self._scripts, self.prefixes, {ref.key: ref for ref in refs})

    def search_page(self, ref: QueueRef, query: JobQuery) -> Window:
        """Of the arguments, only the job's description is searched, because the rest is pickled."""
        awaited = ref.name in self.named_queues()
        page = read_page(self.source, self._reader, ref, self._keys(ref), query, awaited=awaited, stacks=True)
        rows = tuple(searched_row(_searchable_row, job) for job in page.jobs)
        return Window(rows=rows, total=page.total, order=page.order, at_least=page.at_least, problems=page.problems)

    def list_job_refs(self, ref: QueueRef, query: JobQuery) -> list[JobRef]:
        """Cost: 1 round trip; that of `list_jobs` if the Redis user cannot run scripts."""
        found = read_job_refs(self.source, self._scripts, self._keys(ref), query)
        return super().list_job_refs(ref, query) if found is None else found

    def act_on_jobs(
        self,
        ref: QueueRef,
        action: Action,
        state: State,
        job_refs: Sequence[JobRef],
        options: ActionOptions = NO_OPTIONS,
    ) -> list[ActionResult]:
        """See `dispatch.act_on_jobs` for the cost."""
        if action is Action.DELETE or action not in self.offered_actions(state, abandoned=True):
            return super().act_on_jobs(ref, action, state, job_refs, options)
        if action is Action.RETRY and action in self.abandoned_actions.get(state, ()):
            return stray_jobs.put_back(self.source, self._keys(ref), state, job_refs)
        return dispatch.act_on_jobs(self.source, self._keys(ref), action, listed_state(state), job_refs, options)

    def backup_jobs(self, ref: QueueRef, state: State, job_refs: Sequence[JobRef]) -> list[JobBackup | ActionResult]:
        return deletion.backup_jobs(self.source, self._keys(ref), listed_state(state), job_refs)

    def delete_jobs(self, ref: QueueRef, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
        return deletion.delete_jobs(self.source, self._keys(ref), listed_state(state), backups)

    def restore_jobs(self, ref: QueueRef, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
        return deletion.restore_jobs(self.source, self._keys(ref), listed_state(state), backups)

    def act_on_queue(self, ref: QueueRef, action: Action) -> ActionResult:
        """PAUSE and RESUME affect all workers of this Redis."""
        if action not in self.queue_actions:
            return super().act_on_queue(ref, action)
        return worker_control.on_queue(self.source, self._keys(ref), ref.name, action)

    def act_on_worker(self, worker: Worker, action: Action) -> ActionResult:
        if action is not Action.STOP_WORKER:
            return super().act_on_worker(worker, action)
        return worker_control.stop_worker(self.source, self.prefixes, worker.id)

    def describe_storage(self, ref: QueueRef) -> QueueStorage | None:
        return keys.describe_storage(self._keys(ref))

    def changed_keys(self, refs: Sequence[QueueRef]) -> tuple[str, ...]:
        found = {ref.key.partition(":queue:")[0] for ref in refs} or {keys.DEFAULT_PREFIX}
        return tuple(f"{key_pattern(prefix)}:*" for prefix in sorted(found))

    def changed_channels(self, refs: Sequence[QueueRef]) -> tuple[str, ...]:
        return tuple(f"{pattern.removesuffix('*')}pubsub:*" for pattern in self.changed_keys(refs))

    def library_versions(self, refs: Sequence[QueueRef]) -> tuple[str, ...]:
        """Return the versions that live workers report. Cost: 1 round trip."""
        return read_versions(self._scripts, sorted({queue.prefix for _, queue in self._with_keys(refs)}))

    def _keys(self, ref: QueueRef) -> QueueKeys:
        queue = keys.queue_keys(ref.key, self.prefixes)
        if queue is None:
            raise NotFound(f"{ref.key!r} is not an RQ queue.")
        return queue

    def _with_keys(self, refs: Sequence[QueueRef]) -> list[tuple[QueueRef, QueueKeys]]:
        return [(ref, self._keys(ref)) for ref in refs]


def listed_state(state: State) -> State:
    """Return the state whose list contains the jobs of `state`."""
    return descriptions.LISTED_WITH.get(state, state)


def _searchable_row(job: Job) -> Searched:
    text, error = joined(job.summary or "", _failure_text(job)), job.error
    if error is None:
        return Searched(job=job, text=text)
    bare = msgspec.structs.replace(job, error=msgspec.structs.replace(error, stack=None))
    return Searched(job=bare, text=text, stack=ends(error.stack))


def _failure_text(job: Job) -> str | None:
    return f"{job.error.class_name or ''} {job.error.message or ''}" if job.error else None
