"""The timeline of an incident report: alerts, marks, actions of users and pauses in the order in which they happened.

Pure. If there are too many, the least important are left out: critical alerts stay longest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from ....actions.audit_log import AuditEvent
from ....alerts.notification import HistoryEntry
from ....alerts.rules.metrics import describe_value, format_threshold
from ....incidents.incident_reader import IncidentRecords
from ....model import Mark
from ....redact import mask_text
from ....units import format_duration
from ...formatting import one_line
from ..audit_lines import audit_line, is_complete, names_object, place_word
from ..flash import outcome_text
from .alert_rows import changes_of, name_place

MOST_ENTRIES = 200
MAX_TEXT, MAX_DETAIL, MAX_WHO, MAX_LINK = 200, 300, 60, 500
# Of no interest for an incident, or listed as marks.
_LEFT_OUT = frozenset({"sign in", "sign out", "add mark"})
EntryKind = Literal["firing", "resolved", "mark", "action", "pause"]
KINDS: Mapping[EntryKind, str] = {
    "firing": "alert",
    "resolved": "resolved",
    "mark": "mark",
    "action": "action",
    "pause": "pause",
}
PLURALS: Mapping[EntryKind, str] = {
    "firing": "alerts that fired",
    "resolved": "resolved alerts",
    "mark": "marks",
    "action": "actions",
    "pause": "pauses",
}


class TimelineEntry(NamedTuple):
    """One line. `kind`: of KINDS; `tone`: of the colors of charts. `link` is an http or https URL."""

    at_s: float
    kind: EntryKind
    tone: str
    text: str
    detail: str = ""
    who: str = ""
    link: str | None = None
    importance: int = 0  # lower ones are kept first

    @property
    def word(self) -> str:
        """The kind as the table shows it."""
        return KINDS[self.kind]


class Timeline(NamedTuple):
    """Entries, oldest first. `hidden`: how many of each kind are left out."""

    entries: tuple[TimelineEntry, ...]
    hidden: tuple[tuple[str, int], ...] = ()

    @property
    def hidden_count(self) -> int:
        """How many are left out."""
        return sum(count for _, count in self.hidden)


def build_timeline(records: IncidentRecords, titles: Mapping[str, str]) -> Timeline:
    """The timeline of the records. `titles`: the display names of libraries."""
    everything = [*_alerts(records, titles), *_marks(records, titles), *_actions(records, titles)]
    if records.events is None:  # otherwise the pause itself is one of the actions
        everything += _pauses(records, titles)
    everything.sort(key=lambda entry: (entry.importance, entry.at_s))
    kept = sorted(everything[:MOST_ENTRIES], key=lambda entry: entry.at_s)
    hidden = Counter(PLURALS[entry.kind] for entry in everything[MOST_ENTRIES:])
    return Timeline(tuple(kept), tuple(hidden.most_common()))


def _alerts(records: IncidentRecords, titles: Mapping[str, str]) -> Iterator[TimelineEntry]:
    for entry in changes_of(records):
        place = name_place(entry.labels, titles)
        text = f"{one_line(entry.rule_name, MAX_TEXT)}{f': {place}' if place else ''}"
        importance = 0 if entry.severity.value == "critical" else 2
        if entry.kind == "resolved":
            reason = f"; {one_line(mask_text(entry.reason), 120)}" if entry.reason else ""
            detail = f"resolved after {format_duration(entry.lasted_s)}{_worst_of(entry)}{reason}"
            yield TimelineEntry(entry.at, "resolved", "calm", text, detail, importance=importance + 1)
        else:
            detail = f"{entry.severity.value}{_value_of(entry)}"
            yield TimelineEntry(entry.at, "firing", entry.severity.value, text, detail, importance=importance)


def _value_of(entry: HistoryEntry) -> str:
    value = describe_value(entry.metric, entry.value)
    threshold = "" if entry.threshold is None else f" (threshold {format_threshold(entry.metric, entry.threshold)})"
    return f": {value}{threshold}" if value else ""


def _worst_of(entry: HistoryEntry) -> str:
    worst = describe_value(entry.metric, entry.peak)
    return f", at worst {worst}" if worst else ""


def _marks(records: IncidentRecords, titles: Mapping[str, str]) -> Iterator[TimelineEntry]:
    for mark in marks_of(records):
        by = f"{titles.get(mark.backend, mark.backend)} on {mark.source}" if mark.backend else mark.who
        label = one_line(mask_text(mark.label), MAX_TEXT + 70)
        yield TimelineEntry(
            mark.at, "mark", "main", label, who=one_line(by or "", MAX_WHO), link=safe_link(mark), importance=1
        )


def marks_of(records: IncidentRecords) -> tuple[Mark, ...]:
    """The marks of the scope, newest first: those that a library recorded only on its own Redis."""
    source = records.scope.source
    return tuple(mark for mark in records.marks.marks if mark.source is None or source in ("", mark.source))


def safe_link(mark: Mark) -> str | None:
    """The link of a mark if it is an http or https URL without a secret."""
    link = mark.link or ""
    is_plain = link.startswith(("http://", "https://")) and link.isprintable() and len(link) <= MAX_LINK
    return link if is_plain and mask_text(link) == link else None


def _actions(records: IncidentRecords, titles: Mapping[str, str]) -> Iterator[TimelineEntry]:
    for event in records.events or ():
        if event.action not in _LEFT_OUT and _is_in_scope(event, records):
            yield TimelineEntry(
                event.at,
                "action",
                "text",
                _action_text(event, titles),
                _action_detail(event),
                one_line(event.who, MAX_WHO),
                importance=1 if event.queue else 2,
            )


def _is_in_scope(event: AuditEvent, records: IncidentRecords) -> bool:
    """Whether an action is about the scope; what is about no queue (rules, silences) may be."""
    if event.source is None:
        return True
    if records.scope.source not in ("", event.source):
        return False
    return (
        event.queue is None
        or event.queue == "*"
        or records.scope.covers(event.source, event.backend or "", event.queue)
    )


def _action_text(event: AuditEvent, titles: Mapping[str, str]) -> str:
    text = audit_line(event)
    if event.action.endswith(" error group") and (event.detail or event.ids):
        text += f" {one_line(event.detail or event.ids[0], 120)}"
    if event.queue:
        name = "all queues" if event.queue == "*" else one_line(event.queue, 60)
        text += f" {place_word(event)} {name}".replace("  ", " ")
    if event.backend:
        where = f"{titles.get(event.backend, event.backend)} on {event.source or '?'}"
        text += f" ({one_line(where, 80)})"
    return text


def _action_detail(event: AuditEvent) -> str:
    parts = []
    if event.outcomes == {}:
        parts.append("not done")
    elif not is_complete(event) and not event.action.endswith(" bulk operation"):
        parts.append(
            ", ".join(one_line(outcome_text(kind, count), 60) for kind, count in (event.outcomes or {}).items())
        )
    is_named = names_object(event) or event.action.endswith(" error group")
    if event.detail and event.detail != "done" and not is_named:
        parts.append(one_line(mask_text(event.detail), MAX_DETAIL))
    if event.reason:
        parts.append(f"reason: {one_line(mask_text(event.reason), MAX_DETAIL)}")
    return "; ".join(parts)


def _pauses(records: IncidentRecords, titles: Mapping[str, str]) -> Iterator[TimelineEntry]:
    for each in records.pauses:
        library = titles.get(each.backend, each.backend)
        queue = f"queue {one_line(each.queue, 60)}" if each.queue else f"all {library} queues"
        where = f"{library} on {each.source}" if each.queue else f"on {each.source}"
        text = f"{queue} paused ({one_line(where, 80)}), and it is paused still"
        yield TimelineEntry(
            each.record.at, "pause", "warning", text, who=one_line(each.record.who, MAX_WHO), importance=1
        )
