"""The services of one process, built from the settings in one place: sources, backends, store, and all that uses them.

Web processes and `queuedeck checker` use the same services; only the threads that they start differ. The commands
`check` and `doctor`, which read once and end, need only sources and backends: `monitored_sources.open_sources`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .actions.approval import ApprovalRule
from .actions.audit_chain import DAY_S, AuditChain
from .actions.audit_log import AuditLog
from .actions.audit_syslog import SyslogForwarder
from .actions.bulk.audit_events import describe_approval
from .actions.bulk.operation import BulkOperation
from .actions.bulk.runner import BulkRunner
from .actions.bulk.store import BulkStore
from .actions.dead_letter_jobs import DeadLetterJobs
from .actions.pauses import PauseLog
from .actions.service import ActionService
from .actions.trash import Trash
from .actions.trash_listing import TrashListing
from .alerts.engine import no_groups
from .alerts.evaluation.state_machine import AlertLabels
from .alerts.management.ownership import AlertOwnership
from .alerts.runtime import AlertRuntime
from .alerts.service import AlertService, build_alert_service
from .backends.base import Backend
from .backends.monitored_sources import MonitoredSources, open_sources
from .dead_letters.annotations import AnnotationStore
from .dead_letters.group_watch import GroupWatch, watched_groups
from .dead_letters.service import DeadLetterService
from .dead_letters.top_errors import TopErrors
from .errors import QueuedeckError, Unsupported
from .history.activity.activities import NO_ACTIVITIES
from .history.history_reader import HistoryReader
from .history.recording import HistoryRecording
from .marks.mark_reader import MarkReader
from .marks.mark_store import MarkStore
from .model import Capability, Mark, QueueRef, Schedule, Snapshot, Worker
from .sampling.checker import Checker
from .sampling.leadership import Leadership, holder_name
from .sampling.live_lists import LiveList
from .sampling.recent_history import History
from .sampling.sampler import Sampler
from .sampling.snapshot_reader import SnapshotReader, SnapshotSource
from .sampling.snapshot_store import SnapshotStore
from .schedules.schedule_watch import READ_EVERY_S, ScheduleWatch, list_schedules, watched_schedules
from .search.job_reader import JobReader
from .settings import Settings
from .settings.queue_directory import QueueDirectory
from .settings.syslog_targets import parse_syslog_target
from .slos.slo_store import SloReader
from .slos.slo_watch import SloWatch
from .sources.source import Source


@dataclass(frozen=True, slots=True)
class CheckerThreads:
    """The sampling loop of a process with its alerting, if that is on, and their threads."""

    loop: Checker
    alerts: AlertRuntime | None
    top_errors: TopErrors
    group_watch: GroupWatch | None = None
    schedule_watch: ScheduleWatch | None = None

    def start(self) -> None:
        """Start sampling (while this process leads), alerting and delivery. Call once per process, after any fork."""
        if self.alerts is not None:
            self.alerts.start()
        self.loop.start()

    def stop(self) -> None:
        """Accept no new work, finish the notification being sent, release the lease."""
        self.loop.stop()
        if self.alerts is not None:
            self.alerts.stop()
        self.top_errors.stop()
        if self.group_watch is not None:
            self.group_watch.stop()
        if self.schedule_watch is not None:
            self.schedule_watch.stop()


@dataclass(frozen=True, slots=True)
class Services:
    """The services of one process. They hold sockets, threads and caches, so they must not be shared over a fork."""

    settings: Settings
    sources: MonitoredSources
    store: SnapshotStore
    snapshots: SnapshotSource
    job_reader: JobReader
    workers: LiveList[Worker]
    schedules: LiveList[Schedule]
    dead_letter_service: DeadLetterService
    dead_letter_jobs: DeadLetterJobs
    action_service: ActionService
    trash_listing: TrashListing
    pauses: PauseLog
    bulk_store: BulkStore
    bulk_runner: BulkRunner
    alert_service: AlertService
    history: HistoryReader
    marks: MarkReader
    slos: SloReader
    queue_directory: QueueDirectory
    checker: CheckerThreads | None  # None in a process that only reads what others publish

    def start(self, *, runs_bulk: bool) -> None:
        """Start the checker, if there is one, and with `runs_bulk` the thread that runs bulk operations."""
        if self.checker is not None:
            self.checker.start()
        if runs_bulk:
            self.bulk_runner.start()

    def stop(self) -> None:
        """Stop all threads and close all connections."""
        self.bulk_runner.stop()
        self.action_service.audit_log.stop()
        if self.checker is not None:
            self.checker.stop()
        self.sources.close()

    def forget_live_rows(self) -> None:
        """Discard the cached workers and schedules, so that the next viewer sees the effect of an action."""
        self.workers.invalidate()
        self.schedules.invalidate()

    @property
    def checker_problem(self) -> QueuedeckError | None:
        """Why this process does not take part in sampling and alerting, or which other settings own them; None where it
        takes part."""
        if (elsewhere := self.alert_service.ownership.conflict) is not None:
            return elsewhere
        if self.checker is not None and self.checker.loop.problem is not None:
            return self.checker.loop.problem
        if self.settings.alerts == "off":
            return Unsupported("Alerts are disabled", hint='Set alerts = "on" to evaluate the rules.')
        if self.settings.checker == "off":
            hint = 'Run queuedeck checker, or a dashboard with checker = "auto".'
            return Unsupported('checker = "off" in this dashboard, and no other checker is running', hint=hint)
        return None


def build_services(settings: Settings, *, checks: bool, on_hung: Callable[[], None] | None = None) -> Services:
    """The services of a process; `checks`: whether it takes part in sampling and alerting.

    Opens no connection and starts no thread, see `Services.start`. `on_hung` is called once if a tick of the checker
    hangs. Raises ConfigurationError.
    """
    sources = open_sources(settings)
    store = SnapshotStore(sources.own)
    holder = holder_name(sources.settings_digest)
    interval_s = settings.sample_interval_s
    snapshots = _build_reader(sources, store, holder, interval_s)
    queues = snapshots.current_queues
    job_reader = JobReader(sources, queues)
    annotation_store = AnnotationStore(store)
    dead_letter_service = DeadLetterService(sources.backend, settings.dlq_queues, annotation_store, queues, interval_s)
    dead_letter_jobs = DeadLetterJobs(dead_letter_service, queues, settings.bulk_max_jobs)
    pauses = PauseLog(store)
    audit_log = _build_audit_log(settings, sources.own)
    action_service = _build_action_service(settings, audit_log, sources, store, dead_letter_service, pauses)
    bulk_store = BulkStore(store, sources.address_of, audit_log, settings.bulk_approval_over)
    marks = MarkReader(MarkStore(store), sources, queues)
    # The pages of rules do not need them as new as the page of schedules.
    previewed_schedules = LiveList(sources, Capability.SCHEDULES, list_schedules, queues, READ_EVERY_S)
    slos = SloReader(settings.slos, store)
    alert_service = build_alert_service(
        settings,
        store,
        AlertOwnership(snapshots.is_elsewhere, sources.settings_digest),
        error_groups=lambda: watched_groups(dead_letter_service.current_groups(), store.now_s()),
        schedules=lambda: watched_schedules(previewed_schedules.current_rows(), sources.now_s),
        slos=slos.list_statuses,
    )

    def ask_for_approval(operation: BulkOperation) -> None:
        alert_service.notifications.ask_for_approval(operation.id, describe_approval(operation))

    checker = None
    if checks:
        checker = build_checker(
            settings,
            sources,
            store,
            holder,
            on_hung=on_hung,
            reader=snapshots,
            dead_letter_service=dead_letter_service,
            marks=marks.recent_marks,
        )
    return Services(
        settings=settings,
        sources=sources,
        store=store,
        snapshots=snapshots,
        job_reader=job_reader,
        workers=LiveList(
            sources, Capability.WORKERS, list_workers, queues, interval_s, seen=job_reader.names.add_workers
        ),
        schedules=LiveList(sources, Capability.SCHEDULES, list_schedules, queues, interval_s),
        dead_letter_service=dead_letter_service,
        dead_letter_jobs=dead_letter_jobs,
        action_service=action_service,
        trash_listing=TrashListing(store, settings.bin_max_bytes),
        pauses=pauses,
        bulk_store=bulk_store,
        bulk_runner=BulkRunner(
            bulk_store,
            action_service,
            sources.backend,
            dead_letter_jobs.members_of,
            snapshots.current_refs,
            holder,
            settings.bulk_max_jobs,
            ask_for_approval,
        ),
        alert_service=alert_service,
        history=HistoryReader(store),
        marks=marks,
        slos=slos,
        queue_directory=QueueDirectory(settings.queues),
        checker=checker,
    )


def build_checker(
    settings: Settings,
    sources: MonitoredSources,
    store: SnapshotStore,
    holder: str,
    *,
    on_hung: Callable[[], None] | None = None,
    reader: SnapshotReader | None = None,
    dead_letter_service: DeadLetterService | None = None,
    marks: Callable[[], Sequence[Mark]] = tuple,
) -> CheckerThreads:
    """The checker of a process; starts no thread. Raises ConfigurationError.

    `reader` of this process keeps the last known figures, whether or not anyone looks at a page. Without a
    `dead_letter_service`, rules about error groups are not evaluated. `marks`, newest first, are named in notifications
    about jobs that became slower.
    """
    top_errors = TopErrors(sources.backend)

    def errors_of(labels: AlertLabels, snapshot: Snapshot) -> Sequence[str]:
        return top_errors.top_errors_of(labels.source or "", labels.backend or "", labels.queue or "", snapshot.queues)

    watch = GroupWatch(dead_letter_service, store.now_s) if dead_letter_service is not None else None
    groups_of = watch.look if watch is not None else no_groups
    schedule_watch = ScheduleWatch(sources, store)
    slos = SloWatch(settings.slos, store)
    recorder = HistoryRecording(store, settings.history_max_bytes, slos) if settings.history_max_bytes else None
    alerts = None
    if settings.alerts == "on":
        run_times = (lambda: recorder.run_times) if recorder is not None else dict
        activities = (lambda: recorder.activities) if recorder is not None else lambda: NO_ACTIVITIES
        alerts = AlertRuntime(
            settings,
            store,
            holder,
            errors_of=errors_of,
            groups_of=groups_of,
            schedules_of=schedule_watch.look,
            run_times=run_times,
            activities=activities,
            marks=marks,
            slos=lambda: slos.statuses,
        )
    sampler = Sampler(sources, settings.sample_interval_s, holder, clock=store.now_s)
    leadership = Leadership(store, holder)
    interval_s = settings.sample_interval_s
    loop = Checker(
        store, sampler, leadership, interval_s, listener=alerts, on_hung=on_hung, reader=reader, recorder=recorder
    )
    return CheckerThreads(loop, alerts, top_errors, watch, schedule_watch)


def _build_reader(sources: MonitoredSources, store: SnapshotStore, holder: str, interval_s: float) -> SnapshotReader:
    """The reader of published snapshots, with a sampler of its own for when no process publishes."""
    sampler = Sampler(sources, interval_s, holder, clock=store.now_s)

    def own_sample(known: Snapshot | None, history: History) -> tuple[Snapshot, History]:
        sampler.adopt_published(known, history)
        return sampler.sample(), sampler.history

    return SnapshotReader(store, interval_s, own_sample, settings_digest=sources.settings_digest)


def _build_audit_log(settings: Settings, own: Source) -> AuditLog:
    days = settings.audit_max_age_days
    chain = AuditChain(
        settings.secret_key,
        settings.audit_max_events,
        None if days is None else days * DAY_S,
        prefix=settings.store_prefix,
    )
    target = parse_syslog_target(settings.audit_syslog) if settings.audit_syslog else None
    return AuditLog(own, chain, SyslogForwarder(target) if target else None)


def _build_action_service(
    settings: Settings,
    audit_log: AuditLog,
    sources: MonitoredSources,
    store: SnapshotStore,
    dead_letter_service: DeadLetterService,
    pauses: PauseLog,
) -> ActionService:
    return ActionService(
        sources.backend,
        Trash(store, settings.bin_max_bytes),
        audit_log,
        dead_letter_service.remove_jobs,
        dead_letter_service.invalidate,
        pauses,
        ApprovalRule(settings.bulk_approval_over),
    )


def list_workers(backend: Backend, refs: Sequence[QueueRef]) -> Sequence[Worker]:
    """The workers of one library; see Backend.list_workers."""
    return backend.list_workers(refs)
