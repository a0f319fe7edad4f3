"""The state machine of one alert: a rule, a severity and a subject. Pure: the output depends on the input only.

`advance_state` returns the phase (ok, pending, firing, recovering). Silences, acknowledgements and inhibition do not
change it, only the notifications that follow: see due_notifications.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from msgspec.structs import replace

from ...model import Value
from ..rules.figures import IDLE, NOT_USUAL, PAUSED, AtLeast, Figure
from ..rules.metrics import METRICS, describe_value, format_threshold
from ..rules.rule import Reducer, Rule, Severity, alert_fingerprint

GONE_S = 600.0


class AlertPhase(StrEnum):
    """The phase of an alert."""

    OK = "ok"
    PENDING = "pending"  # breached, but not long enough yet
    FIRING = "firing"
    RECOVERING = "recovering"  # healthy, but not long enough yet


class FigureHealth(StrEnum):
    """What one figure means for one severity."""

    BREACH = "breach"
    BETWEEN = "between"  # neither beyond the threshold nor past the recovery threshold
    HEALTHY = "healthy"
    UNKNOWN = "unknown"


# In a large incident there are tens of thousands of labels and states, created on each evaluation and never part of a
# reference cycle: the garbage collector need not traverse them (gc=False).
class AlertLabels(Value, frozen=True, kw_only=True, omit_defaults=True, cache_hash=True, gc=False):
    """The subject of an alert; a label is None when the alert is not limited to it."""

    source: str | None = None
    backend: str | None = None
    queue: str | None = None
    channel: str | None = None
    job_class: str | None = None
    error: str | None = None  # the fingerprint of an error group
    title: str | None = None  # its error without variable parts, or the name of a schedule or an objective
    schedule: str | None = None  # the id of a schedule
    slo: str | None = None  # the id of a service level objective

    def as_dict(self) -> dict[str, str]:
        """The labels that are set, by name."""
        pairs = (
            *(("source", self.source), ("backend", self.backend), ("queue", self.queue)),
            *(("channel", self.channel), ("job_class", self.job_class), ("error", self.error), ("title", self.title)),
            *(("schedule", self.schedule), ("slo", self.slo)),
        )
        return {name: value for name, value in pairs if value is not None}

    def is_compatible(self, other: AlertLabels) -> bool:
        """Whether all labels that both have are equal, of job classes those of their queues. A schedule without a known
        queue has nothing in common with queues."""
        return (
            (self.source is None or other.source is None or self.source == other.source)
            and (self.backend is None or other.backend is None or self.backend == other.backend)
            and (
                self.queue == other.queue
                or (self.queue is None and self.schedule is None)
                or (other.queue is None and other.schedule is None)
            )
            and (self.schedule is None or other.schedule is None or self.schedule == other.schedule)
            and (self.slo is None or other.slo is None or self.slo == other.slo)
        )


class AlertState(Value, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One alert as it is stored. Instants are seconds since 1970 by the store's clock and serve for order and display;
    durations are accumulated."""

    fingerprint: str
    rule_id: str
    rule_name: str
    metric: str
    severity: Severity
    threshold: float
    reducer: Reducer = "last"
    labels: AlertLabels = AlertLabels()
    phase: AlertPhase = AlertPhase.OK
    evaluated_at: float = 0.0
    held_s: float = 0.0  # time in breach
    seen: int = 0  # samples in breach
    healthy_s: float = 0.0
    absent_s: float = 0.0
    unknown_s: float = 0.0  # time for which the figure has been unknown or its subject absent
    value: float | None = None  # the last known one
    peak: float | None = None
    episode: str = ""
    started_at: float | None = None
    lasted_s: float = 0.0  # time firing
    announced: str = ""  # the episode that was announced and is still open on the channels
    announced_to: tuple[str, ...] = ()
    announced_started_at: float | None = None
    announced_count: int = 0  # notifications of the announced episode
    quiet_s: float = 0.0  # time since the last of them
    events: tuple[float, ...] = ()  # when it fired or resolved within the last hour
    flapping: bool = False

    @property
    def value_now(self) -> float | None:
        """The figure of the last evaluation; None when it is unknown."""
        return None if self.unknown_s else self.value

    @property
    def value_text(self) -> str | None:
        """`value_now` with the words of its metric; None when it is unknown or a flag."""
        return describe_value(self.metric, self.value_now, self.reducer)

    @property
    def last_value_text(self) -> str | None:
        """The last known figure with the words of its metric; None if it was never known, or for a flag."""
        return describe_value(self.metric, self.value, self.reducer)

    @property
    def threshold_text(self) -> str | None:
        """The threshold with its unit; None for a flag, which is exceeded when it is set."""
        metric = METRICS.get(self.metric)
        if metric is not None and metric.unit == "flag" and self.reducer != "rate":
            return None
        return format_threshold(self.metric, self.threshold, self.reducer)

    @property
    def is_active(self) -> bool:
        """Whether an incident is ongoing."""
        return self.phase in (AlertPhase.FIRING, AlertPhase.RECOVERING)

    @property
    def is_worth_storing(self) -> bool:
        """Whether dropping it would lose anything."""
        return self.phase is not AlertPhase.OK or bool(self.announced) or bool(self.events)


