"""The context of one app for its views: settings, sources, backends, services and the newest snapshot."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flask import current_app
from msgspec.structs import replace

from ..actions.audit_log import AuditLog
from ..actions.bulk.operation import JobListRef
from ..actions.bulk.runner import BulkRunner
from ..actions.bulk.selection import KnownDeadLetters, MembersOf
from ..actions.bulk.store import BulkStore
from ..actions.service import ActionService
from ..actions.undo_bin import UndoBin
from ..alerts.evaluation.preview import RulePreview
from ..alerts.evaluation.rule_history import RuleHistories
from ..alerts.rules.ruleset import RuleInForce
from ..alerts.runtime import check_settings as check_alerts
from ..alerts.service import AlertService, CheckerHealth
from ..backends.actions import JobRef
from ..backends.base import Backend
from ..backends.monitored_sources import LibraryTitles, MonitoredSources, open_sources
from ..backends.unreadable_data import data_errors_foreseen
from ..checker_process import RunningChecker, start_checker
from ..dead_letters.annotations import AnnotationStore
from ..dead_letters.group_jobs import UnreadList, unread_line
from ..dead_letters.groups import GroupMember
from ..dead_letters.service import DeadLetterService, GroupList
from ..errors import NotFound, QueuedeckError, Unsupported
from ..model import (
    Capability,
    ClassBoard,
    Job,
    JobError,
    JobLink,
    JobPage,
    JobQuery,
    QueueRef,
    QueueStats,
    Schedule,
    Snapshot,
    Worker,
)
from ..redact import masked_logger
from ..sampling.leadership import holder_name
from ..sampling.live_lists import LiveList
from ..sampling.live_lists import LiveRows as LiveBoard
from ..sampling.recent_history import History
from ..sampling.sampler import Sampler
from ..sampling.snapshot_reader import CurrentSnapshot, SnapshotReader
from ..sampling.snapshot_store import SnapshotStore
from ..search.job_search import SearchQuery, SearchResult, search_jobs
from ..search.name_suggestions import NameSuggestions
from ..settings import Settings
from ..sources.source import Source
from ..store.cache import TTLCache
from .formatting import percent
from .views.firing_banner import FiringSummary, FiringWatch
from .views.totals import LatestTotals, Totals

log = masked_logger(__name__)

EXTENSION = "queuedeck"
# The interval at which Sidekiq aggregates them.
CLASSES_KEPT_S = 10.0
HEALTH_KEPT_S = 1.0  # the health check needs no sign-in, so strangers can call it


@dataclass(slots=True)
class _ProcessServices:
    """The services of one process, which must not be shared over a fork: sockets, threads, the reader's cache."""

    pid: int
    watch: MonitoredSources
    store: SnapshotStore
    reader: SnapshotReader
    work: RunningChecker | None
    desk: AlertService
    workers: LiveList[Worker]
    schedules: LiveList[Schedule]
    actions: ActionService
    bulk: BulkStore
    runner: BulkRunner
    triage: DeadLetterService
    firing: FiringWatch
    rules: RuleOverview | None = None


@dataclass(frozen=True, slots=True)
class RuleOverview:
    """All rules, with the preview of each by id for the sample `version` and the hour before; none before the first."""

    version: str
    entries: tuple[RuleInForce, ...]
    previews: dict[str, RulePreview]
    hours: RuleHistories | None


