"""The rules that apply without settings."""

from __future__ import annotations

from dashboard.alerts.rules.default_rules import default_rules


def test_a_checker_is_late_after_three_intervals() -> None:
    late = {interval_s: {rule.id: rule.critical for rule in default_rules(interval_s)} for interval_s in (2.0, 10.0)}
    assert (late[2.0].pop("checker-slow"), late[10.0].pop("checker-slow")) == (6.0, 30.0)
    assert late[2.0] == late[10.0]