@dataclass(frozen=True, slots=True)
class StateChange:
    """An incident began or ended."""

    kind: Literal["firing", "resolved"]
    episode: str
    at: float
    started_at: float | None = None
    lasted_s: float = 0.0
    value: float | None = None
    peak: float | None = None
    reason: str | None = (
        None  # why it ended other than by recovery: no longer exists, (queue) paused, rule deleted, disabled or changed
    )


def create_state(rule: Rule, severity: Severity, labels: AlertLabels, now: float) -> AlertState:
    """The state of a new alert."""
    return AlertState(
        fingerprint=alert_fingerprint(rule.id, severity, labels.as_dict()),
        rule_id=rule.id,
        rule_name=rule.title,
        metric=rule.metric,
        severity=severity,
        threshold=rule.threshold(severity),
        reducer=rule.reducer,
        labels=labels,
        evaluated_at=now,
    )


def restart_state(rule: Rule, state: AlertState) -> AlertState:
    """The state of an alert that is not firing, for a rule whose metric has changed; its events still count."""
    begun = create_state(rule, state.severity, state.labels, state.evaluated_at)
    return replace(begun, events=state.events, flapping=state.flapping)


def judge_figure(rule: Rule, severity: Severity, figure: Figure) -> tuple[FigureHealth, float | None]:
    """(what the figure means, the figure as a number)."""
    if figure is None:
        unknown = {"keep": FigureHealth.UNKNOWN, "ok": FigureHealth.HEALTHY, "breach": FigureHealth.BREACH}
        return unknown[rule.no_data], None
    if figure is IDLE or figure is PAUSED or figure is NOT_USUAL:
        return FigureHealth.HEALTHY, None
    if isinstance(figure, AtLeast):
        return _judge_at_least(rule, severity, float(figure))
    if rule.is_breached(severity, figure):
        return FigureHealth.BREACH, figure
    return (FigureHealth.HEALTHY if rule.is_recovered(severity, figure) else FigureHealth.BETWEEN), figure


def _judge_at_least(rule: Rule, severity: Severity, least: float) -> tuple[FigureHealth, float | None]:
    """As `judge_figure`, for a lower bound: unknown where a higher figure would change the result."""
    breached = rule.is_breached(severity, least)
    if rule.worsens_upwards:
        return (FigureHealth.BREACH, least) if breached else (FigureHealth.UNKNOWN, None)
    return (FigureHealth.HEALTHY, least) if rule.is_recovered(severity, least) else (FigureHealth.UNKNOWN, None)


def elapsed_s(state: AlertState, now: float, interval_s: float) -> float:
    """The time to count since the last evaluation: never below zero, and after a pause or a clock step at most two
    intervals."""
    return min(max(now - state.evaluated_at, 0.0), 2 * interval_s)


def advance_state(
    rule: Rule,
    state: AlertState,
    health: FigureHealth,
    value: float | None,
    now: float,
    interval_s: float,
    *,
    reason: str | None = None,
) -> tuple[AlertState, StateChange | None]:
    """The state after one sample, and what it changed. `reason`: why a healthy figure is not a recovery."""
    passed = elapsed_s(state, now, interval_s)
    if health is FigureHealth.UNKNOWN:
        return replace(state, evaluated_at=now, unknown_s=state.unknown_s + passed), None
    state = _record_value(rule, state, value, now, passed)
    if state.phase is AlertPhase.FIRING and health is not FigureHealth.HEALTHY:  # most alerts stay firing
        return state, None
    if state.phase is AlertPhase.OK:
        return _from_ok(rule, state, health, now)
    if state.phase is AlertPhase.PENDING:
        return _from_pending(rule, state, health, now, passed)
    if health is not FigureHealth.HEALTHY:
        return replace(state, phase=AlertPhase.FIRING, healthy_s=0.0), None
    healthy_s = state.healthy_s + passed if state.phase is AlertPhase.RECOVERING else 0.0
    if healthy_s < rule.recover_for_s:
        return replace(state, phase=AlertPhase.RECOVERING, healthy_s=healthy_s), None
    return _end_episode(state, now, reason)


