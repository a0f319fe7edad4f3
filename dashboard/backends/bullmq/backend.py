"""BullMQ 4 to 6 and Bull 3 and 4. Layout: bullmq `src/commands/`, bull `lib/commands/`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ...errors import NotFound, Unsupported
from ...globs import key_pattern
from ...model import (
    Capability,
    FlowDelta,
    Job,
    JobPage,
    JobQuery,
    QueueFlow,
    QueueRef,
    QueueStats,
    QueueStorage,
    Schedule,
    State,
    Window,
    Worker,
)
from ...settings import SourceSettings
from ...sources.source import Source
from ..actions import Action, ActionOptions, ActionResult, JobBackup, JobRef
from ..base import NO_OPTIONS, Backend, Budget, Discovery
from ..lua_reads import NoScripts, Scripts
from ..payloads.decoding import printable
from . import discovery, job_detail, jobs, keys, rates, schedules, stats, workers
from .actions import deletion, descriptions, dispatch, queue_actions, schedule_removal


class BullMQ(Backend):
    """Queues of BullMQ, and of its predecessor Bull."""

    name = "bullmq"
    title = "BullMQ"
    needs_noeviction = True
    runs_on_cluster = True
    states = {state: tuple(entry.native for entry in keys.BY_STATE[state]) for state in keys.ORDERS}  # noqa: RUF012
    newest_first = frozenset({State.ACTIVE, State.BLOCKED, State.DEAD, State.COMPLETED})
    capabilities = frozenset(
        {
            Capability.QUEUE_PAUSE,
            Capability.PRIORITIES,
            Capability.PROGRESS,
            Capability.LOGS,
            Capability.RESULTS,
            Capability.FLOWS,
            Capability.WORKERS,
            Capability.SCHEDULES,
            Capability.SEARCH,
        }
    )

    job_actions = descriptions.JOB_ACTIONS
    abandoned_actions = descriptions.ABANDONED_ACTIONS
    queue_actions = descriptions.QUEUE_ACTIONS
    schedule_actions = descriptions.SCHEDULE_ACTIONS
    action_help = descriptions.EXPLAINED
    unsupported_reasons = descriptions.WITHHELD
    option_units = job_detail.OPTION_UNITS
    option_names = job_detail.OPTION_NAMES

    def __init__(self, source: Source, settings: SourceSettings) -> None:
        super().__init__(source, settings)
        self._scripts = Scripts(source)
        self._no_scripts = NoScripts(source)

    def _scripts_for(self, ref: QueueRef) -> Scripts:
        return self._scripts if self.source.keeps_together(ref.key) else self._no_scripts

    def _by_slots(self, refs: Sequence[QueueRef]) -> list[tuple[Scripts, list[QueueRef]]]:
        """The queues that scripts can read, and those whose keys are on several nodes of a cluster."""
        if not self.source.is_cluster:
            return [(self._scripts, list(refs))]
        found: dict[bool, list[QueueRef]] = {True: [], False: []}
        for ref in refs:
            found[self.source.keeps_together(ref.key)].append(ref)
        return [
            (scripts, own) for scripts, own in ((self._scripts, found[True]), (self._no_scripts, found[False])) if own
        ]

    def discover_queues(self, cursor: Any, budget: Budget) -> Discovery:
        found, following = discovery.discover_step(self.source, cursor or 0, budget, self.settings.prefixes)
        named = [keys.QueueKey(self._default_prefix, name) for name in self.named_queues()] if cursor is None else []
        refs = tuple(self._ref(queue) for queue in dict.fromkeys((*named, *found)) if self.includes_queue(queue.queue))
        return Discovery(refs, complete=following == 0, cursor=following)

    def configured_ref(self, ref: QueueRef) -> QueueRef | None:
        prefixes = self.settings.prefixes
        queue = keys.split_key(ref.key, prefixes) if ref.name == ref.key else keys.key_of(ref)
        if queue is None or (prefixes and queue.prefix not in prefixes) or not self.includes_queue(queue.queue):
            return None
        return self._ref(queue)

    def disambiguate(self, refs: Sequence[QueueRef]) -> list[QueueRef]:
        """Add the prefix to the name of a queue if a queue of the default prefix has the same name."""
        taken: dict[str, int] = {}
        for ref in refs:
            taken[ref.name] = taken.get(ref.name, 0) + 1
        default = f"{self._default_prefix}:"
        return [
            msgspec.structs.replace(ref, name=ref.key)
            if taken[ref.name] > 1 and ref.key != f"{default}{ref.name}"
            else ref
            for ref in refs
        ]

    def read_stats(self, refs: Sequence[QueueRef]) -> list[QueueStats]:
        return self.refresh_stats(refs, {})

    def refresh_stats(self, refs: Sequence[QueueRef], seen: dict[str, Any]) -> list[QueueStats]:
        if not self.source.is_cluster:
            return stats.read_stats(self.source, self._scripts, refs, seen)
        found: dict[str, QueueStats] = {}
        for scripts, own in self._by_slots(refs):
            for queue in stats.read_stats(self.source, scripts, own, seen):
                spread = scripts is self._no_scripts
                found[queue.key] = msgspec.structs.replace(queue, read_only=descriptions.SPREAD) if spread else queue
        return [found[ref.key] for ref in refs]

    def read_flow(self, refs: Sequence[QueueRef], cursor: Any) -> tuple[FlowDelta, Any]:
        flows: list[QueueFlow] = []
        following: dict[str, Any] = {}
        for scripts, own in self._by_slots(refs):
            delta, looks = rates.read_flow(self.source, scripts, own, cursor or {})
            flows += delta.queues
            following |= looks
        return FlowDelta(queues=tuple(flows)), following

    def list_jobs(self, ref: QueueRef, query: JobQuery) -> JobPage:
        self._check(query)
        return jobs.list_jobs(self.source, self._scripts_for(ref), ref, query)

    def search_page(self, ref: QueueRef, query: JobQuery) -> Window:
        self._check(query)
        return jobs.read_window(self.source, self._scripts_for(ref), ref, query)

    def _check(self, query: JobQuery) -> None:
        if query.state not in keys.ORDERS:
            raise Unsupported(f"BullMQ has no {query.state.value} jobs.")
        if query.native is not None and query.native not in self.states[query.state]:
            raise Unsupported(f"BullMQ has no list {query.native!r} of {query.state.value} jobs.")

    def read_job(self, ref: QueueRef, job_id: str) -> Job:
        job = job_detail.read_job(self.source, self._scripts_for(ref), ref, job_id)
        if job is None:
            raise NotFound(
                f"There is no job {job_id[:200]!r} in {ref.name!r}.",
                hint="It may have been removed: BullMQ deletes finished jobs according to the app's removeOnComplete.",
            )
        return job

    def list_workers(self, refs: Sequence[QueueRef]) -> list[Worker]:
        """Return the workers that left a trace, see workers.py. Cost: 1 round trip, 3 if scripts are not permitted."""
        # The library does not run on queues whose keys are on several nodes.
        own = [ref for ref in refs if self.source.keeps_together(ref.key)]
        return workers.list_workers(self.source, self._scripts, own)

    def list_schedules(self, refs: Sequence[QueueRef]) -> list[Schedule]:
        """Return the schedules. Cost: 2 round trips, 3 if scripts are not permitted."""
        found = (schedules.list_schedules(self.source, scripts, own) for scripts, own in self._by_slots(refs))
        return [schedule for part in found for schedule in part]

    def list_job_refs(self, ref: QueueRef, query: JobQuery) -> list[JobRef]:
        self._check(query)
        return jobs.list_job_refs(self.source, self._scripts_for(ref), ref, query)

    def act_on_jobs(
        self,
        ref: QueueRef,
        action: Action,
        state: State,
        job_refs: Sequence[JobRef],
        options: ActionOptions = NO_OPTIONS,
    ) -> list[ActionResult]:
        offered = (*self.job_actions.get(state, ()), *self.abandoned_actions.get(state, ()))
        if action is Action.DELETE or action not in offered:
            return super().act_on_jobs(ref, action, state, job_refs, options)
        return dispatch.act_on_jobs(self.source, ref, action, state, job_refs, options)

    def backup_jobs(self, ref: QueueRef, state: State, job_refs: Sequence[JobRef]) -> list[JobBackup | ActionResult]:
        return deletion.backup_jobs(self.source, ref, state, job_refs)

    def delete_jobs(self, ref: QueueRef, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
        return deletion.delete_jobs(self.source, ref, state, backups)

    def backup_unlisted_jobs(self, ref: QueueRef, job_refs: Sequence[JobRef]) -> list[JobBackup | ActionResult]:
        return deletion.backup_jobs(self.source, ref, None, job_refs)

    def delete_unlisted_jobs(self, ref: QueueRef, backups: Sequence[JobBackup]) -> list[ActionResult]:
        return deletion.delete_jobs(self.source, ref, None, backups)

    def restore_jobs(self, ref: QueueRef, state: State, backups: Sequence[JobBackup]) -> list[ActionResult]:
        return deletion.restore_jobs(self.source, ref, backups)

    def act_on_queue(self, ref: QueueRef, action: Action) -> ActionResult:
        return queue_actions.act_on_queue(self.source, ref, action)

    def act_on_schedule(self, schedule: Schedule, action: Action) -> ActionResult:
        return queue_actions.act_on_schedule(self.source, schedule, action)

    def backup_schedule(self, schedule: Schedule) -> JobBackup | ActionResult | None:
        return schedule_removal.backup_schedule(self.source, schedule)

    def remove_schedule(self, schedule: Schedule, backup: JobBackup) -> ActionResult:
        return schedule_removal.remove_schedule(self.source, schedule, backup)

    def restore_schedules(self, ref: QueueRef, backups: Sequence[JobBackup]) -> list[ActionResult]:
        return [schedule_removal.restore_schedule(self.source, ref, backup) for backup in backups]

    def describe_storage(self, ref: QueueRef) -> QueueStorage | None:
        return keys.describe_storage(ref)

    def changed_keys(self, refs: Sequence[QueueRef]) -> tuple[str, ...]:
        found = {key.prefix for ref in refs if (key := keys.key_of(ref)) is not None} or {keys.DEFAULT_PREFIX}
        return tuple(f"{key_pattern(prefix)}:*" for prefix in sorted(found))

    def changed_channels(self, refs: Sequence[QueueRef]) -> tuple[str, ...]:
        return self.changed_keys(refs)

    def library_versions(self, refs: Sequence[QueueRef]) -> tuple[str, ...]:
        """Return the versions in the `meta` keys, sorted. Cost: 1 round trip."""
        replies = self.source.run_batch([("HGET", f"{ref.key}:meta", "version") for ref in refs])
        return tuple(sorted({version for reply in replies if (version := keys.parse_version(reply))}))

    def describe_ambiguity(self, stats: Sequence[QueueStats]) -> tuple[str, str] | None:
        """Describe queues whose keys can be split in several ways: Bull, and BullMQ up to 4, allow colons in the name
        and the prefix of a queue."""
        if self.settings.prefixes:
            return None
        open_ones = [queue for queue in stats if ":" in (queue.prefix or "") and queue.library_version is None]
        if not open_ones:
            return None
        first, prefix = open_ones[0], open_ones[0].prefix or ""
        more = f", and {len(open_ones) - 1:,} more" if len(open_ones) > 1 else ""
        shown = [printable(text, 60) for text in (first.key, first.name, prefix, prefix.partition(":")[0])]
        what = f"the keys {shown[0]}:* are read as queue {shown[1]!r} with prefix {shown[2]!r}{more}"
        return (
            f"{what}; Bull allows colons in both",
            f'If the prefix is shorter, set it, for example: prefixes = ["{shown[3]}"]',
        )

    @property
    def _default_prefix(self) -> str:
        return self.settings.prefixes[0] if len(self.settings.prefixes) == 1 else keys.DEFAULT_PREFIX

    def _ref(self, queue: keys.QueueKey) -> QueueRef:
        return QueueRef(source=self.source.name, backend=self.name, name=queue.queue, key=queue.key)
