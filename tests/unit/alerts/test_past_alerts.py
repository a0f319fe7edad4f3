"""The alerts as of a moment, from the incidents of the history."""

from __future__ import annotations

from dashboard.alerts.evaluation.state_machine import AlertLabels, AlertState
from dashboard.alerts.management.past_alerts import MAX_HISTORY, PastAlerts, alerts_as_of, join_incidents
from dashboard.alerts.notification import HistoryEntry
from dashboard.alerts.rules.rule import Severity

NOW_S = 1_700_000_000.0
CRITICAL = Severity.CRITICAL


def entry(
    kind: str, at: float, queue: str, *, severity: Severity = Severity.WARNING, began: float | None = None
) -> HistoryEntry:
    """An alert of the rule `deep` about a queue: it fired at `at`, or resolved after it `began`."""
    start = at if kind == "firing" else began
    return HistoryEntry(
        kind=kind,
        episode=f"{queue}-{severity.value}-{start}",
        at=at,
        rule_id="deep",
        rule_name="Deep",
        metric="queue.depth",
        severity=severity,
        labels=AlertLabels(source="main", backend="rq", queue=queue),
        started_at=start,
        lasted_s=0.0 if start is None else at - start,
        fingerprint=f"{queue}-{severity.value}",
    )


def incident(queue: str, began: float, ended: float | None = None, **of: Severity) -> list[HistoryEntry]:
    ends = [] if ended is None else [entry("resolved", ended, queue, began=began, **of)]
    return [entry("firing", began, queue, **of), *ends]


def state(of: HistoryEntry) -> AlertState:
    return AlertState(
        fingerprint=of.fingerprint,
        rule_id=of.rule_id,
        rule_name=of.rule_name,
        metric=of.metric,
        severity=of.severity,
        threshold=1.0,
        labels=of.labels,
        episode=of.episode,
        started_at=of.at,
    )


def as_of(at_s: float, entries: list[HistoryEntry], *firing: HistoryEntry, back_to: float | None = None) -> PastAlerts:
    newest_first = sorted(entries, key=lambda each: -each.at)
    incidents = join_incidents(newest_first, [state(each) for each in firing])
    return alerts_as_of(at_s, incidents, frozenset(each.episode for each in firing), back_to)


def queues(alerts: PastAlerts) -> list[str | None]:
    return [alert.entry.labels.queue for alert in alerts.firing]


def test_an_alert_was_firing_from_its_beginning_until_before_its_end() -> None:
    entries = incident("mail", 1000.0, 2000.0)
    firing = {at: queues(as_of(at, entries)) for at in (999.9, 1000.0, 1999.9, 2000.0)}
    assert firing == {999.9: [], 1000.0: ["mail"], 1999.9: ["mail"], 2000.0: []}
    (alert,) = as_of(1500.0, entries).firing
    assert (alert.started_at, alert.ended_at, alert.is_firing_now) == (1000.0, 2000.0, False)
    assert [past.known.at for past in as_of(5599.0, entries).resolved] == [2000.0]
    later = as_of(5601.0, entries)
    assert later.resolved == ()  # more than an hour ago
    assert later.history[0].newest.known.lasted_s == 1000.0


def test_the_worst_and_oldest_alerts_are_first_and_a_critical_one_inhibits_its_warning() -> None:
    found = as_of(
        500.0,
        [
            *incident("new", 300.0),
            *incident("old", 100.0),
            *incident("old", 400.0, severity=CRITICAL),
            *incident("over", 1.0, 2.0),
        ],
    )
    assert [(alert.entry.labels.queue, alert.entry.severity.value) for alert in found.firing] == [
        ("old", "critical"),
        ("old", "warning"),
        ("new", "warning"),
    ]
    assert [alert.entry.labels.queue for alert in found.incidents] == ["old", "new"]


def test_an_end_that_is_not_recorded_and_a_beginning_that_is_no_longer_stored() -> None:
    lost = incident("lost", 100.0)
    (alert,) = as_of(500.0, lost).firing
    assert (alert.ended_at, alert.is_firing_now) == (None, False)
    again = [*lost, *incident("lost", 300.0, 350.0)]
    assert [alert.started_at for alert in as_of(200.0, again).firing] == [100.0]
    assert as_of(320.0, again).firing[0].started_at == 300.0
    assert as_of(400.0, again).firing == ()  # it fired again, so it had ended before
    current = entry("firing", 100.0, "current")
    assert [alert.is_firing_now for alert in as_of(500.0, [current], current).firing] == [True]
    removed = as_of(500.0, [], current, back_to=400.0)
    assert [(alert.started_at, alert.is_firing_now) for alert in removed.firing] == [(100.0, True)]
    only_end = as_of(500.0, [entry("resolved", 600.0, "end", began=100.0)], back_to=600.0)
    assert [(alert.started_at, alert.ended_at) for alert in only_end.firing] == [(100.0, 600.0)]
    assert (removed.is_complete, only_end.is_complete, as_of(1.0, []).is_complete) == (True, False, True)


def test_a_long_history_is_cut_off() -> None:
    entries = [each for at in range(100) for each in incident(f"q{at}", at * 1000.0, at * 1000.0 + 1)]
    found = as_of(50_500.0, entries)
    assert len(found.history) == MAX_HISTORY
    assert found.history[0].newest.known.at == 50_001.0
