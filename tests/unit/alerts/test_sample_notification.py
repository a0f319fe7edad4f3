"""What a rule would say before it is saved."""

from __future__ import annotations

from dashboard.alerts.evaluation.state_machine import AlertLabels
from dashboard.alerts.management.sample_notification import sample_notification
from dashboard.alerts.rules.rule import Severity
from dashboard.sampling.recent_history import History
from tests.unit.alerts.factories import queue, rule, sample

MAIL = AlertLabels(source="main", backend="lists", queue="mail")


def test_a_sample_is_worded_as_a_notification_is() -> None:
    deep = rule(name="Mail is deep", critical=1000)
    said = sample_notification(deep, Severity.CRITICAL, MAIL, 1204, sample([queue("mail", 1204)]), History())
    assert said.splitlines()[0] == "[FIRING critical] Mail is deep: mail (lists, main)"
    assert "- mail (lists, main): 1,204 waiting jobs (fires above 1,000), since 1970-01-01 00:00:00 UTC" in said
    assert "http" not in said  # nothing to acknowledge
    assert "Last hour" not in said


def test_the_last_hour_is_part_of_it() -> None:
    late = rule(metric="queue.latency_s", warning=60)
    said = sample_notification(late, Severity.WARNING, MAIL, 120, sample([queue("mail", 3)]), History(), (0, None, 120))
    assert said.endswith("Last hour: ▁·█")
