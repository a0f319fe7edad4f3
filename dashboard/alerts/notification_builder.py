"""What notifications contain besides the state of an alert: the last hour, the top errors, what the source reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..model import Snapshot
from ..sampling.recent_history import History, Series
from .evaluation.evaluation_run import Transition
from .evaluation.preview import failure_ratios
from .evaluation.rule_history import RuleHistoryRecorder
from .evaluation.state_machine import AlertLabels, AlertState
from .notification import QueuedNotification, build_notification, queue_notifications
from .rules.metrics import METRICS

ErrorsOf = Callable[[AlertLabels, Snapshot], Sequence[str]]


def no_errors(labels: AlertLabels, snapshot: Snapshot) -> Sequence[str]:
    """No errors; the default where errors are not grouped."""
    del labels, snapshot
    return ()


class NotificationBuilder:
    """Builds the notifications of transitions, with the last hour from `recorder` where the sampler has none."""

    def __init__(self, recorder: RuleHistoryRecorder, errors_of: ErrorsOf) -> None:
        self._recorder = recorder
        self._errors_of = errors_of

    def build_notifications(
        self, transition: Transition, history: History, snapshot: Snapshot
    ) -> list[QueuedNotification]:
        """The notifications of one transition, one per channel."""
        if not transition.due_notifications:
            return []
        reason = transition.changes[0].reason if transition.changes else None
        detail = None if reason or not transition.after.is_active else _source_detail(transition.after, snapshot)
        errors: tuple[str, ...] = ()
        if transition.after.labels.queue is not None and transition.due_notifications[0].kind in ("firing", "reminder"):
            errors = tuple(self._errors_of(transition.after.labels, snapshot))
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
            )
            made += queue_notifications(notification, due, transition.rule)
        return made


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
