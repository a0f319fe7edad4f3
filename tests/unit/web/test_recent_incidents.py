"""What an overview without problems says of the incidents before."""

from __future__ import annotations

from dashboard.alerts.management.alert_reader import FoldedIncidents, PastIncident
from dashboard.alerts.notification import HistoryEntry
from dashboard.alerts.rules.rule import Severity
from dashboard.web.views.overview import recent_incidents
from dashboard.web.views.overview.recent_incidents import RecentIncidents, summarize_history

NOW, DAY = 1_000_000.0, 86_400.0


def incident(at: float, *, ended: bool = True) -> FoldedIncidents:
    entry = HistoryEntry(
        kind="resolved" if ended else "firing",
        episode=str(at),
        at=at,
        rule_id="deep",
        rule_name="Too deep",
        metric="queue.depth",
        severity=Severity.CRITICAL,
    )
    return FoldedIncidents((PastIncident(None, entry) if ended else PastIncident(entry, None),))


def test_the_last_four_that_ended_within_a_week_are_shown() -> None:
    history = [incident(NOW - 1, ended=False), *(incident(NOW - hours * 3600) for hours in range(1, 7))]
    assert summarize_history(history, NOW) == RecentIncidents(tuple(history[1:5]))
    assert summarize_history([incident(NOW - 1), incident(NOW - 8 * DAY)], NOW).resolved == (incident(NOW - 1),)


def test_a_calm_week_differs_from_no_history_and_from_one_that_goes_on() -> None:
    assert summarize_history([incident(NOW - 8 * DAY)], NOW).text == "No incidents in the last 7 days."
    assert summarize_history([], NOW).text == recent_incidents.NO_HISTORY
    ongoing = summarize_history([incident(NOW - DAY, ended=False)], NOW)
    assert ongoing == RecentIncidents(text="No resolved incidents in the last 7 days.")


def test_the_week_is_not_called_free_of_resolved_incidents_when_only_its_newest_ones_were_read() -> None:
    newest = [incident(NOW - DAY - second, ended=False) for second in range(recent_incidents.READ)]
    assert summarize_history(newest, NOW).text == "No resolved incidents among the last 20."
    whole_week = [*newest[:-1], incident(NOW - 8 * DAY)]
    assert summarize_history(whole_week, NOW).text == "No resolved incidents in the last 7 days."
    assert summarize_history(newest[:-1], NOW).text == "No resolved incidents in the last 7 days."
