"""Messages about waiting jobs say where they are heading, if that is known."""

from __future__ import annotations

import pytest

from dashboard.alerts.delivery.channels import wording
from dashboard.alerts.delivery.message import PageLinks, build_message
from dashboard.alerts.evaluation.due_notifications import DueNotification
from dashboard.alerts.evaluation.evaluation_run import Transition
from dashboard.alerts.evaluation.rule_history import RuleHistoryRecorder
from dashboard.alerts.evaluation.state_machine import AlertLabels, AlertPhase, AlertState
from dashboard.alerts.notification_builder import NotificationBuilder, no_errors
from dashboard.alerts.rules.rule import Severity
from dashboard.model import ForecastState, QueueForecast
from dashboard.sampling.recent_history import History
from tests.unit.alerts.factories import queue, rule, sample

GROWING = QueueForecast(state=ForecastState.GROWING, growing_per_min=320.0)
THIN = QueueForecast(reason="too few jobs arrive and start")


def message_of(metric: str, forecast: QueueForecast | None, phase: AlertPhase = AlertPhase.FIRING) -> str:
    """The text that channels send about one queue with this forecast."""
    state = AlertState(
        fingerprint="f",
        rule_id="deep",
        rule_name="Queue is deep",
        metric=metric,
        severity=Severity.CRITICAL,
        threshold=10.0,
        labels=AlertLabels(source="main", backend="lists", queue="mail"),
        phase=phase,
        value=900.0,
        peak=900.0,
        started_at=1000.0,
    )
    kind = "firing" if phase is AlertPhase.FIRING else "resolved"
    due = DueNotification(kind, "e", 1, ("ops",), 1000.0)  # type: ignore[arg-type]
    transition = Transition(None, state, rule(metric=metric), (), (due,))
    snapshot = sample([queue(depth=900, forecast=forecast)])
    builder = NotificationBuilder(RuleHistoryRecorder(2.0), no_errors)
    (queued,) = builder.build_notifications(transition, History(), snapshot)
    return wording.format_plain_text(build_message("m", kind, [queued.notification], PageLinks(None), "ops"))


@pytest.mark.parametrize(
    ("metric", "forecast", "says"),
    [
        ("queue.depth", GROWING, True),
        ("queue.latency_s", GROWING, True),
        ("queue.dead", GROWING, False),  # it is not about waiting jobs
        ("queue.depth", THIN, False),
        ("queue.depth", None, False),
    ],
)
def test_a_message_says_where_waiting_jobs_are_heading(metric: str, forecast: QueueForecast | None, says: bool) -> None:
    text = message_of(metric, forecast)
    assert ("growing 320/min" in text) is says
    assert "too few jobs" not in text


def test_what_is_over_is_heading_nowhere() -> None:
    assert "growing" not in message_of("queue.depth", GROWING, AlertPhase.OK)