def _record_value(rule: Rule, state: AlertState, value: float | None, now: float, passed: float) -> AlertState:
    """The state with a known figure recorded and its phase unchanged."""
    going_on = state.is_active
    return replace(
        state,
        evaluated_at=now,
        absent_s=0.0,
        unknown_s=0.0,
        value=value,
        threshold=rule.threshold(state.severity),
        reducer=rule.reducer,
        rule_name=rule.title,
        lasted_s=state.lasted_s + passed if going_on else state.lasted_s,
        quiet_s=state.quiet_s + passed if going_on else state.quiet_s,
        peak=_worse_value(rule, state.peak, value) if going_on else state.peak,
    )


def _from_ok(rule: Rule, state: AlertState, health: FigureHealth, now: float) -> tuple[AlertState, StateChange | None]:
    if health is not FigureHealth.BREACH:
        return state, None
    return _fire_when_due(rule, replace(state, phase=AlertPhase.PENDING, held_s=0.0, seen=1, peak=state.value), now)


def _from_pending(
    rule: Rule, state: AlertState, health: FigureHealth, now: float, passed: float
) -> tuple[AlertState, StateChange | None]:
    if health is not FigureHealth.BREACH:
        return replace(state, phase=AlertPhase.OK, held_s=0.0, seen=0, peak=None), None
    peak = _worse_value(rule, state.peak, state.value)
    return _fire_when_due(rule, replace(state, held_s=state.held_s + passed, seen=state.seen + 1, peak=peak), now)


def _fire_when_due(rule: Rule, state: AlertState, now: float) -> tuple[AlertState, StateChange | None]:
    """The firing state once the breach has lasted `for_s` over `min_samples`, as a new episode; else `state` itself."""
    if state.held_s < rule.for_s or state.seen < rule.min_samples:
        return state, None
    episode = f"{state.fingerprint}-{int(now * 1000):x}"
    fired = replace(
        state,
        phase=AlertPhase.FIRING,
        episode=episode,
        started_at=now,
        lasted_s=0.0,
        quiet_s=0.0,
        healthy_s=0.0,
        events=(*state.events, now),
    )
    return fired, StateChange("firing", episode, now, started_at=now, value=state.value, peak=state.peak)


def _end_episode(state: AlertState, now: float, reason: str | None) -> tuple[AlertState, StateChange]:
    """The state after its episode ended, and the change for the history; `reason` None = the figure recovered."""
    change = StateChange(
        "resolved",
        state.episode,
        now,
        started_at=state.started_at,
        lasted_s=state.lasted_s,
        value=state.value,
        peak=state.peak,
        reason=reason,
    )
    calm = replace(
        state,
        phase=AlertPhase.OK,
        held_s=0.0,
        seen=0,
        healthy_s=0.0,
        absent_s=0.0,
        episode="",
        started_at=None,
        events=(*state.events, now),
    )
    return calm, change


def advance_absent(state: AlertState, now: float, interval_s: float) -> tuple[AlertState, StateChange | None]:
    """The state after a sample that does not contain its subject."""
    gone_s = state.absent_s + elapsed_s(state, now, interval_s)
    unknown_s = state.unknown_s + gone_s - state.absent_s
    state = replace(state, evaluated_at=now, absent_s=gone_s, unknown_s=unknown_s)
    if gone_s < GONE_S or state.phase is AlertPhase.OK:
        return state, None
    return resolve_removed(state, now, "no longer exists")


def resolve_removed(state: AlertState, now: float, reason: str) -> tuple[AlertState, StateChange | None]:
    """The state after its rule or subject was removed: no alert stays open forever."""
    if state.is_active:
        return _end_episode(state, now, reason)
    return replace(state, phase=AlertPhase.OK, held_s=0.0, seen=0), None


def _worse_value(rule: Rule, peak: float | None, value: float | None) -> float | None:
    if peak is None or value is None:
        return value if peak is None else peak
    return max(peak, value) if rule.worsens_upwards else min(peak, value)
