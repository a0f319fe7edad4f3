"""Alerts as problems: each firing or pending alert by the queue, library or Redis that it is about. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ....actions.pauses import RecordedPauses, describe_pause
from ....alerts.evaluation.state_machine import AlertLabels, AlertPhase, AlertState
from ....alerts.management.alert_reader import Alert
from ....alerts.notification_builder import waiting_text
from ....alerts.rules.metrics import METRICS, describe_value, format_threshold
from ....model import QueueStats
from ...formatting import duration
from .problem import Problem, ProblemKind, ReportedAlert
from .thresholds import LEVELS

_KINDS = {
    "queue.depth": ProblemKind.WAITING,
    "queue.latency_s": ProblemKind.LATENCY,
    "queue.no_progress_s": ProblemKind.STUCK,
    "queue.throughput_per_min": ProblemKind.SLOW,
    "queue.error_ratio": ProblemKind.FAILING,
    "queue.dead": ProblemKind.DEAD_LETTERS,
    "queue.dead_growth_per_h": ProblemKind.RISING,
    "queue.runtime_p95_ratio": ProblemKind.SLOWER,
    "class.runtime_p95_ratio": ProblemKind.SLOWER,
    "queue.activity_ratio": ProblemKind.QUIET,
    "class.activity_ratio": ProblemKind.QUIET,
    "queue.enqueue_idle_s": ProblemKind.QUIET,
    "queue.workers_ratio": ProblemKind.FEW_WORKERS,
    "queue.active_age_s": ProblemKind.LONG_RUNNING,
    "queue.stalled": ProblemKind.STALLED,
    "queue.overdue_s": ProblemKind.OVERDUE,
    "queue.consumers": ProblemKind.NO_WORKER,
    "queue.paused_s": ProblemKind.PAUSED,
    "workers.count": ProblemKind.NO_WORKER,
    "redis.unreachable_s": ProblemKind.UNREACHABLE,
    "redis.writes_refused": ProblemKind.REFUSING,
    "redis.memory_ratio": ProblemKind.MEMORY,
    "redis.memory_full_in_s": ProblemKind.MEMORY,
    "redis.evicted_per_min": ProblemKind.EVICTION,
    "redis.eviction_policy": ProblemKind.EVICTION,
    "redis.rejected_per_min": ProblemKind.CONNECTIONS,
    "redis.clients_ratio": ProblemKind.CONNECTIONS,
    "redis.fragmentation_ratio": ProblemKind.FRAGMENTATION,
    "redis.replica_lag_bytes": ProblemKind.REPLICATION,
    "redis.replica_link_down_s": ProblemKind.REPLICATION,
    "redis.sentinels_silent": ProblemKind.REPLICATION,
    "redis.persistence_failed": ProblemKind.PERSISTENCE,
    "source.no_data_s": ProblemKind.UNREADABLE,
    "schedule.late_s": ProblemKind.LATE_SCHEDULE,
    **dict.fromkeys(("slo.burn_rate_1h", "slo.burn_rate_6h", "slo.burn_rate_3d"), ProblemKind.ERROR_BUDGET),
    "error.new": ProblemKind.NEW_ERROR,
    "error.regressed": ProblemKind.ERROR_RETURNED,
    "checker.heartbeat_age_s": ProblemKind.ALERTING,
    "notify.undelivered_s": ProblemKind.NOTIFICATIONS,
    "notify.dead": ProblemKind.NOTIFICATIONS,
}
# Of two problems with the same level, the one that stops more jobs comes first.
_WEIGHTS = {
    ProblemKind.UNREACHABLE: 1e9,
    ProblemKind.REFUSING: 9e8,
    ProblemKind.MEMORY: 1e6,
    ProblemKind.UNREADABLE: 4e5,
    ProblemKind.CONNECTIONS: 3e5,
    ProblemKind.PERSISTENCE: 2e5,
    ProblemKind.EVICTION: 1e5,
    ProblemKind.NO_WORKER: 1e5,
    ProblemKind.PAUSED: 1e5,
    ProblemKind.STUCK: 9e4,
}
# A handled or pending alert comes after the open ones of its level, before those of the next one.
_PENDING, _HANDLED = 0.25, 0.5
# "0 workers" needs no "threshold 1", and a new error none at all.
_NO_THRESHOLD = frozenset({"queue.consumers", "workers.count", "error.new", "error.regressed"})


def problem_of(alert: Alert, queue: QueueStats | None, pauses: RecordedPauses | None = None) -> Problem:
    """The problem that an alert reports; `queue`: the one in its labels, if the sample has it. `pauses`: who paused."""
    state = alert.state
    labels = state.labels
    queue = queue if labels.schedule is None else None
    level, kind = LEVELS[state.severity], _KINDS.get(state.metric, ProblemKind.OTHER)
    if kind is ProblemKind.NO_WORKER and state.value:
        kind = ProblemKind.FEW_WORKERS
    handled = alert.ack is not None or alert.silence is not None
    pending = state.phase is AlertPhase.PENDING
    weight = _WEIGHTS.get(kind, 0.0) + ((queue.depth or 0) if queue is not None else state.held_s)
    return Problem(
        level=level,
        rank=(-level + (_HANDLED if handled else _PENDING if pending else 0.0), -weight),
        kind=kind,
        describe=_describe,
        figure=(state, queue, pauses),
        queue=queue,
        source=labels.source,
        backend=labels.backend,
        is_whole_library=labels.backend is not None and labels.queue is None and labels.schedule is None,
        place=_place_of(labels),
        error_group=labels.error,
        schedule=labels.schedule,
        slo=labels.slo,
        alert=ReportedAlert(
            fingerprint=state.fingerprint,
            since=state.started_at,
            threshold=_threshold_text(state),
            status=status_text(alert),
            handled=handled,
        ),
    )


def _place_of(labels: AlertLabels) -> str:
    """The narrowest label of an alert."""
    if labels.schedule is not None:
        return labels.title or labels.schedule
    names = (labels.job_class, labels.queue, labels.channel, labels.backend, labels.source, labels.title)
    return next((name for name in names if name), "Queuedeck")


_PHASES = {AlertPhase.PENDING: "pending", AlertPhase.RECOVERING: "recovering"}


def status_text(alert: Alert) -> str | None:
    """Whether an alert is pending or recovering, and who has handled it; None for one that is firing and open."""
    handled = f"acknowledged by {alert.ack.by}" if alert.ack is not None else "silenced" if alert.silence else None
    return ", ".join(filter(None, (_PHASES.get(alert.state.phase), handled))) or None


def alerts_by_queue(alerts: Iterable[Alert]) -> dict[tuple[str, str, str], list[Alert]]:
    """The alerts about one queue each, by source, library and name."""
    found: dict[tuple[str, str, str], list[Alert]] = {}
    for alert in alerts:
        labels = alert.state.labels
        if labels.source and labels.backend and labels.queue:
            found.setdefault((labels.source, labels.backend, labels.queue), []).append(alert)
    return found


def _threshold_text(state: AlertState) -> str | None:
    metric = METRICS.get(state.metric)
    if metric is None or not metric.phrase or state.metric in _NO_THRESHOLD:
        return None
    return format_threshold(state.metric, state.threshold, state.reducer)


def _describe(figure: Any) -> str:
    state, queue, pauses = figure
    text = _current_text(state, queue) or _value_text(state)
    if state.metric not in _KINDS:
        text = f"{state.rule_name}: {text}"
    if queue is not None and queue.depth and state.metric in ("queue.consumers", "queue.paused_s"):
        text += f", {waiting_text(queue)}"
    if queue is not None and pauses is not None and state.metric == "queue.paused_s":
        text += f", {describe_pause(pauses.find_pause(queue))}"
    return text


# The figures of a queue that its sample shows as the rule sees them: stored values of alerts can be older.
_CURRENT: dict[str, Callable[[QueueStats], float | None]] = {
    "queue.depth": lambda queue: queue.depth,
    "queue.dead": lambda queue: queue.counts.dead,
    "queue.stalled": lambda queue: queue.stalled,
    "queue.active_age_s": lambda queue: queue.active_age_s,
}


def _current_text(state: AlertState, queue: QueueStats | None) -> str | None:
    """The figure in the newest sample; None if it is unknown there, or not what the rule compares."""
    take = _CURRENT.get(state.metric)
    if queue is None or take is None or state.reducer != "last" or state.value_now is None:
        return None
    return describe_value(state.metric, take(queue))


def _value_text(state: AlertState) -> str:
    if state.value_now is not None:
        return state.value_text or state.rule_name
    last = describe_value(state.metric, state.value, state.reducer) or state.rule_name
    return f"last known: {last}; unknown for {duration(state.unknown_s)}" if state.unknown_s else state.rule_name
