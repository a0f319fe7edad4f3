"""Sidekiq 6 to 8. Layout: sidekiq `lib/sidekiq/api.rb`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...globs import key_pattern
from ...model import (
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
from ...settings import SourceSettings
from ...sources.source import Source
from ..actions import Action, ActionOptions, ActionResult, JobBackup, JobRef
from ..base import NO_OPTIONS, Backend, Budget, Discovery
from ..lua_reads import Scripts
from ..payloads.search_text import ends, joined
from ..shared_entries import build_refs, prefix_repeated_names
from ..unreadable_data import searched_row
from . import discovery, job_class_metrics, jobs, keys, rates, schedules, stats, workers
from .actions import active_jobs, deletion, descriptions, dispatch, worker_control
from .cron_namespaces import CronSets
from .job_decoding import searched_text, stack_of
from .metrics.deploy_marks import read_deploy_marks


class Sidekiq(Backend):
    """Queues of Sidekiq, and one entry for the sets that all queues of a namespace share."""

    name = "sidekiq"
    title = "Sidekiq"
    keyed_by_id = False
    key_scans = 2  # for namespaces, then for their lists
    needs_noeviction = True
    states = {state: (native,) for state, native in keys.NATIVE.items()}  # noqa: RUF012
    newest_first = frozenset({State.DEAD})
    capabilities = frozenset({Capability.WORKERS, Capability.SCHEDULES, Capability.SEARCH, Capability.CLASSES})

    job_actions = dispatch.JOB_ACTIONS
    queue_actions = (Action.OBLITERATE,)
    schedule_actions = (Action.TRIGGER, Action.PAUSE_SCHEDULE, Action.RESUME_SCHEDULE)
    worker_actions = (Action.QUIET, Action.STOP_WORKER)
    action_help = descriptions.EXPLAINED
    unsupported_reasons = descriptions.WITHHELD

    def __init__(self, source: Source, settings: SourceSettings) -> None:
        super().__init__(source, settings)
        self._scripts = Scripts(source)
        self._cron_sets = CronSets()

    def discover_queues(self, cursor: Any, budget: Budget) -> Discovery:
        found, following = discovery.discover_step(self.source, cursor, budget)
        if cursor is None:
            found += [keys.NamespaceLocation("", name) for name in self.named_queues()]
        return Discovery(build_refs(self, found), complete=following is None, cursor=following)

    def configured_ref(self, ref: QueueRef) -> QueueRef | None:
        return next(iter(build_refs(self, [keys.location_of(ref)])), None)

    def disambiguate(self, refs: Sequence[QueueRef]) -> list[QueueRef]:
        """As `Backend.disambiguate`: a queue name that exists in several namespaces begins with its namespace."""
        return prefix_repeated_names(refs, lambda ref: keys.location_of(ref).namespace)

    def read_stats(self, refs: Sequence[QueueRef]) -> list[QueueStats]:
        return stats.read_stats(self.source, self._scripts, refs)

    def refresh_stats(self, refs: Sequence[QueueRef], seen: dict[str, Any]) -> list[QueueStats]:
        return stats.read_stats(self.source, self._scripts, refs, seen)

    def read_flow(self, refs: Sequence[QueueRef], cursor: Any) -> tuple[FlowDelta, Any]:
        return rates.read_flow(self.source, refs, cursor or {})

    def list_jobs(self, ref: QueueRef, query: JobQuery) -> JobPage:
        return jobs.list_jobs(self.source, self._scripts, ref, query)[0]

    def read_job(self, ref: QueueRef, job_id: str) -> Job:
        return jobs.read_job(self.source, self._scripts, ref, job_id)

    def list_workers(self, refs: Sequence[QueueRef]) -> list[Worker]:
        return workers.list_workers(self.source, self._scripts, _namespaces_of(refs), {ref.key: ref for ref in refs})

    def list_schedules(self, refs: Sequence[QueueRef]) -> list[Schedule]:
        """As `Backend.list_schedules`, with a search for sidekiq-cron namespaces (cost: `CronSets.find_sets`)."""
        by_key = {ref.key: ref for ref in refs}
        return schedules.list_schedules(self.source, self._scripts, self._cron_sets, _namespaces_of(refs), by_key)

    def read_class_stats(self, ref: QueueRef) -> ClassBoard | None:
        return job_class_metrics.read_class_stats(self.source, keys.location_of(ref).namespace)

    def read_marks(self, refs: Sequence[QueueRef], start_s: float, end_s: float) -> list[Mark]:
        return read_deploy_marks(self.source, self._scripts, _namespaces_of(refs), start_s, end_s)

    def can_scan(self, state: State) -> bool:
        return state in self.states and state is not State.ACTIVE and not self._scripts.are_refused

    def scan_matches(self, ref: QueueRef, state: State, word: str, offset: int) -> ScanResult | None:
        found = (
            jobs.scan_matches(self.source, self._scripts, ref, state, word, offset) if self.can_scan(state) else None
        )
        if found is None:
            return None
        rows, reached, more = found
        return ScanResult(rows=tuple(searched_row(_searchable_row, *row) for row in rows), reached=reached, more=more)

    def search_page(self, ref: QueueRef, query: JobQuery) -> Window:
        page, payloads = jobs.list_jobs(self.source, self._scripts, ref, query)
        rows = tuple(
            searched_row(_searchable_row, job, payload) for job, payload in zip(page.jobs, payloads, strict=True)
        )
        return Window(rows=rows, total=page.total, order=page.order, at_least=page.at_least, problems=page.problems)

    def list_job_refs(self, ref: QueueRef, query: JobQuery) -> list[JobRef]:
        return jobs.list_job_refs(self.source, self._scripts, ref, query)

    def act_on_jobs(
        self,
        ref: QueueRef,
        action: Action,
        state: State,
        job_refs: Sequence[JobRef],
        options: ActionOptions = NO_OPTIONS,
    ) -> list[ActionResult]:
        if action is Action.DELETE or action not in self.job_actions.get(state, ()):
            return super().act_on_jobs(ref, action, state, job_refs, options)
        if action is Action.STOP:
            return active_jobs.stop_jobs(self.source, self._scripts, ref, job_refs)
        return dispatch.act_on_jobs(self.source, self._scripts, ref, action, state, job_refs, options)

    def backup_jobs(self, ref: QueueRef, state: State, job_refs: Sequence[JobRef]) -> list[JobBackup | ActionResult]:
        return deletion.backup_jobs(self._scripts, ref, state, job_refs)

    def delete_jobs(self, ref: QueueRef, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
        return deletion.delete_jobs(self.source, self._scripts, ref, state, backups)

    def restore_jobs(self, ref: QueueRef, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
        return deletion.restore_jobs(self.source, ref, state, backups)

    def act_on_queue(self, ref: QueueRef, action: Action) -> ActionResult:
        if action not in self.queue_actions:
            return super().act_on_queue(ref, action)
        return worker_control.on_queue(self.source, ref, action)

    def act_on_schedule(self, schedule: Schedule, action: Action) -> ActionResult:
        if action not in self.schedule_actions:
            return super().act_on_schedule(schedule, action)
        return worker_control.on_schedule(self.source, schedule, action)

    def act_on_worker(self, worker: Worker, action: Action) -> ActionResult:
        if action not in self.worker_actions:
            return super().act_on_worker(worker, action)
        return worker_control.on_worker(self.source, worker, action)

    def describe_storage(self, ref: QueueRef) -> QueueStorage | None:
        return keys.describe_storage(keys.location_of(ref))

    def changed_keys(self, refs: Sequence[QueueRef]) -> tuple[str, ...]:
        spaces = sorted({keys.location_of(ref).namespace for ref in refs} or {""})
        return tuple(f"{key_pattern(space)}{pattern}" for space in spaces for pattern in keys.CHANGED)

    def library_versions(self, refs: Sequence[QueueRef]) -> tuple[str, ...]:
        """As `Backend.library_versions`. Cost: 1 round trip."""
        return tuple(sorted({found.version for found in self.list_workers(refs) if found.version}))


def _searchable_row(job: Job, payload: bytes) -> Searched:
    return Searched(
        job=job,
        text=joined(searched_text(payload), job.error.message if job.error else None),
        stack=ends(stack_of(payload)),
    )


def _namespaces_of(refs: Sequence[QueueRef]) -> list[str]:
    return sorted({keys.location_of(ref).namespace for ref in refs})