class AppContext:
    """The context of one app. Opens no connection and starts no thread before its first use in a process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.names = NameSuggestions()
        self._whole = LatestTotals()
        self._classes: TTLCache[ClassBoard] = TTLCache(CLASSES_KEPT_S)
        self._health: TTLCache[CheckerHealth] = TTLCache(HEALTH_KEPT_S)
        open_sources(settings)  # a wrong setting must fail at start, not at the first request
        check_alerts(settings)
        self._lock = threading.Lock()
        self._process: _ProcessServices | None = None
        self._starting: int | None = None  # id of the process in which the start was begun

    @property
    def sources(self) -> dict[str, Source]:
        """The sources by name, in the order of the settings."""
        return self._services().watch.sources

    @property
    def backend_titles(self) -> LibraryTitles:
        """The libraries' display names, by backend name."""
        return self._services().watch.titles

    def now_s(self, source: str | None = None) -> float:
        """Seconds since 1970 by the clock of that source, or by that of Queuedeck's own store; see Source.now_s."""
        watched = self._services().watch
        own = watched.own
        assert own is not None
        return (own if source is None else watched.sources.get(source, own)).now_s()

    def backend(self, source: str, name: str) -> Backend:
        """The backend `name` on `source`. Raises NotFound."""
        return self._services().watch.backend(source, name)

    def is_watched(self, source: str | None, backend: str | None) -> bool:
        """Whether this dashboard watches that library on that source, so that it can link to its queues."""
        sources = self._services().watch
        return any(each.name == backend for each in sources.backends.get(source or "", ()))

    def current_snapshot(self) -> CurrentSnapshot:
        """The newest snapshot with its age; see SnapshotReader.current for the cost."""
        return self._services().reader.current()

    def totals_of(self, snapshot: Snapshot, history: History) -> Totals:
        """The overview's totals of all queues of the newest snapshot, computed once for all viewers."""
        return self._whole.of(snapshot, history)

    def find_queue_stats(self, source: str, backend: str, name: str) -> QueueStats:
        """The queue of that name in the newest snapshot. Raises NotFound."""
        self.backend(source, backend)
        snapshot = self.current_snapshot().snapshot
        found = find_queue(snapshot, source, backend, name) if snapshot else None
        if found is None:
            raise NotFound("Queue not found.", hint=_where_it_may_be(snapshot, source))
        return found

    def list_jobs(self, queue: QueueStats, query: JobQuery) -> JobPage:
        """One page of a list, read live. Raises as Backend.list_jobs."""
        with data_errors_foreseen(f"The {query.state.value} jobs of {queue.name!r}"):
            page = self.backend(queue.source, queue.backend).list_jobs(queue.ref, query)
        self.names.add_jobs(page.jobs)
        return page

    def read_job(self, queue: QueueStats, job_id: str) -> Job:
        """One job, with links to queues that are watched here. Raises NotFound, BackendUnavailable."""
        with data_errors_foreseen(f"Job {job_id[:200]!r} of {queue.name!r}"):
            job = self.backend(queue.source, queue.backend).read_job(queue.ref, job_id)
        return with_addresses(job, self.current_snapshot().snapshot)

    def list_workers(self) -> LiveBoard[Worker]:
        """All worker processes, at most one interval old."""
        live_rows = self._services().workers.current_rows(self.current_snapshot().snapshot)
        self.names.add_names(
            (worker.source, worker.backend, work.queue or "", work.job_name)
            for worker in live_rows.rows
            for work in worker.work
        )
        return live_rows

    def list_schedules(self) -> LiveBoard[Schedule]:
        """All schedules, at most one interval old."""
        return self._services().schedules.current_rows(self.current_snapshot().snapshot)

    def search_jobs(self, query: SearchQuery, queues: Sequence[QueueStats], cursor: str | None) -> SearchResult:
        """Search the lists of `queues` for jobs, within the limits of a search."""
        return search_jobs(
            query, queues, lambda queue: self.backend(queue.source, queue.backend), cursor, self.names.add_jobs
        )

    def class_stats(self, queue: QueueStats) -> ClassBoard | None:
        """Recent runs by job class of a queue's library, at most CLASSES_KEPT_S old. Never raises.

        Cost: at most 2 round trips, for all viewers of this process and all queues of a library and prefix.
        """
        backend = self.backend(queue.source, queue.backend)
        if Capability.CLASSES not in backend.capabilities:
            return None
        return self._classes.get(
            (queue.source, queue.backend, queue.prefix), lambda: backend.read_class_stats(queue.ref)
        )

    @property
    def alert_service(self) -> AlertService:
        """Alerts, rules, silences and deliveries."""
        return self._services().desk

    def checker_health(self) -> CheckerHealth:
        """Whether rules are evaluated, at most a second old. Cost: mostly none, else as AlertService.checker_health."""
        return self._health.get("checker", self.alert_service.checker_health) or self.alert_service.checker_health()

    def firing_summary(self) -> FiringSummary | None:
        """The firing alerts in one line, at most a second old; None while they are unknown."""
        return self._services().firing.current()

    def forget_firing(self) -> None:
        """Drop the cached summary, so that the next page shows what an action changed."""
        self._services().firing.forget()

    def rule_board(self) -> RuleOverview:
        """All rules with their previews, computed once per sample for all viewers of this process.

        Cost: 1 round trip, 2 more per sample, 1 more per minute; see AlertService.preview_rules and rule_histories.
        """
        services, current = self._services(), self.current_snapshot()
        entries, last = services.desk.editor.rules_in_force(), services.rules
        if last is not None and last.entries is entries and last.version == current.version:
            return last
        seen = services.desk.preview_rules(current.snapshot, current.history) if current.snapshot else {}
        histories = services.desk.rule_histories(current.snapshot.sampled_at) if current.snapshot else None
        services.rules = RuleOverview(current.version, entries, seen, histories)
        return services.rules

    @property
    def checker_problem(self) -> QueuedeckError | None:
        """Why this process does not take part in sampling and alerting, or which other settings own them; None where it
        takes part."""
        services = self._services()
        if (elsewhere := services.desk.ownership_conflict) is not None:
            return elsewhere
        work = services.work
        if work is not None and work.checker.problem is not None:
            return work.checker.problem
        if self.settings.alerts == "off":
            return Unsupported("Alerts are turned off", hint='Set alerts = "on" to evaluate the rules.')
        if self.settings.checker == "off":
            hint = 'Run queuedeck checker, or a dashboard with checker = "auto".'
            return Unsupported('checker = "off" in this dashboard, and no other checker is running', hint=hint)
        return None

    @property
    def own_store(self) -> SnapshotStore:
        """The store of Queuedeck's own data."""
        return self._services().store

    @property
    def action_service(self) -> ActionService:
        """The service that runs and records actions."""
        return self._services().actions

    @property
    def bulk_store(self) -> BulkStore:
        """The stored bulk operations."""
        return self._services().bulk

    @property
    def bulk_runner(self) -> BulkRunner:
        """The runner of bulk operations in this process."""
        return self._services().runner

    def members_of(
        self, fingerprint: str | None, lists: tuple[JobListRef, ...], most: int
    ) -> Iterable[tuple[JobListRef, JobRef] | UnreadList]:
        """The current jobs of an error group or of dead-letter lists, and the lists that could not be read.

        See DeadLetterService.list_group_jobs for the cost.
        """
        services = self._services()
        snapshot = services.reader.current().snapshot
        queues = snapshot.queues if snapshot else ()
        homes = RestoreQueues(queues)
        only = {(place.ref, place.state) for place in lists} if fingerprint is None else None
        for found in services.triage.list_group_jobs(queues, fingerprint, most, self.settings.bulk_max_jobs, only):
            if isinstance(found, UnreadList):
                yield found
                continue
            ref, state = found.place.at
            place = JobListRef(ref=ref, state=state, origin=homes.queue_for(ref, found.origin))
            yield place, JobRef(id=found.mark[0], version=found.mark[1])

    def known_of(self, fingerprint: str | None, lists: tuple[JobListRef, ...]) -> KnownDeadLetters:
        """Those jobs as of the last reading of dead letters, newest first."""
        group_list = self.dead_letter_groups()
        snapshot = self.current_snapshot().snapshot
        homes = RestoreQueues(snapshot.queues if snapshot else ())
        only = {(place.ref, place.state) for place in lists}
        groups = [group for group in group_list.grouped.groups if fingerprint in (None, group.kind.id)]
        members = [
            (
                JobListRef(ref=each.ref, state=each.state, origin=homes.queue_for(each.ref, each.row.origin)),
                listed_job(each),
            )
            for group in groups
            for each in group.jobs
            if fingerprint is not None or (each.ref, each.state) in only
        ]
        whole = all(group.whole for group in groups) and not group_list.grouped.truncated
        asked = {(ref.source, ref.backend, ref.name) for ref, _ in only}
        unread = tuple(unread_line(*each) for each in group_list.grouped.problems if fingerprint or each[:3] in asked)
        return KnownDeadLetters(tuple(members), whole, group_list.grouped.scanned, group_list.grouped.total, unread)

    def dead_letter_groups(self) -> GroupList:
        """All dead letters by error, at most a few seconds old; see DeadLetterService.current_groups for the cost."""
        snapshot = self.current_snapshot().snapshot
        return self.dead_letter_service.current_groups(snapshot.queues if snapshot else ())

    @property
    def dead_letter_service(self) -> DeadLetterService:
        """The service that groups dead letters and stores the annotations of groups."""
        return self._services().triage

    def forget_boards(self) -> None:
        """Drop the cached workers and schedules, so that the next viewer gets fresh ones."""
        services = self._services()
        services.workers.invalidate()
        services.schedules.invalidate()

    def start_checker(self) -> None:
        """Take part in sampling from now on (with `checker = "auto"`), instead of from the first reading on."""
        self._services()

    def start_in_background(self) -> None:
        """Call start_checker on a separate thread, for a request that must not wait; does nothing if already begun."""
        if self._starting == os.getpid():
            return
        self._starting = os.getpid()
        threading.Thread(target=self._start_or_log, name="queuedeck-start", daemon=True).start()

    def _start_or_log(self) -> None:
        try:
            self.start_checker()
        except QueuedeckError as exc:
            log.warning("sampling cannot start: %s", exc.message)

    def stop(self) -> None:
        """Stop sampling and close all connections of this process."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None and process.pid == os.getpid():
            process.runner.stop()
            if process.work is not None:
                process.work.stop()
            process.watch.close()

    def _services(self) -> _ProcessServices:
        process = self._process
        if process is not None and process.pid == os.getpid():
            return process
        with self._lock:
            if self._process is None or self._process.pid != os.getpid():
                self._process = _start_process(self.settings, self.members_of)
            return self._process


class RestoreQueues:
    """The queues that dead letters can return to: existing queues of the same source and library."""

    def __init__(self, queues: Sequence[QueueStats]) -> None:
        self._names = {(queue.source, queue.backend, queue.name) for queue in queues if not queue.shared}

    def queue_for(self, ref: QueueRef, origin: str | None) -> str | None:
        """`origin`, if it is such a queue and not the job's present queue; else None."""
        known = origin is not None and origin != ref.name and (ref.source, ref.backend, origin) in self._names
        return origin if known else None


