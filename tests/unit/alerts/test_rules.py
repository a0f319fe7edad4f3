"""Valid and invalid rules; silences; the forecast; texts."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest

from dashboard.alerts.delivery.message import clean_text, describe_labels
from dashboard.alerts.evaluation import forecast
from dashboard.alerts.evaluation.state_machine import AlertLabels
from dashboard.alerts.rules.rule import Origin, Severity, parse_rule
from dashboard.alerts.rules.ruleset import Ruleset
from dashboard.alerts.runtime import check_alert_settings
from dashboard.alerts.silences import Silence, WeeklyWindow
from dashboard.errors import ConfigurationError
from dashboard.settings import load
from tests.unit.alerts.factories import rule

GOOD: dict[str, Any] = {"id": "r", "metric": "queue.depth", "critical": 10}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"id": "a b"}, "id"),
        ({"id": 7}, "id"),
        ({"metric": "queue.width"}, "metric"),
        ({"critical": None}, "warning, critical"),
        ({"critical": "many"}, "critical"),
        ({"critical": float("nan")}, "critical"),
        ({"warning": 20}, "critical"),
        ({"op": "lt", "warning": 5}, "critical"),
        ({"op": "eq"}, "op: expected one of gt, ge, lt, le"),
        ({"no_data": "maybe"}, "no_data: expected one of keep, ok, breach"),
        ({"inhibited_by": [GOOD["id"]]}, "mutes itself"),
        ({"critical_recover": 11}, "critical_recover"),
        ({"warning_recover": 1}, "warning_recover"),
        ({"metric": "queue.error_ratio", "critical": 25}, "ratio from 0 to 1"),
        ({"for_s": -1}, "for_s"),
        ({"for_s": float("inf")}, "for_s"),
        ({"min_samples": 0}, "min_samples"),
        ({"reducer": "mean"}, "window_s"),
        ({"window_s": 60}, "window_s"),
        ({"queues": ["a" * 65]}, "queues"),
        ({"queues": ["[a]"]}, "queues"),
        ({"metric": "redis.memory_ratio", "critical": 0.9, "queues": ["a"]}, "queues"),
        ({"metric": "redis.memory_ratio", "critical": 0.9, "scope": "sum"}, "scope"),
        ({"metric": "class.runtime_p95_ratio", "critical": 3, "scope": "sum"}, "scope"),
        ({"runbook_url": "javascript:alert(1)"}, "runbook_url"),
        ({"channels": ["a:b"]}, "channels"),
        ({"colour": "red"}, "colour"),
        ({"name": "a\nb"}, "name"),
    ],
)
def test_a_wrong_rule_is_refused_in_one_line_that_names_the_field(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_rule({**GOOD, **wrong}, "queuedeck.toml")
    assert caught.value.message.startswith("queuedeck.toml: rule")
    assert named in caught.value.message
    assert "\n" not in caught.value.message


def test_settings_name_the_wrong_rule_and_channel() -> None:
    def problem(**keywords: Any) -> str:
        with pytest.raises(ConfigurationError) as caught:
            check_alert_settings(load(environ={}, keywords=keywords))
        return caught.value.message

    assert "'r'" in problem(rules=[{**GOOD, "for_s": -1}])
    assert "unknown channel 'ops'" in problem(rules=[{**GOOD, "channels": ["ops"]}])
    assert "unknown rule 'other'" in problem(rules=[{**GOOD, "inhibited_by": ["other"]}])
    assert "a unique id" in problem(rules=[GOOD, GOOD])
    hook = {"id": "ops", "kind": "webhook", "url": "https://example.com/x"}
    assert "a unique id" in problem(channels=[hook, hook])
    assert "https" in problem(ping_url="http://example.com/secret-path")
    assert "secret-path" not in problem(ping_url="http://example.com/secret-path")
    check_alert_settings(load(environ={}, keywords={"channels": [hook], "rules": [{**GOOD, "channels": ["ops"]}]}))


def test_a_shipped_rule_is_changed_by_giving_only_the_differing_fields() -> None:
    ruleset = Ruleset([{"id": "queue-latency", "critical": 900}], 2.0)
    entry = next(entry for entry in ruleset.rules_in_force() if entry.rule.id == "queue-latency")
    assert entry.origin is Origin.TOML
    assert (entry.rule.warning, entry.rule.critical, entry.rule.for_s) == (300, 900, 120)


@pytest.mark.parametrize(
    ("when", "covered"),
    [
        ("2026-03-02T21:59", False),  # a Monday, an hour behind Berlin
        ("2026-03-02T22:00", True),
        ("2026-03-03T00:59", True),  # past midnight there
        ("2026-03-03T01:00", False),
        ("2026-03-03T22:30", False),
        ("2026-03-30T21:00", True),  # summer time
    ],
)
def test_a_weekly_window_follows_the_local_clock(when: str, covered: bool) -> None:
    weekly = WeeklyWindow(days=(0,), from_min=23 * 60, minutes=180, timezone="Europe/Berlin")
    now = datetime.fromisoformat(when).replace(tzinfo=UTC).timestamp()
    assert weekly.contains_time(now) is covered


@pytest.mark.parametrize(
    ("days", "from_min", "minutes", "now", "end"),
    [
        ((0,), 23 * 60, 180, "2026-11-30T23:30:10+01:00", "2026-12-01T02:00:00+01:00"),
        ((0,), 23 * 60, 180, "2026-12-01T01:59:59+01:00", "2026-12-01T02:00:00+01:00"),
        ((0, 1), 23 * 60, 25 * 60, "2026-11-30T23:30:00+01:00", "2026-12-03T00:00:00+01:00"),  # they overlap
        ((0, 1), 0, 24 * 60, "2026-11-30T12:00:00+01:00", "2026-12-02T00:00:00+01:00"),  # one begins as the other ends
        ((5,), 22 * 60, 8 * 60, "2026-10-24T23:00:00+02:00", "2026-10-25T06:00:00+01:00"),  # the clock is put back
        ((5,), 22 * 60, 8 * 60, "2026-03-28T23:00:00+01:00", "2026-03-29T06:00:00+02:00"),  # and forward
    ],
)
def test_a_weekly_silence_ends_with_its_current_window(
    days: tuple[int, ...], from_min: int, minutes: int, now: str, end: str
) -> None:
    weekly = WeeklyWindow(days=days, from_min=from_min, minutes=minutes, timezone="Europe/Berlin")
    at, over = datetime.fromisoformat(now).timestamp(), datetime.fromisoformat(end).timestamp()
    assert weekly.ends_at(at) == over
    assert weekly.contains_time(over - 1)
    assert not weekly.contains_time(over)
    silence = Silence(id="w", until=over + 9e6, by="ada", weekly=weekly)
    assert silence.ends_at(at) == over
    assert Silence(id="w", until=over - 60, by="ada", weekly=weekly).ends_at(at) == over - 60


@pytest.mark.parametrize(
    ("day", "from_min", "minutes", "begin", "end"),
    [
        ("2026-10-25", 150, 60, "02:30+02:00", "03:30+01:00"),  # half past two comes twice: no gap between
        ("2026-10-25", 90, 60, "01:30+02:00", "02:30+02:00"),  # over for good the first time
        ("2026-10-25", 120, 30, "02:00+02:00", "02:30+02:00"),
        ("2026-10-25", 170, 20, "02:50+02:00", "03:10+01:00"),
        ("2026-03-29", 150, 60, "03:00+02:00", "03:30+02:00"),  # there is no half past two
        ("2026-03-29", 120, 45, "03:00+02:00", "03:45+02:00"),
        ("2026-03-29", 60, 90, "01:00+01:00", "03:30+02:00"),
    ],
)
def test_a_weekly_window_is_continuous_across_clock_changes(
    day: str, from_min: int, minutes: int, begin: str, end: str
) -> None:
    weekly = WeeklyWindow(days=(6,), from_min=from_min, minutes=minutes, timezone="Europe/Berlin")
    since, over = (datetime.fromisoformat(f"{day}T{text}").timestamp() for text in (begin, end))
    first = int(since) - 4 * 3600
    covered = [at for at in range(first, first + 12 * 3600, 60) if weekly.contains_time(at)]
    assert covered == list(range(int(since), int(over), 60))
    assert {weekly.ends_at(at) for at in covered} == {over}


def test_a_window_covering_the_whole_week_lasts_more_than_six_days() -> None:
    weekly = WeeklyWindow(days=(0, 1, 2, 3, 4, 5, 6), from_min=0, minutes=24 * 60)
    assert Silence(id="w", until=2e9, by="ada", weekly=weekly).ends_at(1.8e9) > 1.8e9 + 6 * 86_400


def test_a_silence_matches_when_all_of_its_fields_match() -> None:
    silence = Silence(id="s", until=100, by="ann", rule="queue-*", source="main", queue="mail*")
    labels = AlertLabels(source="main", backend="rq", queue="mail-out")
    assert silence.mutes_alert("queue-depth", Severity.WARNING, labels, 50)
    assert not silence.mutes_alert("queue-depth", Severity.WARNING, labels, 100)
    assert not silence.mutes_alert("redis-memory", Severity.WARNING, labels, 50)
    assert not silence.mutes_alert("queue-depth", Severity.WARNING, AlertLabels(source="main"), 50)


def test_a_silence_mutes_between_its_start_and_end() -> None:
    silence = Silence(id="s", starts_at=100, until=200, by="ann")
    muted = [silence.mutes_alert("queue-depth", Severity.WARNING, AlertLabels(), now) for now in (99, 100, 199, 200)]
    assert muted == [False, True, True, False]


def test_the_forecast_ignores_a_few_outliers() -> None:
    dice = random.Random(3)
    points = [(float(at), 500.0 + at * 0.1) for at in range(0, 1800, 10)]
    for index in dice.sample(range(len(points) - 1), 40):
        points[index] = (points[index][0], dice.uniform(0, 1000))
    left_s, never = forecast.full_in_s(points, 1000.0)
    assert not never
    assert left_s == pytest.approx((1000 - points[-1][1]) / 0.1, rel=0.05)


def test_a_rise_that_has_ended_is_not_continued() -> None:
    ended = [(60.0 * minute, 100.0 + 10 * min(minute, 18)) for minute in range(31)]
    assert forecast.full_in_s(ended, 1000.0) == (None, True)
    slower = [(60.0 * minute, 100.0 + 10 * min(minute, 18) + max(0, minute - 18)) for minute in range(31)]
    assert forecast.full_in_s(slower, 1000.0) == (pytest.approx((1000 - 292) * 60), False)


def test_a_forecast_needs_enough_points_and_a_rise() -> None:
    rising = [(float(at), float(at)) for at in range(19)]
    assert forecast.full_in_s(rising, 100.0) == (None, False)
    assert forecast.full_in_s([], 100.0) == (None, False)
    assert forecast.full_in_s([*rising, (19.0, 200.0)], 100.0) == (0.0, False)
    assert forecast.full_in_s([(float(at), 50.0 - at) for at in range(40)], 100.0) == (None, True)


def test_names_are_cleaned_and_shortened() -> None:
    assert clean_text("a\nb\udcffc") == "a�b�c"
    assert len(clean_text("x" * 10_000)) == 200


def test_a_recover_threshold_on_the_healthy_side_is_accepted() -> None:
    assert rule(op="lt", critical=5, critical_recover=8).recover_threshold(Severity.CRITICAL) == 8


def test_the_subject_of_an_alert_as_text() -> None:
    assert describe_labels(AlertLabels(source="main", backend="celery", queue="mails")) == "mails (celery, main)"
    assert describe_labels(AlertLabels(source="main", backend="celery", queue="*")) == "all celery queues (main)"
    assert describe_labels(AlertLabels(source="main", backend="rq")) == "rq on main"
    assert describe_labels(AlertLabels(source="main")) == "Redis main"
