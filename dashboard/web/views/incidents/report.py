"""An incident report as its file, the page that prepares it and the API show it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from ....actions.audit_log import AuditLog
from ....clock import instant
from ....history.columns import QUEUE
from ....history.series_keys import SeriesKey
from ....incidents.affected_queues import AffectedQueues
from ....incidents.error_groups import IncidentGroups
from ....incidents.incident_reader import ALERTS, MAX_EVENTS, IncidentRecords
from ....incidents.scope import IncidentScope
from ....marks.mark_reader import MarkList
from ....redact import mask_text
from ....units import format_count, format_duration, format_number
from ...formatting import format_moment, one_line
from ..charts.chart_marks import collect_marks
from .alert_rows import AlertRows, changes_of, list_alerts
from .incident_charts import draw_charts
from .svg_chart import SvgChart
from .timeline import Timeline, build_timeline, marks_of

MAX_MISSING, MAX_SENTENCE = 20, 400
# As pages say it.
SAMPLE_DATA = "Figures and alerts before {} UTC are sample data: this is a demo, which began then."
NO_AUDIT = "The audit log is not included: it needs the admin role."


@dataclass(frozen=True, slots=True)
class IncidentReport:
    """All parts of a report. Times in seconds since 1970; `missing`: sentences about what is unknown or left out.

    `unread` and `is_final`: see IncidentRecords.
    """

    scope: IncidentScope
    scope_title: str
    start_s: float
    end_s: float
    generated_s: float
    step_s: int
    charts: tuple[SvgChart, ...]
    alerts: AlertRows
    timeline: Timeline
    groups: IncidentGroups
    affected: AffectedQueues
    audited: bool
    missing: tuple[str, ...]
    unread: frozenset[str] = frozenset()
    is_final: bool = True

    @property
    def are_alerts_known(self) -> bool:
        """Whether all alerts of the range were read; otherwise there may have been others."""
        return ALERTS not in self.unread

    @property
    def drawn(self) -> tuple[SvgChart, ...]:
        """The charts that have figures."""
        return tuple(chart for chart in self.charts if not chart.is_empty)

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all is known of the range."""
        return not (self.drawn or self.alerts.rows or self.timeline.entries or self.groups.groups)

    @property
    def file_name(self) -> str:
        """The name of the file: queuedeck-incident-2026-11-29T0312Z.html."""
        began = instant(self.start_s)
        assert began is not None
        return f"queuedeck-incident-{began:%Y-%m-%dT%H%M}Z.html"


def build_report(records: IncidentRecords, titles: Mapping[str, str]) -> IncidentReport:
    """The report of the records. `titles`: the display names of libraries."""
    listed = MarkList(tuple(replace(mark, text=mask_text(mark.text)) for mark in marks_of(records)))
    marks = collect_marks(SeriesKey(QUEUE), listed, changes_of(records), titles).shown
    charts = tuple(draw_charts(records, marks))
    return IncidentReport(
        scope=records.scope,
        scope_title=name_scope(records.scope, titles),
        start_s=records.start_s,
        end_s=records.end_s,
        generated_s=records.read_at_s,
        step_s=records.slots.step_s,
        charts=charts,
        alerts=list_alerts(records, titles),
        timeline=build_timeline(records, titles),
        groups=records.groups,
        affected=records.affected,
        audited=records.events is not None,
        missing=tuple(one_line(mask_text(text), MAX_SENTENCE) for text in _name_missing(records, charts, titles))[
            :MAX_MISSING
        ],
        unread=frozenset(records.unread),
        is_final=records.is_final,
    )


def name_scope(scope: IncidentScope, titles: Mapping[str, str]) -> str:
    """What a report is about: "All queues", "Redis main", "mails (BullMQ on main)"."""
    if scope.queue:
        library = titles.get(scope.backend, scope.backend)
        name = f"All {library} queues" if scope.queue == "*" else one_line(scope.queue, 200)
        return f"{name} ({one_line(f'{library} on {scope.source}', 100)})"
    return f"Redis {one_line(scope.source, 100)}" if scope.source else "All queues"


def _name_missing(records: IncidentRecords, charts: tuple[SvgChart, ...], titles: Mapping[str, str]) -> Iterator[str]:
    yield from records.missing
    if records.series:
        yield from _name_gaps(records)
        if empty := [
            f"{chart.chart.title}{f' of {chart.about}' if chart.about else ''}" for chart in charts if chart.is_empty
        ]:
            yield f"No figures were recorded, or none are known, of: {', '.join(empty)}."
    if records.sample_end_s is not None and records.sample_end_s > records.start_s:
        yield SAMPLE_DATA.format(format_moment(instant(records.sample_end_s)))
    for each in records.marks.unread:
        library = titles.get(each.backend, each.backend)
        yield f"Marks of {library} on {each.source} could not be read: {each.why}"
    if records.events is None:
        yield NO_AUDIT
    yield from _name_groups(records.groups)
    affected = records.affected
    if affected.examined < affected.known:
        examined, known = format_number(affected.examined), format_number(affected.known)
        yield f"Affected queues: {examined} of {known} queues were compared, those with alerts or the most jobs first."


def _name_gaps(records: IncidentRecords) -> Iterator[str]:
    slots = records.series[records.scope.series]
    past = [slot for slot in slots if slot.start_s < records.read_at_s]
    gap_s = sum(slot.cells is None for slot in past[:-1]) * records.slots.step_s
    if gap_s and gap_s < (len(past) - 1) * records.slots.step_s:
        yield f"For {format_duration(gap_s)} of the range, no figures were recorded: charts have a gap there."


def _name_groups(groups: IncidentGroups) -> Iterator[str]:
    if groups.groups or groups.total:
        yield "Error groups count jobs that are still dead letters: what was retried or deleted since is not counted."
    if groups.is_truncated and not groups.scanned:
        yield "Error groups: dead letters have not been read yet. Prepare the report again in a moment."
    elif groups.is_truncated:
        yield (
            f"Error groups: {format_number(groups.scanned)} of at least {format_number(groups.total)} dead letters "
            "were read, the newest first."
        )
    if groups.undated:
        yield f"{format_count(groups.undated, 'dead letter')} without a time of death belong to no range."


def describe_limits(audit_log: AuditLog) -> str:
    """What a report cannot contain because it is no longer kept."""
    kept = f"{format_number(audit_log.max_events)} actions"
    if audit_log.max_age_s is not None:
        kept += f" of {format_duration(audit_log.max_age_s)}"
    return (
        f"At most the newest {MAX_EVENTS} actions of the audit log are read, which keeps {kept}; the alert history "
        "keeps about 5,000 changes; figures and marks go back 30 days."
    )