def listed_job(member: GroupMember) -> Job:
    """The job with the fields that a list of dead letters has."""
    ref, row = member.ref, member.row
    return Job(
        id=row.id,
        source=ref.source,
        backend=ref.backend,
        queue=row.queue,
        version=row.version,
        state=member.state,
        name=row.name,
        error=JobError(message=row.text) if row.text else None,
    )


def find_queue(snapshot: Snapshot, source: str, backend: str, name: str) -> QueueStats | None:
    """The queue named `name`, or `<prefix>:<name>` where several prefixes are in use; None if there is none."""
    found = snapshot.find(source, backend, name)
    if found is not None:
        return found
    for queue in snapshot.queues:
        if queue.key == name and queue.backend == backend and queue.source == source:
            return queue
    return None


def with_addresses(job: Job, snapshot: Snapshot | None) -> Job:
    """`job` with each link to a parent or child under the name that its queue has here, or without an address.

    A backend knows the key of a linked queue, but not whether its name includes the prefix here, as it does when two
    queues have the same name.
    """
    if job.parent is None and not job.children:
        return job
    names = {(queue.source, queue.backend, queue.key): queue.ref for queue in (snapshot.queues if snapshot else ())}

    def found(link: JobLink) -> JobLink:
        if link.ref is None:
            return link
        ref = names.get((link.ref.source, link.ref.backend, link.ref.key))
        # An id can contain colons: then the key of the queue is shorter than the part that was read as the key.
        key, job_id = link.ref.key, link.id
        while ref is None and ":" in key:
            key, _, head = key.rpartition(":")
            job_id = f"{head}:{job_id}"
            ref = names.get((link.ref.source, link.ref.backend, key))
        if ref is None:
            return replace(link, ref=None)
        return replace(link, ref=ref, queue=ref.name, id=job_id)

    return replace(
        job, parent=found(job.parent) if job.parent else None, children=tuple(found(child) for child in job.children)
    )


