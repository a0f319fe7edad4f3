"""What pages compute once for all viewers of a process."""

from __future__ import annotations

import math
from dataclasses import replace

from ..actions.bulk.canary import list_canary_failures
from ..actions.bulk.operation import BulkOperation
from ..actions.pauses import RecordedPauses
from ..alerts.management.checker_health import CheckerHealth
from ..dead_letters.groups import SAMPLES, ErrorGroup
from ..doctor.acl import missing_grants
from ..errors import BackendUnavailable, Forbidden, QueuedeckError
from ..history.classes.ranking import ClassRanking
from ..history.classes.reader import ClassReader
from ..history.tiers import written_within_s
from ..leftovers.leftover_report import LeftoverReport
from ..leftovers.leftover_scan import find_leftovers
from ..memory_usage.measurement import measure_memory
from ..memory_usage.memory_report import MemoryReport
from ..model import Job, QueueRef, QueueStats, Snapshot
from ..sampling.snapshot_reader import CurrentSnapshot
from ..services import Services
from ..store.cache import SingleFlightCache
from .class_rankings import ClassRankings, RankingQuery, range_of
from .rendered_fragment import RenderedFragment
from .views import firing_banner
from .views.alert_status import AlertStatus, AlertStatusReader
from .views.error_samples import ErrorSample, read_samples
from .views.firing_banner import FiringSummary
from .views.incidents.incident_reports import IncidentReports
from .views.moments.past_views import PastViews
from .views.overview import recent_incidents
from .views.overview.overview_data import OverviewData
from .views.overview.recent_incidents import RecentIncidents, summarize_history
from .views.problems.problem_list import AlertFacts
from .views.rule_overview import RuleOverview, preview_all
from .views.servers.server_reports import ServerReports
from .views.servers.source_reports import SourceReports

HEALTH_KEPT_S = 1.0  # the health check needs no sign-in, so strangers can call it
SAMPLE_DATA_KEPT_S = 60.0
PAUSES_KEPT_S = 60.0  # unless other queues are paused by then
INCIDENTS_KEPT_S = 60.0  # unless alerts change by then
GRANTS_KEPT_S, MAX_GRANTS = 60.0, 64
# Enough for 20 viewers with 10 filters each; a page of 50 queues is about 40 kB.
MAX_FRAGMENTS = 256
MAX_CANARIES = 32  # operations whose failed canary jobs are cached
# Of a larger canary, a page that is polled looks for failed jobs among so many, and shows at most so many of them.
CANARY_SEARCHED, CANARY_SHOWN = 200, 20
SHOWN_GRANTS = 6
MAX_SAMPLED_GROUPS = 32  # groups whose samples are cached, at most some hundred kB each


