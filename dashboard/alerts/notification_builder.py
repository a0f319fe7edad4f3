"""What notifications contain besides the state of an alert: the last hour, the top errors, what the source reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ..actions.pauses import PauseLog, RecordedPauses, describe_pause
from ..dead_letters.group_watch import WatchedGroup
from ..errors import QueuedeckError
from ..forecasts.wording import describe_forecast
from ..history.activity.activities import NO_ACTIVITIES, Activities
from ..history.columns import CLASS, QUEUE
from ..history.run_times import RECENT_S, RunTimes
from ..history.series_keys import SeriesKey
from ..marks.mark_reader import find_mark_before
from ..model import Mark, QueueStats, Snapshot, State
from ..sampling.recent_history import History, Series
from ..schedules.schedule_watch import ScheduleKey, WatchedSchedule
from ..settings.queue_directory import NO_INFO, QueueDirectory, QueueInfo
from ..slos.slo_report import SloStatus
from ..slos.wording import describe_burn
from ..store.cache import SingleFlightCache
from ..units import format_duration, format_number
from .activity_wording import describe_activity
from .evaluation.evaluation_run import Transition
from .evaluation.preview import failure_ratios
from .evaluation.rule_history import RuleHistoryRecorder
from .evaluation.state_machine import AlertLabels, AlertState
from .notification import QueuedNotification, build_notification, queue_notifications
from .rules.figures import BURN_RATE_WINDOWS
from .rules.metrics import METRICS
from .rules.rule import Rule

# One incident can pause many queues: they share a read.
PAUSES_KEPT_S = 5.0
MAX_MARKS = 3
ErrorsOf = Callable[[AlertLabels, Snapshot], Sequence[str]]


def no_errors(labels: AlertLabels, snapshot: Snapshot) -> Sequence[str]:
    """No errors; the default where errors are not grouped."""
    del labels, snapshot
    return ()


def _describe_marks(marks: Sequence[Mark], began_at: float | None, sources: Sequence[str]) -> str:
    """The last mark before run times changed, and others before it that the change can come from: compared are the run
    times of RECENT_S. "" without any."""
    found: dict[str, str] = {}
    while (before := find_mark_before(marks, began_at, sources)) and (not found or before.after_s < RECENT_S):
        label = before.mark.short_label
        found.setdefault(label, f"{format_duration(before.after_s)} after {label}")
        marks = marks[marks.index(before.mark) + 1 :]
    return " and ".join(list(found.values())[:MAX_MARKS])


class NotificationBuilder:
    """Builds the notifications of transitions, with the last hour from `recorder` where the sampler has none, with the
    user who paused a queue from `pauses`, and with the owner of a queue from `directory`."""

    def __init__(
        self,
        recorder: RuleHistoryRecorder,
        errors_of: ErrorsOf,
        pauses: PauseLog | None = None,
        directory: QueueDirectory | None = None,
        run_times: Callable[[], Mapping[SeriesKey, RunTimes]] = dict,
        marks: Callable[[], Sequence[Mark]] = tuple,
        slos: Callable[[], Sequence[SloStatus]] = tuple,
        activities: Callable[[], Activities] = lambda: NO_ACTIVITIES,
    ) -> None:
        self._recorder = recorder
        self._marks = marks
        self._run_times = run_times
        self._slos = slos
        self._activities = activities
        self._directory = directory or QueueDirectory()
        self._errors_of = errors_of
        self._pauses = pauses
        self.error_groups: Mapping[str, WatchedGroup] = {}  # of the newest sample, by fingerprint
        self.schedules: Mapping[ScheduleKey, WatchedSchedule] = {}  # of the newest reading
        self._recorded: SingleFlightCache[RecordedPauses] = SingleFlightCache(PAUSES_KEPT_S)

    def build_notifications(
        self, transition: Transition, history: History, snapshot: Snapshot
    ) -> list[QueuedNotification]:
        """The notifications of one transition, one per channel.

        Cost: none, or 1 round trip for those about a pause, at most every PAUSES_KEPT_S.
        """
        if not transition.due_notifications:
            return []
        reason = transition.changes[0].reason if transition.changes else None
        detail = None
        if not reason and transition.after.is_active:
            detail = (
                self._pause_detail(transition.after, snapshot)
                or _source_detail(transition.after, snapshot)
                or _forecast_detail(transition.after, snapshot)
                or self._run_time_detail(transition.after, transition.rule)
                or self._slo_detail(transition.after)
                or self._activity_detail(transition.after, transition.rule, snapshot)
            )
            group = self.error_groups.get(transition.after.labels.error or "")
            detail = group.detail if group is not None else detail
            detail = self._schedule_detail(transition.after) or detail
        errors: tuple[str, ...] = ()
        labels = transition.after.labels
        is_of_jobs = labels.queue is not None and labels.schedule is None
        if is_of_jobs and transition.due_notifications[0].kind in ("firing", "reminder"):
            errors = tuple(self._errors_of(labels, snapshot))
        made: list[QueuedNotification] = []
        for due in transition.due_notifications:
            notification = build_notification(
                transition.after,
                due,
                transition.rule,
                transition.after.evaluated_at,
                reason=reason,
                detail=detail,
                spark=last_hour_series(
                    transition.after,
                    history,
                    self._recorder.hour_points(transition.after.rule_id, transition.after.labels),
                ),
                top_errors=errors,
                info=self.describe_queue(transition.after),
            )
            made += queue_notifications(notification, due, transition.rule)
        return made

    def describe_queue(self, state: AlertState) -> QueueInfo:
        """What the settings say about the queue of an alert, or about the one with most jobs of its error group, whose
        own owner comes first. Cost: none."""
        group = self.error_groups.get(state.labels.error or "")
        if group is not None:
            info = self._directory.find(*group.places[0]) if group.places else NO_INFO
            return replace(info, owner=group.owner or info.owner)
        return self._directory.find(state.labels.source, state.labels.backend, state.labels.queue)

    def _pause_detail(self, state: AlertState, snapshot: Snapshot) -> str | None:
        """What is waiting in a paused queue, and who paused it; None for alerts about anything else."""
        labels = state.labels
        if state.metric != "queue.paused_s" or labels.queue is None:
            return None
        queue = snapshot.find(labels.source or "", labels.backend or "", labels.queue)
        if queue is None or not queue.paused:
            return None
        parts = [waiting_text(queue)]
        recorded = self._read_pauses()
        if recorded is not None:
            parts.append(describe_pause(recorded.find_pause(queue)))
        return ", ".join(part for part in parts if part)

    def _run_time_detail(self, state: AlertState, rule: Rule | None) -> str | None:
        """How long jobs take now and usually, and what was marked before it; None for alerts about anything else."""
        metric, labels = METRICS.get(state.metric), state.labels
        if metric is None or not metric.name.endswith(".runtime_p95_ratio"):
            return None
        found = self._run_times().get(_series_of(labels))
        if found is None or found.usual_p95_s is None:
            return None
        text = (
            f"95th percentile {format_duration(found.p95_s)} of {format_number(found.jobs)} jobs, "
            f"usually {format_duration(found.usual_p95_s)}"
        )
        began_at = None if state.started_at is None else state.started_at - (rule.for_s if rule else 0.0)
        changes = _describe_marks(self._marks(), began_at, [labels.source or ""])
        return f"{text}, since {changes}" if changes else text

    def _schedule_detail(self, state: AlertState) -> str | None:
        """When the run of a schedule was due; None for alerts about anything else."""
        labels = state.labels
        if labels.schedule is None:
            return None
        found = self.schedules.get((labels.source or "", labels.backend or "", labels.queue, labels.schedule))
        return None if found is None else found.detail or None

    def _slo_detail(self, state: AlertState) -> str | None:
        """When the budget of an objective is used up at this rate; None for alerts about anything else."""
        windows = BURN_RATE_WINDOWS.get(state.metric)
        if windows is None or state.labels.slo is None:
            return None
        statuses = (status for status in self._slos() if status.slo.id == state.labels.slo and status.report)
        return next((describe_burn(status, windows[0]) for status in statuses), None)

    def _activity_detail(self, state: AlertState, rule: Rule | None, snapshot: Snapshot) -> str | None:
        """What is usual at this hour, and what there is now; None for alerts about anything else."""
        labels = state.labels
        if rule is None or labels.queue is None:
            return None
        activities, key = self._activities(), _series_of(labels)
        activity = (activities.classes if key.kind is CLASS else activities.queues).get(key)
        queue = snapshot.find(labels.source or "", labels.backend or "", labels.queue)
        return describe_activity(rule, activity, queue)

    def _read_pauses(self) -> RecordedPauses | None:
        """The recorded pauses; None when they cannot be read, which must not stop the notification."""
        if self._pauses is None:
            return None
        try:
            return self._recorded.get("", self._pauses.list_pauses)
        except QueuedeckError:
            return None


def _series_of(labels: AlertLabels) -> SeriesKey:
    """The series of the queue or job class that an alert is about."""
    kind = QUEUE if labels.job_class is None else CLASS
    return SeriesKey(kind, labels.source or "", labels.backend or "", labels.queue or "", labels.job_class or "")


def waiting_text(queue: QueueStats) -> str:
    """The jobs that a pause holds back: 1,200 jobs waiting; "" when that is unknown."""
    if queue.depth:
        more = "+" if State.WAITING in queue.at_least else ""
        return f"{format_number(queue.depth)}{more} job{'' if queue.depth == 1 and not more else 's'} waiting"
    if queue.overdue_s:
        return f"scheduled jobs overdue by {format_duration(queue.overdue_s)}"
    return "" if queue.depth is None else "no jobs waiting"


def _source_detail(state: AlertState, snapshot: Snapshot) -> str | None:
    """What a source reports about itself, for alerts on that source."""
    metric = METRICS.get(state.metric)
    if metric is None or metric.subject != "source":
        return None
    for source in snapshot.sources:
        if source.name == state.labels.source:
            if source.error is not None:
                return source.error
            if state.metric == "redis.writes_refused":
                probe = source.health.write_probe
                return None if probe is None else f"a test write fails with {probe}"
            if state.metric == "redis.eviction_policy":
                policy = source.health.eviction_policy
                return None if policy is None else f"the eviction policy is {policy}"
            return "; ".join(source.problems)[:300] or None if state.metric == "source.no_data_s" else None
    return None


def _forecast_detail(state: AlertState, snapshot: Snapshot) -> str | None:
    """Where the waiting jobs are heading, for alerts on their number or age: growing 320/min; None if not known."""
    labels = state.labels
    if state.metric not in ("queue.depth", "queue.latency_s") or labels.queue is None:
        return None
    queue = snapshot.find(labels.source or "", labels.backend or "", labels.queue)
    return None if queue is None else describe_forecast(queue.forecast)


def last_hour_series(state: AlertState, history: History, judged: Series) -> Series:
    """The last hour of the alert's subject, oldest first; () when nothing is known.

    Comes from the sampler where it stores that series, because its hour starts before the rule was created; otherwise
    as `judged` by the rule.
    """
    labels = state.labels
    if state.metric.startswith("redis.memory") and labels.source is not None:
        return tuple(history.memory.get(labels.source, ()))
    if labels.queue is None or state.metric not in ("queue.depth", "queue.dead", "queue.error_ratio"):
        return judged
    series = history.queues.get(f"{labels.source}\0{labels.backend}\0{labels.queue}")
    if series is None:
        return judged
    if state.metric == "queue.dead":
        return tuple(series.dead)
    if state.metric == "queue.error_ratio":
        ratios = failure_ratios(series)
        return ratios if any(ratio is not None for ratio in ratios) else judged
    return tuple(series.depth)