def _where_it_may_be(snapshot: Snapshot | None, source: str) -> str:
    found = next((one for one in snapshot.sources if one.name == source), None) if snapshot else None
    if found is not None and found.reachable and not found.discovered:
        if found.problems:
            return f"Some queues of this Redis cannot be read. {found.problems[0]}"
        done = f", {percent(found.search_progress)} done" if found.search_progress else ""
        return f"Still scanning this Redis for queues{done}; reload in a moment."
    return "It may have been deleted. New queues appear within a few seconds."


def _start_process(settings: Settings, members_of: MembersOf) -> _ProcessServices:
    sources = open_sources(settings)
    assert sources.own is not None
    store = SnapshotStore(sources.own)
    holder = holder_name(sources.fingerprint)
    interval_s = settings.sample_interval_s
    own: list[Sampler] = []  # created at its first use: most processes never need it

    def own_sample(known: Snapshot | None, history: History) -> tuple[Snapshot, History]:
        if not own:
            own.append(Sampler(sources, interval_s, holder, clock=store.now_s))
        own[0].adopt_published(known, history)
        return own[0].sample(), own[0].history

    work = start_checker(settings, sources, store, holder) if settings.checker == "auto" else None
    reader = SnapshotReader(store, interval_s, own_sample, fingerprint=sources.fingerprint)

    def queues_of(source: str, backend: str) -> list[QueueRef]:
        snapshot = reader.current().snapshot
        queues = snapshot.queues if snapshot else ()
        return [queue.ref for queue in queues if (queue.source, queue.backend) == (source, backend)]

    triage = DeadLetterService(sources.backend, settings.dlq_queues, AnnotationStore(store), interval_s)
    actions = ActionService(
        sources.backend,
        UndoBin(store, settings.bin_max_bytes),
        AuditLog(sources.own),
        triage.remove_jobs,
        triage.invalidate,
    )
    addresses = {source.name: source.address for source in sources.sources.values()}
    bulk = BulkStore(store, addresses.get)
    runner = BulkRunner(bulk, actions, sources.backend, members_of, queues_of, holder, settings.bulk_max_jobs)
    if settings.checker == "auto" and not settings.read_only:
        runner.start()
    alert_service = AlertService(
        settings, store, is_elsewhere=lambda: reader.current().other is not None, fingerprint=sources.fingerprint
    )
    return _ProcessServices(
        os.getpid(),
        sources,
        store,
        reader,
        work,
        alert_service,
        LiveList(sources, Capability.WORKERS, lambda backend, refs: backend.list_workers(refs), interval_s),
        LiveList(sources, Capability.SCHEDULES, lambda backend, refs: backend.list_schedules(refs), interval_s),
        actions,
        bulk,
        runner,
        triage,
        FiringWatch(alert_service),
    )


def app_context() -> AppContext:
    """The AppContext of the app that serves the current request."""
    found: AppContext = current_app.extensions[EXTENSION]
    return found