class PageCaches:
    """The caches of one process. Thread-safe."""

    def __init__(self, services: Services) -> None:
        self.fragments: SingleFlightCache[RenderedFragment] = SingleFlightCache(max_entries=MAX_FRAGMENTS)
        queues = services.snapshots.current_queues
        self.memory_reports: SourceReports[MemoryReport] = SourceReports(measure_memory, services.sources, queues)
        self.leftover_reports: SourceReports[LeftoverReport] = SourceReports(find_leftovers, services.sources, queues)
        self.server_reports = ServerReports(services.sources, queues)
        self.past = PastViews(services)
        self._services = services
        self._overview_data: SingleFlightCache[OverviewData] = SingleFlightCache()
        self._health: SingleFlightCache[CheckerHealth] = SingleFlightCache(HEALTH_KEPT_S)
        # Viewers get an old status rather than wait for a Redis that does not respond.
        self._status: SingleFlightCache[AlertStatus] = SingleFlightCache(firing_banner.KEEP_S, stale_s=math.inf)
        self._status_reader = AlertStatusReader(services.alert_service, evaluates=services.settings.alerts == "on")
        self._rules: SingleFlightCache[RuleOverview] = SingleFlightCache()
        self._sample_end: SingleFlightCache[int | None] = SingleFlightCache(SAMPLE_DATA_KEPT_S, stale_s=math.inf)
        self._incidents: SingleFlightCache[RecentIncidents] = SingleFlightCache(INCIDENTS_KEPT_S, stale_s=math.inf)
        self._pauses: SingleFlightCache[RecordedPauses | None] = SingleFlightCache(PAUSES_KEPT_S)
        self._grants: SingleFlightCache[tuple[str, ...]] = SingleFlightCache(GRANTS_KEPT_S, max_entries=MAX_GRANTS)
        self._samples: SingleFlightCache[tuple[ErrorSample, ...]] = SingleFlightCache(max_entries=MAX_SAMPLED_GROUPS)
        within_s = written_within_s(services.settings.sample_interval_s)
        classes = ClassReader(services.store, within_s)

        def read_ranking(wanted: RankingQuery, now_s: float) -> ClassRanking:
            since_s, until_s, merged = wanted.since_s, wanted.until_s, wanted.merged
            return classes.read_ranking(range_of(wanted), now_s, since_s=since_s, until_s=until_s, merged=merged)

        self.class_rankings = ClassRankings(read_ranking, within_s)
        # Apart from those of now, so that someone who moves through the past takes nothing from the others.
        self.past_class_rankings = ClassRankings(read_ranking, within_s)
        self.incident_reports = IncidentReports(services)
        self._canaries: SingleFlightCache[list[tuple[QueueRef, Job]] | None] = SingleFlightCache(
            max_entries=MAX_CANARIES
        )

    def write_obstacle(self, queue: QueueStats) -> str | None:
        """Why actions on a queue will be refused: what its Redis user is not allowed to do.

        None if it can act, or where this is unknown (Redis before 7). Cost: mostly none; once a minute 2 round trips
        per queue.
        """
        backend = self._services.sources.backend(queue.source, queue.backend)

        def read() -> tuple[str, ...]:
            try:
                return missing_grants(backend, [queue.ref])
            except QueuedeckError:
                return ()

        missing = self._grants.get(queue.ref, read)
        if not missing:
            return None
        shown = " ".join(missing[:SHOWN_GRANTS]) + (" …" if len(missing) > SHOWN_GRANTS else "")
        return (
            f"The Redis user of {queue.source} cannot change this queue, so actions will be refused. "
            f"Missing permissions: {shown}. Run `queuedeck doctor --acl` for the full ACL line."
        )

    def overview_data(self, snapshot: Snapshot, current: CurrentSnapshot) -> OverviewData:
        """The data of the overview, from the snapshot of `current` and the alerts of now."""
        status = self.alert_status()

        def build() -> OverviewData:
            shown, taken_at = self._services.snapshots.last_known.fill(snapshot)
            return OverviewData(shown, current.history, self.alert_facts(), taken_at)

        return self._overview_data.get("", build, (current.version, status.version))

    def checker_health(self) -> CheckerHealth:
        """Whether rules are evaluated, at most a second old. Cost: mostly none, else as CheckerMonitor.read_health."""
        return self._health.get("", self._services.alert_service.checker.read_health)

    def alert_status(self) -> AlertStatus:
        """The alerts as pages show them, at most a second old while the store can be read.

        Cost: mostly none, else as AlertStatusReader.read.
        """
        return self._status.get("", self._status_reader.read)

    def alert_facts(self, *, with_pauses: bool = True) -> AlertFacts:
        """What the list of problems needs of alerting, with who paused. Cost: as `alert_status`, `current_pauses`."""
        facts = self.alert_status().facts
        return replace(facts, pauses=self.current_pauses()) if with_pauses else facts

    def firing_summary(self) -> FiringSummary | None:
        """The firing alerts in one line; None while they are unknown. Cost: as `alert_status`."""
        return self.alert_status().summary

    def recent_incidents(self, now: float) -> RecentIncidents:
        """The incidents that ended last; unknown while the store cannot be read. `now` in seconds since 1970.

        Cost: mostly none; as AlertReader.list_history when alerts change, and every INCIDENTS_KEPT_S.
        """
        status = self.alert_status()
        if self._services.alert_service.ownership.conflict is not None:
            return RecentIncidents(text=recent_incidents.ELSEWHERE)
        if not status.is_current:
            return RecentIncidents(text=recent_incidents.UNREADABLE)

        def read() -> RecentIncidents:
            try:
                history = self._services.alert_service.alerts.list_history((), recent_incidents.READ)
            except (BackendUnavailable, Forbidden):
                return RecentIncidents(text=recent_incidents.UNREADABLE)
            return summarize_history(history, now)

        return self._incidents.get("", read, status.revision)

    def sample_end(self) -> int | None:
        """When the sample data of a demo ends, in seconds since 1970; None where there is none, or while it cannot be
        read. Cost: mostly none; 1 round trip every SAMPLE_DATA_KEPT_S."""
        try:
            return self._sample_end.get("", self._services.history.read_sample_end)
        except (BackendUnavailable, Forbidden):
            return None  # the page says so

    def forget_firing(self) -> None:
        """Drop the cached summary, so that the next page shows what an action changed."""
        self._status.invalidate()

    def rule_overview(self) -> RuleOverview:
        """All rules with their previews in the newest sample.

        Cost: 1 round trip, 2 more per sample, 1 more per minute; see RulePreviews.preview_rules and rule_histories.
        """
        previews, current = self._services.alert_service.previews, self._services.snapshots.current()
        rules = self._services.alert_service.rules.rules_in_force()
        return self._rules.get("", lambda: preview_all(rules, previews, current), (current.version, rules))

    def current_pauses(self) -> RecordedPauses | None:
        """Who paused the queues that are paused in the newest sample; None when that cannot be read.

        Cost: none while no queue is paused; else 1 round trip every PAUSES_KEPT_S, and when a pause begins or ends.
        """
        snapshot = self._services.snapshots.current().snapshot
        paused = frozenset(queue.ref for queue in snapshot.queues if queue.paused) if snapshot else frozenset()
        version = paused, self._services.pauses.changes
        return self._pauses.get("", lambda: self._read_pauses(any_paused=bool(paused)), version)

    def _read_pauses(self, *, any_paused: bool) -> RecordedPauses | None:
        if not any_paused:
            return RecordedPauses({})
        try:
            return self._services.pauses.list_pauses()
        except (BackendUnavailable, Forbidden):
            return None

    def error_samples(self, group: ErrorGroup) -> tuple[ErrorSample, ...] | None:
        """The newest SAMPLES jobs of `group`, except those that no longer exist; None while they cannot be read.

        Cost: none, or at most 4 round trips each.
        """
        members = group.members[:SAMPLES]
        version = tuple((member.ref, member.dead_letter.id, member.dead_letter.at) for member in members)
        try:
            return self._samples.get(
                group.error.fingerprint, lambda: read_samples(members, self._services.sources.backend), version
            )
        except BackendUnavailable:
            return None  # not cached: they may still exist

    def canary_failures(self, operation: BulkOperation) -> list[tuple[QueueRef, Job]] | None:
        """At most CANARY_SHOWN failed jobs of its canary, of the first CANARY_SEARCHED; None if they cannot be read.

        Cost: none until the number of failed jobs changes, else as list_canary_failures.
        """
        version = operation.canary_failed, operation.phase
        # More can have failed since they were counted.
        most = min(CANARY_SHOWN, operation.canary_failed)

        def load() -> list[tuple[QueueRef, Job]] | None:
            try:
                return self.read_canary_failures(operation, most, CANARY_SEARCHED)
            except QueuedeckError:
                return None

        return self._canaries.get(operation.id, load, version)

    def read_canary_failures(
        self, operation: BulkOperation, most: int, searched: int | None = None
    ) -> list[tuple[QueueRef, Job]]:
        """At most `most` failed jobs of the canary as they are now, each with its queue. Cost: as
        list_canary_failures."""
        jobs, backend_of = self._services.bulk_store.jobs, self._services.sources.backend
        queues_of = self._services.snapshots.current_refs
        return list_canary_failures(operation, jobs, backend_of, queues_of, most, searched)
