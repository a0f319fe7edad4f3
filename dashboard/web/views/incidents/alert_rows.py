"""The alerts of an incident report: each from its beginning to its end, as far as they are known. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ....alerts.evaluation.state_machine import AlertLabels, AlertState
from ....alerts.notification import HistoryEntry
from ....alerts.rules.metrics import describe_value, format_threshold
from ....incidents.incident_reader import IncidentRecords
from ....incidents.scope import IncidentScope
from ....redact import mask_text
from ...formatting import one_line
from ..charts.chart_marks import concerns, place_of

MOST_ALERTS = 100
MAX_TEXT = 160


class AlertRow(NamedTuple):
    """One alert. Times in seconds since 1970; `ended_s` None: it fires still, or its end is not known.

    `began_s` None: it began before the history of alerts. `peak`: its worst value, `threshold`: that of its rule.
    """

    severity: str
    rule: str
    place: str
    began_s: float | None
    ended_s: float | None
    lasted_s: float | None
    peak: str | None
    threshold: str | None
    reason: str | None
    is_firing: bool = False

    @property
    def first_s(self) -> float:
        """When it is first known."""
        return self.began_s if self.began_s is not None else (self.ended_s or 0.0)


class AlertRows(NamedTuple):
    """The alerts that were firing in the range, oldest first, critical ones before `hidden` warnings are left out."""

    rows: tuple[AlertRow, ...]
    hidden: int


def list_alerts(records: IncidentRecords, titles: Mapping[str, str]) -> AlertRows:
    """The alerts about the scope of the records. `titles`: the display names of libraries."""
    scope = records.scope
    begun: dict[str, HistoryEntry] = {}
    ended: dict[str, HistoryEntry] = {}
    for entry in (*records.ended_later, *records.changes):
        if is_about(entry.labels, scope):
            (ended if entry.kind == "resolved" else begun).setdefault(entry.episode, entry)
    firing = {state.episode: state for state in records.firing if state.episode and is_about(state.labels, scope)}
    rows = [
        _row_of(begun.get(episode), ended.get(episode), firing.get(episode), titles)
        for episode in dict.fromkeys((*begun, *ended, *firing))
    ]
    rows.sort(key=lambda row: (row.severity != "critical", row.first_s))
    shown = sorted(rows[:MOST_ALERTS], key=lambda row: row.first_s)
    return AlertRows(tuple(shown), len(rows) - len(shown))


def _row_of(
    begun: HistoryEntry | None, ended: HistoryEntry | None, firing: AlertState | None, titles: Mapping[str, str]
) -> AlertRow:
    known = ended or begun
    began_s = next((each.started_at for each in (ended, begun, firing) if each and each.started_at is not None), None)
    if known is None:
        assert firing is not None
        return AlertRow(
            firing.severity.value,
            one_line(firing.rule_name, MAX_TEXT),
            name_place(firing.labels, titles),
            began_s,
            None,
            None,
            describe_value(firing.metric, firing.peak),
            _threshold(firing.metric, firing.threshold),
            None,
            is_firing=True,
        )
    return AlertRow(
        known.severity.value,
        one_line(known.rule_name, MAX_TEXT),
        name_place(known.labels, titles),
        began_s if began_s is not None or begun is None else begun.at,
        ended.at if ended else None,
        ended.lasted_s if ended else None,
        describe_value(known.metric, _worst_of(known, firing)),
        _threshold(known.metric, known.threshold),
        one_line(mask_text(ended.reason), MAX_TEXT) if ended and ended.reason else None,
        is_firing=ended is None and firing is not None,
    )


def _worst_of(entry: HistoryEntry, firing: AlertState | None) -> float | None:
    """The worst value that is known: of an alert that fires still, until now."""
    known = (firing.peak if firing and entry.kind == "firing" else None, entry.peak, entry.value)
    return next((value for value in known if value is not None), None)


def _threshold(metric: str, threshold: float | None) -> str | None:
    return None if threshold is None else format_threshold(metric, threshold)


def name_place(labels: AlertLabels, titles: Mapping[str, str]) -> str:
    """What an alert is about, with its library and Redis: "mails (BullMQ on main)"; "" for all queues together."""
    place = one_line(mask_text(place_of(labels, titles)), MAX_TEXT)
    if labels.queue is None or labels.source is None:
        return place
    library = titles.get(labels.backend or "", labels.backend or "")
    where = f"{library} on {labels.source}" if labels.queue != "*" else f"on {labels.source}"
    inside = f" in {one_line(labels.queue, 60)}" if labels.job_class is not None else ""
    return f"{place}{inside} ({one_line(where, 80)})"


def changes_of(records: IncidentRecords) -> Iterable[HistoryEntry]:
    """The changes in the range of the alerts about the scope, newest first."""
    return (entry for entry in records.changes if is_about(entry.labels, records.scope))


def is_about(labels: AlertLabels, scope: IncidentScope) -> bool:
    """Whether an alert belongs into the report: as on the chart page of a queue; of a Redis, all that are on it."""
    if scope.source and not scope.queue:
        return labels.source in (None, scope.source) and labels.error is None and labels.channel is None
    return concerns(labels, scope.series)
